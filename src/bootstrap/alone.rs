//! What the bootstrap of an Envoy has more that no agent is beside: it answers itself what kubelet and Prometheus ask.

use super::{ADMIN, Stats, address, listener, local, probe, settle};
use serde_json::{Map, Value, json};

/// An Envoy by itself.
#[derive(Clone, Debug)]
pub struct Alone<'a> {
    /// The pod's address, or what becomes it when Envoy is started.
    pub address: &'a str,
    /// The port on which kubelet asks for the application's probes, where it does.
    pub probe_port: Option<u16>,
    /// The port on which it is asked for readiness.
    pub status_port: u16,
    /// The port on which it shows its metrics.
    pub prometheus_port: u16,
    /// The port of its admin interface.
    pub admin_port: u16,
    /// Whether metrics are for the loopback device alone.
    pub metrics_on_loopback: bool,
    /// The application's probes, as Kubernetes has them, by the paths that kubelet asks for.
    pub probers: &'a Map<String, Value>,
    /// Settings of the runtime, on top of the usual ones.
    pub runtime: &'a Map<String, Value>,
    /// What Envoy counts, and how that is named.
    pub stats: Stats,
}

impl Alone<'_> {
    /// Adds all of it to a bootstrap.
    pub fn complete(&self, bootstrap: &mut Value) {
        let to_admin = |path: &str, there: &str| json!({"match": {"path": path}, "route": {"cluster": ADMIN, "prefix_rewrite": there}});
        let (ready, stats) =
            ([to_admin("/healthz/ready", "/ready")], [to_admin("/stats/prometheus", "/stats/prometheus")]);
        let metrics = if self.metrics_on_loopback { "127.0.0.1" } else { self.address };
        let mut listeners = vec![
            listener((metrics, self.prometheus_port), "stats", &stats, &self.stats.filters()),
            listener((self.address, self.status_port), "ready", &ready, &[]),
        ];
        let mut counted = self.stats.clone();
        let mut clusters = vec![local(ADMIN, address("127.0.0.1", self.admin_port))];
        if let Some(port) = self.probe_port.filter(|_| !self.probers.is_empty()) {
            let all = self.probers.iter().map(|(path, prober)| probe::probe(path, prober, self.address));
            let (mut routes, mut filters) = (Vec::new(), Vec::new());
            for probe in all {
                clusters.push(probe.cluster);
                routes.extend(probe.route);
                filters.extend(probe.filter);
            }
            if !filters.is_empty() {
                counted.regexes.push(probe::COUNTED.to_owned());
            }
            listeners.push(listener((self.address, port), "probes", &routes, &filters));
        }
        let resources = &mut bootstrap["static_resources"];
        if let Some(held) = resources["clusters"].as_array_mut() {
            held.splice(0..0, clusters);
        }
        resources["listeners"] = listeners.into();
        settle(bootstrap, &counted, self.runtime);
    }
}
