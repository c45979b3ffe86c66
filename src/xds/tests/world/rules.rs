//! The rules of the small world: VirtualServices and DestinationRules.

use super::{EXTERNAL, NAMESPACES, Op, PORTS, host, labels};
use crate::{
    id::{Host, Kind, ObjectRef},
    model::{
        ClientTls, ConnectionMatch, ConnectionPool, ConnectionRule, Destination, DestinationRule, DirectResponse,
        Fault, HashKey, HashTable, HttpAction, HttpMatch, HttpRule, LoadBalancer, LoadBalancerKind, LocalityBalancing,
        Mirror, Object, ObjectKey, OutlierDetection, Share, StringMatch, Subset, TlsMode, TrafficPolicy,
        VirtualService,
    },
};
use std::sync::Arc;

impl Op {
    /// Some Kubernetes service's host.
    pub(super) fn some_service(&self, at: usize) -> Host {
        let number = self.how[at];
        host(&format!("s{}", number % 4), &NAMESPACES[usize::from(number / 4) % 3].into())
    }

    /// Some host that a rule may be for.
    pub(super) fn some_host(&self, at: usize) -> Host {
        let number = self.how[at];
        let namespace = NAMESPACES[usize::from(number / 4) % 3];
        match number % 16 {
            12 => "foreign.example".into(),
            13 => EXTERNAL[usize::from(number / 16) % EXTERNAL.len()].into(),
            14 => format!("*.{namespace}.svc.cluster.local").as_str().into(),
            15 => "*".into(),
            _ => self.some_service(at),
        }
    }

    fn destination(&self, at: usize, weight: u32) -> Destination {
        Destination {
            host: match self.how[at] % 16 {
                13 => EXTERNAL[usize::from(self.how[at] / 16) % EXTERNAL.len()].into(),
                _ => self.some_service(at),
            },
            subset: self.pick(at, &["", "v1", "v2"]).into(),
            port: self.how[at].is_multiple_of(2).then(|| PORTS[usize::from(self.how[at]) % 4]),
            weight,
            headers: Default::default(),
        }
    }

    fn matches(&self, at: usize) -> Vec<HttpMatch> {
        let number = self.how[at];
        let prefix = Some(StringMatch::Prefix(format!("/{number}").into()));
        let one = match number % 8 {
            0 | 1 => return Vec::new(),
            2 => HttpMatch { uri: prefix, ..HttpMatch::default() },
            3 => HttpMatch { source_labels: labels(&[("version", "v1")]), ..HttpMatch::default() },
            4 => HttpMatch { source_labels: labels(&[("app", "s0")]), uri: prefix, ..HttpMatch::default() },
            5 => HttpMatch { source_namespace: "a".into(), ..HttpMatch::default() },
            6 => HttpMatch { port: Some(self.pick(at, &PORTS)), ..HttpMatch::default() },
            _ => HttpMatch { gateways: vec![self.pick(at, &["mesh", "a/g0"]).into()], ..HttpMatch::default() },
        };
        match number.is_multiple_of(5) {
            true => vec![one, HttpMatch { uri: Some(StringMatch::Exact("/x".into())), ..HttpMatch::default() }],
            false => vec![one],
        }
    }

    fn action(&self) -> HttpAction {
        let share = u32::from(self.how[2] % 100);
        let to = |number: u8| ObjectKey {
            namespace: NAMESPACES[usize::from(number) % 3].into(),
            name: format!("v{}", number / 3 % 4).into(),
        };
        match self.how[5] % 8 {
            0 | 1 => HttpAction::Delegate(to(self.how[4])),
            2 => HttpAction::Respond(DirectResponse { status: 503, body: None }),
            _ => HttpAction::Route(vec![self.destination(4, share), self.destination(5, 100 - share)]),
        }
    }

    fn connections(&self, at: usize, names: Vec<Arc<str>>) -> Vec<ConnectionRule> {
        let number = self.how[at];
        let client = match number % 4 {
            0 => return Vec::new(),
            1 => labels(&[("version", "v1")]),
            _ => labels(&[]),
        };
        let subnet = number.is_multiple_of(3).then(|| "10.96.0.0/30".parse().expect("a subnet"));
        let condition = ConnectionMatch {
            names,
            subnets: subnet.into_iter().collect(),
            source_labels: client,
            port: number.is_multiple_of(5).then(|| self.pick(at, &PORTS)),
            ..ConnectionMatch::default()
        };
        vec![ConnectionRule {
            matches: vec![condition],
            destinations: vec![self.destination(4, 1), self.destination(5, 2)],
        }]
    }

