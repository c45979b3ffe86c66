//! Which virtual hosts there may be, and which of them a change affects.

use super::{gateway::meeting, select::PLAIN_HTTP};
use crate::{
    id::{Host, fingerprint},
    model::{LoadBalancerKind, Role, TrafficPolicy, VirtualService},
    snapshot::{Delta, View},
    translate::part::{Affected, Unit},
};
use std::collections::BTreeSet;

/// All that there may be at a sidecar.
pub(super) fn all(view: &View<'_>) -> BTreeSet<Unit> {
    let mut units = Units::default();
    for service in view.snapshot.services() {
        units.0.extend(service.ports.iter().map(|p| Unit::Requests(p.number, service.host.clone())));
    }
    for rule in view.all_virtual_services() {
        units.add_hosts(view, rule);
    }
    // What a Sidecar names is there without any service, too.
    units.0.extend(view.egress().iter().filter_map(|l| l.port.as_ref()).map(|p| Unit::Port(p.number)));
    units.0.extend(super::all_ports(view));
    units.0
}

/// Services that differ, and those for which they stand; what VirtualServices decide over that differ, delegate to one
/// that does, or send to a service that does; and services for which another hash is taken.
pub(in crate::translate) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let mut units = Units::default();
    for view in [old, new] {
        for host in &delta.services {
            units.add_service(view, host);
            units.add_targets(view, host);
            units.add_routing(view, host);
        }
        for rule in &delta.virtual_services {
            units.add_rule(view, rule);
            for root in view.delegating(rule) {
                units.add_rule(view, root);
            }
        }
    }
    for host in rehashed(old, new, delta) {
        for view in [old, new] {
            units.add_service(view, &host);
            units.add_routing(view, &host);
        }
    }
    if !units.0.is_empty() && new.key.role == Role::Sidecar {
        units.0.extend(super::all_ports(new));
        let touched: BTreeSet<u16> = units.0.iter().filter_map(Unit::port).collect();
        let named = new.egress().iter().filter_map(|l| l.port.as_ref()).map(|p| p.number);
        units.0.extend(named.filter(|number| touched.contains(number)).map(Unit::Port));
    }
    Affected::Units(units.0)
}

/// What sidecars need for requests to a host on a port, the route configurations of gateways.
#[derive(Default)]
struct Units(BTreeSet<Unit>);

impl Units {
    /// A service, and what there is on its ports because of it: what a VirtualService has there that decides over it,
    /// and wildcards, which are there only as long as they stand for no service.
    fn add_service(&mut self, view: &View<'_>, host: &Host) {
        if view.key.role == Role::Router {
            return; // At a gateway only VirtualServices have routes.
        }
        let services = view.snapshot.services_of(host).iter();
        let ports: BTreeSet<u16> = services.flat_map(|s| &s.ports).map(|p| p.number).collect();
        let wildcards = view.named_wildcards(host);
        for port in ports {
            let rules = view.on_port(port).map(|view| view.virtual_services(host)).unwrap_or_default();
            let hosts = rules.iter().flat_map(|rule| &rule.hosts).chain(wildcards.iter().copied());
            self.0.extend(std::iter::once(host).chain(hosts).map(|host| Unit::Requests(port, host.clone())));
        }
    }

    /// The services that a host stands for: their virtual hosts have its name.
    fn add_targets(&mut self, view: &View<'_>, host: &Host) {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![host.clone()]);
        while let Some(at) = todo.pop() {
            for target in view.snapshot.services_of(&at).iter().filter_map(|s| s.alias_of.as_ref()) {
                if seen.insert(target.clone()) {
                    self.add_service(view, target);
                    todo.push(target.clone());
                }
            }
        }
    }

    /// The VirtualServices that send to a host, or to a name that stands for it.
    fn add_routing(&mut self, view: &View<'_>, host: &Host) {
        let aliases = view.aliases(host);
        for host in std::iter::once(host).chain(aliases.iter().map(|a| &a.host)) {
            for rule in view.routing_to(host) {
                self.add_rule(view, rule);
            }
        }
    }

