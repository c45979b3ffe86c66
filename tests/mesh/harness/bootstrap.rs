//! The bootstrap of a stock Envoy: who it is, and where its configuration comes from.

use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr};

/// What a bootstrap is made of.
#[derive(Clone, Debug)]
pub(crate) struct Bootstrap {
    /// The Envoy `Node`: `id`, `cluster`, `metadata`.
    pub(crate) node: Value,
    /// Where mainsheet serves xDS without TLS.
    pub(crate) discovery: SocketAddr,
    /// Where Envoy's admin interface listens; nothing but the loopback device should.
    pub(crate) admin: SocketAddr,
    /// Whether it asks for changes alone, or for all resources each time.
    pub(crate) delta: bool,
    /// Whether it takes messages in gzip, as Google's gRPC library alone does in Envoy.
    pub(crate) compressed: bool,
    /// All of it, where mainsheet wrote it.
    pub(crate) whole: Option<Value>,
}

/// A sidecar's `Node`. It names no version of Istio, which says that there is no agent beside it and so no
/// certificates.
pub(crate) fn sidecar_node(pod: &str, namespace: &str, ip: &str, labels: &BTreeMap<String, String>) -> Value {
    let domain = format!("{namespace}.svc.cluster.local");
    json!({
        "id": format!("sidecar~{ip}~{pod}.{namespace}~{domain}"),
        "cluster": format!("{pod}.{namespace}"),
        "metadata": {
            "NAME": pod,
            "NAMESPACE": namespace,
            "LABELS": labels,
            "CLUSTER_ID": "Kubernetes",
            "INSTANCE_IPS": ip,
            "INTERCEPTION_MODE": "REDIRECT",
            "SERVICE_ACCOUNT": pod,
            "WORKLOAD_NAME": pod,
        },
    })
}

impl Bootstrap {
    /// The bootstrap as Envoy reads it.
    pub(crate) fn to_json(&self) -> Value {
        if let Some(whole) = &self.whole {
            return whole.clone();
        }
        let grpc_service = match self.compressed {
            true => json!({
                "google_grpc": {
                    "target_uri": self.discovery,
                    "stat_prefix": "xds",
                    // In that library's counting this is gzip.
                    "channel_args": { "args": { "grpc.default_compression_algorithm": { "int_value": 2 } } },
                },
            }),
            false => json!({
                "envoy_grpc": {
                    "cluster_name": "xds-grpc",
                    // A control plane that comes back is found soon, and not by all proxies at once.
                    "retry_policy": { "retry_back_off": { "base_interval": "0.25s", "max_interval": "5s" } },
                },
            }),
        };
        let ads = json!({ "ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s" });
        json!({
            "node": self.node,
            "admin": { "address": address(self.admin) },
            "dynamic_resources": {
                "cds_config": ads,
                "lds_config": ads,
                "ads_config": {
                    "api_type": if self.delta { "DELTA_GRPC" } else { "GRPC" },
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [grpc_service],
                },
            },
            "static_resources": { "clusters": [discovery(self.discovery)] },
            "layered_runtime": { "layers": [{ "name": "admin", "admin_layer": {} }] },
        })
    }
}

fn discovery(at: SocketAddr) -> Value {
    json!({
        "name": "xds-grpc",
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": "xds-grpc",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(at) } }] }],
        },
        "upstream_connection_options": { "tcp_keepalive": { "keepalive_time": 300 } },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": { "http2_protocol_options": {} },
            },
        },
    })
}

fn address(at: SocketAddr) -> Value {
    json!({ "socket_address": { "address": at.ip(), "port_value": at.port() } })
}
