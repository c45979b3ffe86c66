//! Which services there are: what the objects that define a host come to.
//!
//! Several objects may define one host. Within a namespace a Kubernetes Service counts before ServiceEntries, and
//! ServiceEntries that agree are merged, the oldest first (Istio: `sidecar.go`, appendSidecarServices).

use super::{Snapshot, add_to, drop_from, enlist, unlist};
use crate::{
    id::{Host, Namespace, ObjectRef, ServiceKey, Shared, fingerprint_bytes},
    model::{Distribution, Labels, ObjectKey, Registry, Service, ServiceEntry, Vip},
};
use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// The addresses that are given to hosts without one: 240.240.0.0/16 and as many of 2001:2::/48, as Istio has it.
const FIRST_V4: u32 = u32::from_be_bytes([240, 240, 0, 0]);
const FIRST_V6: u128 = 0x2001_0002 << 96;

impl Snapshot {
    /// Sets or removes what an object defines. `all` says whether a selector without labels selects all workloads.
    pub(super) fn define(
        &mut self,
        id: &ObjectRef,
        services: Vec<Service>,
        all: bool,
        dirty: &mut BTreeSet<ServiceKey>,
    ) {
        let old = self.index.defined.remove(id).unwrap_or_default();
        let mut hosts: BTreeSet<Host> = old.iter().map(|s| s.host.clone()).collect();
        for service in old.iter() {
            self.forget(id, service);
            dirty.insert(service.key());
        }
        let services: Arc<[Shared<Service>]> = services.into_iter().map(Shared::new).collect();
        for service in services.iter() {
            self.learn(id, service, all);
            dirty.insert(service.key());
            hosts.insert(service.host.clone());
        }
        if !services.is_empty() {
            self.index.defined.insert(id.clone(), services);
        }
        hosts.iter().for_each(|host| self.settle(host));
    }

    /// Sets or removes a ServiceEntry.
    pub(super) fn set_service_entry(
        &mut self,
        id: &ObjectRef,
        entry: Option<ServiceEntry>,
        dirty: &mut BTreeSet<ServiceKey>,
    ) {
        let key = ObjectKey::from(id);
        if let Some(old) = self.service_entries.remove(&key) {
            for ip in old.endpoints.iter().filter_map(|e| e.ip()) {
                drop_from(&mut self.index.entries_by_ip, &ip, &key);
            }
        }
        let Some(entry) = entry else { return self.define(id, Vec::new(), false, dirty) };
        for ip in entry.endpoints.iter().filter_map(|e| e.ip()) {
            add_to(&mut self.index.entries_by_ip, ip, key.clone());
        }
        let (services, all) = (entry.services.clone(), entry.selects);
        self.service_entries.insert(key, Arc::new(entry));
        self.define(id, services, all, dirty);
    }

    fn learn(&mut self, id: &ObjectRef, service: &Shared<Service>, all: bool) {
        enlist(&mut self.index.claims, &service.host, service, |a, b| rank(a).cmp(&rank(b)));
        if let Some(target) = &service.alias_of {
            add_to(&mut self.index.aliases, target.clone(), service.host.clone());
        }
        if let Some(label) = first_label(service, all) {
            add_to(&mut self.index.selectors, label, id.clone());
        }
        if asks(service) {
            self.index.asking.insert((service.created, service.namespace.clone(), service.host.clone()));
        }
        for ip in reserved(service) {
            add_to(&mut self.index.reserved, ip, id.clone());
        }
    }

    fn forget(&mut self, id: &ObjectRef, service: &Service) {
        unlist(&mut self.index.claims, &service.host, |s| s.source == service.source);
        for all in [false, true] {
            if let Some(label) = first_label(service, all) {
                drop_from(&mut self.index.selectors, &label, id);
            }
        }
        let claims = self.claims_of(&service.host);
        let still_alias = claims.iter().any(|s| s.alias_of == service.alias_of);
        let still_asks =
            claims.iter().any(|s| asks(s) && s.created == service.created && s.namespace == service.namespace);
        if let Some(target) = service.alias_of.as_ref().filter(|_| !still_alias) {
            drop_from(&mut self.index.aliases, target, &service.host);
        }
        if !still_asks {
            self.index.asking.remove(&(service.created, service.namespace.clone(), service.host.clone()));
        }
        for ip in reserved(service) {
            drop_from(&mut self.index.reserved, &ip, id);
        }
    }

    /// What the objects say of a host, each by itself, the oldest first.
    pub fn claims_of(&self, host: &str) -> &[Shared<Service>] {
        self.index.claims.get(host).map_or(&[], |s| s)
    }

