//! TLS that a server of a gateway or a port of a sidecar ends, with certificates from secrets, from files, or with the mesh's identities.

use super::tls::{
    CERTIFICATE, ROOTS, TLS, certificate, file, file_certificate, file_roots, names_and_crl, of_agent, of_mesh, served,
    socket, with_roots,
};
use crate::{
    id::Shared,
    model::{Certificates, ClusterDefaults, IdentitySource, ServerTls, ServerTlsMode, TlsVersion, secret_name},
    pb::{
        self,
        envoy::{
            config::core::v3::TransportSocket,
            extensions::transport_sockets::{
                quic::v3::QuicDownstreamTransport,
                tls::v3::{
                    CertificateValidationContext, CommonTlsContext, DownstreamTlsContext, SdsSecretConfig,
                    TlsParameters, certificate_validation_context::TrustChainVerification,
                    common_tls_context::ValidationContextType, tls_parameters::TlsProtocol,
                },
            },
        },
    },
    problem::{FieldPath, Problem},
    snapshot::{Placed, View},
};
use std::sync::Arc;

/// TLS that ends at a server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Termination {
    tls: ServerTls,
    identity: IdentitySource,
    mesh: Shared<ClusterDefaults>,
    quic: bool,
}

impl Termination {
    /// TLS as a server says. A problem where that cannot be, so that nothing may be served.
    pub(super) fn of(view: &View<'_>, placed: &Placed, tls: &ServerTls) -> Result<Self, Box<Problem>> {
        let identity = view.key.identity;
        if tls.mode == ServerTlsMode::IstioMutual && identity == IdentitySource::None {
            let path = FieldPath::new("spec.servers").index(placed.at).field("tls").field("mode");
            let why = format!(
                "is ISTIO_MUTUAL, but gateways of {} have no certificate of the mesh, so the server is not opened \
                 there; run Istio's agent beside them or write another mode",
                view.key.namespace
            );
            return Err(Box::new(Problem::warning(&placed.gateway.source, path, why)));
        }
        Ok(Self::as_said(view, tls))
    }

    /// TLS as a server says, of which it is known that it can be.
    pub(super) fn as_said(view: &View<'_>, tls: &ServerTls) -> Self {
        let mesh = view.snapshot.mesh.clusters.clone();
        Self { tls: tls.clone(), identity: view.key.identity, mesh, quic: false }
    }

    /// The same over QUIC.
    pub(super) fn over_quic(self) -> Self {
        Self { quic: true, ..self }
    }

    /// The transport socket.
    pub(super) fn render(&self) -> TransportSocket {
        let alpn: &[&str] = if self.quic { &["h3"] } else { &["h2", "http/1.1"] };
        let mut common = CommonTlsContext {
            alpn_protocols: alpn.iter().map(|p| (*p).to_owned()).collect(),
            tls_params: self.parameters(),
            ..Default::default()
        };
        match (&self.tls.certificates, self.identity) {
            (Certificates::Secrets(names), _) => self.take_secrets(&mut common, names),
            (Certificates::None, _) => {
                common.tls_certificate_sds_secret_configs = vec![of_mesh(CERTIFICATE, self.identity)];
                common.validation_context_type = self.combined(of_mesh(ROOTS, self.identity));
            }
            (Certificates::Files(files), IdentitySource::Agent) => self.take_from_agent(&mut common, files),
            (Certificates::Files(files), _) => self.take_files(&mut common, files),
        }
        let demands = matches!(self.tls.mode, ServerTlsMode::Mutual | ServerTlsMode::IstioMutual);
        let context = DownstreamTlsContext {
            common_tls_context: Some(common),
            require_client_certificate: pb::boolean(demands),
            ..Default::default()
        };
        match self.quic {
            false => socket(TLS, &context),
            true => socket(
                "envoy.transport_sockets.quic",
                &QuicDownstreamTransport { downstream_tls_context: Some(context), ..Default::default() },
            ),
        }
    }

