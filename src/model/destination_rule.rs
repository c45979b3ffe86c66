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
}

impl DestinationRule {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.source.namespace
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
    /// What holds for one port instead, by port number.
    pub ports: Vec<(u16, TrafficPolicy)>,
}

/// How an endpoint is chosen.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LoadBalancer {
    /// The way.
    pub kind: LoadBalancerKind,
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
    },
    /// The client's address.
    SourceIp,
    /// A query parameter.
    QueryParameter(Arc<str>),
}

/// How a hash names an endpoint.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HashTable {
    /// A ring of at least this many entries.
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
    /// Keepalive: probes, seconds of silence, seconds between probes.
    pub keepalive: Option<(Option<u32>, Option<u32>, Option<u32>)>,
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
