//! Which proxy is asked about: a pod of the world, or an Envoy `Node` as it would come over the wire.

use crate::{
    id::Namespace,
    model::{IdentitySource, Locality, Node, NodeSettings, ObjectKey, Role},
    parse,
    snapshot::Snapshot,
};
use serde_json::Value;

/// A proxy to translate for.
#[derive(Clone, PartialEq, Debug)]
pub enum Proxy {
    /// A pod of the world, and what its proxy is for.
    Pod {
        /// `POD` or `POD.NAMESPACE`.
        name: String,
        /// What the proxy is for.
        role: Role,
    },
    /// An Envoy `Node` in protobuf's JSON mapping.
    Node(Value),
}

/// Why there is no such proxy.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// No pod has the name.
    #[error("no pod {0} is in the files; write POD.NAMESPACE. There are: {1}")]
    Unknown(String, String),
    /// Pods of several namespaces have the name.
    #[error("pods of several namespaces are named {0}; write {0}.NAMESPACE")]
    Ambiguous(String),
    /// The node does not say what is needed.
    #[error("the node cannot be used: {0}")]
    Node(String),
}

impl Proxy {
    /// The node that this proxy would connect as.
    ///
    /// # Errors
    ///
    /// When there is no such pod, or the node lacks what is needed.
    pub fn resolve(&self, snapshot: &Snapshot) -> Result<Node, ProxyError> {
        match self {
            Self::Node(json) => parse::node(json).map_err(ProxyError::Node),
            Self::Pod { name, role } => of_pod(snapshot, name, *role),
        }
    }
}

fn of_pod(snapshot: &Snapshot, name: &str, role: Role) -> Result<Node, ProxyError> {
    let key = find(snapshot, name)?;
    let pod = &snapshot.pods[&key];
    let full = format!("{}.{}", pod.name, pod.namespace);
    let ip = pod.ips.first().map_or_else(|| "127.0.0.1".to_owned(), ToString::to_string);
    let domain = format!("{}.svc.{}", pod.namespace, snapshot.mesh.domain);
    let kind = match role {
        Role::Sidecar => "sidecar",
        Role::Router => "router",
    };
    let tls = pod.labels.get("security.istio.io/tlsMode").is_some_and(|m| &**m == "istio");
    Ok(Node {
        id: format!("{kind}~{ip}~{full}~{domain}").into(),
        role,
        name: full.into(),
        pod: pod.name.clone(),
        namespace: pod.namespace.clone(),
        domain: domain.into(),
        ips: pod.ips.clone(),
        labels: pod.labels.clone(),
        annotations: Default::default(),
        cluster: snapshot.mesh.cluster.clone(),
        network: pod.labels.get("topology.istio.io/network").cloned().unwrap_or_default(),
        mesh: snapshot.mesh.trust_domain.clone(),
        locality: Locality::default(),
        cluster_node: pod.node.clone(),
        account: pod.account.clone(),
        workload: pod.workload.clone(),
        ports: pod.ports.clone(),
        interception: Default::default(),
        identity: if tls { IdentitySource::Agent } else { IdentitySource::None },
        version: "".into(),
        proven: true,
        virtual_hosts: false,
        settings: NodeSettings { status_port: 15021, prometheus_port: 15090, ..NodeSettings::default() },
    })
}

/// The pod that `POD` or `POD.NAMESPACE` names. Pod names may hold dots, so every split is tried.
fn find(snapshot: &Snapshot, name: &str) -> Result<ObjectKey, ProxyError> {
    for (at, _) in name.match_indices('.') {
        let key = ObjectKey { namespace: Namespace::from(&name[at + 1..]), name: name[..at].into() };
        if snapshot.pods.contains_key(&key) {
            return Ok(key);
        }
    }
    let mut named = snapshot.pods.keys().filter(|k| &*k.name == name);
    match (named.next(), named.next()) {
        (Some(key), None) => Ok(key.clone()),
        (Some(_), Some(_)) => Err(ProxyError::Ambiguous(name.to_owned())),
        (None, _) => {
            let all: Vec<String> =
                snapshot.pods.keys().take(20).map(|k| format!("{}.{}", k.name, k.namespace)).collect();
            Err(ProxyError::Unknown(name.to_owned(), all.join(", ")))
        }
    }
}
