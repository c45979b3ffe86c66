//! The part of the world that Kubernetes knows nothing of.

use super::{Op, PORTS, PROTOCOLS, host, labels, pod_ip};
use crate::{
    id::{Host, Kind, ObjectRef},
    model::{
        Distribution, EndpointAddress, Labels, Locality, Object, Registry, Resolution, Service, ServiceEntry,
        ServicePort, TargetPort, Vip, WorkloadEntry,
    },
};

const HOSTS: [&str; 4] = ["one.example.com", "two.example.com", "*.example.com", "*.sub.example.com"];
const RESOLUTIONS: [Resolution; 5] = [
    Resolution::ClientSide,
    Resolution::Passthrough,
    Resolution::Dns,
    Resolution::DnsRoundRobin,
    Resolution::DynamicDns,
];

impl Op {
    /// What a namespace's annotations say of nearness.
    pub(super) fn nearness(&self) -> Labels {
        match self.how[1].is_multiple_of(2) {
            true => labels(&[("networking.istio.io/traffic-distribution", "PreferClose")]),
            false => Labels::new(),
        }
    }

    /// A ServiceEntry, now and then for the host of a Kubernetes service.
    pub(super) fn service_entry(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("e"));
        let source = ObjectRef::new(Kind::SERVICE_ENTRY, namespace.clone(), name.as_str());
        let resolution = self.pick(0, &RESOLUTIONS);
        let host: Host = match resolution {
            Resolution::DynamicDns => self.pick(1, &HOSTS[2..]).into(),
            _ if self.how[1].is_multiple_of(5) => host("s0", &namespace),
            _ => self.pick(1, &HOSTS[..2]).into(),
        };
        let selects = resolution != Resolution::DynamicDns && self.how[2].is_multiple_of(2);
        let services = vec![self.outside(&source, host, resolution, selects)];
        let written = match selects || resolution == Resolution::DynamicDns {
            true => 0,
            false => self.how[3] % 3,
        };
        let endpoint =
            |at: u8| WorkloadEntry { address: Some(EndpointAddress::Ip(pod_ip(at))), ..self.workload(&source, at) };
        let endpoints = (0..written).map(endpoint).collect();
        (source.clone(), Object::ServiceEntry(ServiceEntry { services, endpoints, selects, source }))
    }

    fn outside(&self, source: &ObjectRef, host: Host, resolution: Resolution, selects: bool) -> Service {
        let dynamic = resolution == Resolution::DynamicDns;
        let protocols = if dynamic { &PROTOCOLS[..2] } else { &PROTOCOLS[..5] };
        let (protocol, prefix) = self.pick(4, protocols);
        let number = self.pick(5, &PORTS);
        let addressed = !dynamic && self.how[4].is_multiple_of(3);
        Service {
            name: host.shared(),
            host,
            namespace: source.namespace.clone(),
            registry: Registry::External,
            resolution,
            addresses: match addressed {
                true => vec![Vip::Ip([10, 97, 0, self.which].into())],
                false => Vec::new(),
            },
            ports: vec![ServicePort {
                name: format!("{prefix}-0").into(),
                number,
                protocol,
                target: TargetPort::Number(if self.how[5].is_multiple_of(2) { number } else { 8080 }),
            }],
            external: self.how[3].is_multiple_of(2),
            export_to: self.export_to(2),
            created: i64::from(self.how[0] % 3),
            selector: match selects && !self.how[2].is_multiple_of(8) {
                true => labels(&[("app", self.pick(3, &["s0", "s1"]))]),
                false => Labels::new(),
            },
            labels: Labels::new(),
            node_local: false,
            distribution: Distribution::Unset,
            publish_not_ready: false,
            accounts: Vec::new(),
            alias_of: None,
            allocates: !addressed && resolution != Resolution::Passthrough,
            allocated: Vec::new(),
            races: self.how[1].is_multiple_of(3),
            merged: Vec::new(),
            source: source.clone(),
        }
    }

    /// A WorkloadEntry, now and then at the address of a pod.
    pub(super) fn workload_entry(&self) -> (ObjectRef, Object) {
        let source = ObjectRef::new(Kind::WORKLOAD_ENTRY, self.namespace(), self.name("w"));
        let address = match self.how[0] % 4 {
            0 => EndpointAddress::Host("vm.example.com".into()),
            1 => EndpointAddress::Unix("/run/vm".into()),
            _ => EndpointAddress::Ip(pod_ip(self.how[1] % 16)),
        };
        let workload = WorkloadEntry {
            address: Some(address).filter(|_| !self.how[2].is_multiple_of(7)),
            healthy: !self.how[3].is_multiple_of(4),
            ..self.workload(&source, self.how[4])
        };
        (source, Object::WorkloadEntry(workload))
    }

    fn workload(&self, source: &ObjectRef, how: u8) -> WorkloadEntry {
        WorkloadEntry {
            namespace: source.namespace.clone(),
            name: source.name.clone(),
            address: None,
            ports: if how.is_multiple_of(2) { vec![("http-0".into(), 9090)] } else { Vec::new() },
            labels: labels(&[("app", self.pick(5, &["s0", "s1"])), ("version", "v1")]),
            account: if how.is_multiple_of(3) { "vm".into() } else { "".into() },
            network: "".into(),
            locality: Locality::parse(if how.is_multiple_of(5) { "r1/z1" } else { "" }),
            weight: 1 + u32::from(how % 3),
            healthy: true,
            source: source.clone(),
        }
    }
}
