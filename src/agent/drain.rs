//! What happens between being told to end and ending: Envoy takes no new connections from outside, and those that are
//! there have some time to go away.

use super::{
    request::{self, Request},
    status::Order,
};
use hyper::Method;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time};

/// How often connections are counted.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often counting may fail.
const MOST_FAILURES: u32 = 5;

/// How Envoy is drained.
#[derive(Clone, Debug)]
pub(super) struct Drain {
    pub(super) admin_port: u16,
    /// What goes out goes on: the workload may still need others.
    pub(super) inbound_only: bool,
    /// How long connections have.
    pub(super) time: Duration,
    /// How long to wait before connections are counted, where the end is when none is left.
    pub(super) until_unused: Option<Duration>,
    /// Whether it has begun: then Envoy is not ready any more.
    pub(super) ending: Arc<AtomicBool>,
    /// Ports of which the connections are nobody's traffic.
    pub(super) own_ports: Vec<u16>,
}

impl Drain {
    /// Returns when Envoy is to end: told to, and drained; or told to twice, or ordered to.
    pub(super) async fn after(&self, stop: &mut impl AsyncFnMut(), ordered: &mut mpsc::Receiver<Order>) {
        let mut drained = false;
        loop {
            tokio::select! {
                () = stop() => break,
                Some(order) = ordered.recv() => match order {
                    Order::Quit => return,
                    Order::Drain => {
                        self.begin().await;
                        drained = true;
                    }
                }
            }
        }
        if !drained {
            tokio::select! {
                () = self.run() => {}
                () = stop() => tracing::info!("told to end a second time"),
                () = quit(ordered) => {}
            }
        }
    }

    /// Drains, and returns when that is over.
    async fn run(&self) {
        self.begin().await;
        match self.until_unused {
            None => {
                tracing::info!(seconds = self.time.as_secs(), "draining");
                time::sleep(self.time).await;
            }
            Some(minimum) => {
                tracing::info!("draining until no connection is left");
                time::sleep(minimum).await;
                self.unused().await;
            }
        }
    }

    /// Tells Envoy to drain.
    pub(super) async fn begin(&self) {
        self.ending.store(true, Ordering::Relaxed);
        let path =
            if self.inbound_only { "/drain_listeners?inboundonly&graceful" } else { "/drain_listeners?graceful" };
        let begin = Request { method: Method::POST, ..Request::get(path) };
        if let Err(error) = begin.send(([127, 0, 0, 1], self.admin_port).into()).await {
            tracing::warn!(error = format!("{error:#}"), "Envoy cannot be told to drain");
        }
    }

    async fn unused(&self) {
        let mut failures = 0;
        loop {
            match request::stats(self.admin_port, "downstream_cx_active$").await {
                Ok(stats) => match self.connections(&stats) {
                    0 => return,
                    left => tracing::info!(left, "connections are left"),
                },
                Err(error) => {
                    failures += 1;
                    tracing::warn!(error = format!("{error:#}"), "connections cannot be counted");
                    if failures == MOST_FAILURES {
                        return;
                    }
                }
            }
            time::sleep(INTERVAL).await;
        }
    }

    /// How many connections of others there are.
    fn connections(&self, stats: &[(String, u64)]) -> u64 {
        let own = |name: &str| self.own_ports.iter().any(|port| name.contains(&format!("_{port}.")));
        let nobodys =
            |name: &str| name.contains("worker_") || name.starts_with("envoy_internal_") || name.starts_with("admin.");
        let listeners = stats.iter().filter_map(|(name, count)| Some((name.strip_prefix("listener.")?, count)));
        listeners.filter(|(name, _)| !own(name) && !nobodys(name)).map(|(_, count)| count).sum()
    }
}

async fn quit(ordered: &mut mpsc::Receiver<Order>) {
    while ordered.recv().await.is_some_and(|order| order != Order::Quit) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_to_the_agent_and_the_admin_interface_are_nobody_s() {
        let drain = Drain {
            admin_port: 15000,
            inbound_only: true,
            time: Duration::ZERO,
            until_unused: None,
            ending: Arc::default(),
            own_ports: vec![15021, 15090],
        };
        let stats = [
            ("http.admin.downstream_cx_active", 1),
            ("listener.admin.downstream_cx_active", 1),
            ("listener.0.0.0.0_15021.downstream_cx_active", 1),
            ("listener.0.0.0.0_15006.worker_0.downstream_cx_active", 4),
            ("listener.envoy_internal_connect_originate.downstream_cx_active", 2),
            ("listener.0.0.0.0_15006.downstream_cx_active", 4),
            ("listener.[__]_15001.downstream_cx_active", 3),
        ];
        assert_eq!(drain.connections(&stats.map(|(name, n)| (name.to_owned(), n))), 7);
    }
}