    /// What a VirtualService may decide over.
    fn add_rule(&mut self, view: &View<'_>, rule: &VirtualService) {
        if view.key.role == Role::Router {
            self.add_at_gateways(view, rule);
            return;
        }
        self.add_hosts(view, rule);
        for host in &rule.hosts {
            match host.is_wildcard() {
                false => self.add_service(view, host),
                true => view.overlapping(host).into_iter().for_each(|s| self.add_service(view, &s.host)),
            }
        }
    }

    /// The hosts of a VirtualService, on each port on which it may have virtual hosts.
    fn add_hosts(&mut self, view: &View<'_>, rule: &VirtualService) {
        let below = |host: &Host| view.overlapping(host).into_iter().map(|s| s.host.clone()).collect();
        let hosts = rule.hosts.iter().flat_map(|host| match host.is_wildcard() {
            true => below(host),
            false => vec![host.clone()],
        });
        // Which of the services of a host counts may differ from listener to listener.
        let services: Vec<_> = hosts.flat_map(|host| view.snapshot.services_of(&host)).collect();
        let services = services.into_iter();
        let ports: BTreeSet<u16> = services.flat_map(|s| &s.ports).map(|p| p.number).chain([PLAIN_HTTP]).collect();
        for host in &rule.hosts {
            self.0.extend(ports.iter().map(|port| Unit::Requests(*port, host.clone())));
        }
    }

    /// The route configurations of the servers that a VirtualService is bound to and meets.
    fn add_at_gateways(&mut self, view: &View<'_>, rule: &VirtualService) {
        let servers = view.key.entrance.iter().flat_map(|e| &e.openings).flat_map(|o| &o.servers);
        let routed = servers.filter(|s| !s.routes.is_empty() && rule.gateways.contains(&s.gateway.name()));
        let met = routed.filter(|s| !meeting(s, rule).is_empty());
        self.0.extend(met.map(|s| Unit::Name(s.routes.clone())));
    }
}

/// The hosts for which DestinationRules that differ say something else about hashes or subsets, which is all that
/// routes take from them.
fn rehashed(old: &View<'_>, new: &View<'_>, delta: &Delta) -> BTreeSet<Host> {
    let mut hosts = BTreeSet::new();
    for rule in &delta.destination_rules {
        let below = |view: &View<'_>| -> Vec<Host> {
            let routed = view.routed_hosts(&rule.host).into_iter().cloned();
            let services: Vec<Host> = match rule.host.is_wildcard() {
                true => view.services().map(|s| s.host.clone()).filter(|h| rule.host.covers(h)).collect(),
                false => vec![rule.host.clone()],
            };
            routed.chain(services).collect()
        };
        hosts.extend(below(old).into_iter().chain(below(new)));
    }
    hosts.retain(|host| said(old, host) != said(new, host));
    hosts
}

/// The fingerprint of what the DestinationRules in force say about hashes and subsets.
fn said(view: &View<'_>, host: &Host) -> u128 {
    fn hashes(policy: &TrafficPolicy) -> Vec<(u16, Option<&LoadBalancerKind>)> {
        let own = policy.load_balancer.as_ref().map(|l| &l.kind);
        let ports = policy.ports.iter().map(|(port, p)| (*port, p.load_balancer.as_ref().map(|l| &l.kind)));
        std::iter::once((0, own)).chain(ports).collect()
    }
    let namespace = view.service(host).map_or_else(|| view.key.namespace.clone(), |s| s.namespace.clone());
    let rules = view.destination_rules(host, &namespace);
    let parts: Vec<_> = rules
        .iter()
        .map(|r| {
            let subsets: Vec<_> = r.subsets.iter().map(|s| (&s.name, s.policy.as_ref().map(hashes))).collect();
            (r.policy == TrafficPolicy::default(), hashes(&r.policy), subsets)
        })
        .collect();
    fingerprint(&parts)
}
