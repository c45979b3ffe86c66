//! What is said of an object, in its status: whether it is in force, and what is wrong with it.

use super::{
    duty::{Duty, Key, request},
    events::{Event, Recorder},
};
use crate::{
    api::kind::{ApiKind, SERVED},
    parse::{self, Context},
    problem::{Problem, Severity},
};
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fmt::Write as _, sync::Arc};

/// The condition that is ours. Those of others are left as they are.
const CONDITION: &str = "Reconciled";
/// The longest text of a condition, in bytes.
const LONGEST: usize = 4096;
/// The most messages of one object.
const MOST: usize = 32;

/// The `apiVersion` by which an object of a kind is named; empty where the kind is none of these.
pub(super) fn api_version(kind: &str) -> String {
    let known = SERVED.iter().find(|k| k.name == kind);
    known.map_or_else(String::new, |k| k.api_version(k.versions[0]))
}

/// Keeps the status of objects.
#[derive(Debug)]
pub(super) struct Statuses {
    context: Arc<Context>,
    /// Who is told of objects that are refused.
    recorder: Option<Recorder>,
    /// The path and the status of each object whose status is not what it should be.
    wrong: BTreeMap<Key, (String, Value)>,
}

impl Statuses {
    pub(super) fn new(context: Arc<Context>, recorder: Option<Recorder>) -> Self {
        Self { context, recorder, wrong: BTreeMap::new() }
    }

    /// Tells of an object that is refused, which its status does not say yet.
    fn tell(&self, object: &Value, status: &Value) {
        let all = status["conditions"].as_array().into_iter().flatten();
        let Some(refused) = all.filter(|c| c["type"] == CONDITION).find(|c| c["reason"] == "Refused") else { return };
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let metadata = &object["metadata"];
        let named =
            [&object["apiVersion"], &object["kind"], &metadata["namespace"], &metadata["name"], &metadata["uid"]];
        let event =
            Event { object: named.map(text), reason: "Refused", warning: true, note: text(&refused["message"]) };
        if let Some(recorder) = &self.recorder {
            recorder.record(event);
        }
    }
}

impl Duty for Statuses {
    fn watched(&self) -> Vec<(ApiKind, Option<String>)> {
        SERVED.iter().map(|kind| (*kind, None)).collect()
    }

    fn seen(&mut self, key: &Key, object: &Value) -> Vec<Key> {
        let (kind, namespace, name) = key;
        self.wrong.remove(key);
        // An object of another control plane's is left to that.
        let revision = object["metadata"]["labels"]["istio.io/rev"].as_str();
        let mine = revision.is_none_or(|revision| parse::is_revision(revision, &self.context));
        if !mine || object["metadata"]["deletionTimestamp"].is_string() {
            return Vec::new();
        }
        let problems = parse::object(object, &self.context).problems;
        let Some(status) =
            wanted(object, &problems, &jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
        else {
            return Vec::new();
        };
        self.tell(object, &status);
        let version =
            object["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("v1", |(_, version)| version);
        let path = format!("{}/{name}/status", SERVED[*kind].path(version, Some(namespace)));
        let body =
            json!({ "metadata": { "resourceVersion": object["metadata"]["resourceVersion"] }, "status": status });
        self.wrong.insert(key.clone(), (path, body));
        vec![key.clone()]
    }

    fn gone(&mut self, key: &Key) -> Vec<Key> {
        self.wrong.remove(key);
        Vec::new()
    }

    fn request(&mut self, key: &Key) -> Option<Request<Vec<u8>>> {
        self.wrong.get(key).map(|(path, body)| request(Method::PATCH, path, body))
    }
}

/// The status that an object should have, if it has another.
pub(super) fn wanted(object: &Value, problems: &[Problem], now: &str) -> Option<Value> {
    let status = &object["status"];
    let generation = &object["metadata"]["generation"];
    let condition = condition(problems);
    let messages: Vec<Value> = problems.iter().take(MOST).map(message).collect();
    let all = status["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let old = all.iter().find(|c| c["type"] == CONDITION);
    let same = |field: &str| old.is_some_and(|old| old[field] == condition[field]);
    // Only what every version of the definitions keeps is compared: what one leaves out would be written for ever.
    let right = ["status", "reason", "message"].into_iter().all(same)
        && number(&status["observedGeneration"]) == number(generation)
        && levels(&status["validationMessages"]) == levels(&json!(messages));
    if right {
        return None;
    }
    let mut condition = condition;
    condition["lastTransitionTime"] = match old {
        Some(old) if old["status"] == condition["status"] && old["lastTransitionTime"].is_string() => {
            old["lastTransitionTime"].clone()
        }
        _ => now.into(),
    };
    let others = all.iter().filter(|c| c["type"] != CONDITION).cloned();
    let conditions: Vec<Value> = others.chain([condition]).collect();
    let messages = if messages.is_empty() { Value::Null } else { json!(messages) };
    Some(json!({ "conditions": conditions, "observedGeneration": generation, "validationMessages": messages }))
}

fn condition(problems: &[Problem]) -> Value {
    let refused = problems.iter().any(|p| p.severity == Severity::Error);
    let (status, reason) = match (refused, problems.is_empty()) {
        (true, _) => ("False", "Refused"),
        (false, false) => ("True", "AcceptedWithWarnings"),
        (false, true) => ("True", "Accepted"),
    };
    let mut text = String::new();
    for problem in problems {
        let end = text.len();
        let _ = write!(text, "{}{}: {}", if end == 0 { "" } else { "; " }, problem.path, problem.message);
        if text.len() > LONGEST {
            text.truncate(end);
            text.push_str("; …");
            break;
        }
    }
    json!({ "type": CONDITION, "status": status, "reason": reason, "message": text })
}

fn message(problem: &Problem) -> Value {
    let level = match problem.severity {
        Severity::Error => "ERROR",
        Severity::Warning => "WARNING",
    };
    json!({ "level": level, "type": { "name": format!("{}: {}", problem.path, problem.message) } })
}

/// The levels and names of messages.
fn levels(messages: &Value) -> Vec<(&str, &str)> {
    let all = messages.as_array().map(Vec::as_slice).unwrap_or_default();
    all.iter()
        .map(|m| (m["level"].as_str().unwrap_or_default(), m["type"]["name"].as_str().unwrap_or_default()))
        .collect()
}

/// A number that some write as a text.
fn number(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}
