//! A small world that changes in every way that the mesh knows: the objects by number, and changes of them.

mod gateways;
mod ingresses;
mod outside;
mod policies;
mod rules;

use crate::{
    id::{Host, Kind, Namespace, ObjectRef},
    model::{
        Change, ClusterNode, ConnectionPool, Distribution, EgressHost, EgressListener, EgressNamespace, ExportTo,
        Features, IngressListener, LabelSelector, Labels, ListenerPort, Locality, Mesh, MtlsMode, NamespaceInfo, Node,
        Object, OutboundPolicy, PeerAuthentication, Pod, Protocol, ProxyConfig, ProxyHeaders, Registry, Resolution,
        Service, ServicePort, Sidecar, Slice, SliceEndpoint, SliceGroup, State, TargetPort, Vip, WorkloadEndpoint,
    },
    parse,
};
use proptest::prelude::*;
use serde_json::json;
use std::{net::IpAddr, sync::Arc};

pub(super) const NAMESPACES: [&str; 3] = ["a", "b", "istio-system"];
const ZONES: [&str; 3] = ["r1/z1/", "r1/z2/", "r2/z3/"];
const PROTOCOLS: [(Protocol, &str); 16] = [
    // What is met most is there more often.
    (Protocol::Http, "http"),
    (Protocol::Http, "http"),
    (Protocol::Auto, "any"),
    (Protocol::Auto, "any"),
    (Protocol::Tcp, "tcp"),
    (Protocol::Http2, "http2"),
    (Protocol::Grpc, "grpc"),
    (Protocol::GrpcWeb, "grpc-web"),
    (Protocol::HttpProxy, "http_proxy"),
    (Protocol::Https, "https"),
    (Protocol::Tls, "tls"),
    (Protocol::Tcp, "tcp"),
    (Protocol::Mongo, "mongo"),
    (Protocol::Redis, "redis"),
    (Protocol::MySql, "mysql"),
    (Protocol::Udp, "udp"),
];
const PORTS: [u16; 4] = [80, 8080, 9000, 443];
/// Limits that hold this many connections.
fn limits(count: u32) -> ConnectionPool {
    ConnectionPool { max_connections: Some(count), ..ConnectionPool::default() }
}

/// What workloads write as the host of requests.
pub(super) const AUTHORITIES: [&str; 10] = [
    "s0",
    "s0.a",
    "s1.b:80",
    "S1.b.svc.cluster.local",
    "one.example",
    "deep.one.example:8080",
    "two.example:80",
    "10.96.0.1",
    "nowhere.test",
    "s2.a.svc.cluster.local:80",
];

const EXTERNAL: [&str; 3] = ["one.example", "two.example", "*.example"];

/// The kind of operations on VirtualServices.
pub(super) const VIRTUAL_SERVICE: u8 = 3;

/// What happens to one object: which one, and what it becomes; the numbers choose among few.
#[derive(Clone, Debug)]
pub(super) struct Op {
    pub(super) kind: u8,
    pub(super) which: u8,
    pub(super) how: [u8; 6],
    pub(super) gone: bool,
}

/// Any change.
pub(super) fn op() -> impl Strategy<Value = Op> {
    // Pods, services and rules change most; the mesh as a whole seldom, so that it does not hide the rest.
    let kind = prop_oneof![
        5 => Just(0u8), 5 => Just(1u8), 3 => Just(2u8), 4 => Just(3u8), 4 => Just(4u8), 1 => Just(5u8), 1 => Just(6u8),
        1 => Just(7u8), 4 => Just(8u8), 3 => Just(9u8), 3 => Just(10u8),
        3 => Just(11u8), 1 => Just(12u8), 4 => Just(13u8), 3 => Just(14u8), 3 => Just(15u8), 1 => Just(16u8),
        2 => Just(17u8), 1 => Just(18u8)
    ];
    (kind, 0u8..12, any::<[u8; 6]>(), prop::bool::weighted(0.25)).prop_map(|(kind, which, how, gone)| Op {
        kind,
        which,
        how,
        gone,
    })
}

impl Op {
    /// The change.
    pub(super) fn change(&self) -> Change {
        let (object, is) = match self.kind {
            0 => self.pod(),
            1 => self.service(),
            2 => self.slice(),
            VIRTUAL_SERVICE => self.virtual_service(),
            4 => self.destination_rule(),
            5 => self.node(),
            6 => self.namespace_info(),
            8 => self.service_entry(),
            9 => self.workload_entry(),
            10 => self.peer_authentication(),
            11 => self.gateway(),
            12 => self.secret(),
            13 => self.sidecar(),
            14 => self.authorization_policy(),
            15 => self.ingress(),
            16 => self.ingress_class(),
            17 => self.request_authentication(),
            18 => self.key_set(),
            _ => self.mesh(),
        };
        let state = match self.gone {
            true => State::Gone,
            false => State::Is(Box::new(is)),
        };
        Change { object, state, problems: Vec::new(), raw: None }
    }

