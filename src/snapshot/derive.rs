//! What follows from the objects: which services there are, and which endpoints serve them.
//!
//! Each setter keeps the indexes that point at its object and marks the services whose endpoints may have
//! changed; `derive_endpoints` makes those anew, and leaves alone what turns out the same.

use super::{Index, Snapshot, add_to, drop_from, enlist, unlist};
use crate::{
    id::{Host, Kind, Namespace, ObjectRef, ServiceKey, Shared},
    model::{
        Distribution, Endpoint, EndpointAddress, EndpointSet, Health, Labels, Locality, MtlsMode, ObjectKey, Pod,
        Registry, Service, Slice, SliceEndpoint, TargetPort, selects,
    },
};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

impl Snapshot {
    /// Sets or removes the service that an object defines.
    pub(super) fn define(&mut self, id: &ObjectRef, service: Option<Service>, dirty: &mut BTreeSet<ServiceKey>) {
        if let Some(old) = self.index.defined.remove(id) {
            unlist(&mut self.index.services, &old.host, |s| s.source == old.source);
            for port in &old.ports {
                if !self.services_of(&old.host).iter().any(|s| s.port(port.number).is_some()) {
                    drop_from(&mut self.index.ports, &port.number, &old.host);
                }
            }
            if let Some(label) = first_label(&old) {
                drop_from(&mut self.index.selectors, &label, id);
            }
            if let Some(target) = &old.alias_of
                && !self.services_of(&old.host).iter().any(|s| s.alias_of.as_ref() == Some(target))
            {
                drop_from(&mut self.index.aliases, target, &old.host);
            }
            self.index.node_bound.remove(id);
            dirty.insert(old.key());
        }
        let Some(service) = service.map(Shared::new) else { return };
        if service.node_local || service.distribution == Distribution::SameNode {
            self.index.node_bound.insert(id.clone());
        }
        let rank = |s: &Service| (s.created, s.namespace.clone(), s.name.clone(), s.source.clone());
        enlist(&mut self.index.services, &service.host, &service, |a, b| rank(a).cmp(&rank(b)));
        for port in &service.ports {
            add_to(&mut self.index.ports, port.number, service.host.clone());
        }
        if let Some(target) = &service.alias_of {
            add_to(&mut self.index.aliases, target.clone(), service.host.clone());
        }
        if let Some(label) = first_label(&service) {
            add_to(&mut self.index.selectors, label, id.clone());
        }
        dirty.insert(service.key());
        self.index.defined.insert(id.clone(), service);
    }

    /// Sets or removes a pod.
    pub(super) fn set_pod(&mut self, key: ObjectKey, pod: Option<Pod>, dirty: &mut BTreeSet<ServiceKey>) {
        if let Some(old) = self.pods.remove(&key) {
            self.mark_pod(&old, dirty);
            for ip in &old.ips {
                drop_from(&mut self.index.pods_by_ip, ip, &key);
            }
        }
        let Some(pod) = pod else { return };
        self.mark_pod(&pod, dirty);
        for ip in &pod.ips {
            add_to(&mut self.index.pods_by_ip, *ip, key.clone());
        }
        self.pods.insert(key, Arc::new(pod));
    }

    /// Sets or removes a list of endpoints.
    pub(super) fn set_slice(&mut self, id: &ObjectRef, slice: Option<Slice>, dirty: &mut BTreeSet<ServiceKey>) {
        if let Some(old) = self.slices.remove(id) {
            let service = ObjectKey { namespace: old.namespace.clone(), name: old.service.clone() };
            drop_from(&mut self.index.slices_by_service, &service, id);
            for endpoint in old.endpoints() {
                drop_from(&mut self.index.slices_by_ip, &endpoint.address, id);
            }
            self.mark_service(&service, dirty);
        }
        let Some(slice) = slice else { return };
        let service = ObjectKey { namespace: slice.namespace.clone(), name: slice.service.clone() };
        for endpoint in slice.endpoints() {
            add_to(&mut self.index.slices_by_ip, endpoint.address, id.clone());
        }
        self.mark_service(&service, dirty);
        add_to(&mut self.index.slices_by_service, service, id.clone());
        self.slices.insert(id.clone(), Arc::new(slice));
    }

    /// Marks what runs on a node.
    pub(super) fn mark_node(&self, name: &str, dirty: &mut BTreeSet<ServiceKey>) {
        for pod in self.pods.values().filter(|p| &*p.node == name) {
            self.mark_pod(pod, dirty);
        }
    }

    fn mark_service(&self, key: &ObjectKey, dirty: &mut BTreeSet<ServiceKey>) {
        let id = ObjectRef { kind: Kind::SERVICE, namespace: key.namespace.clone(), name: key.name.clone() };
        dirty.extend(self.index.defined.get(&id).map(|s| s.key()));
    }

