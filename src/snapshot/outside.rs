//! Endpoints that Kubernetes knows nothing of: those of ServiceEntries, and WorkloadEntries that services select.

use super::{Snapshot, add_to, derive::target_port, drop_from};
use crate::{
    id::{ObjectRef, ServiceKey},
    model::{
        Endpoint, EndpointAddress, Health, Labels, MtlsMode, ObjectKey, Pod, Resolution, Service, ServiceEntry,
        ServicePort, TargetPort, WorkloadEntry, selects,
    },
};
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

impl Snapshot {
    /// Sets or removes a WorkloadEntry.
    pub(super) fn set_workload_entry(
        &mut self,
        key: ObjectKey,
        entry: Option<WorkloadEntry>,
        dirty: &mut BTreeSet<ServiceKey>,
    ) {
        if let Some(old) = self.workload_entries.remove(&key) {
            dirty.extend(self.selecting(&old.namespace, &old.labels).map(|s| s.key()));
            if let Some(ip) = old.ip() {
                drop_from(&mut self.index.workloads_by_ip, &ip, &key);
            }
        }
        let Some(entry) = entry else { return };
        dirty.extend(self.selecting(&entry.namespace, &entry.labels).map(|s| s.key()));
        if let Some(ip) = entry.ip() {
            add_to(&mut self.index.workloads_by_ip, ip, key.clone());
        }
        self.workload_entries.insert(key, Arc::new(entry));
    }

    /// The ServiceEntry that defines a service.
    fn entry_of(&self, source: &ObjectRef) -> Option<&Arc<ServiceEntry>> {
        self.service_entries.get(&ObjectKey::from(source))
    }

    /// The endpoints of a host of a ServiceEntry.
    pub(super) fn endpoints_of_entry(&self, service: &Service) -> Vec<Endpoint> {
        let Some(entry) = self.entry_of(&service.source) else { return Vec::new() };
        let resolves = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        match () {
            () if entry.selects => {
                let pods = self.pods_selected(service).filter(|p| p.ready && !p.terminating);
                let pods = pods.flat_map(|p| self.endpoints_of_named_pod(service, p));
                pods.chain(self.endpoints_outside(service)).collect()
            }
            () if entry.endpoints.is_empty() && resolves => {
                service.ports.iter().map(|port| self.endpoint_by_name(service, port)).collect()
            }
            () => entry.endpoints.iter().flat_map(|e| self.endpoints_of_workload(service, e)).collect(),
        }
    }

