//! What the agent counts, and its page (reference: §15.6, the names with the prefix `istio_agent_`).

use crate::prometheus::Page;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that many count in.
#[derive(Debug, Default)]
pub(super) struct Number(AtomicU64);

impl Number {
    pub(super) fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    pub(super) fn store(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// All that is counted.
#[derive(Debug, Default)]
pub(super) struct Metrics {
    /// Certificates that were asked for.
    pub(super) requests: Number,
    /// Those that were not signed.
    pub(super) failures: Number,
    /// Until when the newest certificate is valid, in seconds since 1970; 0 where there is none.
    pub(super) expires: Number,
    /// Files of certificates that could not be used.
    pub(super) broken_files: Number,
    /// How long it took until Envoy was ready; 0 as long as it is not.
    pub(super) startup_millis: Number,
    /// Pages of metrics that were asked for.
    pub(super) scrapes: Number,
    /// Those without Envoy's part.
    pub(super) failed_envoy: Number,
    /// Those without a part of the application's.
    pub(super) failed_application: Number,
    /// Names that were asked for.
    pub(super) dns_requests: Number,
    /// Those that were for the pod's resolvers.
    pub(super) dns_upstream: Number,
    /// Those that no resolver answered.
    pub(super) dns_upstream_failures: Number,
}

impl Metrics {
    /// The agent's own page.
    pub(super) fn page(&self) -> String {
        let mut page = Page::default();
        let mut count = |name: &str, help: &str, labels: &[(&str, &str)], number: &Number| {
            page.counter(&format!("istio_agent_{name}"), help).with(labels, number.get());
        };
        let csr = [("request_type", "csr")];
        count("num_outgoing_requests", "Certificates asked for.", &csr, &self.requests);
        count("num_failed_outgoing_requests", "Those that were not signed.", &csr, &self.failures);
        count(
            "num_file_secret_failures_total",
            "Files of certificates that could not be used.",
            &[],
            &self.broken_files,
        );
        count("dns_requests_total", "Names asked for.", &[], &self.dns_requests);
        count("dns_upstream_requests_total", "Those for the pod's resolvers.", &[], &self.dns_upstream);
        count("dns_upstream_failures_total", "Those that none answered.", &[], &self.dns_upstream_failures);
        count("scrapes_total", "Pages of metrics asked for.", &[], &self.scrapes);
        let mut failures = page.counter("istio_agent_scrape_failures_total", "Those with a part missing, by whose.");
        failures.with(&[("type", "envoy")], self.failed_envoy.get());
        failures.with(&[("type", "application")], self.failed_application.get());
        if let expires @ 1.. = self.expires.get() {
            let left = i128::from(expires) - i128::from(crate::ca::now());
            let mut family = page.gauge("istio_agent_cert_expiry_seconds", "How long the certificate is valid still.");
            family.with(&[("resource_name", "default")], left);
        }
        if let millis @ 1.. = self.startup_millis.get() {
            let seconds = millis as f64 / 1000.0;
            page.gauge("istio_agent_startup_duration_seconds", "How long it took until Envoy was ready.")
                .value(seconds);
        }
        page.into_text()
    }
}
