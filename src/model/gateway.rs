//! Gateways: the ports that router proxies open, and for which hosts.

use super::{Created, Labels, Protocol};
use crate::id::{Host, Namespace, ObjectRef};
use std::sync::Arc;

/// A Gateway with its names resolved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gateway {
    /// The object.
    pub source: ObjectRef,
    /// When it was made.
    pub created: Created,
    /// The labels of the pods that serve it; all routers where it has none.
    pub selector: Labels,
    /// What is served, in the order written.
    pub servers: Vec<Server>,
}

impl Gateway {
    /// `namespace/name`, by which VirtualServices are bound to it.
    pub fn name(&self) -> Arc<str> {
        format!("{}/{}", self.source.namespace, self.source.name).into()
    }

    /// What sorts it among others: the older first, then by name and namespace.
    pub fn rank(&self) -> (Created, &str, &str) {
        (self.created, &self.source.name, &self.source.namespace)
    }
}

/// A port that is opened, and for which hosts.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Server {
    /// A name for statistics; empty where it has none.
    pub name: Arc<str>,
    /// The number of the port, as the Service before the gateway has it; 0 at a socket of the file system.
    pub port: u16,
    /// The name of the port.
    pub port_name: Arc<str>,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// The address that it is opened at, or `unix://` and a path; `None` for every address.
    pub bind: Option<Arc<str>>,
    /// The hosts.
    pub hosts: Vec<ServerHost>,
    /// Clients that come without TLS are sent to HTTPS.
    pub redirect: bool,
    /// TLS; `None` for plain connections.
    pub tls: Option<ServerTls>,
}

impl Server {
    /// Whether requests are routed here: HTTP, or HTTPS that ends here.
    pub fn is_http(&self) -> bool {
        self.protocol.is_http() || (self.protocol == Protocol::Https && !self.passes_through())
    }

    /// Whether TLS goes on to the endpoint.
    pub fn passes_through(&self) -> bool {
        self.tls.as_ref().is_some_and(|t| matches!(t.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough))
    }

    /// Whether clients speak TLS here.
    pub fn is_tls(&self) -> bool {
        self.tls.is_some() && !self.protocol.is_http()
    }
}

/// A host of a server, and the namespace whose VirtualServices may serve it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServerHost {
    /// The namespace; `None` for any.
    pub namespace: Option<Namespace>,
    /// The host or wildcard.
    pub host: Host,
}

impl ServerHost {
    /// Whether VirtualServices of a namespace may serve the host.
    pub fn is_for(&self, namespace: &Namespace) -> bool {
        self.namespace.as_ref().is_none_or(|n| n == namespace)
    }
}

/// TLS at a server.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServerTls {
    /// How TLS is ended, or not.
    pub mode: ServerTlsMode,
    /// Where its certificates come from.
    pub certificates: Certificates,
    /// The file or secret of the authorities of clients, where it is another than the certificate's; else empty.
    pub authorities: Arc<str>,
    /// The file of what authorities have taken back; empty for none.
    pub crl: Arc<str>,
    /// Names of which the certificate of a client must have one.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Hashes of keys that a client may have.
    pub spki: Vec<Arc<str>>,
    /// Hashes of certificates that a client may have.
    pub hashes: Vec<Arc<str>>,
    /// The oldest version.
    pub min_version: TlsVersion,
    /// The newest version.
    pub max_version: TlsVersion,
    /// Ciphers, those that Envoy knows; empty for the default.
    pub ciphers: Vec<Arc<str>>,
    /// Curves; empty for the default.
    pub curves: Vec<Arc<str>>,
    /// Clients whose certificate does not hold are let in too.
    pub insecure: bool,
}

impl ServerTls {
    /// The names by which a proxy asks for the secrets that it needs.
    pub fn secret_names(&self) -> Vec<Arc<str>> {
        let Certificates::Secrets(names) = &self.certificates else { return Vec::new() };
        let roots = self.checks_clients().then(|| self.roots_name()).flatten();
        names.iter().map(|n| secret_name(n)).chain(roots).collect()
    }

    /// The name by which a proxy asks for the authorities of clients; `None` where they are in no secret.
    pub fn roots_name(&self) -> Option<Arc<str>> {
        let Certificates::Secrets(names) = &self.certificates else { return None };
        let name = match &*self.authorities {
            "" => secret_name(names.first()?),
            own => secret_name(own),
        };
        Some(match name.starts_with("configmap://") || name.ends_with(AUTHORITIES) {
            true => name,
            false => format!("{name}{AUTHORITIES}").into(),
        })
    }

    /// Whether the certificates of clients are looked at.
    pub fn checks_clients(&self) -> bool {
        matches!(self.mode, ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual | ServerTlsMode::IstioMutual)
    }
}

/// What a certificate's authorities are called beside its secret.
pub const AUTHORITIES: &str = "-cacert";

/// The name by which a proxy asks for a credential: that of a Secret, unless it says otherwise.
pub fn secret_name(credential: &str) -> Arc<str> {
    match credential.contains("://") {
        true => credential.into(),
        false => format!("kubernetes://{credential}").into(),
    }
}

/// How TLS is ended at a server, or not.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ServerTlsMode {
    /// It goes on; VirtualServices say where by the name that the client asks for.
    Passthrough,
    /// It ends here.
    Simple,
    /// It ends here, and clients show a certificate.
    Mutual,
    /// It goes on to the service that the name stands for, between networks of a mesh.
    AutoPassthrough,
    /// It ends here with the mesh's identities.
    IstioMutual,
    /// It ends here, and clients may show a certificate.
    OptionalMutual,
}

/// Where the certificates of a server come from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Certificates {
    /// Nowhere: TLS is not ended here, or with the mesh's identities.
    None,
    /// From secrets of these names.
    Secrets(Vec<Arc<str>>),
    /// From files: each certificate with its key.
    Files(Vec<(Arc<str>, Arc<str>)>),
}

/// A version of TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum TlsVersion {
    /// Whatever is the default.
    #[default]
    Auto,
    /// 1.0.
    V1_0,
    /// 1.1.
    V1_1,
    /// 1.2.
    V1_2,
    /// 1.3.
    V1_3,
}
