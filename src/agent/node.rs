//! The `Node` by which the pod's Envoy says who it is (reference: `pkg/bootstrap/config.go` of Istio).

use super::Pod;
use crate::{bootstrap, config::AgentRole};
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
    let label = |key: &str| pod.labels.get(key).map(String::as_str);
    let workload = pod.variable("ISTIO_META_WORKLOAD_NAME");
    let mut node = json!({
        "id": format!("{role}~{}~{}.{}~{}", pod.ips[0], pod.name, pod.namespace, pod.domain),
        "cluster": bootstrap::service_cluster(pod.proxy.all(), label, workload, &pod.namespace),
        "metadata": metadata(pod),
    });
    if let Some(locality) = bootstrap::locality(label) {
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
