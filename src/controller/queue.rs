//! What is to be looked at: each object once, a few at a time, never the same one twice at once, and later what failed.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::time::Instant;

/// How long after the first failure an object is tried again; each further one doubles it.
const FIRST: Duration = Duration::from_millis(250);
/// The longest it takes.
const LONGEST: Duration = Duration::from_secs(30);

/// Objects that are to be looked at.
#[derive(Debug)]
pub(super) struct Queue<K> {
    at_once: usize,
    ready: BTreeSet<K>,
    busy: BTreeSet<K>,
    later: BTreeMap<K, Instant>,
    failures: BTreeMap<K, u32>,
}

impl<K: Ord + Clone> Queue<K> {
    pub(super) fn new(at_once: usize) -> Self {
        Self {
            at_once,
            ready: BTreeSet::new(),
            busy: BTreeSet::new(),
            later: BTreeMap::new(),
            failures: BTreeMap::new(),
        }
    }

    /// An object is to be looked at now.
    pub(super) fn add(&mut self, key: K) {
        self.later.remove(&key);
        self.ready.insert(key);
    }

    /// The next object, which is busy from now on.
    pub(super) fn next(&mut self, now: Instant) -> Option<K> {
        let due: Vec<K> = self.later.iter().filter(|(_, at)| **at <= now).map(|(key, _)| key.clone()).collect();
        due.into_iter().for_each(|key| self.add(key));
        if self.busy.len() >= self.at_once {
            return None;
        }
        let key = self.ready.iter().find(|key| !self.busy.contains(key))?.clone();
        self.ready.remove(&key);
        self.busy.insert(key.clone());
        Some(key)
    }

    /// An object that was busy is done with.
    pub(super) fn done(&mut self, key: &K) {
        self.busy.remove(key);
        self.failures.remove(key);
    }

    /// It failed, and is to be tried again after a while.
    pub(super) fn failed(&mut self, key: &K, now: Instant) {
        self.busy.remove(key);
        let count = self.failures.entry(key.clone()).or_default();
        let wait = FIRST.saturating_mul(1 << (*count).min(16)).min(LONGEST);
        *count += 1;
        if !self.ready.contains(key) {
            self.later.insert(key.clone(), now + wait);
        }
    }

    /// When something is due that is not now.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.later.values().min().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_never_busy_twice_and_is_looked_at_again_if_it_changed_meanwhile() {
        let now = Instant::now();
        let mut queue = Queue::new(2);
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next(now), Some("a"));
        queue.add("a");
        assert_eq!(queue.next(now), None, "it is busy");
        queue.done(&"a");
        assert_eq!(queue.next(now), Some("a"));
        queue.done(&"a");
        assert_eq!(queue.next(now), None);
    }

    #[test]
    fn only_so_many_are_busy_at_once() {
        let now = Instant::now();
        let mut queue = Queue::new(2);
        ["a", "b", "c"].into_iter().for_each(|key| queue.add(key));
        assert_eq!((queue.next(now), queue.next(now), queue.next(now)), (Some("a"), Some("b"), None));
        queue.done(&"b");
        assert_eq!(queue.next(now), Some("c"));
    }

    #[test]
    fn what_fails_is_tried_again_ever_later_until_it_succeeds() {
        let mut now = Instant::now();
        let mut queue = Queue::new(1);
        queue.add("a");
        let mut waits = Vec::new();
        for _ in 0..9 {
            assert_eq!(queue.next(now), Some("a"));
            queue.failed(&"a", now);
            assert_eq!(queue.next(now), None);
            let wake = queue.wake().unwrap();
            waits.push((wake - now).as_millis());
            now = wake;
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 16000, 30000, 30000]);
        assert_eq!(queue.next(now), Some("a"));
        queue.done(&"a");
        queue.add("a");
        assert_eq!(queue.next(now), Some("a"));
        queue.failed(&"a", now);
        assert_eq!((queue.wake().unwrap() - now).as_millis(), 250, "success forgets failures");
    }
}
