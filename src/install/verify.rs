//! Whether the cluster is as an installation should have it.

use super::{
    Cluster,
    cluster::{called, kind_of},
    ready, record,
};
use crate::source::files;
use serde_json::Value;
use std::fmt;

/// Something that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The object.
    pub object: String,
    /// What is wrong with it.
    pub what: String,
    /// What to do.
    pub todo: String,
}

impl Finding {
    pub(super) fn new(object: &Value, what: impl Into<String>, todo: impl Into<String>) -> Self {
        Self { object: called(object), what: what.into(), todo: todo.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.object, self.what, self.todo)
    }
}

/// What is wrong with the installations of a namespace, of this revision or of all; and how many objects were looked at.
///
/// # Errors
///
/// When nothing is installed there, or the API server does not say.
pub async fn verify(
    cluster: &Cluster,
    namespace: &str,
    revision: Option<&str>,
) -> Result<(usize, Vec<Finding>), String> {
    let mut records = record::all(cluster, namespace).await?;
    records.retain(|record| revision.is_none_or(|revision| super::remove::is_of(record, revision)));
    if records.is_empty() {
        return Err(format!(
            "nothing is installed in {namespace} by `mainsheet install`{}; for an installation by Helm: `helm get manifest \
             istiod -n {namespace} | mainsheet verify -f -`",
            revision.map_or_else(String::new, |revision| format!(" with the revision {revision}"))
        ));
    }
    let mut objects = Vec::new();
    for record in records {
        objects.extend(record.objects()?);
    }
    Ok((objects.len(), compare(cluster, &objects).await?))
}

/// What is wrong with the objects of a manifest; and how many there are.
///
/// # Errors
///
/// When it cannot be read, or the API server does not say.
pub async fn manifest(cluster: &Cluster, text: &str, namespace: &str) -> Result<(usize, Vec<Finding>), String> {
    let mut objects = Vec::new();
    for (number, document) in files::documents(text) {
        let mut object = document.map_err(|why| format!("document {number} {why}"))?;
        let kind = kind_of(&object).ok_or_else(|| format!("{}: not a kind that charts make", called(&object)))?;
        if kind.namespaced && object["metadata"]["namespace"].is_null() {
            object["metadata"]["namespace"] = namespace.into();
        }
        objects.push(object);
    }
    Ok((objects.len(), compare(cluster, &objects).await?))
}

async fn compare(cluster: &Cluster, objects: &[Value]) -> Result<Vec<Finding>, String> {
    let mut found = Vec::new();
    for object in objects {
        let live = cluster.get(object).await?;
        if let Some(live) = &live {
            // What the API server would make of it says also what it adds of its own.
            let (mut live, mut should) = (live.clone(), cluster.apply(object, true).await?);
            settle(&mut live, &mut should);
            let mut all = Vec::new();
            differences("", &live, &should, &mut all);
            for difference in all {
                found.push(Finding::new(object, difference, "install again to have it as it was"));
            }
        }
        found.extend(ready::look(cluster, object, live.as_ref()).await?);
    }
    Ok(found)
}

/// Leaves out what is nobody's mistake: what the API server counts, and what the control plane changes itself.
fn settle(live: &mut Value, should: &mut Value) {
    let strict: Vec<(Value, Value)> = live["webhooks"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|webhook| (webhook["name"].clone(), webhook["failurePolicy"].clone()))
        .collect();
    if live["kind"] == "ValidatingWebhookConfiguration" {
        for webhook in should["webhooks"].as_array_mut().into_iter().flatten() {
            if let Some((_, policy)) = strict.iter().find(|(name, _)| *name == webhook["name"]) {
                webhook["failurePolicy"] = policy.clone();
            }
        }
    }
    for object in [live, should] {
        if let Some(fields) = object.as_object_mut() {
            fields.remove("status");
        }
        if let Some(metadata) = object["metadata"].as_object_mut() {
            for name in ["managedFields", "resourceVersion", "generation"] {
                metadata.remove(name);
            }
        }
    }
}

fn differences(path: &str, live: &Value, should: &Value, found: &mut Vec<String>) {
    match (live, should) {
        (Value::Object(a), Value::Object(b)) => {
            let keys: std::collections::BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for key in keys {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                let nothing = Value::Null;
                differences(&path, a.get(key).unwrap_or(&nothing), b.get(key).unwrap_or(&nothing), found);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (a, b)) in a.iter().zip(b).enumerate() {
                differences(&format!("{path}[{i}]"), a, b, found);
            }
        }
        (a, b) if a != b => found.push(format!("{path} is {}, and should be {}", short(a), short(b))),
        _ => {}
    }
}

/// A value, where it is short enough to be read.
fn short(value: &Value) -> String {
    let text = if value.is_null() { "not there".into() } else { value.to_string() };
    if text.chars().count() > 80 { "something long".into() } else { text }
}
