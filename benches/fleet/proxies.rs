//! Proxies that subscribe as Envoy does, over real connections: clusters first, then their endpoints, listeners once
//! the clusters are warm, and the routes that the listeners name. They keep what they are served as fingerprints.

use crate::mark::Mark;
use mainsheet::{
    id::{ResourceType, fingerprint_bytes},
    pb::envoy::{
        config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            core::v3::Node,
            listener::v3::{Listener, filter::ConfigType},
            route::v3::RouteConfiguration,
        },
        extensions::filters::network::http_connection_manager::v3::{
            HttpConnectionManager, http_connection_manager::RouteSpecifier,
        },
        service::discovery::v3::{
            self as pb, DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Ads,
        },
    },
};
use prost::{Message as _, bytes::Bytes};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, metadata::AsciiMetadataValue, transport::Channel};

const KINDS: usize = ResourceType::ALL.len();
const ENVOY_HTTP: &str = "HttpConnectionManager";

/// What was received, of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Responses.
    pub(crate) messages: u64,
    /// Resources in them.
    pub(crate) resources: u64,
    /// Names said to be gone.
    pub(crate) removed: u64,
    /// Bytes of the responses.
    pub(crate) bytes: u64,
}

/// What the proxies of a run have in common.
#[derive(Debug)]
pub(crate) struct Shared {
    received: [[AtomicU64; 4]; KINDS],
    mark: Mutex<Option<Arc<Mark>>>,
    started: Instant,
    last: AtomicU64,
    failures: Mutex<BTreeMap<String, u64>>,
    ready: AtomicUsize,
    /// The names of endpoints or routes that a resource asks for, by its fingerprint.
    asks: Mutex<HashMap<u64, Arc<[Arc<str>]>>>,
    /// Texts that many proxies keep, once.
    texts: Mutex<HashSet<Arc<str>>>,
    /// What the first proxy is sent, while it is to be recorded.
    recorded: Mutex<Option<Vec<Bytes>>>,
}

