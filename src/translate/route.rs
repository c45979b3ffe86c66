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
pub(super) mod retry;
mod rule;
mod select;
mod settle;
mod virtual_host;

pub(super) use affected::affected;

use super::{Built, Piece, Renderer, Resource, ads, dynamic_dns::UNKNOWN, part::Unit};
use crate::{
    id::{Host, ResourceType, fingerprint, fingerprint_bytes},
    model::{EgressListener, Protocol, Resolution, Role, Service},
    pb::{
        self,
        envoy::config::route::v3::{RouteConfiguration, Vhds},
    },
    problem::Problem,
    snapshot::{KeptHeaders, View},
};
use select::{Candidate, Selector};
use std::{collections::BTreeSet, fmt, sync::Arc};
use virtual_host::{Facade, catch_all};

/// The routes of the listener that workloads ask as a forward proxy.
pub(super) const FORWARD_PROXY: &str = "http_proxy";
/// The number of `virtual_hosts` in a RouteConfiguration.
const VIRTUAL_HOSTS: u32 = 2;
/// The largest body that a VirtualService may answer with.
const MAX_BODY: u32 = 1024 * 1024;

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    match view.key.role {
        Role::Sidecar => affected::all(view),
        Role::Router => gateway::units(view),
    }
}

pub(super) fn build(view: &View<'_>, units: BTreeSet<Unit>, renderer: &dyn Renderer) -> Vec<(Unit, Built)> {
    let mut selector: Option<Selector<'_>> = None;
    let mut one = |unit: &Unit| match (view.key.role, unit) {
        (Role::Sidecar, Unit::Requests(port, host)) => {
            if selector.as_ref().is_none_or(|s| s.port != *port) {
                selector = view.on_port(*port).map(|view| Selector::new(view, *port));
            }
            selector.as_mut().map_or_else(Built::default, |selector| requests(selector, host, renderer))
        }
        (Role::Sidecar, Unit::Name(name)) if **name == *FORWARD_PROXY && forwards(view) => {
            let rest = view.egress().iter().find(|l| l.port.is_none());
            everywhere(view, rest, name.to_string(), renderer)
        }
        (Role::Router, Unit::Name(name)) => gateway::build(view, name, renderer),
        _ => Built::default(),
    };
    units.into_iter().map(|unit| (one(&unit), unit)).map(|(built, unit)| (unit, built)).collect()
}

/// What is spoken on a port by the word of a Sidecar that names it.
fn named(view: &View<'_>) -> Option<Protocol> {
    view.listener.and_then(|l| l.port.as_ref()).map(|p| p.protocol)
}

/// What requests to a host on the selector's port need.
fn requests(selector: &mut Selector<'_>, host: &Host, renderer: &dyn Renderer) -> Built {
    let (view, port) = (selector.view, selector.port);
    let service = view.imported(host).filter(|s| s.port(port).is_some());
    let asking = match named(&view) {
        Some(protocol) if !select::is_routed(protocol) => return Built::default(),
        // A listener that a Sidecar names is one for all, whatever the services speak.
        Some(_) => service.map(|_| Listening::Together),
        None => service.and_then(|s| listening_of(&view, s, port)),
    };
    let candidate = selector.candidate(host);
    let problems: Vec<Problem> = std::mem::take(&mut selector.problems).into_iter().collect();
    if candidate.is_none() && asking.is_none() && problems.is_empty() {
        return Built::default();
    }
    let alone =
        candidate.as_ref().filter(|_| asking == Some(Listening::Alone)).map(|c| alone(&view, port, c, renderer));
    let piece = Piece {
        resource: candidate.as_ref().map(|c| renderer.get(&among_others(&view, port, c))),
        claims: candidate.iter().flat_map(|c| &c.domains.all).map(|domain| claim(domain)).collect(),
        rank: fingerprint(&candidate.map(|c| c.rank)),
        asks: asking.is_some(),
        asks_for_whole: asking == Some(Listening::Together),
        problems,
    };
    Built { resources: alone.into_iter().collect(), problems: Vec::new(), piece: Some(piece) }
}

