//! One outbound cluster.

use super::{
    dns, http, lb, outlier, pool,
    select::{Discovery, Security, Selected, accounts},
    stat, tls,
};
use crate::{
    id::{ObjectRef, ResourceType, Shared},
    model::{
        ClusterDefaults, EndpointSet, IdentitySource, Labels, Protocol, Registry, Resolution, Role, Service,
        ServicePort, TargetPort, TlsMode, TrafficPolicy,
    },
    pb::{
        self,
        envoy::config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, CommonLbConfig, DiscoveryType, EdsClusterConfig},
            },
            core::v3::Metadata,
        },
        google::protobuf::{Struct, Value, value},
    },
    snapshot::View,
    translate::{
        Input, Resource, ads,
        dynamic_dns::{Cache, Family},
        provenance,
        tls::{ALPN, METADATA},
    },
};
use prost::Message;
use std::{collections::BTreeMap, sync::Arc};

/// Everything that an outbound cluster is made from.
#[derive(Hash)]
pub(super) struct Outbound {
    pub(super) name: Arc<str>,
    pub(super) service: Shared<Service>,
    /// The port of the service, by its place in the list.
    port: usize,
    pub(super) subset: Arc<str>,
    pub(super) policy: TrafficPolicy,
    rules: Vec<ObjectRef>,
    discovery: Discovery,
    pub(super) security: Security,
    pub(super) identity: IdentitySource,
    /// The identities that the endpoints may have, where connections are secured.
    pub(super) accounts: Vec<Arc<str>>,
    /// What a port of no known protocol is spoken to in: the client's version, or Envoy's default at gateways.
    as_client: bool,
    /// The names of HTTP/1.1 headers keep their case.
    keep_case: bool,
    connect_timeout: u64,
    pub(super) mesh: Shared<ClusterDefaults>,
    /// What a DNS cluster needs beside.
    names: Option<Names>,
    /// Where the answers are kept of one that resolves the names that are asked for.
    dynamic: Option<Cache>,
}

/// What a DNS cluster needs.
#[derive(Hash)]
struct Names {
    endpoints: Shared<EndpointSet>,
    labels: Labels,
    family: Family,
    refresh: u64,
}

impl Outbound {
    /// The input of a cluster; `None` for one that resolves names and has none.
    pub(super) fn new(view: &View<'_>, service: &Shared<Service>, selected: Selected) -> Option<Self> {
        let mesh = &view.snapshot.mesh;
        let names = match selected.discovery {
            Discovery::StrictDns | Discovery::LogicalDns => {
                let endpoints = view.endpoints(service)?.clone();
                let race = service.races;
                let family = if race { Family::Both } else { Family::of(view) };
                let port = &service.ports[selected.port];
                (dns::count(&endpoints, port, &selected.labels) > 0).then_some(())?;
                Some(Names { endpoints, labels: selected.labels, family, refresh: mesh.dns_refresh })
            }
            _ => None,
        };
        Some(Self {
            accounts: if selected.security == Security::Plain { Vec::new() } else { accounts(view, service) },
            name: selected.name,
            service: service.clone(),
            port: selected.port,
            subset: selected.subset,
            policy: selected.policy,
            rules: selected.rules,
            discovery: selected.discovery,
            security: selected.security,
            identity: view.key.identity,
            as_client: view.key.role == Role::Sidecar,
            keep_case: view.key.headers.case,
            connect_timeout: mesh.connect_timeout,
            mesh: mesh.clusters.clone(),
            names,
            dynamic: (selected.discovery == Discovery::DynamicDns).then(|| Cache::of(&service.host, Family::of(view))),
        })
    }

    /// The port of the service.
    pub(super) fn port(&self) -> &ServicePort {
        &self.service.ports[self.port]
    }

    /// The port that connections go to instead of the one that the client dialled.
    fn port_override(&self) -> Option<u16> {
        let port = self.port();
        let entry = self.service.registry == Registry::External && self.service.resolution == Resolution::Passthrough;
        match port.target {
            TargetPort::Number(number) if entry && number != port.number => Some(number),
            _ => None,
        }
    }

    /// The name in TLS handshakes within the mesh.
    pub(super) fn sni(&self) -> String {
        format!("outbound_.{}_.{}_.{}", self.port().number, self.subset, self.service.host)
    }

