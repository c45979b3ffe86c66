//! MeshConfig, the mesh's settings: the fields whose meaning is served (Istio: `mesh/v1alpha1/config.proto`).

use super::{
    destination_rule::{
        ClientTls, ConnectionPool, LocalityBalancer, OutlierDetection, TcpKeepalive, ZoneAwareBalancer,
    },
    virtual_service::Retries,
};
use serde::Deserialize;

/// The mesh's settings.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshConfig {
    /// The port of the outbound listener that captured traffic arrives at.
    pub proxy_listen_port: Option<i64>,
    /// The port of the inbound listener that captured traffic arrives at.
    pub proxy_inbound_listen_port: Option<i64>,
    /// The port of the forward proxy listener.
    pub proxy_http_port: Option<i64>,
    /// How long an upstream connection may take.
    pub connect_timeout: Option<String>,
    /// How long protocol detection waits.
    pub protocol_detection_timeout: Option<String>,
    /// Keepalive of sockets.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Tracing is on unless told otherwise.
    pub enable_tracing: Option<bool>,
    /// The file that requests are logged to.
    pub access_log_file: Option<String>,
    /// Whether a line is a text or JSON.
    pub access_log_encoding: Encoding,
    /// What a line says.
    pub access_log_format: Option<String>,
    /// Connections that a listener has no use for are left out.
    pub disable_envoy_listener_log: Option<bool>,
    /// What holds for proxies that say nothing themselves.
    pub default_config: Option<serde_json::Value>,
    /// The namespaces that are looked at.
    pub discovery_selectors: Vec<LabelSelector>,
    /// Where inbound traffic goes.
    pub inbound_traffic_policy: Option<InboundTrafficPolicy>,
    /// Retries of requests to the own workload.
    pub default_inbound_http_retry_policy: Option<Retries>,
    /// What happens to outbound traffic that no service is known for.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
    /// Sidecars use mutual TLS where the server can.
    pub enable_auto_mtls: Option<bool>,
    /// Which Ingresses are served.
    pub ingress_controller_mode: Option<String>,
    /// The class in the annotations of Ingresses.
    pub ingress_class: Option<String>,
    /// The Service before the gateways that serve Ingresses.
    pub ingress_service: Option<String>,
    /// The label `istio` of those gateways.
    pub ingress_selector: Option<String>,
    /// The identity domain.
    pub trust_domain: Option<String>,
    /// Further identity domains that count as this one.
    pub trust_domain_aliases: Vec<String>,
    /// TLS between workloads.
    #[serde(rename = "meshMTLS")]
    pub mesh_mtls: Option<TlsDefaults>,
    /// Who sees services that do not say.
    pub default_service_export_to: Vec<String>,
    /// Who sees VirtualServices that do not say.
    pub default_virtual_service_export_to: Vec<String>,
    /// Who sees DestinationRules that do not say.
    pub default_destination_rule_export_to: Vec<String>,
    /// The namespace whose configuration is the default of all.
    pub root_namespace: Option<String>,
    /// Which places are preferred.
    pub locality_lb_setting: Option<LocalityBalancer>,
    /// Which zones are preferred, decided in the proxy.
    pub zone_aware_lb_setting: Option<ZoneAwareBalancer>,
    /// How often DNS clusters resolve.
    pub dns_refresh_rate: Option<String>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade_policy: Option<H2Upgrade>,
    /// The pattern of outbound clusters' names in statistics.
    pub outbound_cluster_stat_name: Option<String>,
    /// The pattern of inbound clusters' names in statistics.
    pub inbound_cluster_stat_name: Option<String>,
    /// How paths are put in order before they are matched.
    pub path_normalization: Option<PathNormalization>,
    /// Retries of routes that do not say.
    pub default_http_retry_policy: Option<Retries>,
    /// TLS: that of the mesh, or that towards others.
    pub tls_defaults: Option<TlsDefaults>,
    /// Limits of every outbound cluster.
    pub default_traffic_policy: Option<DefaultTrafficPolicy>,
    /// Which services keep to their cluster.
    pub service_settings: Vec<ServiceSettings>,
    /// Services that decide about requests, or that are told of them; each kind is read by itself.
    pub extension_providers: serde_json::Value,
}

