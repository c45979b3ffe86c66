//! Addresses for the hosts of ServiceEntries that have none, so that connections to them can be told apart. They are
//! kept in `.status.addresses`, where every control plane reads the same.

use super::duty::{Duty, Key, request};
use crate::api::kind::{ApiKind, SERVICE_ENTRY};
use hyper::{Method, Request};
use ipnet::IpNet;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

/// The label with which an object asks for none.
const LABEL: &str = "networking.istio.io/enable-autoallocate-ip";

/// Gives addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    ranges: Vec<Range>,
    entries: BTreeMap<Key, Entry>,
    /// Who has each address, or is about to.
    used: BTreeMap<IpAddr, BTreeSet<Key>>,
}

/// Addresses that may be given, one after the other.
#[derive(Debug)]
struct Range {
    net: IpNet,
    next: IpAddr,
}

/// What is known of a ServiceEntry.
#[derive(Clone, Debug)]
struct Entry {
    version: String,
    resource_version: Value,
    created: String,
    /// Hosts that are to have addresses, in the order of the object.
    hosts: Vec<String>,
    /// What the status says: addresses and their hosts.
    status: Vec<(IpAddr, String)>,
    /// Whether the status says something that is no address.
    odd: bool,
    /// Addresses that the user wrote.
    own: Vec<IpAddr>,
    /// What was planned for it, which is taken until the status says the same.
    planned: Vec<IpAddr>,
}

impl Addresses {
    pub(super) fn new(nets: &[IpNet]) -> Self {
        let range = |net: &IpNet| Range { net: *net, next: first(net) };
        Self { ranges: nets.iter().map(range).collect(), entries: BTreeMap::new(), used: BTreeMap::new() }
    }

    fn use_all(&mut self, key: &Key, addresses: impl IntoIterator<Item = IpAddr>) {
        for address in addresses {
            self.used.entry(address).or_default().insert(key.clone());
        }
    }

    /// Forgets an object, and gives those that shared an address with it.
    fn forget(&mut self, key: &Key) -> BTreeSet<Key> {
        let Some(old) = self.entries.remove(key) else { return BTreeSet::new() };
        let mut others = BTreeSet::new();
        for address in old.all() {
            if let Some(users) = self.used.get_mut(&address) {
                users.remove(key);
                others.extend(users.iter().cloned());
                if users.is_empty() {
                    self.used.remove(&address);
                }
            }
        }
        others
    }

    /// Gives back what was planned before and is planned anew.
    fn unplan(&mut self, key: &Key) {
        let Some(entry) = self.entries.get_mut(key) else { return };
        let planned = std::mem::take(&mut entry.planned);
        let still = entry.all();
        for address in planned.into_iter().filter(|address| !still.contains(address)) {
            if let Some(users) = self.used.get_mut(&address) {
                users.remove(key);
                if users.is_empty() {
                    self.used.remove(&address);
                }
            }
        }
    }

    /// Whether an object may keep an address: what users write goes before what was given, and the older object before
    /// the younger.
    fn may_keep(&self, key: &Key, address: IpAddr) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        let in_range = self.ranges.iter().any(|range| range.net.contains(&address));
        let users = self.used.get(&address).into_iter().flatten().filter(|user| *user != key);
        in_range
            && users
                .filter_map(|user| Some((user, self.entries.get(user)?)))
                .all(|(user, other)| !other.own.contains(&address) && (&entry.created, key) < (&other.created, user))
    }

    /// The addresses that an object's hosts should have.
    fn wanted(&mut self, key: &Key) -> Option<Vec<(IpAddr, String)>> {
        let entry = self.entries.get(key)?.clone();
        let mut all = Vec::new();
        for host in &entry.hosts {
            for at in 0..self.ranges.len() {
                let fits = |address: &IpAddr| self.ranges[at].net.contains(address);
                let mut held = entry.status.iter().filter(|(address, of)| of == host && fits(address)).map(|(a, _)| *a);
                let taken = |address: &IpAddr| all.iter().any(|(a, _)| a == address);
                let kept = held.find(|address| !taken(address) && self.may_keep(key, *address));
                if let Some(address) = kept.or_else(|| self.free(at, &all)) {
                    all.push((address, host.clone()));
                }
            }
        }
        Some(all)
    }

    /// The next address of a range that nobody has.
    fn free(&mut self, at: usize, given: &[(IpAddr, String)]) -> Option<IpAddr> {
        let range = &mut self.ranges[at];
        let start = range.next;
        loop {
            let address = range.next;
            range.next = after(address).filter(|next| range.net.contains(next)).unwrap_or_else(|| first(&range.net));
            if !self.used.contains_key(&address) && !given.iter().any(|(a, _)| *a == address) {
                return Some(address);
            }
            if range.next == start {
                tracing::error!(range = %range.net, "no address is left for ServiceEntries");
                return None;
            }
        }
    }
}

