//! The inbound side: the listener that captured traffic to the workload arrives at, and the clusters behind it.

use super::{
    ACCEPT_AT_ONCE, bound, exact_balance,
    inbound_chain::{Common, InboundPort, Mode, black_hole},
    inbound_cluster::{InboundCluster, Served},
    inspector, reserved, wildcards,
};
use crate::{
    id::{ObjectRef, ResourceType},
    model::{IdentitySource, Interception, MtlsMode, Protocol, Role},
    pb::{
        self,
        envoy::config::{core::v3::TrafficDirection, listener::v3::Listener},
    },
    problem::{FieldPath, Problem},
    snapshot::{Delta, Target, View},
    translate::{
        Built, Input, Renderer, Resource,
        access_log::AccessLog,
        connection_manager::Settings,
        filter_chain::Chain,
        guard::{self, Guard},
        mutual_tls::MutualTls,
        part::Affected,
    },
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

const NAME: &str = "virtualInbound";

/// Nothing: what the workload serves and whether by mutual TLS is in the key, and the mesh's settings change everything.
pub(in crate::translate) fn affected(_: &View<'_>, _: &Delta) -> Affected {
    Affected::Units(BTreeSet::new())
}

pub(in crate::translate) fn build(view: &View<'_>, renderer: &dyn Renderer) -> Built {
    let Some(face) = view.key.face.as_ref().filter(|_| view.key.role == Role::Sidecar) else { return Built::default() };
    let captured = face.interception != Interception::None;
    let mut problems = Vec::new();
    // Without capture the workload itself listens at its ports.
    let ports = if captured { ports(view, &mut problems) } else { BTreeMap::new() };
    let mut resources = vec![renderer.get(&cluster(view, None, &[]))];
    resources.extend(ports.iter().map(|(target, all)| renderer.get(&cluster(view, Some(*target), all))));
    if captured {
        problems.extend(closed(view));
        problems.extend(guard::problems(view));
        resources.push(renderer.get(&VirtualInbound::select(view, &ports, Guard::of(view, renderer))));
    }
    Built { resources, problems, ..Built::default() }
}

/// The ports of the workload, each with the services that lead there, the oldest first.
fn ports<'a>(view: &View<'a>, problems: &mut Vec<Problem>) -> BTreeMap<u16, Vec<&'a Target>> {
    let mut ports: BTreeMap<u16, Vec<&Target>> = BTreeMap::new();
    for target in view.key.targets.iter().flat_map(|all| all.iter()) {
        let note = |text| Problem::warning(&target.service.source, FieldPath::new("spec").field("ports"), text);
        if let Some(why) = reserved::objection(view, target.target, true, false) {
            problems.push(note(why));
            continue;
        }
        let all = ports.entry(target.target).or_default();
        if let Some(oldest) = all.first().filter(|o| o.protocol != target.protocol) {
            problems.push(note(format!(
                "port {} of the workload is spoken of as {} here and as {} by {}, which is older and wins; let both say \
                 the same",
                target.target,
                target.protocol.as_str(),
                oldest.protocol.as_str(),
                oldest.service.source,
            )));
        }
        all.push(target);
    }
    ports
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

fn cluster(view: &View<'_>, target: Option<u16>, all: &[&Target]) -> InboundCluster {
    let mut services: Vec<Served> = Vec::new();
    for service in all.iter().map(|t| &t.service) {
        if services.iter().all(|s| *s.host != *service.host) {
            services.push(Served {
                host: service.host.shared(),
                name: service.name.clone(),
                namespace: service.namespace.shared(),
                object: service.source.clone(),
            });
        }
    }
    let sources = view.key.families.passthrough_sources();
    let count = if view.snapshot.mesh.features.dual_stack { sources.len() } else { 1 };
    InboundCluster {
        target,
        protocol: all.first().map_or(Protocol::Auto, |t| t.protocol),
        connect_timeout: view.snapshot.mesh.connect_timeout,
        sources: &sources[..count],
        services,
    }
}

/// Everything that the listener is made from.
#[derive(Hash)]
struct VirtualInbound {
    addresses: Vec<Arc<str>>,
    port: u16,
    transparent: bool,
    exact_balance: bool,
    detection_timeout: u64,
    common: Common,
    ports: Vec<InboundPort>,
    sources: Vec<ObjectRef>,
}

impl VirtualInbound {
    fn select(view: &View<'_>, ports: &BTreeMap<u16, Vec<&Target>>, guard: Guard) -> Self {
        let mesh = &view.snapshot.mesh;
        let face = view.key.face.as_ref();
        let addresses = wildcards(view);
        let first = ports.values().filter_map(|all| all.first());
        let policies = view.key.mtls.iter().flat_map(|m| &m.sources).chain(&guard.sources);
        // A policy may name ports that no service leads to.
        let named = view.key.mtls.iter().flat_map(|m| m.ports.keys()).filter(|port| !ports.contains_key(port));
        let passthrough = std::iter::once(None)
            .chain(named.map(|port| Some(*port)))
            .map(|at| InboundPort::passthrough(at, mode(view, at)));
        let port = |t: &&Target| InboundPort {
            target: Some(t.target),
            at: Some(t.target),
            port: t.port,
            host: t.service.host.shared(),
            protocol: t.protocol,
            mode: mode(view, Some(t.target)),
        };
        let sources = first.clone().map(|t| &t.service.source).chain(policies).cloned().collect();
        Self {
            port: mesh.inbound_port,
            transparent: face.is_some_and(|f| f.interception == Interception::Tproxy),
            exact_balance: face.is_some_and(|f| f.settings.inbound_exact_balance),
            detection_timeout: mesh.detection_timeout,
            common: Common {
                settings: Settings::of(view),
                tls: MutualTls::of(view),
                guard,
                address: addresses.first().cloned().unwrap_or_default(),
                idle_timeout: face.and_then(|f| f.settings.idle_timeout),
                log: AccessLog::to(&mesh.access_log_file),
            },
            sources,
            ports: passthrough.chain(first.map(port)).collect(),
            addresses,
        }
    }
}

impl Input for VirtualInbound {
    fn render(&self) -> Resource {
        let chains: Vec<Chain> = [black_hole(self.port)]
            .into_iter()
            .chain(self.ports.iter().flat_map(|port| port.chains(&self.common)))
            .collect();
        let (address, additional_addresses) = bound(&self.addresses, self.port);
        let message = Listener {
            name: NAME.into(),
            address,
            additional_addresses,
            transparent: self.transparent.then_some(pb::google::protobuf::BoolValue { value: true }),
            filter_chains: chains.iter().map(Chain::render).collect(),
            listener_filters: [inspector::original_destination()]
                .into_iter()
                .chain(self.transparent.then(inspector::original_source))
                .chain(inspector::by_port(&chains))
                .collect(),
            listener_filters_timeout: Some(pb::millis(self.detection_timeout)),
            continue_on_listener_filters_timeout: true,
            access_log: self.common.log.iter().map(AccessLog::of_listener).collect(),
            traffic_direction: TrafficDirection::Inbound.into(),
            max_connections_to_accept_per_socket_event: pb::uint32(ACCEPT_AT_ONCE),
            connection_balance_config: self.exact_balance.then(exact_balance),
            ..Default::default()
        };
        let pieces = self.common.guard.pieces().collect();
        Resource {
            pieces,
            ..Resource::new(ResourceType::Listener, NAME, message.encode_to_vec(), self.sources.clone())
        }
    }
}
