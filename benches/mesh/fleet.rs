//! Proxies in memory: real streams over one engine, each with a client that subscribes and answers as Envoy does.

use mainsheet::{
    id::ResourceType,
    model::Node,
    snapshot::Snapshot,
    xds::{
        Engine, Lease, Metrics,
        stream::{Common, Names, Request, Response, Stream},
    },
};
use std::sync::Arc;

/// Proxies, and what they are served from.
#[derive(Debug)]
pub(crate) struct Fleet {
    engine: Engine,
    metrics: Arc<Metrics>,
    proxies: Vec<(Lease, Stream)>,
    at: Arc<Snapshot>,
    common: Arc<Common>,
    sent: Sent,
    woken: u64,
}

/// What was sent, to all proxies together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    /// Responses.
    pub(crate) messages: u64,
    /// Resources in them.
    pub(crate) resources: u64,
    /// Bytes of their bodies and of names said to be gone.
    pub(crate) bytes: u64,
}

/// The counters of a fleet. They depend on nothing but the world, what changed in it, and the proxies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// What was sent.
    pub(crate) sent: Sent,
    /// Inputs selected: resources rendered, and those that had been rendered before.
    pub(crate) selected: u64,
    /// Resources rendered.
    pub(crate) rendered: u64,
    /// Units built.
    pub(crate) units: u64,
    /// Proxies whose streams had to look whether there is something for them.
    pub(crate) woken: u64,
}

impl Fleet {
    /// Proxies that connect, subscribe to everything that Envoy would, and have it all.
    pub(crate) fn connect(nodes: impl IntoIterator<Item = Node>, snapshot: &Arc<Snapshot>) -> Self {
        let metrics = Arc::new(Metrics::default());
        let engine = Engine::new(metrics.clone());
        let (at, common, sent) = (snapshot.clone(), Arc::default(), Sent::default());
        let mut fleet = Self { engine, metrics, proxies: Vec::new(), at, common, sent, woken: 0 };
        for node in nodes {
            let mut lease = Lease::new(Arc::new(node));
            fleet.engine.seat(&lease);
            fleet.engine.advance(&mut lease, snapshot);
            let config = lease.config().clone();
            let mut stream = Stream::sharing(config, fleet.metrics.clone(), fleet.common.clone());
            for kind in [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener, ResourceType::Route] {
                let names = match kind.has_wildcard() {
                    true => Vec::new(),
                    false => lease.config().all(kind).map(|r| r.name.to_string()).collect(),
                };
                let responses = stream.on_request(request(kind.type_url(), "", names));
                fleet.sent.take(&mut stream, responses);
            }
            fleet.proxies.push((lease, stream));
        }
        fleet
    }

    /// Brings every proxy to a snapshot that is served something else by it.
    pub(crate) fn push(&mut self, snapshot: &Arc<Snapshot>) {
        self.woken += self.engine.follow(&self.at, snapshot) as u64;
        self.at = snapshot.clone();
        for (lease, stream) in &mut self.proxies {
            if lease.was_woken() && self.engine.advance(lease, snapshot) {
                let responses = stream.on_config(lease.config().clone());
                self.sent.take(stream, responses);
            }
        }
    }

    /// What was done so far.
    pub(crate) fn counts(&self) -> Counts {
        let rendered = self.metrics.rendered.get();
        let selected = rendered + self.metrics.cache_hits.get();
        Counts { sent: self.sent, selected, rendered, units: self.metrics.units_built.get(), woken: self.woken }
    }
}

impl Sent {
    /// Takes the responses, and those that follow from taking them.
    fn take(&mut self, stream: &mut Stream, mut responses: Vec<Response>) {
        while !responses.is_empty() {
            let mut next = Vec::new();
            for response in responses {
                self.messages += 1;
                self.resources += response.resources.len() as u64;
                self.bytes += response.resources.iter().map(|r| r.body.len() as u64).sum::<u64>();
                self.bytes += response.removed.iter().map(|n| n.len() as u64).sum::<u64>();
                next.extend(stream.on_request(request(&response.type_url, &response.nonce, Vec::new())));
            }
            responses = next;
        }
    }
}

impl std::ops::Sub for Counts {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        let sent = Sent {
            messages: self.sent.messages - before.sent.messages,
            resources: self.sent.resources - before.sent.resources,
            bytes: self.sent.bytes - before.sent.bytes,
        };
        Self {
            sent,
            selected: self.selected - before.selected,
            rendered: self.rendered - before.rendered,
            units: self.units - before.units,
            woken: self.woken - before.woken,
        }
    }
}

/// A delta request that subscribes to these names, or takes the response of this nonce.
fn request(type_url: &str, nonce: &str, subscribe: Vec<String>) -> Request {
    Request {
        type_url: type_url.to_owned(),
        nonce: nonce.to_owned(),
        error: None,
        names: Names::Changes { subscribe, unsubscribe: Vec::new(), versions: Default::default() },
    }
}
