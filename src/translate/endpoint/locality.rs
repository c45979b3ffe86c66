//! Endpoints by locality, and which of them a client prefers
//! (Istio: `pilot/pkg/networking/core/loadbalancer/loadbalancer.go`).

use super::lb_endpoint;
use crate::{
    model::{Endpoint, Locality, LocalityBalancing, Service, TrafficPolicy},
    pb::{
        self,
        envoy::config::{core::v3::Locality as LocalityPb, endpoint::v3::LocalityLbEndpoints},
    },
    snapshot::View,
    translate::cluster::{self, Preference},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The label that, named first, sets networks apart before all else.
const NETWORK: &str = "topology.istio.io/network";

/// Which endpoints a client prefers, as far as the client is concerned: two clients for whom the same holds have
/// equal values.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Ranking {
    /// None.
    None,
    /// The share of each place, in percent; places are patterns.
    Distribute(Vec<(Arc<str>, u32)>),
    /// The nearer ones as long as enough of them serve.
    Nearest {
        /// Labels that nearer endpoints have, the most important first.
        labels: Vec<(Arc<str>, Arc<str>)>,
        /// How far places are from the client.
        distance: Option<Distance>,
    },
}

/// How far places are from a client.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Distance {
    /// Where the client is.
    from: Locality,
    /// The region that comes next where the client's fails.
    next: Option<Arc<str>>,
    /// Whether only regions count, zones being left to the proxy.
    regions_only: bool,
}

impl Ranking {
    /// What a view's clients prefer of a service.
    pub(super) fn of(view: &View<'_>, service: &Service, policy: &TrafficPolicy) -> Self {
        let Some(place) = &view.key.place else { return Self::None };
        let client = |key: &str| labelled(key, &place.locality, &place.network, &view.key.cluster, &place.cluster_node);
        let value = |key: &str| {
            let own = client(key).or_else(|| view.key.labels.get(key));
            own.cloned().unwrap_or_default()
        };
        let labels = |keys: &[Arc<str>]| {
            let split = |key: &Arc<str>| match key.split_once('=') {
                Some((key, value)) => (key.into(), value.into()),
                None => (key.clone(), value(key)),
            };
            keys.iter().map(split).collect()
        };
        let next = |failover: &[(Arc<str>, Arc<str>)]| {
            failover.iter().find(|(from, _)| *from == place.locality.region).map(|(_, to)| to.clone())
        };
        let distance = |failover: &[_], regions_only| Distance {
            from: place.locality.clone(),
            next: next(failover),
            regions_only,
        };
        let outlier = policy.outlier_detection.is_some();
        match cluster::preference(policy.load_balancer.as_ref(), service, &view.snapshot.mesh.clusters) {
            Preference::None => Self::None,
            Preference::Zone(zone) if zone.off => Self::None,
            Preference::Zone(zone) => {
                Self::Nearest { labels: labels(&zone.priority), distance: Some(distance(&zone.failover, true)) }
            }
            Preference::Place { setting, .. } if !setting.distribute.is_empty() => {
                Self::shares(&setting, &place.locality)
            }
            // The proxy goes on to what is farther only when it has found out that what is nearer fails.
            Preference::Place { forced: false, .. } if !outlier => Self::None,
            Preference::Place { setting, .. } => {
                let by_place = setting.priority.is_empty() || !setting.failover.is_empty();
                let distance = by_place.then(|| distance(&setting.failover, false));
                Self::Nearest { labels: labels(&setting.priority), distance }
            }
        }
    }

    fn shares(setting: &LocalityBalancing, from: &Locality) -> Self {
        let entry = setting.distribute.iter().find(|(pattern, _)| from.is_within(pattern));
        entry.map_or(Self::None, |(_, shares)| Self::Distribute(shares.clone()))
    }

    /// The endpoints in groups of one locality and priority.
    pub(super) fn groups<'a>(
        &self,
        endpoints: impl Iterator<Item = &'a Endpoint>,
        takes_mtls: bool,
        both_families: bool,
    ) -> Vec<LocalityLbEndpoints> {
        let mut groups: BTreeMap<(&Locality, usize), Vec<_>> = BTreeMap::new();
        for endpoint in endpoints {
            let lb_endpoint = lb_endpoint(endpoint, takes_mtls, both_families);
            groups.entry((&endpoint.locality, self.rank(endpoint))).or_default().push(lb_endpoint);
        }
        // Envoy takes priorities without gaps.
        let ranks: BTreeSet<usize> = groups.keys().map(|(_, rank)| *rank).collect();
        let priority = |rank: usize| u32::try_from(ranks.range(..rank).count()).unwrap_or(u32::MAX);
        let mut out: Vec<LocalityLbEndpoints> = groups
            .into_iter()
            .map(|((locality, rank), endpoints)| group(locality, priority(rank), endpoints))
            .collect();
        if let Self::Distribute(shares) = self {
            distribute(&mut out, shares);
        }
        out
    }

    /// How far an endpoint is; only the order counts.
    fn rank(&self, endpoint: &Endpoint) -> usize {
        let Self::Nearest { labels, distance } = self else { return 0 };
        let by_place = distance.as_ref().map_or(0, |d| d.to(&endpoint.locality));
        alike(labels, endpoint) * 5 + by_place
    }
}

