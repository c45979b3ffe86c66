//! What the agent counts, for its page of metrics.

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
}
