//! ProxyConfig (`defaultConfig` of MeshConfig, `proxy.istio.io/config`, and what a node says of itself): the parts that
//! the control plane takes; and the kind ProxyConfig (`networking.istio.io`).

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What is said of a proxy, as far as the control plane takes it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// What stands before it, as a gateway.
    pub gateway_topology: Option<Topology>,
    /// What it makes of headers.
    pub proxy_headers: Option<ProxyHeaders>,
    /// What it makes of its clients' connections.
    pub connection_settings: Option<ConnectionSettings>,
}

/// Fields that only those read who start proxies: injectors and agents.
pub const OF_STARTERS: &[&str] = &[
    "availabilityZone",
    "binaryPath",
    "caCertificatesPem",
    "concurrency",
    "configPath",
    "controlPlaneAuthPolicy",
    "customConfigFile",
    "discoveryAddress",
    "discoveryRefreshDelay",
    "drainDuration",
    "envoyAccessLogService",
    "envoyMetricsService",
    "envoyMetricsServiceAddress",
    "extraStatTags",
    "fileFlushInterval",
    "fileFlushMinSizeKb",
    "holdApplicationUntilProxyStarts",
    "image",
    "interceptionMode",
    "meshId",
    "privateKeyProvider",
    "proxyAdminPort",
    "proxyBootstrapTemplatePath",
    "proxyMetadata",
    "proxyStatsMatcher",
    "readinessProbe",
    "runtimeValues",
    "sds",
    "serviceCluster",
    "statNameLength",
    "statsCompression",
    "statsdUdpAddress",
    "statusPort",
    "terminationDrainDuration",
    "tracing",
    "tracingServiceName",
    "zipkinAddress",
];

/// What stands before a gateway.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Topology {
    /// How many proxies add the address of their client.
    pub num_trusted_proxies: u32,
    /// What becomes of the header that tells of clients' certificates.
    pub forward_client_cert_details: Forwarded,
    /// Connections start with the PROXY protocol's header.
    pub proxy_protocol: Option<Value>,
}

/// What becomes of the header that tells of clients' certificates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Forwarded {
    /// Whatever is usual.
    #[default]
    Undefined,
    /// It is taken away.
    Sanitize,
    /// It stays where the client is known.
    ForwardOnly,
    /// It is added to where the client is known.
    AppendForward,
    /// It is replaced.
    SanitizeSet,
    /// It stays.
    AlwaysForwardOnly,
}

/// What a proxy makes of headers.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyHeaders {
    /// What becomes of the header that tells of clients' certificates, at sidecars.
    pub forwarded_client_cert: Forwarded,
    /// Which parts of them are told.
    pub set_current_client_cert_details: Option<CertificateDetails>,
    /// The identifier of requests.
    pub request_id: Option<Switch>,
    /// What answers name as the server.
    pub server: Option<Server>,
    /// The how manieth attempt a request is.
    pub attempt_count: Option<Switch>,
    /// Envoy's own headers for finding faults.
    pub envoy_debug_headers: Option<Switch>,
    /// Headers by which Istio's proxies know one another; Envoy has none.
    pub metadata_exchange_headers: Option<Value>,
    /// The names of HTTP/1.1 headers keep their case.
    pub preserve_http1_header_case: Option<bool>,
    /// Requests whose host is rewritten say which it was.
    pub x_forwarded_host: Option<Switch>,
    /// Requests say the port that they came to.
    pub x_forwarded_port: Option<Switch>,
}

/// Something that is on or off.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Switch {
    /// It is off.
    pub disabled: Option<bool>,
    /// It is on.
    pub enabled: Option<bool>,
}

/// What answers name as the server.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// What the server itself says.
    pub disabled: Option<bool>,
    /// This.
    pub value: String,
}

/// Which parts of a client's certificate are told.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateDetails {
    /// Its subject.
    pub subject: Option<bool>,
    /// All of it.
    pub cert: Option<bool>,
    /// All of it, with those that signed it.
    pub chain: Option<bool>,
    /// Its names of hosts.
    pub dns: Option<bool>,
    /// Its identity.
    pub uri: Option<bool>,
}

/// What a proxy makes of its clients' connections.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ConnectionSettings {
    /// `EDGE` for gateways that anybody may reach.
    pub profile: Profile,
    /// The most bytes that a connection holds back.
    pub listener_per_connection_buffer_limit_bytes: Option<i64>,
    /// The most connections of the whole proxy: of its bootstrap.
    pub global_downstream_connection_limit: Option<Value>,
    /// Idle time of connections.
    pub http_idle_timeout: Option<String>,
    /// How long a connection may last.
    pub http_max_connection_duration: Option<String>,
    /// How long a request may last with its answer.
    pub http_max_stream_duration: Option<String>,
    /// Idle time of requests.
    pub http_stream_idle_timeout: Option<String>,
    /// How long a request may take to arrive.
    pub http_request_timeout: Option<String>,
    /// How long its headers may take.
    pub http_request_headers_timeout: Option<String>,
    /// How long connections are given to end.
    pub http_drain_timeout: Option<String>,
    /// Requests at once on one HTTP/2 connection.
    pub http_max_concurrent_streams: Option<i64>,
    /// The first window of HTTP/2 requests.
    pub http2_initial_stream_window_size: Option<i64>,
    /// The first window of HTTP/2 connections.
    pub http2_initial_connection_window_size: Option<i64>,
    /// What becomes of headers with underscores in their names.
    pub http_headers_with_underscores_action: Underscores,
    /// Whether `//` becomes `/`.
    pub http_merge_slashes: Option<bool>,
    /// What becomes of escaped slashes.
    pub http_path_with_escaped_slashes_action: EscapedSlashes,
}

/// Whose care a proxy takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Profile {
    /// What is usual.
    #[default]
    Default,
    /// That of a gateway that anybody may reach.
    Edge,
}

/// What becomes of headers with underscores in their names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
pub enum Underscores {
    /// Whatever is usual.
    #[default]
    #[serde(rename = "HEADERS_WITH_UNDERSCORES_UNSPECIFIED")]
    Unset,
    /// They are like others.
    #[serde(rename = "HEADERS_WITH_UNDERSCORES_ALLOW")]
    Allow,
    /// The request is refused.
    #[serde(rename = "HEADERS_WITH_UNDERSCORES_REJECT_REQUEST")]
    Reject,
    /// They are left out.
    #[serde(rename = "HEADERS_WITH_UNDERSCORES_DROP_HEADER")]
    Drop,
}

/// What becomes of slashes that a path has escaped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum EscapedSlashes {
    /// Whatever is usual.
    #[default]
    PathWithEscapedSlashesUnspecified,
    /// They stay.
    KeepUnchanged,
    /// The request is refused.
    RejectRequest,
    /// They become slashes, and the client is sent to the new path.
    UnescapeAndRedirect,
    /// They become slashes.
    UnescapeAndForward,
}

/// `spec` of the kind ProxyConfig.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Object {
    /// The workloads it is for.
    pub selector: Option<Selector>,
    /// How many threads a proxy has.
    pub concurrency: Option<i64>,
    /// Variables of its environment.
    pub environment_variables: BTreeMap<String, String>,
    /// Its image.
    pub image: Option<Image>,
}

/// Chooses workloads by their labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Selector {
    /// The labels they have.
    pub match_labels: BTreeMap<String, String>,
}

/// A proxy's image.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Image {
    /// Which variant.
    pub image_type: String,
}
