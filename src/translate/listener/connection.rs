//! Where connections go that hold no requests, or none that the proxy sees: where a VirtualService says, else to the
//! service that they were made to.

use super::service_port::Site;
use crate::{
    id::{Host, ObjectRef, Shared},
    model::{
        ConnectionMatch, ConnectionRule, Destination, DestinationRule, HashKey, LoadBalancerKind, Protocol, Resolution,
        Service, ServicePort, VirtualService,
    },
    problem::{FieldPath, Problem},
    snapshot::View,
    translate::{
        access_log::AccessLog,
        cluster::{outbound_name, stat},
        dynamic_dns::{Cache, Family},
        filter_chain::{Chain, Match},
        network_filter::Tcp,
        route::place::{Wanted, resolved, wrong},
    },
};
use ipnet::IpNet;
use std::sync::Arc;

/// The chains for connections to a port of a service, and what is wrong with the rules that say where they go.
pub(super) fn chains(
    site: &Site<'_>,
    service: &Service,
    port: &ServicePort,
    takes: Match,
) -> (Vec<Chain>, Vec<Problem>) {
    let tls = port.protocol.is_tls();
    let mut routing = Routing { site, protocol: port.protocol, block: takes.prefixes.clone(), chains: Vec::new() };
    let mut problems = Vec::new();
    let mut closed = false;
    for rule in site.view.virtual_services_over(&service.host) {
        let (field, entries) = if tls { ("tls", &rule.tls) } else { ("tcp", &rule.tcp) };
        for (at, entry) in entries.iter().enumerate() {
            if closed {
                break;
            }
            let before = routing.chains.len();
            closed = if tls { routing.by_name(rule, entry) } else { routing.by_address(rule, entry) };
            if routing.chains.len() > before {
                problems.extend(wrong_places(site, rule, entry, &FieldPath::new("spec").field(field).index(at)));
            }
        }
    }
    let decided = if tls { !routing.chains.is_empty() } else { closed };
    if !decided {
        let own = Chain::tcp(takes, to_service(site, service, port));
        routing.chains.push(own);
    }
    (disjoint(routing.chains), problems)
}

/// The chains of one port while they are put together.
struct Routing<'a> {
    site: &'a Site<'a>,
    protocol: Protocol,
    /// The addresses of the service where the listener is for others too.
    block: Vec<IpNet>,
    chains: Vec<Chain>,
}

impl Routing<'_> {
    /// The chains of a rule for TLS: one for each condition. Never takes all connections.
    fn by_name(&mut self, rule: &Shared<VirtualService>, entry: &ConnectionRule) -> bool {
        for condition in entry.matches.iter().filter(|c| counts(self.site, c)) {
            let names = match condition.names.iter().any(|n| &**n == "*") {
                true => Vec::new(),
                false => condition.names.clone(),
            };
            let own = !condition.subnets.is_empty() && self.site.port != 0;
            let prefixes = if own { condition.subnets.clone() } else { self.block.clone() };
            self.add(rule, entry, Match { server_names: names, prefixes, ..Match::default() });
        }
        false
    }

    /// The chain of a rule for TCP. Whether it takes all connections that are left.
    fn by_address(&mut self, rule: &Shared<VirtualService>, entry: &ConnectionRule) -> bool {
        let counting: Vec<_> = entry.matches.iter().filter(|c| counts(self.site, c)).collect();
        let all = entry.matches.is_empty() || counting.iter().any(|c| c.subnets.is_empty() || self.site.port == 0);
        let subnets: Vec<IpNet> = counting.iter().flat_map(|c| &c.subnets).copied().collect();
        if all {
            self.add(rule, entry, Match { prefixes: self.block.clone(), ..Match::default() });
        } else if !subnets.is_empty() {
            self.add(rule, entry, Match { prefixes: subnets, ..Match::default() });
        }
        all
    }

    fn add(&mut self, rule: &Shared<VirtualService>, entry: &ConnectionRule, mut takes: Match) {
        takes.prefixes.sort();
        takes.prefixes.dedup();
        takes.server_names.sort();
        takes.server_names.dedup();
        let tcp = to_destinations(self.site, self.protocol, rule, &entry.destinations);
        self.chains.push(Chain { rule: Some(rule.source.clone()), ..Chain::tcp(takes, tcp) });
    }
}

/// The chains with each connection left to the first that takes it.
fn disjoint(chains: Vec<Chain>) -> Vec<Chain> {
    let mut out: Vec<Chain> = Vec::new();
    for chain in chains {
        let free = chain.takes.beyond(out.iter().map(|c| &c.takes));
        out.extend(free.into_iter().map(|takes| Chain { takes, ..chain.clone() }));
    }
    out
}

/// Whether a condition holds for the view's nodes and the port.
fn counts(site: &Site<'_>, condition: &ConnectionMatch) -> bool {
    let here = condition.gateways.is_empty() || condition.gateways.iter().any(|g| &**g == "mesh");
    here && site.view.is_client(&condition.source_labels, &condition.source_namespace)
        && condition.port.is_none_or(|port| port == site.port)
}

