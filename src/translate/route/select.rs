//! Which virtual hosts a port has, and in which order they take their domains.

use super::{
    domain::{self, Domains},
    hash, matcher, place,
    rule::{Chosen, RuleRoutes},
    virtual_host::{Routes, ServiceRoute},
};
use crate::{
    id::{Host, ObjectRef, Shared},
    model::{Destination, HttpAction, HttpMatch, HttpRule, Protocol, Resolution, Service, Undelegated, VirtualService},
    problem::{FieldPath, Problem},
    snapshot::{Precedence, View},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The port on which VirtualServices have virtual hosts for hosts that are no services.
pub(super) const PLAIN_HTTP: u16 = 80;

/// A virtual host before its domains are settled.
pub(super) struct Candidate<'a> {
    /// The host that it is for.
    pub(super) host: Host,
    /// The service of that host; `None` where only a VirtualService has it.
    pub(super) service: Option<&'a Shared<Service>>,
    /// Its domains.
    pub(super) domains: Domains,
    /// Where requests go.
    pub(super) routes: Routes,
    /// The objects that it comes from, the first of which answers for it.
    pub(super) sources: Vec<ObjectRef>,
}

/// What is selected for one port.
pub(super) struct Selector<'a> {
    view: View<'a>,
    port: u16,
    /// The gateway at which requests come, and whether over TLS; `None` for sidecars.
    gateway: Option<(Arc<str>, bool)>,
    rules: BTreeMap<&'a ObjectRef, Option<Shared<RuleRoutes>>>,
    /// What is wrong with the objects.
    pub(super) problems: BTreeSet<Problem>,
}

/// A VirtualService on a port, and the services whose requests it decides over.
struct Claim<'a> {
    rule: &'a Shared<VirtualService>,
    services: Vec<&'a Shared<Service>>,
}

type Claims<'a> = BTreeMap<Precedence<'a>, Claim<'a>>;

/// Whether requests to this port of a service are routed.
pub(super) fn is_routed(protocol: Protocol) -> bool {
    protocol.is_http() || protocol == Protocol::Auto
}

impl<'a> Selector<'a> {
    /// For one port.
    pub(super) fn new(view: View<'a>, port: u16) -> Self {
        Self { view, port, gateway: None, rules: BTreeMap::new(), problems: BTreeSet::new() }
    }

    /// For one port of a gateway (`namespace/name`) that clients speak TLS to or not.
    pub(super) fn at_gateway(view: View<'a>, port: u16, gateway: Arc<str>, tls: bool) -> Self {
        Self { gateway: Some((gateway, tls)), ..Self::new(view, port) }
    }

