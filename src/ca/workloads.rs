//! What the authority knows of the workloads that it signs for: what telemetry calls them, and who may ask in whose name.

use crate::{
    id::Spiffe,
    model::{ObjectKey, Pod},
    peer::{Caller, Proof},
    snapshot::Snapshot,
};
use std::{ops::ControlFlow, sync::Arc};
use tokio::sync::watch;

/// The most that a part of a subject may hold (RFC 5280, `ub-organizational-unit-name`).
const LONGEST: usize = 64;

/// What the authority goes by.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// Accounts of nodes, as namespace and name: these may ask in the names of workloads beside them.
    pub node_accounts: Vec<(String, String)>,
    /// Whether certificates say what telemetry calls their workloads.
    pub subjects: bool,
}

/// The workloads of the newest world.
#[derive(Clone, Debug)]
pub struct Workloads {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    rules: Arc<Rules>,
}

impl Workloads {
    /// Those of the newest of these snapshots.
    pub fn new(snapshots: watch::Receiver<Arc<Snapshot>>, rules: Rules) -> Self {
        Self { snapshots, rules: Arc::new(rules) }
    }

    /// The subject of a certificate of an identity, `WORKLOAD/APP/VERSION/CLUSTER`, where it is known whose it is: the pod's
    /// that a caller proved to be, as the certificate has it that a caller showed, or that of all pods of the account.
    pub(super) fn subject(&self, identity: &Spiffe, caller: &Caller) -> Option<String> {
        if !self.rules.subjects {
            return None;
        }
        let snapshot = self.snapshots.borrow().clone();
        let own = caller.identity == *identity;
        let text = match (&caller.pod, &caller.subject) {
            (Some(pod), _) if own => subject(&snapshot, pod_of(&snapshot, identity, pod)?),
            (None, Some(shown)) if own => shown.to_string(),
            _ => common(&snapshot, identity)?,
        };
        (text.len() <= LONGEST && text.bytes().all(|b| b.is_ascii_graphic())).then_some(text)
    }

    /// Whether a caller may ask in another's name: it is the account of a node, and proves by its token which pod it is;
    /// and a pod of the other's account runs on the same node.
    pub(super) fn may_speak_for(&self, caller: &Caller, other: &Spiffe) -> bool {
        let Caller { identity, proof: Proof::Token, pod: Some(pod), .. } = caller else { return false };
        let trusted = |(namespace, account): &(String, String)| {
            **namespace == *identity.namespace && **account == *identity.account
        };
        let snapshot = self.snapshots.borrow().clone();
        let known = snapshot.mesh.trust_domains().any(|domain| *domain == other.trust_domain);
        let Some(beside) = pod_of(&snapshot, identity, pod).filter(|pod| !pod.node.is_empty()) else { return false };
        known
            && self.rules.node_accounts.iter().any(trusted)
            && pods(&snapshot, other).any(|pod| pod.node == beside.node)
    }
}

fn pod_of<'a>(snapshot: &'a Snapshot, identity: &Spiffe, name: &Arc<str>) -> Option<&'a Pod> {
    let key = ObjectKey { namespace: identity.namespace.clone(), name: name.clone() };
    snapshot.pods.get(&key).map(|pod| &**pod).filter(|pod| pod.account == identity.account)
}

/// The pods of an account.
fn pods<'a>(snapshot: &'a Snapshot, identity: &Spiffe) -> impl Iterator<Item = &'a Pod> {
    let first = ObjectKey { namespace: identity.namespace.clone(), name: "".into() };
    let (namespace, account) = (identity.namespace.clone(), identity.account.clone());
    let all = snapshot.pods.range(first..).take_while(move |(key, _)| key.namespace == namespace);
    all.map(|(_, pod)| &**pod).filter(move |pod| pod.account == account)
}

/// What all pods of an account are called, if that is one.
fn common(snapshot: &Snapshot, identity: &Spiffe) -> Option<String> {
    let found = pods(snapshot, identity).try_fold(None, |found: Option<String>, pod| {
        let next = subject(snapshot, pod);
        match found {
            Some(found) if found != next => ControlFlow::Break(()),
            _ => ControlFlow::Continue(Some(next)),
        }
    });
    match found {
        ControlFlow::Continue(found) => found,
        ControlFlow::Break(()) => None,
    }
}

