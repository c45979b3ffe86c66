//! What the API server asks, and how it is answered (`AdmissionReview`, v1 and v1beta1).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

/// What is asked.
#[derive(Clone, PartialEq, Debug)]
pub struct Review {
    api_version: String,
    uid: String,
    /// `CREATE`, `UPDATE`, `DELETE` …
    pub operation: String,
    /// The namespace of the object; empty where it has none.
    pub namespace: String,
    /// Group, version and plural of the object's kind.
    pub resource: [String; 3],
    /// Whether nothing is to be changed.
    pub dry_run: bool,
    /// The object as it is to be.
    pub object: Value,
}

/// How it is answered.
#[derive(Clone, PartialEq, Debug)]
pub enum Verdict {
    /// The object is taken as it is, with remarks for who wrote it.
    Taken(Vec<String>),
    /// The object is taken, changed by these operations.
    Changed(Vec<Value>),
    /// The object is refused, for this reason.
    Refused(String),
}

impl Review {
    /// Reads what is asked.
    ///
    /// # Errors
    ///
    /// When it is no AdmissionReview.
    pub fn parse(body: &[u8]) -> Result<Self, String> {
        let mut value: Value = serde_json::from_slice(body).map_err(|e| format!("the body is not JSON: {e}"))?;
        let api_version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        let group = api_version.strip_prefix("admission.k8s.io/");
        if !matches!(group, Some("v1" | "v1beta1")) || value["kind"] != "AdmissionReview" {
            return Err("the body is no AdmissionReview of admission.k8s.io/v1".into());
        }
        let Some(request) = value.get_mut("request").filter(|request| request.is_object()) else {
            return Err("the AdmissionReview has no request".into());
        };
        let object = request["object"].take();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = &request["resource"];
        Ok(Self {
            api_version,
            uid: text(&request["uid"]),
            operation: text(&request["operation"]),
            namespace: text(&request["namespace"]),
            resource: ["group", "version", "resource"].map(|field| text(&of[field])),
            dry_run: request["dryRun"] == true,
            object,
        })
    }

    /// The answer.
    pub fn answer(&self, verdict: &Verdict) -> Vec<u8> {
        answer(&self.api_version, &self.uid, verdict)
    }
}

/// The answer to what cannot be read.
pub(super) fn unreadable(why: &str) -> Vec<u8> {
    answer("admission.k8s.io/v1", "", &Verdict::Refused(why.to_owned()))
}

fn answer(api_version: &str, uid: &str, verdict: &Verdict) -> Vec<u8> {
    let mut response = json!({ "uid": uid, "allowed": !matches!(verdict, Verdict::Refused(_)) });
    match verdict {
        Verdict::Taken(warnings) if warnings.is_empty() => {}
        Verdict::Taken(warnings) => response["warnings"] = json!(warnings),
        Verdict::Changed(operations) => {
            response["patchType"] = "JSONPatch".into();
            response["patch"] = STANDARD.encode(json!(operations).to_string()).into();
        }
        Verdict::Refused(why) => response["status"] = json!({ "status": "Failure", "message": why, "code": 400 }),
    }
    json!({ "apiVersion": api_version, "kind": "AdmissionReview", "response": response }).to_string().into_bytes()
}
