//! Outbound routes: one RouteConfiguration for each port that has HTTP services, and one for each service whose
//! protocol is detected, put together from virtual hosts.

mod action;
mod affected;
mod cors;
mod domain;
mod fault;
mod gateway;
mod hash;
mod header;
mod matcher;
pub(super) mod place;
mod retry;
mod rule;
mod select;
mod virtual_host;

pub(super) use affected::affected;

use super::{Built, Renderer, Resource, part::Unit};
use crate::{
    id::{ObjectRef, ResourceType},
    model::{Protocol, Resolution, Role, Service},
    pb::{self, envoy::config::route::v3::RouteConfiguration},
    problem::{FieldPath, Problem},
    snapshot::View,
};
use bytes::Bytes;
use select::{Candidate, Selector};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use virtual_host::{Facade, catch_all};

/// The number of `virtual_hosts` in a RouteConfiguration.
const VIRTUAL_HOSTS: u32 = 2;
/// The largest body that a VirtualService may answer with.
const MAX_BODY: u32 = 1024 * 1024;

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    match view.key.role {
        Role::Sidecar => view.ports().map(Unit::Port).collect(),
        Role::Router => gateway::units(view),
    }
}

pub(super) fn build(view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
    match (view.key.role, unit) {
        (Role::Sidecar, Unit::Port(port)) => on_port(view, *port, renderer),
        (Role::Router, Unit::Name(name)) => gateway::build(view, name, renderer),
        _ => Built::default(),
    }
}

fn on_port(view: &View<'_>, port: u16, renderer: &dyn Renderer) -> Built {
    if port == 0 {
        return at_sockets(view, renderer);
    }
    let Some(view) = &view.on_port(port) else { return Built::default() };
    let own = view.listener.and_then(|l| l.port.as_ref()).map(|p| p.protocol);
    let services = view.services_on(port);
    let mut listening: Vec<Listening> = services.iter().filter_map(|s| listening_of(view, s, port)).collect();
    match own {
        // A listener that a Sidecar names is one for all, whatever the services speak.
        Some(own) if select::is_routed(own) && (!services.is_empty() || own == Protocol::HttpProxy) => {
            listening = vec![Listening::Together];
        }
        Some(_) => return Built::default(),
        None => {}
    }
    if listening.is_empty() {
        return Built::default();
    }
    let mut selector = Selector::new(*view, port);
    let mut candidates = selector.candidates(&services);
    let mut problems = selector.problems;
    settle(&mut candidates, port, &mut problems);
    let mut resources = Vec::new();
    if listening.contains(&Listening::Together) {
        let facades = candidates.iter().map(|c| facade(port, c, c.domains.all.clone()));
        resources.push(shared(view, port.to_string(), facades.collect(), renderer));
    }
    for candidate in candidates.iter().filter(|_| own.is_none()) {
        if candidate.service.and_then(|s| listening_of(view, s, port)) == Some(Listening::Alone) {
            resources.push(alone(port, candidate, renderer));
        }
    }
    Built { resources, problems: problems.into_iter().collect() }
}

/// The routes of the listeners at sockets of the file system: for every port of the services, which requests name.
fn at_sockets(view: &View<'_>, renderer: &dyn Renderer) -> Built {
    let mut built = Built::default();
    for listener in view.egress().iter().filter(|l| l.is_unix()) {
        let (Some(bind), Some(port)) = (&listener.bind, &listener.port) else { continue };
        let view = view.within(listener);
        if !select::is_routed(port.protocol) || view.imported_services().is_empty() {
            continue;
        }
        let mut facades = Vec::new();
        for number in view.snapshot_ports() {
            let mut selector = Selector::new(view, number);
            let services = view.services_on(number);
            let mut candidates = selector.candidates(&services);
            settle(&mut candidates, number, &mut selector.problems);
            built.problems.extend(selector.problems);
            facades.extend(candidates.iter().map(|c| {
                let with_port = c.domains.all.iter().map(|d| format!("{d}:{number}"));
                let plain = c.domains.all.iter().filter(|_| number == select::PLAIN_HTTP).cloned();
                facade(number, c, plain.chain(with_port).collect())
            }));
        }
        built.resources.push(shared(&view, bind.to_string(), facades, renderer));
    }
    built.problems.sort();
    built.problems.dedup();
    built
}