    /// Makes the services of a host anew from what the objects say of it.
    fn settle(&mut self, host: &Host) {
        let claims = self.claims_of(host).to_vec();
        let (kubernetes, entries): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|s| s.registry == Registry::Kubernetes);
        let mut services: Vec<Shared<Service>> = Vec::new();
        for claim in kubernetes.into_iter().chain(entries) {
            let rival = services.iter_mut().find(|s| rivals(s, &claim));
            match rival {
                None => services.push(claim),
                Some(winner) if can_merge(winner, &claim) => *winner = Shared::new(merged(winner, &claim)),
                Some(_) => {}
            }
        }
        for service in &mut services {
            self.complete(service);
        }
        services.sort_by(|a, b| rank(a).cmp(&rank(b)));
        self.replace(host, services);
    }

    /// Adds what the namespace says, and the address that the mesh gives.
    fn complete(&self, service: &mut Shared<Service>) {
        let distribution = match service.distribution {
            Distribution::Unset => {
                self.namespaces.get(&service.namespace).and_then(|n| Distribution::of(&n.annotations))
            }
            _ => None,
        };
        let slot = match asks(service) {
            true => self.index.allocated.get(&(service.namespace.clone(), service.host.clone())).copied(),
            false => None,
        };
        if distribution.is_none() && slot.is_none() {
            return;
        }
        let mut complete = (**service).clone();
        complete.distribution = distribution.unwrap_or(complete.distribution);
        complete.allocated.extend(slot.map(addresses_of).into_iter().flatten());
        *service = Shared::new(complete);
    }

    fn replace(&mut self, host: &Host, services: Vec<Shared<Service>>) {
        if self.services_of(host) == services {
            return;
        }
        for service in self.services_of(host).to_vec() {
            self.index.node_bound.remove(&service.key());
            let aged = ByAge(service);
            aged.0.ports.iter().for_each(|port| drop_from(&mut self.index.ports, &port.number, &aged));
        }
        for service in &services {
            let aged = ByAge(service.clone());
            service.ports.iter().for_each(|port| add_to(&mut self.index.ports, port.number, aged.clone()));
        }
        for service in services.iter().filter(|s| s.node_local || s.distribution == Distribution::SameNode) {
            self.index.node_bound.insert(service.key());
        }
        match services.is_empty() {
            true => drop(self.index.services.remove(host)),
            false => drop(self.index.services.insert(host.clone(), services.into())),
        }
    }

    /// Makes anew what depends on a namespace's annotations.
    pub(super) fn settle_namespace(&mut self, namespace: &Namespace) {
        let here = |claims: &Arc<[Shared<Service>]>| claims.iter().any(|s| s.namespace == *namespace);
        let hosts: Vec<Host> =
            self.index.claims.iter().filter(|(_, c)| here(c)).map(|(host, _)| host.clone()).collect();
        hosts.iter().for_each(|host| self.settle(host));
    }

    /// Gives an address to each host that asks for one. An address follows from the host's name, so that other hosts
    /// may come and go; where two names meet in one, the older has it and the younger the next that is free.
    pub(super) fn allocate(&mut self, old: &Snapshot) {
        let same =
            |a: &Self, b: &Self| a.index.asking.ptr_eq(&b.index.asking) && a.index.reserved.ptr_eq(&b.index.reserved);
        if same(self, old) {
            return;
        }
        let mut taken: BTreeSet<u16> = self.index.reserved.keys().filter_map(slot_of).collect();
        let mut slots = BTreeMap::new();
        for (_, namespace, host) in &self.index.asking {
            let key = (namespace.clone(), host.clone());
            if slots.contains_key(&key) {
                continue;
            }
            let start = fingerprint_bytes(format!("{namespace}/{host}").as_bytes());
            let tries = (0..=u64::from(u16::MAX)).map(|step| (start.wrapping_add(step) & 0xffff) as u16);
            // The first and last of a block of 256 look like the names of networks to some.
            let free = tries.filter(|slot| !matches!(slot & 0xff, 0 | 0xff)).find(|slot| taken.insert(*slot));
            slots.extend(free.map(|slot| (key, slot)));
        }
        let slots = slots.into_iter().collect();
        let before = std::mem::replace(&mut self.index.allocated, slots);
        let now = self.index.allocated.clone();
        let moved: BTreeSet<Host> = super::delta::changed(&before, &now).map(|((_, host), ..)| host.clone()).collect();
        moved.iter().for_each(|host| self.settle(host));
    }
}

/// Whether a service waits for an address of the mesh's own.
fn asks(service: &Service) -> bool {
    service.allocates && service.allocated.is_empty()
}

/// The addresses that objects name themselves.
fn reserved(service: &Service) -> impl Iterator<Item = IpAddr> + use<'_> {
    let vips = service.addresses.iter().filter_map(|vip| match vip {
        Vip::Ip(ip) => Some(*ip),
        Vip::Block(_) => None,
    });
    vips.chain(service.allocated.iter().copied()).filter(|ip| slot_of(ip).is_some())
}