impl Duty for Addresses {
    fn watched(&self) -> Vec<(ApiKind, Option<String>)> {
        vec![(SERVICE_ENTRY, None)]
    }

    fn seen(&mut self, key: &Key, object: &Value) -> Vec<Key> {
        let mut others = self.forget(key);
        let entry = Entry::of(object);
        self.use_all(key, entry.all());
        for address in entry.all() {
            others.extend(self.used.get(&address).into_iter().flatten().cloned());
        }
        self.entries.insert(key.clone(), entry);
        others.insert(key.clone());
        others.into_iter().collect()
    }

    fn gone(&mut self, key: &Key) -> Vec<Key> {
        self.forget(key).into_iter().collect()
    }

    fn request(&mut self, key: &Key) -> Option<Request<Vec<u8>>> {
        self.unplan(key);
        let wanted = self.wanted(key)?;
        let entry = self.entries.get_mut(key)?;
        // In which order they stand says nothing.
        let set = |all: &[(IpAddr, String)]| all.iter().cloned().collect::<BTreeSet<_>>();
        if wanted.len() == entry.status.len() && set(&wanted) == set(&entry.status) && !entry.odd {
            return None;
        }
        let (_, namespace, name) = key;
        let path = format!("{}/{name}/status", SERVICE_ENTRY.path(&entry.version, Some(namespace)));
        let list: Vec<Value> = wanted.iter().map(|(a, host)| json!({ "value": a.to_string(), "host": host })).collect();
        let list = if list.is_empty() { Value::Null } else { json!(list) };
        let body = json!({
            "metadata": { "resourceVersion": entry.resource_version },
            "status": { "addresses": list },
        });
        entry.planned = wanted.iter().map(|(address, _)| *address).collect();
        let planned = entry.planned.clone();
        self.use_all(key, planned);
        Some(request(Method::PATCH, &path, &body))
    }
}

impl Entry {
    fn of(object: &Value) -> Self {
        let (metadata, spec) = (&object["metadata"], &object["spec"]);
        let texts = |list: &Value| -> Vec<String> {
            list.as_array().into_iter().flatten().filter_map(|v| v.as_str().map(str::to_owned)).collect()
        };
        let addresses = texts(&spec["addresses"]);
        let declined = metadata["labels"][LABEL].as_str().is_some_and(|l| l.eq_ignore_ascii_case("false"));
        let resolution = spec["resolution"].as_str().unwrap_or("NONE");
        let eligible =
            !declined && resolution != "NONE" && addresses.is_empty() && !metadata["deletionTimestamp"].is_string();
        let mut hosts = texts(&spec["hosts"]);
        hosts.retain(|host| eligible && (resolution == "DYNAMIC_DNS" || !host.contains('*')));
        let mut seen = BTreeSet::new();
        hosts.retain(|host| seen.insert(host.clone()));
        let said = object["status"]["addresses"].as_array().map(Vec::as_slice).unwrap_or_default();
        let status: Vec<_> = said
            .iter()
            .filter_map(|e| Some((e["value"].as_str()?.parse().ok()?, e["host"].as_str()?.to_owned())))
            .collect();
        Self {
            version: object["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("v1", |(_, v)| v).to_owned(),
            resource_version: metadata["resourceVersion"].clone(),
            created: metadata["creationTimestamp"].as_str().unwrap_or_default().to_owned(),
            hosts,
            odd: status.len() != said.len(),
            status,
            own: addresses.iter().filter_map(|a| a.parse().ok()).collect(),
            planned: Vec::new(),
        }
    }

    /// Every address that it has or is about to have.
    fn all(&self) -> BTreeSet<IpAddr> {
        let status = self.status.iter().map(|(address, _)| *address);
        status.chain(self.own.iter().copied()).chain(self.planned.iter().copied()).collect()
    }
}

/// The first address of a range that is given: the one after that which names the range.
fn first(net: &IpNet) -> IpAddr {
    after(net.network()).filter(|next| net.contains(next)).unwrap_or_else(|| net.network())
}

fn after(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(a) => a.to_bits().checked_add(1).map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(a) => a.to_bits().checked_add(1).map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}
