//! After any sequence of changes, what an incremental stream has equals a full recompute.

use super::world::{self, NAMESPACES, Op, op};
use crate::{
    id::ResourceType,
    model::Node,
    pb::envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            listener::v3::{Listener, filter::ConfigType},
            route::v3::RouteConfiguration,
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        },
    },
    snapshot::Snapshot,
    translate::{Config, Direct, Resource},
    xds::{
        Engine, Lease, Metrics,
        stream::{Names, Request, Response, Stream, Variant},
    },
};
use ResourceType::{Cluster as CDS, Endpoints as EDS, Listener as LDS, Route as RDS};
use proptest::{collection::vec, prelude::*};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// What the property is about: these are what a sidecar subscribes to.
const KINDS: [ResourceType; 4] = [CDS, EDS, LDS, RDS];

/// One thing that happens; the first number chooses the proxy.
#[derive(Clone, Debug)]
enum Step {
    /// The world changes at once in all of these ways.
    Change(Vec<Op>),
    /// A proxy's stream is brought to the newest snapshot.
    Advance(u8),
    /// A proxy takes the next response, or none if there is none.
    Take(u8),
    /// A proxy loses its stream and comes back.
    Reconnect(u8),
    /// A proxy has been waited for long enough.
    Overdue(u8),
    /// Someone forces a push to a proxy.
    Push(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(op(), 1..4).prop_map(Step::Change),
        3 => any::<u8>().prop_map(Step::Advance),
        6 => any::<u8>().prop_map(Step::Take),
        1 => any::<u8>().prop_map(Step::Reconnect),
        1 => any::<u8>().prop_map(Step::Overdue),
        1 => any::<u8>().prop_map(Step::Push),
    ]
}

/// How a proxy answers.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Temper {
    /// It takes everything.
    Takes,
    /// It refuses every response that has a resource it dislikes, and names that.
    Names,
    /// The same without naming it.
    Grumbles,
}

/// A proxy that does what an Envoy does: it asks for endpoints of the clusters and routes of the listeners that it
/// has, holds what it takes, and complains (panics) about what it should not be sent.
struct Proxy {
    node: Arc<Node>,
    variant: Variant,
    temper: Temper,
    lease: Lease,
    stream: Stream,
    /// Responses that it has not looked at, and what it asked for when they were sent.
    inbox: VecDeque<(Response, Option<BTreeSet<String>>)>,
    held: BTreeMap<ResourceType, BTreeMap<Arc<str>, Arc<Resource>>>,
    names: BTreeMap<ResourceType, BTreeSet<String>>,
    versions: BTreeMap<ResourceType, String>,
    /// What may be sent although the proxy has it.
    may_repeat: BTreeMap<ResourceType, BTreeSet<Arc<str>>>,
    /// A push was forced: anything may be sent again.
    forced: bool,
    /// The types that it was answered on this stream.
    answered: BTreeSet<ResourceType>,
}

impl Proxy {
    fn new(node: Node, variant: Variant, temper: Temper, engine: &Engine, snapshot: &Arc<Snapshot>) -> Self {
        let node = Arc::new(node);
        let mut lease = Lease::new(node.clone());
        engine.advance(&mut lease, snapshot);
        let stream = Stream::new(lease.config().clone(), Arc::new(Metrics::default()));
        let mut proxy = Self {
            node,
            variant,
            temper,
            lease,
            stream,
            inbox: VecDeque::new(),
            held: KINDS.map(|kind| (kind, BTreeMap::new())).into(),
            names: BTreeMap::new(),
            versions: BTreeMap::new(),
            may_repeat: BTreeMap::new(),
            forced: false,
            answered: BTreeSet::new(),
        };
        proxy.connect();
        proxy
    }

    /// Subscribes to everything on a new stream, with what it has.
    fn connect(&mut self) {
        self.inbox.clear();
        self.may_repeat.clear();
        self.answered.clear();
        self.stream = Stream::new(self.lease.config().clone(), Arc::new(Metrics::default()));
        for kind in KINDS {
            let names: Vec<_> = self.names.get(&kind).into_iter().flatten().cloned().collect();
            if matches!(kind, EDS | RDS) && names.is_empty() {
                continue;
            }
            let names = match self.variant {
                Variant::Sotw => {
                    // Of this variant only the same version of everything says what a client has.
                    self.may_repeat.insert(kind, self.held[&kind].keys().cloned().collect());
                    Names::All { names, version: self.versions.get(&kind).cloned().unwrap_or_default() }
                }
                Variant::Delta => {
                    let held = self.held[&kind].values();
                    let versions = held.map(|r| (r.name.to_string(), r.version_text())).collect();
                    Names::Changes { subscribe: names, unsubscribe: Vec::new(), versions }
                }
            };
            self.say(kind, String::new(), None, names);
        }
    }

