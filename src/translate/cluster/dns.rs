//! Clusters that resolve the names of their endpoints themselves.

use crate::{
    model::{Endpoint, EndpointSet, Labels, ServicePort, selects},
    pb::{
        self,
        envoy::{
            config::{
                cluster::v3::{Cluster, cluster::DnsLookupFamily},
                core::v3::TypedExtensionConfig,
                endpoint::v3::ClusterLoadAssignment,
            },
            extensions::network::dns_resolver::cares::v3::CaresDnsResolverConfig,
        },
    },
    translate::endpoint,
};

/// So that names of many clusters are not resolved at once.
const JITTER: u64 = 100;
/// A connection to the resolver is made anew after so many questions, so that a dead one does not last.
const QUERIES: u32 = 100;

/// How names are resolved.
#[allow(deprecated, reason = "the fields' successor, a cluster type of its own, is not what Istio's users patch")]
pub(super) fn resolve(cluster: &mut Cluster, family: DnsLookupFamily, refresh: u64) {
    cluster.dns_lookup_family = family.into();
    cluster.dns_refresh_rate = Some(pb::millis(refresh));
    cluster.dns_jitter = Some(pb::millis(JITTER));
    cluster.respect_dns_ttl = true;
    cluster.typed_dns_resolver_config = Some(TypedExtensionConfig {
        name: "envoy.network.dns_resolver.cares".to_owned(),
        typed_config: Some(pb::any(&CaresDnsResolverConfig {
            udp_max_queries: pb::uint32(QUERIES),
            ..Default::default()
        })),
    });
}

fn chosen<'a>(set: &'a EndpointSet, port: &'a ServicePort, labels: &'a Labels) -> impl Iterator<Item = &'a Endpoint> {
    set.endpoints.iter().filter(|e| e.port_name == port.name && e.health.serves() && selects(labels, &e.labels))
}

/// Whether there is a name to resolve. A cluster without one would be refused by the proxy.
pub(super) fn has_endpoints(set: &EndpointSet, port: &ServicePort, labels: &Labels) -> bool {
    chosen(set, port, labels).next().is_some()
}

/// The endpoints whose names are resolved.
pub(super) fn assignment(
    name: &str,
    set: &EndpointSet,
    port: &ServicePort,
    labels: &Labels,
    takes_mtls: bool,
) -> ClusterLoadAssignment {
    let groups = endpoint::by_locality(chosen(set, port, labels), takes_mtls);
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: groups, ..Default::default() }
}
