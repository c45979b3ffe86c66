//! Outbound clusters: one for each port of a service and each of its subsets, and the fixed ones.

mod dns;
pub(super) mod fixed;
pub(super) mod http;
mod lb;
mod outbound;
mod outlier;
pub(super) mod pool;
mod select;
pub(super) mod stat;
mod tls;

pub(super) use lb::{Preference, preference};
pub(super) use select::{Discovery, policy, select};

use super::{
    Built, Renderer,
    part::{Affected, Unit},
};
use crate::{
    id::{Host, Shared},
    model::{MtlsMode, Resolution, Service},
    snapshot::{Delta, View},
};
use outbound::Outbound;
use std::collections::BTreeSet;

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    view.services().map(|s| Unit::Host(s.host.clone())).chain([Unit::Fixed]).collect()
}

/// The hosts whose service or DestinationRule differs, or the identities of whose endpoints do; and those whose
/// endpoints differ in any way, where the cluster itself depends on them.
pub(super) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let mut hosts = rule_hosts(old, new, delta);
    let depends = |host: &Host| [old, new].iter().any(|v| v.service(host).is_some_and(|s| holds_endpoints(v, s)));
    hosts.extend(newly_taking(old, new, delta));
    let ends = delta.endpoints.iter().filter(|(key, accounts)| **accounts || depends(&key.host));
    hosts.extend(ends.map(|(key, _)| key.host.clone()));
    Affected::Units(hosts.into_iter().map(Unit::Host).collect())
}

/// The hosts whose service or DestinationRule differs, or whether a Sidecar lets them in.
pub(super) fn rule_hosts(old: &View<'_>, new: &View<'_>, delta: &Delta) -> BTreeSet<Host> {
    let mut hosts: BTreeSet<Host> = delta.services.clone();
    if new.key.sends_by_route.is_some() {
        // Which services a gateway sends to is what its VirtualServices say, and those that they delegate to.
        for rule in &delta.virtual_services {
            let rules = |view: &View<'_>| -> Vec<Host> {
                let delegates = rule.delegates().filter_map(|to| view.delegate(rule, to));
                delegates.flat_map(|d| d.destinations().cloned()).collect()
            };
            hosts.extend(rule.destinations().cloned().chain(rules(old)).chain(rules(new)));
        }
    }
    for rule in &delta.destination_rules {
        match rule.host.is_wildcard() {
            false => drop(hosts.insert(rule.host.clone())),
            true => hosts.extend(
                [old, new].into_iter().flat_map(View::services).map(|s| s.host.clone()).filter(|h| rule.host.covers(h)),
            ),
        }
    }
    if new.key.sidecar.is_some() {
        // What VirtualServices send to, a Sidecar lets in.
        for view in [old, new] {
            let rules = delta.virtual_services.iter();
            let delegates =
                rules.clone().flat_map(|rule| rule.delegates()).filter_map(|to| view.snapshot.virtual_services.get(to));
            hosts.extend(rules.chain(delegates).flat_map(|rule| rule.destinations().cloned()));
        }
    }
    hosts
}

/// The hosts whose namespace, as its clients take it, has come to take mutual TLS or ceased to.
fn newly_taking(old: &View<'_>, new: &View<'_>, delta: &Delta) -> BTreeSet<Host> {
    let taking =
        |view: &View<'_>, service: &Service| view.snapshot.namespace_mtls(&service.namespace) != MtlsMode::Disable;
    let differs = |s: &&Shared<Service>| taking(old, s) != taking(new, s);
    let named = |s: &&Shared<Service>| delta.peers.contains(&None) || delta.peers.contains(&Some(s.namespace.clone()));
    let services = [old, new].into_iter().filter(|_| !delta.peers.is_empty()).flat_map(View::services);
    services.filter(named).filter(differs).map(|s| s.host.clone()).collect()
}

/// Whether a service's clusters depend on its endpoints: DNS clusters hold them, and whether clients that dial
/// the endpoints themselves use mutual TLS depends on whether all of them take it.
fn holds_endpoints(view: &View<'_>, service: &Service) -> bool {
    let dials = || {
        let rules = view.destination_rules(&service.host, &service.namespace);
        rules.iter().any(|r| r.may_dial())
    };
    service.resolution != Resolution::ClientSide || dials()
}

pub(super) fn build(view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
    let host = match unit {
        Unit::Host(host) => host,
        Unit::Fixed => return Built { resources: fixed::build(view, renderer), ..Built::default() },
        Unit::Port(_) | Unit::Name(_) | Unit::Requests(..) => return Built::default(),
    };
    let Some(service) = view.service(host).filter(|_| view.sends_to(host)) else { return Built::default() };
    let (clusters, mut problems) = select(view, service);
    problems.extend(view.overruled(service));
    problems.sort();
    problems.dedup();
    let inputs = clusters.into_iter().filter_map(|selected| Outbound::new(view, service, selected));
    Built { resources: inputs.map(|input| renderer.get(&input)).collect(), problems, ..Built::default() }
}

/// `outbound|PORT|SUBSET|HOST`.
pub(super) fn outbound_name(port: u16, subset: &str, host: &str) -> String {
    format!("outbound|{port}|{subset}|{host}")
}

/// The cluster of a service that other networks of the mesh reach by this name in TLS.
pub(super) fn between_networks(port: u16, subset: &str, host: &str) -> String {
    format!("outbound_.{port}_.{subset}_.{host}")
}
