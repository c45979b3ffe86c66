//! What the authority counts.

use super::Unfit;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What the authority counts, under istiod's names where it has them.
#[derive(Debug, Default)]
pub struct Metrics {
    requests: AtomicU64,
    issued: AtomicU64,
    overloads: AtomicU64,
    failures: AtomicU64,
    impersonations: AtomicU64,
    unfit: [AtomicU64; Unfit::ALL.len()],
}

impl Metrics {
    /// Requests for certificates.
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }

    /// Certificates made.
    pub fn issued(&self) -> u64 {
        self.issued.load(Relaxed)
    }

    /// Requests turned away because too many waited.
    pub fn overloads(&self) -> u64 {
        self.overloads.load(Relaxed)
    }

    /// Requests that could not be signed although they were fit.
    pub fn failures(&self) -> u64 {
        self.failures.load(Relaxed)
    }

    /// Requests in the name of somebody else.
    pub fn impersonations(&self) -> u64 {
        self.impersonations.load(Relaxed)
    }

    /// Requests that were not fit, by why.
    pub fn unfit(&self) -> impl Iterator<Item = (Unfit, u64)> {
        Unfit::ALL.into_iter().zip(self.unfit.iter().map(|n| n.load(Relaxed)))
    }

    pub(super) fn count_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    pub(super) fn count_issued(&self) {
        self.issued.fetch_add(1, Relaxed);
    }

    pub(super) fn count_overload(&self) {
        self.overloads.fetch_add(1, Relaxed);
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(super) fn count_impersonation(&self) {
        self.impersonations.fetch_add(1, Relaxed);
    }

    pub(super) fn count_unfit(&self, why: Unfit) {
        self.unfit[why as usize].fetch_add(1, Relaxed);
    }
}
