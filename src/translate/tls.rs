//! What all TLS is put together from: transport sockets, secrets and where they come from, and names that a peer shows.

use crate::{
    model::{IdentitySource, Mesh},
    pb::{
        self,
        envoy::{
            config::core::v3::{
                AggregatedConfigSource, ApiConfigSource, ApiVersion, ConfigSource, DataSource, GrpcService,
                TransportSocket,
                api_config_source::ApiType,
                config_source::ConfigSourceSpecifier,
                data_source,
                grpc_service::{EnvoyGrpc, TargetSpecifier},
                transport_socket,
            },
            extensions::transport_sockets::tls::v3::{
                CertificateValidationContext, SdsSecretConfig, TlsCertificate,
                common_tls_context::{CombinedCertificateValidationContext, ValidationContextType},
            },
            r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
        },
    },
};
use prost::Name;
use std::sync::Arc;

/// The transport socket for TLS over TCP.
pub(super) const TLS: &str = "envoy.transport_sockets.tls";
/// The cluster of the bootstrap on which the agent beside a proxy serves secrets.
const AGENT: &str = "sds-grpc";

/// The key under which clusters have metadata for the mesh's own use.
pub(super) const METADATA: &str = "mainsheet";
/// In it, the application protocols that are offered for requests.
pub(super) const ALPN: &str = "alpn";

/// The secret that is the proxy's own certificate.
pub(super) const CERTIFICATE: &str = "default";
/// The secret that is the mesh's roots.
pub(super) const ROOTS: &str = "ROOTCA";

/// The identities that count as this one: the same in each of the mesh's trust domains, where it is in one of them.
pub(super) fn aliases<'a>(mesh: &'a Mesh, account: &'a Arc<str>) -> impl Iterator<Item = Arc<str>> + use<'a> {
    let parts = account.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/'));
    let path = parts.filter(|(domain, _)| mesh.trust_domains().any(|d| **d == **domain)).map(|(_, path)| path);
    let others =
        path.into_iter().flat_map(|path| mesh.trust_domains().map(move |d| format!("spiffe://{d}/{path}").into()));
    std::iter::once(account.clone()).chain(others)
}

/// A transport socket by its name.
pub(super) fn socket(name: &str, config: &impl Name) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(transport_socket::ConfigType::TypedConfig(pb::any(config))),
    }
}

/// One of the mesh's secrets, which is waited for without end.
pub(super) fn of_mesh(name: &str, identity: IdentitySource) -> SdsSecretConfig {
    let mut secret = match identity {
        IdentitySource::ControlPlane => served(name),
        IdentitySource::Agent | IdentitySource::None => of_agent(name),
    };
    if let Some(source) = &mut secret.sds_config {
        source.initial_fetch_timeout = Some(pb::millis(0));
    }
    secret
}

/// A secret that the control plane serves, on the stream that all else comes on.
pub(super) fn served(name: &str) -> SdsSecretConfig {
    from(name, ConfigSourceSpecifier::Ads(AggregatedConfigSource {}))
}

/// A secret that the agent beside the proxy serves: the mesh's, or files that may be renewed.
pub(super) fn of_agent(name: &str) -> SdsSecretConfig {
    let grpc = EnvoyGrpc { cluster_name: AGENT.into(), ..Default::default() };
    let agent = ApiConfigSource {
        api_type: ApiType::Grpc.into(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_services: vec![GrpcService {
            target_specifier: Some(TargetSpecifier::EnvoyGrpc(grpc)),
            ..Default::default()
        }],
        set_node_on_first_message_only: true,
        ..Default::default()
    };
    from(name, ConfigSourceSpecifier::ApiConfigSource(agent))
}

fn from(name: &str, source: ConfigSourceSpecifier) -> SdsSecretConfig {
    SdsSecretConfig {
        name: name.to_owned(),
        sds_config: Some(ConfigSource {
            config_source_specifier: Some(source),
            resource_api_version: ApiVersion::V3.into(),
            ..Default::default()
        }),
    }
}

/// The name of the secret that is a certificate of files, which an agent serves.
pub(super) fn file_certificate(chain: &str, key: &str) -> String {
    format!("file-cert:{chain}~{key}")
}

/// The name of the secret that is authorities of a file, which an agent serves.
pub(super) fn file_roots(path: &str) -> String {
    format!("file-root:{path}")
}

/// A certificate of files, which a proxy without an agent reads itself.
pub(super) fn certificate(chain: &str, key: &str) -> TlsCertificate {
    TlsCertificate { certificate_chain: Some(file(chain)), private_key: Some(file(key)), ..Default::default() }
}

/// A file that the proxy reads.
pub(super) fn file(path: &str) -> DataSource {
    DataSource { specifier: Some(data_source::Specifier::Filename(path.to_owned())), ..Default::default() }
}

/// What a peer shows is one of these names (any, where there is none) and is not revoked by a file, where there is one.
#[allow(deprecated, reason = "the field's successor needs the type of each name, which users do not give")]
pub(super) fn names_and_crl(names: &[Arc<str>], crl: &str) -> CertificateValidationContext {
    let exact = |name: &Arc<str>| StringMatcher {
        match_pattern: Some(MatchPattern::Exact(name.to_string())),
        ..Default::default()
    };
    CertificateValidationContext {
        match_subject_alt_names: names.iter().map(exact).collect(),
        crl: (!crl.is_empty()).then(|| file(crl)),
        ..Default::default()
    }
}

/// A check of what a peer shows, whose authorities are a secret.
pub(super) fn with_roots(check: CertificateValidationContext, roots: SdsSecretConfig) -> ValidationContextType {
    ValidationContextType::CombinedValidationContext(CombinedCertificateValidationContext {
        default_validation_context: Some(check),
        validation_context_sds_secret_config: Some(roots),
        ..Default::default()
    })
}
