//! The whole world at one instant: the parsed objects and what follows from them, immutable and structurally
//! shared with the snapshots before it.
//!
//! `apply` does work in proportion to what changed. It knows no clock, no lock and no protobuf.

mod delta;
mod derive;
mod destination;
mod entrance;
mod few;
mod idle;
mod ingress;
mod meeting;
mod outside;
mod overruled;
mod peer_authentication;
mod policies;
mod registry;
mod routing;
mod scope;
mod view;

pub use delta::Delta;
pub use entrance::{Entrance, Opening, Placed};
pub use policies::{FoundKeys, Policies, TokenRule};
use registry::ByAge;
pub use routing::Precedence;
pub use view::{Face, Families, KeptHeaders, NamedSecrets, Place, Target, Traced, View, ViewKey};

use crate::{
    id::{Host, Kind, Namespace, ObjectRef, ServiceKey, Shared},
    model::{
        AuthorizationPolicy, Change, ClusterNode, Created, DestinationRule, Distribution, EndpointSet, Gateway,
        Ingress, IngressClass, KeyLocator, KeySet, Mesh, NamespaceInfo, Object, ObjectKey, Origin, PeerAuthentication,
        Pod, RequestAuthentication, Secret, Service, ServiceEntry, Sidecar, Slice, State, VirtualService,
        WorkloadEntry,
    },
    problem::Problem,
};
use few::{Few, Members};
use imbl::{OrdMap, OrdSet};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// The world at one instant. Cloning it is cheap; two snapshots share what did not change between them.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// How many times the world was published before; for people, never for decisions.
    pub generation: u64,
    /// The mesh's settings.
    pub mesh: Shared<Mesh>,
    /// The settings where no object has any.
    base: Shared<Mesh>,
    /// The settings of each object that has some; the last are in force.
    settings: OrdMap<ObjectRef, Shared<Mesh>>,
    /// What is wrong, by object.
    pub problems: OrdMap<ObjectRef, Arc<[Problem]>>,
    /// Istio's own objects as they were given, as JSON.
    pub raw: OrdMap<ObjectRef, Arc<str>>,
    /// Namespaces by name.
    pub namespaces: OrdMap<Namespace, Arc<NamespaceInfo>>,
    /// Pods by namespace and name.
    pub pods: OrdMap<ObjectKey, Arc<Pod>>,
    /// ServiceEntries by namespace and name.
    pub service_entries: OrdMap<ObjectKey, Arc<ServiceEntry>>,
    /// WorkloadEntries by namespace and name.
    pub workload_entries: OrdMap<ObjectKey, Arc<WorkloadEntry>>,
    /// VirtualServices by namespace and name.
    pub virtual_services: OrdMap<ObjectKey, Shared<VirtualService>>,
    /// Sidecars by namespace and name.
    pub sidecars: OrdMap<ObjectKey, Shared<Sidecar>>,
    /// DestinationRules by namespace and name.
    pub destination_rules: OrdMap<ObjectKey, Shared<DestinationRule>>,
    /// PeerAuthentications by namespace and name.
    pub peer_authentications: OrdMap<ObjectKey, Shared<PeerAuthentication>>,
    /// AuthorizationPolicies by namespace and name.
    pub authorization_policies: OrdMap<ObjectKey, Shared<AuthorizationPolicy>>,
    /// RequestAuthentications by namespace and name.
    pub request_authentications: OrdMap<ObjectKey, Shared<RequestAuthentication>>,
    /// Keys that were fetched, by where from.
    pub key_sets: OrdMap<KeyLocator, Shared<KeySet>>,
    /// Gateways by namespace and name.
    pub gateways: OrdMap<ObjectKey, Shared<Gateway>>,
    /// Secrets by namespace and name.
    pub secrets: OrdMap<ObjectKey, Shared<Secret>>,
    /// Ingresses by namespace and name.
    pub ingresses: OrdMap<ObjectKey, Shared<Ingress>>,
    ingress_classes: OrdMap<Arc<str>, Shared<IngressClass>>,
    /// What the generated objects among the others stand for.
    generated: OrdMap<ObjectRef, Shared<Origin>>,
    nodes: OrdMap<Arc<str>, Arc<ClusterNode>>,
    slices: OrdMap<ObjectRef, Arc<Slice>>,
    index: Index,
}