    fn say(&mut self, kind: ResourceType, nonce: String, error: Option<String>, names: Names) {
        let request = Request { type_url: kind.type_url().into(), nonce, error, names };
        let responses = self.stream.on_request(request);
        self.receive(responses);
    }

    fn receive(&mut self, responses: Vec<Response>) {
        for response in responses {
            let asked = ResourceType::of_url(&response.type_url).and_then(|kind| self.names.get(&kind)).cloned();
            self.inbox.push_back((response, asked));
        }
    }

    fn advance(&mut self, engine: &Engine, snapshot: &Arc<Snapshot>) {
        if engine.advance(&mut self.lease, snapshot) {
            let responses = self.stream.on_config(self.lease.config().clone());
            self.receive(responses);
        }
    }

    fn dislikes(&self, resource: &Resource) -> bool {
        self.temper != Temper::Takes && resource.version.is_multiple_of(5)
    }

    /// Takes or refuses the next response.
    fn take(&mut self) -> bool {
        let Some((response, asked)) = self.inbox.pop_front() else { return false };
        let kind = ResourceType::of_url(&response.type_url).expect("a known type");
        let held = self.held.get_mut(&kind).expect("a type that it subscribed to").clone();
        let says = !response.resources.is_empty() || !response.removed.is_empty();
        let may_be_empty = self.forced || self.variant == Variant::Sotw && kind.has_wildcard();
        assert!(self.answered.insert(kind) || says || may_be_empty, "{kind:?} was sent for nothing");
        let bad: Vec<_> = response.resources.iter().filter(|r| self.dislikes(r)).cloned().collect();
        if !bad.is_empty() {
            let message = match self.temper {
                Temper::Names => bad.iter().map(|r| format!("{}: disliked", r.name)).collect::<Vec<_>>().join(", "),
                _ => "disliked".to_owned(),
            };
            self.answer(kind, response.nonce, Some(message));
            return true;
        }
        self.complain(kind, &response, &held, asked);
        let next = self.held.get_mut(&kind).expect("a type that it subscribed to");
        if self.variant == Variant::Sotw && kind.has_wildcard() {
            next.clear();
        }
        // What it no longer asks for by the time that it comes is of no use to it.
        for resource in response.resources.iter().filter(|r| asks(&self.names, kind, &r.name)) {
            next.insert(resource.name.clone(), resource.clone());
        }
        for name in &response.removed {
            next.remove(name);
        }
        if kind == CDS {
            // A cluster that it is sent warms until it has endpoints.
            let sent = response.resources.iter().filter(|r| held.get(&r.name) != Some(*r)).map(|r| r.name.clone());
            self.may_repeat.entry(EDS).or_default().extend(sent);
        }
        self.may_repeat.entry(kind).or_default().retain(|n| response.resources.iter().all(|r| r.name != *n));
        self.versions.insert(kind, response.version.clone());
        self.follow(kind);
        self.answer(kind, response.nonce, None);
        true
    }

    fn asks(&self, kind: ResourceType, name: &str) -> bool {
        asks(&self.names, kind, name)
    }

    /// Nothing is sent that it has, unless it had to be.
    fn complain(
        &self,
        kind: ResourceType,
        response: &Response,
        held: &BTreeMap<Arc<str>, Arc<Resource>>,
        asked: Option<BTreeSet<String>>,
    ) {
        if self.forced || self.temper != Temper::Takes {
            return;
        }
        let none = BTreeSet::new();
        let may_repeat = self.may_repeat.get(&kind).unwrap_or(&none);
        if self.variant == Variant::Sotw && kind.has_wildcard() {
            let now: BTreeMap<_, _> = response.resources.iter().map(|r| (r.name.clone(), r.clone())).collect();
            let first = !self.versions.contains_key(&kind) || !may_repeat.is_empty();
            assert!(first || now != *held, "{kind:?} was sent again unchanged");
            return;
        }
        for resource in &response.resources {
            let repeated = held.get(&resource.name) == Some(resource) && !may_repeat.contains(&resource.name);
            assert!(!repeated, "{kind:?} {} was sent again unchanged", resource.name);
            assert!(asked.as_ref().is_none_or(|n| n.contains(&*resource.name)), "{} was not asked for", resource.name);
        }
    }

