//! What the bootstrap of an Envoy with an agent beside it has more: where the agent serves secrets, and the ports on
//! which it is asked for readiness and metrics (reference: `tools/packaging/common/envoy_bootstrap.json` of Istio).

use super::{Stats, TYPES, address};
use serde_json::{Map, Value, json};

/// The cluster on which the agent serves secrets; listeners and clusters of the mesh name it too.
const SECRETS: &str = "sds-grpc";
/// The cluster of the agent's own port.
const AGENT: &str = "agent";
/// The cluster of Envoy's admin interface.
const ADMIN: &str = "prometheus_stats";

/// An agent beside an Envoy.
#[derive(Clone, Debug)]
pub struct Beside<'a> {
    /// The socket on which it serves secrets.
    pub socket: &'a str,
    /// Its own port, where it has one.
    pub agent_port: Option<u16>,
    /// The port on which Envoy passes the question for readiness on to it.
    pub status_port: u16,
    /// The port on which Envoy shows its metrics.
    pub prometheus_port: u16,
    /// The port of Envoy's admin interface.
    pub admin_port: u16,
    /// Whether metrics are for the loopback device alone.
    pub metrics_on_loopback: bool,
    /// Whether the pod has addresses of IPv4.
    pub ipv4: bool,
    /// Settings of the runtime, on top of the usual ones.
    pub runtime: Map<String, Value>,
    /// What Envoy counts, and how that is named.
    pub stats: Stats,
}

impl Beside<'_> {
    /// Adds all of it to a bootstrap.
    pub fn complete(&self, bootstrap: &mut Value) {
        let resources = &mut bootstrap["static_resources"];
        if let Some(clusters) = resources["clusters"].as_array_mut() {
            clusters.insert(0, local(ADMIN, address("127.0.0.1", self.admin_port)));
            clusters.insert(1, self.secrets());
            if let Some(port) = self.agent_port {
                clusters.insert(1, local(AGENT, address("127.0.0.1", port)));
            }
        }
        resources["listeners"] = self.listeners();
        bootstrap["stats_config"] = self.stats.render();
        let mut runtime = Map::from_iter([
            ("re2.max_program_size.error_level".to_owned(), json!(32768)),
            ("envoy.reloadable_features.http_reject_path_with_fragment".to_owned(), json!(false)),
        ]);
        runtime.extend(self.runtime.clone());
        // What is given as nothing is taken away.
        runtime.retain(|_, value| *value != "");
        bootstrap["layered_runtime"]["layers"] = json!([
            {"name": "global config", "static_layer": runtime},
            {"name": "admin", "admin_layer": {}},
        ]);
        bootstrap["bootstrap_extensions"] = json!([{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": {"@type": format!("{TYPES}.bootstrap.internal_listener.v3.InternalListener")},
        }]);
    }

    fn secrets(&self) -> Value {
        let mut cluster = local(SECRETS, json!({"pipe": {"path": self.socket}}));
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
        cluster
    }

    fn listeners(&self) -> Value {
        let everywhere = if self.ipv4 { "0.0.0.0" } else { "::" };
        let metrics = match (self.metrics_on_loopback, self.ipv4) {
            (false, _) => everywhere,
            (true, true) => "127.0.0.1",
            (true, false) => "::1",
        };
        let mut listeners = vec![listener((metrics, self.prometheus_port), "stats", "/stats/prometheus", ADMIN)];
        if self.agent_port.is_some() {
            listeners.push(listener((everywhere, self.status_port), "agent", "/healthz/ready", AGENT));
        }
        listeners.into()
    }
}

/// The name of a secret that the agent has, and where.
pub(super) fn secret(name: &str) -> Value {
    json!({"name": name, "sds_config": {
        "initial_fetch_timeout": "0s",
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": SECRETS}}],
        },
    }})
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

/// A listener that passes requests for one path on. It is there also when Envoy takes no more connections.
fn listener(at: (&str, u16), prefix: &str, path: &str, cluster: &str) -> Value {
    json!({
        "address": address(at.0, at.1),
        "ignore_global_conn_limit": true,
        "bypass_overload_manager": true,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": {
                "@type": format!("{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
                "stat_prefix": prefix,
                "route_config": {"virtual_hosts": [{
                    "name": "backend",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": path}, "route": {"cluster": cluster}}],
                }]},
                "http_filters": [{"name": "envoy.filters.http.router", "typed_config": {
                    "@type": format!("{TYPES}.filters.http.router.v3.Router"),
                }}],
            },
        }]}],
    })
}
