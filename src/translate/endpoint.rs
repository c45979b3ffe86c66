//! Endpoints: the ClusterLoadAssignment of each EDS cluster, by locality.

mod locality;
mod network;

use super::{
    Built, Input, Renderer, Resource,
    cluster::{self, Discovery},
    part::{Affected, Unit},
};
use crate::{
    id::{ObjectRef, ResourceType, Shared},
    model::{Endpoint, EndpointAddress, EndpointSet, Health, Labels, TlsMode, selects},
    pb::{
        self,
        envoy::config::{
            core::v3::{Address, HealthStatus, Metadata, Pipe, SocketAddress, address, socket_address::PortSpecifier},
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint as EndpointPb, LbEndpoint, LocalityLbEndpoints,
                endpoint::AdditionalAddress, lb_endpoint::HostIdentifier,
            },
        },
    },
    snapshot::{Delta, Families, View},
};
use locality::Ranking;
use network::Horizon;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    view.services().map(|s| Unit::Host(s.host.clone())).collect()
}

/// The hosts whose service, DestinationRule or endpoints differ.
pub(super) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let mut hosts = cluster::rule_hosts(old, new, delta);
    hosts.extend(delta.endpoints.keys().map(|key| key.host.clone()));
    Affected::Units(hosts.into_iter().map(Unit::Host).collect())
}

pub(super) fn build(view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
    let Unit::Host(host) = unit else { return Built::default() };
    let Some(service) = view.service(host).filter(|_| view.sends_to(host)) else { return Built::default() };
    let endpoints = view.endpoints(service).cloned().unwrap_or_else(|| Shared::new(EndpointSet::default()));
    let place = view.key.place.as_ref();
    let own = &view.key.cluster;
    let local = !own.is_empty() && view.snapshot.mesh.keeps_to_cluster(&service.host);
    let horizon = Horizon::of(view);
    let resources = cluster::select(view, service).0.into_iter().filter(|c| c.discovery == Discovery::Eds).map(|c| {
        let outlier = c.policy.outlier_detection.as_ref();
        renderer.get(&Assignment {
            name: c.name,
            port_name: service.ports[c.port].name.clone(),
            labels: c.labels,
            unhealthy: outlier.and_then(|o| o.min_health_percent).is_none(),
            takes_mtls: c.policy.tls.as_ref().is_none_or(|t| t.mode == TlsMode::IstioMutual),
            tls_alone: c.between_networks,
            node: place.filter(|_| service.node_local).map(|p| p.cluster_node.clone()),
            cluster: local.then(|| own.clone()),
            both_families: matches!(view.key.families, Families::Dual(_)),
            ranking: Ranking::of(view, service, &c.policy),
            horizon: horizon.clone(),
            endpoints: endpoints.clone(),
            sources: service.sources().chain(&c.rules).cloned().collect(),
        })
    });
    Built { resources: resources.collect(), ..Built::default() }
}

/// Everything that one ClusterLoadAssignment is made from.
#[derive(Hash)]
struct Assignment {
    name: Arc<str>,
    port_name: Arc<str>,
    /// The labels of the subset.
    labels: Labels,
    /// Whether endpoints that are not ready are sent, marked as such.
    unhealthy: bool,
    /// Whether connections may be secured with the mesh's identities.
    takes_mtls: bool,
    /// Whether only endpoints that end the mesh's TLS are sent.
    tls_alone: bool,
    /// The node whose endpoints alone are sent.
    node: Option<Arc<str>>,
    /// The cluster whose endpoints alone are sent.
    cluster: Option<Arc<str>>,
    /// Whether the proxy uses both IP families.
    both_families: bool,
    /// Which endpoints are preferred.
    ranking: Ranking,
    /// How endpoints of other networks are reached, where networks are told apart.
    horizon: Option<Horizon>,
    endpoints: Shared<EndpointSet>,
    sources: Vec<ObjectRef>,
}

impl Assignment {
    fn has(&self, endpoint: &Endpoint) -> bool {
        let alive = endpoint.health.serves() || (endpoint.health == Health::Unhealthy && self.unhealthy);
        let is_name = matches!(endpoint.address, EndpointAddress::Host(_));
        alive
            && !is_name
            && (endpoint.tls || !self.tls_alone)
            && endpoint.port_name == self.port_name
            && self.node.as_ref().is_none_or(|n| *n == endpoint.node)
            && self.cluster.as_ref().is_none_or(|c| *c == endpoint.cluster)
            && selects(&self.labels, &endpoint.labels)
    }
}