impl Distance {
    fn to(&self, place: &Locality) -> usize {
        let from = &self.from;
        match () {
            () if from.region != place.region => match &self.next {
                None if self.regions_only => 4,
                Some(next) if *next != place.region => 4,
                _ => 3,
            },
            () if self.regions_only => 0,
            () if from.zone != place.zone => 2,
            () if from.subzone != place.subzone => 1,
            () => 0,
        }
    }
}

/// How little an endpoint is like its client: 0 where it has all of the labels, and the more the earlier the
/// first one is that it lacks. A network that is named first and differs comes after all else.
fn alike(labels: &[(Arc<str>, Arc<str>)], endpoint: &Endpoint) -> usize {
    let differs = |(key, value): &(Arc<str>, Arc<str>)| {
        let place = labelled(key, &endpoint.locality, &endpoint.network, &endpoint.cluster, &endpoint.node);
        let own = place.or_else(|| endpoint.labels.get(key));
        own.map_or("", |v| v) != &**value
    };
    let elsewhere = labels.first().is_some_and(|first| &*first.0 == NETWORK && differs(first));
    let rest = labels.iter().enumerate().skip(usize::from(elsewhere));
    let lacks = rest.filter(|(_, label)| differs(label)).map(|(at, _)| labels.len() - at).next();
    lacks.unwrap_or(0) + if elsewhere { labels.len() } else { 0 }
}

/// The value of a label that a place stands for.
fn labelled<'a>(
    key: &str,
    locality: &'a Locality,
    network: &'a Arc<str>,
    cluster: &'a Arc<str>,
    node: &'a Arc<str>,
) -> Option<&'a Arc<str>> {
    let value = match key {
        "topology.kubernetes.io/region" => &locality.region,
        "topology.kubernetes.io/zone" => &locality.zone,
        "topology.istio.io/subzone" => &locality.subzone,
        "topology.istio.io/cluster" => cluster,
        "kubernetes.io/hostname" => node,
        NETWORK => network,
        _ => return None,
    };
    (!value.is_empty()).then_some(value)
}

fn group(
    locality: &Locality,
    priority: u32,
    endpoints: Vec<pb::envoy::config::endpoint::v3::LbEndpoint>,
) -> LocalityLbEndpoints {
    let weights = endpoints.iter().filter_map(|e| e.load_balancing_weight.as_ref());
    let weight = weights.fold(0u32, |sum, w| sum.saturating_add(w.value));
    LocalityLbEndpoints {
        locality: Some(LocalityPb {
            region: locality.region.to_string(),
            zone: locality.zone.to_string(),
            sub_zone: locality.subzone.to_string(),
        }),
        priority,
        lb_endpoints: endpoints,
        load_balancing_weight: pb::uint32(weight),
        ..Default::default()
    }
}

/// Gives each place its share; a share that several places fall under is split by their weights. Places without
/// one get nothing.
fn distribute(groups: &mut [LocalityLbEndpoints], shares: &[(Arc<str>, u32)]) {
    let mut open: Vec<&mut LocalityLbEndpoints> = groups.iter_mut().collect();
    for (pattern, share) in shares {
        let within = |group: &LocalityLbEndpoints| {
            let place = group.locality.clone().unwrap_or_default();
            let place =
                Locality { region: place.region.into(), zone: place.zone.into(), subzone: place.sub_zone.into() };
            place.is_within(pattern)
        };
        let (mut chosen, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|g| within(g));
        open = rest;
        let weight =
            |group: &LocalityLbEndpoints| group.load_balancing_weight.as_ref().map_or(1, |w| u64::from(w.value));
        let total: u64 = chosen.iter().map(|g| weight(g)).sum();
        for group in &mut chosen {
            let own = (weight(group) * u64::from(*share)).div_ceil(total.max(1));
            group.load_balancing_weight = pb::uint32(u32::try_from(own).unwrap_or(u32::MAX));
        }
    }
    open.into_iter().for_each(|group| group.lb_endpoints.clear());
}
