//! The bootstrap of a stock Envoy: who it is, how it reaches the control plane and proves that, and, where an agent is
//! beside it, what it serves and counts for that.

mod agent;
mod control_plane;
mod stats;

pub use agent::Beside;
pub use control_plane::{ControlPlane, Proof, roots_secret, token_secret};
pub use stats::Stats;

use crate::model::{Node, Role};
use serde_json::{Map, Value, json};

/// The bootstrap of a node: its `Node` in protobuf's JSON, the control plane, and the port of Envoy's admin interface on
/// the loopback device.
pub fn bootstrap(node: &Value, control_plane: &ControlPlane<'_>, admin_port: u16) -> Value {
    let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
    json!({
        "node": node,
        "admin": {"address": address("127.0.0.1", admin_port)},
        "dynamic_resources": {
            "cds_config": ads,
            "lds_config": ads,
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [{"envoy_grpc": {
                    "cluster_name": control_plane::CLUSTER,
                    "skip_envoy_headers": true,
                    "retry_policy": {"retry_back_off": {"base_interval": "0.25s", "max_interval": "5s"}},
                }}],
            },
        },
        "static_resources": {"clusters": [control_plane.cluster()]},
        "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
    })
}

/// The `Node` of a proxy without an agent.
pub fn agentless(node: &Node) -> Value {
    let ips: Vec<String> = node.ips.iter().map(ToString::to_string).collect();
    let labels: Map<String, Value> = node.labels.iter().map(|(k, v)| (k.to_string(), json!(&**v))).collect();
    json!({
        "id": &*node.id,
        "cluster": &*node.name,
        "metadata": {
            "NAME": &*node.pod,
            "NAMESPACE": &*node.namespace,
            "SERVICE_ACCOUNT": &*node.account,
            "WORKLOAD_NAME": &*node.workload,
            "CLUSTER_ID": &*node.cluster,
            "INSTANCE_IPS": ips.join(","),
            "LABELS": labels,
            "INTERCEPTION_MODE": if node.role == Role::Sidecar { "REDIRECT" } else { "NONE" },
            "IDENTITY": "ads",
        },
    })
}

const TYPES: &str = "type.googleapis.com/envoy.extensions";

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}
