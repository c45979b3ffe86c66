//! A proxy that subscribes as Envoy does, keeps what it is served, comes back to any replica whenever its stream ends,
//! and notes when it is without what was there all along.

use super::chance::Chance;
use mainsheet::{
    id::ResourceType,
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
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, aggregated_discovery_service_client as ads,
        },
    },
};
use prost::Message as _;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};
use tokio::{sync::mpsc, task::JoinHandle, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

const KINDS: [ResourceType; 4] =
    [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener, ResourceType::Route];

/// Who all of them are.
pub(super) const ID: &str = "sidecar~10.1.0.1~client.shop~shop.svc.cluster.local";
/// What is there all along: a cluster with endpoints, and a host of the routes of port 80 that leads to it.
pub(super) const CLUSTER: &str = "outbound|80|v1|always.shop.svc.cluster.local";
const HOST: &str = "always.shop.svc.cluster.local:80";

/// What a proxy has: version and bytes of each resource.
pub(super) type Has = BTreeMap<(ResourceType, String), (String, Vec<u8>)>;

/// A proxy, which goes on until it is dropped.
pub(super) struct Proxy {
    held: Arc<Mutex<Held>>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Held {
    has: Has,
    /// Kinds of which something came.
    came: BTreeSet<ResourceType>,
    /// When it was without what was there all along.
    losses: Vec<String>,
    connections: usize,
    /// Whether it is to end its stream, and whether to forget what it has.
    leaves: Option<bool>,
}

impl Proxy {
    /// A proxy of these replicas.
    pub(super) fn start(addresses: Vec<String>, seed: u64) -> Self {
        let held = Arc::new(Mutex::new(Held::default()));
        let task = tokio::spawn(live(held.clone(), addresses, Chance::new(seed)));
        Self { held, task }
    }

    /// Lets it end its stream, and come back: as itself, or as one that has nothing.
    pub(super) fn leave(&self, forgets: bool) {
        lock(&self.held).leaves = Some(forgets);
    }

    /// What it has.
    pub(super) fn has(&self) -> Has {
        lock(&self.held).has.clone()
    }

    /// When it was without what was there all along.
    pub(super) fn losses(&self) -> Vec<String> {
        lock(&self.held).losses.clone()
    }

    /// How often it has connected.
    pub(super) fn connections(&self) -> usize {
        lock(&self.held).connections
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().expect("no test fails while it holds this")
}

async fn live(held: Arc<Mutex<Held>>, addresses: Vec<String>, mut chance: Chance) {
    loop {
        let address = addresses[chance.below(addresses.len())].clone();
        let leaves = lock(&held).leaves.take();
        if leaves == Some(true) {
            let mut held = lock(&held);
            held.has.clear();
            held.came.clear();
        }
        let _ = stream(&held, address).await;
        time::sleep(Duration::from_millis(100)).await;
    }
}

async fn stream(held: &Mutex<Held>, address: String) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let endpoint = Endpoint::try_from(address)?.connect_timeout(Duration::from_secs(2));
    let endpoint = endpoint.http2_keep_alive_interval(Duration::from_secs(2)).keep_alive_while_idle(true);
    let channel = endpoint.keep_alive_timeout(Duration::from_secs(2)).connect().await?;
    let (requests, stream) = mpsc::channel(64);
    let mut asked: BTreeMap<ResourceType, BTreeSet<String>> = BTreeMap::new();
    // Before the call, which is not answered until something was sent.
    for kind in KINDS {
        ask(held, &requests, &mut asked, kind).await?;
    }
    let mut client = ads::AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 30);
    let call = client.delta_aggregated_resources(ReceiverStream::new(stream));
    let mut responses: Streaming<_> = time::timeout(Duration::from_secs(5), call).await??.into_inner();
    lock(held).connections += 1;
    loop {
        let next = time::timeout(Duration::from_millis(100), responses.message()).await;
        if lock(held).leaves.is_some() {
            return Ok(());
        }
        let Ok(next) = next else { continue };
        let Some(response) = next? else { return Ok(()) };
        let Some(kind) = ResourceType::of_url(&response.type_url) else { continue };
        let (type_url, response_nonce) = (response.type_url.clone(), response.nonce.clone());
        lock(held).take(kind, response);
        requests.send(DeltaDiscoveryRequest { type_url, response_nonce, ..Default::default() }).await?;
        for kind in [ResourceType::Endpoints, ResourceType::Route] {
            ask(held, &requests, &mut asked, kind).await?;
        }
    }
}

/// Subscribes to what is wanted of a kind and was not asked for on this stream.
async fn ask(
    held: &Mutex<Held>,
    requests: &mpsc::Sender<DeltaDiscoveryRequest>,
    asked: &mut BTreeMap<ResourceType, BTreeSet<String>>,
    kind: ResourceType,
) -> Result<(), mpsc::error::SendError<DeltaDiscoveryRequest>> {
    let first = !asked.contains_key(&kind);
    let (wanted, versions) = {
        let held = lock(held);
        let of = held.has.iter().filter(|((k, _), _)| *k == kind && first);
        let versions = of.map(|((_, name), (version, _))| (name.clone(), version.clone())).collect();
        (wanted(&held.has, kind), versions)
    };
    let all = matches!(kind, ResourceType::Cluster | ResourceType::Listener);
    let before = asked.get(&kind).cloned().unwrap_or_default();
    let new: Vec<String> = wanted.difference(&before).cloned().collect();
    if new.is_empty() && !(all && first) {
        return Ok(());
    }
    asked.insert(kind, wanted.clone());
    let node = first.then(|| Node { id: ID.to_owned(), ..Node::default() });
    let resource_names_unsubscribe = before.difference(&wanted).cloned().collect();
    requests
        .send(DeltaDiscoveryRequest {
            node,
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: new,
            resource_names_unsubscribe,
            initial_resource_versions: versions,
            ..Default::default()
        })
        .await
}

impl Held {
    fn take(&mut self, kind: ResourceType, response: DeltaDiscoveryResponse) {
        for resource in response.resources {
            let body = resource.resource.map(|any| any.value.to_vec()).unwrap_or_default();
            self.has.insert((kind, resource.name), (resource.version, body));
        }
        for name in response.removed_resources {
            self.has.remove(&(kind, name));
        }
        // What nobody uses any more goes, as in Envoy.
        for kind in [ResourceType::Endpoints, ResourceType::Route] {
            let wanted = wanted(&self.has, kind);
            self.has.retain(|(k, name), _| *k != kind || wanted.contains(name));
        }
        self.came.insert(kind);
        let losses = self.came.iter().filter_map(|kind| missing(&self.has, *kind)).map(str::to_owned);
        self.losses.extend(losses.collect::<Vec<_>>());
    }
}

/// What is missing of a kind that was there all along.
fn missing(has: &Has, kind: ResourceType) -> Option<&'static str> {
    let of = |name: &str| has.get(&(kind, name.to_owned())).map(|(_, body)| body.as_slice());
    match kind {
        ResourceType::Cluster if of(CLUSTER).is_none() => Some("the cluster"),
        ResourceType::Listener if of("0.0.0.0_80").is_none() => Some("the listener"),
        // They are asked for by name after the cluster and the listener, in more than one response.
        ResourceType::Endpoints if of(CLUSTER).is_some_and(<[u8]>::is_empty) => Some("the endpoints"),
        ResourceType::Route => {
            let routes = RouteConfiguration::decode(of("80")?).ok()?;
            let host = routes.virtual_hosts.iter().find(|h| h.name == HOST);
            let leads = host.is_some_and(|h| format!("{:?}", h.routes).contains(CLUSTER));
            (!leads).then_some("the route")
        }
        _ => None,
    }
}

