//! What is waited for, and when each proxy had it.

use mainsheet::id::ResourceType;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::sync::Notify;

/// What all proxies wait for: a resource of a type whose name has a text in it.
#[derive(Debug)]
pub(crate) struct Mark {
    kinds: Vec<ResourceType>,
    name: String,
    armed: Instant,
    /// When each proxy had answered it, in nanoseconds after; 0 for not yet.
    seen: Vec<AtomicU64>,
    left: AtomicUsize,
    done: Notify,
}

impl Mark {
    /// A mark that so many proxies are to see from now on.
    pub(crate) fn new(proxies: usize, kinds: &[ResourceType], name: &str) -> Arc<Self> {
        Arc::new(Self {
            kinds: kinds.to_vec(),
            name: name.to_owned(),
            armed: Instant::now(),
            seen: std::iter::repeat_with(AtomicU64::default).take(proxies).collect(),
            left: AtomicUsize::new(proxies),
            done: Notify::new(),
        })
    }

    /// Whether it is among these names.
    pub(crate) fn is_in(&self, kind: ResourceType, names: &[&str]) -> bool {
        self.kinds.contains(&kind) && names.iter().any(|name| name.contains(&self.name))
    }

    /// A proxy has it.
    pub(crate) fn see(&self, proxy: usize) {
        let after = u64::try_from(self.armed.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if self.seen[proxy].compare_exchange(0, after, Relaxed, Relaxed).is_ok() && self.left.fetch_sub(1, Relaxed) == 1
        {
            self.done.notify_one();
        }
    }

    /// Waits until all have seen it, or for so long. Returns the seconds that each of those that did took, sorted.
    pub(crate) async fn wait(&self, at_most: Duration) -> Vec<f64> {
        if self.left.load(Relaxed) > 0 {
            let _ = tokio::time::timeout(at_most, self.done.notified()).await;
        }
        let seen = self.seen.iter().map(|s| s.load(Relaxed)).filter(|s| *s > 0);
        let mut seconds: Vec<f64> = seen.map(|nanos| nanos as f64 / 1e9).collect();
        seconds.sort_by(f64::total_cmp);
        seconds
    }
}