/// What follows from the objects; each entry is made anew when one of its objects changes.
#[derive(Clone, Debug, Default)]
struct Index {
    /// What the objects say of a host, each by itself, the oldest first.
    claims: OrdMap<Host, Arc<[Shared<Service>]>>,
    /// What that comes to: the services of a host, the oldest first.
    services: OrdMap<Host, Arc<[Shared<Service>]>>,
    /// The services that an object defines.
    defined: OrdMap<ObjectRef, Arc<[Shared<Service>]>>,
    /// The hosts that ask for an address of the mesh's own, the oldest first.
    asking: OrdSet<(Created, Namespace, Host)>,
    /// The places of the addresses that they have been given.
    allocated: OrdMap<(Namespace, Host), u16>,
    /// The objects that name one of these addresses themselves.
    reserved: OrdMap<IpAddr, OrdSet<ObjectRef>>,
    /// The ServiceEntries that have an endpoint at an address.
    entries_by_ip: OrdMap<IpAddr, Few<ObjectKey>>,
    /// The WorkloadEntries that are at an address.
    workloads_by_ip: OrdMap<IpAddr, Few<ObjectKey>>,
    /// The endpoints of a service.
    endpoints: OrdMap<ServiceKey, Shared<EndpointSet>>,
    /// The services that have a port of this number.
    ports: OrdMap<u16, OrdSet<ByAge>>,
    /// The objects whose selector asks for a label first, by namespace, key and value; both are empty for those that
    /// ask for none and mean all.
    selectors: OrdMap<(Namespace, Arc<str>, Arc<str>), OrdSet<ObjectRef>>,
    /// The slices of a service.
    slices_by_service: OrdMap<ObjectKey, Few<ObjectRef>>,
    /// The services whose endpoints clients dial themselves, by the endpoints' addresses.
    dialled: OrdMap<IpAddr, Few<ServiceKey>>,
    /// The services for which it counts on which node a client runs.
    node_bound: OrdSet<ServiceKey>,
    /// The slices that list an address.
    slices_by_ip: OrdMap<IpAddr, Few<ObjectRef>>,
    /// The pods that have an address.
    pods_by_ip: OrdMap<IpAddr, Few<ObjectKey>>,
    /// The VirtualServices for a host exactly as they name it, the oldest first.
    virtual_services: OrdMap<Host, Arc<[Shared<VirtualService>]>>,
    /// The VirtualServices that send to a host, or a copy.
    routed: OrdMap<Host, OrdSet<ObjectKey>>,
    /// The VirtualServices that are bound to a gateway, by its `namespace/name`.
    bound: OrdMap<Arc<str>, OrdSet<ObjectKey>>,
    /// The VirtualServices that delegate to one.
    delegating: OrdMap<ObjectKey, OrdSet<ObjectKey>>,
    /// The hosts that stand for a host (ExternalName).
    aliases: OrdMap<Host, OrdSet<Host>>,
    /// The DestinationRules for a host exactly as they name it, the oldest first.
    destination_rules: OrdMap<Host, Arc<[Shared<DestinationRule>]>>,
    /// The DestinationRules that name a credential.
    credentials: OrdMap<Arc<str>, OrdSet<ObjectKey>>,
    /// The Ingresses that have a rule for a host.
    ingress_hosts: OrdMap<Host, OrdSet<ObjectKey>>,
    /// The Ingresses that send to a service.
    ingress_backends: OrdMap<Host, OrdSet<ObjectKey>>,
    /// The Gateway that stands for an Ingress.
    ingress_gateways: OrdMap<ObjectKey, ObjectRef>,
    /// The VirtualService that stands for a host of Ingresses.
    ingress_rules: OrdMap<Host, ObjectRef>,
    /// The label keys that any rule asks of a client, with the number of rules that do.
    client_labels: OrdMap<Arc<str>, usize>,
}

impl Default for Snapshot {
    fn default() -> Self {
        Self::new(Mesh::default())
    }
}

