//! The mesh's settings (MeshConfig) and the switches that istiod takes from its environment.

use super::{
    Authorizers, ClientTls, ConnectionPool, ExportTo, IngressControl, Keepalive, LabelSelector, LocalityBalancing,
    OutlierDetection, ProxyConfig, TlsVersion, ZoneAware,
};
use crate::id::{Host, Namespace, Shared};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The mesh's settings, with Istio's defaults where nothing is set
/// (reference: `pkg/config/mesh/mesh.go` of Istio).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mesh {
    /// The identity domain.
    pub trust_domain: Arc<str>,
    /// Further identity domains whose identities count as those of this one (`trustDomainAliases`).
    pub trust_domain_aliases: Vec<Arc<str>>,
    /// TLS between workloads (`meshMTLS`).
    pub mtls: MeshTls,
    /// The namespace whose configuration is the default of all.
    pub root_namespace: Namespace,
    /// The DNS suffix of the cluster's services.
    pub domain: Arc<str>,
    /// The cluster that objects without a cluster are in.
    pub cluster: Arc<str>,
    /// The port of the outbound listener that captured traffic arrives at.
    pub outbound_port: u16,
    /// The port of the inbound listener that captured traffic arrives at.
    pub inbound_port: u16,
    /// The port of the forward proxy listener; 0 where there is none.
    pub http_proxy_port: u16,
    /// How long an upstream connection may take, in milliseconds.
    pub connect_timeout: u64,
    /// How long protocol detection waits, in milliseconds; 0 for without end.
    pub detection_timeout: u64,
    /// What happens to outbound traffic that no service is known for.
    pub outbound_policy: OutboundPolicy,
    /// TLS towards hosts that are resolved because no service is known for them.
    pub unknown_tls: Option<ClientTls>,
    /// Sidecars use mutual TLS where the server can.
    pub auto_mtls: bool,
    /// How paths are put in order before they are matched.
    pub path_normalization: PathNormalization,
    /// Who sees services that do not say.
    pub service_export_to: ExportTo,
    /// Who sees VirtualServices that do not say.
    pub virtual_service_export_to: ExportTo,
    /// Who sees DestinationRules that do not say.
    pub destination_rule_export_to: ExportTo,
    /// Tracing is on unless told otherwise (`enableTracing`).
    pub tracing: bool,
    /// The share of requests that are traced, in percent × 100.
    pub trace_sampling: u32,
    /// How often DNS clusters resolve, in milliseconds.
    pub dns_refresh: u64,
    /// Where requests are logged.
    pub access_log: AccessLogging,
    /// What holds for proxies that say nothing themselves (`defaultConfig`).
    pub proxy_config: ProxyConfig,
    /// The namespaces that are looked at: those that one of these selects; all where there is none.
    pub discovery_selectors: Vec<LabelSelector>,
    /// Inbound traffic goes to the workload's loopback address instead of where it came to (`inboundTrafficPolicy`).
    pub inbound_to_loopback: bool,
    /// Retries of requests to the own workload, where the mesh says (`defaultInboundHttpRetryPolicy`).
    pub inbound_retry: Option<super::Retry>,
    /// The networks that endpoints are in (`meshNetworks`), by name.
    pub networks: Vec<Network>,
    /// Which hosts, or wildcards, are reached within a cluster alone, and which are not (`serviceSettings`).
    pub cluster_local: Vec<(Host, bool)>,
    /// Retries of routes that do not say.
    pub default_retry: Option<super::Retry>,
    /// What holds for outbound clusters where no DestinationRule says otherwise.
    pub clusters: Shared<ClusterDefaults>,
    /// Those who are asked about requests where policies say so (`extensionProviders`).
    pub authorizers: Authorizers,
    /// Which Ingresses are served, and where.
    pub ingress: IngressControl,
    /// Switches from the environment.
    pub features: Features,
}

impl Default for Mesh {
    fn default() -> Self {
        Self {
            trust_domain: "cluster.local".into(),
            trust_domain_aliases: Vec::new(),
            mtls: MeshTls::default(),
            root_namespace: "istio-system".into(),
            domain: "cluster.local".into(),
            cluster: "Kubernetes".into(),
            outbound_port: 15001,
            inbound_port: 15006,
            http_proxy_port: 0,
            connect_timeout: 10_000,
            detection_timeout: 0,
            outbound_policy: OutboundPolicy::AllowAny,
            unknown_tls: None,
            auto_mtls: true,
            path_normalization: PathNormalization::Base,
            service_export_to: ExportTo::Unset,
            virtual_service_export_to: ExportTo::Unset,
            destination_rule_export_to: ExportTo::Unset,
            tracing: true,
            trace_sampling: 100,
            dns_refresh: 60_000,
            access_log: AccessLogging::default(),
            proxy_config: ProxyConfig::default(),
            discovery_selectors: Vec::new(),
            inbound_to_loopback: false,
            inbound_retry: None,
            networks: Vec::new(),
            cluster_local: Vec::new(),
            default_retry: None,
            clusters: Shared::new(ClusterDefaults::default()),
            authorizers: Authorizers::new(),
            ingress: IngressControl::default(),
            features: Features::default(),
        }
    }
}

