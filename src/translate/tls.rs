//! TLS with the mesh's identities: what a sidecar ends, and where its secrets come from.

use crate::pb::{
    self,
    envoy::{
        config::core::v3::{
            AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, GrpcService, TransportSocket,
            api_config_source::ApiType,
            config_source::ConfigSourceSpecifier,
            grpc_service::{EnvoyGrpc, TargetSpecifier},
            transport_socket::ConfigType,
        },
        extensions::transport_sockets::tls::v3::{
            CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig, TlsParameters,
            common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            tls_parameters::TlsProtocol,
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
};
use crate::{
    model::{IdentitySource, Mesh, MeshTls},
    snapshot::View,
};
use std::sync::Arc;

/// The cluster of the bootstrap on which the agent beside a proxy serves secrets.
const AGENT: &str = "sds-grpc";
const CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// The key under which clusters have metadata for the mesh's own use.
pub(super) const METADATA: &str = "mainsheet";
/// In it, the application protocols that are offered for requests.
pub(super) const ALPN: &str = "alpn";

/// Mutual TLS that the proxy ends: clients show a certificate of the trust domain, or of one that counts as it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct MutualTls {
    /// The trust domains of the clients.
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
            trust_domains: mesh.trust_domains().cloned().collect(),
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
                tls_certificate_sds_secret_configs: vec![secret(CERTIFICATE, self.identity)],
                alpn_protocols: vec!["h2".into(), "http/1.1".into()],
                validation_context_type: Some(ValidationContextType::CombinedValidationContext(self.validation())),
                ..Default::default()
            }),
            require_client_certificate: pb::boolean(true),
            ..Default::default()
        };
        TransportSocket {
            name: "envoy.transport_sockets.tls".into(),
            config_type: Some(ConfigType::TypedConfig(pb::any(&context))),
        }
    }

    #[allow(deprecated, reason = "the field that Istio's proxies have; the newer one names the kind of each name")]
    fn validation(&self) -> CombinedCertificateValidationContext {
        let matcher = |domain: &Arc<str>| StringMatcher {
            match_pattern: Some(MatchPattern::Prefix(format!("spiffe://{domain}/"))),
            ..Default::default()
        };
        CombinedCertificateValidationContext {
            default_validation_context: Some(CertificateValidationContext {
                match_subject_alt_names: self.trust_domains.iter().map(matcher).collect(),
                ..Default::default()
            }),
            validation_context_sds_secret_config: Some(secret(ROOTS, self.identity)),
            ..Default::default()
        }
    }
}

/// The identities that count as this one: the same in each of the mesh's trust domains, where it is in one of them.
pub(super) fn aliases<'a>(mesh: &'a Mesh, account: &'a Arc<str>) -> impl Iterator<Item = Arc<str>> + use<'a> {
    let parts = account.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    let path = parts.filter(|(domain, _)| mesh.trust_domains().any(|d| **d == **domain)).map(|(_, path)| path);
    let others =
        path.into_iter().flat_map(|path| mesh.trust_domains().map(move |d| format!("spiffe://{d}/{path}").into()));
    std::iter::once(account.clone()).chain(others)
}

/// The secret that is the proxy's own certificate.
pub(super) const CERTIFICATE: &str = "default";
/// The secret that is the mesh's roots.
pub(super) const ROOTS: &str = "ROOTCA";

/// One of the mesh's secrets, which is waited for without end.
pub(super) fn secret(name: &str, identity: IdentitySource) -> SdsSecretConfig {
    let source = match identity {
        IdentitySource::ControlPlane => ConfigSourceSpecifier::Ads(AggregatedConfigSource {}),
        IdentitySource::Agent | IdentitySource::None => agent(),
    };
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ConfigSource {
            initial_fetch_timeout: Some(pb::millis(0)),
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(source),
            ..Default::default()
        }),
    }
}

/// The agent beside a proxy as a source of secrets.
pub(super) fn agent() -> ConfigSourceSpecifier {
    let grpc = EnvoyGrpc { cluster_name: AGENT.into(), ..Default::default() };
    ConfigSourceSpecifier::ApiConfigSource(ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
            ..Default::default()
        }],
        set_node_on_first_message_only: true,
        ..Default::default()
    })
}
