//! The status of Ingresses that are served: the addresses of the Service before the gateways, or where there is none those
//! of the gateways' nodes.

use super::duty::{Duty, Key, request};
use crate::{
    api::kind::{ApiKind, INGRESS},
    model::ObjectKey,
    snapshot::Snapshot,
};
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};
use tokio::sync::watch;

const SERVICES: ApiKind = ApiKind::core("Service", "services");
const SERVICE: usize = 1;

/// Which Ingresses are served, and behind what.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Served {
    namespace: String,
    /// The Service; empty where there is none.
    service: String,
    /// The addresses of the nodes, where there is no Service.
    nodes: Vec<Address>,
    ingresses: BTreeSet<ObjectKey>,
}

impl Served {
    fn of(world: &Snapshot) -> Self {
        let control = &world.mesh.ingress;
        let ingresses: BTreeSet<ObjectKey> = world.served_ingresses().collect();
        let nodes = match control.service.is_empty() && !ingresses.is_empty() {
            true => world.ingress_addresses().iter().filter_map(|address| named(Some(address))).collect(),
            false => BTreeSet::new(),
        };
        Self {
            namespace: control.namespace.to_string(),
            service: control.service.to_string(),
            nodes: nodes.into_iter().collect(),
            ingresses,
        }
    }

    /// Follows the world. Ends when nobody looks any more.
    pub(super) fn follow(mut worlds: watch::Receiver<Arc<Snapshot>>) -> watch::Receiver<Self> {
        let (sender, receiver) = watch::channel(Self::of(&worlds.borrow_and_update()));
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = sender.closed() => return,
                    changed = worlds.changed() => if changed.is_err() { return },
                }
                let now = Self::of(&worlds.borrow_and_update().clone());
                sender.send_if_modified(|served| {
                    *served != now && {
                        *served = now;
                        true
                    }
                });
            }
        });
        receiver
    }
}

/// Keeps the status of Ingresses.
#[derive(Debug)]
pub(super) struct Ingresses {
    served: watch::Receiver<Served>,
    /// The version of each Ingress, and the addresses that its status says.
    found: BTreeMap<Key, (Value, Vec<Address>)>,
    /// The addresses of each Service of the namespace of gateways.
    services: BTreeMap<(String, String), Vec<Address>>,
}

/// A host name, or else an IP address; in the order in which they are written.
type Address = (String, String);

impl Ingresses {
    pub(super) fn new(served: watch::Receiver<Served>) -> Self {
        Self { served, found: BTreeMap::new(), services: BTreeMap::new() }
    }

    fn all(&self) -> Vec<Key> {
        self.found.keys().cloned().collect()
    }
}

impl Duty for Ingresses {
    fn watched(&self) -> Vec<(ApiKind, Option<String>)> {
        let services = format!("metadata.namespace={}", self.served.borrow().namespace);
        vec![(INGRESS, None), (SERVICES, Some(services))]
    }

    fn seen(&mut self, key: &Key, object: &Value) -> Vec<Key> {
        let (kind, namespace, name) = key;
        if *kind != SERVICE {
            let said = &object["status"]["loadBalancer"]["ingress"];
            self.found.insert(key.clone(), (object["metadata"]["resourceVersion"].clone(), addresses(said)));
            return vec![key.clone()];
        }
        let now = of_service(object);
        match self.services.insert((namespace.clone(), name.clone()), now.clone()) {
            Some(before) if before == now => Vec::new(),
            _ => self.all(),
        }
    }

    fn gone(&mut self, key: &Key) -> Vec<Key> {
        let (kind, namespace, name) = key;
        if *kind != SERVICE {
            self.found.remove(key);
            return Vec::new();
        }
        self.services.remove(&(namespace.clone(), name.clone()));
        self.all()
    }

    fn changed(&mut self) -> Vec<Key> {
        self.all()
    }

    fn request(&mut self, key: &Key) -> Option<Request<Vec<u8>>> {
        let (_, namespace, name) = key;
        let (version, found) = self.found.get(key)?;
        let served = self.served.borrow();
        let mine = ObjectKey { namespace: namespace.as_str().into(), name: name.as_str().into() };
        if !served.ingresses.contains(&mine) {
            return None;
        }
        let wanted = match served.service.is_empty() {
            true => served.nodes.as_slice(),
            false => {
                let at = (served.namespace.clone(), served.service.clone());
                self.services.get(&at).map(Vec::as_slice).unwrap_or_default()
            }
        };
        let entry = |(host, ip): &Address| match host.is_empty() {
            true => json!({ "ip": ip }),
            false => json!({ "hostname": host }),
        };
        let list: Value = wanted.iter().map(entry).collect();
        let list = if wanted.is_empty() { Value::Null } else { list };
        let body = json!({
            "metadata": { "resourceVersion": version },
            "status": { "loadBalancer": { "ingress": list } },
        });
        let path = format!("{}/{name}/status", INGRESS.path("v1", Some(namespace)));
        (found != wanted).then(|| request(Method::PATCH, &path, &body))
    }
}

/// The addresses of a list of `ip` and `hostname`, sorted.
fn addresses(list: &Value) -> Vec<Address> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let all = list.as_array().into_iter().flatten().map(|e| (text(&e["hostname"]), text(&e["ip"])));
    let all: BTreeSet<Address> = all.filter(|(host, ip)| !host.is_empty() || !ip.is_empty()).collect();
    all.into_iter().collect()
}

/// Where a Service is reached from outside.
fn of_service(object: &Value) -> Vec<Address> {
    let spec = &object["spec"];
    if spec["type"] == "ExternalName" {
        return named(spec["externalName"].as_str()).into_iter().collect();
    }
    let outside = spec["externalIPs"].as_array().into_iter().flatten().filter_map(|ip| named(ip.as_str()));
    let all: BTreeSet<Address> =
        addresses(&object["status"]["loadBalancer"]["ingress"]).into_iter().chain(outside).collect();
    all.into_iter().collect()
}

/// A host name or an IP address, as whichever it is.
fn named(text: Option<&str>) -> Option<Address> {
    let text = text.filter(|text| !text.is_empty())?;
    Some(match text.parse::<std::net::IpAddr>() {
        Ok(_) => (String::new(), text.to_owned()),
        Err(_) => (text.to_owned(), String::new()),
    })
}
