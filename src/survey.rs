//! Looks at a cluster, or at files that describe one, before mainsheet is installed there or takes istiod's place: what is
//! in the way, and what would be different.
//!
//! What of an object is not served, and why, is known to parsing alone; nothing of that is listed here a second time.

mod istiod;
mod pods;
mod precheck;
mod read;
#[cfg(test)]
mod tests;

pub use precheck::precheck;
pub use read::read;

use crate::{
    model::Mesh,
    parse::{self, Context},
    problem::{Problem, Severity},
    snapshot::Snapshot,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fmt, sync::Arc};

/// Something that was found.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Finding {
    /// An error where something would not work, a warning where it would work differently.
    pub severity: Severity,
    /// What it is about.
    pub object: String,
    /// What was found, and what to do.
    pub message: String,
}

impl Finding {
    fn error(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Error, object: object.into(), message: message.into() }
    }

    fn warning(object: impl Into<String>, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(object, message) }
    }

    /// As JSON.
    pub fn to_json(&self) -> Value {
        json!({ "severity": self.severity.to_string(), "object": self.object, "message": self.message })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.severity, self.object, self.message)
    }
}

/// A cluster's objects, and which control plane it is about.
#[derive(Clone, Debug)]
pub struct Survey {
    /// The objects, as they are.
    pub objects: Vec<Value>,
    /// The namespace of the control plane.
    pub namespace: String,
    /// Its revision; none for the default one.
    pub revision: String,
}

impl Survey {
    /// What would be different if mainsheet took the place of the control plane, the worst first.
    pub fn migration(&self) -> Vec<Finding> {
        let (mesh, mut found) = istiod::environment(self);
        found.extend(self.served(mesh, true));
        found.extend(istiod::templates(self));
        found.extend(istiod::identity(self));
        found.extend(pods::proxies(self));
        found.extend(pods::annotations(self));
        found.extend(pods::ambient(self));
        ordered(found)
    }

    /// What of the objects would not be served; with what is only remarked on, if that is asked for.
    fn served(&self, mesh: Mesh, remarks: bool) -> Vec<Finding> {
        let context = Context {
            system_namespace: self.namespace.as_str().into(),
            revision: self.revision.as_str().into(),
            tags: self.tags(),
            mesh: Arc::new(mesh),
            ..Context::default()
        };
        let read = |object: &&Value| {
            let api = object["apiVersion"].as_str().unwrap_or_default();
            let kinds = ["ConfigMap", "Namespace", "Pod", "Service", "Ingress", "IngressClass"];
            api.contains(".istio.io/")
                || api.starts_with("gateway.networking.k8s.io/")
                || kinds.iter().any(|kind| object["kind"] == *kind)
        };
        let changes: Vec<_> = self.objects.iter().filter(read).map(|object| parse::object(object, &context)).collect();
        let snapshot = Snapshot::new((*context.mesh).clone()).apply(changes);
        let idle = snapshot.idle_policies();
        let all = snapshot.problems.values().flat_map(|problems| problems.iter()).chain(&idle);
        all.filter(|problem| remarks || problem.severity == Severity::Error).map(of_problem).collect()
    }

    /// The tags of the revision.
    fn tags(&self) -> BTreeSet<Arc<str>> {
        let mut tags = BTreeSet::new();
        for labels in self.objects.iter().map(|object| &object["metadata"]["labels"]) {
            if let Some(tag) = labels["istio.io/tag"].as_str().filter(|_| self.is_of(&labels["istio.io/rev"])) {
                tags.insert(tag.into());
            }
        }
        tags
    }

    /// Whether a label names the revision.
    fn is_of(&self, label: &Value) -> bool {
        parse::is_same_revision(label.as_str().unwrap_or_default(), &self.revision)
    }

    fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    /// An object of the control plane's namespace.
    fn own<'a>(&'a self, kind: &'a str, name: &str) -> Option<&'a Value> {
        let mut all = self.of_kind(kind);
        all.find(|o| o["metadata"]["name"] == name && o["metadata"]["namespace"] == *self.namespace)
    }
}

fn of_problem(problem: &Problem) -> Finding {
    let path = problem.path.as_str();
    let message = match path {
        "" => problem.message.clone(),
        path => format!("{path}: {}", problem.message),
    };
    // A kind that is not served has no effect at all.
    let severity = if path == "kind" { Severity::Error } else { problem.severity };
    Finding { severity, object: problem.object.to_string(), message }
}

/// The worst first, each once.
fn ordered(mut found: Vec<Finding>) -> Vec<Finding> {
    found.sort_by(|a, b| b.severity.cmp(&a.severity).then_with(|| a.cmp(b)));
    found.dedup();
    found
}
