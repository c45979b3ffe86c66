//! A real Envoy, and what its admin interface tells.

use super::{
    bootstrap::Bootstrap,
    client::{Client, Request},
    eventually,
    network::Place,
    process::{Launch, Process, User},
    run,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

/// A running Envoy.
#[derive(Debug)]
pub(crate) struct Envoy {
    launch: Launch,
    admin: SocketAddr,
    process: Process,
    client: Client,
}

impl Envoy {
    /// Starts Envoy; its files go to `dir` and begin with `name`.
    pub(crate) fn start(place: &Place, bootstrap: &Bootstrap, dir: &Path, name: &str) -> Self {
        let config = dir.join(format!("{name}.json"));
        fs::write(&config, bootstrap.to_json().to_string()).expect("a bootstrap");
        let user = match bootstrap.node["metadata"]["INTERCEPTION_MODE"].as_str() {
            Some("TPROXY") => User::TransparentProxy,
            _ => User::Proxy,
        };
        Self::launched(launch(place, user, &config), bootstrap.admin)
    }

    /// An Envoy with a bootstrap that somebody else wrote.
    pub(crate) fn of_file(place: &Place, config: &Path, admin: SocketAddr, log: PathBuf) -> Self {
        Self::launched(Launch { log, ..launch(place, User::Proxy, config) }, admin)
    }

    /// An Envoy that this starts, or an agent that starts it.
    pub(crate) fn launched(launch: Launch, admin: SocketAddr) -> Self {
        let (process, client) = (launch.start(), Client::new(&launch.place));
        Self { launch, admin, process, client }
    }

    /// The process: Envoy's, or that of the agent which started it.
    pub(crate) fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// How it is started again.
    pub(crate) fn launch(&mut self) -> &mut Launch {
        &mut self.launch
    }

    /// Where its admin interface listens, in its place.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.admin
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after it ended.
    pub(crate) fn restart(&mut self) {
        self.process = self.launch.start();
    }

    /// Asks the admin interface.
    pub(crate) fn admin(&mut self, path: &str) -> String {
        self.client.get(&format!("http://{}{path}", self.admin)).body
    }

    /// Tells the admin interface to do something.
    pub(crate) fn command(&mut self, path: &str) {
        self.client.one(&Request::get(&format!("http://{}{path}", self.admin)).method("POST"));
    }

    /// Statistics whose names match a regular expression.
    pub(crate) fn stats(&mut self, filter: &str) -> BTreeMap<String, u64> {
        let text = self.admin(&format!("/stats?filter={filter}"));
        text.lines().filter_map(|l| l.split_once(": ")).filter_map(|(k, v)| Some((k.into(), v.parse().ok()?))).collect()
    }

    /// All its configuration, endpoints among it.
    pub(crate) fn config_dump(&mut self) -> String {
        self.admin("/config_dump?include_eds")
    }

    /// Waits until it has its first configuration and serves.
    pub(crate) fn wait_live(&mut self) {
        eventually("Envoy is live", || {
            self.process.expect_running();
            let filter = "^(server.live|cluster_manager.cds.update_success|listener_manager.(lds.update_success|workers_started))$";
            let stats = self.stats(filter);
            let rejected = self.rejected();
            assert!(rejected.is_empty(), "Envoy refuses what it was served: {rejected:#?}");
            match stats.len() == 4 && stats.values().all(|v| *v > 0) {
                true => Ok(()),
                false => Err(format!("{stats:?} {}", self.process.last_output())),
            }
        });
    }

    /// What it refused: the counters that are not zero, and why.
    pub(crate) fn rejected(&mut self) -> Vec<String> {
        let counted = self.stats("update_rejected$").into_iter().filter(|(_, n)| *n > 0);
        let mut found: Vec<String> = counted.map(|(name, n)| format!("{name}: {n}")).collect();
        if !found.is_empty() {
            found.extend(self.process.last_output().lines().filter(|l| l.contains("rejected")).map(str::to_owned));
        }
        found
    }

    /// How many updates of each kind it was given: the sum of what it took and refused.
    pub(crate) fn updates(&mut self) -> BTreeMap<&'static str, u64> {
        let mut sums = BTreeMap::new();
        for (name, count) in self.stats("update_(success|rejected)$") {
            let kind = match name.split('.').next() {
                Some("cluster_manager") => "cds",
                Some("listener_manager") => "lds",
                Some("cluster") => "eds",
                _ => "rds",
            };
            *sums.entry(kind).or_default() += count;
        }
        sums
    }

    /// The `/clusters` page as data.
    pub(crate) fn clusters(&mut self) -> Value {
        serde_json::from_str(&self.admin("/clusters?format=json")).unwrap_or_default()
    }
}

fn launch(place: &Place, user: User, config: &Path) -> Launch {
    let path = config.display().to_string();
    let words = ["-c", &path, "--concurrency", "1", "--disable-hot-restart", "--drain-strategy", "immediate"];
    let more = ["--log-level", "warning", "--local-address-ip-version", "v4"];
    Launch {
        place: place.clone(),
        user,
        program: run().envoy().to_owned(),
        words: words.iter().chain(&more).map(|word| (*word).to_owned()).collect(),
        variables: Vec::new(),
        log: config.with_extension("log"),
    }
}
