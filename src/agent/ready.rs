//! Whether the pod's Envoy may get traffic: it has its first configuration, and serves.

use super::{metrics::Metrics, request};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Instant,
};

const CONFIG: &str = "^(cluster_manager\\.cds|listener_manager\\.lds)\\.(update_success|update_rejected)$";
const SERVER: &str = "^(server\\.state|listener_manager\\.workers_started)$";

/// What else has to be there.
pub(super) type Condition = (&'static str, Box<dyn Fn() -> bool + Send + Sync>);

/// Whether Envoy is ready.
pub(super) struct Ready {
    admin_port: u16,
    /// It has had its configuration once, and later lacks nothing for a control plane that is away.
    configured: AtomicBool,
    live: AtomicBool,
    ending: Arc<AtomicBool>,
    conditions: Vec<Condition>,
    started: Instant,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Ready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ready").field("live", &self.live).finish_non_exhaustive()
    }
}

impl Ready {
    /// The readiness of the Envoy with this admin port, as long as `ending` is false.
    pub(super) fn new(
        admin_port: u16,
        ending: Arc<AtomicBool>,
        conditions: Vec<Condition>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let (configured, live) = (AtomicBool::new(false), AtomicBool::new(false));
        Self { admin_port, configured, live, ending, conditions, started: Instant::now(), metrics }
    }

    /// Why it is not ready.
    pub(super) async fn check(&self) -> Result<(), String> {
        if let Some((what, _)) = self.conditions.iter().find(|(_, is)| !is()) {
            return Err(format!("{what} is not there yet"));
        }
        if !self.configured.load(Relaxed) {
            configured(&self.stats(CONFIG).await?)?;
            self.configured.store(true, Relaxed);
        }
        // One that ends takes no more traffic, whatever it was before.
        if self.live.load(Relaxed) && !self.ending.load(Relaxed) {
            return Ok(());
        }
        live(&self.stats(SERVER).await?)?;
        if self.ending.load(Relaxed) {
            return Err("Envoy is being drained".to_owned());
        }
        if !self.live.swap(true, Relaxed) {
            let millis = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
            self.metrics.startup_millis.store(millis);
            tracing::info!(millis, "Envoy is ready");
        }
        Ok(())
    }

    async fn stats(&self, filter: &str) -> Result<Vec<(String, u64)>, String> {
        request::stats(self.admin_port, filter).await.map_err(|error| format!("Envoy does not answer: {error:#}"))
    }
}

fn number(stats: &[(String, u64)], name: &str) -> Option<u64> {
    stats.iter().find(|(n, _)| n == name).map(|(_, number)| *number)
}

fn configured(stats: &[(String, u64)]) -> Result<(), String> {
    let of = |name: &str| number(stats, name).unwrap_or(0);
    let parts = [("clusters", "cluster_manager.cds"), ("listeners", "listener_manager.lds")];
    let missing: Vec<String> = parts
        .iter()
        .filter(|(_, name)| of(&format!("{name}.update_success")) == 0)
        .map(|(what, name)| match of(&format!("{name}.update_rejected")) {
            0 => format!("no {what} have come"),
            n => format!("{what} were refused {n} times"),
        })
        .collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("Envoy has not its configuration: {}", missing.join(", "))) }
}

fn live(stats: &[(String, u64)]) -> Result<(), String> {
    match (number(stats, "server.state"), number(stats, "listener_manager.workers_started")) {
        (Some(0), Some(1)) => Ok(()),
        (Some(0), _) => Err("Envoy's workers have not started".to_owned()),
        (Some(state), _) => Err(format!("Envoy is in state {state}")),
        (None, _) => Err("Envoy does not say in which state it is".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stats(pairs: &[(&str, u64)]) -> Vec<(String, u64)> {
        pairs.iter().map(|(name, n)| ((*name).to_owned(), *n)).collect()
    }

    #[test]
    fn clusters_and_listeners_must_have_come_and_what_is_missing_is_said() {
        let (cds, lds) = ("cluster_manager.cds.update_success", "listener_manager.lds.update_success");
        assert_eq!(configured(&stats(&[(cds, 1), (lds, 2)])), Ok(()));
        let why = configured(&stats(&[(cds, 1), ("listener_manager.lds.update_rejected", 3)])).expect_err("refused");
        assert!(why.ends_with("listeners were refused 3 times"), "{why}");
        let why = configured(&[]).expect_err("nothing");
        assert!(why.contains("no clusters have come, no listeners have come"), "{why}");
    }

    #[test]
    fn a_server_is_live_in_state_zero_with_workers() {
        let (state, workers) = ("server.state", "listener_manager.workers_started");
        assert_eq!(live(&stats(&[(state, 0), (workers, 1)])), Ok(()));
        assert!(live(&stats(&[(state, 0), (workers, 0)])).expect_err("no workers").contains("workers"));
        assert!(live(&stats(&[(state, 2), (workers, 1)])).expect_err("initializing").contains("state 2"));
        assert!(live(&[]).is_err());
    }
}
