//! The cluster of the control plane: TLS to it, and what the proxy shows there.

use super::{TYPES, address, agent};
use serde_json::{Value, json};

/// The cluster of the control plane.
pub(super) const CLUSTER: &str = "xds-grpc";

/// The names of the secrets that files have.
const TOKEN: &str = "token";
const ROOTS: &str = "control-plane-roots";

/// Where the control plane is, and how a proxy proves there who it is.
#[derive(Clone, Debug)]
pub struct ControlPlane<'a> {
    /// Its host, a name or an address.
    pub host: &'a str,
    /// The port that it serves on over TLS.
    pub port: u16,
    /// The name in its certificate.
    pub server_name: &'a str,
    /// How the proxy proves who it is.
    pub proof: Proof<'a>,
}

/// How a proxy proves who it is.
#[derive(Clone, Copy, Debug)]
pub enum Proof<'a> {
    /// By a token.
    Token {
        /// The file of the secret that names the file of the mesh's roots (see [`roots_secret`]).
        roots: &'a str,
        /// The file of the secret that names the token's file (see [`token_secret`]).
        secret: &'a str,
    },
    /// By the certificate that the agent beside it has.
    Certificate {
        /// The file of the control plane's roots; where there is none, those of the mesh, which the agent has.
        roots: Option<&'a str>,
    },
}

impl ControlPlane<'_> {
    pub(super) fn cluster(&self) -> Value {
        let numeric = self.host.parse::<std::net::IpAddr>().is_ok();
        let mut http = json!({
            "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {
                "connection_keepalive": {"interval": "30s", "timeout": "5s"},
            }},
        });
        match self.proof {
            Proof::Token { secret, .. } => http["http_filters"] = bearer(secret),
            // A new stream is a new connection, and so a new proof: the certificate of an old one may have ended.
            Proof::Certificate { .. } => {
                http["common_http_protocol_options"] = json!({"max_requests_per_connection": 1})
            }
        }
        json!({
            "name": CLUSTER,
            "type": if numeric { "STATIC" } else { "STRICT_DNS" },
            "connect_timeout": "1s",
            "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [
                {"endpoint": {"address": address(self.host, self.port)}},
            ]}]},
            "upstream_connection_options": {"tcp_keepalive": {"keepalive_time": 300}},
            "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http},
            "transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": self.tls()},
        })
    }

    fn tls(&self) -> Value {
        let name = json!({"san_type": "DNS", "matcher": {"exact": self.server_name}});
        let mut common = json!({
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2", "tls_maximum_protocol_version": "TLSv1_3"},
            "alpn_protocols": ["h2"],
        });
        if let Proof::Certificate { .. } = self.proof {
            common["tls_certificate_sds_secret_configs"] = json!([agent::secret("default")]);
        }
        let roots = match self.proof {
            Proof::Token { roots, .. } => file_secret(ROOTS, roots),
            // The agent looks at files again and again, as Envoy by itself does not.
            Proof::Certificate { roots: Some(roots) } => agent::secret(&format!("file-root:{roots}")),
            Proof::Certificate { roots: None } => agent::secret("ROOTCA"),
        };
        common["combined_validation_context"] = json!({
            "default_validation_context": {"match_typed_subject_alt_names": [name]},
            "validation_context_sds_secret_config": roots,
        });
        json!({
            "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": self.server_name,
            "common_tls_context": common,
        })
    }
}

/// The filters that add the token of a secret to every request.
fn bearer(secret: &str) -> Value {
    let credential = json!({
        "@type": format!("{TYPES}.http.injected_credentials.generic.v3.Generic"),
        "header": "authorization",
        "header_value_prefix": "Bearer ",
        "credential": file_secret(TOKEN, secret),
    });
    json!([
        {"name": "token", "typed_config": {
            "@type": format!("{TYPES}.filters.http.credential_injector.v3.CredentialInjector"),
            "overwrite": true,
            "credential": {"name": "envoy.http.injected_credentials.generic", "typed_config": credential},
        }},
        {"name": "codec", "typed_config": {
            "@type": format!("{TYPES}.filters.http.upstream_codec.v3.UpstreamCodec"),
        }},
    ])
}

/// A secret of a name that a file has.
fn file_secret(name: &str, file: &str) -> Value {
    json!({"name": name, "sds_config": {"path_config_source": {"path": file}, "resource_api_version": "V3"}})
}

/// The secret by which Envoy reads a token again whenever its file changes.
pub fn token_secret(token: &str) -> Value {
    let secret = json!({"secret": {"filename": token, "watched_directory": {"path": directory(token)}}});
    secret_of_file(TOKEN, "generic_secret", &secret)
}

/// The secret by which Envoy reads roots again whenever their file changes: they do when the root is replaced.
pub fn roots_secret(roots: &str) -> Value {
    let context = json!({"trusted_ca": {"filename": roots}, "watched_directory": {"path": directory(roots)}});
    secret_of_file(ROOTS, "validation_context", &context)
}

fn secret_of_file(name: &str, kind: &str, what: &Value) -> Value {
    json!({"resources": [{"@type": format!("{TYPES}.transport_sockets.tls.v3.Secret"), "name": name, kind: what}]})
}

fn directory(file: &str) -> &str {
    match file.rsplit_once('/') {
        None => ".",
        Some(("", _)) => "/",
        Some((directory, _)) => directory,
    }
}
