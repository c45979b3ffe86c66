//! TLS towards endpoints: with the mesh's identities, or as a DestinationRule says.

use super::{
    http::Options,
    outbound::Outbound,
    select::{Security, is_entry},
};
use crate::{
    model::{ClientTls, ClusterDefaults, IdentitySource, TlsMode},
    pb::{
        self,
        envoy::{
            config::{
                cluster::v3::{
                    Cluster,
                    cluster::{ClusterDiscoveryType, DiscoveryType, TransportSocketMatch},
                },
                core::v3::{ProxyProtocolConfig, TransportSocket, proxy_protocol_config::Version},
            },
            extensions::transport_sockets::{
                proxy_protocol::v3::ProxyProtocolUpstreamTransport,
                raw_buffer::v3::RawBuffer,
                tls::v3::{
                    CertificateValidationContext, CommonTlsContext, TlsParameters, UpstreamTlsContext,
                    common_tls_context::ValidationContextType, tls_parameters::TlsProtocol,
                },
            },
        },
        google::protobuf::Struct,
    },
    translate::tls::{
        CERTIFICATE, ROOTS, TLS, certificate, file, file_certificate, file_roots, names_and_crl, of_agent, of_mesh,
        served, socket, with_roots,
    },
};
use std::sync::Arc;

/// What connections offer that hold requests of whichever version. No version's own name is among them, so that servers
/// look at the first bytes for it.
pub(super) const ANY_HTTP: &str = "istio-http/1.1,istio";
/// Where Linux distributions keep the authorities that they trust.
const SYSTEM_ROOTS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Secures a cluster's connections.
pub(super) fn secure(input: &Outbound, cluster: &mut Cluster, options: &mut Options) {
    match (input.security, &input.policy.tls) {
        (Security::Auto, _) => {
            let socket = socket(TLS, &mesh_context(input, input.sni(), &input.accounts, options));
            if cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())) {
                cluster.transport_socket = Some(socket);
            } else {
                cluster.transport_socket_matches = either(socket);
            }
        }
        (Security::Policy, Some(tls)) if tls.mode == TlsMode::IstioMutual => {
            let sni = if tls.sni.is_empty() { input.sni() } else { tls.sni.to_string() };
            let names = if tls.subject_alt_names.is_empty() { &input.accounts } else { &tls.subject_alt_names };
            cluster.transport_socket = Some(socket(TLS, &mesh_context(input, sni, names, options)));
        }
        (Security::Policy, Some(tls)) => {
            let names = match tls.subject_alt_names.is_empty() && is_entry(&input.service) {
                true => &input.service.accounts,
                false => &tls.subject_alt_names,
            };
            cluster.transport_socket = Some(as_said(tls, names, &input.mesh, input.identity, options));
        }
        _ => {}
    }
}

/// Sends the PROXY protocol's header ahead on every connection.
pub(super) fn announce(cluster: &mut Cluster, version: Option<u8>) {
    let Some(version) = version else { return };
    let wrap = |inner: TransportSocket| {
        let version = if version == 2 { Version::V2 } else { Version::V1 };
        socket(
            "envoy.transport_sockets.upstream_proxy_protocol",
            &ProxyProtocolUpstreamTransport {
                config: Some(ProxyProtocolConfig { version: version.into(), ..Default::default() }),
                transport_socket: Some(inner),
                ..Default::default()
            },
        )
    };
    for entry in &mut cluster.transport_socket_matches {
        entry.transport_socket = entry.transport_socket.take().map(wrap);
    }
    if cluster.transport_socket_matches.is_empty() {
        cluster.transport_socket = Some(wrap(cluster.transport_socket.take().unwrap_or_else(raw)));
    }
}

/// Mutual TLS for endpoints that take it, plain connections to others.
fn either(mutual: TransportSocket) -> Vec<TransportSocketMatch> {
    let entry = |name: &str, wanted: Struct, socket| TransportSocketMatch {
        name: name.to_owned(),
        r#match: Some(wanted),
        transport_socket: Some(socket),
    };
    vec![
        entry("tlsMode-istio", pb::fields([("tlsMode", pb::string("istio"))]), mutual),
        entry("tlsMode-disabled", Struct::default(), raw()),
    ]
}

