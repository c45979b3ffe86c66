//! The listeners of gateways: one for each port and address that the Gateways open, with a filter chain for plain
//! connections or one for each server that clients name in TLS (Istio: `pilot/pkg/networking/core/gateway.go`).

use super::{ACCEPT_AT_ONCE, bound, exact_balance, inspector, outbound::listener_name, wildcards};
use crate::{
    id::{Host, ObjectRef, ResourceType, Shared},
    model::{Protocol, ServerTlsMode},
    pb::{
        self,
        envoy::config::{
            core::v3::{SocketAddress, TrafficDirection, UdpSocketConfig, address, socket_address},
            listener::v3::{Listener, QuicProtocolOptions, UdpListenerConfig},
        },
    },
    problem::{FieldPath, Problem},
    snapshot::{Delta, Opening, Placed, View},
    translate::{
        Built, Input, Renderer, Resource,
        access_log::AccessLog,
        connection_manager::{Manager, Routes, Settings},
        filter_chain::{Chain, Filters, Match, TlsEnd},
        guard::{self, Guard},
        part::{Affected, Unit},
        termination::Termination,
    },
};
use bytes::Bytes;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The number of `filter_chains` in a Listener.
const FILTER_CHAINS: u32 = 3;

pub(in crate::translate) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    openings(view).map(|o| Unit::Name(name(view, o).into())).chain([Unit::Fixed]).collect()
}

/// The listeners that show where connections go: those of VirtualServices that differ or delegate to one that does, or
/// send to a service that does; and where TLS passes to any service, all that differs. What is opened is in the key.
pub(in crate::translate) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let mut gateways: BTreeSet<&Arc<str>> = delta.virtual_services.iter().flat_map(|r| &r.gateways).collect();
    let differ = !delta.services.is_empty() || !delta.destination_rules.is_empty();
    for view in [old, new] {
        let mut hosts: BTreeSet<&Host> = delta.services.iter().collect();
        hosts.extend(delta.destination_rules.iter().flat_map(|rule| view.routed_hosts(&rule.host)));
        let aliases: Vec<_> = hosts.iter().flat_map(|host| view.aliases(host)).map(|s| &s.host).collect();
        hosts.extend(aliases);
        gateways.extend(hosts.into_iter().flat_map(|host| view.routing_to(host)).flat_map(|r| &r.gateways));
    }
    let shows = |placed: &Placed| {
        let auto = placed.server().tls.as_ref().is_some_and(|t| t.mode == ServerTlsMode::AutoPassthrough);
        (auto && differ) || (!placed.server().is_http() && gateways.contains(&placed.gateway.name()))
    };
    let listeners = openings(new).filter(|o| o.servers.iter().any(shows));
    Affected::Units(listeners.map(|o| Unit::Name(name(new, o).into())).collect())
}

pub(in crate::translate) fn build(view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
    match unit {
        Unit::Fixed => {
            let problems = view.key.entrance.iter().flat_map(|e| e.problems.iter().cloned());
            Built { problems: problems.chain(guard::problems(view)).collect(), ..Built::default() }
        }
        Unit::Name(wanted) => match openings(view).find(|o| *name(view, o) == **wanted) {
            Some(opening) => Assembly::new(view, opening, Guard::of(view, renderer)).build(renderer),
            None => Built::default(),
        },
        _ => Built::default(),
    }
}

fn openings<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Opening> + use<'a> {
    view.key.entrance.iter().flat_map(|e| &e.openings)
}

fn addresses(view: &View<'_>, opening: &Opening) -> Vec<Arc<str>> {
    match &opening.bind {
        Some(address) => vec![address.clone()],
        None => wildcards(view),
    }
}

fn name(view: &View<'_>, opening: &Opening) -> String {
    listener_name(&addresses(view, opening), opening.port)
}

/// The listeners of one port while they are put together.
pub(super) struct Assembly<'a> {
    pub(super) view: &'a View<'a>,
    pub(super) opening: &'a Opening,
    addresses: Vec<Arc<str>>,
    settings: Shared<Settings>,
    guard: Guard,
    /// The names that a chain takes, and the object that has each: a proxy refuses a listener with one twice.
    taken: BTreeMap<Arc<str>, ObjectRef>,
    chains: Vec<GatewayChain>,
    quic: Vec<GatewayChain>,
    pub(super) problems: Vec<Problem>,
}

