//! A source that watches an API server, the worlds that come of it, and what proxies are served of them.

use super::{Objects, directory};
use kube::Client;
use mainsheet::{
    id::ResourceType,
    model::Node,
    parse::Context,
    plan::{Proxy, World},
    snapshot::Snapshot,
    source::kubernetes::{self, Contexts, Health, Progress},
    store::{self, Reader},
    translate::{Config, Direct},
};
use std::{fs, sync::Arc};
use tokio::{sync::watch, task::JoinSet};

/// A source that watches.
#[derive(Debug)]
pub(crate) struct Watching {
    pub(crate) reader: Reader,
    pub(crate) health: Health,
    pub(crate) waiting: watch::Receiver<Option<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Watching {
    /// Begins to watch.
    pub(crate) fn begin(client: Client, context: Context) -> Self {
        let initial = Snapshot::new((*context.mesh).clone());
        let (writer, reader, task) = store::new(initial, store::Options { quiet: None, at_most: None });
        let health = Health::default();
        let (tell, waiting) = watch::channel(Some(Vec::new()));
        let mut tasks = JoinSet::new();
        tasks.spawn(task.run());
        let told = health.clone();
        tasks.spawn(async move {
            let report = |progress| match progress {
                Progress::Waiting(kinds) => drop(tell.send_replace(Some(kinds))),
                Progress::Synced => drop(tell.send_replace(None)),
            };
            let contexts = Contexts::new(context);
            let options = kubernetes::Options { client, contexts, namespace: None, health: told };
            let _ = kubernetes::watch(options, writer, report).await;
        });
        Self { reader, health, waiting, _tasks: tasks }
    }

    /// Watches an API server, once everything in it was read.
    pub(crate) async fn start(client: Client) -> Self {
        Self::of(client, Context::default()).await
    }

    /// Watches an API server as this context says, once everything in it was read.
    pub(crate) async fn of(client: Client, context: Context) -> Self {
        let mut watching = Self::begin(client, context);
        let all = watching.waiting.wait_for(Option::is_none);
        tokio::time::timeout(super::SOON, all).await.expect("everything is read soon").expect("a source");
        watching
    }

    /// The newest world.
    pub(crate) fn world(&self) -> Arc<Snapshot> {
        self.reader.snapshots.borrow().clone()
    }

    /// Waits until a proxy is served of this source what it would be served of files with the same objects.
    pub(crate) async fn agrees(&self, objects: &Objects, proxy: &Proxy) -> Vec<Served> {
        let files = world_of(objects).await;
        let wanted = served(&files, proxy);
        super::eventually("the source serves what files would", async || {
            let now = served(&self.world(), proxy);
            match now == wanted {
                true => Ok(()),
                false => Err(difference(&now, &wanted)),
            }
        })
        .await;
        wanted
    }
}

/// A resource that a proxy is served: type, name and bytes.
pub(crate) type Served = (ResourceType, String, Vec<u8>);

/// The world that files with all objects of an API server describe.
pub(crate) async fn world_of(objects: &Objects) -> Snapshot {
    let file = directory().join("objects.json");
    let list = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": objects.all().await});
    fs::write(&file, list.to_string()).expect("a file");
    let world = World::load(std::slice::from_ref(&file), None, &Context::default()).expect("a file that is read");
    fs::remove_dir_all(file.parent().expect("a directory")).expect("the directory");
    world.snapshot
}

fn node(world: &Snapshot, proxy: &Proxy) -> Option<Node> {
    proxy.resolve(world).ok()
}

/// Everything that a proxy is served of a world; nothing where it is no proxy of it.
pub(crate) fn served(world: &Snapshot, proxy: &Proxy) -> Vec<Served> {
    node(world, proxy).map(|node| bytes(world, &node)).unwrap_or_default()
}

/// Everything that a node is served of a world.
pub(crate) fn bytes(world: &Snapshot, node: &Node) -> Vec<Served> {
    let config = Config::of(world, node, &Direct);
    let of = |kind| config.all(kind).map(move |r| (kind, r.name.to_string(), r.body.to_vec()));
    let mut all: Vec<Served> = ResourceType::ALL.into_iter().flat_map(of).collect();
    all.sort();
    all
}

fn difference(now: &[Served], wanted: &[Served]) -> String {
    let name = |(kind, name, _): &&Served| format!("{} {name}", kind.short());
    let more: Vec<_> = now.iter().filter(|r| !wanted.contains(r)).map(|r| name(&r)).collect();
    let less: Vec<_> = wanted.iter().filter(|r| !now.contains(r)).map(|r| name(&r)).collect();
    format!("only the cluster: {more:?}; only the files: {less:?}")
}
