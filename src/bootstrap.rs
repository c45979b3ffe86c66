//! The bootstrap of a stock Envoy: who it is, how it reaches the control plane and proves that, and what it serves and
//! counts for itself, with an agent beside it or alone.

mod agent;
mod alone;
mod control_plane;
mod identity;
mod probe;
mod stats;

pub use agent::Beside;
pub use alone::Alone;
pub use control_plane::{ControlPlane, Proof, roots_secret, token_secret};
pub use identity::{locality, service_cluster};
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
/// The cluster of Envoy's admin interface.
const ADMIN: &str = "prometheus_stats";

/// What Envoy counts, and what of its runtime is set, on top of the usual.
fn settle(bootstrap: &mut Value, stats: &Stats, runtime: &Map<String, Value>) {
    bootstrap["stats_config"] = stats.render();
    stats.times().for_each(|(field, time)| bootstrap[field] = time.into());
    let mut all = Map::from_iter([
        ("re2.max_program_size.error_level".to_owned(), json!(32768)),
        ("envoy.reloadable_features.http_reject_path_with_fragment".to_owned(), json!(false)),
    ]);
    all.extend(runtime.clone());
    // What is given as nothing is taken away.
    all.retain(|_, value| *value != "");
    bootstrap["layered_runtime"]["layers"] = json!([
        {"name": "global config", "static_layer": all},
        {"name": "admin", "admin_layer": {}},
    ]);
    bootstrap["bootstrap_extensions"] = json!([{
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {"@type": format!("{TYPES}.bootstrap.internal_listener.v3.InternalListener")},
    }]);
}

/// A cluster of something within the pod.
fn local(name: &str, at: Value) -> Value {
    json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": at}}]}]},
    })
}

/// A listener with these routes, and filters before them. It is there also when Envoy takes no more connections.
fn listener(at: (&str, u16), prefix: &str, routes: &[Value], filters: &[Value]) -> Value {
    let router = json!({"name": "envoy.filters.http.router", "typed_config": {
        "@type": format!("{TYPES}.filters.http.router.v3.Router"),
    }});
    let filters: Vec<&Value> = filters.iter().chain([&router]).collect();
    json!({
        "address": address(at.0, at.1),
        "ignore_global_conn_limit": true,
        "bypass_overload_manager": true,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": prefix,
                "route_config": {"virtual_hosts": [{"name": "backend", "domains": ["*"], "routes": routes}]},
                "http_filters": filters,
            },
        }]}],
    })
}

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}