impl<'a> Assembly<'a> {
    fn new(view: &'a View<'a>, opening: &'a Opening, guard: Guard) -> Self {
        Self {
            view,
            opening,
            addresses: addresses(view, opening),
            settings: Settings::of(view),
            guard,
            taken: BTreeMap::new(),
            chains: Vec::new(),
            quic: Vec::new(),
            problems: Vec::new(),
        }
    }

    fn build(mut self, renderer: &dyn Renderer) -> Built {
        let opening = self.opening;
        let mut plain = false;
        for placed in &opening.servers {
            match placed.server() {
                server if server.protocol.is_http() => {
                    // All plain servers of a port share one chain and its routes.
                    if !std::mem::replace(&mut plain, true) {
                        self.requests(placed, None);
                    }
                }
                server if server.is_http() => self.secured(placed),
                server if !server.passes_through() => super::gateway_bytes::ended(&mut self, placed),
                _ => super::gateway_bytes::passed_on(&mut self, placed),
            }
        }
        let mut resources = Vec::new();
        for (quic, chains) in [(false, &self.chains), (true, &self.quic)] {
            if !chains.is_empty() {
                resources.push(self.listener(chains, quic, renderer));
            }
        }
        Built { resources, problems: self.problems, ..Built::default() }
    }

    /// The chain for requests over TLS that ends here.
    fn secured(&mut self, placed: &Placed) {
        let Some(tls) = &placed.server().tls else { return };
        match Termination::of(self.view, placed, tls) {
            Ok(termination) => self.requests(placed, Some(termination)),
            Err(problem) => self.problems.push(*problem),
        }
    }

    fn requests(&mut self, placed: &Placed, tls: Option<Termination>) {
        let own = tls.as_ref().map(|_| placed.server().name.clone()).filter(|n| !n.is_empty());
        let manager = |quic| Manager {
            settings: self.settings.clone(),
            stat_prefix: own.clone().unwrap_or_else(|| self.statistics(quic).into()),
            routes: Routes::Gateway { name: placed.routes.clone(), marked: own.is_none(), quic },
            grpc_web: placed.server().protocol == Protocol::GrpcWeb,
            dynamic: Vec::new(),
            guard: self.guard.clone(),
            absolute_urls: false,
        };
        let quic = placed.quic.then(|| manager(true));
        let manager = manager(false);
        let names = match tls {
            Some(_) => self.free(placed.names(), &placed.gateway.source, &hosts_path(placed)),
            None => Some(Vec::new()),
        };
        let Some(names) = names else { return };
        let source = placed.gateway.source.clone();
        let takes = Match { server_names: names, ..Match::default() };
        if let (Some(manager), Some(tls)) = (quic, &tls) {
            let tls = Some(TlsEnd::Server(tls.clone().over_quic()));
            let chain = Chain { tls, ..Chain::http(takes.clone(), manager) };
            self.quic.push(GatewayChain { chain, source: source.clone() });
        }
        let chain = Chain { tls: tls.map(TlsEnd::Server), ..Chain::http(takes, manager) };
        self.chains.push(GatewayChain { chain, source });
    }

    /// Those of a chain's names that no earlier chain has; `None` where none is left. `*` is for all names, which a
    /// chain says by naming none.
    pub(super) fn free(&mut self, names: Vec<Arc<str>>, source: &ObjectRef, path: &FieldPath) -> Option<Vec<Arc<str>>> {
        let all = names.iter().any(|n| &**n == "*");
        let names = if all { vec!["*".into()] } else { names };
        let mut free = Vec::new();
        for name in names {
            match self.taken.get(&name) {
                Some(winner) => {
                    let why = format!(
                        "TLS clients that ask for {name} on port {} come to {winner}, which comes first; leave the \
                         name out here or there",
                        self.opening.port
                    );
                    self.problems.push(Problem::warning(source, path.clone(), why));
                }
                None => {
                    self.taken.insert(name.clone(), source.clone());
                    free.push(name);
                }
            }
        }
        match free.is_empty() {
            true => None,
            false => Some(if all { Vec::new() } else { free }),
        }
    }

    /// Adds a chain that passes connections on.
    pub(super) fn add(&mut self, mut chain: Chain, source: &ObjectRef) {
        if let Filters::Tcp(tcp) = &mut chain.filters {
            tcp.guard = self.guard.clone();
        }
        self.chains.push(GatewayChain { chain, source: source.clone() });
    }

