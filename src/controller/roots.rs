//! The roots that workloads trust, in a ConfigMap of every namespace.

use super::duty::{Duty, Key, request};
use crate::api::kind::{ApiKind, NAMESPACE};
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::watch;

/// Namespaces whose pods are none of the mesh.
const LEFT_OUT: &[&str] = &["kube-system", "kube-public", "kube-node-lease", "local-path-storage"];
/// The entry of the ConfigMap.
const ENTRY: &str = "root-cert.pem";
/// The label that says whose it is.
const LABEL: &str = "istio.io/config";

const CONFIG_MAPS: ApiKind = ApiKind::core("ConfigMap", "configmaps");
const CONFIG_MAP: usize = 1;

/// Keeps the roots in every namespace.
#[derive(Debug)]
pub(super) struct Roots {
    name: String,
    roots: watch::Receiver<String>,
    /// The only namespace that gets them, where there is one.
    only: Option<String>,
    namespaces: BTreeSet<String>,
    /// The ConfigMap of each namespace that has it.
    found: BTreeMap<String, Found>,
}

/// A ConfigMap that is there.
#[derive(Debug)]
struct Found {
    metadata: Value,
    /// The roots, where it has these and the label and no more.
    roots: Option<String>,
}

impl Roots {
    pub(super) fn new(name: String, roots: watch::Receiver<String>, only: Option<String>) -> Self {
        Self { name, roots, only, namespaces: BTreeSet::new(), found: BTreeMap::new() }
    }

    fn key(&self, namespace: &str) -> Key {
        (CONFIG_MAP, namespace.to_owned(), self.name.clone())
    }
}

impl Duty for Roots {
    fn watched(&self) -> Vec<(ApiKind, Option<String>)> {
        vec![(NAMESPACE, None), (CONFIG_MAPS, Some(format!("metadata.name={}", self.name)))]
    }

    fn seen(&mut self, (kind, namespace, name): &Key, object: &Value) -> Vec<Key> {
        if *kind == CONFIG_MAP {
            self.found.insert(namespace.clone(), Found::of(object));
            return vec![self.key(namespace)];
        }
        let left_out = LEFT_OUT.contains(&name.as_str()) || self.only.as_ref().is_some_and(|only| only != name);
        // Nothing can be made in a namespace that is on its way out.
        match left_out || object["metadata"]["deletionTimestamp"].is_string() {
            true => drop(self.namespaces.remove(name)),
            false => drop(self.namespaces.insert(name.clone())),
        }
        vec![self.key(name)]
    }

    fn gone(&mut self, (kind, namespace, name): &Key) -> Vec<Key> {
        if *kind == CONFIG_MAP {
            self.found.remove(namespace);
            return vec![self.key(namespace)];
        }
        self.namespaces.remove(name);
        Vec::new()
    }

    fn changed(&mut self) -> Vec<Key> {
        self.namespaces.iter().map(|namespace| self.key(namespace)).collect()
    }

    fn request(&mut self, (_, namespace, name): &Key) -> Option<Request<Vec<u8>>> {
        if !self.namespaces.contains(namespace) {
            return None;
        }
        let roots = self.roots.borrow().clone();
        let path = CONFIG_MAPS.path("v1", Some(namespace));
        let found = self.found.get(namespace);
        if found.is_some_and(|found| found.roots.as_ref() == Some(&roots)) {
            return None;
        }
        // The version that was found is written with it, so that nothing is replaced that nobody looked at.
        let mut metadata = found.map_or_else(|| json!({ "name": name }), |found| found.metadata.clone());
        if !metadata["labels"].is_object() {
            metadata["labels"] = json!({});
        }
        metadata["labels"][LABEL] = "true".into();
        let body = json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": { ENTRY: roots } });
        Some(match found {
            None => request(Method::POST, &path, &body),
            Some(_) => request(Method::PUT, &format!("{path}/{name}"), &body),
        })
    }
}

impl Found {
    fn of(object: &Value) -> Self {
        let mut metadata = object["metadata"].clone();
        if let Some(fields) = metadata.as_object_mut() {
            fields.remove("managedFields");
        }
        let entries = object["data"].as_object().filter(|entries| entries.len() == 1);
        let whole = metadata["labels"][LABEL] == "true" && object["binaryData"].is_null();
        let roots = entries.and_then(|entries| entries.get(ENTRY)?.as_str()).filter(|_| whole);
        Self { roots: roots.map(str::to_owned), metadata }
    }
}
