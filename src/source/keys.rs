//! The keys of those who sign tokens, fetched from where RequestAuthentications say that they are, or from where the
//! tokens of workloads come from.
//!
//! Each place is asked by itself and again now and then. What cannot be fetched is asked for again after a while that
//! grows, and what was fetched before stays: a place that is dead harms nobody else's tokens.

mod client;
#[cfg(test)]
mod tests;

use crate::{
    model::{Change, KeyLocator, KeySet, KeysByProxy, Object, State},
    parse,
    snapshot::Snapshot,
    store::Writer,
};
use client::Client;
use ipnet::IpNet;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time,
};

/// How long the place of the keys of workloads' tokens may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How keys are fetched.
#[derive(Clone, Debug)]
pub struct Options {
    /// How often keys are fetched again.
    pub refresh: Duration,
    /// The first pause after a failure; it doubles up to `longest`.
    pub pause: Duration,
    /// The longest pause after a failure.
    pub longest: Duration,
    /// Files of certificates in PEM that servers are trusted by; those that are not there are passed over.
    pub roots: Vec<PathBuf>,
    /// Addresses that are never asked.
    pub blocked: Vec<IpNet>,
    /// Certificates of servers are not looked at.
    pub trusting: bool,
}

/// Fetches what the newest snapshot wants, until the store ends. Tells in `tried` which places were asked once.
pub async fn watch(
    options: Options,
    writer: Writer,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    tried: watch::Sender<BTreeSet<KeyLocator>>,
) {
    let keeper = Arc::new(Keeper { client: Client::new(&options), options, writer, tried });
    let mut asked: BTreeMap<(KeyLocator, u64), AbortHandle> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let mut seen: Option<Arc<Snapshot>> = None;
    loop {
        let now = snapshots.borrow_and_update().clone();
        if seen.as_ref().is_none_or(|before| may_want_others(before, &now)) {
            let wanted: BTreeMap<_, ()> = now.wanted_keys().into_iter().map(|place| (place, ())).collect();
            let gone: Vec<_> = asked.keys().filter(|place| !wanted.contains_key(place)).cloned().collect();
            let mut changes = Vec::new();
            for place in gone {
                if let Some(task) = asked.remove(&place) {
                    task.abort();
                }
                if wanted.keys().all(|(locator, _)| *locator != place.0) {
                    changes.push(change(&place.0, State::Gone));
                }
            }
            if !changes.is_empty() && keeper.writer.apply(changes).await.is_err() {
                return;
            }
            for place in wanted.into_keys() {
                let start = || tasks.spawn(keeper.clone().keep(place.0.clone(), Duration::from_millis(place.1)));
                asked.entry(place.clone()).or_insert_with(start);
            }
        }
        seen = Some(now);
        while tasks.try_join_next().is_some() {}
        if snapshots.changed().await.is_err() {
            return;
        }
    }
}

/// Whether other keys may be wanted than before.
fn may_want_others(before: &Snapshot, now: &Snapshot) -> bool {
    let by_proxy = |s: &Snapshot| s.mesh.features.keys_by_proxy != KeysByProxy::Never;
    !before.request_authentications.ptr_eq(&now.request_authentications) || by_proxy(before) || by_proxy(now)
}

fn change(locator: &KeyLocator, state: State) -> Change {
    Change { object: locator.object(), state, problems: Vec::new(), raw: None }
}

struct Keeper {
    options: Options,
    client: Client,
    writer: Writer,
    tried: watch::Sender<BTreeSet<KeyLocator>>,
}

impl Keeper {
    /// Keeps the keys of one place.
    async fn keep(self: Arc<Self>, locator: KeyLocator, timeout: Duration) {
        let mut pause = self.options.pause;
        let mut last: Option<Arc<str>> = None;
        loop {
            let rest = match self.fetch(&locator, timeout).await {
                Ok(keys) => {
                    pause = self.options.pause;
                    if last.as_ref() != Some(&keys) {
                        tracing::info!(url = &**locator.url(), "keys of an issuer were fetched");
                        let set = KeySet { locator: locator.clone(), keys: keys.clone() };
                        let state = State::Is(Box::new(Object::KeySet(set)));
                        if self.writer.apply(vec![change(&locator, state)]).await.is_err() {
                            return;
                        }
                        last = Some(keys);
                    }
                    self.options.refresh
                }
                Err(why) => {
                    let kept = last.is_some();
                    tracing::warn!(url = &**locator.url(), kept, "keys of an issuer cannot be fetched: {why}");
                    let rest = pause;
                    pause = (pause * 2).min(self.options.longest);
                    rest
                }
            };
            if self.writer.published().await.is_err() {
                return;
            }
            self.tried.send_if_modified(|tried| tried.insert(locator.clone()));
            time::sleep(rest).await;
        }
    }

    /// The keys of a place, where they are such as Envoy takes.
    async fn fetch(&self, locator: &KeyLocator, timeout: Duration) -> Result<Arc<str>, String> {
        let text = fetch(&self.client, locator, timeout).await?;
        parse::jwks(&text)?;
        Ok(text.into())
    }
}

/// Fetches the keys of one place for ever, for somebody who takes them and says what is wrong with them.
pub async fn follow(options: Options, locator: KeyLocator, take: impl Fn(&str) -> Result<(), String>) {
    let client = Client::new(&options);
    let mut pause = options.pause;
    let mut last = String::new();
    loop {
        let fetched = fetch(&client, &locator, TIMEOUT).await.and_then(|text| take(&text).map(|()| text));
        let rest = match fetched {
            Ok(text) => {
                if text != last {
                    tracing::info!(url = &**locator.url(), "the keys of tokens were fetched");
                    last = text;
                }
                pause = options.pause;
                options.refresh
            }
            Err(why) => {
                let kept = !last.is_empty();
                tracing::warn!(url = &**locator.url(), kept, "the keys of tokens cannot be fetched: {why}");
                let rest = pause;
                pause = (pause * 2).min(options.longest);
                rest
            }
        };
        time::sleep(rest).await;
    }
}

async fn fetch(client: &Client, locator: &KeyLocator, timeout: Duration) -> Result<String, String> {
    let fetching = async {
        let url = match locator {
            KeyLocator::Keys(url) => url.to_string(),
            KeyLocator::Discovery(url) => {
                let said = client.get(url).await?;
                let said: serde_json::Value = serde_json::from_str(&said).map_err(|e| format!("is not JSON: {e}"))?;
                said["jwks_uri"].as_str().ok_or("says no jwks_uri")?.to_owned()
            }
        };
        client.get(&url).await
    };
    time::timeout(timeout, fetching).await.map_err(|_| format!("took longer than {timeout:?}"))?
}
