//! Sidecars: what a workload's proxy is to know of the mesh, and how it listens.

use super::{ConnectionPool, Created, Destination, Labels, OutboundPolicy, Protocol, ServerTls};
use crate::id::{Host, Namespace, ObjectRef};
use std::sync::Arc;

/// A Sidecar with its names resolved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sidecar {
    /// The object.
    pub source: ObjectRef,
    /// When it was made.
    pub created: Created,
    /// The workloads it is for; empty for all of the namespace.
    pub selector: Labels,
    /// What the workload may send to; none for everything.
    pub egress: Vec<EgressListener>,
    /// What happens to traffic that no service is known for; `None` for what the mesh says.
    pub outbound: Option<(OutboundPolicy, Option<Destination>)>,
    /// Where the workload's own traffic arrives; none for where its services say.
    pub ingress: Vec<IngressListener>,
    /// Limits of connections to the workload.
    pub inbound_pool: Option<ConnectionPool>,
}

impl Sidecar {
    /// What sorts it among others of its namespace: those for some workloads first, then the older, then by name.
    pub fn rank(&self) -> (bool, Created, &str) {
        (self.selector.is_empty(), self.created, &self.source.name)
    }
}

/// What the workload may send to, and where.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EgressListener {
    /// The port; `None` for all ports that services have and no other listener takes.
    pub port: Option<ListenerPort>,
    /// The address, or `unix://` and a path; `None` for the services' own.
    pub bind: Option<Arc<str>>,
    /// Whether traffic is captured.
    pub captured: Option<bool>,
    /// The hosts; none for all.
    pub hosts: Vec<EgressHost>,
}

/// A port with what is spoken there.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ListenerPort {
    /// The number; 0 for a socket of the file system.
    pub number: u16,
    /// What is spoken.
    pub protocol: Protocol,
    /// The name.
    pub name: Arc<str>,
}

/// Hosts of a namespace.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct EgressHost {
    /// The namespace of their services and rules.
    pub namespace: EgressNamespace,
    /// The host, or a wildcard.
    pub host: Host,
    /// They are left out, whatever else lets them in.
    pub excluded: bool,
}

/// A namespace as a Sidecar names it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum EgressNamespace {
    /// Every one.
    Any,
    /// The workload's own.
    Own,
    /// This one.
    Named(Namespace),
}

/// A port where the workload's own traffic arrives.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IngressListener {
    /// The port.
    pub port: ListenerPort,
    /// The address; `None` for every one.
    pub bind: Option<Arc<str>>,
    /// Whether traffic is captured.
    pub captured: Option<bool>,
    /// Where the workload listens; `None` for where the connection came to.
    pub endpoint: Option<WorkloadEndpoint>,
    /// TLS that ends here, where the port takes no mutual TLS of the mesh.
    pub tls: Option<ServerTls>,
    /// Limits of connections.
    pub pool: Option<ConnectionPool>,
}

/// Where a workload listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum WorkloadEndpoint {
    /// At a port of the loopback address: of IPv4 if `true` and there is a choice, else of IPv6.
    Loopback(bool, u16),
    /// At a port of the proxy's own address: of its IPv4 one if `true`, else of its IPv6 one.
    Own(bool, u16),
    /// At a socket of the file system.
    Unix(Arc<str>),
}

impl EgressListener {
    /// Whether it lets in a service of this host and namespace, for a workload of the namespace `own`.
    pub fn imports_service(&self, own: &Namespace, namespace: &Namespace, host: &Host) -> bool {
        self.hosts.is_empty()
            || (self.lets(own, namespace, |pattern| pattern.covers(host)) && !self.excludes(own, namespace, host))
    }

    /// Whether it lets in a rule of this namespace that is for these hosts.
    pub fn imports_rule(&self, own: &Namespace, namespace: &Namespace, hosts: &[Host]) -> bool {
        let one = |host: &Host| self.lets(own, namespace, |p| p.overlaps(host)) && !self.excludes(own, namespace, host);
        self.hosts.is_empty() || hosts.iter().any(one)
    }

    /// Whether it is for a port of services.
    pub fn takes(&self, port: u16) -> bool {
        self.port.as_ref().is_none_or(|own| self.takes_all_ports() || own.number == port)
    }

    /// Whether it names a port or socket at which requests to any port of the services are taken.
    pub fn takes_all_ports(&self) -> bool {
        self.port.as_ref().is_some_and(|own| own.number == 0 || own.protocol == Protocol::HttpProxy)
    }

    /// Whether it is at a socket of the file system.
    pub fn is_unix(&self) -> bool {
        self.port.as_ref().is_some_and(|port| port.number == 0)
    }

    fn lets(&self, own: &Namespace, namespace: &Namespace, fits: impl Fn(&Host) -> bool) -> bool {
        self.hosts.iter().any(|h| !h.excluded && h.namespace.is(own, namespace) && fits(&h.host))
    }

    fn excludes(&self, own: &Namespace, namespace: &Namespace, host: &Host) -> bool {
        self.hosts.iter().any(|h| h.excluded && h.namespace.is(own, namespace) && h.host.covers(host))
    }
}

impl EgressNamespace {
    fn is(&self, own: &Namespace, namespace: &Namespace) -> bool {
        match self {
            Self::Any => true,
            Self::Own => own == namespace,
            Self::Named(name) => name == namespace,
        }
    }
}