/// The names that a proxy which has this asks for.
pub(super) fn wanted(has: &Has, kind: ResourceType) -> BTreeSet<String> {
    let of = |wanted| has.iter().filter(move |((k, _), _)| *k == wanted).map(|(_, (_, body))| body.as_slice());
    match kind {
        ResourceType::Endpoints => of(ResourceType::Cluster).filter_map(endpoints_of).collect(),
        ResourceType::Route => of(ResourceType::Listener).flat_map(routes_of).collect(),
        _ => BTreeSet::new(),
    }
}

fn endpoints_of(body: &[u8]) -> Option<String> {
    let cluster = Cluster::decode(body).ok()?;
    let eds = ClusterDiscoveryType::Type(DiscoveryType::Eds.into());
    let named = cluster.eds_cluster_config.map(|c| c.service_name).filter(|n| !n.is_empty());
    (cluster.cluster_discovery_type == Some(eds)).then(|| named.unwrap_or(cluster.name))
}

fn routes_of(body: &[u8]) -> Vec<String> {
    let Ok(listener) = Listener::decode(body) else { return Vec::new() };
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let managers = chains.flat_map(|c| &c.filters).filter_map(|filter| match &filter.config_type {
        Some(ConfigType::TypedConfig(any)) if any.type_url.ends_with(".HttpConnectionManager") => {
            HttpConnectionManager::decode(any.value.clone()).ok()
        }
        _ => None,
    });
    let named = managers.filter_map(|m| match m.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => Some(rds.route_config_name),
        _ => None,
    });
    named.collect()
}
