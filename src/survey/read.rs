//! What is read of a cluster.

use crate::{
    api::kind::{self, ApiKind},
    install::Cluster,
};
use serde_json::Value;

/// Kinds of Kubernetes' Gateway API.
const GATEWAY_API: [ApiKind; 7] = [
    gateway("Gateway", "gateways"),
    ApiKind { namespaced: false, ..gateway("GatewayClass", "gatewayclasses") },
    gateway("GRPCRoute", "grpcroutes"),
    gateway("HTTPRoute", "httproutes"),
    gateway("ReferenceGrant", "referencegrants"),
    gateway("TCPRoute", "tcproutes"),
    gateway("TLSRoute", "tlsroutes"),
];

/// Kubernetes' own kinds, of all namespaces.
const EVERYWHERE: [ApiKind; 5] = [
    kind::NAMESPACE,
    ApiKind::core("Pod", "pods"),
    ApiKind::core("Service", "services"),
    kind::INGRESS,
    kind::MUTATING_WEBHOOKS,
];

/// Kinds of which those of the control plane's namespace say something.
const SYSTEM: [ApiKind; 3] = [
    ApiKind::core("ConfigMap", "configmaps"),
    ApiKind { group: "apps", ..ApiKind::core("Deployment", "deployments") },
    ApiKind { group: "apps", ..ApiKind::core("DaemonSet", "daemonsets") },
];

const SECRET: ApiKind = ApiKind::core("Secret", "secrets");
/// The Secrets of which it matters that they are there; none of them is read for what it holds.
const AUTHORITY: [&str; 2] = ["cacerts", "istio-ca-secret"];

const fn gateway(name: &'static str, plural: &'static str) -> ApiKind {
    let versions = &["v1", "v1beta1", "v1alpha2"];
    ApiKind { group: "gateway.networking.k8s.io", versions, ..ApiKind::core(name, plural) }
}

/// The objects of a cluster that say how its mesh is set up.
///
/// # Errors
///
/// When the API server does not say.
pub async fn read(cluster: &Cluster, namespace: &str) -> Result<Vec<Value>, String> {
    let mut all = Vec::new();
    for kind in kind::SERVED.into_iter().chain(kind::OPEN).chain(GATEWAY_API) {
        // Definitions of an older installation serve older versions.
        for (at, _) in kind.versions.iter().enumerate() {
            let found = cluster.list(ApiKind { versions: &kind.versions[at..=at], ..kind }, None, "").await?;
            if !found.is_empty() {
                all.extend(found);
                break;
            }
        }
    }
    for kind in EVERYWHERE {
        all.extend(cluster.list(kind, None, "").await?);
    }
    for kind in SYSTEM {
        all.extend(cluster.list(kind, Some(namespace), "").await?);
    }
    let remote = cluster.list(SECRET, Some(namespace), "istio/multiCluster=true").await?;
    let mut secrets: Vec<Value> = remote.into_iter().map(emptied).collect();
    for name in AUTHORITY {
        let found = cluster.find(SECRET, namespace, name).await?;
        secrets.extend(found.map(emptied));
    }
    all.extend(secrets);
    Ok(all)
}

/// A Secret without what it holds, but for the names of it.
fn emptied(mut secret: Value) -> Value {
    secret["apiVersion"] = "v1".into();
    secret["kind"] = SECRET.name.into();
    for value in secret["data"].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
        *value = "".into();
    }
    secret
}
