//! The clusters that every proxy has.

use super::{http, lb, pool, tls};
use crate::{
    id::{ResourceType, Shared},
    model::{ClientTls, ClusterDefaults, ConnectionPool, IdentitySource, Role},
    pb::{
        self,
        envoy::config::cluster::v3::{
            Cluster,
            cluster::{ClusterDiscoveryType, DiscoveryType},
        },
    },
    snapshot::View,
    translate::{
        Input, Renderer, Resource,
        dynamic_dns::{self, Cache},
    },
};
use prost::Message;
use std::sync::Arc;

/// Where traffic goes that is to go nowhere.
pub(in crate::translate) const BLACK_HOLE: &str = "BlackHoleCluster";
/// Where traffic goes that is to go where it was going.
pub(in crate::translate) const PASSTHROUGH: &str = "PassthroughCluster";
/// How long a connection without requests is kept on the way through, in milliseconds.
const IDLE_TIMEOUT: u64 = 300_000;

/// The fixed clusters.
pub(super) fn build(view: &View<'_>, renderer: &dyn Renderer) -> Vec<Arc<Resource>> {
    let connect_timeout = view.snapshot.mesh.connect_timeout;
    let keep_case = view.key.headers.case;
    let passthrough = Passthrough { connect_timeout, keep_case, mesh: view.snapshot.mesh.clusters.clone() };
    // Nothing that comes to a gateway was going elsewhere.
    let goes_on = (view.key.role == Role::Sidecar).then(|| renderer.get(&passthrough));
    let mesh = &view.snapshot.mesh.clusters;
    let resolved = Cache::of_unknown(view).map(|cache| {
        let tls = view.snapshot.mesh.unknown_tls.clone();
        renderer.get(&Resolved {
            connect_timeout,
            keep_case,
            cache,
            tls,
            identity: view.key.identity,
            mesh: mesh.clone(),
        })
    });
    [renderer.get(&BlackHole { connect_timeout })].into_iter().chain(goes_on).chain(resolved).collect()
}

#[derive(Hash)]
struct BlackHole {
    connect_timeout: u64,
}

impl Input for BlackHole {
    fn render(&self) -> Resource {
        let cluster = shell(BLACK_HOLE, DiscoveryType::Static, self.connect_timeout);
        Resource::new(ResourceType::Cluster, BLACK_HOLE, cluster.encode_to_vec(), Vec::new())
    }
}

#[derive(Hash)]
struct Passthrough {
    connect_timeout: u64,
    keep_case: bool,
    mesh: Shared<ClusterDefaults>,
}

impl Input for Passthrough {
    fn render(&self) -> Resource {
        let cluster = passthrough(PASSTHROUGH, self.connect_timeout, self.keep_case, &self.mesh);
        Resource::new(ResourceType::Cluster, PASSTHROUGH, cluster.encode_to_vec(), Vec::new())
    }
}

/// Where requests go whose host no service is known for: where it resolves to.
#[derive(Hash)]
struct Resolved {
    connect_timeout: u64,
    keep_case: bool,
    cache: Cache,
    tls: Option<ClientTls>,
    identity: IdentitySource,
    mesh: Shared<ClusterDefaults>,
}

impl Input for Resolved {
    fn render(&self) -> Resource {
        let mut cluster = Cluster {
            circuit_breakers: Some(pool::breakers(&ConnectionPool::default(), None)),
            upstream_connection_options: pool::keepalive(None, self.mesh.keepalive.as_ref()),
            ..shell(dynamic_dns::UNKNOWN, DiscoveryType::OriginalDst, self.connect_timeout)
        };
        lb::dialled(&mut cluster, None);
        let mut options = http::Options::passthrough(IDLE_TIMEOUT, self.keep_case);
        if let Some(said) = &self.tls {
            let socket = tls::as_said(said, &said.subject_alt_names, &self.mesh, self.identity, &mut options);
            cluster.transport_socket = Some(socket);
        }
        let unchecked = !(options.auto_sni && options.auto_san);
        cluster.cluster_discovery_type = Some(ClusterDiscoveryType::ClusterType(self.cache.cluster(unchecked)));
        options.write(&mut cluster);
        Resource::new(ResourceType::Cluster, dynamic_dns::UNKNOWN, cluster.encode_to_vec(), Vec::new())
    }
}

/// A cluster that sends traffic where it was going.
pub(in crate::translate) fn passthrough(
    name: &str,
    connect_timeout: u64,
    keep_case: bool,
    mesh: &ClusterDefaults,
) -> Cluster {
    let pool = mesh.connection_pool.clone().unwrap_or_default();
    let mut cluster = Cluster {
        circuit_breakers: Some(pool::breakers(&pool, None)),
        upstream_connection_options: pool::keepalive(pool.keepalive.as_ref(), mesh.keepalive.as_ref()),
        ..shell(name, DiscoveryType::OriginalDst, pool.connect_timeout.unwrap_or(connect_timeout))
    };
    lb::dialled(&mut cluster, None);
    http::Options::passthrough(IDLE_TIMEOUT, keep_case).write(&mut cluster);
    cluster
}

fn shell(name: &str, kind: DiscoveryType, connect_timeout: u64) -> Cluster {
    Cluster {
        name: name.to_owned(),
        alt_stat_name: format!("{name};"),
        cluster_discovery_type: Some(ClusterDiscoveryType::Type(kind.into())),
        connect_timeout: Some(pb::millis(connect_timeout)),
        ..Default::default()
    }
}
