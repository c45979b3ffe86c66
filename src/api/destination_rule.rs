//! DestinationRule (`networking.istio.io`), and the client settings that other kinds share with it.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `spec` of a DestinationRule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DestinationRule {
    /// The service.
    pub host: String,
    /// How it is reached.
    pub traffic_policy: Option<TrafficPolicy>,
    /// Named parts of it.
    pub subsets: Vec<Subset>,
    /// Who sees the rule.
    pub export_to: Vec<String>,
    /// The clients it is for.
    pub workload_selector: Option<LabelSelector>,
}

/// Chooses workloads by their labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// The labels they have.
    pub match_labels: BTreeMap<String, String>,
}

/// A named part of a service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Subset {
    /// Its name.
    pub name: String,
    /// The labels of its endpoints.
    pub labels: BTreeMap<String, String>,
    /// How it is reached.
    pub traffic_policy: Option<TrafficPolicy>,
}

/// How a service is reached.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TrafficPolicy {
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service.
    pub tls: Option<ClientTls>,
    /// What holds for single ports.
    pub port_level_settings: Vec<PortPolicy>,
    /// Tunnelling of TCP.
    pub tunnel: Option<Tunnel>,
    /// The PROXY protocol.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Retries as a share of requests.
    pub retry_budget: Option<RetryBudget>,
}

/// What holds for one port.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PortPolicy {
    /// The port.
    pub port: Option<PortSelector>,
    /// How an endpoint is chosen.
    pub load_balancer: Option<LoadBalancer>,
    /// Limits and timeouts of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are left out.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS towards the service.
    pub tls: Option<ClientTls>,
}

/// A port by its number.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PortSelector {
    /// The number.
    pub number: u32,
}

/// Tunnelling of TCP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Tunnel {
    /// `CONNECT` or `POST`.
    pub protocol: String,
    /// Where the tunnel leads.
    pub target_host: String,
    /// The port there.
    pub target_port: u32,
}

/// The PROXY protocol.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyProtocol {
    /// Its version.
    pub version: ProxyProtocolVersion,
}

/// A version of the PROXY protocol.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
pub enum ProxyProtocolVersion {
    /// The text form.
    #[default]
    V1,
    /// The binary form.
    V2,
}

/// Retries as a share of requests.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RetryBudget {
    /// The share, in percent.
    pub percent: Option<f64>,
    /// Retries that are always allowed.
    pub min_retry_concurrency: u32,
    /// For how long requests count.
    pub budget_interval: Option<String>,
}

/// How an endpoint is chosen.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LoadBalancer {
    /// A way without parameters.
    pub simple: Option<SimpleBalancer>,
    /// By a hash.
    pub consistent_hash: Option<ConsistentHash>,
    /// By place.
    pub locality_lb_setting: Option<LocalityBalancer>,
    /// By zone, in the proxy.
    pub zone_aware_lb_setting: Option<ZoneAwareBalancer>,
    /// The old form of `warmup`.
    pub warmup_duration_secs: Option<String>,
    /// New endpoints get their share little by little.
    pub warmup: Option<Warmup>,
}

/// A way to choose an endpoint, without parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum SimpleBalancer {
    /// The default.
    Unspecified,
    /// The old name of `LEAST_REQUEST`.
    LeastConn,
    /// Any.
    Random,
    /// The address that the client dialled.
    Passthrough,
    /// One after the other.
    RoundRobin,
    /// The one with fewer requests of two.
    LeastRequest,
}

/// An endpoint chosen by a hash.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConsistentHash {
    /// Of this header.
    pub http_header_name: Option<String>,
    /// Of a cookie.
    pub http_cookie: Option<HttpCookie>,
    /// Of the client's address.
    pub use_source_ip: Option<bool>,
    /// Of this query parameter.
    pub http_query_parameter_name: Option<String>,
    /// By a ring.
    pub ring_hash: Option<RingHash>,
    /// By maglev.
    pub maglev: Option<Maglev>,
    /// The old form of `ringHash.minimumRingSize`.
    pub minimum_ring_size: u64,
}

/// A cookie whose hash chooses the endpoint.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpCookie {
    /// Its name.
    pub name: String,
    /// Its path.
    pub path: String,
    /// Its life.
    pub ttl: Option<String>,
    /// Its attributes.
    pub attributes: Vec<CookieAttribute>,
}

/// An attribute of a cookie.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct CookieAttribute {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A hash ring.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RingHash {
    /// Its least size.
    pub minimum_ring_size: u64,
}

/// A maglev table.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Maglev {
    /// Its size.
    pub table_size: u64,
}

/// Endpoints chosen by place.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct LocalityBalancer {
    /// Shares by place.
    pub distribute: Vec<Distribute>,
    /// Where to go when a region fails.
    pub failover: Vec<Failover>,
    /// Labels that make endpoints nearer.
    pub failover_priority: Vec<String>,
    /// `false` turns it off.
    pub enabled: Option<bool>,
}

