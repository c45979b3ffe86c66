//! Nodes: the proxies that connect, as they describe themselves.

use super::{Labels, Locality, ProxyConfig};
use crate::id::Namespace;
use std::{net::IpAddr, sync::Arc};

/// A proxy: what its Envoy `Node` says (reference: `pkg/model/proxy.go` of Istio).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Node {
    /// The node id as it is on the wire: `type~ip~pod.namespace~domain`.
    pub id: Arc<str>,
    /// What the proxy is for.
    pub role: Role,
    /// The third part of the id: `pod.namespace`.
    pub name: Arc<str>,
    /// The pod's name, where the id names one.
    pub pod: Arc<str>,
    /// The namespace whose configuration it gets.
    pub namespace: Namespace,
    /// The DNS domain that its short names are in: `namespace.svc.cluster.local`.
    pub domain: Arc<str>,
    /// Its addresses.
    pub ips: Vec<IpAddr>,
    /// Its workload's labels, as its metadata has them.
    pub labels: Labels,
    /// Its workload's annotations, as its metadata has them.
    pub annotations: Labels,
    /// The cluster that it is in.
    pub cluster: Arc<str>,
    /// The network that it is in; empty where there is only one.
    pub network: Arc<str>,
    /// The mesh that it is in; empty where it does not say.
    pub mesh: Arc<str>,
    /// Where it stands, where its `Node` says so.
    pub locality: Locality,
    /// The Kubernetes node that it runs on; empty where it does not say.
    pub cluster_node: Arc<str>,
    /// The service account that it runs as; empty where it does not say.
    pub account: Arc<str>,
    /// The name of its workload; empty where it does not say.
    pub workload: Arc<str>,
    /// How traffic gets to it.
    pub interception: Interception,
    /// Where its certificate comes from.
    pub identity: IdentitySource,
    /// Its version of Istio's agent; empty for a proxy without one.
    pub version: Arc<str>,
    /// Its named container ports, as its metadata has them.
    pub ports: Vec<(Arc<str>, u16)>,
    /// Whether it proved to be of its namespace, so that it may have the secrets there.
    pub proven: bool,
    /// Whether it takes virtual hosts as resources of their own (VHDS).
    pub virtual_hosts: bool,
    /// Settings of its own that change listeners and routes.
    pub settings: NodeSettings,
}

/// What a proxy is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Role {
    /// Beside a workload.
    Sidecar,
    /// A gateway.
    Router,
}

/// How traffic gets to a sidecar.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Interception {
    /// iptables REDIRECT.
    #[default]
    Redirect,
    /// iptables TPROXY, which keeps the client's address.
    Tproxy,
    /// Not at all: workloads send to its listeners by themselves.
    None,
}

/// Where a proxy's certificate comes from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum IdentitySource {
    /// It has none, so it neither offers nor uses mutual TLS.
    #[default]
    None,
    /// An agent beside it, which serves secrets on the bootstrap's cluster `sds-grpc`.
    Agent,
    /// The control plane, over the stream that everything else comes by.
    ControlPlane,
}

/// What a proxy's metadata sets for itself.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct NodeSettings {
    /// HTTP/1.0 is accepted (`HTTP10`).
    pub http10: bool,
    /// Idle time after which HTTP connections close, in milliseconds (`IDLE_TIMEOUT`).
    pub idle_timeout: Option<u64>,
    /// Connections are spread over the workers exactly, inbound (`INBOUND_LISTENER_EXACT_BALANCE`).
    pub inbound_exact_balance: bool,
    /// The same outbound (`OUTBOUND_LISTENER_EXACT_BALANCE`).
    pub outbound_exact_balance: bool,
    /// It may not bind ports below 1024 (`UNPRIVILEGED_POD`).
    pub unprivileged: bool,
    /// The port of its forward proxy listener (`HTTP_PROXY_PORT`); 0 where there is none.
    pub http_proxy_port: u16,
    /// It resolves names of the mesh itself (`DNS_CAPTURE`).
    pub dns_capture: bool,
    /// It reaches services without an address by one that is made up (`DNS_AUTO_ALLOCATE`).
    pub dns_auto_allocate: bool,
    /// Its ProxyConfig, where it says it whole (`PROXY_CONFIG`).
    pub proxy_config: Option<ProxyConfig>,
    /// What its workload's annotation says over that of the mesh, where it does not (`proxy.istio.io/config`).
    pub annotated: ProxyConfig,
    /// It holds only what it has used, and asks for the rest when it needs it (`ON_DEMAND`).
    pub on_demand: bool,
    /// The port that its readiness is asked on (`ENVOY_STATUS_PORT`, default 15021).
    pub status_port: u16,
    /// The port that its metrics are read on (`ENVOY_PROMETHEUS_PORT`, default 15090).
    pub prometheus_port: u16,
}