    /// Versions, ciphers and curves: the server's, else the mesh's; `None` for Envoy's own.
    fn parameters(&self) -> Option<TlsParameters> {
        if self.tls.mode == ServerTlsMode::IstioMutual {
            return None;
        }
        let list = |own: &[Arc<str>], mesh: &[Arc<str>]| -> Vec<String> {
            let chosen = if own.is_empty() { mesh } else { own };
            chosen.iter().map(ToString::to_string).collect()
        };
        let minimum = match self.tls.min_version {
            TlsVersion::Auto => self.mesh.min_tls_version,
            own => own,
        };
        let parameters = TlsParameters {
            tls_minimum_protocol_version: protocol(minimum).into(),
            tls_maximum_protocol_version: protocol(self.tls.max_version).into(),
            cipher_suites: list(&self.tls.ciphers, &self.mesh.cipher_suites),
            ecdh_curves: list(&self.tls.curves, &self.mesh.ecdh_curves),
            ..Default::default()
        };
        (parameters != TlsParameters::default()).then_some(parameters)
    }

    /// Certificates from secrets, which the control plane serves.
    fn take_secrets(&self, common: &mut CommonTlsContext, names: &[Arc<str>]) {
        common.tls_certificate_sds_secret_configs = names.iter().map(|n| served(&secret_name(n))).collect();
        if self.tls.checks_clients() {
            common.validation_context_type = self.tls.roots_name().and_then(|roots| self.combined(served(&roots)));
        } else if !self.tls.subject_alt_names.is_empty() {
            let context = self.validation();
            common.validation_context_type = Some(ValidationContextType::ValidationContext(context));
        }
    }

    /// Certificates from files, which the agent reads, so that they may be renewed.
    fn take_from_agent(&self, common: &mut CommonTlsContext, files: &[(Arc<str>, Arc<str>)]) {
        common.tls_certificate_sds_secret_configs =
            files.iter().map(|(chain, key)| of_agent(&file_certificate(chain, key))).collect();
        if self.tls.checks_clients() {
            common.validation_context_type = self.combined(of_agent(&file_roots(&self.tls.authorities)));
        }
    }

    /// Certificates from files, which a proxy without an agent reads itself.
    fn take_files(&self, common: &mut CommonTlsContext, files: &[(Arc<str>, Arc<str>)]) {
        common.tls_certificates = files.iter().map(|(chain, key)| certificate(chain, key)).collect();
        if self.tls.checks_clients() {
            let context =
                CertificateValidationContext { trusted_ca: Some(file(&self.tls.authorities)), ..self.validation() };
            common.validation_context_type = Some(ValidationContextType::ValidationContext(context));
        }
    }

    fn combined(&self, roots: SdsSecretConfig) -> Option<ValidationContextType> {
        Some(with_roots(self.validation(), roots))
    }

    fn validation(&self) -> CertificateValidationContext {
        let texts = |list: &[Arc<str>]| list.iter().map(ToString::to_string).collect();
        let trust = match self.tls.insecure {
            true => TrustChainVerification::AcceptUntrusted,
            false => TrustChainVerification::VerifyTrustChain,
        };
        CertificateValidationContext {
            verify_certificate_spki: texts(&self.tls.spki),
            verify_certificate_hash: texts(&self.tls.hashes),
            trust_chain_verification: trust.into(),
            ..names_and_crl(&self.tls.subject_alt_names, &self.tls.crl)
        }
    }
}

fn protocol(version: TlsVersion) -> TlsProtocol {
    match version {
        TlsVersion::Auto => TlsProtocol::TlsAuto,
        TlsVersion::V1_0 => TlsProtocol::TlSv10,
        TlsVersion::V1_1 => TlsProtocol::TlSv11,
        TlsVersion::V1_2 => TlsProtocol::TlSv12,
        TlsVersion::V1_3 => TlsProtocol::TlSv13,
    }
}
