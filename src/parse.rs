//! From objects as users write them to the model: one file per kind, total and pure. The same functions serve
//! files, the Kubernetes watch, the validating webhook and the offline commands.

mod authorization_policy;
mod authorizer;
mod destination_rule;
mod environment;
mod gateway;
mod jwks;
mod kubernetes;
mod log_format;
mod mesh;
mod node;
mod peer_authentication;
mod proxy_config;
mod raw;
mod reach;
mod regex;
mod request_authentication;
mod service_entry;
mod sidecar;
#[cfg(test)]
mod tests;
mod text;
mod value;
mod virtual_service;
mod workload_entry;
pub mod yaml;

use crate::{
    id::{Kind, Namespace, ObjectRef},
    model::{Change, ExportTo, Mesh, Object, State},
    problem::{FieldPath, Problem},
};
use serde_json::Value;
use std::{collections::BTreeSet, sync::Arc};

pub use environment::environment;
pub use jwks::{MAX_BYTES as MAX_KEY_BYTES, jwks};
pub use node::node;
pub use raw::{Meta, meta};

/// What parsing depends on beside the object itself.
#[derive(Clone, Debug)]
pub struct Context {
    /// The DNS suffix of the cluster's services, `cluster.local`.
    pub domain: Arc<str>,
    /// The cluster that the object is in, `Kubernetes`.
    pub cluster: Arc<str>,
    /// The namespace that the control plane runs in, `istio-system`.
    pub system_namespace: Arc<str>,
    /// The control plane's revision; empty for the default one.
    pub revision: Arc<str>,
    /// Other names of that revision, which objects may be marked with too.
    pub tags: BTreeSet<Arc<str>>,
    /// The mesh's settings as the process was started with them, which a MeshConfig overrides.
    pub mesh: Arc<Mesh>,
}

impl Default for Context {
    fn default() -> Self {
        Self {
            domain: "cluster.local".into(),
            cluster: "Kubernetes".into(),
            system_namespace: "istio-system".into(),
            revision: "".into(),
            tags: BTreeSet::new(),
            mesh: Arc::default(),
        }
    }
}

/// What parsing one object gives: the object, unless it cannot be understood at all, and what is wrong with it.
pub type Parsed<T> = (Option<T>, Vec<Problem>);

/// Parses an object of any kind. The kind is told from `apiVersion` and `kind`.
pub fn object(raw: &Value, context: &Context) -> Change {
    let Meta { object: id, labels, .. } = meta(raw);
    let group = group(raw["apiVersion"].as_str().unwrap_or_default());
    let of_mesh = group.ends_with("istio.io");
    if of_mesh && labels.get("istio.io/rev").is_some_and(|of| !is_revision(of, context)) {
        // It is for another control plane, and as good as not there.
        return Change { object: id, state: State::Gone, problems: Vec::new(), raw: None };
    }
    let (object, problems) = read(&id, raw, context);
    let state = object.map_or(State::Bad, |o| State::Is(Box::new(o)));
    let shown = of_mesh || group == "gateway.networking.k8s.io";
    Change { object: id, state, problems, raw: shown.then(|| raw.to_string().into()) }
}

/// Whether an object that is marked with a revision is for this control plane.
pub fn is_revision(name: &str, context: &Context) -> bool {
    is_same_revision(name, &context.revision) || context.tags.contains(name)
}

/// Whether two names are of one revision: the default one has two.
pub fn is_same_revision(one: &str, other: &str) -> bool {
    let default = |name: &str| matches!(name, "" | "default");
    one == other || default(one) && default(other)
}

/// What an object is called that each revision has of its own: `istio`, and `istio-canary`.
pub fn with_revision(name: &str, revision: &str) -> String {
    match revision {
        "" | "default" => name.to_owned(),
        revision => format!("{name}-{revision}"),
    }
}

/// Parses the mesh's settings where they are a file of their own, which is known by this name.
pub fn settings(name: &str, raw: &Value, context: &Context) -> Change {
    let object = ObjectRef::new(Kind::MESH_CONFIG, "", name);
    let (mesh, problems) = mesh::mesh_config(&object, &FieldPath::default(), raw, context);
    let state = mesh.map_or(State::Bad, |mesh| State::Is(Box::new(Object::Mesh(Box::new(mesh)))));
    Change { object, state, problems, raw: None }
}

/// The name of the ConfigMap that holds the mesh's settings, in the system namespace.
pub fn settings_name(context: &Context) -> String {
    with_revision("istio", &context.revision)
}

/// The group of an `apiVersion`; empty for Kubernetes' core.
fn group(version: &str) -> &str {
    version.split_once('/').map_or("", |(group, _)| group)
}

