//! What the bootstrap of an Envoy with an agent beside it has more: where the agent serves secrets, and the ports on
//! which it is asked for readiness and metrics (reference: `tools/packaging/common/envoy_bootstrap.json` of Istio).

use super::{ADMIN, Stats, TYPES, address, listener, local, settle};
use serde_json::{Map, Value, json};

/// The cluster on which the agent serves secrets; listeners and clusters of the mesh name it too.
const SECRETS: &str = "sds-grpc";
/// The cluster of the agent's own port.
const AGENT: &str = "agent";

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
        settle(bootstrap, &self.stats, &self.runtime);
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
        let passed_on = |path: &str, cluster: &str| [json!({"match": {"prefix": path}, "route": {"cluster": cluster}})];
        let stats = passed_on("/stats/prometheus", ADMIN);
        let mut listeners = vec![listener((metrics, self.prometheus_port), "stats", &stats, &self.stats.filters())];
        if self.agent_port.is_some() {
            let ready = passed_on("/healthz/ready", AGENT);
            listeners.push(listener((everywhere, self.status_port), "agent", &ready, &[]));
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
