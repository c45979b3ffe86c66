//! Outbound listeners: one for each port, or address and port, that services have, and the one that captured traffic
//! arrives at.

use super::{
    ACCEPT_AT_ONCE, bound,
    collision::{Entry, Outcome, Wanted},
    exact_balance, inspector, loopbacks, reserved,
    service_port::Site,
    virtual_outbound::{VirtualOutbound, unknown},
};
use crate::{
    id::{Host, ObjectRef, ResourceType, Shared},
    model::{Protocol, Resolution, Role, Service, ServicePort, TargetPort},
    pb::{
        self,
        envoy::config::{
            core::v3::TrafficDirection,
            listener::v3::{FilterChain, FilterChainMatch, Listener},
        },
    },
    problem::{FieldPath, Problem},
    snapshot::{Delta, View},
    translate::{
        Built, Input, Renderer, Resource,
        connection_manager::{Manager, Routes, Settings},
        dynamic_dns::{Cache, Family},
        filter_chain::{Chain, Match},
        guard::Guard,
        network_filter::Tcp,
        part::{Affected, Unit},
        route::FORWARD_PROXY,
    },
};
use prost::Message;
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

pub(in crate::translate) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    view.ports().map(Unit::Port).chain([Unit::Fixed]).collect()
}

/// The ports of the services that differ, or whose endpoints or DestinationRules do where a listener shows them; and
/// of those to which connections go where a VirtualService says that differs, or that sends to such a service.
pub(in crate::translate) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let mut ports = BTreeSet::new();
    let mut destinations: BTreeSet<Host> = delta.services.clone();
    let both = |host: &Host| -> Vec<&Service> {
        [old, new].into_iter().flat_map(|v| v.snapshot.services_of(host)).map(|s| &**s).collect()
    };
    let bytes = |service| byte_ports(new, service);
    for host in &delta.services {
        ports.extend(both(host).into_iter().flat_map(|s| &s.ports).map(|p| p.number));
    }
    for key in delta.endpoints.keys() {
        ports.extend(both(&key.host).into_iter().filter(|s| s.dials_endpoints()).flat_map(bytes));
    }
    for rule in &delta.destination_rules {
        let all = |view: &View<'_>| view.services().map(|s| s.host.clone()).collect::<Vec<Host>>();
        let hosts = match rule.host.is_wildcard() {
            false => vec![rule.host.clone()],
            true => [old, new].into_iter().flat_map(all).filter(|host| rule.host.covers(host)).collect(),
        };
        ports.extend(hosts.iter().flat_map(both).flat_map(bytes));
        destinations.extend(hosts);
    }
    for view in [old, new] {
        let sending = destinations.iter().flat_map(|host| {
            let aliases = view.aliases(host);
            let hosts = std::iter::once(host).chain(aliases.iter().map(|a| &a.host));
            hosts.flat_map(|host| view.routing_to(host)).collect::<Vec<_>>()
        });
        for rule in delta.virtual_services.iter().chain(sending).filter(|r| r.connections().next().is_some()) {
            let over = rule.hosts.iter().flat_map(|host| view.overlapping(host));
            ports.extend(over.flat_map(|s| both(&s.host)).flat_map(bytes));
        }
    }
    if !ports.is_empty() {
        // Those that let in services whatever their ports are.
        let of_all = new.egress().iter().filter(|l| l.takes_all_ports());
        ports.extend(of_all.filter_map(|l| l.port.as_ref()).map(|port| port.number));
    }
    Affected::Units(ports.into_iter().map(Unit::Port).collect())
}

/// The ports of a service that do not hold requests alone, by its own word or by that of a Sidecar.
fn byte_ports<'a>(view: &View<'a>, service: &'a Service) -> impl Iterator<Item = u16> + use<'a> {
    let egress = view.egress();
    let named = move |number| {
        let mut ports = egress.iter().filter_map(|l| l.port.as_ref());
        ports.any(|port| port.number == number && !port.protocol.is_http())
    };
    service.ports.iter().filter(move |p| !p.protocol.is_http() || named(p.number)).map(|p| p.number)
}

pub(in crate::translate) fn build(view: &View<'_>, unit: &Unit, renderer: &dyn Renderer) -> Built {
    match unit {
        _ if view.key.role != Role::Sidecar => Built::default(),
        Unit::Fixed => fixed(view, renderer),
        Unit::Port(port) => on_port(view, *port, renderer),
        Unit::Host(_) | Unit::Name(_) | Unit::Requests(..) => Built::default(),
    }
}

fn fixed(view: &View<'_>, renderer: &dyn Renderer) -> Built {
    let captured = VirtualOutbound::select(view).map(|input| renderer.get(&input));
    let asked = forward_proxy(view).map(|input| renderer.get(&input));
    Built { resources: captured.into_iter().chain(asked).collect(), ..Built::default() }
}