    pub(super) fn virtual_service(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("v"));
        let source = ObjectRef::new(Kind::VIRTUAL_SERVICE, namespace.clone(), name.as_str());
        let first = HttpRule {
            matches: self.matches(3),
            action: self.action(),
            timeout: self.how[4].is_multiple_of(3).then_some(u64::from(self.how[4])),
            fault: self.how[5]
                .is_multiple_of(3)
                .then_some(Fault { delay: Some((10, Share::Millionths(1000))), abort: None }),
            mirrors: match self.how[4].is_multiple_of(5) {
                true => vec![Mirror { destination: self.destination(3, 0), share: Share::Percent(5) }],
                false => Vec::new(),
            },
            ..HttpRule::default()
        };
        let rest = HttpRule { action: HttpAction::Route(vec![self.destination(5, 1)]), ..HttpRule::default() };
        let rule = VirtualService {
            source: source.clone(),
            created: i64::from(self.how[0] % 3),
            // One without hosts is what others delegate to.
            hosts: match self.how[1] % 4 {
                0 => Vec::new(),
                1 => vec![self.some_host(0), self.some_host(2)],
                _ => vec![self.some_host(0)],
            },
            gateways: vec![self.pick(1, &["mesh", "mesh", "mesh", "a/g0", "b/g0"]).into()],
            export_to: self.export_to(2),
            http: vec![first, rest],
            tls: self.connections(1, vec![Arc::from(&*self.some_host(0))]),
            tcp: self.connections(2, Vec::new()),
        };
        (source, Object::VirtualService(rule))
    }

    fn load_balancer(&self, at: usize) -> LoadBalancer {
        let kinds = [
            LoadBalancerKind::LeastRequest,
            LoadBalancerKind::RoundRobin,
            LoadBalancerKind::Random,
            LoadBalancerKind::Passthrough,
            LoadBalancerKind::Hash { key: HashKey::SourceIp, table: HashTable::Ring(0) },
            LoadBalancerKind::Hash { key: HashKey::Header("x-user".into()), table: HashTable::Maglev(0) },
        ];
        let none = LocalityBalancing::default();
        let locality = match self.how[at] % 5 {
            0 => Some(LocalityBalancing {
                distribute: vec![("r1/*".into(), vec![("r1/z1/*".into(), 30), ("r2/*".into(), 70)])],
                ..none
            }),
            1 => Some(LocalityBalancing { failover: vec![("r1".into(), "r2".into())], ..none }),
            2 => Some(LocalityBalancing { priority: vec!["version".into(), "app=s1".into()], ..none }),
            3 => Some(LocalityBalancing { off: true, ..none }),
            _ => None,
        };
        LoadBalancer { kind: self.pick(at, &kinds), locality, ..Default::default() }
    }

    fn policy(&self, at: usize) -> TrafficPolicy {
        let number = self.how[at];
        let outlier = OutlierDetection { consecutive_5xx: Some(u32::from(number % 3)), ..Default::default() };
        let modes = [TlsMode::Disable, TlsMode::Simple, TlsMode::IstioMutual];
        TrafficPolicy {
            load_balancer: (!number.is_multiple_of(3)).then(|| self.load_balancer(at)),
            outlier_detection: number
                .is_multiple_of(2)
                .then_some(OutlierDetection { min_health_percent: number.is_multiple_of(4).then_some(50), ..outlier }),
            connection_pool: number
                .is_multiple_of(5)
                .then(|| ConnectionPool { max_requests: Some(u32::from(number)), ..Default::default() }),
            tls: number.is_multiple_of(7).then(|| ClientTls { mode: self.pick(at, &modes), ..plain() }),
            ..TrafficPolicy::default()
        }
    }

    pub(super) fn destination_rule(&self) -> (ObjectRef, Object) {
        let (namespace, name) = (self.namespace(), self.name("d"));
        let source = ObjectRef::new(Kind::DESTINATION_RULE, namespace.clone(), name.as_str());
        let subset = |name: &str| Subset {
            name: name.into(),
            labels: labels(&[("version", name)]),
            policy: self.how[3].is_multiple_of(3).then(|| self.policy(3)),
        };
        let ports = match self.how[4].is_multiple_of(5) {
            true => vec![(self.pick(4, &PORTS), self.policy(5))],
            false => Vec::new(),
        };
        let rule = DestinationRule {
            source: source.clone(),
            created: i64::from(self.how[0] % 3),
            host: self.some_host(1),
            export_to: self.export_to(2),
            selector: self.how[3].is_multiple_of(4).then(|| labels(&[("version", "v1")])),
            policy: TrafficPolicy { ports, ..self.policy(4) },
            merged: Vec::new(),
            subsets: ["v1", "v2"][..usize::from(self.how[5] % 3)].iter().map(|n| subset(n)).collect(),
        };
        (source, Object::DestinationRule(Box::new(rule)))
    }
}

fn plain() -> ClientTls {
    ClientTls {
        mode: TlsMode::Disable,
        sni: "".into(),
        subject_alt_names: Vec::new(),
        certificate: "".into(),
        key: "".into(),
        ca: "".into(),
        crl: "".into(),
        credential: "".into(),
        insecure: false,
    }
}
