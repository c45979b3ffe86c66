//! Following one kind: all of it once, then what changes, and all of it again where the changes were missed. It goes on
//! whatever the API server does, and nobody is told of a list before it is whole.

use super::{
    definition::{Defined, Served, Service},
    failure::{Failure, Pauses, of_error, of_status, other},
    health::Health,
    kind::Watched,
    page::{self, Line},
    prune::Tree,
};
use crate::{
    api::kind::escaped,
    id::fingerprint_bytes,
    model::Change,
    store::{Stopped, Writer},
};
use futures_util::io::{AsyncBufRead, AsyncBufReadExt as _};
use hyper::Request;
use kube::Client;
use serde_json::Value;
use std::{
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};
use tokio::{sync::watch, time};

/// How many objects a page has.
const PAGE: usize = 500;
/// A connection that is silent for so long is dead: an API server sends a bookmark every minute.
const SILENCE: Duration = Duration::from_secs(90);
/// How long a page of a list may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a watch lasts at least, and how much longer it may, in seconds: replicas do not come back all at once, and
/// spread over API servers in time.
const LIFE: (u64, u64) = (300, 300);

/// Takes in what the API server tells of a kind, each object as a version of the API has it. Between the beginning of a
/// list and its end nothing is told on: an API server that streams a list tells in it what changes meanwhile.
pub(super) trait Follow: Send + Sync {
    /// A list begins, maybe after another one that did not end.
    fn begin(&mut self);
    /// The list is whole: what has changed by it.
    fn whole(&mut self) -> Vec<Change>;
    /// An object is there, or has changed.
    fn there(&mut self, raw: Value, version: &str) -> Vec<Change>;
    /// An object is gone.
    fn gone(&mut self, raw: Value, version: &str) -> Vec<Change>;
    /// An object is there, and cannot be read, for this reason.
    fn unreadable(&mut self, raw: Value, version: &str, why: &str) -> Vec<Change>;
    /// The kind is not there any more.
    fn emptied(&mut self) -> Vec<Change>;
}

/// Follows one kind.
pub(super) struct Follower<F> {
    pub(super) client: Client,
    pub(super) kind: &'static Watched,
    /// The namespace and the field selector.
    pub(super) only: (Option<String>, String),
    pub(super) served: Served,
    /// Whether it has to wait before it begins.
    pub(super) held: watch::Receiver<bool>,
    pub(super) state: F,
    pub(super) writer: Writer,
    pub(super) health: Health,
}

/// What ends a round of reading and watching.
enum End {
    /// Everything has to be read again, at once.
    Again,
    /// After a pause.
    Failed(Failure),
}

impl<F: Follow> Follower<F> {
    /// Follows until the store has stopped.
    pub(super) async fn run(mut self) -> Stopped {
        if self.held.wait_for(|held| !held).await.is_err() {
            return Stopped;
        }
        let tree = self.kind.tree();
        // Servers before Kubernetes 1.32 do not have lists as streams.
        let (mut streaming, mut pauses) = (true, Pauses::default());
        loop {
            let Defined { service, generation } = *self.served.borrow_and_update();
            let Service::Version(version) = service else {
                if service == Service::Missing {
                    let changes = self.state.emptied();
                    if let Err(stopped) = self.tell(changes).await {
                        return stopped;
                    }
                    self.health.is_missing(self.kind.of.name);
                }
                // The definitions are followed as long as the store is there.
                match self.served.changed().await {
                    Ok(()) => continue,
                    Err(_) => return Stopped,
                }
            };
            let mut round = Round { follower: &mut self, tree: &tree, version, generation, pauses: &mut pauses };
            match round.go(streaming).await {
                Err(stopped) => return stopped,
                Ok(End::Again) => {}
                // Not in a loop, where the server says so again and again.
                Ok(End::Failed(Failure::Missed)) => self.rest("its changes are forgotten", None, &mut pauses).await,
                Ok(End::Failed(Failure::Unknown(why))) if streaming => {
                    tracing::debug!(
                        kind = self.kind.of.name,
                        "lists are read in pages, as streams are not there: {why}"
                    );
                    streaming = false;
                }
                Ok(End::Failed(Failure::Unknown(why))) => self.rest(&why, None, &mut pauses).await,
                Ok(End::Failed(Failure::Other(why, after))) => self.rest(&why, after, &mut pauses).await,
            }
        }
    }

    async fn tell(&self, changes: Vec<Change>) -> Result<(), Stopped> {
        match changes.is_empty() {
            true => Ok(()),
            false => self.writer.apply(changes).await,
        }
    }

