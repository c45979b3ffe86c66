//! Inbound clusters: the ports of the workload beside the proxy.

use super::inbound_chain::INBOUND_PASSTHROUGH;
use crate::{
    id::{ObjectRef, ResourceType, Shared},
    model::{ClusterDefaults, ConnectionPool, Protocol, TrafficPolicy},
    pb::{
        self,
        envoy::config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbPolicy},
            },
            core::v3::{
                Address, BindConfig, ExtraSourceAddress, Metadata, SocketAddress, socket_address::PortSpecifier,
            },
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint, LbEndpoint, LocalityLbEndpoints, lb_endpoint::HostIdentifier,
            },
        },
        google::protobuf::Duration,
    },
    translate::{
        Input, Resource,
        cluster::{fixed, http, pool},
        endpoint::{pipe_address, socket_address},
        provenance,
    },
};
use prost::Message;
use std::{net::IpAddr, sync::Arc};

/// For ever, as far as Go can count: a workload's address does not change, so nothing is ever cleaned up.
const NEVER: Duration = Duration { seconds: 9_223_372_035, nanos: 0 };

/// Everything that the cluster of a port is made from.
#[derive(Hash)]
pub(super) struct InboundCluster {
    /// Its name.
    pub(super) name: Arc<str>,
    /// Its name in statistics.
    pub(super) stat_name: String,
    /// What is spoken on the port.
    pub(super) protocol: Protocol,
    /// Where the workload listens; `None` for where the connection came to.
    pub(super) endpoint: Option<Beside>,
    /// Limits.
    pub(super) policy: TrafficPolicy,
    /// The DestinationRule that they come from.
    pub(super) rule: Option<ObjectRef>,
    /// How long connecting may take, in milliseconds.
    pub(super) connect_timeout: u64,
    /// The names of HTTP/1.1 headers keep their case.
    pub(super) keep_case: bool,
    /// What the mesh says of all clusters.
    pub(super) mesh: Shared<ClusterDefaults>,
    /// The addresses that connections come from, by which the capture rules leave them alone.
    pub(super) from: &'static [&'static str],
    /// The services that lead to the port.
    pub(super) services: Vec<Served>,
    /// The objects that it comes from.
    pub(super) sources: Vec<ObjectRef>,
}

/// Where a workload listens, beside its proxy.
#[derive(Hash)]
pub(super) enum Beside {
    /// At an address and port.
    Ip(IpAddr, u16),
    /// At a socket of the file system.
    Unix(Arc<str>),
}

/// A service that leads to a port.
#[derive(Hash)]
pub(super) struct Served {
    pub(super) host: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) namespace: Arc<str>,
}

impl Beside {
    fn address(&self) -> Address {
        match self {
            Self::Ip(ip, port) => socket_address(&ip.to_string(), *port),
            Self::Unix(path) => pipe_address(path),
        }
    }
}

impl InboundCluster {
    fn metadata(&self) -> Option<Metadata> {
        let service = |s: &Served| {
            let fields = [("host", &s.host), ("name", &s.name), ("namespace", &s.namespace)];
            pb::object(fields.map(|(key, value)| (key, pb::string(&**value))))
        };
        let services = (!self.services.is_empty()).then(|| pb::list(self.services.iter().map(service)));
        let rule = self.rule.as_ref().map(|rule| pb::string(provenance::of_destination_rule(rule)));
        let said = services.map(|s| ("services", s)).into_iter().chain(rule.map(|r| ("config", r)));
        let said: Vec<_> = said.collect();
        let says = !said.is_empty();
        let istio = [("istio".to_owned(), pb::fields(said))];
        says.then(|| Metadata { filter_metadata: istio.into(), ..Default::default() })
    }

    fn discover(&self, cluster: &mut Cluster) {
        let kind = match &self.endpoint {
            None => {
                cluster.lb_policy = LbPolicy::ClusterProvided.into();
                cluster.cleanup_interval = Some(NEVER);
                DiscoveryType::OriginalDst
            }
            Some(endpoint) => {
                let endpoint = Endpoint { address: Some(endpoint.address()), ..Default::default() };
                let host = HostIdentifier::Endpoint(endpoint);
                let one = LbEndpoint { host_identifier: Some(host), ..Default::default() };
                cluster.load_assignment = Some(ClusterLoadAssignment {
                    cluster_name: self.name.to_string(),
                    endpoints: vec![LocalityLbEndpoints { lb_endpoints: vec![one], ..Default::default() }],
                    ..Default::default()
                });
                DiscoveryType::Static
            }
        };
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
    }
}

impl Input for InboundCluster {
    fn render(&self) -> Resource {
        // Clients decide over HTTP/2, and what they chose goes on.
        let limits =
            ConnectionPool { h2_upgrade: Some(false), ..self.policy.connection_pool.clone().unwrap_or_default() };
        let mut cluster = Cluster {
            name: self.name.to_string(),
            alt_stat_name: self.stat_name.clone(),
            connect_timeout: Some(pb::millis(limits.connect_timeout.unwrap_or(self.connect_timeout))),
            circuit_breakers: Some(pool::breakers(&limits, self.policy.retry_budget.as_ref())),
            upstream_connection_options: pool::keepalive(limits.keepalive.as_ref(), self.mesh.keepalive.as_ref()),
            common_lb_config: Some(CommonLbConfig::default()),
            upstream_bind_config: bind(self.from),
            metadata: self.metadata(),
            ..Default::default()
        };
        self.discover(&mut cluster);
        http::Options::of(self.protocol, &limits, false, self.keep_case).write(&mut cluster);
        Resource::new(ResourceType::Cluster, &*self.name, cluster.encode_to_vec(), self.sources.clone())
    }
}

/// The cluster of the ports that no service leads to.
#[derive(Hash)]
pub(super) struct Passthrough {
    /// How long connecting may take, in milliseconds.
    pub(super) connect_timeout: u64,
    /// The names of HTTP/1.1 headers keep their case.
    pub(super) keep_case: bool,
    /// What the mesh says of all clusters.
    pub(super) mesh: Shared<ClusterDefaults>,
    /// The addresses that connections come from.
    pub(super) from: &'static [&'static str],
}

impl Input for Passthrough {
    fn render(&self) -> Resource {
        let cluster = Cluster {
            name: INBOUND_PASSTHROUGH.to_owned(),
            upstream_bind_config: bind(self.from),
            ..fixed::passthrough(fixed::PASSTHROUGH, self.connect_timeout, self.keep_case, &self.mesh)
        };
        Resource::new(ResourceType::Cluster, INBOUND_PASSTHROUGH, cluster.encode_to_vec(), Vec::new())
    }
}

fn bind(from: &[&str]) -> Option<BindConfig> {
    let source = |address: &&str| SocketAddress {
        address: (*address).to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    let (first, more) = from.split_first()?;
    let extra = |a| ExtraSourceAddress { address: Some(source(a)), ..Default::default() };
    Some(BindConfig {
        source_address: Some(source(first)),
        extra_source_addresses: more.iter().map(extra).collect(),
        ..Default::default()
    })
}
