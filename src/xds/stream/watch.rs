//! One type on one stream: what is subscribed, what the client has, what is under way, and what comes next.

use super::{
    blame,
    holding::{Has, Holding},
    message::{Rejection, Response, Standing, Variant},
};
use crate::{
    id::ResourceType,
    pb::envoy::config::endpoint::v3::ClusterLoadAssignment,
    translate::{Config, Resource},
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// How many responses that are no longer waited for are remembered, for a client that never answers.
const MAX_LATE: usize = 8;

/// A response that was sent and not answered.
#[derive(Debug)]
struct Flight {
    nonce: String,
    sent: Vec<Arc<Resource>>,
    /// The names that were said to be gone.
    gone: Vec<Arc<str>>,
    /// What the client had before.
    before: Holding,
    /// What had to be sent whatever the client had.
    again: BTreeSet<Arc<str>>,
    /// It has more than `sent` that the client may refuse.
    mixed: bool,
}

impl Flight {
    /// What the client has once it takes this, by name.
    fn says(&self) -> BTreeMap<Arc<str>, Has> {
        let sent = self.sent.iter().map(|r| (r.name.clone(), Has::This(r.clone())));
        sent.chain(self.gone.iter().map(|name| (name.clone(), Has::Nothing))).collect()
    }
}

/// What to send next.
#[derive(Default)]
struct Plan {
    put: Vec<(Arc<Resource>, Has)>,
    gone: Vec<(Arc<str>, Has)>,
    /// Where the client keeps what it has for now.
    kept: BTreeMap<Arc<str>, Has>,
    /// What is left for the response after this one.
    later: BTreeSet<Arc<str>>,
}

/// One type on one stream.
#[derive(Debug)]
pub(super) struct Watch {
    kind: ResourceType,
    variant: Variant,
    wildcard: bool,
    names: BTreeSet<Arc<str>>,
    /// Of virtual hosts: the route configurations that the client has, whose virtual hosts alone it can use.
    roots: Option<BTreeSet<Arc<str>>>,
    /// The client has named something: no longer does an empty list stand for everything.
    named: bool,
    holding: Holding,
    /// To be sent, or said to be gone, whatever the client has.
    again: BTreeSet<Arc<str>>,
    /// A response is owed even if there is nothing in it.
    owed: bool,
    flight: Option<Flight>,
    /// Responses that were sent and no longer waited for, the oldest first.
    late: VecDeque<Flight>,
    /// How many resources to send at once, while it is searched which of many the client refuses.
    limit: Option<usize>,
    /// The versions that the client refused: they are not sent again.
    refused: BTreeMap<Arc<str>, u64>,
    error: Option<Rejection>,
    nonce_sent: String,
    nonce_acked: String,
}

impl Watch {
    fn new(kind: ResourceType, variant: Variant) -> Self {
        Self {
            kind,
            variant,
            wildcard: false,
            names: BTreeSet::new(),
            roots: (kind == ResourceType::VirtualHost).then(BTreeSet::new),
            named: false,
            holding: Holding::default(),
            again: BTreeSet::new(),
            owed: false,
            flight: None,
            late: VecDeque::new(),
            limit: None,
            refused: BTreeMap::new(),
            error: None,
            nonce_sent: String::new(),
            nonce_acked: String::new(),
        }
    }

    /// The first request of a state-of-the-world stream for this type. A client that comes back with the version
    /// of just what there is keeps it.
    pub(super) fn listing(kind: ResourceType, names: &[String], version: &str, config: &Arc<Config>) -> Self {
        let mut watch = Self::new(kind, Variant::Sotw);
        watch.list(names, config);
        if !version.is_empty() {
            let wanted = config.all(kind).filter(|r| watch.wants(&r.name));
            if let Some(holding) = Holding::versioned(config, version, wanted) {
                watch.again.retain(|name| config.get(kind, name).is_none());
                watch.holding = holding;
                watch.owed = false;
            }
        }
        watch
    }

    /// The first request of a delta stream for this type, with what the client has from an earlier stream.
    pub(super) fn changing(
        kind: ResourceType,
        (subscribe, unsubscribe): (&[String], &[String]),
        versions: &BTreeMap<String, String>,
        config: &Arc<Config>,
    ) -> Self {
        let mut watch = Self::new(kind, Variant::Delta);
        watch.change(subscribe, unsubscribe, config);
        // Envoy names no virtual host, and is sent those of the route configurations that it has.
        if subscribe.is_empty() && (kind.has_wildcard() || watch.roots.is_some()) {
            watch.set_wildcard(true);
        }
        if let Some(roots) = &mut watch.roots {
            roots.extend(versions.keys().filter_map(|name| root(name)).map(Arc::from));
        }
        if !versions.is_empty() {
            let names = (!watch.wildcard).then_some(&watch.names);
            watch.holding = Holding::reported(kind, config, versions, names);
            watch.again.retain(|name| !versions.contains_key(&**name));
            watch.owed = false;
        }
        watch
    }

    /// Takes the whole list of names of a state-of-the-world request.
    pub(super) fn list(&mut self, names: &[String], config: &Config) {
        self.named |= !names.is_empty();
        self.set_wildcard(names.iter().any(|n| n == "*") || !self.named && self.kind.has_wildcard());
        let now: BTreeSet<&str> = names.iter().map(String::as_str).filter(|n| *n != "*").collect();
        let dropped: Vec<_> = self.names.iter().filter(|n| !now.contains(&***n)).cloned().collect();
        dropped.iter().for_each(|name| self.drop_name(name));
        for name in now {
            if !self.names.contains(name) {
                self.add_name(name, config);
            }
        }
    }

    /// Takes the changes of names of a delta request. A name that is subscribed again is sent again.
    pub(super) fn change(&mut self, subscribe: &[String], unsubscribe: &[String], config: &Config) {
        for name in subscribe {
            match name.as_str() {
                "*" => self.set_wildcard(true),
                name => self.add_name(name, config),
            }
        }
        for name in unsubscribe {
            match name.as_str() {
                "*" => self.set_wildcard(false),
                name => self.drop_name(&Arc::from(name)),
            }
        }
    }

    fn set_wildcard(&mut self, wildcard: bool) {
        if wildcard == self.wildcard {
            return;
        }
        self.wildcard = wildcard;
        self.owed = wildcard && self.roots.is_none();
        let (kind, names) = (self.kind, self.names.clone());
        self.holding = self.holding.restricted(kind, &names);
        self.again.retain(|n| names.contains(n));
    }

    fn add_name(&mut self, name: &str, config: &Config) {
        // Where there is such a resource its name is shared, so that a thousand streams keep it once.
        let name = config.get(self.kind, name).map_or_else(|| name.into(), |r| r.name.clone());
        self.refused.remove(&name);
        self.again.insert(name.clone());
        if self.names.insert(name.clone()) && !self.wildcard {
            self.holding.start(&name);
        }
    }

    fn drop_name(&mut self, name: &Arc<str>) {
        if !self.names.remove(name) {
            return;
        }
        if self.wildcard {
            // The client cannot know whether the wildcard has it still, so it is told.
            self.again.insert(name.clone());
            return;
        }
        let kind = self.kind;
        self.again.remove(name);
        self.refused.remove(name);
        self.holding.forget(kind, name);
    }

    /// Whether a name is subscribed.
    pub(super) fn wants(&self, name: &str) -> bool {
        let of_use = |roots: &BTreeSet<_>| root(name).is_some_and(|root| roots.contains(root));
        (self.wildcard || self.names.contains(name)) && self.roots.as_ref().is_none_or(of_use)
    }

    /// The names that are subscribed and that the client has, or has once it takes what is under way.
    pub(super) fn had(&self) -> BTreeSet<Arc<str>> {
        let has = |name: &&Arc<str>| !matches!(self.holding.of(self.kind, name), Has::Nothing);
        self.names.iter().filter(has).cloned().collect()
    }

    /// Takes the route configurations that the client has. It has no virtual host of one that is new, and one without
    /// any is said to have none, since Envoy waits for the first word on each. Those of one that is gone are gone too.
    pub(super) fn set_roots(&mut self, now: BTreeSet<Arc<str>>, config: &Config) {
        let Some(before) = self.roots.replace(now.clone()).filter(|before| *before != now) else { return };
        let is_of = |name: &Arc<str>, roots: &BTreeSet<Arc<str>>, others: &BTreeSet<Arc<str>>| {
            root(name).is_some_and(|root| roots.contains(root) && !others.contains(root))
        };
        let served = self.holding.served.all(self.kind).map(|r| r.name.clone());
        let known: BTreeSet<Arc<str>> = served.chain(self.holding.except.keys().cloned()).collect();
        for name in known.iter().filter(|name| is_of(name, &before, &now)) {
            self.holding.forget(self.kind, name);
            self.again.remove(name);
        }
        known.iter().filter(|name| is_of(name, &now, &before)).for_each(|name| self.holding.start(name));
        let with_hosts: BTreeSet<&str> = config.all(self.kind).filter_map(|r| root(&r.name)).collect();
        let without = now.difference(&before).filter(|new| !with_hosts.contains(&***new));
        self.again.extend(without.map(|new| Arc::from(format!("{new}/none"))));
    }

    /// Sends a resource again whatever the client has.
    pub(super) fn repeat(&mut self, name: &str) {
        if let Some(name) = self.names.get(name) {
            self.again.insert(name.clone());
        }
    }

    /// Sends everything again.
    pub(super) fn repeat_all(&mut self) {
        let held = self.held();
        self.owed |= self.wildcard && self.roots.is_none();
        self.again.extend(self.names.iter().cloned().chain(held.iter().map(|r| r.name.clone())));
    }

    /// Whether the client has what this configuration says, and nothing is under way.
    pub(super) fn is_settled(&self, config: &Arc<Config>) -> bool {
        self.flight.is_none() && self.is_planned(config)
    }

    /// Whether there is nothing to say beyond what is under way.
    pub(super) fn is_planned(&self, config: &Arc<Config>) -> bool {
        self.holding.is(config) && self.again.is_empty() && !self.owed
    }

    /// Whether there may be something to say beyond what is under way, however the configuration was made.
    pub(super) fn differs(&self, config: &Arc<Config>) -> bool {
        !self.is_planned(config)
            && (!self.again.is_empty() || self.owed || !config.changes(&self.holding.served, self.kind).is_empty())
    }

    /// Whether a response was sent and not answered.
    pub(super) fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// The names in the response that is under way.
    pub(super) fn sending(&self) -> impl Iterator<Item = &str> {
        self.flight.iter().flat_map(|f| &f.sent).map(|r| &*r.name)
    }

    /// Whether a response is the newest one sent.
    pub(super) fn is_newest(&self, nonce: &str) -> bool {
        self.nonce_sent == nonce
    }

    /// The client took a response.
    pub(super) fn ack(&mut self, nonce: &str) {
        self.late.retain(|flight| flight.nonce != nonce);
        if !self.is_newest(nonce) {
            return;
        }
        nonce.clone_into(&mut self.nonce_acked);
        self.flight = None;
        self.limit = self.limit.map(|n| n.saturating_mul(2));
        if self.refused.is_empty() {
            self.error = None;
        }
    }

    /// The client refused a response: none of it counts as taken. Returns whether the response was known.
    pub(super) fn nack(&mut self, nonce: &str, message: &str) -> bool {
        let late = self.late.iter().position(|f| f.nonce == nonce);
        let (flight, later) = match late.and_then(|at| Some((self.late.remove(at)?, at))) {
            Some(known) => known,
            None => match self.flight.take_if(|f| f.nonce == nonce) {
                Some(flight) => (flight, self.late.len()),
                None => return false,
            },
        };
        let culprits = blame::culprits(&flight.sent, flight.mixed, message);
        self.error = Some(blame::rejection(nonce, message, &culprits));
        if flight.sent.is_empty() {
            // Nothing could be left out of it, so there is no better one to send.
            return true;
        }
        if culprits.is_empty() {
            self.limit = Some(flight.sent.len().div_ceil(2));
        }
        self.undo(flight, later);
        self.refuse(&culprits);
        true
    }

    /// Notes that the client has what it had before a response. The responses after it, from the late one at `later`
    /// on, were made in the belief that it would be taken.
    fn undo(&mut self, flight: Flight, later: usize) {
        let (whole, told) = (self.speaks_whole(), self.tells_absence());
        let wanted: BTreeSet<Arc<str>> = flight.says().into_keys().filter(|name| self.wants(name)).collect();
        let mut later: Vec<_> =
            self.late.iter_mut().skip(later).chain(&mut self.flight).map(|f| (f.says(), f)).collect();
        // Whole lists have what was refused in them too.
        later.iter_mut().for_each(|(_, f)| f.mixed |= whole);
        for (name, said) in flight.says() {
            let had = flight.before.of(self.kind, &name);
            match later.iter_mut().find(|(says, _)| says.contains_key(&name)) {
                Some((_, next)) => next.before.set(self.kind, &name, had),
                // There is no other way to say it than the one that was refused.
                None if told && matches!(said, Has::Nothing) => {}
                None if wanted.contains(&name) && self.holding.of(self.kind, &name).equals(&said) => {
                    self.holding.set(self.kind, &name, had);
                }
                None => {}
            }
        }
        self.again.extend(flight.again.into_iter().filter(|name| !told || !flight.gone.contains(name)));
    }

    fn refuse(&mut self, culprits: &[Arc<Resource>]) {
        for culprit in culprits {
            self.again.remove(&culprit.name);
            self.refused.insert(culprit.name.clone(), culprit.version);
        }
        let again = std::mem::take(&mut self.again);
        self.again = again.into_iter().filter(|name| self.wants(name)).collect();
    }

    /// Waits no longer for an answer: what was sent counts as taken.
    pub(super) fn let_go(&mut self) {
        self.late.extend(self.flight.take());
        let forgotten = self.late.len().saturating_sub(MAX_LATE);
        self.late.drain(..forgotten);
    }

    /// What comes next, unless a response is under way. Where `may_remove` is not set, removals wait.
    pub(super) fn next(
        &mut self,
        config: &Arc<Config>,
        may_remove: bool,
        nonce: impl FnOnce() -> String,
    ) -> Option<Response> {
        if self.flight.is_some() || self.is_planned(config) {
            return None;
        }
        let plan = self.plan(config, may_remove);
        let before = self.holding.clone();
        let again = std::mem::replace(&mut self.again, plan.later);
        self.holding.advance(config, plan.kept);
        plan.put.iter().for_each(|(new, old)| self.holding.replace(old, Some(new)));
        plan.gone.iter().for_each(|(_, old)| self.holding.replace(old, None));
        let sent: Vec<_> = plan.put.into_iter().map(|(resource, _)| resource).collect();
        let gone: Vec<_> = plan.gone.into_iter().map(|(name, _)| name).collect();
        if self.again.is_empty() && self.holding.except.keys().all(|n| self.refused.contains_key(n)) {
            self.limit = None;
        }
        let owed = std::mem::take(&mut self.owed);
        let changed = !sent.is_empty() || !gone.is_empty();
        let (resources, removed) = self.content(config, &sent, &gone);
        let says = match self.variant == Variant::Delta || self.speaks_whole() {
            true => changed,
            false => !resources.is_empty(),
        };
        if !says && !owed {
            if self.refused.is_empty() {
                self.error = None;
            }
            return None;
        }
        let nonce = nonce();
        nonce.clone_into(&mut self.nonce_sent);
        let mixed = self.tells_absence() && !gone.is_empty();
        self.flight = Some(Flight { nonce: nonce.clone(), sent, gone, before, again, mixed });
        let version = self.holding.version();
        Some(Response { type_url: self.kind.type_url().into(), nonce, version, resources, removed })
    }

    /// State-of-the-world responses of these types list everything: what is absent is gone.
    fn speaks_whole(&self) -> bool {
        self.variant == Variant::Sotw && self.kind.has_wildcard()
    }

    /// State-of-the-world responses of endpoints have empty ones where there are none.
    fn tells_absence(&self) -> bool {
        self.variant == Variant::Sotw && self.kind == ResourceType::Endpoints
    }

    /// What a response consists of: the resources, and the names to say that they are gone.
    fn content(
        &self,
        config: &Config,
        sent: &[Arc<Resource>],
        gone: &[Arc<str>],
    ) -> (Vec<Arc<Resource>>, Vec<Arc<str>>) {
        match self.variant {
            Variant::Delta => (sent.to_vec(), gone.to_vec()),
            Variant::Sotw if self.speaks_whole() => (self.whole(config), Vec::new()),
            // A cluster that waits for its endpoints holds up everything behind it, and this variant has no
            // other way to say that there are none.
            Variant::Sotw if self.tells_absence() => {
                (sent.iter().cloned().chain(gone.iter().map(no_endpoints)).collect(), Vec::new())
            }
            Variant::Sotw => (sent.to_vec(), Vec::new()),
        }
    }

    /// Everything that the client has, once it takes what is sent now.
    pub(super) fn whole(&self, config: &Config) -> Vec<Arc<Resource>> {
        let except = &self.holding.except;
        let served = config.all(self.kind).filter(|r| self.wants(&r.name) && !except.contains_key(&r.name));
        let kept = except.iter().filter_map(|(name, has)| match has {
            Has::This(resource) if self.wants(name) => Some(resource),
            _ => None,
        });
        served.chain(kept).cloned().collect()
    }

    /// Everything that the client has, once it takes what is under way.
    pub(super) fn held(&self) -> Vec<Arc<Resource>> {
        self.whole(&self.holding.served)
    }

    fn plan(&mut self, config: &Config, may_remove: bool) -> Plan {
        let mut candidates: BTreeSet<Arc<str>> = self.again.iter().chain(self.holding.except.keys()).cloned().collect();
        candidates.extend(config.changes(&self.holding.served, self.kind).into_iter().map(|(name, _)| name));
        candidates.retain(|name| self.wants(name));
        let limit = self.limit.unwrap_or(usize::MAX);
        let mut plan = Plan::default();
        for name in candidates {
            let has = self.holding.of(self.kind, &name);
            let forced = self.again.contains(&name);
            let target = config.get(self.kind, &name);
            if self.refused.get(&name).is_some_and(|v| target.is_none_or(|t| t.version != *v)) {
                self.refused.remove(&name);
            }
            match target {
                Some(_) if self.refused.contains_key(&name) => drop(plan.kept.insert(name, has)),
                Some(target) if !forced && has.is(target) => {}
                Some(target) if plan.put.len() < limit => plan.put.push((target.clone(), has)),
                Some(_) => {
                    plan.later.extend(forced.then(|| name.clone()));
                    plan.kept.insert(name, has);
                }
                None if matches!(has, Has::Nothing) => plan.gone.extend(forced.then_some((name, has))),
                None if may_remove && self.kind != ResourceType::Extension => plan.gone.push((name, has)),
                None => drop(plan.kept.insert(name, has)),
            }
        }
        plan
    }

    /// Where it stands.
    pub(super) fn standing(&self) -> Standing {
        Standing {
            kind: self.kind,
            wildcard: self.wildcard,
            names: self.names.iter().cloned().collect(),
            nonce_sent: self.nonce_sent.clone(),
            nonce_acked: self.nonce_acked.clone(),
            version: self.holding.version(),
            in_flight: self.flight.is_some(),
            error: self.error.clone(),
        }
    }
}

/// The route configuration that a virtual host is of, by its name.
fn root(name: &str) -> Option<&str> {
    name.split_once('/').map(|(root, _)| root)
}

fn no_endpoints(cluster: &Arc<str>) -> Arc<Resource> {
    let message = ClusterLoadAssignment { cluster_name: cluster.to_string(), ..Default::default() };
    Arc::new(Resource::new(ResourceType::Endpoints, cluster.clone(), message.encode_to_vec(), Vec::new()))
}
