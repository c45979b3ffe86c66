//! DestinationRules: how a service is reached, and which subsets it has.

use super::{Created, ExportTo, Labels};
use crate::id::{Host, Namespace, ObjectRef};
use std::sync::Arc;

/// A DestinationRule with its host resolved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DestinationRule {
    /// The object.
    pub source: ObjectRef,
    /// When it was made.
    pub created: Created,
    /// The host that it is for, fully qualified or a wildcard.
    pub host: Host,
    /// Who sees it.
    pub export_to: ExportTo,
    /// The clients that it is for; `None` for all.
    pub selector: Option<Labels>,
    /// How the service is reached.
    pub policy: TrafficPolicy,
    /// Its subsets, in the order written.
    pub subsets: Vec<Subset>,
    /// Other rules for the same host that were merged into this one.
    pub merged: Vec<ObjectRef>,
}

impl DestinationRule {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.source.namespace
    }

    /// The objects that it comes from.
    pub fn sources(&self) -> impl Iterator<Item = &ObjectRef> {
        std::iter::once(&self.source).chain(&self.merged)
    }

    /// Whether clients may dial the endpoints themselves (`PASSTHROUGH`), for some port or subset.
    pub fn may_dial(&self) -> bool {
        self.policies().any(|p| p.load_balancer.as_ref().is_some_and(|l| l.kind == LoadBalancerKind::Passthrough))
    }

    /// Every policy in it.
    fn policies(&self) -> impl Iterator<Item = &TrafficPolicy> {
        let policies = std::iter::once(&self.policy).chain(self.subsets.iter().filter_map(|s| s.policy.as_ref()));
        policies.flat_map(|p| std::iter::once(p).chain(p.ports.iter().map(|(_, p)| p)))
    }

    /// The credentials that it names; one may come more than once.
    pub fn credentials(&self) -> impl Iterator<Item = &Arc<str>> {
        self.policies().filter_map(|p| p.tls.as_ref()).map(|t| &t.credential).filter(|c| !c.is_empty())
    }

    /// The keys of labels by which it tells its clients apart.
    pub fn client_labels(&self) -> Vec<&Arc<str>> {
        let nearer = self.policies().filter_map(|p| p.load_balancer.as_ref()).flat_map(LoadBalancer::priority_keys);
        self.selector.iter().flat_map(Labels::keys).chain(nearer).collect()
    }

    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<&Subset> {
        self.subsets.iter().find(|s| &*s.name == name)
    }

    /// How a port of the service, or of a subset of it, is reached: what the subset says, over what the rule says.
    pub fn policy_for(&self, port: u16, subset: Option<&Subset>) -> TrafficPolicy {
        let whole = self.policy.for_port(port).clone();
        match subset.and_then(|s| s.policy.as_ref()) {
            None => whole,
            Some(own) => whole.overridden(own, port),
        }
    }

    /// The rule with another one for the same host added: its subsets that are not there yet, and its policy
    /// where there is none yet. The names of subsets that were there already are given as well.
    #[must_use]
    pub fn merge(&self, other: &DestinationRule) -> (DestinationRule, Vec<Arc<str>>) {
        let mut merged = self.clone();
        let mut twice = Vec::new();
        for subset in &other.subsets {
            match merged.subset(&subset.name).is_some() {
                true => twice.push(subset.name.clone()),
                false => merged.subsets.push(subset.clone()),
            }
        }
        if merged.policy == TrafficPolicy::default() {
            merged.policy = other.policy.clone();
        }
        merged.merged.extend(other.sources().cloned());
        (merged, twice)
    }
}

impl TrafficPolicy {
    /// What holds for a port. Settings for a port take the place of the others as a whole: what they leave out
    /// has its default, not what is said for all ports.
    pub fn for_port(&self, port: u16) -> &TrafficPolicy {
        match self.ports.iter().find(|(number, _)| *number == port) {
            Some((_, own)) => own,
            None => self,
        }
    }

    /// This policy with what a subset's says put over it, for one port.
    #[must_use]
    pub fn overridden(mut self, subset: &TrafficPolicy, port: u16) -> TrafficPolicy {
        let own = subset.for_port(port);
        let replaces = subset.ports.iter().any(|(number, _)| *number == port);
        macro_rules! over {
            ($($field:ident),*) => {
                $(if own.$field.is_some() || replaces { self.$field = own.$field.clone(); })*
            };
        }
        over!(load_balancer, connection_pool, outlier_detection, tls);
        self.tunnel = own.tunnel.clone().or(self.tunnel);
        self.proxy_protocol = own.proxy_protocol.or(self.proxy_protocol);
        self.retry_budget = own.retry_budget.or(self.retry_budget);
        self.ports = Vec::new();
        self
    }
}

