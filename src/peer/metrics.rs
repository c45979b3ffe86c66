//! What is counted of callers, and when a refusal is logged.

use super::{Proof, Refusal};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Seconds between two lines of the log about refusals.
const QUIET: u64 = 10;

/// What is counted of callers.
#[derive(Debug, Default)]
pub struct Metrics {
    certificates: AtomicU64,
    tokens: AtomicU64,
    refusals: [AtomicU64; Refusal::ALL.len()],
    logged: AtomicU64,
}

impl Metrics {
    /// Callers who proved an identity by this.
    pub fn accepted_by(&self, proof: Proof) -> u64 {
        match proof {
            Proof::Certificate => self.certificates.load(Relaxed),
            Proof::Token => self.tokens.load(Relaxed),
        }
    }

    /// Callers refused for each reason.
    pub fn refusals(&self) -> impl Iterator<Item = (Refusal, u64)> {
        Refusal::ALL.into_iter().zip(self.refusals.iter().map(|n| n.load(Relaxed)))
    }

    pub(super) fn accepted(&self, proof: Proof) {
        match proof {
            Proof::Certificate => self.certificates.fetch_add(1, Relaxed),
            Proof::Token => self.tokens.fetch_add(1, Relaxed),
        };
    }

    /// Counts a refusal, and logs one now and then.
    pub(super) fn refused(&self, why: Refusal, now: u64) {
        self.refusals[why as usize].fetch_add(1, Relaxed);
        let last = self.logged.load(Relaxed);
        if now >= last + QUIET && self.logged.compare_exchange(last, now, Relaxed, Relaxed).is_ok() {
            let so_far: u64 = self.refusals().map(|(_, n)| n).sum();
            tracing::warn!(reason = why.word(), so_far, "a caller is refused");
        }
    }
}