    /// Subscribes to what the clusters and listeners that it has need.
    fn follow(&mut self, kind: ResourceType) {
        let (of, wanted): (ResourceType, BTreeSet<String>) = match kind {
            CDS => (EDS, self.held[&CDS].values().filter(|r| has_endpoints(r)).map(|r| r.name.to_string()).collect()),
            LDS => (RDS, self.held[&LDS].values().flat_map(|r| routes(r)).collect()),
            _ => return,
        };
        let had = self.names.insert(of, wanted.clone()).unwrap_or_default();
        if had == wanted {
            return;
        }
        self.held.get_mut(&of).expect("a type").retain(|name, _| wanted.contains(&**name));
        let names = match self.variant {
            Variant::Sotw => Names::All { names: wanted.into_iter().collect(), version: String::new() },
            Variant::Delta => Names::Changes {
                subscribe: wanted.difference(&had).cloned().collect(),
                unsubscribe: had.difference(&wanted).cloned().collect(),
                versions: BTreeMap::new(),
            },
        };
        // A client that has seen a response names it; one that has not does not.
        let standing = self.stream.standing().into_iter().find(|s| s.kind == of);
        let seen = standing
            .filter(|_| self.variant == Variant::Sotw && self.inbox.iter().all(|(r, _)| r.type_url != of.type_url()));
        self.say(of, seen.map(|s| s.nonce_sent).unwrap_or_default(), None, names);
    }

    fn answer(&mut self, kind: ResourceType, nonce: String, error: Option<String>) {
        let names = match self.variant {
            Variant::Sotw => Names::All {
                names: self.names.get(&kind).into_iter().flatten().cloned().collect(),
                version: self.versions.get(&kind).cloned().unwrap_or_default(),
            },
            Variant::Delta => Names::Changes { subscribe: vec![], unsubscribe: vec![], versions: BTreeMap::new() },
        };
        self.say(kind, nonce, error, names);
    }

    /// Whether what it has is what a full recompute says.
    fn check(&self, full: &Config) {
        let mut refused_any = false;
        for kind in KINDS {
            let wanted = full.all(kind).filter(|r| self.asks(kind, &r.name));
            let held = &self.held[&kind];
            let mut names: BTreeSet<_> = held.keys().cloned().collect();
            for resource in wanted {
                names.remove(&resource.name);
                let has = held.get(&resource.name);
                if self.dislikes(resource) {
                    refused_any = true;
                    assert!(has.is_none_or(|h| !self.dislikes(h)));
                } else {
                    let versions = (has.map(|r| r.version), Some(resource.version));
                    assert_eq!(versions.0, versions.1, "{kind:?} {} of {}", resource.name, self.node.id);
                    assert_eq!(has.map(|r| &r.body), Some(&resource.body));
                }
            }
            // Endpoints of a cluster that has none in this variant are said to be none.
            names.retain(|n| !(kind == EDS && self.variant == Variant::Sotw && full.get(EDS, n).is_none()));
            let kept = kind == CDS || kind == EDS;
            let disliked_users = [LDS, RDS].iter().any(|k| full.all(*k).any(|r| self.dislikes(r)));
            let may_keep = kept && (disliked_users || refused_any);
            assert!(
                names.is_empty() || may_keep || kind == RDS,
                "{kind:?} {names:?} of {} should be gone",
                self.node.id
            );
        }
    }
}

/// Whether a resource is among those that a client asks for.
fn asks(names: &BTreeMap<ResourceType, BTreeSet<String>>, kind: ResourceType, name: &str) -> bool {
    names.get(&kind).map_or(kind.has_wildcard(), |names| names.contains(name))
}

fn has_endpoints(cluster: &Resource) -> bool {
    let cluster = Cluster::decode(cluster.body.clone()).expect("a cluster");
    cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()))
}

/// A proxy refuses routes in which a domain is there twice, whatever its case.
fn each_domain_once(routes: &Resource) {
    let decoded = RouteConfiguration::decode(routes.body.clone()).expect("routes");
    let mut seen = BTreeSet::new();
    for domain in decoded.virtual_hosts.iter().flat_map(|h| &h.domains) {
        assert!(seen.insert(domain.to_ascii_lowercase()), "{domain} is twice in {}", routes.name);
    }
}

/// The routes that a listener asks for.
fn routes(listener: &Resource) -> Vec<String> {
    let listener = Listener::decode(listener.body.clone()).expect("a listener");
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let managers = chains.flat_map(|c| &c.filters).filter_map(|f| match &f.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with("HttpConnectionManager") => {
            HttpConnectionManager::decode(any.value.clone()).ok()
        }
        _ => None,
    });
    let names = managers.filter_map(|m| match m.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
        _ => None,
    });
    names.collect()
}