impl Snapshot {
    /// An empty world with these settings.
    pub fn new(mesh: Mesh) -> Self {
        let mesh = Shared::new(mesh);
        Self {
            generation: 0,
            base: mesh.clone(),
            mesh,
            settings: OrdMap::new(),
            problems: OrdMap::new(),
            raw: OrdMap::new(),
            namespaces: OrdMap::new(),
            pods: OrdMap::new(),
            service_entries: OrdMap::new(),
            workload_entries: OrdMap::new(),
            virtual_services: OrdMap::new(),
            destination_rules: OrdMap::new(),
            sidecars: OrdMap::new(),
            peer_authentications: OrdMap::new(),
            authorization_policies: OrdMap::new(),
            request_authentications: OrdMap::new(),
            key_sets: OrdMap::new(),
            gateways: OrdMap::new(),
            secrets: OrdMap::new(),
            ingresses: OrdMap::new(),
            ingress_classes: OrdMap::new(),
            generated: OrdMap::new(),
            nodes: OrdMap::new(),
            slices: OrdMap::new(),
            index: Index::default(),
        }
    }

    /// The world after these changes. The result does not depend on the order in which objects arrived.
    #[must_use]
    pub fn apply(&self, changes: impl IntoIterator<Item = Change>) -> Self {
        let mut next = self.clone();
        next.generation += 1;
        let mut dirty = BTreeSet::new();
        for change in changes {
            next.note(&change);
            match change.state {
                State::Is(object) => next.put(&change.object, *object, &mut dirty),
                State::Gone => next.remove(&change.object, &mut dirty),
                State::Bad => {}
            }
        }
        next.allocate(self);
        next.derive_ingresses(self);
        next.derive_endpoints(dirty);
        next
    }

    /// Keeps what is said about the object: its problems and its raw form.
    fn note(&mut self, change: &Change) {
        match change.problems.is_empty() {
            true => self.problems.remove(&change.object),
            false => self.problems.insert(change.object.clone(), change.problems.clone().into()),
        };
        match (&change.state, &change.raw) {
            (State::Gone, _) => drop(self.raw.remove(&change.object)),
            (State::Is(_), Some(raw)) => drop(self.raw.insert(change.object.clone(), raw.clone())),
            _ => {}
        }
    }

    fn put(&mut self, id: &ObjectRef, object: Object, dirty: &mut BTreeSet<ServiceKey>) {
        let key = ObjectKey::from(id);
        match object {
            Object::Mesh(mesh) => self.set_mesh(id, Some(*mesh), dirty),
            Object::Namespace(namespace) => {
                let name = namespace.name.clone();
                self.set_namespace(&name, Some(namespace), dirty);
            }
            // Nodes report often, and seldom anything that counts here.
            Object::Node(node) if self.nodes.get(&node.name).is_some_and(|old| **old == node) => {}
            Object::Node(node) => {
                self.mark_node(&node.name, dirty);
                self.nodes.insert(node.name.clone(), Arc::new(node));
            }
            Object::Pod(pod) => self.set_pod(key, Some(pod), dirty),
            Object::Slice(slice) => self.set_slice(id, Some(slice), dirty),
            Object::Service(service) => self.define(id, vec![service], false, dirty),
            Object::ServiceEntry(entry) => self.set_service_entry(id, Some(entry), dirty),
            Object::WorkloadEntry(entry) => self.set_workload_entry(key, Some(entry), dirty),
            Object::VirtualService(rule) => self.set_virtual_service(key, Some(rule)),
            Object::DestinationRule(rule) => self.set_destination_rule(key, Some(*rule)),
            Object::Sidecar(sidecar) => drop(self.sidecars.insert(key, Shared::new(*sidecar))),
            Object::PeerAuthentication(policy) => self.set_peer_authentication(key, Some(policy), dirty),
            Object::AuthorizationPolicy(policy) => {
                self.authorization_policies.insert(key, Shared::new(policy));
            }
            Object::RequestAuthentication(policy) => {
                self.request_authentications.insert(key, Shared::new(policy));
            }
            Object::KeySet(set) => drop(self.key_sets.insert(set.locator.clone(), Shared::new(set))),
            Object::Gateway(gateway) => drop(self.gateways.insert(key, Shared::new(gateway))),
            Object::Ingress(ingress) => self.set_ingress(key, Some(ingress)),
            Object::IngressClass(class) => drop(self.ingress_classes.insert(class.name.clone(), Shared::new(class))),
            Object::Secret(secret) => drop(self.secrets.insert(key, Shared::new(secret))),
        }
    }