/// TLS between workloads.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct MeshTls {
    /// TLS 1.3 alone is taken, where otherwise 1.2 is too.
    pub only_13: bool,
    /// The ciphers; empty for the usual ones.
    pub cipher_suites: Vec<Arc<str>>,
    /// The curves; empty for Envoy's.
    pub ecdh_curves: Vec<Arc<str>>,
}

impl Mesh {
    /// Whether clients reach the endpoints of their own cluster alone: the narrowest pattern for the host says it, and
    /// those of the system do, unless they are said not to (Istio: `pilot/pkg/model/cluster_local.go`).
    pub fn keeps_to_cluster(&self, host: &Host) -> bool {
        let within = |host: &Host, pattern: &str| {
            pattern.strip_prefix('*').map_or(**host == *pattern, |end| host.ends_with(end))
        };
        let (system, domain) = (&self.root_namespace, &self.domain);
        let usual = [
            format!("*.kube-system.svc.{domain}"),
            format!("kubernetes.default.svc.{domain}"),
            format!("istiod.{system}.svc.{domain}"),
        ];
        let refused = |pattern: &str| self.cluster_local.iter().any(|(said, local)| !local && within(said, pattern));
        let usual = usual.iter().filter(|pattern| !refused(pattern)).map(|pattern| (&**pattern, true));
        let said = self.cluster_local.iter().map(|(host, local)| (&**host, *local));
        let meant = said.chain(usual).filter(|(pattern, _)| within(host, pattern));
        let narrowest = meant.max_by_key(|(pattern, _)| (!pattern.starts_with('*'), pattern.len()));
        narrowest.is_some_and(|(_, local)| local)
    }

    /// The identity domain and all its aliases, the domain itself first.
    pub fn trust_domains(&self) -> impl Iterator<Item = &Arc<str>> {
        std::iter::once(&self.trust_domain).chain(&self.trust_domain_aliases)
    }
}

/// What holds for outbound clusters where no DestinationRule says otherwise.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClusterDefaults {
    /// Keepalive of sockets (`tcpKeepalive`).
    pub keepalive: Option<Keepalive>,
    /// Whether HTTP/1.1 becomes HTTP/2 (`h2UpgradePolicy`).
    pub h2_upgrade: bool,
    /// The pattern of the name in statistics (`outboundClusterStatName`); empty for the cluster's name.
    pub stat_name: Arc<str>,
    /// The pattern of the name of inbound clusters in statistics (`inboundClusterStatName`); empty for their own.
    pub inbound_stat_name: Arc<str>,
    /// Limits (`defaultTrafficPolicy.connectionPool`).
    pub connection_pool: Option<ConnectionPool>,
    /// When endpoints are left out (`defaultTrafficPolicy.outlierDetection`).
    pub outlier_detection: Option<OutlierDetection>,
    /// Which places are preferred (`localityLbSetting`).
    pub locality: Option<LocalityBalancing>,
    /// Which zones are preferred, decided in the proxy (`zoneAwareLbSetting`).
    pub zone_aware: Option<ZoneAware>,
    /// The curves of TLS that a DestinationRule asks for (`tlsDefaults.ecdhCurves`); empty for Envoy's.
    pub ecdh_curves: Vec<Arc<str>>,
    /// The ciphers of TLS that a DestinationRule asks for (`tlsDefaults.cipherSuites`); empty for Envoy's.
    pub cipher_suites: Vec<Arc<str>>,
    /// The oldest version of TLS at gateways (`tlsDefaults.minProtocolVersion`).
    pub min_tls_version: TlsVersion,
}

impl Default for ClusterDefaults {
    fn default() -> Self {
        Self {
            keepalive: None,
            h2_upgrade: false,
            stat_name: "".into(),
            inbound_stat_name: "".into(),
            connection_pool: None,
            outlier_detection: None,
            locality: Some(LocalityBalancing::default()),
            zone_aware: None,
            ecdh_curves: Vec::new(),
            cipher_suites: Vec::new(),
            min_tls_version: TlsVersion::Auto,
        }
    }
}

/// A network, whose endpoints others reach through its gateways.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Network {
    /// Its name.
    pub name: Arc<str>,
    /// The addresses in it.
    pub blocks: Vec<IpNet>,
    /// The clusters in it.
    pub clusters: Vec<Arc<str>>,
    /// Where it is entered.
    pub gateways: Vec<(IpAddr, u16)>,
}

/// What happens to outbound traffic that no service is known for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum OutboundPolicy {
    /// It goes where it was going.
    AllowAny,
    /// It goes nowhere.
    RegistryOnly,
    /// Requests go where their host resolves to, all else where it was going.
    AllowAnyDynamicDns,
}

