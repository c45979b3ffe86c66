//! The listener that captured outbound traffic arrives at: it hands connections to the listener of their original
//! destination, and keeps those that no service is known for.

use super::{ACCEPT_AT_ONCE, bound, inspector};
use crate::{
    id::ResourceType,
    model::{Destination, Interception, OutboundPolicy},
    pb::{
        self,
        envoy::config::{core::v3::TrafficDirection, listener::v3::Listener},
    },
    snapshot::View,
    translate::{
        Input, Resource,
        access_log::AccessLog,
        cluster::outbound_name,
        connection_manager::{Manager, Routes, Settings},
        dynamic_dns::Cache,
        filter_chain::{Chain, Match, PLAINTEXT_HTTP},
        guard::Guard,
        network_filter::{BLACK_HOLE, PASSTHROUGH, Tcp},
    },
};
use prost::Message;
use std::sync::Arc;

const NAME: &str = "virtualOutbound";

/// What happens to connections that no service is known for.
pub(super) fn unknown(view: &View<'_>) -> Tcp {
    let mesh = &view.snapshot.mesh;
    let cluster: Arc<str> = match view.outbound_policy() {
        (OutboundPolicy::AllowAny, Some(proxy)) => proxy_cluster(proxy).into(),
        (OutboundPolicy::AllowAny | OutboundPolicy::AllowAnyDynamicDns, _) => PASSTHROUGH.into(),
        (OutboundPolicy::RegistryOnly, _) => BLACK_HOLE.into(),
    };
    Tcp {
        idle_timeout: view.key.face.as_ref().and_then(|f| f.settings.idle_timeout),
        on_demand: view.key.on_demand,
        log: AccessLog::of(mesh),
        ..Tcp::to(cluster)
    }
}

/// The cluster of the proxy that traffic goes to that no service is known for.
pub(in crate::translate) fn proxy_cluster(proxy: &Destination) -> String {
    outbound_name(proxy.port.unwrap_or_default(), &proxy.subset, &proxy.host)
}

/// Everything that the listener is made from.
#[derive(Hash)]
pub(super) struct VirtualOutbound {
    addresses: Vec<Arc<str>>,
    port: u16,
    transparent: bool,
    unknown: Tcp,
    /// What becomes of requests, where that is something else.
    requests: Option<Manager>,
}

impl VirtualOutbound {
    /// The listener of a view's nodes; none where traffic is not captured.
    pub(super) fn select(view: &View<'_>) -> Option<Self> {
        let interception = view.key.face.as_ref()?.interception;
        (interception != Interception::None).then(|| Self {
            addresses: super::wildcards(view),
            port: view.snapshot.mesh.outbound_port,
            transparent: interception == Interception::Tproxy,
            unknown: unknown(view),
            requests: Cache::of_unknown(view).map(|cache| Manager {
                settings: Settings::of(view),
                stat_prefix: "outbound_virtualOutbound_allow_any_dynamic_dns".into(),
                routes: Routes::Unknown,
                grpc_web: false,
                dynamic: vec![cache],
                guard: Guard::default(),
                absolute_urls: false,
            }),
        })
    }

    fn chains(&self) -> Vec<Chain> {
        let named = |name: &str, chain| Chain { name: name.into(), short_handshake: false, ..chain };
        let own = Match { port: Some(self.port), ..Match::default() };
        let http = Match { protocols: PLAINTEXT_HTTP, ..Match::default() };
        let requests = self.requests.clone();
        let requests = requests.map(|manager| named("virtualOutbound-catchall-tcp-http", Chain::http(http, manager)));
        let all = named("virtualOutbound-catchall-tcp", Chain::tcp(Match::default(), self.unknown.clone()));
        let black_hole = named("virtualOutbound-blackhole", Chain::tcp(own, Tcp::to(BLACK_HOLE)));
        [black_hole].into_iter().chain(requests).chain([all]).collect()
    }
}

impl Input for VirtualOutbound {
    fn render(&self) -> Resource {
        let (address, additional_addresses) = bound(&self.addresses, self.port);
        let message = Listener {
            name: NAME.into(),
            address,
            additional_addresses,
            use_original_dst: pb::boolean(true),
            transparent: self.transparent.then_some(pb::google::protobuf::BoolValue { value: true }),
            filter_chains: self.chains().iter().map(Chain::render).collect(),
            listener_filters: self.requests.iter().map(|_| inspector::http()).collect(),
            access_log: self.unknown.log.iter().filter_map(AccessLog::of_listener).collect(),
            traffic_direction: TrafficDirection::Outbound.into(),
            max_connections_to_accept_per_socket_event: pb::uint32(ACCEPT_AT_ONCE),
            ..Default::default()
        };
        Resource::new(ResourceType::Listener, NAME, message.encode_to_vec(), Vec::new())
    }
}
