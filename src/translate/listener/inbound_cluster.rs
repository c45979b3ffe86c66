//! Inbound clusters: the ports of the workload beside the proxy.

use super::inbound_chain::INBOUND_PASSTHROUGH;
use crate::{
    id::{ObjectRef, ResourceType},
    model::Protocol,
    pb::{
        self,
        envoy::{
            config::{
                cluster::v3::{
                    CircuitBreakers, Cluster,
                    circuit_breakers::Thresholds,
                    cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType, LbPolicy},
                },
                core::v3::{
                    BindConfig, ExtraSourceAddress, Http1ProtocolOptions, Http2ProtocolOptions,
                    HttpProtocolOptions as CommonOptions, Metadata, SocketAddress, socket_address::PortSpecifier,
                },
            },
            extensions::upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                    explicit_http_config::ProtocolConfig,
                },
            },
        },
        google::protobuf::{Any, Duration},
    },
    translate::{Input, Resource},
};
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
/// Idle time of the connections for traffic that no service is known for, in milliseconds.
const PASSTHROUGH_IDLE: u64 = 300_000;
/// For ever, as far as Go can count: a workload's address does not change, so nothing is ever cleaned up.
const NEVER: Duration = Duration { seconds: 9_223_372_035, nanos: 0 };

/// Everything that the cluster of a port, or of the ports that no service leads to, is made from.
#[derive(Hash)]
pub(super) struct InboundCluster {
    /// The port; `None` for those that no service leads to.
    pub(super) target: Option<u16>,
    /// What is spoken on it.
    pub(super) protocol: Protocol,
    /// How long connecting may take, in milliseconds.
    pub(super) connect_timeout: u64,
    /// The addresses that connections come from, by which the capture rules leave them alone.
    pub(super) sources: &'static [&'static str],
    /// The services that lead to the port.
    pub(super) services: Vec<Served>,
}

/// A service that leads to a port.
#[derive(Hash)]
pub(super) struct Served {
    pub(super) host: Arc<str>,
    pub(super) name: Arc<str>,
    pub(super) namespace: Arc<str>,
    pub(super) object: ObjectRef,
}

impl InboundCluster {
    fn http(&self) -> Option<UpstreamProtocolOptions> {
        let http2 = || Some(Http2ProtocolOptions::default());
        match self.protocol {
            Protocol::Auto => Some(UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
                http_protocol_options: Some(Http1ProtocolOptions::default()),
                http2_protocol_options: http2(),
                ..Default::default()
            })),
            p if p.is_http2() => Some(UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
                protocol_config: http2().map(ProtocolConfig::Http2ProtocolOptions),
            })),
            _ => None,
        }
    }

    fn options(&self) -> BTreeMap<String, Any> {
        let idle = CommonOptions { idle_timeout: Some(pb::millis(PASSTHROUGH_IDLE)), ..Default::default() };
        let options = self.http().map(|http| HttpProtocolOptions {
            common_http_protocol_options: self.target.is_none().then_some(idle),
            upstream_protocol_options: Some(http),
            ..Default::default()
        });
        options.map(|options| (HTTP_OPTIONS.to_owned(), pb::any(&options))).into_iter().collect()
    }

    fn bind(&self) -> Option<BindConfig> {
        let source = |address: &&str| SocketAddress {
            address: (*address).to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(0)),
            ..Default::default()
        };
        let (first, more) = self.sources.split_first()?;
        let extra = |a| ExtraSourceAddress { address: Some(source(a)), ..Default::default() };
        Some(BindConfig {
            source_address: Some(source(first)),
            extra_source_addresses: more.iter().map(extra).collect(),
            ..Default::default()
        })
    }

    fn metadata(&self) -> Option<Metadata> {
        let service = |s: &Served| {
            let fields = [("host", &s.host), ("name", &s.name), ("namespace", &s.namespace)];
            pb::object(fields.map(|(key, value)| (key, pb::string(&**value))))
        };
        let services = pb::list(self.services.iter().map(service));
        let istio = [("istio".to_owned(), pb::fields([("services", services)]))];
        (!self.services.is_empty()).then(|| Metadata { filter_metadata: istio.into(), ..Default::default() })
    }
}

impl Input for InboundCluster {
    fn render(&self) -> Resource {
        let (name, stat) = match self.target {
            Some(target) => (format!("inbound|{target}||"), format!("inbound|{target}||;")),
            None => (INBOUND_PASSTHROUGH.to_owned(), "PassthroughCluster;".to_owned()),
        };
        let most = pb::uint32(u32::MAX);
        let message = Cluster {
            name: name.clone(),
            alt_stat_name: stat,
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into())),
            connect_timeout: Some(pb::millis(self.connect_timeout)),
            lb_policy: LbPolicy::ClusterProvided.into(),
            circuit_breakers: Some(CircuitBreakers {
                thresholds: vec![Thresholds {
                    max_connections: most,
                    max_pending_requests: most,
                    max_requests: most,
                    max_retries: most,
                    ..Default::default()
                }],
                ..Default::default()
            }),
            cleanup_interval: self.target.map(|_| NEVER),
            common_lb_config: self.target.map(|_| CommonLbConfig::default()),
            typed_extension_protocol_options: self.options(),
            upstream_bind_config: self.bind(),
            metadata: self.metadata(),
            ..Default::default()
        };
        let sources = self.services.iter().map(|s| s.object.clone()).collect();
        Resource::new(ResourceType::Cluster, name, message.encode_to_vec(), sources)
    }
}
