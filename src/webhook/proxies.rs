//! ProxyConfig as a kind of its own: settings of the proxies of the mesh (in its root namespace), of a namespace, and of the
//! workloads that a selector chooses.

use super::{proxy_config::overlay, settings::Selector};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The objects of the kind.
#[derive(Clone, Debug, Default)]
pub struct Proxies(BTreeMap<(String, String), Value>);

impl Proxies {
    /// All of these objects.
    pub fn of(objects: impl IntoIterator<Item = Value>) -> Self {
        let mut all = Self::default();
        objects.into_iter().for_each(|object| all.insert(object));
        all
    }

    pub(super) fn insert(&mut self, object: Value) {
        self.0.insert(key(&object), object);
    }

    pub(super) fn remove(&mut self, object: &Value) {
        self.0.remove(&key(object));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Settings with those of the mesh's and of the namespace's objects.
    pub(super) fn general(&self, config: &mut Value, root: &str, namespace: &str) {
        let whole = |place: &str| self.oldest(place, |matched| matched.is_empty());
        let own = if namespace == root { None } else { whole(namespace) };
        whole(root).into_iter().chain(own).for_each(|object| apply(config, object));
    }

    /// Settings with those of the objects that choose a workload by its labels.
    pub(super) fn of_workload(&self, config: &mut Value, namespace: &str, labels: &Value) {
        let chooses = |matched: &Map<String, Value>| {
            let selector = Selector::parse(&json!({ "matchLabels": matched }));
            selector.is_ok_and(|selector| selector.matches(labels))
        };
        self.oldest(namespace, chooses).into_iter().for_each(|object| apply(config, object));
    }

    /// The oldest object of a namespace with labels to match that are fit.
    fn oldest(&self, place: &str, fits: impl Fn(&Map<String, Value>) -> bool) -> Option<&Value> {
        let within = self.0.iter().filter(|((namespace, _), object)| {
            let matched = object["spec"]["selector"]["matchLabels"].as_object();
            namespace == place && fits(matched.unwrap_or(&Map::new()))
        });
        let age = |object: &Value| object["metadata"]["creationTimestamp"].as_str().unwrap_or_default().to_owned();
        within.min_by_key(|((_, name), object)| (age(object), name.clone())).map(|(_, object)| object)
    }
}

fn apply(config: &mut Value, object: &Value) {
    const FIELDS: [(&str, &str); 3] =
        [("concurrency", "concurrency"), ("image", "image"), ("environmentVariables", "proxyMetadata")];
    let fields = FIELDS.map(|(from, to)| (to.to_owned(), object["spec"][from].clone()));
    overlay(config, fields.into_iter().collect());
}

fn key(object: &Value) -> (String, String) {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    (text("namespace"), text("name"))
}
