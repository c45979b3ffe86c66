//! After any sequence of changes, what an incremental stream has equals a full recompute.

use super::world::{self, NAMESPACES, Op, op};
use crate::{
    id::{Host, ResourceType},
    model::{Node, Object, State, VirtualService},
    pb::envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            endpoint::v3::ClusterLoadAssignment,
            listener::v3::{Listener, filter::ConfigType},
            route::v3::{RouteConfiguration, VirtualHost, route::Action, route_action::ClusterSpecifier},
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        },
    },
    snapshot::Snapshot,
    translate::{Asked, Config, Direct, Resource},
    xds::{
        Engine, Lease, Metrics,
        stream::{Names, Request, Response, Stream, Variant},
    },
};
use ResourceType::{Cluster as CDS, Endpoints as EDS, Listener as LDS, Route as RDS, VirtualHost as VHDS};
use proptest::{collection::vec, prelude::*};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// What the property is about: these are what a sidecar subscribes to.
const KINDS: [ResourceType; 5] = [CDS, EDS, LDS, RDS, VHDS];

/// One thing that happens; the first number chooses the proxy.
#[derive(Clone, Debug)]
enum Step {
    /// The world changes at once in all of these ways.
    Change(Vec<Op>),
    /// A proxy's stream is brought to the newest snapshot.
    Advance(u8),
    /// All slots are brought to the newest snapshot, and the streams that this wakes are brought there.
    Follow,
    /// A proxy takes the next response, or none if there is none.
    Take(u8),
    /// A proxy loses its stream and comes back.
    Reconnect(u8),
    /// A proxy has been waited for long enough.
    Overdue(u8),
    /// Someone forces a push to a proxy.
    Push(u8),
    /// A workload asks its proxy, where that holds only what it has used, for an authority.
    Want(u8, u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => vec(op(), 1..4).prop_map(Step::Change),
        3 => any::<u8>().prop_map(Step::Advance),
        3 => Just(Step::Follow),
        6 => any::<u8>().prop_map(Step::Take),
        1 => any::<u8>().prop_map(Step::Reconnect),
        1 => any::<u8>().prop_map(Step::Overdue),
        1 => any::<u8>().prop_map(Step::Push),
        2 => any::<(u8, u8)>().prop_map(|(routes, authority)| Step::Want(routes, authority)),
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
    /// It has asked for virtual hosts on this stream.
    asked_for_hosts: bool,
    /// The routes of whose virtual hosts it was told something since it has them: until then it waits.
    told: BTreeSet<String>,
    /// What it fetched because it was used.
    fetched: BTreeMap<ResourceType, BTreeSet<String>>,
}

impl Proxy {
    fn new(node: Node, variant: Variant, temper: Temper, engine: &Engine, snapshot: &Arc<Snapshot>) -> Self {
        let node = Arc::new(node);
        let mut lease = Lease::new(node.clone());
        engine.seat(&lease);
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
            asked_for_hosts: false,
            told: BTreeSet::new(),
            fetched: BTreeMap::new(),
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
        self.asked_for_hosts = false;
        if self.node.settings.on_demand {
            // What it comes back with, it has asked for.
            for kind in [CDS, VHDS] {
                let held = self.held[&kind].keys().map(ToString::to_string);
                self.fetched
                    .entry(kind)
                    .or_default()
                    .extend(held.filter(|n| kind == VHDS || n.starts_with("outbound|")));
            }
        }
        for kind in KINDS {
            let names: Vec<_> = self.names.get(&kind).into_iter().flatten().cloned().collect();
            if kind == VHDS {
                self.ask_for_hosts();
                continue;
            }
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
                    let fetched = self.fetched.get(&kind).into_iter().flatten();
                    let all = (kind == CDS && self.node.settings.on_demand).then(|| "*".to_owned());
                    let subscribe = all.into_iter().chain(names).chain(fetched.cloned()).collect();
                    Names::Changes { subscribe, unsubscribe: Vec::new(), versions }
                }
            };
            self.say(kind, String::new(), None, names);
        }
    }

    /// Asks for virtual hosts as soon as it has routes that need them, once on a stream and naming none.
    fn ask_for_hosts(&mut self) {
        let needs = self.held[&RDS].values().any(|routes| needs_hosts(routes));
        if needs && !std::mem::replace(&mut self.asked_for_hosts, true) {
            let held = self.held[&VHDS].values();
            let versions = held.map(|r| (r.name.to_string(), r.version_text())).collect();
            let subscribe = self.fetched.get(&VHDS).into_iter().flatten().cloned().collect();
            let names = Names::Changes { subscribe, unsubscribe: Vec::new(), versions };
            self.say(VHDS, String::new(), None, names);
        }
    }

    /// Fetches the virtual host of an authority, where it has none.
    fn want(&mut self, routes: u8, authority: u8) {
        let waiting: Vec<_> = self.held[&RDS].values().filter(|r| needs_hosts(r)).map(|r| r.name.clone()).collect();
        if !self.node.settings.on_demand || waiting.is_empty() || !self.asked_for_hosts {
            return;
        }
        let pick = |of: &[&str], by: u8| of[usize::from(by) % of.len()].to_owned();
        let root = &waiting[usize::from(routes) % waiting.len()];
        let name = format!("{root}/{}", pick(&world::AUTHORITIES, authority));
        self.fetch(VHDS, vec![name]);
    }

    /// Subscribes to what it lacks and has not asked for.
    fn fetch(&mut self, kind: ResourceType, names: Vec<String>) {
        let asked = self.fetched.entry(kind).or_default();
        let held = &self.held[&kind];
        let lacking = |name: &String| !held.contains_key(name.as_str()) && asked.insert(name.clone());
        let subscribe: Vec<String> = names.into_iter().filter(lacking).collect();
        if !subscribe.is_empty() {
            // It may have been under way unasked.
            self.may_repeat.entry(kind).or_default().extend(subscribe.iter().map(|name| Arc::from(name.as_str())));
            self.say(kind, String::new(), None, Names::Changes { subscribe, unsubscribe: vec![], versions: [].into() });
        }
    }

    /// What it has asked for by name.
    fn asked(&self) -> Asked {
        let mut asked = Asked::default();
        for kind in [CDS, VHDS] {
            asked.add(kind, self.fetched.get(&kind).into_iter().flatten().map(String::as_str));
        }
        asked
    }

    /// The virtual hosts of routes that it no longer has are gone.
    fn drop_hosts(&mut self) {
        let roots: BTreeSet<String> = self.held[&RDS].keys().map(ToString::to_string).collect();
        let hosts = self.held.get_mut(&VHDS).expect("a type");
        hosts.retain(|name, _| roots.contains(root(name)));
        self.told.retain(|root| roots.contains(root));
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

    /// Is brought to a snapshot if following woke it; otherwise there must be nothing new for it.
    fn heed(&mut self, engine: &Engine, snapshot: &Arc<Snapshot>) {
        match self.lease.was_woken() {
            true => self.advance(engine, snapshot),
            false => {
                let full = Config::of(snapshot, &self.node, &Direct);
                assert_eq!(everything(self.lease.config()), everything(&full), "{} was not woken", self.node.id);
            }
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
        let roots: BTreeSet<String> = self.held[&RDS].keys().map(ToString::to_string).collect();
        let next = self.held.get_mut(&kind).expect("a type that it subscribed to");
        if self.variant == Variant::Sotw && kind.has_wildcard() {
            next.clear();
        }
        // What it no longer asks for by the time that it comes is of no use to it.
        for resource in response.resources.iter().filter(|r| match kind {
            VHDS => roots.contains(root(&r.name)),
            _ => asks(&self.names, kind, &r.name),
        }) {
            next.insert(resource.name.clone(), resource.clone());
        }
        for name in &response.removed {
            next.remove(name);
        }
        match kind {
            RDS => {
                self.drop_hosts();
                self.ask_for_hosts();
            }
            VHDS => {
                let names = response.resources.iter().map(|r| &*r.name).chain(response.removed.iter().map(|n| &**n));
                self.told
                    .extend(names.map(|name| root(name).to_owned()).filter(|r| self.held[&RDS].contains_key(&**r)));
            }
            _ => {}
        }
        if kind == CDS {
            // A cluster that it is sent warms until it has endpoints.
            let sent = response.resources.iter().filter(|r| held.get(&r.name) != Some(*r)).map(|r| r.name.clone());
            self.may_repeat.entry(EDS).or_default().extend(sent);
        }
        self.may_repeat.entry(kind).or_default().retain(|n| response.resources.iter().all(|r| r.name != *n));
        self.versions.insert(kind, response.version.clone());
        self.follow(kind);
        if kind == VHDS && self.node.settings.on_demand {
            let used = self.held[&VHDS].values().flat_map(|host| clusters(&decoded_host(host))).collect();
            self.fetch(CDS, used);
        }
        self.answer(kind, response.nonce, None);
        true
    }

    /// Takes all that there is to take.
    fn settle(&mut self) {
        let turns = (0..5000).take_while(|_| self.take()).count();
        assert!(turns < 5000, "it never ends");
    }

    fn asks(&self, kind: ResourceType, name: &str) -> bool {
        match kind {
            VHDS => self.held[&RDS].contains_key(root(name)),
            _ => asks(&self.names, kind, name),
        }
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
        // What it no longer asks for may still have been under way.
        let asks = |root: &str| self.names.get(&RDS).is_some_and(|names| names.contains(root));
        let lost = |r: &&Arc<Resource>| {
            let root = root(&r.name);
            kind == VHDS && asks(root) && !self.held[&RDS].contains_key(root)
        };
        assert!(response.resources.iter().find(lost).is_none(), "a virtual host came before its routes");
        for resource in response.resources.iter() {
            let repeated = held.get(&resource.name) == Some(resource) && !may_repeat.contains(&resource.name);
            // That there is nothing says the same as what has nothing in it.
            let repeated = repeated && !(self.variant == Variant::Sotw && kind == EDS && is_empty(resource));
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
        self.drop_hosts();
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

    /// Whether a request for each authority that it asked for is treated as with routes that hold everything.
    fn check_hosts(&self, snapshot: &Snapshot) {
        let whole = Config::of(snapshot, &Node { virtual_hosts: false, ..Node::clone(&self.node) }, &Direct);
        for name in self.fetched.get(&VHDS).into_iter().flatten() {
            let routes = self.held[&RDS].get(root(name)).filter(|routes| needs_hosts(routes));
            assert!(routes.is_none() || self.held[&VHDS].contains_key(&**name), "{name} was not answered");
        }
        for host in self.held[&VHDS].values() {
            let (root, authority) = host.name.rsplit_once('/').expect("a name with a slash");
            let routes = whole.get(RDS, root).expect("the same routes, whole");
            let routes = RouteConfiguration::decode(routes.body.clone()).expect("routes");
            let own = decoded_host(host);
            assert_eq!((&*own.name, &own.domains[..]), (&*host.name, &[authority.to_ascii_lowercase()][..]));
            let best = best_match(&routes, authority).expect("there is one for all the rest");
            assert_eq!(own.routes, best.routes, "requests for {authority}");
        }
    }

    /// Whether what it has is what a full recompute says.
    fn check(&self, full: &Config) {
        let mut refused_any = false;
        let waits = |routes: &&Arc<Resource>| needs_hosts(routes) && !self.told.contains(&*routes.name);
        let waiting = self.held[&RDS].values().find(waits).map(|r| &r.name);
        assert!(
            waiting.is_none() || self.temper != Temper::Takes,
            "{} waits for the hosts of {waiting:?}",
            self.node.id
        );
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
            let disliked_users = [LDS, RDS, VHDS].iter().any(|k| full.all(*k).any(|r| self.dislikes(r)));
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

fn decoded_host(host: &Resource) -> VirtualHost {
    VirtualHost::decode(host.body.clone()).expect("a virtual host")
}

/// The clusters that a virtual host's requests go to; copies go elsewhere.
fn clusters(host: &VirtualHost) -> Vec<String> {
    let actions = host.routes.iter().filter_map(|route| match &route.action {
        Some(Action::Route(action)) => action.cluster_specifier.clone(),
        _ => None,
    });
    let names = actions.flat_map(|to| match to {
        ClusterSpecifier::Cluster(name) => vec![name],
        ClusterSpecifier::WeightedClusters(all) => all.clusters.into_iter().map(|c| c.name).collect(),
        _ => Vec::new(),
    });
    names.filter(|name| name.starts_with("outbound|")).collect()
}

/// The virtual host that Envoy chooses: exactly the host, else the longest suffix, else the one for everything.
fn best_match<'a>(routes: &'a RouteConfiguration, authority: &str) -> Option<&'a VirtualHost> {
    let lower = authority.to_ascii_lowercase();
    let host = lower.strip_suffix(":80").or(lower.strip_suffix(":8080")).unwrap_or(&lower);
    let fit = |domain: &str| match domain.to_ascii_lowercase().strip_prefix('*') {
        Some(suffix) => (host.ends_with(suffix) && host.len() > suffix.len()).then_some(suffix.len()),
        None => (domain.eq_ignore_ascii_case(host)).then_some(usize::MAX),
    };
    let of = |host: &VirtualHost| host.domains.iter().filter_map(|d| fit(d)).max();
    routes.virtual_hosts.iter().filter_map(|host| Some((of(host)?, host))).max_by_key(|(fit, _)| *fit).map(|(_, h)| h)
}

fn has_endpoints(cluster: &Resource) -> bool {
    let cluster = Cluster::decode(cluster.body.clone()).expect("a cluster");
    cluster.cluster_discovery_type == Some(ClusterDiscoveryType::Type(DiscoveryType::Eds.into()))
}

fn is_empty(endpoints: &Resource) -> bool {
    ClusterLoadAssignment::decode(endpoints.body.clone()).expect("endpoints").endpoints.is_empty()
}

/// The routes that a virtual host is of.
fn root(host: &str) -> &str {
    host.rsplit_once('/').map_or("", |(root, _)| root)
}

fn needs_hosts(routes: &Resource) -> bool {
    RouteConfiguration::decode(routes.body.clone()).expect("routes").vhds.is_some()
}

/// A proxy refuses routes in which a domain is there twice, whatever its case; `full` has virtual hosts of their own.
fn each_domain_once(routes: &Resource, full: &Config) {
    let mut decoded = RouteConfiguration::decode(routes.body.clone()).expect("routes");
    let of_these = full.all(VHDS).filter(|host| root(&host.name) == &*routes.name);
    for host in of_these {
        let decoded_host = VirtualHost::decode(host.body.clone()).expect("a virtual host");
        assert_eq!(decoded_host.name, *host.name, "Envoy takes a host away by this name");
        decoded.virtual_hosts.push(decoded_host);
    }
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
    let all = ResourceType::ALL.into_iter().flat_map(|kind| config.all(kind).chain(config.reserved(kind)));
    let mut resources: Vec<_> =
        all.map(|r| format!("{} {} {} {:?}", r.kind.short(), r.name, r.version_text(), r.origins())).collect();
    let mut problems: Vec<_> = config.problems().map(ToString::to_string).collect();
    resources.sort();
    problems.sort();
    problems.dedup();
    (resources, problems)
}

fn run(steps: Vec<Step>, tempers: [Temper; 6]) {
    let engine = Engine::new(Arc::new(Metrics::default()));
    let mut snapshot = Arc::new(Snapshot::default());
    let nodes = [
        (Variant::Delta, "p0", "a"),
        (Variant::Sotw, "p0", "b"),
        (Variant::Delta, "p1", "a"),
        (Variant::Sotw, "p2", NAMESPACES[2]),
        (Variant::Delta, "p3", "a"),
        (Variant::Delta, "p0", NAMESPACES[2]),
    ];
    let mut proxies: Vec<_> = std::iter::zip(nodes, tempers)
        .map(|((variant, pod, namespace), temper)| {
            // Most of those that take differences take virtual hosts by themselves.
            let virtual_hosts = variant == Variant::Delta && pod != "p1";
            let mut node = Node { virtual_hosts, ..world::node(pod, namespace) };
            // The last one holds only what it has used.
            node.settings.on_demand = (pod, namespace) == ("p0", NAMESPACES[2]);
            Proxy::new(node, variant, temper, &engine, &snapshot)
        })
        .collect();
    let mut followed = snapshot.clone();
    for step in steps {
        match step {
            Step::Follow => {
                engine.follow(&followed, &snapshot);
                followed = snapshot.clone();
                proxies.iter_mut().for_each(|proxy| proxy.heed(&engine, &snapshot));
            }
            Step::Change(ops) => snapshot = Arc::new(snapshot.apply(ops.iter().map(Op::change))),
            Step::Advance(i) => proxies[usize::from(i) % 6].advance(&engine, &snapshot),
            Step::Take(i) => drop(proxies[usize::from(i) % 6].take()),
            Step::Reconnect(i) => proxies[usize::from(i) % 6].connect(),
            Step::Overdue(i) => {
                let proxy = &mut proxies[usize::from(i) % 6];
                if proxy.stream.is_waiting() {
                    let responses = proxy.stream.on_overdue();
                    proxy.receive(responses);
                }
            }
            Step::Want(routes, authority) => proxies[5].want(routes, authority),
            Step::Push(i) => {
                let proxy = &mut proxies[usize::from(i) % 6];
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
        full.all(RDS).for_each(|routes| each_domain_once(routes, &full));
        proxy.settle();
        // All that a workload may ask for, which few get to while the world changes.
        for (routes, authority) in (0..4).flat_map(|routes| (0..10).map(move |authority| (routes, authority))) {
            proxy.want(routes, authority);
        }
        proxy.settle();
        assert!(!proxy.stream.is_waiting(), "nothing is left to wait for");
        let full = if full.is_on_demand() { full.answering(&proxy.asked(), &Direct) } else { full };
        proxy.check(&full);
        if proxy.node.settings.on_demand && proxy.temper == Temper::Takes {
            proxy.check_hosts(&snapshot);
        }
    }
    assert!(engine.parts() <= proxies.len() * crate::translate::PartKind::ALL.len(), "what nobody holds is forgotten");
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
        run(steps, [Temper::Takes; 6]);
    }

    #[test]
    fn proxies_that_refuse_some_get_all_the_rest(steps in vec(step(), 1..40)) {
        let tempers =
            [Temper::Names, Temper::Names, Temper::Grumbles, Temper::Grumbles, Temper::Takes, Temper::Names];
        run(steps, tempers);
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

    #[test]
    fn a_change_of_one_rule_leaves_the_routes_of_other_hosts_alike(ops in vec(op(), 1..30), change in op()) {
        let change = Op { kind: world::VIRTUAL_SERVICE, ..change };
        let earlier = ops.iter().rfind(|op| op.object() == change.object());
        let mut rules: Vec<VirtualService> = earlier.into_iter().chain([&change]).filter_map(rule_of).collect();
        // What others delegate to is for their hosts.
        prop_assume!(rules.iter().all(|rule| !rule.hosts.is_empty()));
        // A rule is at the ports of the services that it has, of which this one may take some: Istio has it so.
        let of_change: Vec<Host> = rules.iter().flat_map(|rule| rule.hosts.clone()).collect();
        let meets = |rule: &VirtualService| rule.hosts.iter().any(|h| of_change.iter().any(|c| h.overlaps(c)));
        rules.extend(ops.iter().filter_map(rule_of).filter(meets));
        let before = Snapshot::default().apply(ops.iter().map(Op::change));
        let after = before.apply([change.change()]);
        for (pod, namespace) in [("p0", "a"), ("p1", "b"), ("p2", NAMESPACES[2])] {
            let node = Node { virtual_hosts: true, ..world::node(pod, namespace) };
            let [before, after] = [&before, &after].map(|s| hosts(&Config::of(s, &node, &Direct)));
            let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
            let differing = names.into_iter().filter(|name| before.get(*name) != after.get(*name));
            let (own, others): (Vec<_>, Vec<_>) =
                differing.partition(|name| rules.iter().flat_map(|r| &r.hosts).any(|h| h.overlaps(&host_of(name))));
            let domains = |name: &Arc<str>| {
                let of = [&before, &after].into_iter().filter_map(|hosts| hosts.get(name));
                of.flat_map(|host| &host.domains).map(|d| d.to_ascii_lowercase()).collect::<BTreeSet<_>>()
            };
            let claimed: BTreeSet<String> = own.into_iter().flat_map(domains).collect();
            for other in others {
                prop_assert!(!claimed.is_disjoint(&domains(other)), "{other} differs though {change:?} is not for it");
            }
        }
    }
}

/// The rule that an operation makes, where it makes one.
fn rule_of(op: &Op) -> Option<VirtualService> {
    match op.change().state {
        State::Is(object) => match *object {
            Object::VirtualService(rule) => Some(rule),
            _ => None,
        },
        _ => None,
    }
}

/// The virtual hosts that come by themselves.
fn hosts(config: &Config) -> BTreeMap<Arc<str>, VirtualHost> {
    let decode = |r: &Arc<Resource>| VirtualHost::decode(r.body.clone()).expect("a virtual host");
    config.all(VHDS).map(|r| (r.name.clone(), decode(r))).collect()
}

/// The host in `PORT/HOST:PORT`.
fn host_of(name: &str) -> Host {
    let own = name.rsplit_once('/').map_or(name, |(_, own)| own);
    own.rsplit_once(':').map_or(own, |(host, _)| host).into()
}
