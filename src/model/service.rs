//! Services: what clients name and reach.

use super::{Created, ExportTo, Labels};
use crate::id::{Host, Namespace, ObjectRef, ServiceKey};
use ipnet::IpNet;
use std::{net::IpAddr, sync::Arc};

/// A service of the mesh: a Kubernetes Service, or one host of a ServiceEntry.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Service {
    /// The fully qualified host.
    pub host: Host,
    /// The namespace of the object that defines it.
    pub namespace: Namespace,
    /// The object's name; the host for a ServiceEntry.
    pub name: Arc<str>,
    /// Where it is defined.
    pub registry: Registry,
    /// How a client finds its endpoints.
    pub resolution: Resolution,
    /// The addresses that clients send to; empty where it has none (headless, ServiceEntry without addresses).
    pub addresses: Vec<Vip>,
    /// Its ports, in the order written.
    pub ports: Vec<ServicePort>,
    /// Whether it is outside of the mesh (`MESH_EXTERNAL`).
    pub external: bool,
    /// Who sees it.
    pub export_to: ExportTo,
    /// When its object was made.
    pub created: Created,
    /// The pods that serve it; empty where its endpoints are given otherwise.
    pub selector: Labels,
    /// The object's labels.
    pub labels: Labels,
    /// Only endpoints on the client's own node serve it (`internalTrafficPolicy: Local`).
    pub node_local: bool,
    /// Which endpoints are nearer (`trafficDistribution`).
    pub distribution: Distribution,
    /// DNS names that pods of it are known by also before they are ready.
    pub publish_not_ready: bool,
    /// Identities that its endpoints may have beside their own (`subjectAltNames`, annotations), sorted.
    pub accounts: Vec<Arc<str>>,
    /// For an ExternalName: the host that it stands for.
    pub alias_of: Option<Host>,
    /// Whether it is given an address of the mesh's own where it has none.
    pub allocates: bool,
    /// The addresses that it was given, one of each family, IPv4 first. Only clients whose names the mesh resolves
    /// learn of them.
    pub allocated: Vec<IpAddr>,
    /// Whether clients try all answers of DNS at once (`RACE_FIRST_TCP_CONNECT`).
    pub races: bool,
    /// The object that defines it.
    pub source: ObjectRef,
    /// Younger objects for the same host that were merged into it.
    pub merged: Vec<ObjectRef>,
}

impl Service {
    /// Its key.
    pub fn key(&self) -> ServiceKey {
        ServiceKey { host: self.host.clone(), namespace: self.namespace.clone() }
    }

    /// The objects that it comes from.
    pub fn sources(&self) -> impl Iterator<Item = &ObjectRef> {
        std::iter::once(&self.source).chain(&self.merged)
    }

    /// The port of this number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|p| p.number == number)
    }

    /// Whether clients dial its endpoints themselves: it has no address, and nothing balances.
    pub fn dials_endpoints(&self) -> bool {
        self.resolution == Resolution::Passthrough && self.addresses.is_empty()
    }

    /// Whether clients reach its pods one by one: no virtual address and no load balancing (headless).
    pub fn is_headless(&self) -> bool {
        self.resolution == Resolution::Passthrough && self.registry == Registry::Kubernetes
    }
}

/// Where a service is defined.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Registry {
    /// A Kubernetes Service.
    Kubernetes,
    /// A ServiceEntry.
    External,
}

/// How a client finds the endpoints of a service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resolution {
    /// From the control plane (EDS).
    ClientSide,
    /// By resolving the endpoints' names, each answer an endpoint.
    Dns,
    /// By resolving the endpoints' names, one answer at a time.
    DnsRoundRobin,
    /// The address that the client dialled.
    Passthrough,
    /// By resolving the name that the request carries.
    DynamicDns,
    /// It has none of its own: it stands for another service (ExternalName).
    Alias,
}

/// Which endpoints a client of a service prefers.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Distribution {
    /// What its namespace says, or none.
    #[default]
    Unset,
    /// None.
    Any,
    /// Those of its zone, then region (`PreferClose`, `PreferSameZone`).
    SameZone,
    /// Those of its node, then zone, then region (`PreferSameNode`).
    SameNode,
}

impl Distribution {
    /// What an annotation of a service or a namespace says. `None` where it is not there.
    pub fn of(annotations: &Labels) -> Option<Self> {
        let value = annotations.get("networking.istio.io/traffic-distribution").filter(|v| !v.is_empty())?;
        Some(Self::named(value).unwrap_or(Self::Any))
    }

    /// The one of this name, whatever the case of its letters.
    pub fn named(name: &str) -> Option<Self> {
        match name.to_lowercase().as_str() {
            "preferclose" | "prefersamezone" => Some(Self::SameZone),
            "prefersamenode" => Some(Self::SameNode),
            _ => None,
        }
    }
}

/// An address that clients send to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Vip {
    /// One address.
    Ip(IpAddr),
    /// Every address of a block.
    Block(IpNet),
}

/// A port of a service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ServicePort {
    /// Its name; empty where it has none.
    pub name: Arc<str>,
    /// The number that clients use.
    pub number: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
    /// Where it arrives at the workload.
    pub target: TargetPort,
}

/// The port of a workload that a service's port leads to.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum TargetPort {
    /// This number.
    Number(u16),
    /// The workload's port of this name.
    Name(Arc<str>),
}

/// What is spoken on a port (reference: `pkg/config/protocol` of Istio).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Protocol {
    /// HTTP/1.1 or whatever the client speaks.
    Http,
    /// HTTP/2, with or without TLS.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web.
    GrpcWeb,
    /// Requests for any host, as a forward proxy takes them.
    HttpProxy,
    /// HTTP inside TLS that the sidecar does not open.
    Https,
    /// TLS that the sidecar does not open.
    Tls,
    /// Bytes.
    Tcp,
    /// MongoDB.
    Mongo,
    /// Redis.
    Redis,
    /// MySQL.
    MySql,
    /// Datagrams, which the mesh leaves alone.
    Udp,
    /// To be detected on each connection.
    Auto,
}

impl Protocol {
    /// Whether requests are routed: HTTP in one of its forms.
    pub fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb | Self::HttpProxy)
    }

    /// Whether requests are multiplexed on HTTP/2 connections.
    pub fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Whether connections are passed on as bytes.
    pub fn is_tcp(self) -> bool {
        matches!(self, Self::Tcp | Self::Https | Self::Tls | Self::Mongo | Self::Redis | Self::MySql)
    }

    /// Whether clients start with a TLS handshake of their own.
    pub fn is_tls(self) -> bool {
        matches!(self, Self::Https | Self::Tls)
    }

    /// What is spoken within TLS, once it is ended.
    pub fn within_tls(self) -> Self {
        match self {
            Self::Https => Self::Http,
            Self::Tls => Self::Tcp,
            other => other,
        }
    }

    /// As istiod's debug pages write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-Web",
            Self::HttpProxy => "HTTP_PROXY",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Mongo => "Mongo",
            Self::Redis => "Redis",
            Self::MySql => "MySQL",
            Self::Udp => "UDP",
            Self::Auto => "UnsupportedProtocol",
        }
    }
}