impl Shared {
    /// Nothing received yet.
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            received: std::array::from_fn(|_| std::array::from_fn(|_| AtomicU64::default())),
            mark: Mutex::default(),
            started: Instant::now(),
            last: AtomicU64::default(),
            failures: Mutex::default(),
            ready: AtomicUsize::default(),
            asks: Mutex::default(),
            texts: Mutex::default(),
            recorded: Mutex::default(),
        })
    }

    /// What was received since the last time, by type; types without any are left out.
    pub(crate) fn take(&self) -> BTreeMap<&'static str, Received> {
        let all = ResourceType::ALL.into_iter().zip(&self.received).map(|(kind, counts)| {
            let [messages, resources, removed, bytes] = counts.each_ref().map(|c| c.swap(0, Relaxed));
            (kind.short(), Received { messages, resources, removed, bytes })
        });
        all.filter(|(_, r)| *r != Received::default()).collect()
    }

    /// Has the proxies look for a mark, or for none.
    pub(crate) fn look_for(&self, mark: Option<Arc<Mark>>) {
        *lock(&self.mark) = mark;
    }

    /// How many proxies have all that they asked for.
    pub(crate) fn ready(&self) -> usize {
        self.ready.load(Relaxed)
    }

    /// Forgets which proxies have all, and which connections ended: all are about to connect again.
    pub(crate) fn start_again(&self) {
        self.ready.store(0, Relaxed);
        lock(&self.failures).clear();
    }

    /// Keeps from now on what the first proxy is sent.
    pub(crate) fn record(&self) {
        *lock(&self.recorded) = Some(Vec::new());
    }

    /// What the first proxy was sent.
    pub(crate) fn recorded(&self) -> Vec<Bytes> {
        lock(&self.recorded).take().unwrap_or_default()
    }

    fn text(&self, text: &str) -> Arc<str> {
        let mut texts = lock(&self.texts);
        if let Some(known) = texts.get(text) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        texts.insert(text.clone());
        text
    }

    /// Connections that ended, by what was said.
    pub(crate) fn failures(&self) -> BTreeMap<String, u64> {
        lock(&self.failures).clone()
    }

    /// Waits until nothing came for so long, or for `at_most`.
    pub(crate) async fn quiet(&self, quiet: Duration, at_most: Duration) {
        let end = Instant::now() + at_most;
        loop {
            let last = self.started + Duration::from_nanos(self.last.load(Relaxed));
            if last.elapsed() >= quiet || Instant::now() > end {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn count(&self, kind: ResourceType, resources: usize, removed: usize, bytes: usize) {
        let all = [1, resources, removed, bytes];
        for (counter, by) in self.received[kind as usize].iter().zip(all) {
            counter.fetch_add(by as u64, Relaxed);
        }
        self.last.store(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX), Relaxed);
    }

    fn asks(&self, kind: ResourceType, print: u64, body: &Bytes) -> Arc<[Arc<str>]> {
        if let Some(known) = lock(&self.asks).get(&print) {
            return known.clone();
        }
        let names: Arc<[Arc<str>]> = match kind {
            ResourceType::Cluster => endpoints_of(body).into_iter().collect(),
            ResourceType::Route => needs_hosts(body).into_iter().collect(),
            _ => routes_of(body).into_iter().collect(),
        };
        lock(&self.asks).insert(print, names.clone());
        names
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name by which a cluster's endpoints are asked for, where they are.
fn endpoints_of(body: &Bytes) -> Option<Arc<str>> {
    let cluster = Cluster::decode(body.clone()).ok()?;
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    let named = cluster.eds_cluster_config.map(|c| c.service_name).filter(|n| !n.is_empty());
    (cluster.cluster_discovery_type == Some(eds)).then(|| named.unwrap_or(cluster.name).into())
}

/// The name of routes whose virtual hosts come by themselves.
fn needs_hosts(body: &Bytes) -> Option<Arc<str>> {
    let routes = RouteConfiguration::decode(body.clone()).ok()?;
    routes.vhds.is_some().then(|| routes.name.into())
}

/// The names of the route configurations that a listener asks for.
fn routes_of(body: &Bytes) -> BTreeSet<Arc<str>> {
    let Ok(listener) = Listener::decode(body.clone()) else { return BTreeSet::new() };
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let managers = chains.flat_map(|c| &c.filters).filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with(ENVOY_HTTP) => {
            HttpConnectionManager::decode(any.value.clone()).ok()
        }
        _ => None,
    });
    let names = managers.filter_map(|m| match m.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name.into()),
        _ => None,
    });
    names.collect()
}

/// How a proxy reaches the control plane.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    /// Where it is.
    pub(crate) endpoint: tonic::transport::Endpoint,
    /// Whether resources come as differences.
    pub(crate) delta: bool,
    /// What is shown for who it is.
    pub(crate) token: Option<AsciiMetadataValue>,
    /// How long each response is left lying.
    pub(crate) pause: Duration,
}

/// One proxy.
#[derive(Debug)]
pub(crate) struct Proxy {
    at: usize,
    node: Node,
    way: Way,
    shared: Arc<Shared>,
    held: Arc<Mutex<Held>>,
}

/// What a proxy holds: the fingerprint of each resource, and its version where it came with one.
pub(crate) type Held = [HashMap<Arc<str>, (u64, Arc<str>)>; KINDS];

/// A response of either variant: type, nonce, version, resources with name, version and body, and names that are gone.
struct Response {
    kind: ResourceType,
    nonce: String,
    version: String,
    resources: Vec<(Arc<str>, Arc<str>, Bytes)>,
    removed: Vec<String>,
    bytes: usize,
}

/// A request of either variant.
#[derive(Default)]
struct Asked {
    kind: Option<ResourceType>,
    nonce: String,
    version: String,
    /// All names, of which these are new and those no longer wanted.
    names: Vec<String>,
    new: Vec<String>,
    old: Vec<String>,
    /// What it has from before, with versions.
    had: BTreeMap<String, String>,
}

/// What a stream knows of a type.
#[derive(Default)]
struct Standing {
    asked: bool,
    answered: bool,
    wanted: BTreeSet<Arc<str>>,
    pending: HashSet<Arc<str>>,
    nonce: String,
    version: String,
}

impl Proxy {
    /// The `at`-th proxy of a fleet.
    pub(crate) fn new(at: usize, node: Node, way: Way, shared: Arc<Shared>) -> Self {
        Self { at, node, way, shared, held: Arc::default() }
    }

