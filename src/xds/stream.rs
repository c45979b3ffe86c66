//! The protocol of one stream, both variants, without sockets, tasks or clock: it is told what the client says
//! and what the node is to be served now, and says what to send.
//!
//! The rules, of which the tests have one case each:
//!
//! - At most one response of a type is under way. What comes meanwhile is not queued: the next response says how
//!   the newest state differs from what the client has.
//! - Nothing that the client has is sent again, but what it asks for anew, and the endpoints of a cluster that
//!   was sent (Envoy warms the cluster with them and does not ask).
//! - Make before break: listeners and routes wait until the clusters that they may name are taken (Envoy takes
//!   them once they are warm), and clusters go after the listeners and routes that named them. Neither waits
//!   without end: see [`Stream::on_overdue`].
//! - Virtual hosts are sent unasked, right behind the route configuration that they are of, all that there are in one
//!   response.
//! - A refused response counts as not taken at all. What was at fault in it is left out from then on, until it
//!   changes; where the client does not say what it was, it is found by sending half as much at once.

mod blame;
mod flight;
mod holding;
mod message;
mod names;
mod watch;

pub use message::{Names, Rejection, Request, Response, Standing, Variant};

use super::{Metrics, cache::Kept};
use crate::{
    id::ResourceType,
    translate::{Asked, Config, Resource},
};
use names::Sets;
use std::{collections::BTreeSet, sync::Arc};
use watch::Watch;

/// What streams share: the sets of names that their clients subscribe to, and what is made for those who ask for it.
#[derive(Debug, Default)]
pub struct Common {
    sets: Arc<Sets>,
    kept: Kept,
}

/// One stream of one client.
#[derive(Debug)]
pub struct Stream {
    /// All that there is for the node.
    whole: Arc<Config>,
    /// What of it the client is sent.
    config: Arc<Config>,
    /// What the client has asked for, where it is sent some things only then.
    asked: Asked,
    watches: [Option<Box<Watch>>; ResourceType::ALL.len()],
    /// Types that are not served, which were answered once.
    unknown: BTreeSet<String>,
    nonces: u64,
    /// The client came back with clusters and will subscribe to what uses them: none is removed before.
    returning: bool,
    metrics: Arc<Metrics>,
    common: Arc<Common>,
}

/// How many types that are not served are answered.
const MAX_UNKNOWN: usize = 64;

/// The types that name clusters.
const USERS: [ResourceType; 3] = [ResourceType::Listener, ResourceType::Route, ResourceType::VirtualHost];

impl Common {
    /// What a client is sent of a configuration, by what it has asked for.
    fn answering(&self, whole: &Arc<Config>, asked: &Asked) -> Arc<Config> {
        match whole.is_on_demand() {
            true => Arc::new(whole.answering(asked, &self.kept)),
            false => whole.clone(),
        }
    }
}

impl Stream {
    /// A stream of a node that is served `config` now.
    pub fn new(config: Arc<Config>, metrics: Arc<Metrics>) -> Self {
        Self::sharing(config, metrics, Arc::default())
    }

    /// One that shares with others what streams share.
    pub fn sharing(config: Arc<Config>, metrics: Arc<Metrics>, common: Arc<Common>) -> Self {
        let (watches, unknown, asked) = (Default::default(), BTreeSet::new(), Asked::default());
        let whole = config;
        let config = common.answering(&whole, &asked);
        Self { whole, config, asked, watches, unknown, nonces: 0, returning: false, metrics, common }
    }

    /// What the node is served now.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Takes what the client says.
    pub fn on_request(&mut self, request: Request) -> Vec<Response> {
        let Some(kind) = ResourceType::of_url(&request.type_url) else {
            return self.on_unknown(request).into_iter().collect();
        };
        self.note(kind, &request.names);
        match &mut self.watches[kind as usize] {
            None => self.open(kind, &request.names),
            Some(watch) => {
                let current = request.nonce.is_empty() || watch.is_newest(&request.nonce);
                match &request.error {
                    Some(error) if watch.nack(&request.nonce, error) => self.metrics.nack(kind),
                    Some(_) => {}
                    None if request.nonce.is_empty() => {}
                    None => watch.ack(&request.nonce),
                }
                if !current {
                    self.metrics.stale();
                }
                match &request.names {
                    // A list that answers an old response is an old list.
                    Names::All { .. } if !current => {}
                    Names::All { names, .. } => watch.list(names, &self.config),
                    Names::Changes { subscribe, unsubscribe, .. } => {
                        watch.change(subscribe, unsubscribe, &self.config);
                    }
                }
            }
        }
        if kind == ResourceType::Route {
            // Better routes may follow at once, and look as if the client had never lost its hosts.
            self.follow_routes();
        }
        self.pump(false)
    }

    /// Takes what the node is served from now on.
    pub fn on_config(&mut self, config: Arc<Config>) -> Vec<Response> {
        self.config = self.common.answering(&config, &self.asked);
        self.whole = config;
        self.pump(false)
    }

    /// Notes what the client asks for, or has from an earlier stream, where it is sent some things only then.
    fn note(&mut self, kind: ResourceType, names: &Names) {
        let Names::Changes { subscribe, versions, .. } = names else { return };
        let all = subscribe.iter().chain(versions.keys()).map(String::as_str).filter(|name| *name != "*");
        if self.whole.is_on_demand() && self.asked.add(kind, all) {
            self.config = self.common.answering(&self.whole, &self.asked);
        }
    }