/// The listener that workloads ask as a forward proxy.
fn forward_proxy(view: &View<'_>) -> Option<Outbound> {
    let own = view.key.face.as_ref().map_or(0, |f| f.settings.http_proxy_port);
    let port = if own == 0 { view.snapshot.mesh.http_proxy_port } else { own };
    let addresses = loopbacks(view);
    let manager = Manager {
        settings: Settings::of(view),
        stat_prefix: format!("outbound_{}", listener_name(&addresses, port)).into(),
        routes: Routes::Named(FORWARD_PROXY.into()),
        grpc_web: false,
        dynamic: Cache::of_unknown(view).into_iter().collect(),
        guard: Guard::default(),
        absolute_urls: true,
    };
    let entry = (addresses, vec![Chain::http(Match::default(), manager)]);
    (port != 0).then(|| Outbound::new(view, port, entry, true, Vec::new()))
}

/// The listeners on a port: those that a Sidecar names there, then those of the services' own.
fn on_port(view: &View<'_>, port: u16, renderer: &dyn Renderer) -> Built {
    let mut here = Here::default();
    for (at, listener) in view.egress().iter().enumerate() {
        match &listener.port {
            Some(own) if own.number != port => continue,
            None if port == 0 => continue,
            // What is named goes before what follows from the services, which adds nothing to it.
            None => here.entries.values_mut().for_each(|(.., locked)| *locked = true),
            Some(_) => {}
        }
        let before = here.entries.len();
        here.fill(&view.within(listener), port);
        let empty = listener.port.is_some() && here.entries.len() == before;
        if let Some(sidecar) = view.key.sidecar.as_ref().filter(|_| empty) {
            let path = FieldPath::new("spec").field("egress").index(at).field("port");
            let message = format!(
                "nothing listens at it: no service that the hosts let in has port {port}; name a port that one has, or \
                 other hosts"
            );
            here.problems.push(Problem::warning(&sidecar.source, path, message));
        }
    }
    let Here { entries, mut problems } = here;
    problems.sort();
    problems.dedup();
    let inputs =
        entries.into_values().map(|(e, real, _)| Outbound::new(view, port, (e.addresses, e.chains), real, e.services));
    Built { resources: inputs.map(|input| renderer.get(&input)).collect(), problems, ..Built::default() }
}

/// The listeners on a port while they are put together: each with whether it has a socket of its own, and whether it
/// is finished.
#[derive(Default)]
struct Here {
    entries: BTreeMap<Arc<str>, (Entry, bool, bool)>,
    problems: Vec<Problem>,
}

impl Here {
    /// Whether the listener for requests is there, and stays as it is whichever more services they are for.
    fn takes_requests(&self, site: &Site<'_>) -> bool {
        let known = site.for_requests().first().and_then(|address| self.entries.get(address));
        known.is_some_and(|(entry, _, locked)| *locked || entry.takes_requests())
    }

    /// Adds what the services want that a listener lets in.
    fn fill(&mut self, view: &View<'_>, port: u16) {
        let own = view.listener.and_then(|l| l.port.as_ref());
        let ports: Vec<(&Shared<Service>, Cow<'_, ServicePort>)> = match own {
            None => ports_on(view.services_on(port), port),
            Some(own) => {
                let services = match own.number == 0 || own.protocol == Protocol::HttpProxy {
                    true => view.imported_services(),
                    false => view.services_on(port),
                };
                let as_named = ServicePort {
                    name: own.name.clone(),
                    number: port,
                    protocol: own.protocol,
                    target: TargetPort::Number(port),
                };
                services.into_iter().map(|s| (s, Cow::Owned(as_named.clone()))).collect()
            }
        };
        let mut site = Site::new(view, port);
        site.grpc_web = ports.iter().any(|(_, p)| p.protocol == Protocol::GrpcWeb);
        let by_request = |s: &Service, p: &ServicePort| s.resolution == Resolution::DynamicDns && p.protocol.is_http();
        let dynamic = ports.iter().filter(|(s, p)| by_request(s, p)).map(|(s, _)| Cache::of(&s.host, Family::of(view)));
        site.dynamic = dynamic.chain(Cache::of_unknown(view)).collect();
        for (service, service_port) in &ports {
            self.add(&site, service, service_port);
        }
    }

    fn add(&mut self, site: &Site<'_>, service: &Shared<Service>, service_port: &ServicePort) {
        let port = site.port;
        let note = |text: String| Problem::warning(&service.source, FieldPath::new("spec").field("ports"), text);
        let requests = service_port.protocol.is_http();
        let objection = reserved::objection(site.view, port, site.fixed.is_none() && requests, site.real && port != 0);
        // Most services of a port are told apart by its routes, and want nothing of a listener that is there.
        if requests && objection.is_none() && self.takes_requests(site) {
            return;
        }
        let wanted = site.wanted(service, service_port);
        if let Some(why) = objection.filter(|_| !wanted.is_empty()) {
            self.problems.push(note(why));
            return;
        }
        for mut wanted in wanted {
            self.problems.append(&mut wanted.problems);
            if let Err((loser, text)) = place(&mut self.entries, wanted, port, site.real)
                && !(service.dials_endpoints() && (service.is_headless() || !service.selector.is_empty()))
            {
                self.problems.push(Problem { object: loser, ..note(text) });
            }
        }
    }
}

