//! Who is connected, for debug pages: each stream's client, where it stands, and what it has.

use super::{
    Metrics,
    cache::lock,
    stream::{Common, Response, Standing, Stream, Variant},
};
use crate::{
    id::ResourceType,
    model::Node,
    translate::{Config, Resource},
};
use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::SystemTime,
};
use tokio::sync::Notify;

/// Every stream of a node that is open.
#[derive(Debug, Default)]
pub struct Registry {
    connections: Mutex<BTreeMap<u64, Arc<Connection>>>,
    count: AtomicU64,
    common: Arc<Common>,
}

/// One stream of a node.
pub struct Connection {
    /// `NODE-N`: the node's name, and a number that no other stream has.
    pub id: String,
    /// The node.
    pub node: Arc<Node>,
    /// The node's metadata as it was sent.
    pub metadata: serde_json::Value,
    /// Where it comes from, where that is known.
    pub peer: Option<SocketAddr>,
    /// Since when.
    pub connected_at: SystemTime,
    /// The variant that it speaks.
    pub variant: Variant,
    stream: Mutex<Stream>,
    sent_at: Mutex<BTreeMap<ResourceType, SystemTime>>,
    forced: Notify,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("id", &self.id).field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// What is known of a client when it connects.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) node: Arc<Node>,
    pub(super) metadata: serde_json::Value,
    pub(super) peer: Option<SocketAddr>,
    pub(super) variant: Variant,
}

/// A place in the registry, which is given up when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    registry: Arc<Registry>,
    number: u64,
    /// The stream's entry.
    pub(super) connection: Arc<Connection>,
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.registry.connections).remove(&self.number);
    }
}

impl Registry {
    /// Every open stream, the oldest first.
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        lock(&self.connections).values().cloned().collect()
    }

    /// How many streams are open.
    pub fn len(&self) -> usize {
        lock(&self.connections).len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sends everything to everybody again.
    pub fn push_all(&self) {
        self.connections().iter().for_each(|c| c.push());
    }

    pub(super) fn enter(self: &Arc<Self>, client: Client, config: Arc<Config>, metrics: Arc<Metrics>) -> Place {
        let number = self.count.fetch_add(1, Relaxed) + 1;
        let connection = Arc::new(Connection {
            id: format!("{}-{number}", client.node.name),
            node: client.node,
            metadata: client.metadata,
            peer: client.peer,
            connected_at: SystemTime::now(),
            variant: client.variant,
            stream: Mutex::new(Stream::sharing(config, metrics, self.common.clone())),
            sent_at: Mutex::default(),
            forced: Notify::new(),
        });
        lock(&self.connections).insert(number, connection.clone());
        Place { registry: self.clone(), number, connection }
    }
}

impl Connection {
    /// Where each subscribed type stands.
    pub fn standing(&self) -> Vec<Standing> {
        lock(&self.stream).standing()
    }

    /// When a response of this type was made last.
    pub fn sent_at(&self, kind: ResourceType) -> Option<SystemTime> {
        lock(&self.sent_at).get(&kind).copied()
    }

    /// What the node is served now.
    pub fn config(&self) -> Arc<Config> {
        lock(&self.stream).config().clone()
    }

    /// What the client has of a type, once it takes what is under way.
    pub fn held(&self, kind: ResourceType) -> Vec<Arc<Resource>> {
        lock(&self.stream).held(kind)
    }

    /// Whether the client has all that it asked for, listeners among it.
    pub(super) fn is_served(&self) -> bool {
        lock(&self.stream).is_served()
    }

    /// Sends everything again.
    pub fn push(&self) {
        self.forced.notify_one();
    }

    /// Waits until everything is to be sent again.
    pub(super) async fn forced(&self) {
        self.forced.notified().await;
    }

    /// Lets the stream say something, and tells whether it then waits for its client.
    pub(super) fn say(&self, speak: impl FnOnce(&mut Stream) -> Vec<Response>) -> (Vec<Response>, bool) {
        let (responses, waits) = {
            let mut stream = lock(&self.stream);
            (speak(&mut stream), stream.is_waiting())
        };
        if !responses.is_empty() {
            let now = SystemTime::now();
            let kinds = responses.iter().filter_map(|r| ResourceType::of_url(&r.type_url));
            lock(&self.sent_at).extend(kinds.map(|kind| (kind, now)));
        }
        (responses, waits)
    }
}
