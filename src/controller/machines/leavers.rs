//! Removes the entries of machines that have gone, or that nobody has heard of for too long.

use super::{CONNECTED, DISCONNECTED, ENTRIES, GROUP, Registrations, count::Counted};
use crate::{
    api::kind::ApiKind,
    controller::duty::{Duty, Key, request},
};
use hyper::{Method, Request};
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

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

/// Removes what is left over.
#[derive(Debug)]
pub(in crate::controller) struct Leavers {
    when: Leaving,
    /// When each entry that was made goes, and its version.
    found: BTreeMap<Key, (Timestamp, Value)>,
}

impl Leavers {
    pub(in crate::controller) fn new(when: Leaving) -> Self {
        Self { when, found: BTreeMap::new() }
    }

    /// When an entry goes; never where it was not made for a machine that connected.
    fn ends(&self, annotations: &Value) -> Option<Timestamp> {
        annotations[GROUP].as_str()?;
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
        let metadata = &object["metadata"];
        match self.ends(&metadata["annotations"]) {
            Some(ends) => drop(self.found.insert(key.clone(), (ends, metadata["resourceVersion"].clone()))),
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
        self.found.iter().filter(|(_, (ends, _))| *ends <= now).map(|(key, _)| key.clone()).collect()
    }

    fn written(&mut self, _: &Key) {
        self.when.counted.count(Counted::Removed);
    }

    fn failed(&mut self, _: &Key) {
        self.when.counted.count(Counted::Failed);
    }

    fn request(&mut self, key: &Key) -> Option<Request<Vec<u8>>> {
        let (_, version) = self.found.get(key)?;
        let (_, namespace, name) = key;
        let body = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "preconditions": { "resourceVersion": version },
        });
        Some(request(Method::DELETE, &format!("{}/{name}", ENTRIES.path("v1", Some(namespace))), &body))
    }
}