/// Everything of a configuration, comparable: what there is, what it comes from, and what is wrong.
fn everything(config: &Config) -> (Vec<String>, Vec<String>) {
    let all = ResourceType::ALL.into_iter().flat_map(|kind| config.all(kind));
    let mut resources: Vec<_> =
        all.map(|r| format!("{} {} {} {:?}", r.kind.short(), r.name, r.version_text(), r.origins())).collect();
    let mut problems: Vec<_> = config.problems().map(ToString::to_string).collect();
    resources.sort();
    problems.sort();
    problems.dedup();
    (resources, problems)
}

fn run(steps: Vec<Step>, tempers: [Temper; 5]) {
    let engine = Engine::new(Arc::new(Metrics::default()));
    let mut snapshot = Arc::new(Snapshot::default());
    let nodes = [
        (Variant::Delta, "p0", "a"),
        (Variant::Sotw, "p0", "b"),
        (Variant::Delta, "p1", "a"),
        (Variant::Sotw, "p2", NAMESPACES[2]),
        (Variant::Delta, "p3", "a"),
    ];
    let mut proxies: Vec<_> = std::iter::zip(nodes, tempers)
        .map(|((variant, pod, namespace), temper)| {
            Proxy::new(world::node(pod, namespace), variant, temper, &engine, &snapshot)
        })
        .collect();
    for step in steps {
        match step {
            Step::Change(ops) => snapshot = Arc::new(snapshot.apply(ops.iter().map(Op::change))),
            Step::Advance(i) => proxies[usize::from(i) % 5].advance(&engine, &snapshot),
            Step::Take(i) => drop(proxies[usize::from(i) % 5].take()),
            Step::Reconnect(i) => proxies[usize::from(i) % 5].connect(),
            Step::Overdue(i) => {
                let proxy = &mut proxies[usize::from(i) % 5];
                if proxy.stream.is_waiting() {
                    let responses = proxy.stream.on_overdue();
                    proxy.receive(responses);
                }
            }
            Step::Push(i) => {
                let proxy = &mut proxies[usize::from(i) % 5];
                proxy.forced = true;
                let responses = proxy.stream.push_all();
                proxy.receive(responses);
            }
        }
    }
    for proxy in &mut proxies {
        proxy.advance(&engine, &snapshot);
        let full = Config::of(&snapshot, &proxy.node, &Direct);
        assert_eq!(everything(proxy.lease.config()), everything(&full), "the parts of {}", proxy.node.id);
        full.all(RDS).for_each(|routes| each_domain_once(routes));
        let mut turns = 0;
        while proxy.take() {
            turns += 1;
            assert!(turns < 5000, "it never ends");
        }
        assert!(!proxy.stream.is_waiting(), "nothing is left to wait for");
        proxy.check(&full);
    }
    let leases: Vec<_> = proxies.iter().map(|p| &p.lease).collect();
    assert!(engine.parts() <= leases.len() * crate::translate::PartKind::ALL.len(), "what nobody holds is forgotten");
}

fn cases(number: u32) -> ProptestConfig {
    // `PROPTEST_CASES` asks for more, as a nightly run may.
    let number = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(number);
    ProptestConfig { cases: number, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn what_a_stream_has_equals_a_full_recompute_and_nothing_is_sent_twice(steps in vec(step(), 1..60)) {
        run(steps, [Temper::Takes; 5]);
    }

    #[test]
    fn proxies_that_refuse_some_get_all_the_rest(steps in vec(step(), 1..40)) {
        run(steps, [Temper::Names, Temper::Names, Temper::Grumbles, Temper::Grumbles, Temper::Takes]);
    }

    #[test]
    fn the_same_objects_give_the_same_bytes_in_any_order(
        ops in vec(op(), 1..30),
        seed in any::<u64>(),
        batch in 1usize..5,
    ) {
        // One version of each object: the last.
        let last: BTreeMap<_, _> = ops.iter().filter(|o| !o.gone).map(|o| (o.object(), o)).collect();
        let mut shuffled: Vec<_> = last.values().collect();
        shuffled.sort_by_key(|op| crate::id::fingerprint(&(seed, op.object())));
        let at_once = Snapshot::default().apply(last.values().map(|o| o.change()));
        let in_turn = shuffled.chunks(batch).fold(Snapshot::default(), |s, ops| s.apply(ops.iter().map(|o| o.change())));
        for (pod, namespace) in [("p0", "a"), ("p1", "b"), ("p2", "a"), ("p3", "istio-system"), ("p9", "istio-system")] {
            let node = world::node(pod, namespace);
            let of = |s: &Snapshot| everything(&Config::of(s, &node, &Direct));
            prop_assert_eq!(of(&at_once), of(&in_turn));
        }
    }
}
