//! Reading raw objects: their metadata, and their typed form with the path of everything that does not fit.

use crate::{
    id::{Kind, Namespace, ObjectRef},
    model::{Created, Labels},
    problem::{FieldPath, Problem},
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// An object's metadata, as far as the mesh reads it.
#[derive(Clone, Debug)]
pub struct Meta {
    /// Which object.
    pub object: ObjectRef,
    /// When it was made: seconds since 1970, 0 where it does not say.
    pub created: Created,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// Reads the metadata of an object. A namespaced object without a namespace is in `default`.
pub fn meta(raw: &Value) -> Meta {
    let text = |v: &Value| v.as_str().map(Arc::<str>::from).unwrap_or_default();
    let kind = Kind::named(raw["kind"].as_str().unwrap_or_default());
    let metadata = &raw["metadata"];
    let cluster_scoped =
        matches!(kind.as_str(), "Namespace" | "Node" | "IngressClass" | "GatewayClass" | "ClusterRole");
    let namespace = match metadata["namespace"].as_str() {
        _ if cluster_scoped => Namespace::from(""),
        None | Some("") => Namespace::from("default"),
        Some(name) => Namespace::from(name),
    };
    Meta {
        object: ObjectRef { kind, namespace, name: text(&metadata["name"]) },
        created: seconds(&metadata["creationTimestamp"]),
        labels: texts(&metadata["labels"]),
        annotations: texts(&metadata["annotations"]),
        deleting: metadata["deletionTimestamp"].is_string(),
    }
}

fn seconds(at: &Value) -> Created {
    at.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok()).map_or(0, jiff::Timestamp::as_second)
}

/// A map of texts.
fn texts(map: &Value) -> Labels {
    let entries = map.as_object().into_iter().flatten();
    entries.map(|(k, v)| (k.as_str().into(), v.as_str().map_or_else(|| v.to_string().into(), Arc::from))).collect()
}

/// The typed form of the part of an object that is at `path`. What does not fit is an error with its path; a
/// field that the type does not have is a warning with its path, and has no effect.
pub(super) fn typed<T: DeserializeOwned>(
    object: &ObjectRef,
    path: &FieldPath,
    part: &Value,
) -> (Option<T>, Vec<Problem>) {
    let mut ignored = Vec::new();
    let mut note = |p: serde_ignored::Path<'_>| ignored.push(dotted(&p));
    let result = serde_path_to_error::deserialize(serde_ignored::Deserializer::new(part, &mut note));
    let below = |p: &str| match p {
        "" | "." => path.clone(),
        p if p.starts_with('[') => FieldPath::new(format!("{path}{p}")),
        p => path.field(p),
    };
    let unknown = |p: String| {
        Problem::warning(
            object,
            below(&p),
            "is not a field of this kind and has no effect; check its spelling and where it stands",
        )
    };
    match result {
        Ok(value) => (Some(value), ignored.into_iter().map(unknown).collect()),
        Err(e) => {
            let problem = Problem::error(object, below(&e.path().to_string()), plain(&e.inner().to_string()));
            (None, vec![problem])
        }
    }
}

/// The typed form of an object's `spec`; the default where there is none.
pub(super) fn typed_spec<T: DeserializeOwned + Default>(object: &ObjectRef, raw: &Value) -> (Option<T>, Vec<Problem>) {
    match &raw["spec"] {
        Value::Null => (Some(T::default()), Vec::new()),
        spec => typed(object, &FieldPath::new("spec"), spec),
    }
}

/// A path of ignored fields with indexes in brackets.
fn dotted(path: &serde_ignored::Path<'_>) -> String {
    use serde_ignored::Path;
    match path {
        Path::Root => String::new(),
        Path::Seq { parent, index } => format!("{}[{index}]", dotted(parent)),
        Path::Map { parent, key } => match dotted(parent) {
            p if p.is_empty() => key.clone(),
            p => format!("{p}.{key}"),
        },
        Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => dotted(parent),
    }
}

/// What serde says of a value that does not fit, in words that do not need a programmer.
fn plain(message: &str) -> String {
    let Some((found, wanted)) = message.strip_prefix("invalid type: ").and_then(|m| m.split_once(", expected ")) else {
        return message.to_owned();
    };
    let wanted = match wanted {
        "a sequence" => "a list",
        "a string" | "string" => "a text",
        "a boolean" => "true or false",
        w if w.starts_with("struct ") || w.starts_with(char::is_uppercase) => "a map of fields",
        w if w.len() <= 5 && w.starts_with(['i', 'u', 'f']) => "a number",
        other => other,
    };
    let found = found.replace("sequence", "a list").replace("string ", "the text ").replace("map", "a map");
    format!("is {found} where {wanted} belongs")
}