impl Input for Assignment {
    fn render(&self) -> Resource {
        let chosen = self.endpoints.endpoints.iter().filter(|e| self.has(e));
        let groups = match &self.horizon {
            None => self.ranking.groups(chosen, self.takes_mtls, self.both_families),
            Some(horizon) => {
                let seen = horizon.endpoints(chosen, self.takes_mtls);
                self.ranking.groups(seen.iter(), self.takes_mtls, self.both_families)
            }
        };
        let message =
            ClusterLoadAssignment { cluster_name: self.name.to_string(), endpoints: groups, ..Default::default() };
        Resource::new(ResourceType::Endpoints, self.name.clone(), message.encode_to_vec(), self.sources.clone())
    }
}

/// Endpoints by locality, none of them preferred.
pub(super) fn by_locality<'a>(
    endpoints: impl Iterator<Item = &'a Endpoint>,
    takes_mtls: bool,
) -> Vec<LocalityLbEndpoints> {
    Ranking::None.groups(endpoints, takes_mtls, false)
}

/// One endpoint as Envoy takes it.
fn lb_endpoint(endpoint: &Endpoint, takes_mtls: bool, both_families: bool) -> LbEndpoint {
    let health = match endpoint.health {
        Health::Unknown => HealthStatus::Unknown,
        Health::Healthy => HealthStatus::Healthy,
        Health::Draining => HealthStatus::Draining,
        Health::Unhealthy | Health::Terminating => HealthStatus::Unhealthy,
    };
    let further = endpoint.more_addresses.iter().filter(|_| both_families);
    let further = further.map(|ip| socket_address(&ip.to_string(), endpoint.port));
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(EndpointPb {
            address: Some(address(&endpoint.address, endpoint.port)),
            additional_addresses: further.map(|ip| AdditionalAddress { address: Some(ip) }).collect(),
            ..Default::default()
        })),
        health_status: health.into(),
        metadata: Some(metadata(endpoint, takes_mtls)),
        load_balancing_weight: pb::uint32(endpoint.weight.max(1)),
    }
}

/// An address and port as Envoy takes it.
pub(super) fn address(address: &EndpointAddress, port: u16) -> Address {
    let kind = match address {
        EndpointAddress::Ip(ip) => return socket_address(&ip.to_string(), port),
        EndpointAddress::Host(host) => return socket_address(host, port),
        EndpointAddress::Unix(path) => address::Address::Pipe(Pipe { path: path.to_string(), mode: 0 }),
    };
    Address { address: Some(kind) }
}

/// The address of a socket of the file system.
pub(super) fn pipe_address(path: &str) -> Address {
    Address { address: Some(address::Address::Pipe(Pipe { path: path.to_owned(), mode: 0 })) }
}

/// An IP address or name, and a port, as Envoy takes it.
pub(super) fn socket_address(host: &str, port: u16) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: host.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        })),
    }
}

/// What chooses the endpoint's transport socket, and what telemetry calls its workload
/// (Istio: `pkg/networking/util/util.go`, BuildLbEndpointMetadata).
fn metadata(endpoint: &Endpoint, takes_mtls: bool) -> Metadata {
    let mut filter_metadata = BTreeMap::new();
    if endpoint.tls && takes_mtls {
        filter_metadata
            .insert("envoy.transport_socket_match".to_owned(), pb::fields([("tlsMode", pb::string("istio"))]));
    }
    let label = |keys: &[&str]| keys.iter().find_map(|k| endpoint.labels.get(k)).cloned().unwrap_or_default();
    let name = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
    let name = if name.is_empty() { endpoint.workload.clone() } else { name };
    let revision = label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
    let revision = if &*revision == "latest" { "".into() } else { revision };
    let text = format!("{};{};{name};{revision};{}", endpoint.workload, endpoint.namespace, endpoint.cluster);
    filter_metadata.insert("istio".to_owned(), pb::fields([("workload", pb::string(text))]));
    Metadata { filter_metadata, ..Default::default() }
}