    /// The object that it is about.
    pub(super) fn object(&self) -> ObjectRef {
        self.change().object
    }

    fn namespace(&self) -> Namespace {
        NAMESPACES[usize::from(self.which) % NAMESPACES.len()].into()
    }

    fn name(&self, prefix: &str) -> String {
        format!("{prefix}{}", self.which / NAMESPACES.len() as u8)
    }

    fn pick<T: Clone>(&self, at: usize, of: &[T]) -> T {
        of[usize::from(self.how[at]) % of.len()].clone()
    }

    fn pod(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("p"));
        let source = ObjectRef::new(Kind::POD, namespace.clone(), name.as_str());
        let mut all = vec![("app", self.pick(0, &["s0", "s1"])), ("version", self.pick(1, &["v1", "v2"]))];
        if name == "p3" {
            all.push(("istio", "ingressgateway"));
        }
        if self.how[2].is_multiple_of(2) {
            all.push(("security.istio.io/tlsMode", "istio"));
        }
        if self.how[2].is_multiple_of(5) {
            all.push(("topology.istio.io/locality", self.pick(4, &["r2.z3.s1", "r1.z1", ""])));
        }
        if self.how[2].is_multiple_of(7) {
            all.push(("service.istio.io/canonical-name", self.pick(4, &["one", "two"])));
        }
        let pod = Pod {
            namespace,
            name: name.as_str().into(),
            ips: vec![pod_ip(self.which)],
            labels: labels(&all),
            account: self.pick(3, &["one", "two"]).into(),
            node: self.pick(4, &["n0", "n1", ""]).into(),
            workload: name.as_str().into(),
            ready: !self.how[5].is_multiple_of(3),
            terminating: self.how[5].is_multiple_of(7),
            ports: vec![("web".into(), 8080 + u16::from(self.how[5] % 2))],
            hostname: self.pick(3, &["", "h0"]).into(),
            subdomain: self.pick(3, &["", "s0"]).into(),
            host_network: self.how[3].is_multiple_of(11),
            source: source.clone(),
        };
        (source, Object::Pod(pod))
    }

    fn service(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("s"));
        let source = ObjectRef::new(Kind::SERVICE, namespace.clone(), name.as_str());
        let ports = (0..1 + usize::from(self.how[1] % 3)).map(|at| {
            let (protocol, prefix) = self.pick(2 + at, &PROTOCOLS);
            let target = match self.how[4].is_multiple_of(3) {
                true => TargetPort::Name("web".into()),
                false => TargetPort::Number(8080 + at as u16),
            };
            ServicePort {
                name: format!("{prefix}-{at}").into(),
                number: PORTS[(usize::from(self.how[1]) + at) % 4],
                protocol,
                target,
            }
        });
        // Most have an address; the rest is headless, stands for another, or is outside of the cluster.
        let (resolution, external) = match self.how[0] % 16 {
            0..=2 => (Resolution::Passthrough, false),
            3 | 4 => (Resolution::Alias, false),
            5 => (Resolution::Dns, true),
            6 => (Resolution::DnsRoundRobin, true),
            7 => (Resolution::Passthrough, true),
            _ => (Resolution::ClientSide, false),
        };
        let own_host = host(&name, &namespace);
        let service = Service {
            host: match external {
                true => EXTERNAL[usize::from(self.how[0] / 16) % EXTERNAL.len()].into(),
                false => own_host.clone(),
            },
            namespace: namespace.clone(),
            name: name.as_str().into(),
            registry: if external { Registry::External } else { Registry::Kubernetes },
            resolution,
            addresses: match resolution {
                Resolution::ClientSide => vec![Vip::Ip(IpAddr::from([10, 96, 0, self.which + 1]))],
                _ if external && self.how[0] >= 128 => vec![Vip::Ip(IpAddr::from([240, 0, 0, 1]))],
                _ => Vec::new(),
            },
            ports: ports.collect(),
            external,
            export_to: self.export_to(5),
            created: i64::from(self.which),
            selector: match external || self.how[3].is_multiple_of(5) {
                true => Labels::new(),
                false => labels(&[("app", &name)]),
            },
            labels: Labels::new(),
            node_local: self.how[4].is_multiple_of(6),
            distribution: self.pick(4, &[Distribution::Any, Distribution::SameZone, Distribution::SameNode]),
            publish_not_ready: self.how[3].is_multiple_of(4),
            accounts: if self.how[3].is_multiple_of(9) { vec!["spiffe://x/ns/a/sa/more".into()] } else { Vec::new() },
            alias_of: (resolution == Resolution::Alias).then(|| self.some_service(3)).filter(|to| *to != own_host),
            allocates: false,
            allocated: Vec::new(),
            races: false,
            merged: Vec::new(),
            source: source.clone(),
        };
        (source, Object::Service(service))
    }

    fn slice(&self) -> (ObjectRef, Object) {
        let (namespace, service) = (self.namespace(), self.name("s"));
        let source = ObjectRef::new(Kind::ENDPOINT_SLICE, namespace.clone(), format!("{service}-x"));
        let endpoints = (0..self.how[0] % 4).map(|at| SliceEndpoint {
            address: pod_ip(self.how[1].wrapping_add(at) % 12),
            ready: Some(!self.how[2].wrapping_add(at).is_multiple_of(3)),
            serving: None,
            terminating: Some(self.how[3].is_multiple_of(4)),
            pod: self.how[4].is_multiple_of(3).then(|| format!("p{}", self.how[1] % 4).into()),
            node: "n0".into(),
            hostname: self.pick(4, &["", "", "h0"]).into(),
        });
        let port = |prefix: &str, at: u16| (Arc::from(format!("{prefix}-{at}")), 8080 + at);
        let group = SliceGroup {
            ports: PROTOCOLS.iter().flat_map(|(_, prefix)| [port(prefix, 0), port(prefix, 1)]).collect(),
            endpoints: endpoints.collect(),
        };
        let slice = Slice { namespace, service: service.as_str().into(), groups: vec![group], source: source.clone() };
        (source, Object::Slice(slice))
    }

    fn node(&self) -> (ObjectRef, Object) {
        let name = format!("n{}", self.which % 2);
        let source = ObjectRef::new(Kind::NODE, "", name.as_str());
        let locality = Locality::parse(self.pick(0, &ZONES));
        (source, Object::Node(ClusterNode { name: name.into(), locality, external: Vec::new() }))
    }

    fn namespace_info(&self) -> (ObjectRef, Object) {
        let name = self.namespace();
        let source = ObjectRef::new(Kind::NAMESPACE, "", &*name);
        let labels = labels(&[("level", self.pick(0, &["low", "high"]))]);
        (source, Object::Namespace(NamespaceInfo { name, labels, annotations: self.nearness() }))
    }

    fn sidecar(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("c"));
        let source = ObjectRef::new(Kind::SIDECAR, namespace.clone(), name.as_str());
        let named = |at: usize| EgressHost {
            namespace: self.pick(at, &[EgressNamespace::Any, EgressNamespace::Own, EgressNamespace::Named("a".into())]),
            host: self.pick(at + 1, &["*".into(), self.some_host(at), self.some_host(at + 1)]),
            excluded: self.how[at].is_multiple_of(7),
        };
        let port = ListenerPort { number: self.pick(4, &PORTS), protocol: self.pick(5, &PROTOCOLS).0, name: "".into() };
        let listener = |port, hosts| EgressListener { port, bind: None, captured: None, hosts };
        let rest = listener(None, vec![named(1), named(2)]);
        let sidecar = Sidecar {
            source: source.clone(),
            created: i64::from(self.how[0] % 3),
            selector: if self.how[3].is_multiple_of(3) { labels(&[("version", "v1")]) } else { Labels::new() },
            egress: match self.how[5].is_multiple_of(3) {
                true => vec![listener(Some(port), vec![named(3)]), rest],
                false => vec![rest],
            },
            outbound: self.how[4].is_multiple_of(3).then_some((OutboundPolicy::RegistryOnly, None)),
            ingress: match self.how[1].is_multiple_of(3) {
                true => vec![self.arrival(2), self.arrival(3)],
                false => Vec::new(),
            },
            inbound_pool: self.how[2].is_multiple_of(4).then(|| limits(7)),
        };
        (source, Object::Sidecar(Box::new(sidecar)))
    }

    fn arrival(&self, at: usize) -> IngressListener {
        // Two of one Sidecar are never for one port.
        let number = self.pick(at, &[8080, 8082]) + at as u16 % 2;
        let ends = [
            None,
            Some(WorkloadEndpoint::Loopback(true, 9000)),
            Some(WorkloadEndpoint::Own(true, 9001)),
            Some(WorkloadEndpoint::Unix("/a.sock".into())),
        ];
        IngressListener {
            tls: None,
            port: ListenerPort { number, protocol: self.pick(at + 1, &PROTOCOLS).0, name: "".into() },
            bind: self.how[at].is_multiple_of(5).then(|| "127.0.0.9".into()),
            captured: self.pick(at, &[None, Some(true), Some(false)]),
            endpoint: self.pick(at + 1, &ends),
            pool: self.how[at].is_multiple_of(4).then(|| limits(9)),
        }
    }

    fn peer_authentication(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("a"));
        let source = ObjectRef::new(Kind::PEER_AUTHENTICATION, namespace, name.as_str());
        let mode =
            |at| self.pick(at, &[None, Some(MtlsMode::Disable), Some(MtlsMode::Permissive), Some(MtlsMode::Strict)]);
        let chooses = self.how[0].is_multiple_of(3);
        let policy = PeerAuthentication {
            source: source.clone(),
            created: i64::from(self.how[1] % 3),
            selector: if chooses { labels(&[("app", self.pick(2, &["s0", "s1"]))]) } else { Labels::new() },
            mode: mode(3),
            ports: if chooses { [(8080, mode(4)), (8081, mode(5))].into() } else { Default::default() },
        };
        (source, Object::PeerAuthentication(policy))
    }

    fn mesh(&self) -> (ObjectRef, Object) {
        let source = ObjectRef::new(Kind::MESH_CONFIG, "istio-system", "istio");
        let mesh = Mesh {
            trust_domain: self.pick(0, &["cluster.local", "other"]).into(),
            connect_timeout: u64::from(self.how[1] % 2) * 1000 + 1000,
            outbound_policy: self
                .pick(2, &[OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly, OutboundPolicy::AllowAnyDynamicDns]),
            http_proxy_port: if self.how[1].is_multiple_of(5) { 15007 } else { 0 },
            auto_mtls: !self.how[2].is_multiple_of(3),
            ingress: self.ingress_control(),
            features: Features { dual_stack: self.how[1].is_multiple_of(3), ..Features::default() },
            proxy_config: ProxyConfig {
                headers: self.how[0].is_multiple_of(3).then(|| ProxyHeaders {
                    without_attempts: self.how[1].is_multiple_of(2),
                    preserve_case: self.how[1].is_multiple_of(3),
                    ..ProxyHeaders::default()
                }),
                ..ProxyConfig::default()
            },
            discovery_selectors: match self.how[4].is_multiple_of(3) {
                true => vec![LabelSelector { labels: labels(&[("level", "low")]), expressions: Vec::new() }],
                false => Vec::new(),
            },
            inbound_to_loopback: self.how[5].is_multiple_of(4),
            service_export_to: self.export_to(3),
            virtual_service_export_to: self.export_to(4),
            destination_rule_export_to: self.export_to(5),
            ..Mesh::default()
        };
        (source, Object::Mesh(Box::new(mesh)))
    }

    fn export_to(&self, at: usize) -> ExportTo {
        match self.how[at] % 10 {
            0 => ExportTo::Some { own: true, namespaces: Vec::new() },
            1 => ExportTo::Some { own: false, namespaces: vec!["a".into()] },
            2 => ExportTo::Nobody,
            3 => ExportTo::All,
            _ => ExportTo::Unset,
        }
    }
}