    /// The virtual hosts: those of VirtualServices in order of precedence, then those of the other services from
    /// the oldest.
    pub(super) fn candidates(&mut self, services: &[&'a Shared<Service>]) -> Vec<Candidate<'a>> {
        let port = self.port;
        let routed = |s: &Service| s.port(port).is_some_and(|p| is_routed(p.protocol));
        let (mut claims, mut plain) = (Claims::new(), Vec::new());
        for service in services.iter().filter(|s| routed(s)) {
            if !self.claim(service, &mut claims) && service.resolution != Resolution::Alias {
                plain.push(*service);
            }
        }
        if self.port == PLAIN_HTTP {
            for rule in self.view.all_virtual_services() {
                claims.entry(self.view.precedence(rule)).or_insert(Claim { rule, services: Vec::new() });
            }
        }
        let mut out = Vec::new();
        let mut by_rule_alone: BTreeMap<&Host, &Shared<VirtualService>> = BTreeMap::new();
        for claim in claims.values() {
            let Some(routes) = self.routes(claim.rule) else { continue };
            for (at, host) in claim.rule.hosts.iter().enumerate().filter(|(_, h)| !is_service(h, services)) {
                match by_rule_alone.get(host) {
                    Some(&winner) => self.lost(claim.rule, at, winner),
                    None => {
                        by_rule_alone.insert(host, claim.rule);
                        out.push(foreign(host, claim.rule, &routes));
                    }
                }
            }
            out.extend(claim.services.iter().map(|s| self.decided(s, claim.rule, &routes)));
        }
        out.extend(plain.into_iter().map(|s| self.undecided(s)));
        out
    }

    /// Finds the VirtualService that decides over the requests to a service. Whether there is one.
    fn claim(&mut self, service: &'a Shared<Service>, claims: &mut Claims<'a>) -> bool {
        let mut winner: Option<&'a Shared<VirtualService>> = None;
        for rule in self.view.virtual_services(&service.host) {
            let claim =
                claims.entry(self.view.precedence(rule)).or_insert_with(|| Claim { rule, services: Vec::new() });
            if self.routes(rule).is_none() {
                continue;
            }
            match winner {
                None => {
                    claim.services.push(service);
                    winner = Some(rule);
                }
                Some(winner) => {
                    let at = rule.hosts.iter().position(|h| *h == service.host).unwrap_or_default();
                    self.lost(rule, at, winner);
                }
            }
        }
        winner.is_some()
    }

    fn lost(&mut self, rule: &VirtualService, at: usize, winner: &VirtualService) {
        let message = format!(
            "{} is also a host of {}, which comes first and alone decides over it; put the rules for one host into one \
             VirtualService",
            rule.hosts[at], winner.source
        );
        self.problems.insert(Problem::warning(&rule.source, FieldPath::new("spec.hosts").index(at), message));
    }

    fn decided(
        &self,
        service: &'a Shared<Service>,
        rule: &VirtualService,
        routes: &Shared<RuleRoutes>,
    ) -> Candidate<'a> {
        Candidate {
            host: service.host.clone(),
            service: Some(service),
            domains: domain::of_service(&self.view, service),
            routes: Routes::Rule(routes.clone()),
            sources: vec![rule.source.clone(), service.source.clone()],
        }
    }

    fn undecided(&self, service: &'a Shared<Service>) -> Candidate<'a> {
        Candidate {
            host: service.host.clone(),
            service: Some(service),
            domains: domain::of_service(&self.view, service),
            routes: Routes::Service(ServiceRoute {
                host: service.host.clone(),
                port: self.port,
                hash: hash::of_service(&self.view, &service.host, self.port),
                retry: self.view.snapshot.mesh.default_retry.clone(),
            }),
            sources: vec![service.source.clone()],
        }
    }

    /// The routes that a VirtualService makes for the view's nodes on this port; `None` where it makes none.
    pub(super) fn routes(&mut self, rule: &'a Shared<VirtualService>) -> Option<Shared<RuleRoutes>> {
        if let Some(known) = self.rules.get(&rule.source) {
            return known.clone();
        }
        let whole = self.whole(rule);
        let merged = rule.delegates().next().is_some();
        let mut chosen = Vec::new();
        for (at, http) in whole.http.iter().enumerate() {
            let (conditions, last) = self.conditions(http);
            let applies = http.matches.is_empty() || !conditions.is_empty();
            if applies {
                let path = match merged {
                    true => FieldPath::new("spec.http"),
                    false => FieldPath::new("spec.http").index(at),
                };
                chosen.push(self.chosen(&whole, at, conditions, &path));
            }
            if last {
                break;
            }
        }
        let mesh = &self.view.snapshot.mesh;
        let routes = (!chosen.is_empty()).then(|| {
            Shared::new(RuleRoutes {
                rule: whole,
                chosen,
                port: self.port,
                tls: self.gateway.as_ref().is_some_and(|(_, tls)| *tls),
                retry: mesh.default_retry.clone(),
                keep_shadow_host: mesh.features.disable_shadow_host_suffix,
            })
        });
        self.rules.insert(&rule.source, routes.clone());
        routes
    }

    /// A VirtualService with what it delegates.
    fn whole(&mut self, rule: &'a Shared<VirtualService>) -> Shared<VirtualService> {
        if rule.delegates().next().is_none() {
            return rule.clone();
        }
        let view = self.view;
        let (whole, left_out) = rule.with_delegates(|to| view.delegate(rule, to).map(|d| &**d));
        for missing in left_out {
            let (at, message) = match missing {
                Undelegated::Missing { rule, to } => {
                    let which =
                        format!("no VirtualService {}/{} without hosts is seen from here", to.namespace, to.name);
                    (rule, format!("{which}, so this rule is left out; make one, or export it to this namespace"))
                }
                Undelegated::Conflict { rule, to, theirs } => {
                    let which = format!("http[{theirs}] of VirtualService {}/{}", to.namespace, to.name);
                    (rule, format!("{which} matches what this rule's match excludes, so it is left out"))
                }
            };
            let path = FieldPath::new("spec.http").index(at).field("delegate");
            self.problems.insert(Problem::warning(&rule.source, path, message));
        }
        Shared::new(whole)
    }

    /// The conditions of a rule that count for the view's nodes on this port, up to the first that takes every
    /// request; and whether that leaves nothing for later rules.
    fn conditions(&self, rule: &HttpRule) -> (Vec<usize>, bool) {
        let mut counting = Vec::new();
        for (at, condition) in rule.matches.iter().enumerate().filter(|(_, c)| self.counts(c)) {
            counting.push(at);
            if matcher::is_catch_all(condition) {
                return (counting, true);
            }
        }
        (counting, rule.matches.is_empty())
    }

    fn counts(&self, condition: &HttpMatch) -> bool {
        let client = match condition.gateways.is_empty() {
            true => self.view.is_client(&condition.source_labels, &condition.source_namespace),
            false => {
                let here = self.gateway.as_ref().map_or("mesh", |(name, _)| name);
                condition.gateways.iter().any(|g| &**g == here)
            }
        };
        client && condition.port.is_none_or(|p| p == self.port)
    }

    fn chosen(&mut self, rule: &VirtualService, at: usize, conditions: Vec<usize>, path: &FieldPath) -> Chosen {
        let http = &rule.http[at];
        let destinations: &[Destination] = match &http.action {
            HttpAction::Route(destinations) => destinations,
            _ => &[],
        };
        let mut find = |path: FieldPath, destination: &Destination| {
            let (place, wrong) = place::find(&self.view, self.port, self.gateway.is_some(), destination);
            if let Some((field, message)) = wrong {
                self.problems.insert(Problem::warning(&rule.source, path.field(field), message));
            }
            place
        };
        let route = path.field("route");
        let places = destinations.iter().enumerate();
        let places = places.map(|(i, d)| find(route.index(i).field("destination"), d)).collect();
        let mirrors = http.mirrors.iter().map(|m| find(path.field("mirror"), &m.destination)).collect();
        Chosen { rule: at, conditions, places, mirrors }
    }
}

/// Whether a VirtualService's host stands for a service on the port, or for some.
fn is_service(host: &Host, services: &[&Shared<Service>]) -> bool {
    services.iter().any(|s| match host.is_wildcard() {
        true => host.overlaps(&s.host),
        false => *host == s.host,
    })
}

/// The virtual host for a host that only a VirtualService has.
fn foreign<'a>(host: &Host, rule: &VirtualService, routes: &Shared<RuleRoutes>) -> Candidate<'a> {
    Candidate {
        host: host.clone(),
        service: None,
        domains: Domains { all: vec![domain::bracketed(host)], short: Vec::new() },
        routes: Routes::Rule(routes.clone()),
        sources: vec![rule.source.clone()],
    }
}
