//! One type on one stream: what is subscribed, what the client has, what is under way, and what comes next.

use super::{
    blame,
    flight::Flight,
    holding::{Has, Holding, no_endpoints},
    message::{Rejection, Response, Standing, Variant},
    names::{NameSet, Sets},
};
use crate::{
    id::ResourceType,
    translate::{Config, Resource},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// How many responses that are no longer waited for are remembered, for a client that never answers.
const MAX_LATE: usize = 8;

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
    names: NameSet,
    sets: Arc<Sets>,
    /// The client has nothing and is to be told of everything that it asks for: there is no need to keep what by name.
    fresh: bool,
    /// Of virtual hosts: the route configurations that the client has, whose virtual hosts alone it can use.
    roots: Option<BTreeSet<Arc<str>>>,
    /// Those of them of which it was told nothing yet. Envoy waits for the first word on each.
    untold: BTreeSet<Arc<str>>,
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
    fn new(kind: ResourceType, variant: Variant, sets: &Arc<Sets>) -> Self {
        Self {
            kind,
            variant,
            wildcard: false,
            names: NameSet::default(),
            sets: sets.clone(),
            fresh: false,
            roots: (kind == ResourceType::VirtualHost).then(BTreeSet::new),
            untold: BTreeSet::new(),
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
    pub(super) fn listing(
        kind: ResourceType,
        (names, version): (&[String], &str),
        config: &Arc<Config>,
        sets: &Arc<Sets>,
    ) -> Self {
        let mut watch = Self::new(kind, Variant::Sotw, sets);
        watch.list(names, config);
        watch.fresh |= watch.asks_for_all_anew();
        if !version.is_empty() {
            watch.unfold();
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
        sets: &Arc<Sets>,
    ) -> Self {
        let mut watch = Self::new(kind, Variant::Delta, sets);
        watch.change(subscribe, unsubscribe, config);
        // Envoy names no virtual host, and is sent those of the route configurations that it has.
        if watch.roots.is_some() || subscribe.is_empty() && kind.has_wildcard() {
            watch.set_wildcard(true);
        }
        if let Some(roots) = &mut watch.roots {
            roots.extend(versions.keys().filter_map(|name| root(name)).map(Arc::from));
        }
        match versions.is_empty() {
            true => watch.fresh |= watch.asks_for_all_anew(),
            false => {
                if std::mem::take(&mut watch.fresh) {
                    watch.again.extend(watch.names.iter().cloned());
                }
                let names = (!watch.wildcard).then_some(&watch.names);
                watch.holding = Holding::reported(kind, config, versions, names);
                watch.again.retain(|name| !versions.contains_key(&**name));
                watch.owed = false;
            }
        }
        watch
    }

    fn asks_for_all_anew(&self) -> bool {
        self.wildcard && self.names.is_empty() && self.is_untold()
    }

    /// Whether nothing was ever sent, and nothing is to be sent again.
    fn is_untold(&self) -> bool {
        self.holding.is_blank() && self.again.is_empty() && self.nonce_sent.is_empty()
    }

    /// Keeps by name what a client that has nothing is to be told.
    fn unfold(&mut self) {
        if std::mem::take(&mut self.fresh) {
            self.again.extend(self.names.iter().cloned());
            if !self.wildcard {
                self.names.iter().for_each(|name| self.holding.start(name));
            }
        }
    }

    /// Takes the whole list of names of a state-of-the-world request.
    pub(super) fn list(&mut self, names: &[String], config: &Config) {
        self.named |= !names.is_empty();
        self.set_wildcard(names.iter().any(|n| n == "*") || !self.named && self.kind.has_wildcard());
        let names: Vec<&str> = names.iter().map(String::as_str).filter(|n| *n != "*").collect();
        // As a rule a list is that of before.
        if self.sets.digest(&names) == self.names.digest() {
            return;
        }
        let now: BTreeSet<&str> = names.into_iter().collect();
        let dropped: Vec<_> = self.names.iter().filter(|n| !now.contains(&***n)).cloned().collect();
        let added: Vec<&str> = now.into_iter().filter(|name| !self.names.contains(name)).collect();
        self.drop_names(&dropped);
        self.add_names(&added, config);
    }

    /// Takes the changes of names of a delta request. A name that is subscribed again is sent again.
    pub(super) fn change(&mut self, subscribe: &[String], unsubscribe: &[String], config: &Config) {
        let named = |names: &[String]| -> Vec<String> { names.iter().filter(|n| *n != "*").cloned().collect() };
        if subscribe.iter().any(|name| name == "*") {
            self.set_wildcard(true);
        }
        self.add_names(&subscribe.iter().map(String::as_str).filter(|n| *n != "*").collect::<Vec<_>>(), config);
        if unsubscribe.iter().any(|name| name == "*") {
            self.set_wildcard(false);
        }
        self.drop_names(&named(unsubscribe).iter().map(|name| Arc::from(name.as_str())).collect::<Vec<_>>());
    }

    fn set_wildcard(&mut self, wildcard: bool) {
        if wildcard == self.wildcard {
            return;
        }
        self.unfold();
        self.wildcard = wildcard;
        self.owed = wildcard && self.roots.is_none();
        let (kind, names) = (self.kind, self.names.clone());
        self.holding = self.holding.restricted(kind, &names);
        self.again.retain(|n| names.contains(n));
    }

    fn add_names(&mut self, names: &[&str], config: &Config) {
        if names.is_empty() {
            return;
        }
        // Where there is such a resource its name is shared, so that a thousand streams keep it once.
        let kind = self.kind;
        let shared = |name: &str| config.get(kind, name).map_or_else(|| name.into(), |r| r.name.clone());
        let is_first = !self.wildcard && self.names.is_empty() && self.is_untold();
        let before = self.names.clone();
        self.names = self.sets.with(&before, names, shared);
        if is_first {
            self.fresh = true;
            return;
        }
        self.unfold();
        for name in names.iter().filter_map(|name| self.names.get(name)) {
            self.refused.remove(name);
            self.again.insert(name.clone());
            if !self.wildcard && !before.contains(name) {
                self.holding.start(name);
            }
        }
    }

    fn drop_names(&mut self, names: &[Arc<str>]) {
        let dropped: Vec<Arc<str>> = names.iter().filter_map(|name| self.names.get(name)).cloned().collect();
        if dropped.is_empty() {
            return;
        }
        self.unfold();
        self.names = self.sets.without(&self.names, &dropped);
        for name in &dropped {
            if self.wildcard {
                // The client cannot know whether the wildcard has it still, so it is told.
                self.again.insert(name.clone());
                continue;
            }
            let kind = self.kind;
            self.again.remove(name);
            self.refused.remove(name);
            self.holding.forget(kind, name);
        }
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

    /// Takes the route configurations that the client has. It has no virtual host of one that is new, and those of one
    /// that is gone are gone too.
    pub(super) fn set_roots(&mut self, now: BTreeSet<Arc<str>>) {
        let Some(before) = self.roots.replace(now.clone()).filter(|before| *before != now) else { return };
        let fresh = self.fresh;
        let is_of = |name: &Arc<str>, roots: &BTreeSet<Arc<str>>, others: &BTreeSet<Arc<str>>| {
            root(name).is_some_and(|root| roots.contains(root) && !others.contains(root))
        };
        let served = self.holding.served.all(self.kind).map(|r| r.name.clone());
        let known: BTreeSet<Arc<str>> = served.chain(self.holding.except.keys().cloned()).filter(|_| !fresh).collect();
        for name in known.iter().filter(|name| is_of(name, &before, &now)) {
            self.holding.forget(self.kind, name);
            self.again.remove(name);
        }
        known.iter().filter(|name| is_of(name, &now, &before)).for_each(|name| self.holding.start(name));
        self.untold.retain(|root| now.contains(root));
        self.untold.extend(now.difference(&before).cloned());
    }

    /// Those that it was told nothing of and that have no virtual hosts now are to be said to have none.
    fn tell_roots(&mut self, config: &Config) {
        let untold = std::mem::take(&mut self.untold);
        if untold.is_empty() {
            return;
        }
        let with_hosts: BTreeSet<&str> = config.all(self.kind).filter_map(|r| root(&r.name)).collect();
        let without = untold.iter().filter(|root| !with_hosts.contains(&***root));
        self.again.extend(without.map(|root| Arc::from(format!("{root}/none"))));
    }

    /// Sends a resource again whatever the client has.
    pub(super) fn repeat(&mut self, name: &str) {
        if let Some(name) = self.names.get(name).filter(|_| !self.fresh) {
            self.again.insert(name.clone());
        }
    }

    /// Sends everything again.
    pub(super) fn repeat_all(&mut self) {
        self.unfold();
        let held = self.held();
        self.owed |= self.wildcard && self.roots.is_none();
        self.again.extend(self.names.iter().cloned().chain(held.iter().map(|r| r.name.clone())));
    }

    /// Whether the client has what this configuration says, and nothing is under way.
    pub(super) fn is_settled(&self, config: &Arc<Config>) -> bool {
        self.flight.is_none() && self.is_planned(config)
    }

    /// Whether something is to be said whatever the configuration is.
    fn owes(&self) -> bool {
        self.fresh || !self.again.is_empty() || !self.untold.is_empty() || self.owed
    }

    /// Whether there is nothing to say beyond what is under way.
    pub(super) fn is_planned(&self, config: &Arc<Config>) -> bool {
        !self.owes() && self.holding.is(config)
    }

    /// Whether there may be something to say beyond what is under way, however the configuration was made.
    pub(super) fn differs(&self, config: &Arc<Config>) -> bool {
        self.owes() || !config.changes(&self.holding.served, self.kind).is_empty()
    }

    /// Whether a response was sent and not answered.
    pub(super) fn in_flight(&self) -> bool {
        self.flight.is_some()
    }

    /// The names in the response that is under way.
    pub(super) fn sending(&self) -> impl Iterator<Item = &str> {
        self.flight.iter().flat_map(|f| f.sent.iter()).map(|r| &*r.name)
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
        let again = flight.again.iter().chain(flight.first.iter());
        self.again.extend(again.filter(|name| !told || !flight.gone.contains(name)).cloned());
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
        self.tell_roots(config);
        let before = self.holding.clone();
        let fresh = std::mem::take(&mut self.fresh);
        let (sent, gone, again): (Arc<[_]>, Vec<_>, _) = if fresh {
            let (sent, gone) = self.everything(config);
            self.holding.advance(config, BTreeMap::new());
            sent.iter().for_each(|new| self.holding.replace(&Has::Nothing, Some(new)));
            (sent.into(), gone, std::mem::take(&mut self.again))
        } else {
            let plan = self.plan(config, may_remove);
            let again = std::mem::replace(&mut self.again, plan.later);
            self.holding.advance(config, plan.kept);
            plan.put.iter().for_each(|(new, old)| self.holding.replace(old, Some(new)));
            plan.gone.iter().for_each(|(_, old)| self.holding.replace(old, None));
            let gone = plan.gone.into_iter().map(|(name, _)| name).collect();
            (plan.put.into_iter().map(|(resource, _)| resource).collect(), gone, again)
        };
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
        let first = if fresh { self.names.clone() } else { NameSet::default() };
        self.flight = Some(Flight { nonce: nonce.clone(), sent, gone, before, again, first, mixed });
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
        sent: &Arc<[Arc<Resource>]>,
        gone: &[Arc<str>],
    ) -> (Arc<[Arc<Resource>]>, Vec<Arc<str>>) {
        match self.variant {
            Variant::Delta => (sent.clone(), gone.to_vec()),
            Variant::Sotw if self.speaks_whole() => (self.whole(config).into(), Vec::new()),
            // A cluster that waits for its endpoints holds up everything behind it, and this variant has no
            // other way to say that there are none.
            Variant::Sotw if self.tells_absence() => {
                (sent.iter().cloned().chain(gone.iter().map(no_endpoints)).collect(), Vec::new())
            }
            Variant::Sotw => (sent.clone(), Vec::new()),
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

    /// All that a client is to be told that has nothing: what there is of what it asks for, and the names of the rest.
    fn everything(&self, config: &Config) -> (Vec<Arc<Resource>>, Vec<Arc<str>>) {
        let (mut sent, mut missing) = (Vec::new(), Vec::new());
        if self.wildcard {
            sent.extend(config.in_order(self.kind).into_iter().filter(|r| self.wants(&r.name)).cloned());
        } else {
            let mut there = config.in_order(self.kind).into_iter().peekable();
            for name in self.names.iter() {
                let is = |r: &&Arc<Resource>| Arc::ptr_eq(&r.name, name) || r.name == *name;
                while there.next_if(|r| !is(r) && r.name < *name).is_some() {}
                match there.next_if(is) {
                    Some(resource) => sent.push(resource.clone()),
                    None => missing.push(name.clone()),
                }
            }
        }
        let nowhere = self.again.iter().filter(|name| !self.names.contains(name));
        missing.extend(nowhere.filter(|name| self.wants(name) && config.get(self.kind, name).is_none()).cloned());
        (sent, missing)
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
    name.rsplit_once('/').map(|(root, _)| root)
}