    fn mark_pod(&self, pod: &Pod, dirty: &mut BTreeSet<ServiceKey>) {
        dirty.extend(self.selecting(&pod.namespace, &pod.labels).map(|s| s.key()));
        for id in pod.ips.iter().filter_map(|ip| self.index.slices_by_ip.get(ip)).flatten() {
            if let Some(slice) = self.slices.get(id) {
                self.mark_service(
                    &ObjectKey { namespace: slice.namespace.clone(), name: slice.service.clone() },
                    dirty,
                );
            }
        }
    }

    /// The services of a namespace whose selector matches these labels.
    pub(super) fn selecting<'a>(
        &'a self,
        namespace: &'a Namespace,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Shared<Service>> {
        labels
            .iter()
            .filter_map(|(k, v)| self.index.selectors.get(&(namespace.clone(), k.clone(), v.clone())))
            .flatten()
            .filter_map(|id| self.index.defined.get(id))
            .filter(|s| selects(&s.selector, labels))
    }

    /// Makes the endpoints of the marked services anew.
    pub(super) fn derive_endpoints(&mut self, dirty: BTreeSet<ServiceKey>) {
        for key in dirty {
            let services = self.services_of(&key.host).iter().filter(|s| s.namespace == key.namespace);
            let mut found = services.clone().map(|s| self.endpoints_of(s)).fold(Vec::new(), |mut all, more| {
                all.extend(more);
                all
            });
            let dialled = services.clone().any(|s| s.dials_endpoints());
            let exists = services.count() > 0;
            found.dedup();
            let set = Shared::new(EndpointSet::new(found));
            self.note_dialled(&key, if dialled { &set.endpoints[..] } else { &[] });
            match (exists, self.index.endpoints.get(&key)) {
                (false, _) => drop(self.index.endpoints.remove(&key)),
                (true, Some(old)) if *old == set => {}
                (true, _) => drop(self.index.endpoints.insert(key, set)),
            }
        }
    }

    /// Keeps which addresses clients dial themselves.
    fn note_dialled(&mut self, key: &ServiceKey, now: &[Endpoint]) {
        let ips = |all: &[Endpoint]| -> BTreeSet<IpAddr> {
            let ip = |e: &Endpoint| match e.address {
                EndpointAddress::Ip(ip) => Some(ip),
                _ => None,
            };
            all.iter().filter_map(ip).collect()
        };
        let (now, before) =
            (ips(now), self.index.endpoints.get(key).map_or_else(BTreeSet::new, |set| ips(&set.endpoints)));
        before.difference(&now).for_each(|ip| drop_from(&mut self.index.dialled, ip, key));
        now.into_iter().for_each(|ip| add_to(&mut self.index.dialled, ip, key.clone()));
    }

    /// The endpoints of a service: those that its slices list, or the pods that it selects where it has no slice.
    fn endpoints_of(&self, service: &Service) -> Vec<Endpoint> {
        if service.registry != Registry::Kubernetes {
            return Vec::new();
        }
        let key = ObjectKey { namespace: service.namespace.clone(), name: service.name.clone() };
        match self.index.slices_by_service.get(&key) {
            Some(ids) => {
                let mut seen = BTreeSet::new();
                let slices = ids.iter().filter_map(|id| self.slices.get(id));
                let endpoints = slices.flat_map(|s| self.endpoints_of_slice(service, s));
                endpoints.filter(|e| seen.insert((e.address.clone(), e.port_name.clone()))).collect()
            }
            None if service.selector.is_empty() => Vec::new(),
            None => self.pods_selected(service).flat_map(|p| self.endpoints_of_pod(service, p)).collect(),
        }
    }

    /// The pods that a service selects.
    fn pods_selected<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Arc<Pod>> {
        let from = ObjectKey { namespace: service.namespace.clone(), name: "".into() };
        self.pods
            .range(from..)
            .take_while(|(key, _)| key.namespace == service.namespace)
            .map(|(_, pod)| pod)
            .filter(|pod| selects(&service.selector, &pod.labels))
    }

    fn endpoints_of_slice(&self, service: &Service, slice: &Slice) -> Vec<Endpoint> {
        let mut out = Vec::new();
        for (group, listed) in slice.groups.iter().flat_map(|g| g.endpoints.iter().map(move |e| (g, e))) {
            let pod = match &listed.pod {
                Some(name) => self.pods.get(&ObjectKey { namespace: slice.namespace.clone(), name: name.clone() }),
                None => self.pod_by_ip(&slice.namespace, listed.address),
            };
            let health = slice_health(listed);
            for (port_name, port) in &group.ports {
                if service.ports.iter().any(|p| p.name == *port_name) {
                    out.push(self.endpoint(pod, listed.address, port_name, *port, health, Some(listed)));
                }
            }
        }
        out
    }

    fn endpoints_of_pod(&self, service: &Service, pod: &Arc<Pod>) -> Vec<Endpoint> {
        let health = match (pod.ready, pod.terminating) {
            _ if service.publish_not_ready => Health::Healthy,
            (_, true) => Health::Terminating,
            (true, _) => Health::Healthy,
            (false, _) => Health::Unhealthy,
        };
        let Some(&ip) = pod.ips.first() else { return Vec::new() };
        let ports = service.ports.iter().filter_map(|p| Some((&p.name, target_port(&p.target, &pod.ports)?)));
        ports.map(|(name, port)| self.endpoint(Some(pod), ip, name, port, health, None)).collect()
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one value, each from another place")]
    fn endpoint(
        &self,
        pod: Option<&Arc<Pod>>,
        ip: IpAddr,
        port_name: &Arc<str>,
        port: u16,
        health: Health,
        listed: Option<&SliceEndpoint>,
    ) -> Endpoint {
        let labels = pod.map_or_else(Arc::default, |p| p.labels.clone());
        let hostname = listed.map(|l| l.hostname.clone()).filter(|h| !h.is_empty());
        Endpoint {
            address: EndpointAddress::Ip(ip),
            more_addresses: Vec::new(),
            port_name: port_name.clone(),
            port,
            account: pod.map(|p| self.spiffe(p)),
            network: labels.get("topology.istio.io/network").cloned().unwrap_or_default(),
            locality: pod.map(|p| self.locality_of(p)).unwrap_or_default(),
            weight: 1,
            tls: pod.is_some_and(|p| self.takes_mtls(p, port)),
            health,
            workload: pod.map(|p| p.workload.clone()).unwrap_or_default(),
            namespace: pod.map_or_else(|| "".into(), |p| p.namespace.clone()),
            node: pod.map(|p| p.node.clone()).or(listed.map(|l| l.node.clone())).unwrap_or_default(),
            cluster: self.mesh.cluster.clone(),
            hostname: hostname.or(pod.map(|p| p.hostname.clone())).unwrap_or_default(),
            subdomain: pod.map(|p| p.subdomain.clone()).unwrap_or_default(),
            labels,
        }
    }

    /// Whether a pod has a proxy that takes mutual TLS, and no policy says otherwise of the port.
    fn takes_mtls(&self, pod: &Pod, port: u16) -> bool {
        pod.labels.get("security.istio.io/tlsMode").is_some_and(|m| &**m == "istio")
            && self.peer_mtls(&pod.namespace, &pod.labels).at(port) != MtlsMode::Disable
    }

    fn spiffe(&self, pod: &Pod) -> Arc<str> {
        format!("spiffe://{}/ns/{}/sa/{}", self.mesh.trust_domain, pod.namespace, pod.account).into()
    }

    /// Where a pod stands: what its labels say, or where its node stands.
    pub fn locality_of(&self, pod: &Pod) -> Locality {
        pod.own_locality().or_else(|| self.nodes.get(&pod.node).map(|n| n.locality.clone())).unwrap_or_default()
    }

    /// The pod of a namespace that has this address, unless it shares it with its node.
    pub fn pod_by_ip(&self, namespace: &Namespace, ip: IpAddr) -> Option<&Arc<Pod>> {
        let keys = self.index.pods_by_ip.get(&ip)?;
        keys.iter().filter(|k| k.namespace == *namespace).find_map(|k| self.pods.get(k))
    }
}

