//! Watches what a duty looks at, and sends what it plans: a few requests at once, and again what failed.

use super::{
    duty::{Duty, Key, Outcome},
    fence::{Fence, Over},
    queue::Queue,
};
use crate::{api::kind::ApiKind, model::LeftOut};
use futures_util::{Stream, StreamExt as _, TryStreamExt as _};
use hyper::Request;
use kube::{
    Api, Client,
    api::DynamicObject,
    core::{ApiResource, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use serde_json::Value;
use std::{collections::BTreeSet, future, pin::Pin, time::Duration};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{self, Instant},
};

/// Requests that are under way at once.
const AT_ONCE: usize = 16;
/// Events that wait before more are read.
const WAITING: usize = 64;
/// How often a kind is asked for whose definition is missing.
const MISSING: Duration = Duration::from_secs(5);

/// What is known of the objects of a kind.
enum Seen {
    /// The kind is read anew from here on.
    Begin,
    /// An object is there.
    There(Box<Value>),
    /// An object is gone.
    Gone(Box<Value>),
    /// Everything that is there was said, in this version.
    End(Option<&'static str>),
}

/// Tells that what a duty works with beside objects has changed.
pub(super) type News = Pin<Box<dyn Stream<Item = ()> + Send>>;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a duty is done: the cluster, as long as the fence is open; and the only namespace, where there is one.
#[derive(Clone)]
pub(super) struct Place {
    pub(super) client: Client,
    pub(super) fence: Fence,
    pub(super) namespace: Option<String>,
    /// Kinds that are as if they were not there.
    pub(super) left_out: LeftOut,
}

/// Does a duty for ever.
pub(super) async fn run(place: Place, duty: Box<dyn Duty>, mut changed: News) {
    let (sender, mut events) = mpsc::channel(WAITING);
    let mut watching = JoinSet::new();
    let watched = duty.watched();
    // Kubernetes' own kinds are always there.
    let is_missing = |kind: &ApiKind| kind.group.ends_with(".istio.io") && place.left_out.has(&kind.definition());
    if watched.iter().all(|(kind, _)| is_missing(kind)) {
        return future::pending().await;
    }
    let mut state = State {
        duty,
        queue: Queue::new(AT_ONCE),
        known: vec![None; watched.len()],
        read: vec![BTreeSet::new(); watched.len()],
    };
    for (index, (kind, fields)) in watched.iter().enumerate() {
        if is_missing(kind) {
            state.take(index, Seen::End(None));
            continue;
        }
        let objects = Objects { client: place.client.clone(), kind: *kind, fields: fields.clone(), namespace: None };
        let objects = match kind.namespaced {
            true => Objects { namespace: place.namespace.clone(), ..objects },
            false => objects,
        };
        watching.spawn(follow(objects, index, sender.clone()));
    }
    drop(sender);
    let mut requests = JoinSet::new();
    loop {
        while let Some((key, request)) = state.next() {
            let place = place.clone();
            requests.spawn(async move { (key, send(&place, request).await) });
        }
        let wake = state.queue.wake().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
        tokio::select! {
            event = events.recv() => match event {
                Some((index, seen)) => state.take(index, seen),
                None => return,
            },
            Some(done) = requests.join_next() => if let Ok((key, outcome)) = done {
                state.duty.answered(&key, outcome);
                match outcome {
                    Outcome::Done | Outcome::Moot => state.queue.done(&key),
                    Outcome::Again => state.queue.failed(&key, Instant::now()),
                    // The election says what follows.
                    Outcome::Over => {}
                }
            },
            () = time::sleep_until(wake) => {}
            Some(()) = changed.next() => state.changed(),
        }
    }
}

struct State {
    duty: Box<dyn Duty>,
    queue: Queue<Key>,
    /// The objects of each kind, once these were all read.
    known: Vec<Option<BTreeSet<Key>>>,
    /// What was said of a kind that is being read.
    read: Vec<BTreeSet<Key>>,
}

impl State {
    /// The next request, once everything was read: before, what seems to be missing may only not have been seen.
    fn next(&mut self) -> Option<(Key, Request<Vec<u8>>)> {
        if self.known.iter().any(Option::is_none) {
            return None;
        }
        while let Some(key) = self.queue.next(Instant::now()) {
            match self.duty.request(&key) {
                Some(request) => return Some((key, request)),
                None => self.queue.done(&key),
            }
        }
        None
    }

    fn take(&mut self, index: usize, seen: Seen) {
        match seen {
            Seen::Begin => self.read[index].clear(),
            Seen::There(object) => {
                let key = key(index, &object);
                self.read[index].insert(key.clone());
                if let Some(known) = &mut self.known[index] {
                    known.insert(key.clone());
                }
                self.add(|duty| duty.seen(&key, &object));
            }
            Seen::Gone(object) => {
                let key = key(index, &object);
                self.read[index].remove(&key);
                if let Some(known) = &mut self.known[index] {
                    known.remove(&key);
                }
                self.add(|duty| duty.gone(&key));
            }
            Seen::End(version) => {
                let read = std::mem::take(&mut self.read[index]);
                let before = self.known[index].replace(read.clone()).unwrap_or_default();
                for key in before.difference(&read) {
                    self.add(|duty| duty.gone(key));
                }
                self.add(|duty| duty.whole(index, version));
            }
        }
    }

    fn changed(&mut self) {
        self.add(|duty| duty.changed());
    }

    fn add(&mut self, what: impl FnOnce(&mut dyn Duty) -> Vec<Key>) {
        what(&mut *self.duty).into_iter().for_each(|key| self.queue.add(key));
    }
}

fn key(index: usize, object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (index, text("namespace"), text("name"))
}

async fn send(place: &Place, request: Request<Vec<u8>>) -> Outcome {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let sent = time::timeout(PATIENCE, place.fence.write(place.client.request::<Value>(request)));
    match sent.await.unwrap_or_else(|_| Ok(Err(kube::Error::Service("no answer".into())))) {
        Err(Over) => Outcome::Over,
        Ok(Ok(_)) => {
            tracing::debug!(%method, path, "wrote");
            Outcome::Done
        }
        Ok(Err(kube::Error::Api(status))) if matches!(status.code, 404 | 409 | 410) => Outcome::Moot,
        Ok(Err(kube::Error::Api(status))) if status.message.contains("being terminated") => Outcome::Moot,
        Ok(Err(error)) => {
            tracing::warn!(%method, path, %error, "could not write into the cluster");
            Outcome::Again
        }
    }
}

/// Which objects are watched.
struct Objects {
    client: Client,
    kind: ApiKind,
    fields: Option<String>,
    namespace: Option<String>,
}

impl Objects {
    fn api(&self, version: &str) -> Api<DynamicObject> {
        let gvk = GroupVersionKind::gvk(self.kind.group, version, self.kind.name);
        let resource = ApiResource::from_gvk_with_plural(&gvk, self.kind.plural);
        match &self.namespace {
            Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
            None => Api::all_with(self.client.clone(), &resource),
        }
    }
}

/// Watches a kind for ever, in the first of its versions that there is.
async fn follow(objects: Objects, index: usize, sender: mpsc::Sender<(usize, Seen)>) {
    let kind = objects.kind;
    let mut missing = false;
    loop {
        for version in kind.versions {
            let fields = objects.fields.as_ref();
            let config = fields.map_or_else(watcher::Config::default, |f| watcher::Config::default().fields(f));
            let mut stream = watcher(objects.api(version), config).default_backoff().boxed();
            loop {
                let event = match stream.try_next().await {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) if is_missing(&error) => break,
                    Err(error) => {
                        tracing::debug!(kind = kind.name, %error, "watching again");
                        continue;
                    }
                };
                missing = false;
                let object = |o: DynamicObject| Box::new(serde_json::to_value(o).unwrap_or_default());
                let seen = match event {
                    watcher::Event::Init => Seen::Begin,
                    watcher::Event::InitApply(o) | watcher::Event::Apply(o) => Seen::There(object(o)),
                    watcher::Event::Delete(o) => Seen::Gone(object(o)),
                    watcher::Event::InitDone => Seen::End(Some(*version)),
                };
                if sender.send((index, seen)).await.is_err() {
                    return;
                }
            }
        }
        // A kind that is not there has no objects.
        if !missing {
            missing = true;
            for seen in [Seen::Begin, Seen::End(None)] {
                if sender.send((index, seen)).await.is_err() {
                    return;
                }
            }
        }
        time::sleep(MISSING).await;
    }
}

/// Whether there is no such kind, or not in this version.
fn is_missing(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) = error else {
        return false;
    };
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