    fn statistics(&self, quic: bool) -> String {
        format!("outbound_{}", self.name(quic))
    }

    fn name(&self, quic: bool) -> String {
        format!("{}{}", if quic { "udp_" } else { "" }, listener_name(&self.addresses, self.opening.port))
    }

    fn listener(&self, chains: &[GatewayChain], quic: bool, renderer: &dyn Renderer) -> Arc<Resource> {
        let mesh = &self.view.snapshot.mesh;
        let input = Shell {
            name: self.name(quic),
            addresses: self.addresses.clone(),
            port: self.opening.port,
            quic,
            inspects: !quic && chains.iter().any(|c| c.chain.tls.is_some() || !c.chain.takes.server_names.is_empty()),
            proxy_protocol: !quic && self.settings.takes_proxy_protocol(),
            exact_balance: self.view.key.face.as_ref().is_some_and(|f| f.settings.outbound_exact_balance),
            log: AccessLog::of(mesh),
            buffer_limit: self.settings.buffer_limit(),
            chains: chains.iter().map(|chain| renderer.get(chain)).collect(),
            sources: chains
                .iter()
                .map(|chain| chain.source.clone())
                .chain(self.guard.sources.iter().cloned())
                .collect(),
        };
        renderer.get(&input)
    }
}

pub(super) fn hosts_path(placed: &Placed) -> FieldPath {
    FieldPath::new("spec.servers").index(placed.at).field("hosts")
}

/// One filter chain: the unit that is rendered and kept.
#[derive(Hash)]
struct GatewayChain {
    chain: Chain,
    source: ObjectRef,
}

impl Input for GatewayChain {
    fn render(&self) -> Resource {
        let chain = self.chain.render();
        let guard = match &self.chain.filters {
            Filters::Tcp(tcp) => &tcp.guard,
            Filters::Http(manager) => &manager.guard,
        };
        let pieces = guard.pieces().collect();
        Resource {
            pieces,
            ..Resource::new(ResourceType::Listener, "", chain.encode_to_vec(), vec![self.source.clone()])
        }
    }
}

/// Everything that a listener is made from.
#[derive(Hash)]
struct Shell {
    name: String,
    addresses: Vec<Arc<str>>,
    port: u16,
    quic: bool,
    inspects: bool,
    proxy_protocol: bool,
    exact_balance: bool,
    log: Option<AccessLog>,
    /// The most bytes that a connection holds back.
    buffer_limit: Option<u32>,
    chains: Vec<Arc<Resource>>,
    /// The objects that it comes from, which equal chains may differ in.
    sources: BTreeSet<ObjectRef>,
}

impl Input for Shell {
    fn render(&self) -> Resource {
        let (mut address, mut additional_addresses) = bound(&self.addresses, self.port);
        if self.quic {
            let all = address.iter_mut().chain(additional_addresses.iter_mut().filter_map(|a| a.address.as_mut()));
            all.for_each(|a| {
                if let Some(address::Address::SocketAddress(SocketAddress { protocol, .. })) = &mut a.address {
                    *protocol = socket_address::Protocol::Udp.into();
                }
            });
        }
        let message = Listener {
            name: self.name.clone(),
            address,
            additional_addresses,
            listener_filters: (self.proxy_protocol.then(inspector::proxy_protocol).into_iter())
                .chain(self.inspects.then(inspector::tls))
                .collect(),
            traffic_direction: TrafficDirection::Outbound.into(),
            max_connections_to_accept_per_socket_event: pb::uint32(ACCEPT_AT_ONCE),
            connection_balance_config: (self.exact_balance && !self.quic).then(exact_balance),
            per_connection_buffer_limit_bytes: self.buffer_limit.and_then(pb::uint32),
            access_log: self.log.iter().filter_map(AccessLog::of_listener).collect(),
            udp_listener_config: self.quic.then(|| UdpListenerConfig {
                quic_options: Some(QuicProtocolOptions::default()),
                downstream_socket_config: Some(UdpSocketConfig::default()),
                ..Default::default()
            }),
            ..Default::default()
        };
        let bodies: Vec<&Bytes> = self.chains.iter().map(|c| &c.body).collect();
        let body = pb::splice(&message, FILTER_CHAINS, bodies.into_iter());
        let sources = self.sources.iter().cloned().collect();
        let pieces = self.chains.clone().into();
        Resource { pieces, ..Resource::new(ResourceType::Listener, self.name.as_str(), body, sources) }
    }
}
