//! What the webhooks count, under istiod's names.

use super::{admit::Outcome, validate::Found};
use crate::prometheus::Page;
use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// The bounds of the histogram of times, in seconds.
const BOUNDS: [f64; 8] = [0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0];
/// How many kinds of objects are told apart; what the API server asks about is bounded, but who knows who asks.
const KINDS: usize = 500;

/// Group, version and plural of a kind.
type Resource = [String; 3];
/// Why an object was not taken; none where it was.
type Reason = Option<&'static str>;

/// What the webhooks count.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    skipped: AtomicU64,
    within: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
    /// By group, version, resource and reason; none where the object is valid.
    validated: Mutex<BTreeMap<(Resource, Reason), u64>>,
    http: Mutex<BTreeMap<u16, u64>>,
}

impl Metrics {
    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// A request for a pod was answered, and took so long.
    pub(super) fn count_answer(&self, outcome: &Outcome, took: Duration) {
        self.answered.fetch_add(1, Relaxed);
        match outcome {
            Outcome::Injected => {}
            Outcome::Skipped(_) => drop(self.skipped.fetch_add(1, Relaxed)),
            Outcome::Failed => self.count_failure(),
        }
        let at = BOUNDS.iter().position(|bound| took.as_secs_f64() <= *bound).unwrap_or(BOUNDS.len());
        self.within[at].fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn count_validation(&self, resource: &Resource, found: Found) {
        let mut all = self.validated.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (resource.clone(), found.reason());
        if all.len() < KINDS || all.contains_key(&key) {
            *all.entry(key).or_default() += 1;
        }
    }

    pub(super) fn count_http_error(&self, status: u16) {
        *self.http.lock().unwrap_or_else(PoisonError::into_inner).entry(status).or_default() += 1;
    }

    /// Writes all of it on a page.
    pub fn write(&self, page: &mut Page) {
        for (name, help, count) in [
            ("requests", "Requests for pods.", &self.requests),
            ("success", "Requests for pods that were answered.", &self.answered),
            ("failure", "Pods that could not be injected.", &self.failed),
            ("skip", "Pods that were left alone.", &self.skipped),
        ] {
            page.counter(&format!("sidecar_injection_{name}_total"), help).value(count.load(Relaxed));
        }
        let within = self.within.each_ref().map(|count| count.load(Relaxed));
        let seconds = self.micros.load(Relaxed) as f64 / 1e6;
        page.histogram(("sidecar_injection_time_seconds", "How long injection took."), &BOUNDS, &within, seconds);
        let validated = self.validated.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut passed = page.counter("galley_validation_passed", "Objects that can be served.");
        for (([group, version, resource], _), count) in validated.iter().filter(|((_, reason), _)| reason.is_none()) {
            passed.with(&[("group", group), ("version", version), ("resource", resource)], count);
        }
        let mut failed = page.counter("galley_validation_failed", "Objects that were not looked at, or were refused.");
        for (([group, version, resource], reason), count) in &validated {
            if let Some(reason) = reason {
                failed
                    .with(&[("group", group), ("version", version), ("resource", resource), ("reason", reason)], count);
            }
        }
        let http = self.http.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut errors = page.counter("galley_validation_http_error", "Requests that were no questions.");
        http.iter().for_each(|(status, count)| errors.with(&[("status", &status.to_string())], count));
    }
}