/// The routes that all HTTP services of a port share: the virtual hosts of all hosts on it. Port 0 stands for sockets of
/// the file system.
pub(super) fn join(view: &View<'_>, port: u16, pieces: &[(&Host, &Piece)], renderer: &dyn Renderer) -> Built {
    if port == 0 {
        return at_sockets(view, renderer);
    }
    let all = view;
    let Some(view) = &view.on_port(port) else { return Built::default() };
    if named(view) == Some(Protocol::HttpProxy) {
        return everywhere(view, view.listener, port.to_string(), renderer);
    }
    // Where a Sidecar names the port, its listener for the rest may be the one that is there.
    let is_named = named(view).is_some_and(select::is_routed) && is_reached(all, port);
    if !is_named && !pieces.iter().any(|(_, piece)| piece.asks) {
        return Built::default();
    }
    let mut problems: BTreeSet<Problem> = pieces.iter().flat_map(|(_, piece)| &piece.problems).cloned().collect();
    let disputed = settle::disputed(pieces);
    let undisputed = pieces.iter().filter(|(host, _)| !disputed.contains(host));
    let mut hosts: Vec<Arc<Resource>> = undisputed.filter_map(|(_, piece)| piece.resource.clone()).collect();
    let mut selector = Selector::new(*view, port);
    let mut candidates: Vec<Candidate<'_>> = disputed.into_iter().filter_map(|host| selector.candidate(host)).collect();
    settle::settle(&mut candidates, port, &mut problems);
    hosts.extend(candidates.iter().map(|c| renderer.get(&among_others(view, port, c))));
    let everything = pieces.iter().any(|(_, piece)| piece.claims.contains(&claim("*")));
    let asked = is_named || pieces.iter().any(|(_, piece)| piece.asks_for_whole);
    let resources = match view.key.virtual_hosts {
        _ if !asked => Vec::new(),
        true => shared_apart(view, port.to_string(), hosts, everything, renderer),
        false => vec![shared(view, port.to_string(), hosts, everything, renderer)],
    };
    Built { resources, problems: problems.into_iter().collect(), piece: None }
}

/// Whether some listener lets in requests to a service on the port.
fn is_reached(view: &View<'_>, port: u16) -> bool {
    let on_port = view.egress().iter().filter(|l| l.port.as_ref().is_none_or(|own| own.number == port));
    let services = on_port.flat_map(|listener| view.within(listener).services_on(port));
    services.into_iter().any(|s| listening_of(view, s, port) == Some(Listening::Together))
}

/// The fingerprint of a domain, of which Envoy does not see the case.
fn claim(domain: &str) -> u64 {
    fingerprint_bytes(domain.to_ascii_lowercase().as_bytes())
}

/// The units of the listeners whose requests may be for any port.
fn all_ports(view: &View<'_>) -> impl Iterator<Item = Unit> {
    let of_all = view.egress().iter().filter(|l| l.takes_all_ports()).filter_map(|l| l.port.as_ref());
    let named = of_all.map(|port| Unit::Port(port.number));
    named.chain(forwards(view).then(|| Unit::Name(FORWARD_PROXY.into())))
}

/// Whether there is a listener for clients that name the proxy as their HTTP proxy.
fn forwards(view: &View<'_>) -> bool {
    view.key.forward_proxy || view.snapshot.mesh.http_proxy_port != 0
}

/// The routes of the listeners at sockets of the file system.
fn at_sockets(view: &View<'_>, renderer: &dyn Renderer) -> Built {
    let mut built = Built::default();
    for listener in view.egress().iter().filter(|l| l.is_unix()) {
        let (Some(bind), Some(port)) = (&listener.bind, &listener.port) else { continue };
        if select::is_routed(port.protocol) && !view.within(listener).imported_services().is_empty() {
            let Built { resources, problems, .. } = everywhere(view, Some(listener), bind.to_string(), renderer);
            built.resources.extend(resources);
            built.problems.extend(problems);
        }
    }
    built.problems.sort();
    built.problems.dedup();
    built
}

