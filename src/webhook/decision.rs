//! Whether a pod is injected at all.

use super::settings::{Policy, Settings};
use serde_json::Value;

/// Namespaces whose pods are what the cluster itself runs on.
const IGNORED: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// The label, and the older annotation, by which a pod says whether it wants to be injected.
pub(super) const INJECT: &str = "sidecar.istio.io/inject";

/// Why a pod is not injected by this policy; nothing where it is.
pub(super) fn refusal(policy: Policy, settings: &Settings, pod: &Value, namespace: &str) -> Option<&'static str> {
    if pod["spec"]["hostNetwork"] == true {
        return Some("it uses the network of its node, whose traffic must not be captured");
    }
    if IGNORED.contains(&namespace) {
        return Some("its namespace is one of the cluster's own");
    }
    let meta = &pod["metadata"];
    // The label is the newer of the two, and counts wherever it is there.
    let said = meta["labels"].get(INJECT).unwrap_or(&meta["annotations"][INJECT]).as_str();
    let explicit = match said {
        Some("true") => Some(true),
        Some("false") => Some(false),
        // What is neither says nothing.
        _ if settings.never.iter().any(|s| s.matches(&meta["labels"])) => Some(false),
        _ if settings.always.iter().any(|s| s.matches(&meta["labels"])) => Some(true),
        _ => None,
    };
    match (policy, explicit) {
        (Policy::Unknown, _) => {
            Some("the policy of the ConfigMap istio-sidecar-injector is neither enabled nor disabled")
        }
        (_, Some(false)) => Some("it is labelled, or selected, not to be injected"),
        (Policy::Disabled, None) => Some("the policy is not to inject pods that do not ask for it"),
        (_, Some(true)) | (Policy::Enabled, None) => None,
    }
}
