//! Policies that are for nobody, and principals that no workload has: looked for when somebody asks, for nothing that a
//! proxy is served depends on it.

use super::Snapshot;
use crate::{
    id::{Namespace, ObjectRef},
    model::{Labels, ObjectKey, Reach, SourceCheck},
    problem::{FieldPath, Problem},
};
use std::{collections::BTreeSet, sync::Arc};

impl Snapshot {
    /// What of the policies has no effect because no workload has what they ask for.
    pub fn idle_policies(&self) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        let authorization = self.authorization_policies.values().map(|p| (&p.source, &p.reach));
        let authentication = self.request_authentications.values().map(|p| (&p.source, &p.reach));
        problems.extend(authorization.chain(authentication).filter_map(|(source, reach)| self.idle(source, reach)));
        problems.extend(self.unknown_principals());
        problems
    }

    /// Whether a policy is for nobody.
    pub fn idle_policy(&self, object: &ObjectRef) -> Option<Problem> {
        let key = ObjectKey::from(object);
        let reach = match object.kind.as_str() {
            "AuthorizationPolicy" => &self.authorization_policies.get(&key)?.reach,
            "RequestAuthentication" => &self.request_authentications.get(&key)?.reach,
            _ => return None,
        };
        self.idle(object, reach)
    }

    fn idle(&self, source: &ObjectRef, reach: &Reach) -> Option<Problem> {
        if !self.discovers(&source.namespace) {
            let message = "is of a namespace that discoverySelectors do not choose, so the policy has no effect";
            return Some(Problem::warning(source, FieldPath::new("metadata.namespace"), message));
        }
        let everywhere = source.namespace == self.mesh.root_namespace;
        let reached = |namespace: &Namespace, labels: &Labels| {
            (everywhere || *namespace == source.namespace) && reach.is_for(labels, *namespace == source.namespace)
        };
        let pods = self.pods.values().any(|pod| reached(&pod.namespace, &pod.labels));
        let others = self.workload_entries.iter().any(|(key, entry)| reached(&key.namespace, &entry.labels));
        let chooses = reach.gateways.is_some() || !reach.selector.is_empty();
        if !chooses || pods || others {
            return None;
        }
        let (field, what) = match reach.gateways.is_some() {
            true => ("targetRefs", "names no gateway that runs"),
            false => ("selector", "chooses no workload that is there"),
        };
        let message = format!("{what}, so the policy is for nobody; compare it with the labels of the workloads");
        Some(Problem::warning(source, FieldPath::new("spec").field(field), message))
    }

    /// Principals of the mesh's trust domains, and service accounts, that no workload has.
    fn unknown_principals(&self) -> Vec<Problem> {
        let accounts: BTreeSet<(&str, &str)> = self.pods.values().map(|pod| (&*pod.namespace, &*pod.account)).collect();
        let mut problems = Vec::new();
        for policy in self.authorization_policies.values() {
            for rule in &policy.rules {
                let named: BTreeSet<_> = rule.sources.iter().flatten().flat_map(|check| self.named(check)).collect();
                for (namespace, account, written) in named {
                    if accounts.contains(&(namespace, account)) {
                        continue;
                    }
                    let path = FieldPath::new("spec.rules").index(rule.at).field("from");
                    let message =
                        format!("no workload that is there is `{written}`; check namespace and service account");
                    problems.push(Problem::warning(&policy.source, path, message));
                }
            }
        }
        problems
    }

    /// The namespace and the name of each service account that a check names, and how it names it.
    fn named<'a>(&self, check: &'a SourceCheck) -> Vec<(&'a str, &'a str, String)> {
        let own = |domain: &str| domain == "cluster.local" || self.mesh.trust_domains().any(|d| **d == *domain);
        match check {
            SourceCheck::Principal(values) => {
                let parts = |principal: &'a Arc<str>| match principal.split('/').collect::<Vec<_>>()[..] {
                    [domain, "ns", namespace, "sa", account] if !principal.contains('*') && own(domain) => {
                        Some((namespace, account, principal.to_string()))
                    }
                    _ => None,
                };
                values.any.iter().chain(&values.none).filter_map(parts).collect()
            }
            SourceCheck::ServiceAccount(values) => {
                let all = values.any.iter().chain(&values.none);
                all.map(|a| (&*a.namespace, &*a.name, format!("{}/{}", a.namespace, a.name))).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse;
    use serde_json::{Value, json};

    fn said(objects: &[Value]) -> Vec<String> {
        let world = Snapshot::default().apply(objects.iter().map(|o| parse::object(o, &parse::Context::default())));
        world.idle_policies().iter().map(|p| format!("{} {}", p.object.name, p.path)).collect()
    }

    fn pod() -> Value {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "shop", "labels": {"app": "a"}},
            "spec": {"serviceAccountName": "x", "containers": []}, "status": {"podIP": "10.0.0.1"}})
    }

    fn policy(name: &str, spec: Value) -> Value {
        json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
            "metadata": {"name": name, "namespace": "shop"}, "spec": spec})
    }

    #[test]
    fn a_policy_that_chooses_nobody_is_told() {
        let chooses = |app: &str| json!({"selector": {"matchLabels": {"app": app}}});
        let all = [pod(), policy("good", chooses("a")), policy("idle", chooses("b")), policy("all", json!({}))];
        assert_eq!(said(&all), ["idle spec.selector"]);
    }

    #[test]
    fn a_policy_of_a_namespace_that_is_not_looked_at_is_told() {
        let config = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": "discoverySelectors: [{matchLabels: {mesh: here}}]"}});
        assert_eq!(said(&[config, policy("idle", json!({}))]), ["idle metadata.namespace"]);
    }

    #[test]
    fn a_principal_that_nobody_has_is_told() {
        let by = |principal: &str| json!({"rules": [{"from": [{"source": {"principals": [principal]}}]}]});
        let all = [
            pod(),
            policy("good", by("cluster.local/ns/shop/sa/x")),
            policy("wild", by("cluster.local/ns/shop/*")),
            policy("other", by("elsewhere/ns/shop/sa/z")),
            policy("wrong", by("cluster.local/ns/shop/sa/y")),
        ];
        assert_eq!(said(&all), ["wrong spec.rules[0].from"]);
        let of = |account: &str| json!({"rules": [{"from": [{"source": {"serviceAccounts": [account]}}]}]});
        let all = [pod(), policy("good", of("x")), policy("there", of("shop/x")), policy("wrong", of("other/x"))];
        assert_eq!(said(&all), ["wrong spec.rules[0].from"]);
    }
}
