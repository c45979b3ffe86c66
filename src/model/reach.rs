//! The proxies that a policy is for.

use super::{Labels, selects};
use std::sync::Arc;

/// The label by which a proxy says that it is of a gateway of the Gateway API.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// The proxies that a policy is for.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Reach {
    /// The labels of the workloads; empty for all of the namespace, or of the mesh in the root namespace.
    pub selector: Labels,
    /// The gateways of the Gateway API in the policy's namespace that it is for instead; `None` where it names no
    /// target.
    pub gateways: Option<Vec<Arc<str>>>,
}

impl Reach {
    /// Whether it names gateways, or a proxy with these labels is of none.
    pub fn names_gateways_of(&self, labels: &Labels) -> bool {
        self.gateways.is_some() || !labels.contains_key(GATEWAY)
    }

    /// Whether a proxy with these labels is reached; `own` says that it is in the policy's namespace.
    pub fn is_for(&self, labels: &Labels, own: bool) -> bool {
        match &self.gateways {
            None => selects(&self.selector, labels),
            Some(names) => own && labels.get(GATEWAY).is_some_and(|name| names.contains(name)),
        }
    }
}
