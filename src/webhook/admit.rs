//! A pod that the API server asks about: injected, or left alone.

use super::{
    decision,
    inject::{Injector, Request},
    owner::Owner,
    patch::patch,
    review::{Review, Verdict},
};
use serde_json::Value;
use std::collections::BTreeMap;

/// What became of a pod, for counting, beside the verdict.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It has a sidecar now.
    Injected,
    /// It is left alone, for this reason.
    Skipped(&'static str),
    /// It cannot be injected.
    Failed,
}

/// Answers for a pod; `path` is that of the request.
pub fn admit(injector: &Injector, native: bool, path: &str, review: &Review) -> (Verdict, Outcome) {
    if review.operation != "CREATE" || review.resource[2] != "pods" && !review.resource[2].is_empty() {
        return (Verdict::Taken(Vec::new()), Outcome::Skipped("only pods that are made are injected"));
    }
    let Value::Object(_) = &review.object else {
        return (Verdict::Refused("the request has no pod".into()), Outcome::Failed);
    };
    let pod = &review.object;
    let namespace = match pod["metadata"]["namespace"].as_str() {
        Some(own) if !own.is_empty() => own,
        _ => &review.namespace,
    };
    if let Some(why) = decision::refusal(injector.settings.policy, &injector.settings, pod, namespace) {
        return (Verdict::Taken(Vec::new()), Outcome::Skipped(why));
    }
    let request = Request { pod, namespace, owner: Owner::of(pod), variables: variables(path), native };
    match injector.inject(&request) {
        Ok(made) => (Verdict::Changed(patch(pod, &made)), Outcome::Injected),
        Err(why) => (Verdict::Refused(format!("the sidecar cannot be injected: {why}")), Outcome::Failed),
    }
}

/// The variables that a path sets: `/inject/KEY/VALUE/…`, or `/inject/:ENV:KEY=VALUE:ENV:…`.
pub(super) fn variables(path: &str) -> BTreeMap<String, String> {
    let path = path.trim_end_matches('/');
    let rest = path.splitn(3, '/').nth(2).unwrap_or_default();
    let pairs: Vec<(&str, String)> = match rest.strip_prefix(":ENV:") {
        Some(list) => list.split(":ENV:").filter_map(|p| p.split_once('=')).map(|(k, v)| (k, v.to_owned())).collect(),
        None => {
            let parts: Vec<&str> = rest.split('/').collect();
            // A key without a value says nothing.
            parts.chunks_exact(2).map(|pair| (pair[0], pair[1].replace("--slash--", "/"))).collect()
        }
    };
    let name = |key: &str| match key {
        "cluster" => "ISTIO_META_CLUSTER_ID".to_owned(),
        "net" => "ISTIO_META_NETWORK".to_owned(),
        key => key.to_uppercase(),
    };
    pairs.into_iter().filter(|(key, _)| !key.is_empty()).map(|(key, value)| (name(key), value)).collect()
}