/// Shares of the traffic from one place.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Distribute {
    /// The place of the client.
    pub from: String,
    /// The share of each place, in percent.
    pub to: BTreeMap<String, u32>,
}

/// The region that takes over for another.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Failover {
    /// The region that fails.
    pub from: String,
    /// The region that takes over.
    pub to: String,
}

/// Endpoints chosen by zone, in the proxy.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ZoneAwareBalancer {
    /// `false` turns it off.
    pub enabled: Option<bool>,
    /// Where to go when a region fails.
    pub failover: Vec<Failover>,
    /// Labels that make endpoints nearer.
    pub failover_priority: Vec<String>,
    /// The least number of endpoints.
    pub min_cluster_size: Option<u64>,
}

/// New endpoints get their share little by little.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Warmup {
    /// For how long.
    pub duration: Option<String>,
    /// The share that they start with, in percent.
    pub minimum_percent: Option<f64>,
    /// How the share grows.
    pub aggression: Option<f64>,
}

/// Limits and timeouts of connections.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionPool {
    /// For all traffic.
    pub tcp: Option<TcpPool>,
    /// For HTTP.
    pub http: Option<HttpPool>,
}

/// Limits and timeouts of all connections.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpPool {
    /// Connections at once.
    pub max_connections: i64,
    /// How long connecting may take.
    pub connect_timeout: Option<String>,
    /// Keepalive of the sockets.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// How long a connection may last.
    pub max_connection_duration: Option<String>,
    /// How long a connection may be idle.
    pub idle_timeout: Option<String>,
}

/// Keepalive of sockets.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpKeepalive {
    /// Probes without an answer before the connection is dead.
    pub probes: u32,
    /// Silence before the first probe.
    pub time: Option<String>,
    /// Between probes.
    pub interval: Option<String>,
}

/// Limits and timeouts of HTTP.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpPool {
    /// Requests that wait for a connection.
    pub http1_max_pending_requests: i64,
    /// Requests at once.
    pub http2_max_requests: i64,
    /// Requests on one connection.
    pub max_requests_per_connection: i64,
    /// Retries at once.
    pub max_retries: i64,
    /// How long a connection without requests is kept.
    pub idle_timeout: Option<String>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade_policy: H2UpgradePolicy,
    /// The client's protocol is used.
    pub use_client_protocol: bool,
    /// Streams at once on one HTTP/2 connection.
    pub max_concurrent_streams: i64,
    /// Pings on HTTP/2 connections.
    pub http2_keep_alive: Option<Http2KeepAlive>,
}

/// Whether HTTP/1.1 becomes HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2UpgradePolicy {
    /// As the mesh has it.
    #[default]
    Default,
    /// No.
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// Pings on HTTP/2 connections.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Http2KeepAlive {
    /// Between pings.
    pub interval: Option<String>,
    /// How long the answer may take.
    pub timeout: Option<String>,
}

/// When endpoints are left out.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutlierDetection {
    /// No longer has an effect.
    pub consecutive_errors: i64,
    /// Errors of connecting are counted apart.
    pub split_external_local_origin_errors: bool,
    /// After this many errors of connecting.
    pub consecutive_local_origin_failures: Option<u32>,
    /// After this many gateway errors.
    pub consecutive_gateway_errors: Option<u32>,
    /// After this many 5xx.
    pub consecutive_5xx_errors: Option<u32>,
    /// How often is looked.
    pub interval: Option<String>,
    /// For how long at least.
    pub base_ejection_time: Option<String>,
    /// How many may be left out, in percent.
    pub max_ejection_percent: i64,
    /// The share of healthy endpoints below which health does not count, in percent.
    pub min_health_percent: i64,
    /// The answers that count as errors.
    pub outlier_detection_http_error_codes: Vec<u32>,
}

/// TLS towards a service.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ClientTls {
    /// The mode.
    pub mode: TlsMode,
    /// The file of the client's certificate.
    pub client_certificate: String,
    /// The file of its key.
    pub private_key: String,
    /// The file of the authorities that are trusted.
    pub ca_certificates: String,
    /// The secret that holds all of them.
    pub credential_name: String,
    /// The names that the server may have.
    pub subject_alt_names: Vec<String>,
    /// The name asked for.
    pub sni: String,
    /// The server's certificate is not checked.
    pub insecure_skip_verify: Option<bool>,
    /// The file of the revoked certificates.
    pub ca_crl: String,
}

/// The mode of TLS towards a service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum TlsMode {
    /// None.
    #[default]
    Disable,
    /// The server shows a certificate.
    Simple,
    /// Both do.
    Mutual,
    /// Both do, with the mesh's identities.
    IstioMutual,
}
