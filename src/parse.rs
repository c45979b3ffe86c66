//! From objects as users write them to the model: one file per kind, total and pure. The same functions serve
//! files, the Kubernetes watch, the validating webhook and the offline commands.

mod node;
mod raw;

use crate::{
    id::{Kind, ObjectRef},
    model::{Change, Object, State},
    problem::{FieldPath, Problem},
};
use serde_json::Value;
use std::sync::Arc;

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
}

impl Default for Context {
    fn default() -> Self {
        Self {
            domain: "cluster.local".into(),
            cluster: "Kubernetes".into(),
            system_namespace: "istio-system".into(),
            revision: "".into(),
        }
    }
}

/// What parsing one object gives: the object, unless it cannot be understood at all, and what is wrong with it.
pub type Parsed<T> = (Option<T>, Vec<Problem>);

/// Parses an object of any kind. The kind is told from `apiVersion` and `kind`.
pub fn object(raw: &Value, context: &Context) -> Change {
    let meta = meta(raw);
    let id = meta.object.clone();
    let (object, problems): Parsed<Object> = match id.kind.clone() {
        k if k == Kind::SERVICE_ACCOUNT => (None, Vec::new()),
        _ => (None, vec![unknown(&id, raw)]),
    };
    let _ = context;
    let state = object.map_or(State::Bad, |o| State::Is(Box::new(o)));
    Change { object: id, state, problems, raw: None }
}

fn unknown(id: &ObjectRef, raw: &Value) -> Problem {
    let version = raw.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    Problem::warning(
        id,
        FieldPath::new("kind"),
        format!("{version} {} is not a kind that mainsheet reads; it is left out", id.kind),
    )
}
