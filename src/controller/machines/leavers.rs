//! Removes the entries of machines that have gone, or that nobody has heard of for too long; and of entries that were not
//! made for them what is said of their health, so that they get no traffic.

use super::{CONNECTED, DISCONNECTED, ENTRIES, GROUP, HEALTHY, HOLDER, Registrations, count::Counted};
use crate::{
    api::kind::ApiKind,
    controller::duty::{Duty, Key, Outcome, request},
};
use hyper::{Method, Request};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// When the entries of machines are removed.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// How long an entry stays after its machine has gone.
    pub grace: Duration,
    /// How long after a machine has connected it must have done so again.
    pub longest: Duration,
    /// Where that is counted.
    pub counted: Arc<Registrations>,
}

/// What becomes of an entry.
#[derive(Debug)]
struct Found {
    /// When.
    ends: Timestamp,
    version: Value,
    /// It stays, with these conditions; one that was made for its machine goes.
    keeps: Option<Vec<Value>>,
}

/// Removes what is left over.
#[derive(Debug)]
pub(in crate::controller) struct Leavers {
    when: Leaving,
    found: BTreeMap<Key, Found>,
    /// The entries that are being removed.
    removing: BTreeSet<Key>,
}

impl Leavers {
    pub(in crate::controller) fn new(when: Leaving) -> Self {
        Self { when, found: BTreeMap::new(), removing: BTreeSet::new() }
    }

    /// What becomes of an entry, if anything.
    fn find(&self, object: &Value) -> Option<Found> {
        let (metadata, conditions) = (&object["metadata"], &object["status"]["conditions"]);
        let annotations = &metadata["annotations"];
        let stays = annotations[GROUP].is_null();
        let (health, others): (Vec<_>, Vec<_>) =
            conditions.as_array().into_iter().flatten().cloned().partition(|c| c["type"] == HEALTHY);
        if stays && (annotations[HOLDER].is_null() || health.is_empty()) {
            return None;
        }
        let ends = self.ends(annotations)?;
        Some(Found { ends, version: metadata["resourceVersion"].clone(), keeps: stays.then_some(others) })
    }

    /// When a machine has been away for too long.
    fn ends(&self, annotations: &Value) -> Option<Timestamp> {
        let at = |name: &str| annotations[name].as_str().and_then(|text| text.parse::<Timestamp>().ok());
        let ends = match at(DISCONNECTED) {
            Some(gone) => gone.checked_add(self.when.grace),
            None => at(CONNECTED)?.checked_add(self.when.longest),
        };
        ends.ok()
    }
}

impl Duty for Leavers {
    fn watched(&self) -> Vec<(ApiKind, Option<String>)> {
        vec![(ENTRIES, None)]
    }

    fn seen(&mut self, key: &Key, object: &Value) -> Vec<Key> {
        match self.find(object) {
            Some(found) => drop(self.found.insert(key.clone(), found)),
            None => drop(self.found.remove(key)),
        }
        Vec::new()
    }

    fn gone(&mut self, key: &Key) -> Vec<Key> {
        self.found.remove(key);
        Vec::new()
    }

    /// Some time has passed.
    fn changed(&mut self) -> Vec<Key> {
        let now = Timestamp::now();
        self.found.iter().filter(|(_, found)| found.ends <= now).map(|(key, _)| key.clone()).collect()
    }

    fn answered(&mut self, key: &Key, outcome: Outcome) {
        match outcome {
            _ if !self.removing.remove(key) => {}
            Outcome::Done => self.when.counted.count(Counted::Removed),
            Outcome::Again => self.when.counted.count(Counted::Failed),
            Outcome::Moot | Outcome::Over => {}
        }
    }

    fn request(&mut self, key: &Key) -> Option<Request<Vec<u8>>> {
        let Found { version, keeps, .. } = self.found.get(key)?;
        let (_, namespace, name) = key;
        let path = format!("{}/{name}", ENTRIES.path("v1", Some(namespace)));
        if let Some(conditions) = keeps {
            let metadata = json!({ "resourceVersion": version });
            let body = json!({ "metadata": metadata, "status": { "conditions": conditions } });
            return Some(request(Method::PATCH, &format!("{path}/status"), &body));
        }
        self.removing.insert(key.clone());
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "resourceVersion": version },
        });
        Some(request(Method::DELETE, &path, &body))
    }
}