fn to_service(site: &Site<'_>, service: &Service, port: &ServicePort) -> Tcp {
    let rule = site.view.destination_rule(&service.host, &service.namespace).0;
    let number = only_port(service).unwrap_or(site.port);
    let tcp = Tcp::to(outbound_name(number, "", &service.host));
    governed(
        site,
        rule.as_deref(),
        "",
        Tcp {
            mongo: port.protocol == Protocol::Mongo,
            dynamic: (service.resolution == Resolution::DynamicDns)
                .then(|| (Cache::of(&service.host, Family::of(site.view)), number)),
            // istiod knows the number of the port alone here.
            ..counted(site.view, tcp, &stat::Subject::outbound(service, "", (number, "")))
        },
    )
}

/// Counted under the name that the mesh's pattern for outbound clusters gives, where there is one.
pub(super) fn counted(view: &View<'_>, tcp: Tcp, subject: &stat::Subject<'_>) -> Tcp {
    match &*view.snapshot.mesh.clusters.stat_name {
        "" => tcp,
        pattern => Tcp { stat_prefix: stat::expanded(pattern, subject).into(), ..tcp },
    }
}

/// The port of a service that has one port alone.
fn only_port(service: &Service) -> Option<u16> {
    match &service.ports[..] {
        [only] => Some(only.number),
        _ => None,
    }
}

/// Passes connections on to the destinations of a rule. The policy of the first one's service counts, since it holds
/// for the connection of the client.
pub(super) fn to_destinations(
    site: &Site<'_>,
    protocol: Protocol,
    rule: &VirtualService,
    destinations: &[Destination],
) -> Tcp {
    let mongo = protocol == Protocol::Mongo;
    let cluster = |d: &Destination| -> Arc<str> {
        let (host, port) = place(site.view, site.port, d);
        outbound_name(port, &d.subset, &host).into()
    };
    let service = destinations.first().and_then(|d| site.view.service(&resolved(site.view, &d.host)));
    let policy = service.and_then(|s| site.view.destination_rule(&s.host, &s.namespace).0);
    match destinations {
        [only] => {
            let mut tcp = Tcp { mongo, ..Tcp::to(cluster(only)) };
            if let Some(service) = service {
                let name = service.port(site.port).map_or("", |p| &p.name);
                let subject = stat::Subject::outbound(service, &only.subset, (site.port, name));
                tcp = counted(site.view, tcp, &stat::Subject { host: &only.host, ..subject });
            }
            governed(site, policy.as_deref(), &only.subset, tcp)
        }
        many => {
            let clusters = many.iter().filter(|d| d.weight > 0).map(|d| (cluster(d), d.weight)).collect();
            let name = format!("{}.{}", rule.source.name, rule.source.namespace);
            governed(site, policy.as_deref(), "", Tcp { mongo, clusters, weighted: true, ..Tcp::to(name) })
        }
    }
}

/// The host and port that a destination stands for.
fn place(view: &View<'_>, dialled: u16, destination: &Destination) -> (Host, u16) {
    let host = resolved(view, &destination.host);
    let only = || view.service(&host).and_then(|s| only_port(s));
    let port = destination.port.or_else(only).unwrap_or(dialled);
    (host, port)
}

/// What the policies and the proxy's own settings say of connections. Where they go to a subset, its own load balancer
/// and tunnel count.
pub(super) fn governed(site: &Site<'_>, rule: Option<&DestinationRule>, subset: &str, tcp: Tcp) -> Tcp {
    let own = site.view.key.face.as_ref().and_then(|f| f.settings.idle_timeout);
    let pool = rule.and_then(|r| r.policy.connection_pool.as_ref());
    let of_subset = rule.and_then(|r| r.subset(subset)).and_then(|s| s.policy.as_ref());
    let balancer =
        of_subset.and_then(|p| p.load_balancer.as_ref()).or(rule.and_then(|r| r.policy.load_balancer.as_ref()));
    let tunnel = match subset.is_empty() {
        true => rule.and_then(|r| r.policy.tunnel.as_ref()),
        false => of_subset.and_then(|p| p.tunnel.as_ref()),
    };
    Tcp {
        idle_timeout: pool.and_then(|p| p.tcp_idle_timeout).or(own),
        max_duration: pool.and_then(|p| p.max_connection_duration),
        hash_source_ip: matches!(
            balancer.map(|l| &l.kind),
            Some(LoadBalancerKind::Hash { key: HashKey::SourceIp, .. })
        ),
        tunnel: tunnel.cloned(),
        on_demand: site.view.key.on_demand,
        log: AccessLog::of(&site.view.snapshot.mesh),
        ..tcp
    }
}

pub(super) fn wrong_places(
    site: &Site<'_>,
    rule: &VirtualService,
    entry: &ConnectionRule,
    path: &FieldPath,
) -> Vec<Problem> {
    let one = |(at, destination): (usize, &Destination)| {
        let (host, port) = place(site.view, site.port, destination);
        let (field, message) = wrong(site.view, &Wanted { port, ..Wanted::of(&host, destination) })?;
        let path = path.field("route").index(at).field("destination").field(field);
        Some(Problem::warning(&rule.source, path, message))
    };
    entry.destinations.iter().enumerate().filter_map(one).collect()
}

/// The objects that chains come from, beside the service's.
pub(super) fn rules(chains: &[Chain]) -> impl Iterator<Item = &ObjectRef> {
    chains.iter().filter_map(|chain| chain.rule.as_ref())
}