/// The number of a target port at a pod; `None` for a name that the pod does not have.
pub(super) fn target_port(target: &TargetPort, named: &[(Arc<str>, u16)]) -> Option<u16> {
    match target {
        TargetPort::Number(number) => Some(*number),
        TargetPort::Name(name) => named.iter().find(|(n, _)| n == name).map(|(_, number)| *number),
    }
}

/// Istio: `endpointslice.go` of the Kubernetes registry, endpointHealthStatus.
fn slice_health(listed: &SliceEndpoint) -> Health {
    match (listed.ready.unwrap_or(true), listed.terminating.unwrap_or(true)) {
        (true, _) => Health::Healthy,
        (false, true) => Health::Terminating,
        (false, false) => Health::Unhealthy,
    }
}

/// Where a service is found by the labels of a pod: under the first label that it asks for.
fn first_label(service: &Service) -> Option<(Namespace, Arc<str>, Arc<str>)> {
    let (key, value) = service.selector.iter().next()?;
    Some((service.namespace.clone(), key.clone(), value.clone()))
}

impl Index {
    /// The hosts that have a port of this number.
    pub(super) fn hosts_on(&self, port: u16) -> impl Iterator<Item = &Host> {
        self.ports.get(&port).into_iter().flatten()
    }

    /// Every port number that a service has.
    pub(super) fn port_numbers(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.keys().copied()
    }
}
