//! Names that are resolved when they are asked for (DYNAMIC_DNS): the cache that a wildcard host's answers are kept
//! in, which the cluster and the filters before it share.

use crate::{
    id::Host,
    model::{OutboundPolicy, Role},
    pb::{
        self,
        envoy::{
            config::{
                cluster::v3::cluster::{CustomClusterType, DnsLookupFamily},
                listener::v3::Filter,
            },
            extensions::{
                clusters::dynamic_forward_proxy::v3::{ClusterConfig, cluster_config::ClusterImplementationSpecifier},
                common::dynamic_forward_proxy::v3::DnsCacheConfig,
                filters::{
                    http::dynamic_forward_proxy::v3::{FilterConfig, filter_config::ImplementationSpecifier},
                    network::sni_dynamic_forward_proxy::v3::{
                        FilterConfig as SniFilterConfig, filter_config::PortSpecifier,
                    },
                },
            },
        },
    },
    snapshot::{Families, View},
    translate::network_filter,
};
use std::sync::Arc;

/// Where requests go whose host no service is known for, if they go where it resolves to.
pub(super) const UNKNOWN: &str = "AllowAnyDynamicDNSCluster";

/// The families of addresses that are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Family {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both.
    Both,
}

impl Family {
    /// What a view's nodes ask for.
    pub(super) fn of(view: &View<'_>) -> Self {
        match view.key.families {
            Families::V4 => Self::V4,
            Families::V6 => Self::V6,
            Families::Dual(_) if view.snapshot.mesh.features.dual_stack => Self::Both,
            Families::Dual(_) => Self::V4,
        }
    }

    /// As Envoy takes it.
    pub(super) fn lookup(self) -> DnsLookupFamily {
        match self {
            Self::V4 => DnsLookupFamily::V4Only,
            Self::V6 => DnsLookupFamily::V6Only,
            Self::Both => DnsLookupFamily::All,
        }
    }
}

/// Where the answers for a wildcard host are kept.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Cache {
    name: Arc<str>,
    family: Family,
    /// How many answers are kept; `None` for Envoy's default.
    most: Option<u32>,
}

impl Cache {
    /// The cache of a host.
    pub(super) fn of(host: &Host, family: Family) -> Self {
        Self { name: format!("{host}_dfp_dns_cache").into(), family, most: None }
    }

    /// The cache of all hosts that no service is known for; none where requests to them do not go where they resolve to.
    pub(super) fn of_unknown(view: &View<'_>) -> Option<Self> {
        let resolves = view.key.role == Role::Sidecar && view.outbound_policy().0 == OutboundPolicy::AllowAnyDynamicDns;
        let most = Some(view.snapshot.mesh.features.unknown_names);
        resolves.then(|| Self { name: "allow_any_dfp_dns_cache".into(), family: Family::of(view), most })
    }

    fn config(&self) -> DnsCacheConfig {
        DnsCacheConfig {
            name: self.name.to_string(),
            dns_lookup_family: self.family.lookup().into(),
            max_hosts: self.most.and_then(pb::uint32),
            ..Default::default()
        }
    }

    /// The kind of the cluster whose endpoints are the answers. Envoy must be told where a server's certificate need not
    /// be for the name that was asked for, also where there is no TLS at all (`unchecked`).
    pub(super) fn cluster(&self, unchecked: bool) -> CustomClusterType {
        let config = ClusterConfig {
            allow_insecure_cluster_options: unchecked,
            cluster_implementation_specifier: Some(ClusterImplementationSpecifier::DnsCacheConfig(self.config())),
            ..Default::default()
        };
        CustomClusterType { name: "envoy.clusters.dynamic_forward_proxy".into(), typed_config: Some(pb::any(&config)) }
    }

    /// The configuration of the HTTP filter that resolves the host of a request.
    pub(super) fn http(&self) -> FilterConfig {
        FilterConfig {
            implementation_specifier: Some(ImplementationSpecifier::DnsCacheConfig(self.config())),
            ..Default::default()
        }
    }

    /// The network filter that resolves the name in a TLS handshake.
    pub(super) fn tls(&self, port: u16) -> Filter {
        let config = SniFilterConfig {
            dns_cache_config: Some(self.config()),
            port_specifier: Some(PortSpecifier::PortValue(port.into())),
            ..Default::default()
        };
        network_filter::filter("envoy.extensions.filters.network.sni_dynamic_forward_proxy", &config)
    }
}