/// The routes of a listener for every port of the services that it lets in: requests name the port.
fn everywhere(view: &View<'_>, listener: Option<&EgressListener>, name: String, renderer: &dyn Renderer) -> Built {
    let mut problems = BTreeSet::new();
    let mut facades: Vec<Facade> = Vec::new();
    if let Some(listener) = listener {
        let view = view.within(listener);
        for number in view.snapshot_ports() {
            let mut selector = Selector::new(view, number);
            let mut candidates = selector.candidates();
            settle::settle(&mut candidates, number, &mut selector.problems);
            problems.extend(selector.problems);
            facades.extend(candidates.iter().map(|c| {
                let with_port = c.domains.all.iter().map(|d| format!("{d}:{number}"));
                let plain = c.domains.all.iter().filter(|_| number == select::PLAIN_HTTP).cloned();
                facade(&view, number, c, plain.chain(with_port).collect())
            }));
        }
    }
    let everything = facades.iter().any(|f| f.domains.iter().any(|d| d == "*"));
    let hosts = with_rest(view, facades.iter().map(|f| renderer.get(f)).collect(), everything, renderer);
    let resources = vec![assembled(name, &hosts, false)];
    Built { resources, problems: problems.into_iter().collect(), ..Built::default() }
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

fn facade(view: &View<'_>, port: u16, candidate: &Candidate<'_>, domains: Vec<String>) -> Facade {
    let name = format!("{}:{port}", domain::bracketed(&candidate.host));
    Facade {
        sources: candidate.sources.clone(),
        ..Facade::new(view.key.headers, name, domains, candidate.routes.clone())
    }
}

/// The virtual host of a candidate among the others of its port. Where it is a resource of its own its name starts with
/// that of the route configuration, both as a resource, by which Envoy finds the one, and in the message, by which it
/// takes it away again.
fn among_others(view: &View<'_>, port: u16, candidate: &Candidate<'_>) -> Facade {
    let mut facade = facade(view, port, candidate, candidate.domains.all.clone());
    if view.key.virtual_hosts {
        facade.name = within(port, &facade.name);
    }
    facade
}

/// The name of a virtual host that is a resource of its own.
fn within(routes: impl fmt::Display, name: &str) -> String {
    format!("{routes}/{name}")
}

/// The routes that all HTTP services of a listener share; `everything` where one of them takes every request.
fn shared(
    view: &View<'_>,
    name: String,
    hosts: Vec<Arc<Resource>>,
    everything: bool,
    renderer: &dyn Renderer,
) -> Arc<Resource> {
    assembled(name, &with_rest(view, hosts, everything, renderer), true)
}

/// The same with virtual hosts that are resources of their own, but for the one for requests that none of them is for.
/// Where they are fetched on demand that one is, too: a request for which there is a virtual host fetches none. Then
/// hosts are told apart as requests write them, ports among them, since they are fetched so.
fn shared_apart(
    view: &View<'_>,
    name: String,
    mut hosts: Vec<Arc<Resource>>,
    everything: bool,
    renderer: &dyn Renderer,
) -> Vec<Arc<Resource>> {
    let on_demand = view.key.on_demand;
    if on_demand && !everything {
        let rest = catch_all(view);
        hosts.push(renderer.get(&Facade { name: within(&name, &rest.name), ..rest }));
    }
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    let rest = with_rest(view, Vec::new(), everything || on_demand, renderer);
    apart(shell(name, !on_demand), &rest, hosts)
}

/// A route configuration with some virtual hosts in it, and the others behind it.
fn apart(shell: RouteConfiguration, within: &[Arc<Resource>], hosts: Vec<Arc<Resource>>) -> Vec<Arc<Resource>> {
    let vhds = Some(Vhds { config_source: Some(ads()) });
    let routes = with_hosts(RouteConfiguration { vhds, ..shell }, within);
    std::iter::once(routes).chain(hosts).collect()
}

/// The virtual hosts in order, and the one for requests that none of them is for.
fn with_rest(
    view: &View<'_>,
    mut hosts: Vec<Arc<Resource>>,
    everything: bool,
    renderer: &dyn Renderer,
) -> Vec<Arc<Resource>> {
    hosts.sort_by(|a, b| a.name.cmp(&b.name));
    if !everything {
        hosts.push(renderer.get(&catch_all(view)));
    }
    hosts
}

/// The routes of requests whose hosts no service is known for, and which go where these resolve to.
pub(super) fn unresolved(headers: KeptHeaders) -> RouteConfiguration {
    let host = virtual_host::unknown_to(headers, Some(UNKNOWN.into())).message();
    RouteConfiguration { virtual_hosts: vec![host], ..shell("allow_any_dynamic_dns".into(), true) }
}

/// The routes of a service that has a listener of its own.
fn alone(view: &View<'_>, port: u16, candidate: &Candidate<'_>, renderer: &dyn Renderer) -> Arc<Resource> {
    let host = renderer.get(&facade(view, port, candidate, vec!["*".into()]));
    assembled(format!("{}:{port}", candidate.host), &[host], true)
}

/// A route configuration without virtual hosts; the ports that requests name may be passed over.
fn shell(name: String, ignore_port: bool) -> RouteConfiguration {
    RouteConfiguration {
        name,
        validate_clusters: pb::boolean(false),
        max_direct_response_body_size_bytes: pb::uint32(MAX_BODY),
        ignore_port_in_host_matching: ignore_port,
        ..Default::default()
    }
}

fn assembled(name: String, hosts: &[Arc<Resource>], ignore_port: bool) -> Arc<Resource> {
    with_hosts(shell(name, ignore_port), hosts)
}

fn with_hosts(shell: RouteConfiguration, hosts: &[Arc<Resource>]) -> Arc<Resource> {
    let body = pb::splice(&shell, VIRTUAL_HOSTS, hosts.iter().map(|h| &h.body));
    Arc::new(Resource { pieces: hosts.into(), ..Resource::new(ResourceType::Route, shell.name, body, Vec::new()) })
}
