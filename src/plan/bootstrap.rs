//! The bootstrap of a stock Envoy that has no agent beside it: it proves who it is by a token, and gets its certificate
//! with the rest of its configuration.

use crate::model::{Node, Role};
use serde_json::{Map, Value, json};

/// What a bootstrap needs to know beside the node.
#[derive(Clone, Debug)]
pub struct Bootstrap<'a> {
    /// The host of the control plane, a name or an address.
    pub host: &'a str,
    /// The port that it serves on over TLS.
    pub port: u16,
    /// The name in its certificate.
    pub server_name: &'a str,
    /// The file of the mesh's roots.
    pub roots: &'a str,
    /// The file of the secret that names the token's file (see [`Bootstrap::token_secret`]).
    pub token_secret: &'a str,
    /// The port of Envoy's admin interface, on the loopback device.
    pub admin_port: u16,
}

/// The cluster of the control plane.
const XDS: &str = "xds-grpc";
const TYPES: &str = "type.googleapis.com/envoy.extensions";

impl Bootstrap<'_> {
    /// The bootstrap of a node.
    pub fn of(&self, node: &Node) -> Value {
        let ads = json!({"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"});
        json!({
            "node": envoy_node(node),
            "admin": {"address": address("127.0.0.1", self.admin_port)},
            "dynamic_resources": {
                "cds_config": ads,
                "lds_config": ads,
                "ads_config": {
                    "api_type": "DELTA_GRPC",
                    "transport_api_version": "V3",
                    "set_node_on_first_message_only": true,
                    "grpc_services": [{"envoy_grpc": {
                        "cluster_name": XDS,
                        "skip_envoy_headers": true,
                        "retry_policy": {"retry_back_off": {"base_interval": "0.25s", "max_interval": "5s"}},
                    }}],
                },
            },
            "static_resources": {"clusters": [self.control_plane()]},
            "layered_runtime": {"layers": [{"name": "admin", "admin_layer": {}}]},
        })
    }

    /// The secret by which Envoy reads a token again whenever its file changes; `directory` is the file's.
    pub fn token_secret(token: &str, directory: &str) -> Value {
        json!({"resources": [{
            "@type": format!("{TYPES}.transport_sockets.tls.v3.Secret"),
            "name": "token",
            "generic_secret": {"secret": {"filename": token, "watched_directory": {"path": directory}}},
        }]})
    }

    fn control_plane(&self) -> Value {
        let numeric = self.host.parse::<std::net::IpAddr>().is_ok();
        let file = |path: &str| json!({"path_config_source": {"path": path}, "resource_api_version": "V3"});
        let credential = json!({
            "@type": format!("{TYPES}.http.injected_credentials.generic.v3.Generic"),
            "header": "authorization",
            "header_value_prefix": "Bearer ",
            "credential": {"name": "token", "sds_config": file(self.token_secret)},
        });
        let filters = json!([
            {"name": "token", "typed_config": {
                "@type": format!("{TYPES}.filters.http.credential_injector.v3.CredentialInjector"),
                "overwrite": true,
                "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": credential},
            }},
            {"name": "codec", "typed_config": {
                "@type": format!("{TYPES}.filters.http.upstream_codec.v3.UpstreamCodec"),
            }},
        ]);
        let name = json!({"san_type": "DNS", "matcher": {"exact": self.server_name}});
        json!({
            "name": XDS,
            "type": if numeric { "STATIC" } else { "STRICT_DNS" },
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": XDS, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(self.host, self.port)}},
            ]}]},
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
            "typed_extension_protocol_options": {
                "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                    "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
                    "explicit_http_config": {"http2_protocol_options": {
                        "connection_keepalive": {"interval": "30s", "timeout": "5s"},
                    }},
                    "http_filters": filters,
                },
            },
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
                "sni": self.server_name,
                "common_tls_context": {
                    "tls_params": {
                        "tls_minimum_protocol_version": "TLSv1_2",
                        "tls_maximum_protocol_version": "TLSv1_3",
                    },
                    "alpn_protocols": ["h2"],
                    "validation_context": {
                        "trusted_ca": {"filename": self.roots},
                        "match_typed_subject_alt_names": [name],
                    },
                },
            }},
        })
    }
}

fn envoy_node(node: &Node) -> Value {
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

fn address(host: &str, port: u16) -> Value {
    json!({"socket_address": {"address": host, "port_value": port}})
}
