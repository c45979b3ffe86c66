//! Which ports' routes a change affects.

use super::{gateway::meeting, select::PLAIN_HTTP};
use crate::{
    id::{Host, fingerprint},
    model::{EgressListener, LoadBalancerKind, Role, TrafficPolicy, VirtualService},
    snapshot::{Delta, View},
    translate::part::{Affected, Unit},
};
use std::collections::BTreeSet;

/// The ports of services that differ, and of those for which they stand; those of VirtualServices that differ,
/// delegate to one that does, or send to a service that does; and those for which another hash is taken.
pub(in crate::translate) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let mut ports = Ports::default();
    for view in [old, new] {
        for host in &delta.services {
            ports.add_host(view, host);
            ports.add_targets(view, host);
            ports.add_routing(view, host);
        }
        for rule in &delta.virtual_services {
            ports.add_rule(view, rule);
            for root in view.delegating(rule) {
                ports.add_rule(view, root);
            }
        }
    }
    for host in rehashed(old, new, delta) {
        for view in [old, new] {
            ports.add_host(view, &host);
            ports.add_routing(view, &host);
        }
    }
    if !ports.0.is_empty() && new.egress().iter().any(EgressListener::is_unix) {
        ports.0.insert(Unit::Port(0));
    }
    Affected::Units(ports.0)
}

/// The ports of sidecars, the route configurations of gateways.
#[derive(Default)]
struct Ports(BTreeSet<Unit>);

impl Ports {
    /// The ports of a host's services.
    fn add_host(&mut self, view: &View<'_>, host: &Host) {
        if view.key.role == Role::Router {
            return; // At a gateway only VirtualServices have routes.
        }
        let services = view.snapshot.services_of(host).iter();
        self.0.extend(services.flat_map(|s| &s.ports).map(|p| Unit::Port(p.number)));
    }

    /// The ports of the services that a host stands for: their virtual hosts have its name.
    fn add_targets(&mut self, view: &View<'_>, host: &Host) {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![host.clone()]);
        while let Some(at) = todo.pop() {
            for target in view.snapshot.services_of(&at).iter().filter_map(|s| s.alias_of.as_ref()) {
                if seen.insert(target.clone()) {
                    self.add_host(view, target);
                    todo.push(target.clone());
                }
            }
        }
    }

    /// The ports of the VirtualServices that send to a host, or to a name that stands for it.
    fn add_routing(&mut self, view: &View<'_>, host: &Host) {
        let aliases = view.aliases(host);
        for host in std::iter::once(host).chain(aliases.iter().map(|a| &a.host)) {
            for rule in view.routing_to(host) {
                self.add_rule(view, rule);
            }
        }
    }

    /// The ports on which a VirtualService may have virtual hosts.
    fn add_rule(&mut self, view: &View<'_>, rule: &VirtualService) {
        if view.key.role == Role::Router {
            self.add_at_gateways(view, rule);
            return;
        }
        if !rule.hosts.is_empty() {
            self.0.insert(Unit::Port(PLAIN_HTTP));
        }
        for host in &rule.hosts {
            match host.is_wildcard() {
                false => self.add_host(view, host),
                true => {
                    let below = view.services().filter(|s| host.overlaps(&s.host));
                    self.0.extend(below.flat_map(|s| &s.ports).map(|p| Unit::Port(p.number)));
                }
            }
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
