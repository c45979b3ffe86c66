//! What a proxy says of itself that follows from its pod's labels and its settings.

use serde_json::{Map, Value, json};

/// What Envoy calls its own cluster, in traces and logs.
pub fn service_cluster<'a>(
    settings: &'a Map<String, Value>,
    label: impl Fn(&str) -> Option<&'a str>,
    workload: Option<&'a str>,
    namespace: &str,
) -> String {
    let text = |key: &str| settings.get(key).and_then(Value::as_str).filter(|text| !text.is_empty());
    let label = |key: &str| label(key).filter(|value| !value.is_empty());
    if let Some(own) = text("serviceCluster").filter(|name| *name != "istio-proxy") {
        return own.to_owned();
    }
    let canonical = || label("service.istio.io/canonical-name").or(label("app")).or(workload).unwrap_or("istio-proxy");
    match text("tracingServiceName") {
        Some("CANONICAL_NAME_ONLY") => canonical().to_owned(),
        Some("CANONICAL_NAME_AND_NAMESPACE") => format!("{}.{namespace}", canonical()),
        _ => format!("{}.{namespace}", label("app").or(workload).unwrap_or("istio-proxy")),
    }
}

/// Where a label says that the pod is: `region/zone/subzone`, with dots where labels may not have slashes.
pub fn locality<'a>(label: impl Fn(&str) -> Option<&'a str>) -> Option<Value> {
    let text = label("topology.istio.io/locality").or_else(|| label("istio-locality"))?;
    let text = if text.contains('/') { text.to_owned() } else { text.replace('.', "/") };
    let mut parts = text.splitn(3, '/');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    Some(json!({"region": next(), "zone": next(), "sub_zone": next()}))
}
