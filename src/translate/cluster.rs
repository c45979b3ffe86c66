//! Outbound clusters: one for each port of a service and each of its subsets, and the fixed ones.

use super::{
    Built, Input, Renderer, Resource,
    part::{Affected, Unit},
};
use crate::{
    id::{Host, ObjectRef, ResourceType, Shared},
    model::{DestinationRule, Labels, Mesh, Protocol, Resolution, Service, Subset},
    pb::{
        self,
        envoy::config::cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType},
        },
    },
    snapshot::{Delta, View},
};
use prost::Message;
use std::{collections::BTreeSet, sync::Arc};

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    view.services().map(|s| Unit::Host(s.host.clone())).chain([Unit::Fixed]).collect()
}

/// The hosts whose service or DestinationRule differs, or the identities of whose endpoints do.
pub(super) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let mut hosts: BTreeSet<Host> = delta.services.clone();
    hosts.extend(delta.endpoints.iter().filter(|(_, accounts)| **accounts).map(|(key, _)| key.host.clone()));
    for rule in &delta.destination_rules {
        match rule.host.is_wildcard() {
            false => drop(hosts.insert(rule.host.clone())),
            true => hosts.extend(
                [old, new].into_iter().flat_map(View::services).map(|s| s.host.clone()).filter(|h| rule.host.covers(h)),
            ),
        }
    }
    Affected::Units(hosts.into_iter().map(Unit::Host).collect())
}

pub(super) fn build(view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
    let Unit::Host(host) = unit else { return Built::default() };
    let Some(service) = view.service(host) else { return Built::default() };
    let resources = names(view, service)
        .into_iter()
        .map(|n| renderer.get(&Outbound { name: n.name, source: service.source.clone() }));
    Built { resources: resources.collect(), problems: Vec::new() }
}

/// A cluster of a service, as far as its endpoints are concerned.
pub(super) struct Name {
    /// The cluster's name.
    pub(super) name: Arc<str>,
    /// The name of the service's port.
    pub(super) port_name: Arc<str>,
    /// The labels of the subset; empty for the whole service.
    pub(super) labels: Labels,
    /// Whether endpoints that are not ready are sent, marked as such.
    pub(super) send_unhealthy: bool,
}

/// The clusters of a service.
pub(super) fn names(view: &View<'_>, service: &Service) -> Vec<Name> {
    let rules = view.destination_rules(&service.host, &service.namespace);
    let subsets: Vec<&Subset> = rules.iter().flat_map(|r| &r.subsets).collect();
    let mut out = Vec::new();
    for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
        let whole = [(Arc::from(""), Labels::new())];
        let parts = subsets.iter().map(|s| (s.name.clone(), s.labels.clone()));
        for (subset, labels) in whole.into_iter().chain(parts) {
            let name = outbound_name(port.number, &subset, &service.host).into();
            out.push(Name { name, port_name: port.name.clone(), labels, send_unhealthy: true });
        }
    }
    out
}

/// `outbound|PORT|SUBSET|HOST`.
pub(super) fn outbound_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

#[derive(Hash)]
struct Outbound {
    name: Arc<str>,
    source: ObjectRef,
}

impl Input for Outbound {
    fn render(&self) -> Resource {
        let message = Cluster {
            name: self.name.to_string(),
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into())),
            ..Default::default()
        };
        Resource::new(ResourceType::Cluster, self.name.clone(), message.encode_to_vec(), vec![self.source.clone()])
    }
}
