//! Endpoints: the ClusterLoadAssignment of each EDS cluster, by locality.

use super::{
    Built, Input, Renderer, Resource, cluster,
    part::{Affected, Unit},
};
use crate::{
    id::{ObjectRef, ResourceType, Shared},
    model::{Endpoint, EndpointAddress, EndpointSet, Health, Labels, Locality, Resolution, selects},
    pb::{
        self,
        envoy::config::{
            core::v3::{Address, HealthStatus, Metadata, Pipe, SocketAddress, address, socket_address::PortSpecifier},
            endpoint::v3::{
                ClusterLoadAssignment, Endpoint as EndpointPb, LbEndpoint, LocalityLbEndpoints,
                lb_endpoint::HostIdentifier,
            },
        },
    },
    snapshot::{Delta, View},
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    view.services().map(|s| Unit::Host(s.host.clone())).collect()
}

pub(super) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let Affected::Units(mut units) = cluster::affected(old, new, delta) else { return Affected::All };
    units.extend(delta.endpoints.keys().map(|key| Unit::Host(key.host.clone())));
    Affected::Units(units)
}

pub(super) fn build(view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
    let Unit::Host(host) = unit else { return Built::default() };
    let Some(service) = view.service(host) else { return Built::default() };
    if service.resolution != Resolution::ClientSide {
        return Built::default();
    }
    let endpoints = view.endpoints(service).cloned().unwrap_or_else(|| Shared::new(EndpointSet::default()));
    let resources = cluster::names(view, service).into_iter().map(|name| {
        let node = view.key.place.as_ref().filter(|_| service.node_local).map(|p| p.cluster_node.clone());
        renderer.get(&Assignment {
            name: name.name,
            port_name: name.port_name,
            labels: name.labels,
            unhealthy: name.send_unhealthy,
            node,
            endpoints: endpoints.clone(),
            source: service.source.clone(),
        })
    });
    Built { resources: resources.collect(), problems: Vec::new() }
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
    /// The node whose endpoints alone are sent.
    node: Option<Arc<str>>,
    endpoints: Shared<EndpointSet>,
    source: ObjectRef,
}

impl Assignment {
    fn has(&self, endpoint: &Endpoint) -> bool {
        let alive = match endpoint.health {
            Health::Unknown | Health::Healthy => true,
            Health::Unhealthy => self.unhealthy,
            Health::Draining | Health::Terminating => false,
        };
        alive
            && endpoint.port_name == self.port_name
            && self.node.as_ref().is_none_or(|n| *n == endpoint.node)
            && selects(&self.labels, &endpoint.labels)
    }
}

impl Input for Assignment {
    fn render(&self) -> Resource {
        let mut by_locality: BTreeMap<&Locality, Vec<LbEndpoint>> = BTreeMap::new();
        for endpoint in self.endpoints.endpoints.iter().filter(|e| self.has(e)) {
            by_locality.entry(&endpoint.locality).or_default().push(lb_endpoint(endpoint));
        }
        let message = ClusterLoadAssignment {
            cluster_name: self.name.to_string(),
            endpoints: by_locality.into_iter().map(|(locality, endpoints)| group(locality, endpoints)).collect(),
            ..Default::default()
        };
        Resource::new(ResourceType::Endpoints, self.name.clone(), message.encode_to_vec(), vec![self.source.clone()])
    }
}

fn group(locality: &Locality, endpoints: Vec<LbEndpoint>) -> LocalityLbEndpoints {
    let weight = endpoints
        .iter()
        .filter_map(|e| e.load_balancing_weight.as_ref())
        .fold(0u32, |sum, w| sum.saturating_add(w.value));
    LocalityLbEndpoints {
        locality: Some(pb::envoy::config::core::v3::Locality {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.subzone.to_string(),
        }),
        lb_endpoints: endpoints,
        load_balancing_weight: pb::uint32(weight),
        ..Default::default()
    }
}

/// One endpoint as Envoy takes it.
pub(super) fn lb_endpoint(endpoint: &Endpoint) -> LbEndpoint {
    let health = match endpoint.health {
        Health::Unknown => HealthStatus::Unknown,
        Health::Healthy => HealthStatus::Healthy,
        Health::Draining => HealthStatus::Draining,
        Health::Unhealthy | Health::Terminating => HealthStatus::Unhealthy,
    };
    LbEndpoint {
        host_identifier: Some(HostIdentifier::Endpoint(EndpointPb {
            address: Some(address(&endpoint.address, endpoint.port)),
            ..Default::default()
        })),
        health_status: health.into(),
        metadata: metadata(endpoint),
        load_balancing_weight: pb::uint32(endpoint.weight.max(1)),
        ..Default::default()
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
fn metadata(endpoint: &Endpoint) -> Option<Metadata> {
    let mut filter_metadata = BTreeMap::new();
    if endpoint.tls {
        filter_metadata
            .insert("envoy.transport_socket_match".to_owned(), pb::fields([("tlsMode", pb::string("istio"))]));
    }
    if !endpoint.workload.is_empty() {
        let label = |keys: &[&str]| keys.iter().find_map(|k| endpoint.labels.get(*k)).cloned().unwrap_or_default();
        let name = label(&["service.istio.io/canonical-name", "app.kubernetes.io/name", "app"]);
        let name = if name.is_empty() { endpoint.workload.clone() } else { name };
        let revision = label(&["service.istio.io/canonical-revision", "app.kubernetes.io/version", "version"]);
        let revision = if &*revision == "latest" { "".into() } else { revision };
        let text = format!("{};{};{name};{revision};{}", endpoint.workload, endpoint.namespace, endpoint.cluster);
        filter_metadata.insert("istio".to_owned(), pb::fields([("workload", pb::string(text))]));
    }
    (!filter_metadata.is_empty()).then_some(Metadata { filter_metadata, ..Default::default() })
}