/// The ports of this number, with their services.
fn ports_on<'a>(services: Vec<&'a Shared<Service>>, port: u16) -> Vec<(&'a Shared<Service>, Cow<'a, ServicePort>)> {
    let of =
        |s: &'a Shared<Service>| s.ports.iter().filter(move |p| p.number == port).map(move |p| (s, Cow::Borrowed(p)));
    services.into_iter().flat_map(of).collect()
}

/// Puts what a service wants where it belongs. Where that fails: whose object has no effect there, and why.
fn place(
    entries: &mut BTreeMap<Arc<str>, (Entry, bool, bool)>,
    wanted: Wanted,
    port: u16,
    real: bool,
) -> Result<(), (ObjectRef, String)> {
    let Some(address) = wanted.addresses.first().cloned() else { return Ok(()) };
    let Some((entry, _, locked)) = entries.get_mut(&address) else {
        entries.insert(address, (Entry::new(wanted), real, false));
        return Ok(());
    };
    if *locked {
        return Ok(());
    }
    let (here, service) = (entry.services.first().cloned(), wanted.service.clone());
    let said = |winner: &ObjectRef| {
        format!(
            "connections to {address} port {port} go to {winner}, since nothing tells them apart; give one of the two \
             another port or an address of its own"
        )
    };
    match (entry.add(wanted), here) {
        (Outcome::Refused, Some(winner)) if winner != service => Err((service, said(&winner))),
        (Outcome::Replaced, Some(loser)) => Err((loser, said(&service))),
        _ => Ok(()),
    }
}

/// `ADDRESS_PORT`.
pub(super) fn listener_name(addresses: &[Arc<str>], port: u16) -> String {
    format!("{}_{port}", addresses.first().map_or("", |a| a))
}

/// Everything that an outbound listener is made from.
#[derive(Hash)]
struct Outbound {
    addresses: Vec<Arc<str>>,
    port: u16,
    /// Whether it has a socket of its own.
    real: bool,
    exact_balance: bool,
    chains: Vec<Chain>,
    /// What happens to connections that no chain takes; `None` where one takes all.
    otherwise: Option<Tcp>,
    /// How long detection waits, in milliseconds.
    detection_timeout: u64,
    services: Vec<ObjectRef>,
}

impl Outbound {
    fn new(
        view: &View<'_>,
        port: u16,
        (addresses, chains): (Vec<Arc<str>>, Vec<Chain>),
        real: bool,
        services: Vec<ObjectRef>,
    ) -> Self {
        let detects = chains.iter().any(|c| !c.takes.protocols.is_empty());
        Self {
            addresses,
            port,
            real,
            exact_balance: view.key.face.as_ref().is_some_and(|f| f.settings.outbound_exact_balance),
            otherwise: (!chains.iter().any(|c| c.takes.is_all())).then(|| unknown(view)),
            detection_timeout: if detects { view.snapshot.mesh.detection_timeout } else { 0 },
            chains,
            services,
        }
    }

    /// The chains, and the one for what they leave. A chain that takes all is that one, unless it is the only one.
    fn chains(&self) -> (Vec<FilterChain>, Option<FilterChain>) {
        let (all, some): (Vec<&Chain>, Vec<&Chain>) = self.chains.iter().partition(|c| c.takes.is_all());
        let mut some: Vec<FilterChain> = some.into_iter().map(Chain::render).collect();
        let mut default = all.first().map(|c| c.render()).or_else(|| {
            self.otherwise.as_ref().map(|tcp| FilterChain {
                name: "PassthroughFilterChain".into(),
                filter_chain_match: Some(FilterChainMatch::default()),
                filters: tcp.filters(),
                ..Default::default()
            })
        });
        if some.is_empty() {
            some.extend(default.take());
        }
        (some, default)
    }
}

impl Input for Outbound {
    fn render(&self) -> Resource {
        let name = listener_name(&self.addresses, self.port);
        let (address, additional_addresses) = bound(&self.addresses, self.port);
        let (filter_chains, default_filter_chain) = self.chains();
        let names = self.chains.iter().any(|c| !c.takes.server_names.is_empty());
        let protocols = self.chains.iter().any(|c| !c.takes.protocols.is_empty());
        let message = Listener {
            name: name.clone(),
            address,
            additional_addresses,
            filter_chains,
            default_filter_chain,
            listener_filters: (names.then(inspector::tls).into_iter()).chain(protocols.then(inspector::http)).collect(),
            listener_filters_timeout: Some(pb::millis(self.detection_timeout)),
            continue_on_listener_filters_timeout: true,
            traffic_direction: TrafficDirection::Outbound.into(),
            bind_to_port: if self.real { None } else { pb::boolean(false) },
            max_connections_to_accept_per_socket_event: if self.real { pb::uint32(ACCEPT_AT_ONCE) } else { None },
            connection_balance_config: self.exact_balance.then(exact_balance),
            ..Default::default()
        };
        Resource::new(ResourceType::Listener, name, message.encode_to_vec(), self.services.clone())
    }
}