fn pod_ip(which: u8) -> IpAddr {
    IpAddr::from([10, 0, 0, which + 1])
}

fn host(name: &str, namespace: &Namespace) -> Host {
    format!("{name}.{namespace}.svc.cluster.local").as_str().into()
}

fn labels(of: &[(&str, &str)]) -> Labels {
    of.iter().map(|(k, v)| (Arc::from(*k), Arc::from(*v))).collect()
}

/// The sidecar of a pod.
pub(super) fn node(pod: &str, namespace: &str) -> Node {
    parse::node(&node_json(pod, namespace)).expect("a valid node")
}

/// The sidecar of a pod, as it says so itself: `p0` has no agent, `p1` has one, `p2` is captured in the other way and
/// has both IP families, and `p3` is a gateway.
pub(super) fn node_json(pod: &str, namespace: &str) -> serde_json::Value {
    let number = pod.trim_start_matches('p').parse::<u8>().unwrap_or(0);
    let which = number * 3 + NAMESPACES.iter().position(|n| *n == namespace).unwrap_or(0) as u8;
    let role = if number == 3 { "router" } else { "sidecar" };
    let mut metadata = json!({
        "NAMESPACE": namespace,
        "LABELS": {"app": "s0", "version": "v2"},
        "CLUSTER_ID": "Kubernetes",
        "NODE_NAME": "n0",
        "DNS_CAPTURE": namespace == "a",
    });
    if number == 3 {
        metadata["LABELS"]["istio"] = "ingressgateway".into();
    }
    if number == 1 {
        metadata["ISTIO_VERSION"] = "1.30.0".into();
    }
    if number == 2 {
        metadata["INTERCEPTION_MODE"] = "TPROXY".into();
        metadata["INSTANCE_IPS"] = format!("{},fd00::{which}", pod_ip(which)).into();
    }
    json!({
        "id": format!("{role}~{}~{pod}.{namespace}~{namespace}.svc.cluster.local", pod_ip(which)),
        "cluster": "s0.a",
        "metadata": metadata,
    })
}