/// TLS with the mesh's identities.
///
/// What is offered as application protocols tells a server of the mesh what the connection holds, which Istio's proxies
/// do with a filter of their own. Where the cluster is for anything, it offers what is for bytes, and the connection
/// managers offer [`ANY_HTTP`].
fn mesh_context(input: &Outbound, sni: String, accounts: &[Arc<str>], options: &Options) -> UpstreamTlsContext {
    let alpn: &[&str] = match input.port().protocol {
        _ if options.is_http2() => &["istio-h2", "istio", "h2"],
        protocol if protocol.is_http() => &["istio-http/1.1", "istio", "http/1.1"],
        _ => &["istio"],
    };
    UpstreamTlsContext {
        sni,
        common_tls_context: Some(CommonTlsContext {
            tls_params: Some(versions()),
            alpn_protocols: alpn.iter().map(|&p| p.to_owned()).collect(),
            tls_certificate_sds_secret_configs: vec![of_mesh(CERTIFICATE, input.identity)],
            validation_context_type: Some(with_roots(names_and_crl(accounts, ""), of_mesh(ROOTS, input.identity))),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// TLS as a rule says, with certificates from files or from a secret, towards a server that has one of these names.
pub(super) fn as_said(
    tls: &ClientTls,
    names: &[Arc<str>],
    mesh: &ClusterDefaults,
    identity: IdentitySource,
    options: &mut Options,
) -> TransportSocket {
    options.auto_sni = tls.sni.is_empty();
    options.auto_san = options.auto_sni && tls.subject_alt_names.is_empty() && !tls.insecure;
    let mut common = CommonTlsContext {
        tls_params: Some(TlsParameters {
            ecdh_curves: mesh.ecdh_curves.iter().map(ToString::to_string).collect(),
            cipher_suites: mesh.cipher_suites.iter().map(ToString::to_string).collect(),
            ..versions()
        }),
        alpn_protocols: options.is_http2().then(|| "h2".to_owned()).into_iter().collect(),
        ..Default::default()
    };
    if !tls.credential.is_empty() {
        from_secret(&mut common, tls, names);
    } else if identity == IdentitySource::Agent {
        from_agent(&mut common, tls, names);
    } else {
        from_files(&mut common, tls, names);
    }
    if tls.insecure {
        common.validation_context_type =
            Some(ValidationContextType::ValidationContext(CertificateValidationContext::default()));
    }
    socket(
        TLS,
        &UpstreamTlsContext { sni: tls.sni.to_string(), common_tls_context: Some(common), ..Default::default() },
    )
}

/// Certificates from a Kubernetes secret, which the control plane serves.
fn from_secret(common: &mut CommonTlsContext, tls: &ClientTls, names: &[Arc<str>]) {
    let name = match tls.credential.contains("://") {
        true => tls.credential.to_string(),
        false => format!("kubernetes://{}", tls.credential),
    };
    if tls.mode == TlsMode::Mutual {
        common.tls_certificate_sds_secret_configs = vec![served(&name)];
    }
    let roots = match name.starts_with("configmap://") {
        true => name,
        false => format!("{name}-cacert"),
    };
    common.validation_context_type = Some(with_roots(names_and_crl(names, &tls.crl), served(&roots)));
}

/// Certificates from files, which the agent reads, so that they may be renewed.
fn from_agent(common: &mut CommonTlsContext, tls: &ClientTls, names: &[Arc<str>]) {
    if tls.mode == TlsMode::Mutual {
        let name = file_certificate(&tls.certificate, &tls.key);
        common.tls_certificate_sds_secret_configs = vec![of_agent(&name)];
    }
    let roots = if tls.ca.is_empty() { "system" } else { &*tls.ca };
    common.validation_context_type = Some(with_roots(names_and_crl(names, &tls.crl), of_agent(&file_roots(roots))));
}

/// Certificates from files, which a proxy without an agent reads itself.
fn from_files(common: &mut CommonTlsContext, tls: &ClientTls, names: &[Arc<str>]) {
    if tls.mode == TlsMode::Mutual {
        common.tls_certificates = vec![certificate(&tls.certificate, &tls.key)];
    }
    let roots = if tls.ca.is_empty() || &*tls.ca == "system" { SYSTEM_ROOTS } else { &*tls.ca };
    common.validation_context_type = Some(ValidationContextType::ValidationContext(CertificateValidationContext {
        trusted_ca: Some(file(roots)),
        ..names_and_crl(names, &tls.crl)
    }));
}

fn versions() -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
        ..Default::default()
    }
}

fn raw() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", &RawBuffer {})
}