    /// Where it keeps what it holds.
    pub(crate) fn held(&self) -> Arc<Mutex<Held>> {
        self.held.clone()
    }

    /// Connects and follows; connects again after a failure as Envoy does (half a second at first, thirty at most, with
    /// jitter).
    pub(crate) async fn run(self) {
        let mut tries = 0u32;
        loop {
            let error = match self.stream(&mut false).await {
                Ok(()) => "the stream ended".to_owned(),
                Err(status) => format!("{:?}: {}", status.code(), status.message()),
            };
            *lock(&self.shared.failures).entry(error).or_default() += 1;
            let most = Duration::from_millis(500 << tries.min(6)).min(Duration::from_secs(30));
            // The jitter follows from the proxy and the try, so that a run can be repeated.
            let part = fingerprint_bytes(format!("{} {tries}", self.at).as_bytes()) % 1000;
            tokio::time::sleep(most.mul_f64(part as f64 / 1000.0)).await;
            tries += 1;
        }
    }

    async fn stream(&self, was_ready: &mut bool) -> Result<(), Status> {
        let channel = self.way.endpoint.connect().await.map_err(|e| Status::unavailable(e.to_string()))?;
        let ads = Ads::new(channel).max_decoding_message_size(usize::MAX);
        match self.way.delta {
            true => self.delta(ads, was_ready).await,
            false => self.whole(ads, was_ready).await,
        }
    }

    async fn delta(&self, mut ads: Ads<Channel>, was_ready: &mut bool) -> Result<(), Status> {
        let (sender, requests) = mpsc::channel(64);
        let mut first = Some(self.node.clone());
        let mut say = |asked: Asked| DeltaDiscoveryRequest {
            node: first.take(),
            type_url: asked.kind.map(ResourceType::type_url).unwrap_or_default().to_owned(),
            resource_names_subscribe: asked.new,
            resource_names_unsubscribe: asked.old,
            initial_resource_versions: asked.had,
            response_nonce: asked.nonce,
            ..Default::default()
        };
        let mut conversation = Conversation::new(self);
        for asked in conversation.open(true) {
            send(&sender, say(asked)).await;
        }
        let mut responses =
            ads.delta_aggregated_resources(self.request(ReceiverStream::new(requests))).await?.into_inner();
        conversation.tell(was_ready);
        while let Some(response) = responses.message().await? {
            tokio::time::sleep(self.way.pause).await;
            if let Some(recorded) = lock(&self.shared.recorded).as_mut().filter(|_| self.at == 0) {
                recorded.push(response.encode_to_vec().into());
            }
            let bytes = response.encoded_len();
            let Some(response) = of_delta(response, bytes, &self.shared) else { continue };
            for asked in conversation.take(response, true) {
                send(&sender, say(asked)).await;
            }
            conversation.tell(was_ready);
        }
        Ok(())
    }

    async fn whole(&self, mut ads: Ads<Channel>, was_ready: &mut bool) -> Result<(), Status> {
        let (sender, requests) = mpsc::channel(64);
        let mut first = Some(self.node.clone());
        let mut say = |asked: Asked| DiscoveryRequest {
            node: first.take(),
            type_url: asked.kind.map(ResourceType::type_url).unwrap_or_default().to_owned(),
            resource_names: asked.names,
            version_info: asked.version,
            response_nonce: asked.nonce,
            ..Default::default()
        };
        let mut conversation = Conversation::new(self);
        for asked in conversation.open(false) {
            send(&sender, say(asked)).await;
        }
        let mut responses =
            ads.stream_aggregated_resources(self.request(ReceiverStream::new(requests))).await?.into_inner();
        while let Some(response) = responses.message().await? {
            tokio::time::sleep(self.way.pause).await;
            let bytes = response.encoded_len();
            let Some(response) = of_whole(response, bytes) else { continue };
            for asked in conversation.take(response, false) {
                send(&sender, say(asked)).await;
            }
            conversation.tell(was_ready);
        }
        Ok(())
    }

