//! What the control plane writes into its cluster, by one replica at a time: the roots for every namespace, the status of
//! Istio's objects and of Ingresses, the addresses of ServiceEntries, how webhooks are known. And by each for itself, what
//! operators should see ([`events`]).
//!
//! The way through: [`election`] holds a Lease and says until when this replica may write ([`fence`]). While it may, each
//! [`duty`] watches what it is about, keeps the little that it needs of it, and plans requests; [`work`] sends those,
//! a few at once, and tries again what failed. A duty plans from what is there and not from what happened, so that a
//! request that was lost, or done twice, does no harm.

mod addresses;
mod bundle;
mod claim;
mod duty;
mod election;
mod events;
mod fence;
mod ingress;
mod machines;
mod queue;
mod refusals;
mod roots;
mod status;
#[cfg(test)]
mod tests;
mod webhooks;
mod work;

use crate::{
    snapshot::Snapshot,
    source::kubernetes::Contexts,
    xds::{Metrics, Registry},
};
use addresses::Addresses;
use bundle::Bundle;
use election::Election;
use events::{Event, Recorder};
use futures_util::{StreamExt as _, stream};
use ingress::{Ingresses, Served};
use ipnet::IpNet;
use kube::Client;
use machines::leavers::Leavers;
use roots::Roots;
use status::Statuses;
use std::{fmt, sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinSet};
use tokio_stream::wrappers::WatchStream;
use webhooks::Webhooks;
use work::{News, Place};

pub use machines::{Leaving, Machines, Registrations};

/// What is written, and by whom.
pub struct Options {
    /// The cluster.
    pub client: Client,
    /// How its objects are read.
    pub contexts: Contexts,
    /// The only namespace whose objects are looked after; all where there is none.
    pub namespace: Option<String>,
    /// What this replica is called, which no other is.
    pub name: String,
    /// How long a replica may write after it was last heard of.
    pub lease: Duration,
    /// The roots that workloads are to trust, as PEM; none where there is no authority.
    pub roots: Option<watch::Receiver<String>>,
    /// Whether the API server was seen to ask validation; none where nobody looks.
    pub proven: Option<watch::Receiver<bool>>,
    /// The name of the ConfigMap that they are in.
    pub root_config_map: String,
    /// Whether they are in a ClusterTrustBundle too, where the cluster has such.
    pub trust_bundle: bool,
    /// The world, for the status of Ingresses; none to leave that alone.
    pub worlds: Option<watch::Receiver<Arc<Snapshot>>>,
    /// Who is connected, and what is counted of them, for Events; none to write no Events.
    pub events: Option<(Arc<Registry>, Arc<Metrics>)>,
    /// When the entry of a machine that has gone is removed; none to remove none.
    pub machines: Option<Leaving>,
    /// Whether objects are told what is said of them.
    pub status: bool,
    /// Where the addresses of ServiceEntries without one are taken from; none to give none.
    pub addresses: Vec<IpNet>,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("name", &self.name).field("lease", &self.lease).finish_non_exhaustive()
    }
}

/// Writes while this replica is the one that does, until it is told to end.
pub async fn run(options: Options, mut shutdown: watch::Receiver<bool>) {
    let mut contexts = options.contexts.follow();
    let (recorder, writing) = events::recorder(options.client.clone(), options.name.clone());
    let mut events = JoinSet::new();
    let recorder = options.events.clone().map(|(registry, metrics)| {
        events.spawn(writing);
        events.spawn(refusals::tell(registry, metrics, recorder.clone()));
        recorder
    });
    let mut down = std::pin::pin!(async move { drop(shutdown.wait_for(|down| *down).await) });
    loop {
        contexts.mark_unchanged();
        let mut election = Election::new(&options);
        tokio::select! {
            () = &mut down => return,
            _ = contexts.changed() => continue,
            () = election.win() => {}
        }
        tracing::info!(name = options.name, "this replica writes into the cluster");
        recorder.iter().for_each(|recorder| recorder.record(leads(&options)));
        let mut duties = duties(&options, &election, recorder.as_ref());
        tokio::select! {
            () = &mut down => {
                duties.shutdown().await;
                return election.release().await;
            }
            () = election.hold() => tracing::warn!("another replica may write into the cluster by now, so this one does not"),
            _ = contexts.changed() => tracing::info!("this revision has other tags, so all is looked at again"),
            _ = duties.join_next(), if !duties.is_empty() => tracing::error!("a controller has failed; it starts again"),
        }
        duties.shutdown().await;
        election.release().await;
    }
}

/// That this replica writes from now on.
fn leads(options: &Options) -> Event {
    let namespace = &options.contexts.now().system_namespace;
    let object = ["coordination.k8s.io/v1", "Lease", namespace, election::NAME, ""].map(str::to_owned);
    let note = format!("{} writes into the cluster from now on", options.name);
    Event { object, reason: "LeaderElection", warning: false, note }
}

fn duties(options: &Options, election: &Election, recorder: Option<&Recorder>) -> JoinSet<()> {
    let mut running = JoinSet::new();
    let (client, namespace) = (options.client.clone(), options.namespace.clone());
    let context = options.contexts.now();
    let left_out = context.mesh.features.left_out.clone();
    let place = Place { client, fence: election.fence(), namespace, left_out };
    let mut start = |duty: Box<dyn duty::Duty>, changed: News| {
        running.spawn(work::run(place.clone(), duty, changed));
    };
    let never = || -> News { Box::pin(stream::pending()) };
    if let Some(roots) = &options.roots {
        let news = || -> News { Box::pin(WatchStream::from_changes(roots.clone()).map(drop)) };
        let of = Roots::new(options.root_config_map.clone(), roots.clone(), options.namespace.clone());
        start(Box::new(of), news());
        let proven = options.proven.clone();
        let proofs: News = match &proven {
            Some(proven) => Box::pin(WatchStream::from_changes(proven.clone()).map(drop)),
            None => never(),
        };
        let webhooks = Webhooks::new(&context, roots.clone(), proven);
        start(Box::new(webhooks), Box::pin(stream::select(news(), proofs)));
        if options.trust_bundle {
            start(Box::new(Bundle::new(roots.clone())), news());
        }
    }
    if options.status {
        start(Box::new(Statuses::new(context, recorder.cloned())), never());
    }
    if let Some(worlds) = &options.worlds {
        let served = Served::follow(worlds.clone());
        let news: News = Box::pin(WatchStream::from_changes(served.clone()).map(drop));
        start(Box::new(Ingresses::new(served)), news);
    }
    if let Some(leaving) = &options.machines {
        let tick = (leaving.grace / 4).max(Duration::from_millis(250));
        let news = stream::unfold((), move |()| async move {
            tokio::time::sleep(tick).await;
            Some(((), ()))
        });
        start(Box::new(Leavers::new(leaving.clone())), Box::pin(news));
    }
    if !options.addresses.is_empty() {
        start(Box::new(Addresses::new(&options.addresses)), never());
    }
    running
}
