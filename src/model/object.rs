//! Any one parsed object, so that sources hand all kinds over the same way.

use super::{
    AuthorizationPolicy, ClusterNode, DestinationRule, Gateway, Ingress, IngressClass, KeySet, Mesh, NamespaceInfo,
    PeerAuthentication, Pod, RequestAuthentication, Secret, Service, ServiceEntry, Sidecar, Slice, VirtualService,
    WorkloadEntry,
};
use crate::{
    id::{Kind, Namespace, ObjectRef},
    problem::Problem,
};
use std::sync::Arc;

/// A parsed object of any kind that a snapshot holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Object {
    /// The mesh's settings (the ConfigMap `istio`, or a MeshConfig file).
    Mesh(Box<Mesh>),
    /// A Namespace.
    Namespace(NamespaceInfo),
    /// A Node.
    Node(ClusterNode),
    /// A Pod.
    Pod(Pod),
    /// A Kubernetes Service.
    Service(Service),
    /// An EndpointSlice or an Endpoints.
    Slice(Slice),
    /// A ServiceEntry.
    ServiceEntry(ServiceEntry),
    /// A WorkloadEntry.
    WorkloadEntry(WorkloadEntry),
    /// A VirtualService.
    VirtualService(VirtualService),
    /// A DestinationRule.
    DestinationRule(Box<DestinationRule>),
    /// A Sidecar.
    Sidecar(Box<Sidecar>),
    /// An AuthorizationPolicy.
    AuthorizationPolicy(AuthorizationPolicy),
    /// A RequestAuthentication.
    RequestAuthentication(RequestAuthentication),
    /// Keys that were fetched.
    KeySet(KeySet),
    /// A PeerAuthentication.
    PeerAuthentication(PeerAuthentication),
    /// A Gateway.
    Gateway(Gateway),
    /// A Secret.
    Secret(Secret),
    /// An Ingress.
    Ingress(Ingress),
    /// An IngressClass.
    IngressClass(IngressClass),
}

/// What a source has learnt of one object.
#[derive(Clone, PartialEq, Debug)]
pub struct Change {
    /// The object.
    pub object: ObjectRef,
    /// What it now is.
    pub state: State,
    /// What is wrong with it; replaces what was known before.
    pub problems: Vec<Problem>,
    /// The object as it was given, where debug pages show it (Istio's own kinds).
    pub raw: Option<Arc<str>>,
}

/// What an object now is.
#[derive(Clone, PartialEq, Debug)]
pub enum State {
    /// This.
    Is(Box<Object>),
    /// Not to be understood: the last good version stays in force.
    Bad,
    /// Gone.
    Gone,
}

/// Identifies an object within its kind.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectKey {
    /// The namespace.
    pub namespace: Namespace,
    /// The name.
    pub name: Arc<str>,
}

impl From<&ObjectRef> for ObjectKey {
    fn from(object: &ObjectRef) -> Self {
        Self { namespace: object.namespace.clone(), name: object.name.clone() }
    }
}

impl Object {
    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Mesh(_) => Kind::MESH_CONFIG,
            Self::Namespace(_) => Kind::NAMESPACE,
            Self::Node(_) => Kind::NODE,
            Self::Pod(_) => Kind::POD,
            Self::Service(_) => Kind::SERVICE,
            Self::Slice(_) => Kind::ENDPOINT_SLICE,
            Self::ServiceEntry(_) => Kind::SERVICE_ENTRY,
            Self::WorkloadEntry(_) => Kind::WORKLOAD_ENTRY,
            Self::VirtualService(_) => Kind::VIRTUAL_SERVICE,
            Self::DestinationRule(_) => Kind::DESTINATION_RULE,
            Self::Sidecar(_) => Kind::SIDECAR,
            Self::AuthorizationPolicy(_) => Kind::AUTHORIZATION_POLICY,
            Self::RequestAuthentication(_) => Kind::REQUEST_AUTHENTICATION,
            Self::KeySet(_) => Kind::KEY_SET,
            Self::PeerAuthentication(_) => Kind::PEER_AUTHENTICATION,
            Self::Gateway(_) => Kind::GATEWAY,
            Self::Secret(_) => Kind::SECRET,
            Self::Ingress(_) => Kind::INGRESS,
            Self::IngressClass(_) => Kind::INGRESS_CLASS,
        }
    }
}
