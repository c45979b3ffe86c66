//! A small world that changes in every way that the mesh knows: the objects by number, and changes of them.

use crate::{
    id::{Host, Kind, Namespace, ObjectRef},
    model::{
        Certificates, Change, ClusterNode, ConnectionMatch, ConnectionRule, Destination, DestinationRule, Distribution,
        ExportTo, Fault, Gateway, HttpAction, HttpMatch, HttpRule, KeyPair, Labels, LoadBalancer, LoadBalancerKind,
        Locality, Mesh, MtlsMode, NamespaceInfo, Node, Object, OutboundPolicy, PeerAuthentication, Pod, PrivateKey,
        Protocol, Registry, Resolution, Secret, Server, ServerHost, ServerTls, ServerTlsMode, Service, ServicePort,
        Share, Slice, SliceEndpoint, SliceGroup, State, StringMatch, Subset, TargetPort, TrafficPolicy, Vip,
        VirtualService,
    },
    parse,
};
use proptest::prelude::*;
use serde_json::json;
use std::{net::IpAddr, sync::Arc};

pub(super) const NAMESPACES: [&str; 3] = ["a", "b", "istio-system"];
const ZONES: [&str; 3] = ["r1/z1/", "r1/z2/", "r2/z3/"];
const PROTOCOLS: [(Protocol, &str); 6] = [
    (Protocol::Http, "http"),
    (Protocol::Grpc, "grpc"),
    (Protocol::Tcp, "tcp"),
    (Protocol::Tls, "tls"),
    (Protocol::Auto, "any"),
    (Protocol::Udp, "udp"),
];
const PORTS: [u16; 4] = [80, 8080, 9000, 443];

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
        5 => Just(0u8), 5 => Just(1u8), 3 => Just(2u8), 4 => Just(3u8), 4 => Just(4u8), 1 => Just(5u8), 1 => Just(6u8), 1 => Just(7u8),
        3 => Just(8u8), 3 => Just(9u8), 1 => Just(10u8)
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
            3 => self.virtual_service(),
            4 => self.destination_rule(),
            5 => self.node(),
            6 => self.namespace_info(),
            8 => self.peer_authentication(),
            9 => self.gateway(),
            10 => self.secret(),
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
        let mut labels = labels(&[("app", self.pick(0, &["s0", "s1"])), ("version", self.pick(1, &["v1", "v2"]))]);
        if self.how[2].is_multiple_of(4) {
            labels.insert("security.istio.io/tlsMode".into(), "istio".into());
        }
        let pod = Pod {
            namespace,
            name: name.as_str().into(),
            ips: vec![pod_ip(self.which)],
            labels: Arc::new(labels),
            account: self.pick(3, &["one", "two"]).into(),
            node: self.pick(4, &["n0", "n1", ""]).into(),
            workload: name.as_str().into(),
            ready: !self.how[5].is_multiple_of(3),
            terminating: self.how[5].is_multiple_of(7),
            ports: vec![("web".into(), 8080 + u16::from(self.how[5] % 2))],
            hostname: "".into(),
            subdomain: "".into(),
            host_network: false,
            source: source.clone(),
        };
        (source, Object::Pod(pod))
    }

    fn service(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("s"));
        let source = ObjectRef::new(Kind::SERVICE, namespace.clone(), name.as_str());
        let headless = self.how[0].is_multiple_of(4);
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
        let service = Service {
            host: host(&name, &namespace),
            namespace: namespace.clone(),
            name: name.as_str().into(),
            registry: Registry::Kubernetes,
            resolution: if headless { Resolution::Passthrough } else { Resolution::ClientSide },
            addresses: match headless {
                true => Vec::new(),
                false => vec![Vip::Ip(IpAddr::from([10, 96, 0, self.which + 1]))],
            },
            ports: ports.collect(),
            external: false,
            export_to: self.export_to(5),
            created: i64::from(self.which),
            selector: if self.how[3].is_multiple_of(5) { Labels::new() } else { labels(&[("app", &name)]) },
            labels: Labels::new(),
            node_local: self.how[4].is_multiple_of(6),
            distribution: self.pick(4, &[Distribution::Any, Distribution::SameZone, Distribution::SameNode]),
            publish_not_ready: self.how[3].is_multiple_of(4),
            accounts: Vec::new(),
            alias_of: None,
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
            pod: None,
            node: "n0".into(),
            hostname: "".into(),
        });
        let port = |prefix: &str, at: u16| (Arc::from(format!("{prefix}-{at}")), 8080 + at);
        let group = SliceGroup {
            ports: PROTOCOLS.iter().flat_map(|(_, prefix)| [port(prefix, 0), port(prefix, 1)]).collect(),
            endpoints: endpoints.collect(),
        };
        let slice = Slice { namespace, service: service.as_str().into(), groups: vec![group], source: source.clone() };
        (source, Object::Slice(slice))
    }

    fn some_host(&self, at: usize) -> Host {
        let number = self.how[at];
        let namespace = NAMESPACES[usize::from(number / 4) % 3].into();
        match number % 16 {
            14 => format!("*.{namespace}.svc.cluster.local").as_str().into(),
            15 => "*".into(),
            _ => host(&format!("s{}", number % 4), &namespace),
        }
    }

    fn virtual_service(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("v"));
        let source = ObjectRef::new(Kind::VIRTUAL_SERVICE, namespace.clone(), name.as_str());
        let destination = |at: usize, weight: u32| Destination {
            host: host(&format!("s{}", self.how[at] % 4), &NAMESPACES[usize::from(self.how[at] / 4) % 3].into()),
            subset: self.pick(at, &["", "v1", "v2"]).into(),
            port: self.how[at].is_multiple_of(2).then(|| PORTS[usize::from(self.how[at]) % 4]),
            weight,
            headers: Default::default(),
        };
        let share = u32::from(self.how[2] % 100);
        let split = HttpRule {
            matches: match self.how[3] % 3 {
                0 => Vec::new(),
                1 => vec![HttpMatch {
                    uri: Some(StringMatch::Prefix(format!("/{}", self.how[3]).into())),
                    ..HttpMatch::default()
                }],
                _ => vec![HttpMatch { source_labels: labels(&[("version", "v1")]), ..HttpMatch::default() }],
            },
            action: HttpAction::Route(vec![destination(4, share), destination(5, 100 - share)]),
            timeout: self.how[4].is_multiple_of(3).then_some(u64::from(self.how[4])),
            fault: self.how[5]
                .is_multiple_of(4)
                .then_some(Fault { delay: Some((10, Share::Millionths(1000))), abort: None }),
            ..HttpRule::default()
        };
        let connections = |source_labels: Labels, how: u8| {
            let subnets =
                if how.is_multiple_of(3) { vec!["10.96.0.0/30".parse().expect("a subnet")] } else { Vec::new() };
            let names = vec![Arc::from(&*self.some_host(0))];
            let condition = ConnectionMatch { names, subnets, source_labels, ..ConnectionMatch::default() };
            ConnectionRule { matches: vec![condition], destinations: vec![destination(4, 1), destination(5, 2)] }
        };
        let rest = HttpRule { action: HttpAction::Route(vec![destination(5, 1)]), ..HttpRule::default() };
        let rule = VirtualService {
            source: source.clone(),
            created: i64::from(self.how[0] % 3),
            hosts: vec![self.some_host(0)],
            gateways: vec![self.pick(1, &["mesh", "mesh", "a/g0", "b/g0"]).into()],
            export_to: self.export_to(2),
            http: vec![split, rest],
            tls: vec![connections(labels(&[("version", "v1")]), self.how[1])],
            tcp: match self.how[2].is_multiple_of(2) {
                true => vec![connections(Labels::new(), self.how[4])],
                false => Vec::new(),
            },
        };
        (source, Object::VirtualService(rule))
    }

    fn destination_rule(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("d"));
        let source = ObjectRef::new(Kind::DESTINATION_RULE, namespace.clone(), name.as_str());
        let kinds = [LoadBalancerKind::LeastRequest, LoadBalancerKind::RoundRobin, LoadBalancerKind::Random];
        let policy = |at: usize| TrafficPolicy {
            load_balancer: Some(LoadBalancer { kind: self.pick(at, &kinds), ..Default::default() }),
            ..TrafficPolicy::default()
        };
        let subset = |name: &str| Subset { name: name.into(), labels: labels(&[("version", name)]), policy: None };
        let rule = DestinationRule {
            source: source.clone(),
            created: i64::from(self.how[0] % 3),
            host: self.some_host(1),
            export_to: self.export_to(2),
            selector: self.how[3].is_multiple_of(4).then(|| labels(&[("version", "v1")])),
            policy: policy(4),
            merged: Vec::new(),
            subsets: ["v1", "v2"][..usize::from(self.how[5] % 3)].iter().map(|n| subset(n)).collect(),
        };
        (source, Object::DestinationRule(Box::new(rule)))
    }

    fn gateway(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("g"));
        let source = ObjectRef::new(Kind::GATEWAY, namespace, name.as_str());
        let hosts = |at: usize| {
            let namespace = self.how[at].is_multiple_of(3).then(|| Namespace::from("a"));
            vec![ServerHost { namespace, host: self.some_host(at) }]
        };
        let server = |at: usize, protocol: Protocol, tls: Option<ServerTlsMode>| Server {
            name: "".into(),
            port: PORTS[usize::from(self.how[at]) % 4],
            port_name: format!("p{at}").into(),
            protocol,
            bind: self.how[at].is_multiple_of(5).then(|| IpAddr::from([10, 9, 9, 9])),
            hosts: hosts(at),
            redirect: tls.is_none() && self.how[at].is_multiple_of(4),
            tls: tls.map(|mode| ServerTls {
                mode,
                certificates: match mode {
                    ServerTlsMode::Simple => Certificates::Secrets(vec![self.pick(at, &["c0", "c1"]).into()]),
                    _ => Certificates::None,
                },
                authorities: "".into(),
                crl: "".into(),
                subject_alt_names: Vec::new(),
                spki: Vec::new(),
                hashes: Vec::new(),
                min_version: Default::default(),
                max_version: Default::default(),
                ciphers: Vec::new(),
                curves: Vec::new(),
                insecure: false,
            }),
        };
        let modes = [ServerTlsMode::Passthrough, ServerTlsMode::AutoPassthrough, ServerTlsMode::Simple];
        let gateway = Gateway {
            source: source.clone(),
            created: i64::from(self.how[0] % 3),
            selector: self.pick(1, &[Labels::new(), labels(&[("app", "s0")])]),
            servers: vec![
                server(2, self.pick(0, &[Protocol::Http, Protocol::Http, Protocol::Tcp]), None),
                server(3, Protocol::Https, Some(ServerTlsMode::Simple)),
                server(4, Protocol::Tls, Some(self.pick(5, &modes))),
            ],
        };
        (source, Object::Gateway(gateway))
    }

    fn secret(&self) -> (ObjectRef, Object) {
        let source = ObjectRef::new(Kind::SECRET, self.namespace(), self.name("c"));
        let bytes = |text: &str| Arc::<[u8]>::from(text.as_bytes());
        let certificate = (!self.how[0].is_multiple_of(3)).then(|| KeyPair {
            chain: bytes(self.pick(1, &["one", "two"])),
            key: PrivateKey::new(*b"key"),
            staple: bytes(""),
        });
        let authorities = bytes(self.pick(2, &["", "roots"]));
        (source.clone(), Object::Secret(Secret { source, certificate, authorities, crl: bytes("") }))
    }

    fn node(&self) -> (ObjectRef, Object) {
        let name = format!("n{}", self.which % 2);
        let source = ObjectRef::new(Kind::NODE, "", name.as_str());
        let locality = Locality::parse(self.pick(0, &ZONES));
        (source, Object::Node(ClusterNode { name: name.into(), locality }))
    }

    fn namespace_info(&self) -> (ObjectRef, Object) {
        let name = self.namespace();
        let source = ObjectRef::new(Kind::NAMESPACE, "", &*name);
        let labels = labels(&[("level", self.pick(0, &["low", "high"]))]);
        (source, Object::Namespace(NamespaceInfo { name, labels, annotations: Labels::new() }))
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
            outbound_policy: self.pick(2, &[OutboundPolicy::AllowAny, OutboundPolicy::RegistryOnly]),
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

/// The router in a pod.
pub(super) fn router(pod: &str, namespace: &str) -> Node {
    let mut json = node_json(pod, namespace);
    json["id"] = json["id"].as_str().expect("an id").replace("sidecar", "router").into();
    Node { proven: true, ..parse::node(&json).expect("a valid node") }
}

/// The sidecar of a pod, as it says so itself.
pub(super) fn node_json(pod: &str, namespace: &str) -> serde_json::Value {
    let which = pod.trim_start_matches('p').parse::<u8>().unwrap_or(0) * 3
        + NAMESPACES.iter().position(|n| *n == namespace).unwrap_or(0) as u8;
    // Some have an agent, and with it a certificate.
    let version = if which.is_multiple_of(2) { json!("1.30.0") } else { json!(null) };
    json!({
        "id": format!("sidecar~{}~{pod}.{namespace}~{namespace}.svc.cluster.local", pod_ip(which)),
        "cluster": "s0.a",
        "metadata": {"NAMESPACE": namespace, "LABELS": {"app": "s0", "version": "v2"}, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": version},
    })
}