/// The place of an address among those that the mesh gives.
fn slot_of(ip: &IpAddr) -> Option<u16> {
    match ip {
        IpAddr::V4(ip) => u16::try_from(u32::from(*ip).checked_sub(FIRST_V4)?).ok(),
        IpAddr::V6(ip) => u16::try_from(u128::from(*ip).checked_sub(FIRST_V6)?).ok(),
    }
}

/// The addresses at a place.
fn addresses_of(slot: u16) -> [IpAddr; 2] {
    [IpAddr::V4(Ipv4Addr::from(FIRST_V4 + u32::from(slot))), IpAddr::V6(Ipv6Addr::from(FIRST_V6 + u128::from(slot)))]
}

fn rank(s: &Service) -> impl Ord {
    (s.created, s.namespace.clone(), s.name.clone(), s.source.clone())
}

/// Services in order of their age, and then of name and namespace. Two are the same only if they come of one object:
/// others may say something of one host, each for clients of its own.
#[derive(Clone, Debug)]
pub(super) struct ByAge(pub(super) Shared<Service>);

impl ByAge {
    /// What they are in order of.
    pub(super) fn order(service: &Service) -> impl Ord + '_ {
        (service.created, &service.name, &service.namespace, &service.host, &service.source)
    }
}

impl Ord for ByAge {
    fn cmp(&self, other: &Self) -> Ordering {
        Self::order(&self.0).cmp(&Self::order(&other.0))
    }
}

impl PartialOrd for ByAge {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for ByAge {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for ByAge {}

/// Whether of two claims to a host one counts for all clients that see both in the same way.
fn rivals(winner: &Service, claim: &Service) -> bool {
    let same_clients = winner.registry == Registry::Kubernetes || winner.export_to == claim.export_to;
    winner.namespace == claim.namespace && same_clients
}

/// Istio: `sidecar.go`, canMergeServices.
fn can_merge(a: &Service, b: &Service) -> bool {
    (a.registry, b.registry) == (Registry::External, Registry::External)
        && (a.resolution, &a.labels, &a.selector) == (b.resolution, &b.labels, &b.selector)
}

/// Two ServiceEntries for one host as one service: the older one with what the younger adds.
fn merged(older: &Service, younger: &Service) -> Service {
    let mut service = older.clone();
    let more = younger.ports.iter().filter(|p| older.port(p.number).is_none());
    service.ports.extend(more.cloned());
    let more = younger.addresses.iter().filter(|a| !older.addresses.contains(a));
    service.addresses.extend(more.copied());
    if service.allocated.is_empty() {
        service.allocated.clone_from(&younger.allocated);
    }
    service.merged.push(younger.source.clone());
    service
}

/// Where a service is found by the labels of a workload: under the first label that it asks for, or under none.
fn first_label(service: &Service, all: bool) -> Option<(Namespace, Arc<str>, Arc<str>)> {
    let first = service.selector.iter().next().map(|(k, v)| (k.clone(), v.clone()));
    let (key, value) = first.or_else(|| all.then(Default::default))?;
    Some((service.namespace.clone(), key, value))
}

/// The labels under which services that a workload has may be found.
pub(super) fn label_keys<'a>(
    namespace: &'a Namespace,
    labels: &'a Labels,
) -> impl Iterator<Item = (Namespace, Arc<str>, Arc<str>)> + 'a {
    let pairs = labels.iter().map(|(k, v)| (k.clone(), v.clone()));
    pairs.chain(std::iter::once(Default::default())).map(|(k, v)| (namespace.clone(), k, v))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse, snapshot::View};
    use serde_json::json;

    #[test]
    fn of_two_that_say_something_of_a_host_a_port_has_the_one_that_counts() {
        let entry = |name: &str, export: &str| {
            json!({"apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
                "metadata": {"name": name, "namespace": "shop"},
                "spec": {"hosts": ["a.example"], "exportTo": [export], "resolution": "DNS",
                    "ports": [{"number": 90, "name": "tcp", "protocol": "TCP"}]}})
        };
        let context = parse::Context::default();
        let all = [entry("first", "*"), entry("second", ".")];
        let world = Snapshot::default().apply(all.iter().map(|o| parse::object(o, &context)));
        assert_eq!(world.services_of("a.example").len(), 2, "they are for different clients");
        let node = parse::node(&json!({"id": "sidecar~10.0.0.1~a.shop~shop.svc.cluster.local"})).expect("a node");
        let key = world.view_key(&node);
        let view = View::new(&world, &key);
        let on_port: Vec<&str> = view.services_on(90).iter().map(|s| &*s.source.name).collect();
        assert_eq!(on_port, ["first"]);
    }
}
