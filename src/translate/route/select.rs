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
    snapshot::View,
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
    /// Its rank among those that claim the same domains.
    pub(super) rank: Rank,
}

/// Who takes a domain: those that a VirtualService decides over in its order of precedence, what it has alone before
/// services, and then the other services from the oldest.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Rank {
    scope: u8,
    rule: Age,
    /// Which of the VirtualService's hosts.
    host: usize,
    service: Age,
}

/// When an object was created, and its name and namespace.
type Age = (i64, Arc<str>, Arc<str>);

fn age(service: &Service) -> Age {
    (service.created, service.name.clone(), service.namespace.shared())
}

/// What is selected for one port.
pub(super) struct Selector<'a> {
    pub(super) view: View<'a>,
    pub(super) port: u16,
    /// The gateway at which requests come, and whether over TLS; `None` for sidecars.
    gateway: Option<(Arc<str>, bool)>,
    rules: BTreeMap<&'a ObjectRef, (Option<Shared<RuleRoutes>>, BTreeSet<Problem>)>,
    broad: Option<BTreeSet<&'a ObjectRef>>,
    /// What is wrong with the objects.
    pub(super) problems: BTreeSet<Problem>,
}

/// Whether requests to this port of a service are routed.
pub(super) fn is_routed(protocol: Protocol) -> bool {
    protocol.is_http() || protocol == Protocol::Auto
}

impl<'a> Selector<'a> {
    /// For one port.
    pub(super) fn new(view: View<'a>, port: u16) -> Self {
        Self { view, port, gateway: None, rules: BTreeMap::new(), broad: None, problems: BTreeSet::new() }
    }

    /// For one port of a gateway (`namespace/name`) that clients speak TLS to or not.
    pub(super) fn at_gateway(view: View<'a>, port: u16, gateway: Arc<str>, tls: bool) -> Self {
        Self { gateway: Some((gateway, tls)), ..Self::new(view, port) }
    }

    /// All virtual hosts of the port.
    pub(super) fn candidates(&mut self) -> Vec<Candidate<'a>> {
        let view = self.view;
        let mut hosts: BTreeSet<&Host> = view.services_on(self.port).into_iter().map(|s| &s.host).collect();
        hosts.extend(view.all_virtual_services().flat_map(|rule| &rule.hosts));
        hosts.into_iter().filter_map(|host| self.candidate(host)).collect()
    }

    /// The virtual host for requests to a host: that of the service of this name, which a VirtualService may decide
    /// over, or what a VirtualService says alone.
    pub(super) fn candidate(&mut self, host: &Host) -> Option<Candidate<'a>> {
        let service = self.view.imported(host).filter(|s| s.port(self.port).is_some());
        let routed = service.filter(|s| self.is_routed(s));
        let rules = match routed {
            Some(service) => self.view.virtual_services(&service.host),
            None => self.view.naming(host).into_iter().filter(|rule| self.has_effect(rule)).collect(),
        };
        let routes: Vec<_> = rules.into_iter().filter_map(|rule| Some((rule, self.routes(rule)?))).collect();
        if routed.is_none() && (service.is_some() || self.stands_for_services(host)) {
            return None;
        }
        let at = |rule: &VirtualService| rule.hosts.iter().position(|h| h == host).unwrap_or_default();
        let Some((winner, winning)) = routes.first() else {
            return routed.filter(|s| s.resolution != Resolution::Alias).map(|s| self.undecided(s));
        };
        for (rule, _) in &routes[1..] {
            self.lost(rule, at(rule), winner);
        }
        Some(match routed {
            Some(service) => self.decided(service, winner, winning),
            None => self.foreign(host, at(winner), winner, winning),
        })
    }

    fn is_routed(&self, service: &Service) -> bool {
        service.port(self.port).is_some_and(|p| is_routed(p.protocol))
    }

    /// Whether a VirtualService has virtual hosts on the port at all: it does where it is for some service there.
    fn has_effect(&mut self, rule: &VirtualService) -> bool {
        let on_port = |host: &Host| self.view.imported(host).is_some_and(|s| self.is_routed(s));
        self.port == PLAIN_HTTP
            || rule.hosts.iter().any(|h| !h.is_wildcard() && on_port(h))
            || rule.hosts.iter().any(Host::is_wildcard) && self.broad().contains(&rule.source)
    }

    /// The VirtualServices that decide over some service on the port.
    fn broad(&mut self) -> &BTreeSet<&'a ObjectRef> {
        let (view, port) = (self.view, self.port);
        self.broad.get_or_insert_with(|| {
            let routed = |s: &&&Shared<Service>| s.port(port).is_some_and(|p| is_routed(p.protocol));
            let services = view.services_on(port);
            services.iter().filter(routed).flat_map(|s| view.virtual_services(&s.host)).map(|r| &r.source).collect()
        })
    }

    /// Whether a wildcard stands for some service on the port, so that there is no virtual host of that name.
    fn stands_for_services(&self, host: &Host) -> bool {
        host.is_wildcard() && self.view.overlapping(host).iter().any(|s| s.port(self.port).is_some())
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
            rank: Rank { service: age(service), ..self.rank(rule) },
        }
    }

    /// The virtual host for a host that only a VirtualService has.
    fn foreign(&self, host: &Host, at: usize, rule: &VirtualService, routes: &Shared<RuleRoutes>) -> Candidate<'a> {
        Candidate {
            host: host.clone(),
            service: None,
            domains: Domains { all: vec![domain::bracketed(host)], short: Vec::new() },
            routes: Routes::Rule(routes.clone()),
            sources: vec![rule.source.clone()],
            rank: Rank { host: at, ..self.rank(rule) },
        }
    }

    fn rank(&self, rule: &VirtualService) -> Rank {
        let (scope, (created, name, namespace)) = self.view.precedence(rule);
        Rank { scope, rule: (created, name.into(), namespace.into()), host: usize::MAX, service: Age::default() }
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
            rank: Rank { scope: u8::MAX, rule: Age::default(), host: usize::MAX, service: age(service) },
        }
    }

    /// The routes that a VirtualService makes for the view's nodes on this port; `None` where it makes none.
    pub(super) fn routes(&mut self, rule: &'a Shared<VirtualService>) -> Option<Shared<RuleRoutes>> {
        if let Some((known, problems)) = self.rules.get(&rule.source) {
            self.problems.extend(problems.iter().cloned());
            return known.clone();
        }
        let before = std::mem::take(&mut self.problems);
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
                forwarded_host: self.view.key.headers.forwarded_host,
                keep_shadow_host: mesh.features.disable_shadow_host_suffix,
            })
        });
        let problems = std::mem::replace(&mut self.problems, before);
        self.problems.extend(problems.iter().cloned());
        self.rules.insert(&rule.source, (routes.clone(), problems));
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
