//! What happens to a mesh in memory, and who looks on.

use super::world::{Shape, hidden_slice};
use mainsheet::{
    model::{Change, Node},
    parse::{self, Context},
};
use serde_json::Value;

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
