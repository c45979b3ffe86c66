//! What runs, and where: pods, nodes, namespaces, and the slices in which Kubernetes lists endpoints.

use super::{Labels, Locality};
use crate::id::{Namespace, ObjectRef};
use std::{net::IpAddr, sync::Arc};

/// A pod, as far as the mesh cares.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
    /// Its addresses; the first is the primary one.
    pub ips: Vec<IpAddr>,
    /// Its labels.
    pub labels: Labels,
    /// Its service account.
    pub account: Arc<str>,
    /// The node that it runs on; empty where unknown.
    pub node: Arc<str>,
    /// The workload that made it (a Deployment's name …); its own name where nothing did.
    pub workload: Arc<str>,
    /// Whether it serves.
    pub ready: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Its named TCP container ports.
    pub ports: Vec<(Arc<str>, u16)>,
    /// Its host name within `subdomain`; empty where it has none.
    pub hostname: Arc<str>,
    /// The headless service that names it; empty where there is none.
    pub subdomain: Arc<str>,
    /// Whether it shares its node's network.
    pub host_network: bool,
    /// The object.
    pub source: ObjectRef,
}

impl Pod {
    /// The place that its own labels name, where they do (`topology.istio.io/locality`, `istio-locality`).
    pub fn own_locality(&self) -> Option<Locality> {
        locality_label(&self.labels)
    }
}

/// The place that labels name. A label cannot hold a `/`, so `.` stands for it where there is none.
pub fn locality_label(labels: &Labels) -> Option<Locality> {
    let text = labels.get("topology.istio.io/locality").or_else(|| labels.get("istio-locality"))?;
    Some(match text.contains('/') {
        true => Locality::parse(text),
        false => Locality::parse(&text.replace('.', "/")),
    })
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClusterNode {
    /// Its name.
    pub name: Arc<str>,
    /// Where it stands.
    pub locality: Locality,
    /// Its addresses (or names) outside the cluster.
    pub external: Vec<Arc<str>>,
}

/// A namespace's labels and annotations that matter to the mesh.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: Namespace,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations that the mesh reads.
    pub annotations: Labels,
}

/// A list of endpoints of one Kubernetes service, as it is given: an EndpointSlice or an Endpoints object.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Slice {
    /// Its namespace.
    pub namespace: Namespace,
    /// The service's name.
    pub service: Arc<str>,
    /// Endpoints that serve the same ports.
    pub groups: Vec<SliceGroup>,
    /// The object.
    pub source: ObjectRef,
}

impl Slice {
    /// Every endpoint.
    pub fn endpoints(&self) -> impl Iterator<Item = &SliceEndpoint> {
        self.groups.iter().flat_map(|g| &g.endpoints)
    }
}

/// Endpoints of a [`Slice`] that serve the same ports. An EndpointSlice is one group, an Endpoints object may be several.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SliceGroup {
    /// The ports that each endpoint serves: the service's port name, and the number.
    pub ports: Vec<(Arc<str>, u16)>,
    /// The endpoints.
    pub endpoints: Vec<SliceEndpoint>,
}

/// One endpoint of a [`Slice`].
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct SliceEndpoint {
    /// Its address.
    pub address: IpAddr,
    /// Whether it is ready; absent counts as ready.
    pub ready: Option<bool>,
    /// Whether it serves although it is terminating.
    pub serving: Option<bool>,
    /// Whether it is terminating; absent counts as terminating where it is not ready.
    pub terminating: Option<bool>,
    /// The pod that it is, where it says so.
    pub pod: Option<Arc<str>>,
    /// The node that it runs on; empty where unknown.
    pub node: Arc<str>,
    /// Its host name within the service; empty where it has none.
    pub hostname: Arc<str>,
}
