//! The settings of a pod's proxy, as templates see them: the mesh's defaults, and over them those of its annotation.

use crate::parse::yaml;
use serde_json::{Map, Value};

/// The annotation that holds settings of the proxy.
pub(super) const ANNOTATION: &str = "proxy.istio.io/config";
/// Maps whose entries count one by one.
const MERGED: [&str; 2] = ["proxyMetadata", "runtimeValues"];
/// How proxies may be reached; NONE is for single pods.
const MODES: [&str; 2] = ["REDIRECT", "TPROXY"];

/// Reads settings, and says what is wrong with them.
pub(super) fn parse(text: &str) -> Result<Map<String, Value>, String> {
    let fields = match yaml::value(text).map_err(|e| format!("it is not YAML: {e}"))? {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        _ => return Err("it is no map; write fields such as `concurrency: 2`".into()),
    };
    for (name, value) in &fields {
        check(name, value).map_err(|what| format!("{name} {what}"))?;
    }
    Ok(fields)
}

fn check(name: &str, value: &Value) -> Result<(), &'static str> {
    let is = |right: bool, what| if right || value.is_null() { Ok(()) } else { Err(what) };
    match name {
        "concurrency" => is(value.as_i64().is_some_and(|n| n >= 0), "must be a number that is not negative"),
        "statusPort" | "proxyAdminPort" => is(value.as_u64().is_some_and(|n| n <= 65535), "must be a port, as 15020"),
        "interceptionMode" => is(value.as_str().is_some_and(|m| MODES.contains(&m)), "must be REDIRECT or TPROXY"),
        "holdApplicationUntilProxyStarts" => is(value.is_boolean(), "must be true or false"),
        "drainDuration" | "terminationDrainDuration" => {
            is(value.as_str().is_some_and(|d| crate::config::duration(d).is_ok()), "must be a time, as 45s")
        }
        "proxyMetadata" => is(
            value.as_object().is_some_and(|all| all.values().all(Value::is_string)),
            "must be a map of texts; write quotes around numbers and true and false",
        ),
        "discoveryAddress" => is(
            value
                .as_str()
                .is_some_and(|a| a.rsplit_once(':').is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok())),
            "must be HOST:PORT",
        ),
        _ => Ok(()),
    }
}

/// Settings before those that are there.
pub(super) fn overlay(into: &mut Value, from: Map<String, Value>) {
    let Some(into) = into.as_object_mut() else { return };
    for (key, value) in from {
        match (into.get_mut(&key).and_then(Value::as_object_mut), value) {
            (_, Value::Null) => {}
            (Some(held), Value::Object(more)) if MERGED.contains(&&*key) => held.extend(more),
            (_, value) => drop(into.insert(key, value)),
        }
    }
}
