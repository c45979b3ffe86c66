//! Network filters: what passes bytes on.

use crate::{
    model::Tunnel,
    pb::{
        self,
        envoy::{
            config::listener::v3::{Filter, filter::ConfigType},
            extensions::filters::network::{
                mongo_proxy::v3::MongoProxy,
                tcp_proxy::v3::{
                    TcpProxy,
                    tcp_proxy::{
                        ClusterSpecifier, OnDemand, TunnelingConfig, WeightedCluster, weighted_cluster::ClusterWeight,
                    },
                },
            },
            r#type::v3::{
                HashPolicy,
                hash_policy::{PolicySpecifier, SourceIp},
            },
        },
    },
    translate::{access_log::AccessLog, ads, dynamic_dns::Cache, guard::Guard, http_filter::FETCH},
};
use prost::Name;
use std::sync::Arc;

/// The cluster that sends a connection where it was going.
pub(super) const PASSTHROUGH: &str = "PassthroughCluster";
/// The cluster that sends a connection nowhere.
pub(super) const BLACK_HOLE: &str = "BlackHoleCluster";

/// How the connections of one filter chain are passed on.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Tcp {
    /// Where to: clusters and their shares; one cluster takes all.
    pub(super) clusters: Vec<(Arc<str>, u32)>,
    /// The share is written also where one cluster has all.
    pub(super) weighted: bool,
    /// The prefix of statistics.
    pub(super) stat_prefix: Arc<str>,
    /// Idle time after which a connection closes, in milliseconds; `None` for Envoy's default.
    pub(super) idle_timeout: Option<u64>,
    /// How long a connection may last, in milliseconds.
    pub(super) max_duration: Option<u64>,
    /// Connections of one client go to one endpoint.
    pub(super) hash_source_ip: bool,
    /// The connections are put into requests to a forward proxy.
    pub(super) tunnel: Option<Tunnel>,
    /// What is said of MongoDB's operations is counted.
    pub(super) mongo: bool,
    /// The name in the handshake is resolved first, for this port.
    pub(super) dynamic: Option<(Cache, u16)>,
    /// Connections wait for their cluster to be fetched.
    pub(super) on_demand: bool,
    /// Where connections are logged.
    pub(super) log: Option<AccessLog>,
    /// What stands before.
    pub(super) guard: Guard,
}

impl Tcp {
    /// Passes connections on to one cluster, which also names the statistics.
    pub(super) fn to(cluster: impl Into<Arc<str>>) -> Self {
        let cluster = cluster.into();
        Self {
            stat_prefix: cluster.clone(),
            clusters: vec![(cluster, 1)],
            weighted: false,
            idle_timeout: None,
            max_duration: None,
            hash_source_ip: false,
            tunnel: None,
            mongo: false,
            dynamic: None,
            on_demand: false,
            log: None,
            guard: Guard::default(),
        }
    }

    /// The filters, in order.
    pub(super) fn filters(&self) -> Vec<Filter> {
        let specifier = match &self.clusters[..] {
            [(only, _)] if !self.weighted => ClusterSpecifier::Cluster(only.to_string()),
            many => ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters: many
                    .iter()
                    .map(|(name, weight)| ClusterWeight {
                        name: name.to_string(),
                        weight: *weight,
                        ..Default::default()
                    })
                    .collect(),
            }),
        };
        let proxy = TcpProxy {
            stat_prefix: self.stat_prefix.to_string(),
            cluster_specifier: Some(specifier),
            idle_timeout: self.idle_timeout.map(pb::millis),
            max_downstream_connection_duration: self.max_duration.map(pb::millis),
            hash_policy: self.hash_source_ip.then(source_ip).into_iter().collect(),
            access_log: self.log.iter().map(AccessLog::render).collect(),
            tunneling_config: self.tunnel.as_ref().map(tunneling),
            on_demand: self.on_demand.then(|| OnDemand {
                odcds_config: Some(ads()),
                timeout: Some(pb::millis(FETCH)),
                ..Default::default()
            }),
            ..Default::default()
        };
        let mongo = MongoProxy { stat_prefix: self.stat_prefix.to_string(), ..Default::default() };
        let mongo = self.mongo.then(|| filter("envoy.filters.network.mongo_proxy", &mongo));
        let dynamic = self.dynamic.as_ref().map(|(cache, port)| cache.tls(*port));
        self.guard
            .tcp()
            .chain(dynamic)
            .chain(mongo)
            .chain([filter("envoy.filters.network.tcp_proxy", &proxy)])
            .collect()
    }
}

/// Where a forward proxy is asked to connect to, and how.
fn tunneling(tunnel: &Tunnel) -> TunnelingConfig {
    let hostname = match tunnel.host.contains(':') {
        true => format!("[{}]:{}", tunnel.host, tunnel.port),
        false => format!("{}:{}", tunnel.host, tunnel.port),
    };
    TunnelingConfig { hostname, use_post: tunnel.post, ..Default::default() }
}

fn source_ip() -> HashPolicy {
    HashPolicy { policy_specifier: Some(PolicySpecifier::SourceIp(SourceIp {})) }
}

/// A network filter of this name and configuration.
pub(super) fn filter(name: &str, config: &impl Name) -> Filter {
    Filter { name: name.into(), config_type: Some(ConfigType::TypedConfig(pb::any(config))) }
}