fn subject(snapshot: &Snapshot, pod: &Pod) -> String {
    let label = |names: [&str; 2]| names.iter().find_map(|name| pod.labels.get(name)).map_or("", |value| &**value);
    let app = label(["app", "app.kubernetes.io/name"]);
    let version = label(["version", "app.kubernetes.io/version"]);
    format!("{}/{app}/{version}/{}", pod.workload, snapshot.mesh.cluster)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{model::Mesh, parse};
    use serde_json::{Value, json};

    fn pod(name: &str, account: &str, node: &str, version: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": "cart", "version": version}},
            "spec": {"serviceAccountName": account, "nodeName": node, "containers": []}})
    }

    fn workloads(pods: &[Value]) -> Workloads {
        let changes: Vec<_> = pods.iter().map(|raw| parse::object(raw, &parse::Context::default())).collect();
        let (_, snapshots) = watch::channel(Arc::new(Snapshot::new(Mesh::default()).apply(changes)));
        let node_accounts = vec![("shop".to_owned(), "proxy".to_owned())];
        Workloads::new(snapshots, Rules { node_accounts, subjects: true })
    }

    fn identity(account: &str) -> Spiffe {
        Spiffe::new("cluster.local", "shop", account).expect("an identity")
    }

    fn caller(account: &str, pod: Option<&str>) -> Caller {
        let pod = pod.map(Into::into);
        Caller { identity: identity(account), proof: Proof::Token, expires: None, pod, subject: None }
    }

    #[test]
    fn a_certificate_says_what_its_workload_is_called_if_that_is_sure() {
        let all = workloads(&[
            pod("cart-1", "cart", "a", "v1"),
            pod("cart-2", "cart", "a", "v1"),
            pod("cart-3", "two", "a", "v1"),
            pod("cart-4", "two", "a", "v2"),
        ]);
        let said = |caller: &Caller| all.subject(&caller.identity, caller);
        assert_eq!(said(&caller("cart", Some("cart-1"))).as_deref(), Some("cart-1/cart/v1/Kubernetes"));
        assert_eq!(said(&caller("two", Some("cart-4"))).as_deref(), Some("cart-4/cart/v2/Kubernetes"));
        assert_eq!(said(&caller("two", None)), None, "it may be either");
        assert_eq!(said(&caller("two", Some("cart-1"))), None, "that pod is not of the account");
        assert_eq!(said(&caller("none", None)), None);
        let shown = Caller { subject: Some("cart-9/cart/v1/east".into()), ..caller("two", None) };
        assert_eq!(said(&shown).as_deref(), Some("cart-9/cart/v1/east"), "as the certificate before has it");
        let silent = Workloads { rules: Arc::default(), ..all.clone() };
        assert_eq!(silent.subject(&identity("cart"), &caller("cart", Some("cart-1"))), None);
    }

    #[test]
    fn a_node_speaks_for_what_runs_on_it_and_for_nothing_else() {
        let all = workloads(&[
            pod("proxy-a", "proxy", "a", ""),
            pod("proxy-0", "proxy", "", ""),
            pod("cart-1", "cart", "a", "v1"),
            pod("far-1", "far", "b", "v1"),
            pod("lost-1", "lost", "", "v1"),
        ]);
        let may = |caller: &Caller, other: &str| all.may_speak_for(caller, &identity(other));
        let node = caller("proxy", Some("proxy-a"));
        assert!(may(&node, "cart"));
        for (caller, other, why) in [
            (node.clone(), "far", "it runs on another node"),
            (node.clone(), "lost", "nobody knows where it runs"),
            (node.clone(), "none", "nothing runs as it"),
            (caller("proxy", None), "cart", "which pod it is was not proved"),
            (caller("proxy", Some("cart-1")), "cart", "that pod is not its own"),
            (caller("proxy", Some("gone")), "cart", "there is no such pod"),
            (caller("proxy", Some("proxy-0")), "lost", "it runs on no node"),
            (caller("cart", Some("cart-1")), "proxy", "it is not trusted"),
            (Caller { proof: Proof::Certificate, ..node.clone() }, "cart", "a certificate proves no pod"),
        ] {
            assert!(!may(&caller, other), "{why}");
        }
        let foreign = Spiffe { trust_domain: "other".into(), ..identity("cart") };
        assert!(!all.may_speak_for(&node, &foreign));
        let elsewhere = Spiffe { namespace: "web".into(), ..identity("cart") };
        assert!(!all.may_speak_for(&node, &elsewhere));
    }
}