/// A part of a service's endpoints.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Subset {
    /// Its name.
    pub name: Arc<str>,
    /// The labels that its endpoints have.
    pub labels: Labels,
    /// How it is reached; what is not set here comes from the rule.
    pub policy: Option<TrafficPolicy>,
}

/// How a service is reached; each part is absent where nothing is said.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// How many connections and requests there may be.
    pub connection_pool: Option<ConnectionPool>,
    /// When an endpoint is left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service.
    pub tls: Option<ClientTls>,
    /// Tunnelling of TCP.
    pub tunnel: Option<Tunnel>,
    /// The version of the PROXY protocol that is sent ahead, 1 or 2.
    pub proxy_protocol: Option<u8>,
    /// Retries as a share of requests.
    pub retry_budget: Option<RetryBudget>,
    /// What holds for one port instead, by port number; of it only the first four parts count.
    pub ports: Vec<(u16, TrafficPolicy)>,
}

/// Tunnelling of TCP through an HTTP proxy.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tunnel {
    /// Asked for with POST instead of CONNECT.
    pub post: bool,
    /// Where the tunnel leads.
    pub host: Arc<str>,
    /// The port there.
    pub port: u16,
}

/// Retries as a share of requests.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RetryBudget {
    /// The share in millionths of a percent; `None` for 20 %.
    pub percent: Option<u64>,
    /// Retries that are always allowed; 0 for the default, 3.
    pub min_concurrency: u32,
    /// For how long requests count, in milliseconds.
    pub interval: Option<u64>,
}

/// How an endpoint is chosen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LoadBalancer {
    /// The way.
    pub kind: LoadBalancerKind,
    /// Which places are preferred.
    pub locality: Option<LocalityBalancing>,
    /// Which zones are preferred, decided in the proxy.
    pub zone_aware: Option<ZoneAware>,
    /// New endpoints get their share little by little.
    pub warmup: Option<Warmup>,
}

impl LoadBalancer {
    /// The keys of labels in which endpoints should be like their client.
    fn priority_keys(&self) -> impl Iterator<Item = &Arc<str>> {
        let lists = [self.locality.as_ref().map(|l| &l.priority), self.zone_aware.as_ref().map(|z| &z.priority)];
        lists.into_iter().flatten().flatten().filter(|key| !key.contains('='))
    }
}

/// The share of each place, in percent.
pub type Shares = Vec<(Arc<str>, u32)>;

/// Which places are preferred.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LocalityBalancing {
    /// Whether the whole is turned off, also what the mesh says.
    pub off: bool,
    /// The share of each place (in percent), by the client's place; places are patterns such as `region/zone/*`.
    pub distribute: Vec<(Arc<str>, Shares)>,
    /// The region that takes over for another.
    pub failover: Vec<(Arc<str>, Arc<str>)>,
    /// Labels that make endpoints nearer, the most important first, `key` or `key=value`.
    pub priority: Vec<Arc<str>>,
}

/// Which zones are preferred, decided in the proxy.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ZoneAware {
    /// Whether it is turned off.
    pub off: bool,
    /// The region that takes over for another.
    pub failover: Vec<(Arc<str>, Arc<str>)>,
    /// Labels that make endpoints nearer, the most important first, `key` or `key=value`.
    pub priority: Vec<Arc<str>>,
    /// The least number of endpoints.
    pub min_cluster_size: Option<u64>,
}

/// New endpoints get their share little by little.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Warmup {
    /// For how long, in milliseconds.
    pub window: u64,
    /// The share to start with (in millionths of a percent) and how it grows (in millionths); `None` to leave
    /// both to the proxy.
    pub shape: Option<(u64, u64)>,
}

/// The way in which an endpoint is chosen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum LoadBalancerKind {
    /// The one with the fewest requests of two.
    #[default]
    LeastRequest,
    /// One after the other.
    RoundRobin,
    /// Any.
    Random,
    /// The address that the client dialled.
    Passthrough,
    /// The one that the hash of something in the request names.
    Hash {
        /// What is hashed.
        key: HashKey,
        /// How the hash names an endpoint.
        table: HashTable,
    },
}

