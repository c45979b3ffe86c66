//! What the control plane writes into its cluster, by one replica at a time: the roots for every namespace, the status of
//! Istio's objects, the addresses of ServiceEntries.
//!
//! The way through: [`election`] holds a Lease and says until when this replica may write ([`fence`]). While it may, each
//! [`duty`] watches what it is about, keeps the little that it needs of it, and plans requests; [`work`] sends those,
//! a few at once, and tries again what failed. A duty plans from what is there and not from what happened, so that a
//! request that was lost, or done twice, does no harm.

mod addresses;
mod claim;
mod duty;
mod election;
mod fence;
mod queue;
mod roots;
mod status;
#[cfg(test)]
mod tests;
mod work;

use crate::parse::Context;
use addresses::Addresses;
use election::Election;
use ipnet::IpNet;
use kube::Client;
use roots::Roots;
use status::Statuses;
use std::{fmt, time::Duration};
use tokio::{sync::watch, task::JoinSet};

/// What is written, and by whom.
pub struct Options {
    /// The cluster.
    pub client: Client,
    /// How its objects are read.
    pub context: Context,
    /// What this replica is called, which no other is.
    pub name: String,
    /// How long a replica may write after it was last heard of.
    pub lease: Duration,
    /// The roots that workloads are to trust, as PEM; none where there is no authority.
    pub roots: Option<watch::Receiver<String>>,
    /// The name of the ConfigMap that they are in.
    pub root_config_map: String,
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
    let mut election = Election::new(&options);
    let mut down = std::pin::pin!(async move { drop(shutdown.wait_for(|down| *down).await) });
    loop {
        tokio::select! {
            () = &mut down => return,
            () = election.win() => {}
        }
        tracing::info!(name = options.name, "this replica writes into the cluster");
        let mut duties = duties(&options, &election);
        tokio::select! {
            () = &mut down => {
                duties.shutdown().await;
                return election.release().await;
            }
            () = election.hold() => tracing::warn!("another replica may write into the cluster by now, so this one does not"),
            _ = duties.join_next(), if !duties.is_empty() => tracing::error!("a controller has failed; it starts again"),
        }
        duties.shutdown().await;
        election.release().await;
    }
}

fn duties(options: &Options, election: &Election) -> JoinSet<()> {
    let mut running = JoinSet::new();
    let mut start = |duty: Box<dyn duty::Duty>, changed: Option<watch::Receiver<String>>| {
        running.spawn(work::run(options.client.clone(), election.fence(), duty, changed));
    };
    if let Some(roots) = &options.roots {
        start(Box::new(Roots::new(options.root_config_map.clone(), roots.clone())), Some(roots.clone()));
    }
    if options.status {
        start(Box::new(Statuses::new(options.context.clone())), None);
    }
    if !options.addresses.is_empty() {
        start(Box::new(Addresses::new(&options.addresses)), None);
    }
    running
}
