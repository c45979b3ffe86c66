//! Whether an object can be served: what parsing finds wrong with it refuses it, and what parsing only remarks on is told
//! to who wrote it, as is what it names that is not there.

use super::review::{Review, Verdict};
use crate::{
    parse::{self, Context},
    problem::{Problem, Severity},
    snapshot::Snapshot,
    translate,
};
use serde_json::Value;

/// The annotation of an object that is refused whatever it says: the control plane asks with it whether it is asked.
pub(super) const ALWAYS_REFUSED: &str = "internal.istio.io/webhook-always-reject";

/// What was found, for counting, beside the verdict.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing that refuses the object.
    Valid,
    /// The object is not there to be looked at.
    NotAsked,
    /// It is no object at all.
    Unreadable,
    /// It cannot be served.
    Invalid,
}

impl Found {
    /// What istiod calls it.
    pub(super) fn reason(self) -> Option<&'static str> {
        match self {
            Self::Valid => None,
            Self::NotAsked => Some("unsupported_operation"),
            Self::Unreadable => Some("yaml_decode_error"),
            Self::Invalid => Some("invalid_resource"),
        }
    }
}

/// Looks at an object that is created or updated, among the others that are there.
pub fn validate(review: &Review, context: &Context, others: &Snapshot) -> (Verdict, Found) {
    if !matches!(review.operation.as_str(), "CREATE" | "UPDATE") {
        return (Verdict::Taken(Vec::new()), Found::NotAsked);
    }
    let Value::Object(_) = &review.object else {
        return (Verdict::Refused("the request has no object".into()), Found::Unreadable);
    };
    let mut object = review.object.clone();
    // An object that is made with `generateName` has no name yet, and one in a file no namespace.
    let meta = &mut object["metadata"];
    if !meta.is_object() {
        return (Verdict::Refused("the object has no metadata".into()), Found::Unreadable);
    }
    if meta["name"].as_str().unwrap_or_default().is_empty() {
        meta["name"] = meta["generateName"].as_str().unwrap_or_default().trim_end_matches('-').into();
    }
    if meta["namespace"].is_null() && !review.namespace.is_empty() {
        meta["namespace"] = review.namespace.as_str().into();
    }
    if !meta["annotations"][ALWAYS_REFUSED].is_null() {
        let why = format!("the annotation {ALWAYS_REFUSED} refuses every object that has it; remove it");
        return (Verdict::Refused(why), Found::Invalid);
    }
    let change = parse::object(&object, context);
    let (id, mut problems) = (change.object.clone(), change.problems.clone());
    let errors: Vec<&Problem> = problems.iter().filter(|p| p.severity == Severity::Error).collect();
    if errors.is_empty() {
        // Before the others are read, nothing can be told of them.
        if others.services().next().is_some() {
            problems.extend(translate::remarks(&others.apply([change]), &id));
        }
        return (Verdict::Taken(problems.iter().map(remark).collect()), Found::Valid);
    }
    let all: Vec<String> = errors.iter().map(|p| remark(p)).collect();
    let why = match all.as_slice() {
        [one] => one.clone(),
        several => format!("{} things are wrong: {}", several.len(), several.join("; ")),
    };
    (Verdict::Refused(format!("configuration is invalid: {why}")), Found::Invalid)
}

fn remark(problem: &Problem) -> String {
    match problem.path.as_str() {
        "" => problem.message.clone(),
        path => format!("{path}: {}", problem.message),
    }
}
