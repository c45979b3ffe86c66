//! Connections to the control plane, over TLS with the certificate that there is.

use super::Certified;
use crate::pb::{self, envoy::config::core::v3::Node};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{fs, path::PathBuf, time::Duration};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// Connections to this port are without TLS, by Istio's convention.
const PLAINTEXT: u16 = 15010;

/// Where somebody serves, and how that is known.
#[derive(Clone, Debug)]
pub(super) struct Target {
    /// The host, a name or an address.
    pub(super) host: String,
    /// The port.
    pub(super) port: u16,
    /// The name in the certificate.
    pub(super) server_name: String,
    /// The file of the roots; beside them count those that came with the certificate, which may be newer.
    pub(super) roots: PathBuf,
}

impl Target {
    /// A connection, on which the certificate is shown that there is.
    pub(super) async fn channel(&self, held: Option<&Certified>) -> Result<Channel> {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        let scheme = if self.port == PLAINTEXT { "http" } else { "https" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{host}:{}", self.port))?;
        endpoint = endpoint.connect_timeout(Duration::from_secs(5)).tcp_nodelay(true);
        endpoint =
            endpoint.http2_keep_alive_interval(Duration::from_secs(30)).keep_alive_timeout(Duration::from_secs(10));
        if self.port != PLAINTEXT {
            let mut tls = ClientTlsConfig::new().domain_name(&self.server_name);
            match (fs::read(&self.roots), held) {
                (Ok(roots), _) => tls = tls.ca_certificate(Certificate::from_pem(roots)),
                (Err(_), Some(_)) => {}
                (Err(error), None) => {
                    return Err(error).with_context(|| format!("--root-cert {}", self.roots.display()));
                }
            }
            if let Some(Certified { svid, .. }) = held {
                tls = tls.ca_certificate(Certificate::from_pem(&svid.roots));
                tls = tls.identity(Identity::from_pem(&svid.chain, &svid.key));
            }
            endpoint = endpoint.tls_config(tls)?;
        }
        endpoint.connect().await.with_context(|| format!("connecting to {host}:{}", self.port))
    }
}

/// Who the agent says to be, on streams of its own.
pub(super) fn node(json: &Value) -> Node {
    let text = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
    Node {
        id: text("id"),
        cluster: text("cluster"),
        metadata: json["metadata"].as_object().map(pb::struct_from_json),
        ..Default::default()
    }
}
