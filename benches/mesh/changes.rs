//! What happens to a mesh in memory, and who looks on.

use super::world::{Shape, hidden_slice, object};
use mainsheet::{
    model::{Change, Node},
    parse::{self, Context},
};
use serde_json::{Value, json};

impl Shape {
    /// The first endpoint of a service becomes ready, or ceases to be: what Kubernetes tells of it.
    pub(crate) fn endpoint_change(self, i: usize, ready: bool) -> Vec<Change> {
        let pod = self.pods.then(|| self.pod(i, 0, ready));
        changes(pod.into_iter().chain([self.slice(i, ready)]))
    }

    /// The weights of a VirtualService change.
    pub(crate) fn route_change(self, i: usize, percent: usize) -> Vec<Change> {
        changes([self.virtual_service(i, percent)])
    }

    /// The sidecar of the `n`-th pod of the first namespace; after its last pod, of its first again.
    pub(crate) fn proxy(self, n: usize) -> Node {
        let services = self.services.div_ceil(self.namespaces);
        let (i, e) = ((n % services) * self.namespaces, n / services % self.endpoints);
        parse::node(&self.sidecar(i, e)).expect("the node is well formed")
    }
}

/// A change that no proxy of [`Shape::proxy`] sees: an endpoint of a service that is for its own namespace alone.
pub(crate) fn unseen_change(ready: bool) -> Vec<Change> {
    changes([hidden_slice(ready)])
}

/// The objects as a source hands them over.
pub(crate) fn changes(objects: impl IntoIterator<Item = Value>) -> Vec<Change> {
    let context = Context::default();
    objects.into_iter().map(|raw| parse::object(&raw, &context)).collect()
}

/// A policy of the first namespace that denies something there: to all its workloads, or to those of one app.
pub(crate) fn policy(n: usize, app: Option<usize>, method: &str) -> Value {
    let mut spec = json!({
        "action": "DENY",
        "rules": [{
            "from": [{"source": {"namespaces": ["default"]}}],
            "to": [{"operation": {"methods": [method]}}],
        }],
    });
    if let Some(app) = app {
        spec["selector"] = json!({"matchLabels": {"app": format!("svc-{app}")}});
    }
    object("security.istio.io/v1", "AuthorizationPolicy", "ns-0", &format!("policy-{n:04}"), json!({"spec": spec}))
}

/// A policy for all workloads of the first namespace that names so many principals.
pub(crate) fn long_policy(principals: usize) -> Value {
    let principals: Vec<String> = (0..principals).map(|n| format!("cluster.local/ns/ns-{n}/sa/account-{n}")).collect();
    let spec = json!({"rules": [{"from": [{"source": {"principals": principals}}]}]});
    object("security.istio.io/v1", "AuthorizationPolicy", "ns-0", "long", json!({"spec": spec}))
}