/// What is hashed.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HashKey {
    /// A header.
    Header(Arc<str>),
    /// A cookie, made where it has a life (in milliseconds).
    Cookie {
        /// Its name.
        name: Arc<str>,
        /// Its path.
        path: Arc<str>,
        /// Its life in milliseconds; `None` for a cookie that is never made.
        ttl: Option<u64>,
        /// Its attributes, name and value.
        attributes: Vec<(Arc<str>, Arc<str>)>,
    },
    /// The client's address.
    SourceIp,
    /// A query parameter.
    QueryParameter(Arc<str>),
}

/// How a hash names an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HashTable {
    /// A ring of at least this many entries; 0 for Envoy's default.
    Ring(u64),
    /// Maglev, with a table of this size; 0 for Envoy's default.
    Maglev(u64),
}

/// How many connections and requests there may be; times in milliseconds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ConnectionPool {
    /// Connections.
    pub max_connections: Option<u32>,
    /// How long connecting may take.
    pub connect_timeout: Option<u64>,
    /// Keepalive of the sockets.
    pub keepalive: Option<Keepalive>,
    /// How long a connection may last.
    pub max_connection_duration: Option<u64>,
    /// Idle time of TCP connections.
    pub tcp_idle_timeout: Option<u64>,
    /// Requests that wait for a connection.
    pub max_pending_requests: Option<u32>,
    /// Requests at once.
    pub max_requests: Option<u32>,
    /// Requests on one connection.
    pub max_requests_per_connection: Option<u32>,
    /// Retries at once.
    pub max_retries: Option<u32>,
    /// Idle time of HTTP connections.
    pub http_idle_timeout: Option<u64>,
    /// Whether HTTP/1.1 becomes HTTP/2; `None` for the mesh's default.
    pub h2_upgrade: Option<bool>,
    /// The client's own protocol is used.
    pub use_client_protocol: bool,
    /// Streams at once on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// Pings on HTTP/2 connections: the time between them, and the time that the answer may take.
    pub http2_keepalive: Option<(u64, u64)>,
}

/// Keepalive of sockets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Keepalive {
    /// Probes without an answer before the connection is dead.
    pub probes: Option<u32>,
    /// Seconds of silence before the first probe.
    pub time: Option<u32>,
    /// Seconds between probes.
    pub interval: Option<u32>,
}

/// When an endpoint is left out; times in milliseconds.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct OutlierDetection {
    /// After this many 5xx in a row; 0 for never.
    pub consecutive_5xx: Option<u32>,
    /// After this many gateway errors in a row; 0 for never.
    pub consecutive_gateway_errors: Option<u32>,
    /// Errors of connecting are counted apart.
    pub split_local: bool,
    /// After this many errors of connecting in a row.
    pub consecutive_local: Option<u32>,
    /// How often is looked.
    pub interval: Option<u64>,
    /// For how long at least.
    pub base_ejection: Option<u64>,
    /// How many may be left out, in percent.
    pub max_ejection_percent: Option<u32>,
    /// The share of healthy endpoints below which health does not count, in percent.
    pub min_health_percent: Option<u32>,
    /// The answers that count as errors; empty for every 5xx.
    pub error_codes: Vec<u32>,
}

/// TLS towards a service.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClientTls {
    /// The mode.
    pub mode: TlsMode,
    /// The name asked for; empty for the default.
    pub sni: Arc<str>,
    /// The names that the server may have; empty for the default.
    pub subject_alt_names: Vec<Arc<str>>,
    /// The file of the client's certificate; empty for none.
    pub certificate: Arc<str>,
    /// The file of its key; empty for none.
    pub key: Arc<str>,
    /// The file of the authorities that are trusted; empty for those of the system.
    pub ca: Arc<str>,
    /// The file of the revoked certificates; empty for none.
    pub crl: Arc<str>,
    /// The secret that holds certificate, key and authorities instead; empty for none.
    pub credential: Arc<str>,
    /// The server's certificate is not checked.
    pub insecure: bool,
}

/// The mode of TLS towards a service.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TlsMode {
    /// None.
    Disable,
    /// The server shows a certificate.
    Simple,
    /// Both do, from files or secrets.
    Mutual,
    /// Both do, with the mesh's identities.
    IstioMutual,
}
