//! The `Node` by which the pod's Envoy says who it is (reference: `pkg/bootstrap/config.go` of Istio).

use super::Pod;
use crate::config::AgentRole;
use serde_json::{Map, Value, json};

/// The prefixes of variables that become metadata: as texts, and as JSON.
const TEXT: &str = "ISTIO_META_";
const JSON: &str = "ISTIO_METAJSON_";

/// The node of a pod.
pub(super) fn node(pod: &Pod) -> Value {
    let role = match pod.role {
        AgentRole::Sidecar => "sidecar",
        AgentRole::Router => "router",
    };
    let mut node = json!({
        "id": format!("{role}~{}~{}.{}~{}", pod.ips[0], pod.name, pod.namespace, pod.domain),
        "cluster": cluster(pod),
        "metadata": metadata(pod),
    });
    if let Some(locality) = locality(pod) {
        node["locality"] = locality;
    }
    node
}

fn metadata(pod: &Pod) -> Map<String, Value> {
    let ips: Vec<String> = pod.ips.iter().map(ToString::to_string).collect();
    let labels: Map<String, Value> = pod
        .labels
        .iter()
        .filter(|(key, _)| *key != "pod-template-hash")
        .map(|(key, value)| (key.clone(), json!(value)))
        .collect();
    let usual = [
        ("NAME", json!(pod.name)),
        ("NAMESPACE", json!(pod.namespace)),
        ("SERVICE_ACCOUNT", json!(pod.account)),
        ("CLUSTER_ID", json!(pod.cluster())),
        ("INSTANCE_IPS", json!(ips.join(","))),
        ("LABELS", labels.into()),
        ("ANNOTATIONS", json!(pod.annotations)),
        ("PROXY_CONFIG", pod.proxy.all().clone().into()),
        ("ENVOY_STATUS_PORT", json!(pod.status_port())),
        ("ENVOY_PROMETHEUS_PORT", json!(pod.prometheus_port())),
        ("IDENTITY", json!("agent")),
    ];
    let mut metadata: Map<String, Value> = usual.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    let settings = pod.proxy.object("proxyMetadata").into_iter().flatten();
    let settings = settings.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)));
    let variables = pod.variables.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    for (name, value) in settings.chain(variables) {
        if let Some(key) = name.strip_prefix(TEXT) {
            metadata.insert(key.to_owned(), json!(value));
        } else if let Some((key, value)) = name.strip_prefix(JSON).zip(serde_json::from_str::<Value>(value).ok()) {
            // What is given at injection stands below what the pod really has.
            let key = if key == "LABELS" { "STATIC_LABELS" } else { key };
            metadata.insert(key.to_owned(), value);
        }
    }
    metadata
}

/// What Envoy calls its own cluster, in traces and logs.
fn cluster(pod: &Pod) -> String {
    let namespace = &pod.namespace;
    let label = |key: &str| pod.labels.get(key).map(String::as_str).filter(|value| !value.is_empty());
    if let Some(own) = pod.proxy.text("serviceCluster").filter(|name| *name != "istio-proxy") {
        return own.to_owned();
    }
    let workload = pod.variable("ISTIO_META_WORKLOAD_NAME");
    let canonical = || label("service.istio.io/canonical-name").or(label("app")).or(workload).unwrap_or("istio-proxy");
    match pod.proxy.text("tracingServiceName") {
        Some("CANONICAL_NAME_ONLY") => canonical().to_owned(),
        Some("CANONICAL_NAME_AND_NAMESPACE") => format!("{}.{namespace}", canonical()),
        _ => format!("{}.{namespace}", label("app").or(workload).unwrap_or("istio-proxy")),
    }
}

/// Where a label says that the pod is: `region/zone/subzone`, with dots where labels may not have slashes.
fn locality(pod: &Pod) -> Option<Value> {
    let text = pod.labels.get("topology.istio.io/locality").or_else(|| pod.labels.get("istio-locality"))?;
    let text = if text.contains('/') { text.clone() } else { text.replace('.', "/") };
    let mut parts = text.splitn(3, '/');
    let mut next = || parts.next().unwrap_or_default().to_owned();
    Some(json!({"region": next(), "zone": next(), "sub_zone": next()}))
}