/// Fields of MeshConfig that are not served yet.
pub const NOT_YET: &[&str] = &[
    "ca",
    "caCertificates",
    "certificates",
    "configSources",
    "defaultProviders",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "hboneIdleTimeout",
    "serviceEntryVisibility",
    "serviceScopeConfigs",
    "verifyCertificateAtClient",
];

/// Whether a line of a log is a text or JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Encoding {
    /// A text.
    #[default]
    Text,
    /// JSON.
    Json,
}

/// What holds for some services.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceSettings {
    /// What holds.
    pub settings: OfService,
    /// The hosts of the services, or wildcards.
    pub hosts: Vec<String>,
}

/// What holds for a service.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OfService {
    /// Clients reach the endpoints of their own cluster alone.
    pub cluster_local: bool,
}

/// Labels that are asked for in any of Kubernetes' ways.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelSelector {
    /// These labels with these values.
    pub match_labels: std::collections::BTreeMap<String, String>,
    /// And all of these.
    pub match_expressions: Vec<LabelExpression>,
}

/// What is asked of one label.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LabelExpression {
    /// The label.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values.
    pub values: Vec<String>,
}

/// Where inbound traffic goes.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct InboundTrafficPolicy {
    /// Where.
    pub mode: InboundMode,
}

/// Where inbound traffic goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum InboundMode {
    /// Where it came to.
    #[default]
    Passthrough,
    /// To the workload's loopback address.
    Localhost,
}

/// What happens to outbound traffic that no service is known for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// The mode; Protobuf's first value where it is left out.
    pub mode: OutboundMode,
    /// TLS towards hosts that are resolved when they are asked for.
    pub tls: Option<ClientTls>,
}

/// What happens to outbound traffic that no service is known for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum OutboundMode {
    /// It goes nowhere.
    #[default]
    RegistryOnly,
    /// It goes where it was going.
    AllowAny,
    /// It goes where its host resolves to.
    AllowAnyDynamicDns,
}

/// Whether HTTP/1.1 becomes HTTP/2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum H2Upgrade {
    /// No.
    #[default]
    DoNotUpgrade,
    /// Yes.
    Upgrade,
}

/// How paths are put in order before they are matched.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PathNormalization {
    /// How.
    pub normalization: Normalization,
}

/// How paths are put in order before they are matched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Normalization {
    /// As `BASE`.
    #[default]
    Default,
    /// Not at all.
    None,
    /// As RFC 3986 says.
    Base,
    /// Also `//` becomes `/`.
    MergeSlashes,
    /// Also `%2F` and `%5C` are decoded first.
    DecodeAndMergeSlashes,
}

/// TLS that is not the mesh's own.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct TlsDefaults {
    /// The oldest version of TLS.
    pub min_protocol_version: Option<String>,
    /// The curves.
    pub ecdh_curves: Vec<String>,
    /// The ciphers.
    pub cipher_suites: Vec<String>,
}

/// Limits of every outbound cluster.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DefaultTrafficPolicy {
    /// Limits and timeouts of connections.
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are left out.
    pub outlier_detection: Option<OutlierDetection>,
}

/// The networks of the mesh (`meshNetworks`).
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MeshNetworks {
    /// The networks by name.
    pub networks: std::collections::BTreeMap<String, Network>,
}

/// A network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Network {
    /// What is in it.
    pub endpoints: Vec<NetworkEndpoints>,
    /// How it is entered from others.
    pub gateways: Vec<NetworkGateway>,
}

/// What is in a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkEndpoints {
    /// These addresses.
    pub from_cidr: Option<String>,
    /// This cluster.
    pub from_registry: Option<String>,
}

/// A way into a network.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkGateway {
    /// The service that is the gateway.
    pub registry_service_name: Option<String>,
    /// Or its address.
    pub address: Option<String>,
    /// Its port.
    pub port: u32,
    /// Its place.
    pub locality: Option<String>,
}
