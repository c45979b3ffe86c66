//! How it stands with each kind that is watched: for readiness, for people and for metrics.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// How it stands with every kind.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<watch::Sender<BTreeMap<&'static str, Standing>>>);

/// How it stands with one kind.
#[derive(Clone, Debug, Default)]
pub struct Standing {
    /// Everything of it was read once, or there is nothing of it to read.
    pub synced: bool,
    /// Since when it cannot be read, and why.
    pub failing: Option<(Instant, Arc<str>)>,
    /// How often all of it was read.
    pub lists: u64,
    /// How many changes were told.
    pub events: u64,
    /// How often reading failed.
    pub failures: u64,
}

impl Health {
    /// How it stands with each kind, by name.
    pub fn kinds(&self) -> BTreeMap<&'static str, Standing> {
        self.0.borrow().clone()
    }

    /// For how long some kind cannot be read, with the names of all such and the reason for the first; none while all
    /// can.
    pub fn lost(&self) -> Option<(Duration, Vec<&'static str>, Arc<str>)> {
        let kinds = self.0.borrow();
        let failing = kinds.iter().filter_map(|(name, s)| s.failing.as_ref().map(|(since, why)| (since, *name, why)));
        let (since, _, why) = failing.clone().min_by_key(|(since, ..)| **since)?;
        Some((since.elapsed(), failing.map(|(_, name, _)| name).collect(), why.clone()))
    }

    /// Waits until every kind was read once, and tells on the way which were not.
    pub(super) async fn synced(&self, mut waiting: impl FnMut(Vec<String>)) {
        let mut kinds = self.0.subscribe();
        loop {
            let pending: Vec<String> = {
                let kinds = kinds.borrow_and_update();
                let said = |s: &Standing| s.failing.as_ref().map_or_else(String::new, |(_, why)| format!(" ({why})"));
                kinds.iter().filter(|(_, s)| !s.synced).map(|(name, s)| format!("{name}{}", said(s))).collect()
            };
            if pending.is_empty() {
                return;
            }
            waiting(pending);
            // The sender is held by `self`.
            let _ = kinds.changed().await;
        }
    }

    pub(super) fn expect(&self, kind: &'static str) {
        self.change(kind, |_| true);
    }

    pub(super) fn is_synced(&self, kind: &'static str) {
        self.change(kind, |s| {
            (s.synced, s.failing) = (true, None);
            s.lists += 1;
            true
        });
    }

    /// A kind is not there, which is as good as read.
    pub(super) fn is_missing(&self, kind: &'static str) {
        self.change(kind, |s| {
            (s.synced, s.failing) = (true, None);
            true
        });
    }

    pub(super) fn told(&self, kind: &'static str) {
        self.change(kind, |s| {
            s.events += 1;
            false
        });
    }

    pub(super) fn works(&self, kind: &'static str) {
        self.change(kind, |s| s.failing.take().is_some());
    }

    /// Notes that a kind cannot be read; whether it could before.
    pub(super) fn fails(&self, kind: &'static str, why: &str) -> bool {
        let mut first = false;
        self.change(kind, |s| {
            s.failures += 1;
            first = s.failing.is_none();
            let since = s.failing.as_ref().map_or_else(Instant::now, |(since, _)| *since);
            s.failing = Some((since, why.into()));
            true
        });
        first
    }

    fn change(&self, kind: &'static str, how: impl FnOnce(&mut Standing) -> bool) {
        self.0.send_if_modified(|kinds| how(kinds.entry(kind).or_default()));
    }
}