    fn remove(&mut self, id: &ObjectRef, dirty: &mut BTreeSet<ServiceKey>) {
        let key = ObjectKey::from(id);
        match &id.kind {
            k if *k == Kind::NAMESPACE => self.set_namespace(&Namespace::from(id.name.clone()), None, dirty),
            k if *k == Kind::NODE => {
                self.mark_node(&id.name, dirty);
                self.nodes.remove(&id.name);
            }
            k if *k == Kind::POD => self.set_pod(key, None, dirty),
            k if *k == Kind::ENDPOINT_SLICE || *k == Kind::ENDPOINTS => self.set_slice(id, None, dirty),
            k if *k == Kind::SERVICE => self.define(id, Vec::new(), false, dirty),
            k if *k == Kind::SERVICE_ENTRY => self.set_service_entry(id, None, dirty),
            k if *k == Kind::WORKLOAD_ENTRY => self.set_workload_entry(key, None, dirty),
            k if *k == Kind::VIRTUAL_SERVICE => self.set_virtual_service(key, None),
            k if *k == Kind::DESTINATION_RULE => self.set_destination_rule(key, None),
            k if *k == Kind::SIDECAR => drop(self.sidecars.remove(&key)),
            k if *k == Kind::PEER_AUTHENTICATION => self.set_peer_authentication(key, None, dirty),
            k if *k == Kind::AUTHORIZATION_POLICY => drop(self.authorization_policies.remove(&key)),
            k if *k == Kind::REQUEST_AUTHENTICATION => drop(self.request_authentications.remove(&key)),
            k if *k == Kind::KEY_SET => {
                self.key_sets = self.key_sets.iter().filter(|(l, _)| l.object() != *id).map(owned).collect();
            }
            k if *k == Kind::GATEWAY => drop(self.gateways.remove(&key)),
            k if *k == Kind::INGRESS => self.set_ingress(key, None),
            k if *k == Kind::INGRESS_CLASS => drop(self.ingress_classes.remove(&id.name)),
            k if *k == Kind::SECRET => drop(self.secrets.remove(&key)),
            _ => self.set_mesh(id, None, dirty),
        }
    }

    fn set_namespace(&mut self, name: &Namespace, info: Option<NamespaceInfo>, dirty: &mut BTreeSet<ServiceKey>) {
        let discovered = self.discovers(name);
        let old = match info {
            Some(info) => self.namespaces.insert(name.clone(), Arc::new(info)),
            None => self.namespaces.remove(name),
        };
        let said = |info: Option<&NamespaceInfo>| info.and_then(|i| Distribution::of(&i.annotations));
        if said(old.as_deref()) != said(self.namespaces.get(name).map(|i| &**i)) {
            self.settle_namespace(name);
        }
        if self.discovers(name) != discovered {
            self.mark_namespace(name, dirty);
        }
    }

    fn set_mesh(&mut self, id: &ObjectRef, settings: Option<Mesh>, dirty: &mut BTreeSet<ServiceKey>) {
        match settings {
            Some(settings) => drop(self.settings.insert(id.clone(), Shared::new(settings))),
            None if self.settings.remove(id).is_none() => return,
            None => {}
        }
        // A MeshConfig of its own goes before a ConfigMap, as its kind comes after.
        let mesh = self.settings.get_max().map_or(&self.base, |(_, mesh)| mesh).clone();
        let shown = |m: &Mesh| {
            (
                m.trust_domain.clone(),
                m.cluster.clone(),
                m.root_namespace.clone(),
                m.networks.clone(),
                m.discovery_selectors.clone(),
            )
        };
        if shown(&self.mesh) != shown(&mesh) {
            dirty.extend(self.index.endpoints.keys().cloned());
        }
        self.mesh = mesh;
    }

    fn set_virtual_service(&mut self, key: ObjectKey, rule: Option<VirtualService>) {
        if let Some(old) = self.virtual_services.remove(&key) {
            self.count_labels(old.client_labels(), false);
            for host in &old.hosts {
                unlist(&mut self.index.virtual_services, host, |r| r.source == old.source);
            }
            old.destinations().for_each(|host| drop_from(&mut self.index.routed, host, &key));
            old.gateways.iter().for_each(|gateway| drop_from(&mut self.index.bound, gateway, &key));
            old.delegates().for_each(|to| drop_from(&mut self.index.delegating, to, &key));
        }
        let Some(rule) = rule.map(Shared::new) else { return };
        self.count_labels(rule.client_labels(), true);
        for host in &rule.hosts {
            enlist(&mut self.index.virtual_services, host, &rule, |a, b| a.rank().cmp(&b.rank()));
        }
        rule.destinations().for_each(|host| add_to(&mut self.index.routed, host.clone(), key.clone()));
        rule.gateways.iter().for_each(|gateway| add_to(&mut self.index.bound, gateway.clone(), key.clone()));
        rule.delegates().for_each(|to| add_to(&mut self.index.delegating, to.clone(), key.clone()));
        self.virtual_services.insert(key, rule);
    }