    /// Says why a kind cannot be read, and waits a while: whoever waits serves what was known, and does not hide it.
    async fn rest(&self, why: &str, after: Option<Duration>, pauses: &mut Pauses) {
        match self.health.fails(self.kind.of.name, why) {
            true => tracing::warn!(kind = self.kind.of.name, "cannot be read from the API server: {why}"),
            false => tracing::debug!(kind = self.kind.of.name, "still cannot be read from the API server: {why}"),
        }
        let mut served = self.served.clone();
        tokio::select! {
            () = time::sleep(pauses.next(after)) => {}
            Ok(()) = served.changed() => {}
        }
    }
}

/// One reading of everything, and the watch that goes on from there.
struct Round<'a, F> {
    follower: &'a mut Follower<F>,
    tree: &'a Tree,
    version: &'static str,
    /// The definition as it was when this began.
    generation: i64,
    pauses: &'a mut Pauses,
}

/// What one line of a watch means for it.
enum Step {
    On,
    Whole,
    Stop(Failure),
}

impl<F: Follow> Round<'_, F> {
    /// Reads everything and watches, until that has to be done anew.
    async fn go(&mut self, streaming: bool) -> Result<End, Stopped> {
        self.follower.state.begin();
        let mut at = String::new();
        let mut lines = None;
        match streaming {
            true => match self.open(&["sendInitialEvents=true", "resourceVersionMatch=NotOlderThan"]).await {
                Ok(open) => lines = Some(open),
                Err(end) => return Ok(end),
            },
            false => match self.pages().await {
                Ok(version) => {
                    at = version;
                    self.whole().await?;
                }
                Err(end) => return Ok(end),
            },
        }
        let mut listing = streaming;
        loop {
            let mut open = match lines.take() {
                Some(open) => open,
                None => match self.open(&[&format!("resourceVersion={at}")]).await {
                    Ok(open) => open,
                    Err(End::Failed(Failure::Other(why, after))) => {
                        self.follower.rest(&why, after, self.pauses).await;
                        if self.follower.served.has_changed().unwrap_or(false) {
                            return Ok(End::Again);
                        }
                        continue;
                    }
                    Err(end) => return Ok(end),
                },
            };
            if !listing {
                self.follower.health.works(self.follower.kind.of.name);
            }
            let mut told = false;
            let failure = loop {
                let text = match self.next(&mut open).await {
                    Ok(Some(text)) => text,
                    Ok(None) => break None,
                    Err(End::Failed(failure)) => break Some(failure),
                    Err(End::Again) => return Ok(End::Again),
                };
                match self.take(&text, &mut at, listing).await? {
                    Step::On => told = true,
                    Step::Whole => {
                        listing = false;
                        self.whole().await?;
                    }
                    Step::Stop(failure) => break Some(failure),
                }
                self.pauses.reset();
            };
            match failure {
                // A list that breaks off is none.
                None if listing => {
                    return Ok(End::Failed(Failure::Other("a list ended in the middle".into(), None)));
                }
                Some(failure) if listing => return Ok(End::Failed(failure)),
                // A server shows objects to a watch by the definition that it began under, and ends it when there is
                // another: what it showed lately may be less than is there.
                _ if self.follower.served.borrow().generation != self.generation => return Ok(End::Again),
                // Watches end now and then. One that ends at once, again and again, is not asked for in a loop.
                None if told => {}
                None => self.follower.rest("a watch ended at once", None, self.pauses).await,
                Some(Failure::Other(why, after)) => self.follower.rest(&why, after, self.pauses).await,
                Some(failure) => return Ok(End::Failed(failure)),
            }
        }
    }

    /// The list is whole.
    async fn whole(&mut self) -> Result<(), Stopped> {
        let changes = self.follower.state.whole();
        self.follower.tell(changes).await?;
        self.follower.health.is_synced(self.follower.kind.of.name);
        self.pauses.reset();
        Ok(())
    }

    /// Takes in a line.
    async fn take(&mut self, text: &[u8], at: &mut String, listing: bool) -> Result<Step, Stopped> {
        let line = match page::line(text, self.tree) {
            Ok(line) => line,
            Err(error) => return self.take_by_name(text, &error.to_string(), at).await,
        };
        let (raw, gone) = match line {
            Line::There(raw) => (raw, false),
            Line::Gone(raw) => (raw, true),
            Line::Mark { version, whole } => {
                *at = version;
                return Ok(if listing && whole { Step::Whole } else { Step::On });
            }
            Line::Error(status) => return Ok(Step::Stop(of_status(&status))),
        };
        let version = version_of(&raw);
        let changes = match gone {
            false => self.follower.state.there(raw, self.version),
            true => self.follower.state.gone(raw, self.version),
        };
        self.told(changes, version, at).await
    }

    /// Takes in a line whose object cannot be read but for its name: it holds up no other.
    async fn take_by_name(&mut self, text: &[u8], why: &str, at: &mut String) -> Result<Step, Stopped> {
        let (version, changes) = match page::line(text, &Tree::only(&["metadata"])) {
            Ok(Line::There(raw)) => (version_of(&raw), self.follower.state.unreadable(raw, self.version, why)),
            Ok(Line::Gone(raw)) => (version_of(&raw), self.follower.state.gone(raw, self.version)),
            _ => return Ok(Step::Stop(other("a line of a watch cannot be read", why))),
        };
        self.told(changes, version, at).await
    }

    /// Hands on what a line has changed.
    async fn told(&mut self, changes: Vec<Change>, version: Option<String>, at: &mut String) -> Result<Step, Stopped> {
        self.follower.health.told(self.follower.kind.of.name);
        self.follower.tell(changes).await?;
        // Not before it is told: what is lost on the way is asked for again.
        if let Some(version) = version {
            *at = version;
        }
        Ok(Step::On)
    }

    /// Reads everything in pages; the version that they show.
    async fn pages(&mut self) -> Result<String, End> {
        let mut next = String::new();
        loop {
            let address = self.address(&[&format!("limit={PAGE}"), &format!("continue={next}")]);
            let client = self.follower.client.clone();
            let text = self.unless_served_changes(async move {
                let text = time::timeout(PATIENCE, client.request_text(get(&address))).await;
                text.map_err(|_| other("a list", "took too long"))?.map_err(|e| of_error(&e))
            });
            let text = text.await?;
            let (state, version) = (&mut self.follower.state, self.version);
            // Nothing is told on of a list before it is whole.
            let about = page::page(text.as_bytes(), &mut |text| match page::object(text, self.tree) {
                Ok(raw) => drop(state.there(raw, version)),
                Err(error) => {
                    let named = page::object(text, &Tree::only(&["metadata"]));
                    let _ = named.map(|raw| state.unreadable(raw, version, &error.to_string()));
                }
            });
            let about = about.map_err(|e| End::Failed(other("a list cannot be read", e)))?;
            if about.next.is_empty() {
                return Ok(about.resource_version);
            }
            next = about.next;
        }
    }

    /// Begins a watch.
    async fn open(&mut self, words: &[&str]) -> Result<impl AsyncBufRead + Unpin + use<F>, End> {
        let life = LIFE.0 + fingerprint_bytes(&RandomState::new().hash_one(0u8).to_le_bytes()) % LIFE.1;
        let life = format!("timeoutSeconds={life}");
        let address = self.address(&[&["watch=true", "allowWatchBookmarks=true", &life], words].concat());
        let client = self.follower.client.clone();
        self.unless_served_changes(async move {
            let answer = time::timeout(PATIENCE, client.request_stream(get(&address))).await;
            let stream = answer.map_err(|_| other("a watch", "was not answered"))?.map_err(|e| of_error(&e))?;
            Ok(Box::pin(stream))
        })
        .await
    }

    /// The next line of a watch; none where it has ended.
    async fn next(&mut self, lines: &mut (impl AsyncBufRead + Unpin)) -> Result<Option<Vec<u8>>, End> {
        self.unless_served_changes(async move {
            let mut text = Vec::new();
            match time::timeout(SILENCE, lines.read_until(b'\n', &mut text)).await {
                Err(_) => Err(other("a watch", "has been silent for too long")),
                Ok(Err(error)) => Err(other("a watch broke off", error)),
                // What has no end was cut off, and is told again.
                Ok(Ok(_)) if !text.ends_with(b"\n") => Ok(None),
                Ok(Ok(_)) => Ok(Some(text)),
            }
        })
        .await
    }

    /// Waits for the API server, but no longer than the kind is served as it is.
    async fn unless_served_changes<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, End> {
        let mut served = self.follower.served.clone();
        tokio::select! {
            Ok(()) = served.changed() => Err(End::Again),
            done = work => done.map_err(End::Failed),
        }
    }

    fn address(&self, words: &[&str]) -> String {
        let kind = self.follower.kind;
        let (namespace, selector) = &self.follower.only;
        let mut address = format!("{}?{}", kind.of.path(self.version, namespace.as_deref()), words.join("&"));
        if !selector.is_empty() {
            address.push_str("&fieldSelector=");
            address.push_str(&escaped(selector));
        }
        address
    }
}

/// The version of an object.
fn version_of(raw: &Value) -> Option<String> {
    raw["metadata"]["resourceVersion"].as_str().map(str::to_owned)
}

fn get(address: &str) -> Request<Vec<u8>> {
    Request::get(address).body(Vec::new()).expect("an address of known parts")
}
