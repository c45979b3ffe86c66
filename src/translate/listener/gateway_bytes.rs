//! Servers of gateways that hold no requests: connections go where VirtualServices say, or, between the networks of a
//! mesh, to the service that the name in TLS stands for.

use super::{
    connection::{counted, governed, to_destinations, wrong_places},
    gateway::{Assembly, hosts_path},
    service_port::Site,
};
use crate::{
    id::ObjectRef,
    model::{ConnectionMatch, ConnectionRule, Protocol, Resolution, ServerTlsMode, VirtualService},
    problem::FieldPath,
    snapshot::Placed,
    translate::{
        cluster::{between_networks, stat::Subject},
        filter_chain::{Chain, Match, TlsEnd},
        network_filter::Tcp,
        termination::Termination,
    },
};
use std::sync::Arc;

/// The application protocols of the mesh's own TLS.
const MESH_PROTOCOLS: &[&str] = &["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];

/// Plain connections, or TLS that ends here: the first rule for TCP that holds says where they go.
pub(super) fn ended(assembly: &mut Assembly<'_>, placed: &Placed) {
    let tls = match placed.server().tls.as_ref().map(|tls| Termination::of(assembly.view, placed, tls)).transpose() {
        Ok(tls) => tls,
        Err(problem) => return assembly.problems.push(*problem),
    };
    let gateway = placed.gateway.name();
    let decided = assembly.view.at_gateway(&gateway).into_iter().filter(|rule| meets(placed, rule)).find_map(|rule| {
        let holds = |entry: &ConnectionRule| {
            let matches = &entry.matches;
            let here = matches.is_empty() || matches.iter().any(|m| counts(m, placed, &gateway));
            here && !entry.destinations.is_empty()
        };
        Some((rule, rule.tcp.iter().position(holds)?))
    });
    let Some((rule, at)) = decided else { return };
    let names = match tls {
        Some(_) => assembly.free(placed.names(), &placed.gateway.source, &hosts_path(placed)),
        None => Some(Vec::new()),
    };
    let Some(names) = names else { return };
    let site = Site::new(assembly.view, placed.server().port);
    let path = FieldPath::new("spec.tcp").index(at);
    assembly.problems.extend(wrong_places(&site, rule, &rule.tcp[at], &path));
    let tcp = to_destinations(&site, placed.server().protocol, rule, &rule.tcp[at].destinations);
    let takes = Match { server_names: names, ..Match::default() };
    add(assembly, Chain::tcp(takes, tcp), tls, &rule.source);
}

/// TLS that goes on.
pub(super) fn passed_on(assembly: &mut Assembly<'_>, placed: &Placed) {
    if placed.server().tls.as_ref().is_some_and(|t| t.mode == ServerTlsMode::AutoPassthrough) {
        return to_any_service(assembly, placed);
    }
    let gateway = placed.gateway.name();
    let site = Site::new(assembly.view, placed.server().port);
    for rule in assembly.view.at_gateway(&gateway).into_iter().filter(|rule| meets(placed, rule)) {
        for (at, entry) in rule.tls.iter().enumerate().filter(|(_, e)| !e.destinations.is_empty()) {
            let path = FieldPath::new("spec.tls").index(at);
            let counting = entry.matches.iter().enumerate().filter(|(_, m)| counts(m, placed, &gateway));
            let mut served = false;
            for (i, condition) in counting {
                let at = path.field("match").index(i).field("sniHosts");
                let Some(names) = assembly.free(condition.names.clone(), &rule.source, &at) else { continue };
                let tcp = to_destinations(&site, placed.server().protocol, rule, &entry.destinations);
                let takes = Match { server_names: names, ..Match::default() };
                add(assembly, Chain::tcp(takes, tcp), None, &rule.source);
                served = true;
            }
            if served {
                assembly.problems.extend(wrong_places(&site, rule, entry, &path));
            }
        }
    }
}

/// A chain for each cluster whose name TLS may ask for. Only the mesh's own TLS is taken, and only endpoints that end
/// it are reached, so that nothing gets in without an identity.
fn to_any_service(assembly: &mut Assembly<'_>, placed: &Placed) {
    let view = assembly.view;
    let inside = view.services().filter(|s| !s.external && s.resolution != Resolution::Alias);
    for service in inside.filter(|s| placed.hosts.iter().any(|h| h.host.covers(&s.host))) {
        let rule = view.destination_rule(&service.host, &service.namespace).0;
        let subsets = rule.iter().flat_map(|r| &r.subsets).map(|s| s.name.clone());
        let subsets: Vec<Arc<str>> = std::iter::once(Arc::default()).chain(subsets).collect();
        for port in service.ports.iter().filter(|p| p.protocol != Protocol::Udp) {
            let site = Site::new(view, port.number);
            for subset in &subsets {
                let cluster = between_networks(port.number, subset, &service.host);
                let path = hosts_path(placed);
                let Some(names) = assembly.free(vec![cluster.as_str().into()], &placed.gateway.source, &path) else {
                    continue;
                };
                let tcp =
                    counted(view, Tcp::to(cluster), &Subject::outbound(service, subset, (port.number, &port.name)));
                let tcp = governed(&site, rule.as_deref(), subset, tcp);
                let takes = Match { server_names: names, protocols: MESH_PROTOCOLS, ..Match::default() };
                assembly.add(Chain::tcp(takes, Tcp { tunnel: None, ..tcp }), &placed.gateway.source);
            }
        }
    }
}

fn add(assembly: &mut Assembly<'_>, chain: Chain, tls: Option<Termination>, rule: &ObjectRef) {
    assembly.add(Chain { rule: Some(rule.clone()), tls: tls.map(TlsEnd::Server), ..chain }, rule);
}

/// Whether a server and a VirtualService have a host in common.
fn meets(placed: &Placed, rule: &VirtualService) -> bool {
    let mut own = placed.hosts.iter().filter(|h| h.is_for(rule.namespace()));
    own.any(|h| rule.hosts.iter().any(|theirs| theirs.overlaps(&h.host)))
}

/// Whether a condition holds at a server.
fn counts(condition: &ConnectionMatch, placed: &Placed, gateway: &Arc<str>) -> bool {
    condition.port.is_none_or(|port| port == placed.server().port)
        && (condition.gateways.is_empty() || condition.gateways.contains(gateway))
}
