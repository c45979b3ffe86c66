//! Events: what an operator should see beside an object. Few at a time, and the same one not again for a while.

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::MicroTime, jiff::Timestamp};
use kube::Client;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::mpsc,
    time::{self, Instant},
};

/// Events that wait to be written; more are dropped.
const WAITING: usize = 256;
/// Events that may be written one right after the other.
const BURST: u32 = 25;
/// How long it takes until one more may be.
const REFILL: Duration = Duration::from_secs(2);
/// How long the same event is not written again.
const AGAIN: Duration = Duration::from_secs(600);
/// The longest text, in bytes, that the API server takes.
const LONGEST: usize = 1024;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is said of an object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Event {
    /// The object: `apiVersion`, kind, namespace, name and, where it is known, `uid`.
    pub(super) object: [String; 5],
    /// Why, in one word.
    pub(super) reason: &'static str,
    /// Whether something is wrong.
    pub(super) warning: bool,
    /// What, in words.
    pub(super) note: String,
}

/// Takes events, and forgets those that are too many.
#[derive(Clone, Debug)]
pub(super) struct Recorder(mpsc::Sender<Event>);

impl Recorder {
    /// Takes an event. Waits for nothing.
    pub(super) fn record(&self, event: Event) {
        if let Err(error) = self.0.try_send(event) {
            tracing::debug!(%error, "an event is not written");
        }
    }
}

/// Where events go in, and what writes them, in the name of a replica.
pub(super) fn recorder(client: Client, name: String) -> (Recorder, impl Future<Output = ()>) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Recorder(sender), write(client, name, receiver))
}

async fn write(client: Client, name: String, mut events: mpsc::Receiver<Event>) {
    let mut pace = Pace::new(Instant::now());
    while let Some(event) = events.recv().await {
        if !pace.admits(&event, Instant::now()) {
            continue;
        }
        let (path, body) = body(&event, &name);
        let request = hyper::Request::post(path).header(hyper::header::CONTENT_TYPE, "application/json");
        let Ok(request) = request.body(body.to_string().into_bytes()) else { continue };
        match time::timeout(PATIENCE, client.request::<Value>(request)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(%error, "an event could not be written"),
            Err(_) => tracing::warn!("an event could not be written in time"),
        }
    }
}

/// Which events are written.
#[derive(Debug)]
struct Pace {
    said: BTreeMap<Event, Instant>,
    left: u32,
    since: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { said: BTreeMap::new(), left: BURST, since: now }
    }

    fn admits(&mut self, event: &Event, now: Instant) -> bool {
        self.said.retain(|_, at| now.duration_since(*at) < AGAIN);
        while self.left < BURST && now.duration_since(self.since) >= REFILL {
            (self.left, self.since) = (self.left + 1, self.since + REFILL);
        }
        if self.said.contains_key(event) || self.left == 0 {
            return false;
        }
        if self.left == BURST {
            self.since = now;
        }
        self.left -= 1;
        self.said.insert(event.clone(), now);
        true
    }
}

/// Where an event is written, and as what.
fn body(event: &Event, replica: &str) -> (String, Value) {
    let [version, kind, namespace, object, uid] = event.object.each_ref().map(String::as_str);
    let home = if namespace.is_empty() { "default" } else { namespace };
    let mut note = event.note.clone();
    if let Some(end) = (note.len() > LONGEST).then(|| note.floor_char_boundary(LONGEST - 4)) {
        note.truncate(end);
        note.push_str(" …");
    }
    let mut regarding = json!({ "apiVersion": version, "kind": kind, "namespace": namespace, "name": object });
    if !uid.is_empty() {
        regarding["uid"] = uid.into();
    }
    let body = json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": { "generateName": "mainsheet-", "namespace": home },
        "eventTime": MicroTime(Timestamp::now()),
        "reportingController": "istio.io/mainsheet",
        "reportingInstance": replica,
        "action": event.reason,
        "reason": event.reason,
        "type": if event.warning { "Warning" } else { "Normal" },
        "regarding": regarding,
        "note": note,
    });
    (format!("/apis/events.k8s.io/v1/namespaces/{home}/events"), body)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(name: usize) -> Event {
        let object = ["v1", "Service", "shop", &name.to_string(), ""].map(str::to_owned);
        Event { object, reason: "Refused", warning: true, note: "broken".into() }
    }

    #[test]
    fn the_same_is_not_said_again_for_a_while_and_a_flood_is_cut_to_a_trickle() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(pace.admits(&event(0), start));
        assert!(!pace.admits(&event(0), start + AGAIN / 2));
        assert!(pace.admits(&event(0), start + AGAIN));
        let flood = start + AGAIN * 3;
        assert_eq!((0..100).filter(|n| pace.admits(&event(*n), flood)).count(), 25);
        let later = (100..200).filter(|n| pace.admits(&event(*n), flood + REFILL * 3)).count();
        assert_eq!(later, 3);
    }

    #[test]
    fn a_text_that_is_too_long_is_cut_between_characters() {
        let long = Event { note: "ö".repeat(2000), ..event(0) };
        let (path, body) = body(&long, "a");
        assert_eq!(path, "/apis/events.k8s.io/v1/namespaces/shop/events");
        let note = body["note"].as_str().unwrap();
        assert!(note.len() <= LONGEST && note.ends_with(" …"));
    }
}
