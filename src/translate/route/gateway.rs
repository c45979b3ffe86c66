//! Routes at gateways: the hosts of servers and those of the VirtualServices bound to them, as far as they meet.

use super::{
    apart, assembled, domain,
    rule::RuleRoutes,
    select::Selector,
    shell,
    virtual_host::{Facade, Routes},
    within,
};
use crate::{
    id::{Host, ObjectRef, Shared},
    model::VirtualService,
    problem::Problem,
    snapshot::{Placed, View},
    translate::{Built, Renderer, part::Unit},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    let servers = view.key.entrance.iter().flat_map(|e| &e.openings).flat_map(|o| &o.servers);
    servers.filter(|s| !s.routes.is_empty()).map(|s| Unit::Name(s.routes.clone())).collect()
}

pub(super) fn build(view: &View<'_>, name: &Arc<str>, renderer: &dyn Renderer) -> Built {
    let Some(entrance) = &view.key.entrance else { return Built::default() };
    let servers: Vec<&Placed> = entrance.on_route(name).collect();
    let Some(first) = servers.first() else { return Built::default() };
    let mut gathering =
        Gathering { view: *view, hosts: BTreeMap::new(), rules: BTreeMap::new(), problems: BTreeSet::new() };
    for server in &servers {
        gathering.add(server);
    }
    let alternative = servers.iter().find(|s| s.quic).map(|s| s.server().port);
    let facades = gathering.facades(alternative).into_iter().map(|f| match view.key.virtual_hosts {
        true => Facade { name: within(name, &f.name), ..f },
        false => f,
    });
    let mut hosts: Vec<_> = facades.map(|f| renderer.get(&f)).collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let resources = if hosts.is_empty() {
        // Nothing is routed, so that every request gets 404.
        let blackhole = format!("blackhole:{}", first.server().port);
        let nothing = Facade {
            attempts: false,
            ..Facade::new(view.key.headers, blackhole, vec!["*".into()], Routes::Rules(Vec::new()))
        };
        vec![assembled(name.to_string(), &[renderer.get(&nothing)], true)]
    } else if view.key.virtual_hosts {
        apart(shell(name.to_string(), true), &[], hosts)
    } else {
        vec![assembled(name.to_string(), &hosts, true)]
    };
    let problems = gathering.problems.into_iter().collect();
    Built { resources, problems, ..Built::default() }
}

/// The hosts at which servers and VirtualServices meet: those of a server that VirtualServices of the namespace may
/// serve, or those below them that a VirtualService names.
pub(super) fn meeting<'a>(placed: &'a Placed, rule: &'a VirtualService) -> Vec<&'a Host> {
    let mut out: Vec<&Host> = Vec::new();
    for own in placed.hosts.iter().filter(|h| h.is_for(rule.namespace())).map(|h| &h.host) {
        for theirs in &rule.hosts {
            let narrower = match (theirs.covers(own), own.covers(theirs)) {
                (true, _) => own,
                (_, true) => theirs,
                _ => continue,
            };
            if !out.contains(&narrower) {
                out.push(narrower);
            }
        }
    }
    out
}

/// Longer names first, wildcards last: the first of several hosts with the same routes gives them its name.
fn specificity(host: &Host) -> (bool, Reverse<usize>, Host) {
    (host.is_wildcard(), Reverse(host.len()), host.clone())
}

/// What is known of a host.
#[derive(Default)]
struct Entry {
    port: u16,
    redirect: bool,
    /// The VirtualServices, each with the gateway that it came by.
    routes: Vec<(Arc<str>, Shared<RuleRoutes>)>,
}

struct Gathering<'a> {
    view: View<'a>,
    hosts: BTreeMap<(bool, Reverse<usize>, Host), Entry>,
    rules: BTreeMap<(Arc<str>, ObjectRef), Option<Shared<RuleRoutes>>>,
    problems: BTreeSet<Problem>,
}

impl<'a> Gathering<'a> {
    fn add(&mut self, placed: &Placed) {
        let (server, gateway) = (placed.server(), placed.gateway.name());
        for rule in self.view.at_gateway(&gateway) {
            let hosts = meeting(placed, rule);
            if hosts.is_empty() {
                continue;
            }
            let Some(routes) = self.routes(rule, placed, &gateway) else { continue };
            for host in hosts {
                let entry =
                    self.hosts.entry(specificity(host)).or_insert(Entry { port: server.port, ..Entry::default() });
                entry.redirect |= server.redirect;
                // The same rules again would never be reached.
                if !entry.routes.iter().any(|(_, r)| *r == routes) {
                    entry.routes.push((gateway.clone(), routes.clone()));
                }
            }
        }
        for host in placed.hosts.iter().filter(|_| server.redirect) {
            let entry =
                self.hosts.entry(specificity(&host.host)).or_insert(Entry { port: server.port, ..Entry::default() });
            entry.redirect = true;
        }
    }

    /// The routes that a VirtualService makes at a gateway; the port is that of the first server that it came by.
    fn routes(
        &mut self,
        rule: &'a Shared<VirtualService>,
        placed: &Placed,
        gateway: &Arc<str>,
    ) -> Option<Shared<RuleRoutes>> {
        let key = (gateway.clone(), rule.source.clone());
        if let Some(known) = self.rules.get(&key) {
            return known.clone();
        }
        let server = placed.server();
        let mut selector = Selector::at_gateway(self.view, server.port, gateway.clone(), server.is_tls());
        let routes = selector.routes(rule);
        self.problems.append(&mut selector.problems);
        self.problems.extend(self.view.snapshot.wrong_behind(&rule.source).cloned());
        self.rules.insert(key, routes.clone());
        routes
    }

    /// The virtual hosts: hosts with the same routes share one.
    fn facades(&self, alternative: Option<u16>) -> Vec<Facade> {
        let mut out: Vec<Facade> = Vec::new();
        let mut at = BTreeMap::new();
        for ((_, _, host), entry) in &self.hosts {
            let domain = domain::bracketed(host);
            let routes: Vec<(Arc<str>, u128)> =
                entry.routes.iter().map(|(gateway, r)| (gateway.clone(), r.fingerprint())).collect();
            let at = *at.entry((entry.redirect, routes)).or_insert(out.len());
            if let Some(facade) = out.get_mut(at) {
                facade.domains.push(domain);
                continue;
            }
            let rules = entry.routes.iter().map(|(_, r)| r.clone()).collect();
            let name = format!("{domain}:{}", entry.port);
            let sources = entry.routes.iter().map(|(_, r)| r.rule.source.clone()).collect();
            out.push(Facade {
                redirect: entry.redirect,
                alternative,
                sources,
                ..Facade::new(self.view.key.headers, name, vec![domain], Routes::Rules(rules))
            });
        }
        out
    }
}
