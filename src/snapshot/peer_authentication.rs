//! Which PeerAuthentications hold for a workload, and for a namespace as its clients take it
//! (Istio: `policy_applier.go`, ComposePeerAuthentication, and `authentication.go`).

use super::Snapshot;
use crate::{
    id::{Namespace, ServiceKey, Shared},
    model::{Labels, MtlsMode, ObjectKey, PeerAuthentication, PeerMtls, selects},
};
use std::collections::BTreeSet;

impl Snapshot {
    /// Sets or removes a PeerAuthentication. Whether endpoints take mutual TLS follows from it.
    pub(super) fn set_peer_authentication(
        &mut self,
        key: ObjectKey,
        policy: Option<PeerAuthentication>,
        dirty: &mut BTreeSet<ServiceKey>,
    ) {
        self.mark_namespace(&key.namespace, dirty);
        match policy {
            Some(policy) => drop(self.peer_authentications.insert(key, Shared::new(policy))),
            None => drop(self.peer_authentications.remove(&key)),
        }
    }

    /// What follows from the policies of a namespace.
    pub(super) fn mark_namespace(&self, namespace: &Namespace, dirty: &mut BTreeSet<ServiceKey>) {
        let everywhere = *namespace == self.mesh.root_namespace;
        dirty.extend(self.index.endpoints.keys().filter(|s| everywhere || s.namespace == *namespace).cloned());
    }

    /// What holds for a workload: the narrowest scope that says something, and within a scope its oldest policy.
    pub fn peer_mtls(&self, namespace: &Namespace, labels: &Labels) -> PeerMtls {
        let mut all = PeerMtls::default();
        let root = &self.mesh.root_namespace;
        let own = self.oldest(namespace, |p| p.selector.is_empty()).filter(|_| namespace != root);
        let workload = self
            .oldest(namespace, |p| !p.selector.is_empty() && selects(&p.selector, labels))
            .filter(|_| namespace != root);
        for policy in [self.mesh_policy(), own, workload].into_iter().flatten() {
            all.mode = policy.mode.unwrap_or(all.mode);
            all.sources.push(policy.source.clone());
        }
        let ports = workload.into_iter().flat_map(|p| &p.ports);
        all.ports = ports.map(|(port, mode)| (*port, mode.unwrap_or(all.mode))).collect();
        all
    }

    /// What clients take for the mode of a namespace, whose workloads' own policies they do not look at.
    pub fn namespace_mtls(&self, namespace: &Namespace) -> MtlsMode {
        let own = self.oldest(namespace, |p| p.selector.is_empty());
        let scopes = [own, self.mesh_policy()].into_iter().flatten();
        scopes.filter_map(|p| p.mode).next().unwrap_or_default()
    }

    fn mesh_policy(&self) -> Option<&Shared<PeerAuthentication>> {
        self.oldest(&self.mesh.root_namespace, |p| p.selector.is_empty())
    }

    fn oldest(
        &self,
        namespace: &Namespace,
        is: impl Fn(&PeerAuthentication) -> bool,
    ) -> Option<&Shared<PeerAuthentication>> {
        if !self.discovers(namespace) {
            return None;
        }
        let from = ObjectKey { namespace: namespace.clone(), name: "".into() };
        let range = self.peer_authentications.range(from..);
        let of_namespace = range.take_while(|(key, _)| key.namespace == *namespace).map(|(_, policy)| policy);
        of_namespace.filter(|p| is(p)).min_by(|a, b| a.rank().cmp(&b.rank()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::{Kind, ObjectRef},
        model::{Change, Object, State},
    };
    use MtlsMode::{Disable, Permissive, Strict};

    struct Policy(&'static str, &'static str, i64, &'static str, Option<MtlsMode>, &'static [(u16, Option<MtlsMode>)]);

    /// The world with these policies: namespace, name, age, the `app` it is for, its mode, those of ports.
    fn world(policies: &[Policy]) -> Snapshot {
        let change = |Policy(namespace, name, created, app, mode, ports): &Policy| {
            let source = ObjectRef::new(Kind::PEER_AUTHENTICATION, *namespace, *name);
            let selector = (!app.is_empty()).then(|| ("app".into(), (*app).into())).into_iter().collect();
            let policy = PeerAuthentication {
                source: source.clone(),
                created: *created,
                selector,
                mode: *mode,
                ports: ports.iter().copied().collect(),
            };
            let state = State::Is(Box::new(Object::PeerAuthentication(policy)));
            Change { object: source, state, problems: Vec::new(), raw: None }
        };
        Snapshot::default().apply(policies.iter().map(change).collect::<Vec<_>>())
    }

    fn of(world: &Snapshot, namespace: &str) -> PeerMtls {
        world.peer_mtls(&namespace.into(), &std::iter::once(("app".into(), "a".into())).collect())
    }

    #[test]
    fn without_policies_both_are_taken() {
        assert_eq!(of(&world(&[]), "shop"), PeerMtls::default());
        assert_eq!(world(&[]).namespace_mtls(&"shop".into()), Permissive);
    }

    #[test]
    fn the_narrowest_scope_that_says_something_counts() {
        let mesh = || Policy("istio-system", "m", 0, "", Some(Strict), &[]);
        let unset = || Policy("shop", "n", 0, "", None, &[]);
        let own = || Policy("shop", "w", 0, "a", Some(Disable), &[]);
        assert_eq!(of(&world(&[mesh()]), "shop").mode, Strict);
        assert_eq!(of(&world(&[mesh(), unset()]), "shop").mode, Strict);
        let all = world(&[mesh(), unset(), own()]);
        assert_eq!((of(&all, "shop").mode, of(&all, "web").mode), (Disable, Strict));
        assert_eq!(of(&all, "shop").sources.len(), 3);
        assert_eq!(all.namespace_mtls(&"shop".into()), Strict, "a workload's own policy is not its namespace's");
    }

    #[test]
    fn the_oldest_of_a_scope_counts_and_then_the_first_by_name() {
        let all = world(&[
            Policy("shop", "a", 9, "", Some(Disable), &[]),
            Policy("shop", "b", 5, "", Some(Strict), &[]),
            Policy("shop", "d", 7, "a", None, &[(1, Some(Disable))]),
            Policy("shop", "c", 7, "a", None, &[(2, Some(Permissive)), (3, None)]),
        ]);
        let mtls = of(&all, "shop");
        assert_eq!((mtls.at(1), mtls.at(2), mtls.at(3)), (Strict, Permissive, Strict));
    }

    #[test]
    fn a_selector_in_the_root_namespace_chooses_nothing() {
        let all = world(&[Policy("istio-system", "a", 0, "a", Some(Disable), &[])]);
        assert_eq!((of(&all, "shop").mode, of(&all, "istio-system").mode), (Permissive, Permissive));
    }
}
