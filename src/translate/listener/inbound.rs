//! The inbound side: the listener that captured traffic to the workload arrives at, and the clusters behind it.

use super::{
    ACCEPT_AT_ONCE,
    arrival::{Arrival, arrivals, own_sources},
    bound, exact_balance,
    inbound_chain::{Common, InboundPort, Mode, black_hole},
    inbound_cluster::Passthrough,
    inspector,
    outbound::listener_name,
    wildcards,
};
use crate::{
    id::{ObjectRef, ResourceType},
    model::{IdentitySource, Interception, MtlsMode, Role, Sidecar},
    pb::{
        self,
        envoy::config::{core::v3::TrafficDirection, listener::v3::Listener},
    },
    problem::{FieldPath, Problem},
    snapshot::{Delta, View},
    translate::{
        Built, Input, Renderer, Resource,
        access_log::AccessLog,
        cluster::stat,
        connection_manager::Settings,
        filter_chain::Chain,
        guard::{self, Guard},
        mutual_tls::MutualTls,
        part::{Affected, Unit},
        termination::Termination,
    },
};
use prost::Message;
use std::sync::Arc;

const NAME: &str = "virtualInbound";

/// What the workload serves and whether by mutual TLS is in the key, and the mesh's settings change everything; but the
/// DestinationRules of what it serves limit its connections.
pub(in crate::translate) fn affected(new: &View<'_>, delta: &Delta) -> Affected {
    let targets = || new.key.targets.iter().flat_map(|all| all.iter());
    let named = delta.destination_rules.iter().any(|rule| targets().any(|t| rule.host.covers(&t.service.host)));
    Affected::Units(named.then_some(Unit::Fixed).into_iter().collect())
}

pub(in crate::translate) fn build(view: &View<'_>, renderer: &dyn Renderer) -> Built {
    let Some(face) = view.key.face.as_ref().filter(|_| view.key.role == Role::Sidecar) else { return Built::default() };
    let captured = face.interception != Interception::None;
    let mut problems = Vec::new();
    let arrivals = arrivals(view, &mut problems);
    let mesh = &view.snapshot.mesh;
    let passthrough = Passthrough {
        connect_timeout: mesh.connect_timeout,
        keep_case: view.key.headers.case,
        mesh: mesh.clusters.clone(),
        from: own_sources(view),
    };
    let mut resources = vec![renderer.get(&passthrough)];
    resources.extend(arrivals.iter().map(|arrival| renderer.get(&arrival.cluster(view))));
    if captured || !arrivals.is_empty() {
        problems.extend(closed(view));
        problems.extend(guard::problems(view));
    }
    problems.extend(view.key.sidecar.iter().flat_map(|sidecar| held_by_mesh(view, sidecar)));
    let guard = Guard::of(view, renderer);
    let inbound = captured.then(|| Inbound::captured(view, &arrivals));
    let real = arrivals.iter().filter(|a| a.real).map(|arrival| Inbound::at(view, arrival));
    resources.extend(inbound.into_iter().chain(real).map(|listener| renderer.get(&listener.behind(&guard))));
    Built { resources, problems, ..Built::default() }
}

/// What a port of the workload takes; `None` for those that are not named.
fn mode(view: &View<'_>, port: Option<u16>) -> Mode {
    let asked = view.key.mtls.as_ref().map_or(MtlsMode::default(), |m| port.map_or(m.mode, |p| m.at(p)));
    match (view.key.identity, asked) {
        (_, MtlsMode::Disable) | (IdentitySource::None, MtlsMode::Permissive) => Mode::Disable,
        (_, MtlsMode::Permissive) => Mode::Permissive,
        (IdentitySource::None, MtlsMode::Strict) => Mode::Closed,
        (_, MtlsMode::Strict) => Mode::Strict,
    }
}

/// What is wrong where mutual TLS alone is asked for and the proxy has no certificate.
fn closed(view: &View<'_>) -> Option<Problem> {
    let mtls = view.key.mtls.as_ref().filter(|_| view.key.identity == IdentitySource::None)?;
    let strict = mtls.mode == MtlsMode::Strict || mtls.ports.values().any(|m| *m == MtlsMode::Strict);
    let message = format!(
        "asks for mutual TLS alone, but proxies of {} have no certificate of the mesh, so connections to them are \
         refused; give them a source of certificates, or write PERMISSIVE",
        view.key.namespace
    );
    let source = mtls.sources.last().filter(|_| strict)?;
    Some(Problem::warning(source, FieldPath::new("spec").field("mtls"), message))
}

/// What is wrong where a Sidecar has TLS end at a port that takes the mesh's.
fn held_by_mesh(view: &View<'_>, sidecar: &Sidecar) -> Vec<Problem> {
    let ports = sidecar.ingress.iter().enumerate().filter(|(_, l)| l.tls.is_some());
    let held = ports.filter(|(_, l)| mode(view, Some(l.port.number)) != Mode::Disable);
    let at = |i| FieldPath::new("spec").field("ingress").index(i).field("tls");
    let message = |port| {
        format!("has no effect while the port takes mutual TLS; let a PeerAuthentication say DISABLE for port {port}")
    };
    held.map(|(i, l)| Problem::warning(&sidecar.source, at(i), message(l.port.number))).collect()
}

/// Everything that a listener is made from.
#[derive(Hash)]
struct Inbound {
    name: Arc<str>,
    addresses: Vec<Arc<str>>,
    port: u16,
    captured: bool,
    transparent: bool,
    exact_balance: bool,
    detection_timeout: u64,
    common: Common,
    ports: Vec<InboundPort>,
    sources: Vec<ObjectRef>,
}