    fn request<T>(&self, requests: T) -> Request<T> {
        let mut request = Request::new(requests);
        if let Some(token) = &self.way.token {
            request.metadata_mut().insert("authorization", token.clone());
        }
        request
    }
}

/// A closed stream shows itself when the next response is read.
async fn send<T>(to: &mpsc::Sender<T>, request: T) {
    let _ = to.send(request).await;
}

fn of_delta(response: DeltaDiscoveryResponse, bytes: usize, shared: &Shared) -> Option<Response> {
    let resource = |r: pb::Resource| Some((shared.text(&r.name), shared.text(&r.version), r.resource?.value));
    Some(Response {
        kind: ResourceType::of_url(&response.type_url)?,
        nonce: response.nonce,
        version: response.system_version_info,
        resources: response.resources.into_iter().filter_map(resource).collect(),
        removed: response.removed_resources,
        bytes,
    })
}

fn of_whole(response: DiscoveryResponse, bytes: usize) -> Option<Response> {
    let kind = ResourceType::of_url(&response.type_url)?;
    let resources = response.resources.into_iter().filter_map(|any| Some((named(&any.value)?, "".into(), any.value)));
    Some(Response {
        kind,
        nonce: response.nonce,
        version: response.version_info,
        resources: resources.collect(),
        removed: Vec::new(),
        bytes,
    })
}

/// The name of a resource, which is the first field of each type.
fn named(body: &Bytes) -> Option<Arc<str>> {
    #[derive(Clone, PartialEq, Eq, prost::Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    Named::decode(body.clone()).ok().map(|n| n.name.into())
}

/// One stream, as its client sees it.
struct Conversation<'a> {
    proxy: &'a Proxy,
    standing: [Standing; KINDS],
}

impl<'a> Conversation<'a> {
    fn new(proxy: &'a Proxy) -> Self {
        Self { proxy, standing: Default::default() }
    }

    /// What is asked first: for clusters; or for everything that the proxy has, where it has been connected before and
    /// can say so.
    fn open(&mut self, delta: bool) -> Vec<Asked> {
        use ResourceType::{Cluster, Endpoints, Listener, Route, VirtualHost};
        let mut held = lock(&self.proxy.held);
        if !delta || held[Cluster as usize].is_empty() {
            *held = Held::default();
            self.standing[Cluster as usize].asked = true;
            return vec![Asked { kind: Some(Cluster), ..Asked::default() }];
        }
        let mut out = Vec::new();
        for kind in [Cluster, Endpoints, Listener, Route, VirtualHost] {
            let (held, standing) = (&held[kind as usize], &mut self.standing[kind as usize]);
            if held.is_empty() {
                continue;
            }
            (standing.asked, standing.answered) = (true, true);
            let named = matches!(kind, Endpoints | Route);
            standing.wanted.extend(held.keys().filter(|_| named).cloned());
            let new = standing.wanted.iter().map(ToString::to_string).collect();
            let had = held.iter().map(|(name, (_, version))| (name.to_string(), version.to_string())).collect();
            out.push(Asked { kind: Some(kind), new, had, ..Asked::default() });
        }
        out
    }

