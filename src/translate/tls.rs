//! TLS that a sidecar ends, with the mesh's identities.

use crate::pb::{
    self,
    envoy::{
        config::core::v3::{
            ApiConfigSource, ApiVersion, ConfigSource, GrpcService, TransportSocket,
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

/// Mutual TLS that the proxy ends: clients show a certificate of the trust domain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct MutualTls {
    /// The trust domain of the clients.
    pub(super) trust_domain: Arc<str>,
}

impl MutualTls {
    /// The transport socket.
    ///
    /// `istio-peer-exchange` is not offered: a client that speaks it would send metadata which only Istio's
    /// own proxy takes out of the stream again.
    pub(super) fn render(&self) -> TransportSocket {
        let context = DownstreamTlsContext {
            common_tls_context: Some(CommonTlsContext {
                tls_params: Some(TlsParameters {
                    tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
                    tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
                    cipher_suites: CIPHERS.map(String::from).into(),
                    ..Default::default()
                }),
                tls_certificate_sds_secret_configs: vec![secret("default")],
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
        let prefix = MatchPattern::Prefix(format!("spiffe://{}/", self.trust_domain));
        let matcher = StringMatcher { match_pattern: Some(prefix), ..Default::default() };
        CombinedCertificateValidationContext {
            default_validation_context: Some(CertificateValidationContext {
                match_subject_alt_names: vec![matcher],
                ..Default::default()
            }),
            validation_context_sds_secret_config: Some(secret("ROOTCA")),
            ..Default::default()
        }
    }
}

/// A secret that the agent serves.
pub(super) fn secret(name: &str) -> SdsSecretConfig {
    let grpc = EnvoyGrpc { cluster_name: AGENT.into(), ..Default::default() };
    let source = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
            ..Default::default()
        }],
        set_node_on_first_message_only: true,
        ..Default::default()
    };
    SdsSecretConfig {
        name: name.into(),
        sds_config: Some(ConfigSource {
            initial_fetch_timeout: Some(pb::millis(0)),
            resource_api_version: ApiVersion::V3.into(),
            config_source_specifier: Some(ConfigSourceSpecifier::ApiConfigSource(source)),
            ..Default::default()
        }),
    }
}
