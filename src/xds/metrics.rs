//! What the room has done, counted. The numbers do not depend on the machine, so tests and benchmarks use them.

use crate::id::ResourceType;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A number that only others read.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }

    pub(super) fn add(&self, by: usize) {
        self.0.fetch_add(by as u64, Relaxed);
    }
}

/// Counts since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Resources that were rendered.
    pub rendered: Counter,
    /// Resources that were wanted and had been rendered before.
    pub cache_hits: Counter,
    /// Parts that were built from nothing.
    pub parts_built: Counter,
    /// Parts that followed the world from one snapshot to another.
    pub parts_updated: Counter,
    /// Units that were built to get there.
    pub units_built: Counter,
    /// Responses that were sent.
    pub responses: Counter,
    /// Resources in them.
    pub resources: Counter,
    /// Bytes of resources in them.
    pub bytes: Counter,
    /// Bytes of the messages that these were sent in, which may be compressed.
    pub message_bytes: Counter,
    /// Streams that were opened.
    pub streams: Counter,
    /// Answers to responses that were not the newest.
    pub stale_nonces: Counter,
    pushes: [Counter; ResourceType::ALL.len()],
    nacks: [Counter; ResourceType::ALL.len()],
}

impl Metrics {
    /// Responses of a type.
    pub fn pushes(&self, kind: ResourceType) -> u64 {
        self.pushes[kind as usize].get()
    }

    /// Refused responses of a type.
    pub fn nacks(&self, kind: ResourceType) -> u64 {
        self.nacks[kind as usize].get()
    }

    pub(super) fn push(&self, kind: ResourceType, resources: usize) {
        self.pushes[kind as usize].add(1);
        self.resources.add(resources);
    }

    pub(super) fn nack(&self, kind: ResourceType) {
        self.nacks[kind as usize].add(1);
    }

    pub(super) fn stale(&self) {
        self.stale_nonces.add(1);
    }
}
