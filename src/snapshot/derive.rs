//! What follows from the objects: which services there are, and which endpoints serve them.
//!
//! Each setter keeps the indexes that point at its object and marks the services whose endpoints may have
//! changed; `derive_endpoints` makes those anew, and leaves alone what turns out the same.

use super::{Index, Snapshot, add_to, drop_from, registry::label_keys};
use crate::{
    id::{Kind, Namespace, ObjectRef, ServiceKey, Shared},
    model::{
        Endpoint, EndpointAddress, EndpointSet, Health, Labels, Locality, MtlsMode, ObjectKey, Pod, Registry,
        Resolution, Service, Slice, SliceEndpoint, TargetPort, selects,
    },
};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

impl Snapshot {
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
        dirty.extend(self.index.defined.get(&id).into_iter().flat_map(|all| all.iter()).map(|s| s.key()));
    }

    fn mark_pod(&self, pod: &Pod, dirty: &mut BTreeSet<ServiceKey>) {
        dirty.extend(self.selecting(&pod.namespace, &pod.labels).map(|s| s.key()));
        let by_address = pod.ips.iter().filter_map(|ip| self.index.slices_by_ip.get(ip)).flatten();
        let listing = by_address.filter_map(|id| self.slices.get(id));
        // A pod without an address is listed by its name alone. There are few, and not for long.
        let all = pod.ips.is_empty().then(|| self.slices.values()).into_iter().flatten();
        let naming = all.filter(|s| s.namespace == pod.namespace);
        for slice in listing.chain(naming) {
            self.mark_service(&ObjectKey { namespace: slice.namespace.clone(), name: slice.service.clone() }, dirty);
        }
    }

    /// The services of a namespace whose selector matches these labels.
    pub(super) fn selecting<'a>(
        &'a self,
        namespace: &'a Namespace,
        labels: &'a Labels,
    ) -> impl Iterator<Item = &'a Shared<Service>> {
        label_keys(namespace, labels)
            .filter_map(|key| self.index.selectors.get(&key))
            .flatten()
            .filter_map(|id| self.index.defined.get(id))
            .flat_map(|all| all.iter())
            .filter(|s| selects(&s.selector, labels))
    }

    /// Makes the endpoints of the marked services anew.
    pub(super) fn derive_endpoints(&mut self, dirty: BTreeSet<ServiceKey>) {
        for key in dirty {
            let claims = self.claims_of(&key.host).iter().filter(|s| s.namespace == key.namespace);
            let dialled = claims.clone().any(|s| s.dials_endpoints());
            let exists = claims.clone().count() > 0;
            let set = Shared::new(EndpointSet::new(self.endpoints_of_all(claims)));
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

    /// The endpoints of all that claim a host. Of DNS names of which one answer at a time is taken there can be but
    /// one for a port: the oldest claim's.
    fn endpoints_of_all<'a>(&self, claims: impl Iterator<Item = &'a Shared<Service>>) -> Vec<Endpoint> {
        let (mut found, mut seen, mut single) = (Vec::new(), BTreeSet::new(), BTreeSet::new());
        for claim in claims {
            let one_each = claim.resolution == Resolution::DnsRoundRobin;
            for endpoint in self.endpoints_of(claim) {
                let is_first = seen.insert((endpoint.address.clone(), endpoint.port, endpoint.port_name.clone()));
                if is_first && (!one_each || single.insert(endpoint.port_name.clone())) {
                    found.push(endpoint);
                }
            }
        }
        found
    }

    /// The endpoints of a Kubernetes service: those that its slices list, or the pods that it selects where it has no
    /// slice, and the WorkloadEntries that it selects.
    fn endpoints_of(&self, service: &Service) -> Vec<Endpoint> {
        if service.registry != Registry::Kubernetes {
            return self.endpoints_of_entry(service);
        }
        let key = ObjectKey { namespace: service.namespace.clone(), name: service.name.clone() };
        let mut found: Vec<Endpoint> = match self.index.slices_by_service.get(&key) {
            Some(ids) => {
                let mut seen = BTreeSet::new();
                let slices = ids.iter().filter_map(|id| self.slices.get(id));
                let endpoints = slices.flat_map(|s| self.endpoints_of_slice(service, s));
                endpoints.filter(|e| seen.insert((e.address.clone(), e.port_name.clone()))).collect()
            }
            None if service.selector.is_empty() => Vec::new(),
            None => self.pods_selected(service).flat_map(|p| self.endpoints_of_pod(service, p)).collect(),
        };
        if !service.selector.is_empty() && service.resolution == Resolution::ClientSide {
            found.extend(self.endpoints_outside(service));
        }
        found
    }

    /// The pods that a service selects.
    pub(super) fn pods_selected<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Arc<Pod>> {
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
            let named = listed.pod.as_ref().and_then(|name| {
                let pod = self.pods.get(&ObjectKey { namespace: slice.namespace.clone(), name: name.clone() })?;
                // A pod that has another address by now is not who listens there.
                (pod.ips.is_empty() || pod.ips.contains(&listed.address)).then_some(pod)
            });
            let pod = named.or_else(|| self.pod_by_ip(&slice.namespace, listed.address));
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
    pub(super) fn endpoint(
        &self,
        pod: Option<&Arc<Pod>>,
        ip: IpAddr,
        port_name: &Arc<str>,
        port: u16,
        health: Health,
        listed: Option<&SliceEndpoint>,
    ) -> Endpoint {
        let labels = pod.map(|p| p.labels.clone()).unwrap_or_default();
        let hostname = listed.map(|l| l.hostname.clone()).filter(|h| !h.is_empty());
        Endpoint {
            address: EndpointAddress::Ip(ip),
            more_addresses: Vec::new(),
            port_name: port_name.clone(),
            port,
            account: pod.map(|p| self.spiffe(&p.namespace, &p.account)),
            network: self.network_of(labels.get("topology.istio.io/network"), Some(ip)),
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

    /// The identity of a service account.
    pub(super) fn spiffe(&self, namespace: &Namespace, account: &str) -> Arc<str> {
        format!("spiffe://{}/ns/{namespace}/sa/{account}", self.mesh.trust_domain).into()
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

impl Index {
    /// The services that have a port of this number, the oldest first.
    pub(super) fn services_on(&self, port: u16) -> impl Iterator<Item = &Shared<Service>> {
        self.ports.get(&port).into_iter().flatten().map(|aged| &aged.0)
    }

    /// Every port number that a service has.
    pub(super) fn port_numbers(&self) -> impl Iterator<Item = u16> + '_ {
        self.ports.keys().copied()
    }
}
