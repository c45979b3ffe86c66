//! Clusters that resolve the names of their endpoints themselves.

use crate::{
    model::{Endpoint, EndpointAddress, EndpointSet, Labels, ServicePort, selects},
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
    let usable = |e: &&Endpoint| e.health.serves() && !matches!(e.address, EndpointAddress::Unix(_));
    set.endpoints.iter().filter(|e| e.port_name == port.name && selects(labels, &e.labels)).filter(usable)
}

/// How many names there are to resolve. A cluster without one would be refused by the proxy.
pub(super) fn count(set: &EndpointSet, port: &ServicePort, labels: &Labels) -> usize {
    chosen(set, port, labels).count()
}

/// The endpoints whose names are resolved; `single` where there can be but one.
pub(super) fn assignment(
    name: &str,
    (set, port, labels): (&EndpointSet, &ServicePort, &Labels),
    takes_mtls: bool,
    single: bool,
) -> ClusterLoadAssignment {
    let most = if single { 1 } else { usize::MAX };
    let groups = endpoint::by_locality(chosen(set, port, labels).take(most), takes_mtls);
    ClusterLoadAssignment { cluster_name: name.to_owned(), endpoints: groups, ..Default::default() }
}