/// Where requests and connections are logged.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct AccessLogging {
    /// The file; empty for none.
    pub file: Arc<str>,
    /// What a line says.
    pub format: LogFormat,
    /// Connections that a listener has no use for are left out.
    pub not_of_listeners: bool,
}

/// What a line of a log says.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum LogFormat {
    /// Istio's text.
    #[default]
    Usual,
    /// Istio's fields, as JSON.
    UsualJson,
    /// This text.
    Text(Arc<str>),
    /// These fields, as JSON.
    Json(LogFields),
}

/// The fields of a log, by name.
pub type LogFields = BTreeMap<Arc<str>, LogValue>;

/// A value in a log.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum LogValue {
    /// A text, whose commands stand for what is logged.
    Text(Arc<str>),
    /// A truth.
    Truth(bool),
    /// Values one after the other.
    List(Vec<LogValue>),
    /// Fields.
    Object(LogFields),
}

/// How paths are put in order before they are matched.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PathNormalization {
    /// Not at all.
    None,
    /// As RFC 3986 says (`BASE`, and Istio's `DEFAULT`).
    Base,
    /// Also `//` becomes `/`.
    MergeSlashes,
    /// Also `%2F` and `%5C` are decoded first.
    DecodeAndMergeSlashes,
}

/// Switches that istiod takes from its environment (reference: `pilot/pkg/features` of Istio).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Features {
    /// `DISABLE_SHADOW_HOST_SUFFIX`: mirrored requests keep their host.
    pub disable_shadow_host_suffix: bool,
    /// `ISTIO_DUAL_STACK`: listeners take both IP families.
    pub dual_stack: bool,
    /// `PILOT_FILTER_GATEWAY_CLUSTER_CONFIG`: gateways get the clusters alone that their VirtualServices send to.
    pub gateway_clusters_by_route: bool,
    /// `ENABLE_TLS_ON_SIDECAR_INGRESS`: TLS that a Sidecar's `ingress` names is ended.
    pub sidecar_tls: bool,
    /// `MAINSHEET_WHOLE_ROUTES`: no proxy takes virtual hosts as resources of their own.
    pub whole_routes: bool,
    /// `PILOT_ENABLE_QUIC_LISTENERS`: gateways serve HTTP/3.
    pub quic: bool,
    /// `PILOT_ALLOW_ANY_DYNAMIC_DNS_MAX_HOSTS`: how many names a proxy keeps that no service is known for.
    pub unknown_names: u32,
    /// `PILOT_HTTP10`: HTTP/1.0 is accepted everywhere.
    pub http10: bool,
    /// `PILOT_JWT_ENABLE_REMOTE_JWKS`: proxies fetch the keys of issuers.
    pub keys_by_proxy: KeysByProxy,
    /// `PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS`: several authorizers may be asked for one workload.
    pub several_authorizers: bool,
    /// `ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY`: policies that name no gateway hold at gateways of the Gateway API too.
    pub selectors_at_gateways: bool,
    /// `PILOT_SKIP_VALIDATE_TRUST_DOMAIN`: clients of any trust domain are taken whose certificate the roots hold.
    pub any_trust_domain: bool,
    /// Which kinds of a cluster are as if they were not there.
    pub left_out: LeftOut,
}

/// The kinds that users have added to a cluster and that are left alone, by the names of their definitions
/// (`virtualservices.networking.istio.io`); `*.` and the end of names stands for all that end so.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LeftOut {
    /// `PILOT_IGNORE_RESOURCES`: these are left alone.
    pub ignored: Vec<Arc<str>>,
    /// `PILOT_INCLUDE_RESOURCES`: but none of these.
    pub included: Vec<Arc<str>>,
}

impl LeftOut {
    /// Whether the kind with this definition is left alone.
    pub fn has(&self, definition: &str) -> bool {
        let named = |list: &[Arc<str>]| {
            list.iter().any(|name| match name.strip_prefix("*.") {
                Some(end) => definition.ends_with(end),
                None => **name == *definition,
            })
        };
        named(&self.ignored) && !named(&self.included)
    }
}

/// Whether proxies fetch the keys of issuers themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum KeysByProxy {
    /// They do not: the control plane does.
    #[default]
    Never,
    /// They do where a service of the mesh has them.
    WhereTheyCan,
    /// They alone do; keys that no service of the mesh has are not fetched at all.
    Always,
}

impl Default for Features {
    fn default() -> Self {
        Self {
            disable_shadow_host_suffix: true,
            dual_stack: false,
            gateway_clusters_by_route: false,
            sidecar_tls: false,
            whole_routes: false,
            quic: false,
            unknown_names: 1024,
            http10: false,
            keys_by_proxy: KeysByProxy::Never,
            several_authorizers: false,
            selectors_at_gateways: true,
            any_trust_domain: false,
            left_out: LeftOut::default(),
        }
    }
}