    /// The endpoints that the WorkloadEntries which a service selects are. Only a client that resolves names itself
    /// can reach those that have no IP address.
    pub(super) fn endpoints_outside(&self, service: &Service) -> Vec<Endpoint> {
        let resolves = matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin);
        let usable = |w: &&Arc<WorkloadEntry>| match w.address {
            Some(EndpointAddress::Ip(_)) => true,
            Some(EndpointAddress::Host(_)) => resolves,
            _ => false,
        };
        let selected = self.workloads_selected(service).filter(|w| w.healthy).filter(usable);
        selected.flat_map(|w| self.endpoints_of_workload(service, w)).collect()
    }

    fn workloads_selected<'a>(&'a self, service: &'a Service) -> impl Iterator<Item = &'a Arc<WorkloadEntry>> {
        let from = ObjectKey { namespace: service.namespace.clone(), name: "".into() };
        self.workload_entries
            .range(from..)
            .take_while(|(key, _)| key.namespace == service.namespace)
            .map(|(_, workload)| workload)
            .filter(|workload| selects(&service.selector, &workload.labels))
    }

    /// The endpoints of a pod that a ServiceEntry selects: the pod's own port of the name comes first.
    fn endpoints_of_named_pod(&self, service: &Service, pod: &Arc<Pod>) -> Vec<Endpoint> {
        let Some(&ip) = pod.ips.first() else { return Vec::new() };
        let port = |port: &ServicePort| {
            let number = pod_port(port, &pod.ports)?;
            Some(self.endpoint(Some(pod), ip, &port.name, number, Health::Healthy, None))
        };
        service.ports.iter().filter_map(port).collect()
    }

    fn endpoints_of_workload(&self, service: &Service, workload: &WorkloadEntry) -> Vec<Endpoint> {
        let Some(address) = &workload.address else { return Vec::new() };
        let port = |port: &ServicePort| {
            let number = match address {
                EndpointAddress::Unix(_) => 0,
                _ => workload_port(port, workload)?,
            };
            Some(self.endpoint_at(address.clone(), &port.name, number, workload))
        };
        service.ports.iter().filter_map(port).collect()
    }

    fn endpoint_at(
        &self,
        address: EndpointAddress,
        port_name: &Arc<str>,
        port: u16,
        workload: &WorkloadEntry,
    ) -> Endpoint {
        let named = !workload.account.is_empty();
        let mode = workload.labels.get("security.istio.io/tlsMode");
        Endpoint {
            address,
            more_addresses: Vec::new(),
            port_name: port_name.clone(),
            port,
            labels: workload.labels.clone(),
            account: named.then(|| self.spiffe(&workload.namespace, &workload.account)),
            network: self.network_of(Some(&workload.network), workload.ip()),
            locality: workload.locality.clone(),
            weight: workload.weight,
            tls: mode.map_or(named, |m| &**m == "istio")
                && self.peer_mtls(&workload.namespace, &workload.labels).at(port) != MtlsMode::Disable,
            health: Health::Unknown,
            workload: workload.name.clone(),
            namespace: workload.namespace.clone(),
            node: "".into(),
            cluster: self.mesh.cluster.clone(),
            hostname: "".into(),
            subdomain: "".into(),
        }
    }

    /// The endpoint of a service that is found by resolving its host.
    fn endpoint_by_name(&self, service: &Service, port: &ServicePort) -> Endpoint {
        let number = target_port(&port.target, &[]).unwrap_or(port.number);
        let workload = WorkloadEntry {
            namespace: service.namespace.clone(),
            name: service.source.name.clone(),
            address: None,
            ports: Vec::new(),
            labels: Labels::new(),
            account: "".into(),
            network: "".into(),
            locality: Default::default(),
            weight: 1,
            healthy: true,
            source: service.source.clone(),
        };
        self.endpoint_at(EndpointAddress::Host(service.host.shared()), &port.name, number, &workload)
    }

    /// The network of an endpoint: what it says itself, or that of its cluster, or that of its address.
    pub(super) fn network_of(&self, said: Option<&Arc<str>>, ip: Option<IpAddr>) -> Arc<str> {
        if let Some(said) = said.filter(|s| !s.is_empty()) {
            return said.clone();
        }
        let networks = &self.mesh.networks;
        let by_cluster = networks.iter().find(|n| n.clusters.contains(&self.mesh.cluster));
        let blocks = networks.iter().flat_map(|n| n.blocks.iter().map(move |block| (block, n)));
        let within = blocks.filter(|(block, _)| ip.is_some_and(|ip| block.contains(&ip)));
        let by_address = within.max_by_key(|(block, _)| block.prefix_len()).map(|(_, n)| n);
        by_cluster.or(by_address).map(|n| n.name.clone()).unwrap_or_default()
    }

    /// The WorkloadEntry of a namespace that is at an address.
    pub(super) fn workload_at(&self, namespace: &str, ip: IpAddr) -> Option<&Arc<WorkloadEntry>> {
        let keys = self.index.workloads_by_ip.get(&ip)?;
        keys.iter().filter(|k| &*k.namespace == namespace).find_map(|k| self.workload_entries.get(k))
    }

    /// The ServiceEntries of a namespace that have an endpoint at an address, with that endpoint.
    pub(super) fn entries_at(
        &self,
        namespace: &str,
        ip: IpAddr,
    ) -> impl Iterator<Item = (&Arc<ServiceEntry>, &WorkloadEntry)> {
        let keys = self.index.entries_by_ip.get(&ip).into_iter().flatten();
        let entries = keys.filter(move |k| &*k.namespace == namespace).filter_map(|k| self.service_entries.get(k));
        entries.filter_map(move |entry| Some((entry, entry.endpoints.iter().find(|e| e.ip() == Some(ip))?)))
    }
}

/// The number at a pod of a ServiceEntry's port.
pub(super) fn pod_port(port: &ServicePort, named: &[(Arc<str>, u16)]) -> Option<u16> {
    let own = TargetPort::Name(port.name.clone());
    target_port(&own, named).or_else(|| target_port(&port.target, named))
}

/// The number at a workload of a service's port. Where the service leads to a number, the workload may say another
/// for the port; where it leads to a name, the workload must know that name.
pub(super) fn workload_port(port: &ServicePort, workload: &WorkloadEntry) -> Option<u16> {
    match &port.target {
        TargetPort::Number(number) => Some(workload.port(&port.name).unwrap_or(*number)),
        TargetPort::Name(name) => workload.port(name),
    }
}