/// Which listener requests to a service come to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Listening {
    /// The one that all HTTP services of the port have together.
    Together,
    /// Its own, which tells HTTP from other protocols.
    Alone,
}

fn listening_of(view: &View<'_>, service: &Service, port: u16) -> Option<Listening> {
    let protocol = service.port(port)?.protocol;
    match protocol {
        _ if service.resolution == Resolution::Alias => None,
        Protocol::Auto if service.is_headless() || !view.addresses(service).is_empty() => Some(Listening::Alone),
        protocol => select::is_routed(protocol).then_some(Listening::Together),
    }
}

/// Gives each domain to the first that has it: a proxy refuses a RouteConfiguration with a domain twice. A short
/// name gives way to a service that really has that name.
fn settle(candidates: &mut Vec<Candidate<'_>>, port: u16, problems: &mut BTreeSet<Problem>) {
    let known: BTreeSet<String> =
        candidates.iter().filter(|c| c.service.is_some()).map(|c| c.host.to_string()).collect();
    let mut taken: BTreeMap<String, ObjectRef> = BTreeMap::new();
    for candidate in candidates.iter_mut() {
        let Some(source) = candidate.sources.first().cloned() else { continue };
        let short = std::mem::take(&mut candidate.domains.short);
        candidate.domains.all.retain(|domain| {
            if short.contains(domain) && known.contains(domain) {
                return false;
            }
            match taken.get(&domain.to_ascii_lowercase()) {
                None => {
                    taken.insert(domain.to_ascii_lowercase(), source.clone());
                    true
                }
                Some(winner) if *winner == source => false,
                Some(winner) => {
                    problems.insert(collision(&source, winner, domain, port));
                    false
                }
            }
        });
    }
    candidates.retain(|c| !c.domains.all.is_empty());
}

fn collision(loser: &ObjectRef, winner: &ObjectRef, domain: &str, port: u16) -> Problem {
    let message = format!(
        "requests for {domain} on port {port} go where {winner} says, which comes first; give the two different names \
         and addresses"
    );
    Problem::warning(loser, FieldPath::default(), message)
}

fn facade(port: u16, candidate: &Candidate<'_>, domains: Vec<String>) -> Facade {
    let name = format!("{}:{port}", domain::bracketed(&candidate.host));
    Facade { sources: candidate.sources.clone(), ..Facade::new(name, domains, candidate.routes.clone()) }
}

/// The routes that all HTTP services of a listener share.
fn shared(view: &View<'_>, name: String, facades: Vec<Facade>, renderer: &dyn Renderer) -> Arc<Resource> {
    let everything = facades.iter().any(|f| f.domains.iter().any(|d| d == "*"));
    let mut hosts: Vec<Arc<Resource>> = facades.iter().map(|f| renderer.get(f)).collect();
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    if !everything {
        hosts.push(renderer.get(&catch_all(view)));
    }
    assembled(name, &hosts)
}

/// The routes of a service that has a listener of its own.
fn alone(port: u16, candidate: &Candidate<'_>, renderer: &dyn Renderer) -> Arc<Resource> {
    let host = renderer.get(&facade(port, candidate, vec!["*".into()]));
    assembled(format!("{}:{port}", candidate.host), &[host])
}

fn assembled(name: String, hosts: &[Arc<Resource>]) -> Arc<Resource> {
    let shell = RouteConfiguration {
        name: name.clone(),
        validate_clusters: pb::boolean(false),
        max_direct_response_body_size_bytes: pb::uint32(MAX_BODY),
        ignore_port_in_host_matching: true,
        ..Default::default()
    };
    let bodies: Vec<&Bytes> = hosts.iter().map(|h| &h.body).collect();
    let body = pb::splice(&shell, VIRTUAL_HOSTS, bodies.into_iter());
    let sources: BTreeSet<ObjectRef> = hosts.iter().flat_map(|h| h.sources.iter().cloned()).collect();
    let whole = Resource::new(ResourceType::Route, name, body, sources.into_iter().collect());
    Arc::new(Resource { pieces: hosts.into(), ..whole })
}