impl Inbound {
    /// The listener that captured traffic arrives at.
    fn captured(view: &View<'_>, arrivals: &[Arrival<'_>]) -> Self {
        let face = view.key.face.as_ref();
        let here = || arrivals.iter().filter(|a| !a.real);
        // A policy may name ports that no service leads to.
        let named = view.key.mtls.iter().flat_map(|m| m.ports.keys()).filter(|port| here().all(|a| a.port != **port));
        let passthrough = std::iter::once(None)
            .chain(named.map(|port| Some(*port)))
            .map(|at| InboundPort { stat_name: unknown_stat(view), ..InboundPort::passthrough(at, mode(view, at)) });
        let listener = Self {
            name: NAME.into(),
            captured: true,
            transparent: face.is_some_and(|f| f.interception == Interception::Tproxy),
            ports: passthrough.chain(here().map(|arrival| port(view, arrival))).collect(),
            ..Self::empty(view, wildcards(view), view.snapshot.mesh.inbound_port)
        };
        listener.coming_from(view, here().map(|a| &a.source))
    }

    /// The listener of a port with a socket of its own.
    fn at(view: &View<'_>, arrival: &Arrival<'_>) -> Self {
        let listener = Self {
            name: listener_name(&arrival.addresses, arrival.port).into(),
            ports: vec![port(view, arrival)],
            ..Self::empty(view, arrival.addresses.clone(), arrival.port)
        };
        listener.coming_from(view, std::iter::once(&arrival.source))
    }

    fn empty(view: &View<'_>, addresses: Vec<Arc<str>>, port: u16) -> Self {
        let (mesh, face) = (&view.snapshot.mesh, view.key.face.as_ref());
        Self {
            name: "".into(),
            port,
            captured: false,
            transparent: false,
            exact_balance: face.is_some_and(|f| f.settings.inbound_exact_balance),
            detection_timeout: mesh.detection_timeout,
            common: Common {
                settings: Settings::of(view),
                tls: MutualTls::of(view),
                guard: Guard::default(),
                idle_timeout: face.and_then(|f| f.settings.idle_timeout),
                log: AccessLog::of(mesh),
            },
            ports: Vec::new(),
            sources: Vec::new(),
            addresses,
        }
    }

    /// The same with what stands before the workload.
    fn behind(mut self, guard: &Guard) -> Self {
        self.common.guard = guard.clone();
        self.sources.extend(guard.sources.iter().cloned());
        self
    }

    /// The same with the objects that it comes from: these, and the policies of the workload.
    fn coming_from<'a>(self, view: &View<'a>, objects: impl Iterator<Item = &'a ObjectRef>) -> Self {
        let mut sources: Vec<ObjectRef> = Vec::new();
        for object in objects.chain(view.key.mtls.iter().flat_map(|m| &m.sources)) {
            if !sources.contains(object) {
                sources.push(object.clone());
            }
        }
        Self { sources, ..self }
    }
}

fn port(view: &View<'_>, arrival: &Arrival<'_>) -> InboundPort {
    let mode = mode(view, Some(arrival.port));
    let own_tls = arrival.named.and_then(|n| n.tls.as_ref()).filter(|_| mode == Mode::Disable);
    InboundPort {
        target: Some(arrival.port),
        at: Some(arrival.port),
        address: arrival.addresses.first().cloned().unwrap_or_default(),
        port: arrival.shown.0,
        host: arrival.host.clone(),
        protocol: arrival.protocol,
        mode,
        own_tls: own_tls.map(|tls| Termination::as_said(view, tls)),
        stat_name: arrival.stat_of_bytes(view),
        rule: arrival.named.is_some().then(|| arrival.source.clone()),
    }
}

/// What the mesh's pattern makes of connections that no service is known for.
fn unknown_stat(view: &View<'_>) -> Option<Arc<str>> {
    let pattern = &view.snapshot.mesh.clusters.inbound_stat_name;
    let subject = stat::Subject { host: "", kubernetes: None, port: (0, NAME), subset: "", target: None };
    (!pattern.is_empty()).then(|| stat::expanded(pattern, &subject).into())
}

impl Input for Inbound {
    fn render(&self) -> Resource {
        let own = self.captured.then(|| black_hole(self.port));
        let ports = self.ports.iter().flat_map(|port| port.chains(&self.common));
        let chains: Vec<Chain> = own.into_iter().chain(ports).collect();
        let (address, additional_addresses) = bound(&self.addresses, self.port);
        let message = Listener {
            name: self.name.to_string(),
            address,
            additional_addresses,
            transparent: self.transparent.then_some(pb::google::protobuf::BoolValue { value: true }),
            filter_chains: chains.iter().map(Chain::render).collect(),
            listener_filters: (self.captured.then(inspector::original_destination).into_iter())
                .chain(self.transparent.then(inspector::original_source))
                .chain(inspector::by_port(&chains))
                .collect(),
            listener_filters_timeout: Some(pb::millis(self.detection_timeout)),
            continue_on_listener_filters_timeout: true,
            access_log: self.common.log.iter().filter_map(AccessLog::of_listener).collect(),
            traffic_direction: TrafficDirection::Inbound.into(),
            max_connections_to_accept_per_socket_event: pb::uint32(ACCEPT_AT_ONCE),
            connection_balance_config: self.exact_balance.then(exact_balance),
            ..Default::default()
        };
        let pieces = self.common.guard.pieces().collect();
        let body = message.encode_to_vec();
        Resource { pieces, ..Resource::new(ResourceType::Listener, &*self.name, body, self.sources.clone()) }
    }
}
