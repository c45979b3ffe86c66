//! Endpoints: where a service is served.

use super::Labels;
use crate::id::Namespace;
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// One address and port that serves one port of a service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Endpoint {
    /// Where it is.
    pub address: EndpointAddress,
    /// Further addresses of the same endpoint in the other IP family.
    pub more_addresses: Vec<IpAddr>,
    /// The name of the service's port that it serves.
    pub port_name: Arc<str>,
    /// Its port; 0 for a socket file.
    pub port: u16,
    /// The workload's labels, by which subsets are chosen.
    pub labels: Labels,
    /// The workload's identity (`spiffe://…`).
    pub account: Option<Arc<str>>,
    /// The network that it is in; empty where there is only one.
    pub network: Arc<str>,
    /// Where it stands.
    pub locality: Locality,
    /// Its share of the load; at least 1.
    pub weight: u32,
    /// Whether its workload accepts mutual TLS (label `security.istio.io/tlsMode: istio`).
    pub tls: bool,
    /// Whether it serves.
    pub health: Health,
    /// The name of the workload.
    pub workload: Arc<str>,
    /// The namespace of the workload.
    pub namespace: Namespace,
    /// The node that it runs on; empty where unknown.
    pub node: Arc<str>,
    /// The cluster that it is in.
    pub cluster: Arc<str>,
    /// Its host name within `subdomain`; empty where it has none.
    pub hostname: Arc<str>,
    /// The headless service that names it; empty where there is none.
    pub subdomain: Arc<str>,
}

/// Where an endpoint is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum EndpointAddress {
    /// An IP address.
    Ip(IpAddr),
    /// A name to be resolved by the client.
    Host(Arc<str>),
    /// A socket file.
    Unix(Arc<str>),
}

/// Whether an endpoint serves.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Health {
    /// Nobody says: endpoints written by hand.
    Unknown,
    /// Ready.
    Healthy,
    /// Not ready.
    Unhealthy,
    /// Finishing what it has.
    Draining,
    /// Going away.
    Terminating,
}

impl Health {
    /// Whether it may get requests.
    pub fn serves(self) -> bool {
        matches!(self, Self::Unknown | Self::Healthy)
    }
}

/// A place: region, zone, sub-zone; parts that are unknown are empty.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Locality {
    /// The region.
    pub region: Arc<str>,
    /// The zone in it.
    pub zone: Arc<str>,
    /// The part of the zone.
    pub subzone: Arc<str>,
}

impl Locality {
    /// Reads `region/zone/subzone`, later parts being optional.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(Arc::from);
        let mut next = || parts.next().unwrap_or_default();
        Self { region: next(), zone: next(), subzone: next() }
    }

    /// Whether it lies within a pattern `region/zone/subzone`, whose parts may be `*` or missing.
    pub fn is_within(&self, pattern: &str) -> bool {
        let pattern = Self::parse(pattern);
        let part = |wanted: &str, has: &str| wanted == "*" || wanted == has;
        part(&pattern.region, &self.region)
            && (pattern.zone.is_empty() || part(&pattern.zone, &self.zone))
            && (pattern.subzone.is_empty() || part(&pattern.subzone, &self.subzone))
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.region.is_empty() && self.zone.is_empty() && self.subzone.is_empty()
    }
}

impl std::fmt::Display for Locality {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (region, zone, subzone) = (&self.region, &self.zone, &self.subzone);
        match (zone.is_empty(), subzone.is_empty()) {
            (true, true) => f.write_str(region),
            (_, true) => write!(f, "{region}/{zone}"),
            _ => write!(f, "{region}/{zone}/{subzone}"),
        }
    }
}

/// All endpoints of one service.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct EndpointSet {
    /// The endpoints, in a fixed order.
    pub endpoints: Vec<Endpoint>,
    /// The identities among them, sorted.
    pub accounts: Vec<Arc<str>>,
}

impl EndpointSet {
    /// The set of these endpoints.
    pub fn new(mut endpoints: Vec<Endpoint>) -> Self {
        endpoints.sort_by(|a, b| (&a.address, a.port, &a.port_name).cmp(&(&b.address, b.port, &b.port_name)));
        let accounts: BTreeSet<_> = endpoints.iter().filter_map(|e| e.account.clone()).collect();
        Self { endpoints, accounts: accounts.into_iter().collect() }
    }
}
