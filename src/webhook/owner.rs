//! What a pod belongs to, as far as the pod itself shows.

use serde_json::Value;

/// What made a pod: its kind and name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    /// `apps/v1`.
    pub api_version: String,
    /// `Deployment`.
    pub kind: String,
    /// Its name; empty where it is not known yet.
    pub name: String,
}

impl Owner {
    /// What made a pod, by its references and labels: the Deployment of a ReplicaSet, the CronJob of a Job.
    pub fn of(pod: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let meta = &pod["metadata"];
        let pod_itself = || Self { api_version: "v1".into(), kind: "Pod".into(), name: text(&meta["name"]) };
        // A pod that was named by hand is nobody's.
        let generated = meta["generateName"].as_str().is_some_and(|name| !name.is_empty());
        let mut references = meta["ownerReferences"].as_array().into_iter().flatten();
        let Some(reference) = references.find(|r| r["controller"] == true).filter(|_| generated) else {
            return pod_itself();
        };
        let name = text(&reference["name"]);
        let of = |kind: &str, version: &str, name: &str| Self {
            api_version: version.to_owned(),
            kind: kind.to_owned(),
            name: name.to_owned(),
        };
        let label = |key: &str| meta["labels"][key].as_str().filter(|value| !value.is_empty());
        let before = |hash: Option<&str>| Some(name.strip_suffix(hash?)?.trim_end_matches('-').to_owned());
        let version = text(&reference["apiVersion"]);
        let kind = text(&reference["kind"]);
        match kind.as_str() {
            "ReplicaSet" => {
                if let Some(name) = before(label("pod-template-hash")) {
                    return of("Deployment", &version, &name);
                }
                if let Some(name) = before(label("rollouts-pod-template-hash")) {
                    return of("Rollout", "v1alpha1", &name);
                }
            }
            "ReplicationController" => {
                if let Some(name) = label("deploymentconfig") {
                    return of("DeploymentConfig", &version, name);
                }
            }
            "Job" => {
                if let Some((name, time)) = name.rsplit_once('-') {
                    let digits = time.bytes().all(|b| b.is_ascii_digit());
                    if digits && (8..=10).contains(&time.len()) && !name.is_empty() {
                        return of("CronJob", "batch/v1", name);
                    }
                }
            }
            _ => {}
        }
        Self { api_version: version, kind, name }
    }
}