fn read(id: &ObjectRef, raw: &Value, context: &Context) -> Parsed<Object> {
    fn of<T>(object: fn(T) -> Object, (parsed, problems): Parsed<T>) -> Parsed<Object> {
        (parsed.map(object), problems)
    }
    if let Some(problem) = nameless(id, raw) {
        return (None, vec![problem]);
    }
    let version = raw["apiVersion"].as_str().unwrap_or_default();
    let group = group(version);
    let versions = match group {
        "networking.istio.io" => NETWORKING_VERSIONS,
        "security.istio.io" => SECURITY_VERSIONS,
        _ => &[],
    };
    if !versions.is_empty() && !versions.contains(&version) {
        return (None, vec![unknown(id, version)]);
    }
    match (group, id.kind.as_str()) {
        ("", "ConfigMap") => of(|mesh| Object::Mesh(Box::new(mesh)), mesh::config_map(raw, context)),
        ("", "Namespace") => of(Object::Namespace, kubernetes::namespace(raw, context)),
        ("", "Node") => of(Object::Node, kubernetes::node(raw, context)),
        ("", "Pod") => of(Object::Pod, kubernetes::pod(raw, context)),
        ("", "Service") => of(Object::Service, kubernetes::service(raw, context)),
        ("", "Endpoints") => of(Object::Slice, kubernetes::endpoints(raw, context)),
        ("discovery.k8s.io", "EndpointSlice") => of(Object::Slice, kubernetes::endpoint_slice(raw, context)),
        ("", "Secret") => of(Object::Secret, kubernetes::secret(raw, context)),
        ("networking.k8s.io", "Ingress") => of(Object::Ingress, kubernetes::ingress(raw, context)),
        ("networking.k8s.io", "IngressClass") => of(Object::IngressClass, kubernetes::ingress_class(raw, context)),
        ("networking.istio.io", "Gateway") => of(Object::Gateway, gateway::gateway(raw, context)),
        ("networking.istio.io", "DestinationRule") => {
            of(|rule| Object::DestinationRule(Box::new(rule)), destination_rule::destination_rule(raw, context))
        }
        ("networking.istio.io", "Sidecar") => {
            of(|sidecar| Object::Sidecar(Box::new(sidecar)), sidecar::sidecar(raw, context))
        }
        ("networking.istio.io", "VirtualService") => {
            of(Object::VirtualService, virtual_service::virtual_service(raw, context))
        }
        ("networking.istio.io", "ProxyConfig") => (None, proxy_config::object(raw, context)),
        ("security.istio.io", "AuthorizationPolicy") => {
            of(Object::AuthorizationPolicy, authorization_policy::authorization_policy(raw, context))
        }
        ("security.istio.io", "RequestAuthentication") => {
            of(Object::RequestAuthentication, request_authentication::request_authentication(raw, context))
        }
        ("security.istio.io", "PeerAuthentication") => {
            of(Object::PeerAuthentication, peer_authentication::peer_authentication(raw, context))
        }
        ("networking.istio.io", "ServiceEntry") => of(Object::ServiceEntry, service_entry::service_entry(raw, context)),
        ("networking.istio.io", "WorkloadEntry") => {
            of(Object::WorkloadEntry, workload_entry::workload_entry(raw, context))
        }
        ("networking.istio.io", "WorkloadGroup") => {
            let (_, problems) = workload_entry::workload_group(raw, context);
            (None, problems)
        }
        _ if IGNORED.contains(&(group, id.kind.as_str())) => (None, Vec::new()),
        _ => (None, vec![unknown(id, version)]),
    }
}

/// The versions of Istio's networking kinds, which all have the same fields.
const NETWORKING_VERSIONS: &[&str] =
    &["networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3"];

/// The versions of Istio's security kinds.
const SECURITY_VERSIONS: &[&str] = &["security.istio.io/v1", "security.istio.io/v1beta1"];

/// Kinds that manifests hold beside those that the mesh reads: they are left out without a word.
const IGNORED: &[(&str, &str)] = &[
    ("", "LimitRange"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("", "ResourceQuota"),
    ("", "ServiceAccount"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("batch", "CronJob"),
    ("batch", "Job"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("policy", "PodDisruptionBudget"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("storage.k8s.io", "StorageClass"),
];

/// Kinds of the mesh's own that are not served yet.
const NOT_YET: &[(&str, &str)] = &[
    ("extensions.istio.io", "WasmPlugin"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
    ("gateway.networking.k8s.io", "GRPCRoute"),
    ("gateway.networking.k8s.io", "HTTPRoute"),
    ("gateway.networking.k8s.io", "ReferenceGrant"),
    ("gateway.networking.k8s.io", "TCPRoute"),
    ("gateway.networking.k8s.io", "TLSRoute"),
    ("networking.istio.io", "EnvoyFilter"),
    ("telemetry.istio.io", "Telemetry"),
];

/// What is missing from an object that does not say what it is.
fn nameless(id: &ObjectRef, raw: &Value) -> Option<Problem> {
    let missing = |path: &str, message: &str| Some(Problem::error(id, FieldPath::new(path), message));
    if !raw["apiVersion"].is_string() {
        return missing("apiVersion", "is missing; write the kind's group and version, as networking.istio.io/v1");
    }
    if id.kind.as_str().is_empty() {
        return missing("kind", "is missing; write the object's kind, as VirtualService");
    }
    match id.name.is_empty() {
        true => missing("metadata.name", "is missing; every object needs a name"),
        false => None,
    }
}

fn unknown(id: &ObjectRef, version: &str) -> Problem {
    let message = match NOT_YET.contains(&(group(version), id.kind.as_str())) {
        true => format!("{} is not served yet, so the object has no effect", id.kind),
        false => format!("{} of {version} is not a kind that mainsheet reads, so the object has no effect", id.kind),
    };
    Problem::warning(id, FieldPath::new("kind"), message)
}

/// Who sees an object, by its list of namespaces (`exportTo`).
pub(crate) fn export_to<'a>(entries: impl IntoIterator<Item = &'a str>) -> ExportTo {
    let mut some = (false, Vec::new());
    let mut any = false;
    for entry in entries {
        any = true;
        match entry {
            "*" => return ExportTo::All,
            "~" => return ExportTo::Nobody,
            "." => some.0 = true,
            name => some.1.push(Namespace::from(name)),
        }
    }
    some.1.sort();
    some.1.dedup();
    match any {
        true => ExportTo::Some { own: some.0, namespaces: some.1 },
        false => ExportTo::Unset,
    }
}
