//! How an endpoint is chosen.

use super::pool::millionths;
use crate::{
    model::{
        ClusterDefaults, Distribution, HashTable, LoadBalancer, LoadBalancerKind, LocalityBalancing, Service, Warmup,
        ZoneAware,
    },
    pb::{
        self,
        envoy::{
            config::{
                cluster::v3::{
                    Cluster,
                    cluster::{
                        CommonLbConfig, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig, OriginalDstLbConfig,
                        RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
                        common_lb_config::{LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig},
                    },
                },
                core::v3::RuntimeDouble,
            },
            r#type::v3::Percent,
        },
    },
};
use std::borrow::Cow;

/// Which endpoints a client prefers.
pub(in crate::translate) enum Preference<'a> {
    /// None.
    None,
    /// By place; `forced` where endpoints need not fail for it to hold.
    Place {
        /// Which places.
        setting: Cow<'a, LocalityBalancing>,
        /// Whether it holds without outlier detection.
        forced: bool,
    },
    /// By zone, decided in the proxy.
    Zone(&'a ZoneAware),
}

/// Which endpoints a client prefers: what the rule says, or else the service, or else the mesh.
pub(in crate::translate) fn preference<'a>(
    balancer: Option<&'a LoadBalancer>,
    service: &Service,
    mesh: &'a ClusterDefaults,
) -> Preference<'a> {
    if let Some(zone) = balancer.and_then(|b| b.zone_aware.as_ref()) {
        return Preference::Zone(zone);
    }
    let by_place = |setting: &'a LocalityBalancing| match setting.off {
        true => Preference::None,
        false => Preference::Place { setting: Cow::Borrowed(setting), forced: false },
    };
    if let Some(setting) = balancer.and_then(|b| b.locality.as_ref()) {
        return by_place(setting);
    }
    let nearer: &[&str] = match service.distribution {
        Distribution::Unset | Distribution::Any => {
            return match (&mesh.zone_aware, &mesh.locality) {
                (Some(zone), _) => Preference::Zone(zone),
                (None, Some(setting)) => by_place(setting),
                (None, None) => Preference::None,
            };
        }
        Distribution::SameZone => {
            &["topology.istio.io/network", "topology.kubernetes.io/region", "topology.kubernetes.io/zone"]
        }
        Distribution::SameNode => &[
            "topology.istio.io/network",
            "topology.kubernetes.io/region",
            "topology.kubernetes.io/zone",
            "topology.istio.io/subzone",
            "kubernetes.io/hostname",
        ],
    };
    let priority = nearer.iter().map(|key| (*key).into()).collect();
    Preference::Place { setting: Cow::Owned(LocalityBalancing { priority, ..Default::default() }), forced: true }
}

/// Tells a cluster that its endpoints have places, where these matter.
pub(super) fn localities(cluster: &mut Cluster, preference: Preference<'_>, outlier: bool) {
    let specifier = match preference {
        Preference::None => return,
        Preference::Place { setting, forced } => {
            let ranked = (forced || outlier) && !(setting.failover.is_empty() && setting.priority.is_empty());
            if !ranked && setting.distribute.is_empty() {
                return;
            }
            LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig::default())
        }
        Preference::Zone(zone) => LocalityConfigSpecifier::ZoneAwareLbConfig(ZoneAwareLbConfig {
            routing_enabled: zone.off.then_some(Percent { value: 0.0 }),
            min_cluster_size: zone.min_cluster_size.and_then(pb::uint64),
            ..Default::default()
        }),
    };
    cluster.common_lb_config.get_or_insert_with(CommonLbConfig::default).locality_config_specifier = Some(specifier);
}

/// The address that the client dialled is the endpoint, perhaps with another port.
pub(super) fn dialled(cluster: &mut Cluster, port: Option<u16>) {
    cluster.lb_policy = LbPolicy::ClusterProvided.into();
    cluster.lb_config = port.map(|port| {
        LbConfig::OriginalDstLbConfig(OriginalDstLbConfig {
            upstream_port_override: pb::uint32(port.into()),
            ..Default::default()
        })
    });
}

/// Sets the way in which an endpoint is chosen.
pub(super) fn balance(cluster: &mut Cluster, balancer: Option<&LoadBalancer>) {
    let kind = balancer.map(|b| b.kind.clone()).unwrap_or_default();
    let slow_start_config = balancer.and_then(|b| b.warmup).map(slow_start);
    let warms = slow_start_config.is_some();
    let (policy, config) = match kind {
        LoadBalancerKind::LeastRequest => (
            LbPolicy::LeastRequest,
            warms.then(|| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig { slow_start_config, ..Default::default() })
            }),
        ),
        LoadBalancerKind::RoundRobin => (
            LbPolicy::RoundRobin,
            warms.then_some(LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config })),
        ),
        LoadBalancerKind::Random => (LbPolicy::Random, None),
        LoadBalancerKind::Passthrough => (LbPolicy::ClusterProvided, None),
        LoadBalancerKind::Hash { table, .. } => match table {
            HashTable::Maglev(size) => {
                let config = || LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: pb::uint64(size) });
                (LbPolicy::Maglev, (size > 0).then(config))
            }
            HashTable::Ring(size) => {
                let ring = RingHashLbConfig { minimum_ring_size: pb::uint64(size), ..Default::default() };
                (LbPolicy::RingHash, (size > 0).then_some(LbConfig::RingHashLbConfig(ring)))
            }
        },
    };
    cluster.lb_policy = policy.into();
    cluster.lb_config = config;
}

fn slow_start(warmup: Warmup) -> SlowStartConfig {
    SlowStartConfig {
        slow_start_window: Some(pb::millis(warmup.window)),
        min_weight_percent: warmup.shape.map(|(percent, _)| Percent { value: millionths(percent) }),
        // Envoy demands a runtime key; this one, as Istio has it, is never set.
        aggression: warmup.shape.map(|(_, aggression)| RuntimeDouble {
            default_value: millionths(aggression),
            runtime_key: "(".to_owned(),
        }),
    }
}