    fn discover(&self, cluster: &mut Cluster) {
        let kind = match self.discovery {
            Discovery::Eds => DiscoveryType::Eds,
            Discovery::StrictDns => DiscoveryType::StrictDns,
            Discovery::LogicalDns => DiscoveryType::LogicalDns,
            Discovery::OriginalDst => DiscoveryType::OriginalDst,
            Discovery::Closed => DiscoveryType::Static,
            Discovery::DynamicDns => return,
        };
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::Type(kind.into()));
        if self.discovery == Discovery::Eds {
            cluster.eds_cluster_config =
                Some(EdsClusterConfig { service_name: self.name.to_string(), eds_config: Some(ads()) });
        }
        if let Some(names) = &self.names {
            dns::resolve(cluster, names.family.lookup(), names.refresh);
            let single = self.discovery == Discovery::LogicalDns;
            let takes_mtls = self.policy.tls.as_ref().is_none_or(|t| t.mode == TlsMode::IstioMutual);
            cluster.load_assignment =
                Some(dns::assignment(&self.name, (&names.endpoints, self.port(), &names.labels), takes_mtls, single));
        }
    }

    /// What telemetry and people are told of the cluster.
    fn metadata(&self) -> Metadata {
        let service = [
            ("host", pb::string(&*self.service.host)),
            ("name", pb::string(&*self.service.name)),
            ("namespace", pb::string(&*self.service.namespace)),
        ];
        let mut istio = match self.discovery {
            // There are many services behind it, and none of the host's name.
            Discovery::DynamicDns => pb::fields([]),
            _ => pb::fields([("services", pb::list([structure(pb::fields(service))]))]),
        };
        let mut set = |key: &str, value: Value| drop(istio.fields.insert(key.to_owned(), value));
        if self.service.external && self.subset.is_empty() {
            set("external", Value { kind: Some(value::Kind::BoolValue(true)) });
        }
        if let Some(rule) = self.rules.first() {
            set("config", pb::string(provenance::of_destination_rule(rule)));
            if self.policy.tls.as_ref().is_some_and(|t| matches!(t.mode, TlsMode::Simple | TlsMode::Mutual)) {
                set("alpn_override", pb::string("false"));
            }
        }
        if !self.subset.is_empty() {
            set("subset", pb::string(&*self.subset));
        }
        let mut filter_metadata = BTreeMap::from([("istio".to_owned(), istio)]);
        if self.offers_mesh_tls() && self.port().protocol == Protocol::Auto {
            let offered = pb::fields([(ALPN, pb::string(tls::ANY_HTTP))]);
            filter_metadata.insert(METADATA.to_owned(), offered);
        }
        Metadata { filter_metadata, ..Default::default() }
    }

    /// Whether connections may be secured with the mesh's identities.
    fn offers_mesh_tls(&self) -> bool {
        let asked = self.policy.tls.as_ref().is_some_and(|t| t.mode == TlsMode::IstioMutual);
        self.security == Security::Auto || (self.security == Security::Policy && asked)
    }

    /// The name in statistics.
    fn stat_name(&self) -> String {
        let port = self.port();
        let subject = stat::Subject::outbound(&self.service, &self.subset, (port.number, &port.name));
        stat::name(&self.mesh.stat_name, &self.name, &subject)
    }
}

impl Input for Outbound {
    fn render(&self) -> Resource {
        let port = self.port();
        let pool = self.policy.connection_pool.clone().unwrap_or_default();
        let outlier = self.policy.outlier_detection.as_ref();
        let dynamic = self.discovery == Discovery::DynamicDns;
        let mut cluster = Cluster {
            name: self.name.to_string(),
            alt_stat_name: self.stat_name(),
            connect_timeout: Some(pb::millis(pool.connect_timeout.unwrap_or(self.connect_timeout))),
            circuit_breakers: Some(pool::breakers(&pool, self.policy.retry_budget.as_ref())),
            upstream_connection_options: pool::keepalive(pool.keepalive.as_ref(), self.mesh.keepalive.as_ref()),
            outlier_detection: outlier.map(outlier::detection),
            common_lb_config: (outlier.is_some() || !dynamic).then(|| CommonLbConfig {
                healthy_panic_threshold: Some(outlier::panic_threshold(outlier)),
                ..Default::default()
            }),
            metadata: Some(self.metadata()),
            ..Default::default()
        };
        self.discover(&mut cluster);
        let balancer = self.policy.load_balancer.as_ref();
        if !dynamic {
            lb::localities(&mut cluster, lb::preference(balancer, &self.service, &self.mesh), outlier.is_some());
        }
        match self.discovery {
            Discovery::OriginalDst => lb::dialled(&mut cluster, self.port_override()),
            Discovery::DynamicDns => lb::dialled(&mut cluster, None),
            _ => lb::balance(&mut cluster, balancer),
        }
        let protocol = match port.protocol {
            Protocol::Auto if !self.as_client => Protocol::Tcp,
            known => known,
        };
        let mut options = http::Options::of(protocol, &pool, self.mesh.h2_upgrade, self.keep_case);
        options.error_codes = outlier.map(|o| o.error_codes.clone()).unwrap_or_default();
        tls::secure(self, &mut cluster, &mut options);
        tls::announce(&mut cluster, self.policy.proxy_protocol);
        let unchecked = !(options.auto_sni && options.auto_san);
        options.write(&mut cluster);
        if let Some(cache) = &self.dynamic {
            let unchecked = unchecked && !cluster.typed_extension_protocol_options.is_empty();
            cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(cache.cluster(unchecked)));
        }
        let sources = self.service.sources().chain(&self.rules).cloned().collect();
        Resource::new(ResourceType::Cluster, self.name.clone(), cluster.encode_to_vec(), sources)
    }
}

fn structure(fields: Struct) -> Value {
    Value { kind: Some(value::Kind::StructValue(fields)) }
}