    /// Takes a response; returns what is to be said: that it was taken, and then what follows from it.
    fn take(&mut self, response: Response, delta: bool) -> Vec<Asked> {
        use ResourceType::{Cluster, Endpoints, Listener, Route, VirtualHost};
        let Response { kind, nonce, version, resources, removed, bytes } = response;
        let shared = &self.proxy.shared;
        shared.count(kind, resources.len(), removed.len(), bytes);
        let standing = &mut self.standing[kind as usize];
        standing.answered = true;
        (standing.nonce, standing.version) = (nonce.clone(), version.clone());
        let mut wanted: BTreeSet<Arc<str>> = BTreeSet::new();
        {
            let mut held = lock(&self.proxy.held);
            let held = &mut held[kind as usize];
            if !delta && kind.has_wildcard() {
                held.clear();
            }
            for (name, version, body) in &resources {
                let print = fingerprint_bytes(body);
                standing.pending.remove(name);
                if matches!(kind, Cluster | Listener | Route) {
                    wanted.extend(shared.asks(kind, print, body).iter().cloned());
                }
                held.insert(name.clone(), (print, version.clone()));
            }
            for name in &removed {
                held.remove(name.as_str());
                standing.pending.remove(name.as_str());
            }
        }
        let names = standing.wanted.iter().map(ToString::to_string).collect();
        let mut out = vec![Asked { kind: Some(kind), nonce, version, names, ..Asked::default() }];
        if let Some(mark) = lock(&shared.mark).as_ref() {
            let names: Vec<&str> = resources.iter().map(|(name, ..)| &**name).collect();
            if mark.is_in(kind, &names) {
                mark.see(self.proxy.at);
            }
        }
        match kind {
            Cluster => out.extend(self.want(Endpoints, wanted, &removed, delta)),
            Listener => out.extend(self.want(Route, wanted, &[], delta)),
            // Envoy asks once, whatever routes come after.
            Route if !wanted.is_empty() => {
                let hosts = &mut self.standing[VirtualHost as usize];
                let asked = std::mem::replace(&mut hosts.asked, true);
                let new: Vec<_> = wanted.into_iter().filter(|root| hosts.wanted.insert(root.clone())).collect();
                hosts.pending.extend(new);
                out.extend((!asked).then(|| Asked { kind: Some(VirtualHost), ..Asked::default() }));
            }
            VirtualHost => {
                let names = resources.iter().map(|(name, ..)| &**name).chain(removed.iter().map(String::as_str));
                let roots: BTreeSet<&str> = names.filter_map(|name| Some(name.rsplit_once('/')?.0)).collect();
                self.standing[VirtualHost as usize].pending.retain(|root| !roots.contains(&**root));
            }
            _ => {}
        }
        // Envoy asks for listeners only once the clusters are warm.
        let warm = self.standing[Endpoints as usize].pending.is_empty() && self.standing[Cluster as usize].answered;
        let listeners = &mut self.standing[Listener as usize];
        if warm && !std::mem::replace(&mut listeners.asked, true) {
            out.push(Asked { kind: Some(Listener), ..Asked::default() });
        }
        out
    }

    /// Subscribes to what resources ask for; `gone` are clusters that no longer do.
    fn want(&mut self, kind: ResourceType, named: BTreeSet<Arc<str>>, gone: &[String], delta: bool) -> Option<Asked> {
        let standing = &mut self.standing[kind as usize];
        let next: BTreeSet<Arc<str>> = match delta {
            // Listeners keep the names of their routes; those that no one asks for any more cost nothing.
            true => {
                standing.wanted.iter().filter(|n| !gone.iter().any(|g| **g == ***n)).cloned().chain(named).collect()
            }
            false => named,
        };
        let new: Vec<Arc<str>> = next.difference(&standing.wanted).cloned().collect();
        let old: Vec<Arc<str>> = standing.wanted.difference(&next).cloned().collect();
        if new.is_empty() && old.is_empty() {
            return None;
        }
        standing.pending.extend(new.iter().cloned());
        let mut held = lock(&self.proxy.held);
        for name in &old {
            standing.pending.remove(name);
            held[kind as usize].remove(name);
        }
        standing.wanted = next;
        let texts = |names: Vec<Arc<str>>| names.into_iter().map(|n| n.to_string()).collect();
        let first = !std::mem::replace(&mut standing.asked, true);
        Some(Asked {
            kind: Some(kind),
            // A request for other names is no answer, but names the last response all the same where names are a list.
            nonce: if delta || first { String::new() } else { standing.nonce.clone() },
            version: standing.version.clone(),
            names: standing.wanted.iter().map(ToString::to_string).collect(),
            new: texts(new),
            old: texts(old),
            had: BTreeMap::new(),
        })
    }

    /// Says once that the proxy has all that it asked for.
    fn tell(&self, was_ready: &mut bool) {
        use ResourceType::{Cluster, Endpoints, Listener, Route, VirtualHost};
        let answered = [Cluster, Listener].iter().all(|k| self.standing[*k as usize].answered);
        let pending = [Endpoints, Route, VirtualHost].iter().any(|k| !self.standing[*k as usize].pending.is_empty());
        if answered && !pending && !std::mem::replace(was_ready, true) {
            self.proxy.shared.ready.fetch_add(1, Relaxed);
        }
    }
}
