//! What differs between two snapshots, in work proportional to the difference.

use super::{Snapshot, ingress::generated_key};
use crate::{
    id::{Host, Namespace, ServiceKey, Shared},
    model::{DestinationRule, ObjectKey, VirtualService, WorkloadEntry},
};
use imbl::{OrdMap, ordmap::DiffItem};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

/// What differs between two snapshots.
#[derive(Clone, Debug, Default)]
pub struct Delta {
    /// Something that everything depends on: the mesh's settings.
    pub whole: bool,
    /// Hosts whose services differ.
    pub services: BTreeSet<Host>,
    /// Services whose endpoints differ, and whether the identities among them do.
    pub endpoints: BTreeMap<ServiceKey, bool>,
    /// VirtualServices that differ, old and new versions.
    pub virtual_services: Vec<Shared<VirtualService>>,
    /// DestinationRules that differ, old and new versions.
    pub destination_rules: Vec<Shared<DestinationRule>>,
    /// Some Gateway differs.
    pub gateways: bool,
    /// Secrets that differ.
    pub secrets: BTreeSet<ObjectKey>,
    /// Namespaces whose services differ, or whose labels do.
    pub namespaces: BTreeSet<Namespace>,
    /// Namespaces whose PeerAuthentications differ; `None` among them stands for the mesh's own.
    pub peers: BTreeSet<Option<Namespace>>,
    /// Namespaces whose AuthorizationPolicies or RequestAuthentications differ; `None` among them stands for the mesh's own.
    pub policies: BTreeSet<Option<Namespace>>,
    /// A service that is asked about requests differs, or that keys of issuers are fetched from.
    pub authorizers: bool,
    /// Keys that were fetched differ.
    pub keys: bool,
    /// Pods that differ.
    pub pods: BTreeSet<ObjectKey>,
    /// The addresses of pods that differ, and those that other slices list or other clients dial than before.
    pub addresses: BTreeSet<IpAddr>,
    /// Nodes, or the label keys that tell one client's view from another's, differ.
    pub clients: bool,
}

impl Delta {
    /// What differs between `old` and `new`. Symmetric but for the direction of versions.
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let mut delta = Self {
            whole: old.mesh != new.mesh,
            clients: changed(&old.index.client_labels, &new.index.client_labels)
                .any(|(_, a, b)| a.is_none() || b.is_none())
                || changed(&old.nodes, &new.nodes).next().is_some()
                || old.tells_nodes_apart() != new.tells_nodes_apart(),
            gateways: changed(&old.gateways, &new.gateways).next().is_some(),
            secrets: changed(&old.secrets, &new.secrets).map(|(key, ..)| key.clone()).collect(),
            ..Self::default()
        };
        for (host, old, new) in changed(&old.index.services, &new.index.services) {
            delta.services.insert(host.clone());
            let both = old.into_iter().chain(new).flat_map(|s| s.iter());
            delta.namespaces.extend(both.map(|s| s.namespace.clone()));
        }
        for (host, old, new) in changed(&old.index.claims, &new.index.claims) {
            delta.services.insert(host.clone());
            let both = old.into_iter().chain(new).flat_map(|s| s.iter());
            delta.namespaces.extend(both.map(|s| s.namespace.clone()));
        }
        delta.authorizers = delta.services.iter().any(|host| new.is_authorizer(host));
        for (key, old, new) in changed(&old.index.endpoints, &new.index.endpoints) {
            let accounts = old.map(|s| &s.accounts) != new.map(|s| &s.accounts);
            delta.endpoints.insert(key.clone(), accounts);
        }
        for (_, old, new) in changed(&old.virtual_services, &new.virtual_services) {
            delta.virtual_services.extend(old.into_iter().chain(new).cloned());
        }
        // What a generated VirtualService comes from counts too, for it is in what is said of it.
        for (source, ..) in changed(&old.generated, &new.generated) {
            let key = generated_key(source);
            delta.virtual_services.extend([old, new].into_iter().filter_map(|s| s.virtual_services.get(&key)).cloned());
        }
        for (_, old, new) in changed(&old.destination_rules, &new.destination_rules) {
            delta.destination_rules.extend(old.into_iter().chain(new).cloned());
        }
        let scope = |key: &ObjectKey| {
            let root = [old, new].iter().any(|s| s.mesh.root_namespace == key.namespace);
            (!root).then(|| key.namespace.clone())
        };
        let peers = changed(&old.peer_authentications, &new.peer_authentications);
        delta.peers.extend(peers.map(|(key, ..)| scope(key)));
        let policies = changed(&old.authorization_policies, &new.authorization_policies);
        delta.policies.extend(policies.map(|(key, ..)| scope(key)));
        let tokens = changed(&old.request_authentications, &new.request_authentications);
        delta.policies.extend(tokens.map(|(key, ..)| scope(key)));
        delta.keys = changed(&old.key_sets, &new.key_sets).next().is_some();
        for (key, old, new) in changed(&old.pods, &new.pods) {
            delta.pods.insert(key.clone());
            delta.addresses.extend(old.into_iter().chain(new).flat_map(|pod| &pod.ips));
        }
        delta.addresses.extend(changed(&old.index.slices_by_ip, &new.index.slices_by_ip).map(|(ip, ..)| *ip));
        delta.addresses.extend(changed(&old.index.dialled, &new.index.dialled).map(|(ip, ..)| *ip));
        for (_, old, new) in changed(&old.workload_entries, &new.workload_entries) {
            delta.addresses.extend(old.into_iter().chain(new).filter_map(|workload| workload.ip()));
        }
        for (_, old, new) in changed(&old.service_entries, &new.service_entries) {
            let endpoints = old.into_iter().chain(new).flat_map(|entry| &entry.endpoints);
            delta.addresses.extend(endpoints.filter_map(WorkloadEntry::ip));
        }
        for (key, ..) in changed(&old.sidecars, &new.sidecars) {
            // Those of the root namespace may be for every node.
            delta.clients |= key.namespace == new.mesh.root_namespace;
            delta.namespaces.insert(key.namespace.clone());
        }
        for (name, ..) in changed(&old.namespaces, &new.namespaces) {
            delta.whole |= old.discovers(name) != new.discovers(name);
            delta.namespaces.insert(name.clone());
        }
        delta
    }

    /// Whether nothing that a proxy is served differs.
    pub fn is_empty(&self) -> bool {
        !self.whole
            && !self.clients
            && !self.gateways
            && self.secrets.is_empty()
            && self.services.is_empty()
            && self.endpoints.is_empty()
            && self.virtual_services.is_empty()
            && self.destination_rules.is_empty()
            && self.namespaces.is_empty()
            && self.peers.is_empty()
            && self.policies.is_empty()
            && !self.keys
            && self.pods.is_empty()
            && self.addresses.is_empty()
    }
}

/// The entries that differ between two maps, with what each map has; parts that the maps share are skipped.
pub(crate) fn changed<'a, K: Ord + Clone, V: PartialEq + Clone>(
    old: &'a OrdMap<K, V>,
    new: &'a OrdMap<K, V>,
) -> impl Iterator<Item = (&'a K, Option<&'a V>, Option<&'a V>)> {
    old.diff(new).map(|item| match item {
        DiffItem::Add(key, new) => (key, None, Some(new)),
        DiffItem::Remove(key, old) => (key, Some(old), None),
        DiffItem::Update { old: (key, old), new: (_, new) } => (key, Some(old), Some(new)),
    })
}