    fn set_destination_rule(&mut self, key: ObjectKey, rule: Option<DestinationRule>) {
        if let Some(old) = self.destination_rules.remove(&key) {
            self.count_labels(old.client_labels(), false);
            old.credentials().for_each(|name| drop_from(&mut self.index.credentials, name, &key));
            unlist(&mut self.index.destination_rules, &old.host, |r| r.source == old.source);
        }
        let Some(rule) = rule.map(Shared::new) else { return };
        self.count_labels(rule.client_labels(), true);
        rule.credentials().for_each(|name| add_to(&mut self.index.credentials, name.clone(), key.clone()));
        let rank = |r: &DestinationRule| (r.created, r.source.name.clone(), r.source.namespace.clone());
        enlist(&mut self.index.destination_rules, &rule.host, &rule, |a, b| rank(a).cmp(&rank(b)));
        self.destination_rules.insert(key, rule);
    }

    /// Counts the label keys that rules ask of clients: only these tell one client's view from another's.
    fn count_labels<'a>(&mut self, keys: impl IntoIterator<Item = &'a Arc<str>>, more: bool) {
        for key in keys {
            let count = self.index.client_labels.get(key).copied().unwrap_or(0);
            match (more, count) {
                (true, n) => drop(self.index.client_labels.insert(key.clone(), n + 1)),
                (false, 0 | 1) => drop(self.index.client_labels.remove(key)),
                (false, n) => drop(self.index.client_labels.insert(key.clone(), n - 1)),
            }
        }
    }

    /// Every service, by host and then from the oldest.
    pub fn services(&self) -> impl Iterator<Item = &Shared<Service>> {
        self.index.services.values().flat_map(|s| s.iter())
    }

    /// The services of this host, the oldest first.
    pub fn services_of(&self, host: &str) -> &[Shared<Service>] {
        self.index.services.get(host).map_or(&[], |s| s)
    }

    /// The endpoints of a service; none where it has none.
    pub fn endpoints(&self, service: &ServiceKey) -> Option<&Shared<EndpointSet>> {
        self.index.endpoints.get(service)
    }

    /// Every service's endpoints.
    pub fn all_endpoints(&self) -> impl Iterator<Item = (&ServiceKey, &Shared<EndpointSet>)> {
        self.index.endpoints.iter()
    }
}

/// Adds a rule to the list of a host, in order.
fn enlist<T: Clone>(
    index: &mut OrdMap<Host, Arc<[T]>>,
    host: &Host,
    rule: &T,
    order: impl Fn(&T, &T) -> std::cmp::Ordering,
) {
    let mut list = index.get(host).map_or_else(Vec::new, |l| l.to_vec());
    let at = list.partition_point(|other| order(other, rule).is_lt());
    list.insert(at, rule.clone());
    index.insert(host.clone(), list.into());
}

/// Takes a rule out of the list of a host.
fn unlist<T: Clone>(index: &mut OrdMap<Host, Arc<[T]>>, host: &Host, is: impl Fn(&T) -> bool) {
    let Some(list) = index.get(host) else { return };
    let list: Vec<T> = list.iter().filter(|r| !is(r)).cloned().collect();
    match list.is_empty() {
        true => drop(index.remove(host)),
        false => drop(index.insert(host.clone(), list.into())),
    }
}

/// Adds a member to the set of a key.
fn add_to<K: Ord + Clone, V, S: Members<V>>(index: &mut OrdMap<K, S>, key: K, value: V) {
    index.entry(key).or_default().add(value);
}

/// Takes a member out of the set of a key.
fn drop_from<K: Ord + Clone, V, S: Members<V>>(index: &mut OrdMap<K, S>, key: &K, value: &V) {
    let Some(set) = index.get_mut(key) else { return };
    set.take(value);
    if set.is_none() {
        index.remove(key);
    }
}

/// An entry of a map by itself.
fn owned<K: Clone, V: Clone>((key, value): (&K, &V)) -> (K, V) {
    (key.clone(), value.clone())
}
