//! Mutual TLS with the mesh's identities, as a sidecar ends it.

use super::tls::{CERTIFICATE, ROOTS, TLS, of_mesh, socket, with_roots};
use crate::{
    model::{IdentitySource, MeshTls},
    pb::{
        self,
        envoy::{
            config::core::v3::TransportSocket,
            extensions::transport_sockets::tls::v3::{
                CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, TlsParameters,
                tls_parameters::TlsProtocol,
            },
            r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
        },
    },
    snapshot::View,
};
use std::sync::Arc;

const CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// Mutual TLS that the proxy ends: clients show a certificate of the trust domain, or of one that counts as it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct MutualTls {
    /// The trust domains of the clients; empty for any.
    trust_domains: Vec<Arc<str>>,
    /// Where the proxy's own certificate comes from.
    identity: IdentitySource,
    /// Versions, ciphers and curves.
    settings: MeshTls,
}

impl MutualTls {
    /// As the mesh has it for a view's nodes.
    pub(super) fn of(view: &View<'_>) -> Self {
        let mesh = &view.snapshot.mesh;
        Self {
            trust_domains: match mesh.features.any_trust_domain {
                true => Vec::new(),
                false => mesh.trust_domains().cloned().collect(),
            },
            identity: view.key.identity,
            settings: mesh.mtls.clone(),
        }
    }

    /// The transport socket.
    ///
    /// `istio-peer-exchange` is not offered: a client that speaks it would send metadata which only Istio's
    /// own proxy takes out of the stream again.
    pub(super) fn render(&self) -> TransportSocket {
        let texts = |of: &[Arc<str>]| of.iter().map(ToString::to_string).collect::<Vec<_>>();
        let ciphers = match self.settings.cipher_suites.is_empty() {
            true => CIPHERS.map(String::from).into(),
            false => texts(&self.settings.cipher_suites),
        };
        let least = if self.settings.only_13 { TlsProtocol::TlSv13 } else { TlsProtocol::TlSv12 };
        let context = DownstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                tls_params: Some(TlsParameters {
                    tls_minimum_protocol_version: least.into(),
                    tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                    cipher_suites: ciphers,
                    ecdh_curves: texts(&self.settings.ecdh_curves),
                    ..Default::default()
                }),
                tls_certificate_sds_secret_configs: vec![of_mesh(CERTIFICATE, self.identity)],
                alpn_protocols: vec!["h2".into(), "http/1.1".into()],
                validation_context_type: Some(with_roots(self.validation(), of_mesh(ROOTS, self.identity))),
                ..Default::default()
            }),
            require_client_certificate: pb::boolean(true),
            ..Default::default()
        };
        socket(TLS, &context)
    }

    #[allow(deprecated, reason = "the field that Istio's proxies have; the newer one names the kind of each name")]
    fn validation(&self) -> CertificateValidationContext {
        let matcher = |domain: &Arc<str>| StringMatcher {
            match_pattern: Some(MatchPattern::Prefix(format!("spiffe://{domain}/"))),
            ..Default::default()
        };
        CertificateValidationContext {
            match_subject_alt_names: self.trust_domains.iter().map(matcher).collect(),
            ..Default::default()
        }
    }
}