    /// Whether something waits for the client to take clusters. The caller should wait a little, and then say
    /// [`Stream::on_overdue`].
    pub fn is_waiting(&self) -> bool {
        let Some(clusters) = self.watch(ResourceType::Cluster) else { return false };
        match clusters.in_flight() {
            true => {
                let waits = |kind: &ResourceType| self.watch(*kind).is_some_and(|w| w.differs(&self.config));
                !clusters.is_planned(&self.config) || USERS.iter().any(waits)
            }
            false => self.returning && !clusters.is_planned(&self.config),
        }
    }

    /// Whether the client has taken all that it asked for, and listeners, which it asks for late, are among it.
    pub fn is_served(&self) -> bool {
        self.watch(ResourceType::Listener).is_some() && !self.watches.iter().flatten().any(|w| w.in_flight())
    }

    /// Waits no longer for the client to take clusters: Envoy does not answer while a cluster warms, and one
    /// that cannot warm must not hold up everything else.
    pub fn on_overdue(&mut self) -> Vec<Response> {
        self.returning = false;
        if let Some(clusters) = &mut self.watches[ResourceType::Cluster as usize] {
            clusters.let_go();
        }
        self.pump(true)
    }

    /// Sends everything again.
    pub fn push_all(&mut self) -> Vec<Response> {
        self.watches.iter_mut().flatten().for_each(|w| w.repeat_all());
        self.pump(false)
    }

    /// Where each subscribed type stands.
    pub fn standing(&self) -> Vec<Standing> {
        self.watches.iter().flatten().map(|w| w.standing()).collect()
    }

    /// What the client has of a type, once it takes what is under way.
    pub fn held(&self, kind: ResourceType) -> Vec<Arc<Resource>> {
        self.watch(kind).map_or_else(Vec::new, Watch::held)
    }

    fn watch(&self, kind: ResourceType) -> Option<&Watch> {
        self.watches[kind as usize].as_deref()
    }

    fn open(&mut self, kind: ResourceType, names: &Names) {
        let mut watch = match names {
            Names::All { names, version } => Watch::listing(kind, (names, version), &self.config, &self.common.sets),
            Names::Changes { subscribe, unsubscribe, versions } => {
                self.returning |= kind == ResourceType::Cluster && !versions.is_empty();
                Watch::changing(kind, (subscribe, unsubscribe), versions, &self.config, &self.common.sets)
            }
        };
        if kind == ResourceType::Endpoints {
            let clusters = self.watch(ResourceType::Cluster).into_iter().flat_map(Watch::sending);
            clusters.for_each(|name| watch.repeat(name));
        }
        self.returning &= kind != ResourceType::Listener;
        self.watches[kind as usize] = Some(Box::new(watch));
    }

    /// A type that is not served has no resources.
    fn on_unknown(&mut self, request: Request) -> Option<Response> {
        if !request.nonce.is_empty()
            || self.unknown.len() == MAX_UNKNOWN
            || !self.unknown.insert(request.type_url.clone())
        {
            return None;
        }
        let removed = request.subscribed().iter().filter(|n| *n != "*").map(|n| n.as_str().into()).collect();
        self.nonces += 1;
        Some(Response {
            type_url: request.type_url.into(),
            nonce: self.nonces.to_string(),
            version: "0".into(),
            resources: Arc::default(),
            removed,
        })
    }

    /// Everything that may be sent now, in order. Where `hurry` is set nothing waits for clusters.
    fn pump(&mut self, hurry: bool) -> Vec<Response> {
        let mut out = self.pass(hurry);
        // What was settled only in that pass may let clusters go.
        out.extend(self.pass(hurry));
        out
    }

    fn pass(&mut self, hurry: bool) -> Vec<Response> {
        let mut out = Vec::new();
        for kind in ResourceType::ALL {
            let clusters_under_way = self.watch(ResourceType::Cluster).is_some_and(Watch::in_flight);
            if USERS.contains(&kind) && clusters_under_way && !hurry {
                continue;
            }
            if kind == ResourceType::VirtualHost {
                self.follow_routes();
            }
            let may_remove = self.may_remove(kind);
            let Some(watch) = &mut self.watches[kind as usize] else { continue };
            let nonces = &mut self.nonces;
            let response = watch.next(&self.config, may_remove, || {
                *nonces += 1;
                nonces.to_string()
            });
            let Some(response) = response else { continue };
            if kind == ResourceType::Cluster {
                self.repeat_endpoints();
            }
            self.metrics.push(kind, response.resources.len());
            out.push(response);
        }
        out
    }

    /// Virtual hosts are of use to a client only behind the route configuration that they are of: before it they are
    /// lost, and with it they go. Envoy says nothing of that itself (`GrpcMuxImpl` subscribes to the type once).
    fn follow_routes(&mut self) {
        let [_, _, _, Some(routes), Some(hosts), ..] = &mut self.watches else { return };
        hosts.set_roots(routes.had());
    }

    /// The endpoints of clusters that are sent are sent after them.
    fn repeat_endpoints(&mut self) {
        let [Some(clusters), Some(endpoints), ..] = &mut self.watches else { return };
        let with_endpoints = |name: &&str| self.config.get(ResourceType::Endpoints, name).is_some();
        clusters.sending().filter(with_endpoints).for_each(|name| endpoints.repeat(name));
    }

    /// Whether what is gone of a type may be taken from the client: nothing that it has may use it.
    fn may_remove(&self, kind: ResourceType) -> bool {
        let settled = |kind: ResourceType| self.watch(kind).is_none_or(|w| w.is_settled(&self.config));
        let unused = !self.returning && USERS.into_iter().all(settled);
        match kind {
            ResourceType::Cluster => unused,
            ResourceType::Endpoints => unused && settled(ResourceType::Cluster),
            _ => true,
        }
    }
}
