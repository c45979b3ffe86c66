//! What streams share between snapshots: the parts of translations, and rendered resources.
//!
//! Streams that see the same hold the same slot, and the first of them that needs a newer snapshot brings the
//! slot there; the rest find it done. What no stream holds any more is forgotten.

mod render;

use super::Metrics;
use crate::{
    model::Node,
    snapshot::{Delta, Snapshot, ViewKey},
    translate::{Config, Part, PartKind},
};
use render::Kept;
use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};

/// How many differences of snapshots are kept. Streams that lag further behind than this compute their own again.
const MAX_DELTAS: usize = 16;

/// Translates for all streams, each thing once.
#[derive(Debug)]
pub struct Engine {
    slots: Mutex<HashMap<SlotKey, Weak<Slot>>>,
    deltas: Mutex<VecDeque<Known>>,
    kept: Kept,
    metrics: Arc<Metrics>,
}

type SlotKey = (PartKind, Arc<ViewKey>);

/// The difference of two snapshots, computed by whoever asks first.
#[derive(Clone, Debug)]
struct Known {
    old: Weak<Snapshot>,
    new: Weak<Snapshot>,
    delta: Arc<OnceLock<Delta>>,
}

/// A part for all that hold it, and the snapshot that it is of.
#[derive(Debug)]
struct Slot {
    key: SlotKey,
    state: Mutex<Option<(Arc<Snapshot>, Arc<Part>)>>,
}

/// What a stream holds of the engine: the slots of its node. As long as it does they are kept.
#[derive(Debug)]
pub struct Lease {
    node: Arc<Node>,
    at: Option<Arc<Snapshot>>,
    slots: Vec<Arc<Slot>>,
    config: Arc<Config>,
}

impl Lease {
    /// A lease for a node, of nothing yet.
    pub fn new(node: Arc<Node>) -> Self {
        Self { node, at: None, slots: Vec::new(), config: Arc::default() }
    }

    /// What the node is served.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }
}

impl Engine {
    /// An engine that counts what it does.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self { slots: Mutex::default(), deltas: Mutex::default(), kept: Kept::new(metrics.clone()), metrics }
    }

    /// Brings a lease to a snapshot and says whether what its node is served differs from before. This is the
    /// work of translating: not to be done where others wait.
    pub fn advance(&self, lease: &mut Lease, to: &Arc<Snapshot>) -> bool {
        if lease.at.as_ref().is_some_and(|at| Arc::ptr_eq(at, to)) {
            return false;
        }
        let rekey = lease.at.as_ref().is_none_or(|at| {
            let delta = self.delta(at, to);
            Snapshot::may_change_key(delta.get_or_init(|| Delta::between(at, to)), &lease.node)
        });
        if rekey {
            lease.slots = self.slots_of(&lease.node, to, &lease.slots);
        }
        lease.at = Some(to.clone());
        let parts: Vec<_> = lease.slots.iter().map(|slot| self.part(slot, to)).collect();
        let old = lease.config.parts();
        if old.len() == parts.len() && old.iter().zip(&parts).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return false;
        }
        lease.config = Arc::new(Config::new(parts));
        true
    }

    /// Whether bringing a lease to a snapshot is no work any more, because another lease of the same has been there.
    pub fn is_done(&self, lease: &Lease, to: &Arc<Snapshot>) -> bool {
        let Some(at) = &lease.at else { return false };
        let delta = self.delta(at, to);
        let same_key = delta.get().is_some_and(|delta| !Snapshot::may_change_key(delta, &lease.node));
        let is_there = |slot: &Arc<Slot>| {
            let state = slot.state.try_lock().ok();
            state.is_some_and(|state| state.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, to)))
        };
        same_key && lease.slots.iter().all(is_there)
    }

    /// How many parts are held by streams.
    pub fn parts(&self) -> usize {
        lock(&self.slots).values().filter(|slot| slot.strong_count() > 0).count()
    }

    fn slots_of(&self, node: &Node, snapshot: &Snapshot, before: &[Arc<Slot>]) -> Vec<Arc<Slot>> {
        let whole = snapshot.view_key(node);
        let slot = |kind: PartKind| {
            let key = (kind, Arc::new(kind.key(&whole)));
            before.iter().find(|slot| slot.key == key).cloned().unwrap_or_else(|| self.slot(key))
        };
        PartKind::ALL.into_iter().map(slot).collect()
    }

    fn slot(&self, key: SlotKey) -> Arc<Slot> {
        let mut slots = lock(&self.slots);
        if let Some(slot) = slots.get(&key).and_then(Weak::upgrade) {
            return slot;
        }
        make_room(&mut slots);
        let slot = Arc::new(Slot { key: key.clone(), state: Mutex::default() });
        slots.insert(key, Arc::downgrade(&slot));
        slot
    }

    /// The part of a slot at a snapshot. Whoever comes while it is computed waits for it.
    fn part(&self, slot: &Slot, at: &Arc<Snapshot>) -> Arc<Part> {
        let mut state = lock(&slot.state);
        let part = match &*state {
            Some((of, part)) if Arc::ptr_eq(of, at) => return part.clone(),
            Some((of, part)) => {
                let delta = self.delta(of, at);
                let delta = delta.get_or_init(|| Delta::between(of, at));
                let (next, units) = part.update(of, at, delta, &self.kept);
                self.metrics.parts_updated.add(1);
                self.metrics.units_built.add(units);
                next.map_or_else(|| part.clone(), Arc::new)
            }
            None => {
                let (kind, key) = &slot.key;
                let part = Part::build(*kind, key.clone(), at, &self.kept);
                self.metrics.parts_built.add(1);
                self.metrics.units_built.add(part.units());
                Arc::new(part)
            }
        };
        *state = Some((at.clone(), part.clone()));
        part
    }

    /// The place of the difference between two snapshots.
    fn delta(&self, old: &Arc<Snapshot>, new: &Arc<Snapshot>) -> Arc<OnceLock<Delta>> {
        let mut deltas = lock(&self.deltas);
        let is = |weak: &Weak<Snapshot>, arc: &Arc<Snapshot>| std::ptr::eq(weak.as_ptr(), Arc::as_ptr(arc));
        if let Some(known) = deltas.iter().find(|k| is(&k.old, old) && is(&k.new, new)) {
            return known.delta.clone();
        }
        if deltas.len() == MAX_DELTAS {
            deltas.pop_front();
        }
        let known = Known { old: Arc::downgrade(old), new: Arc::downgrade(new), delta: Arc::default() };
        deltas.push_back(known.clone());
        known.delta
    }
}

/// Locks what is whole at any time, so that a panic elsewhere takes nothing with it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes room for an entry: what is gone goes before the map grows, and often enough that it stays in proportion
/// to what is in use, seldom enough that the work is paid by what was put in.
fn make_room<K: Eq + Hash, V>(map: &mut HashMap<K, Weak<V>>) {
    if map.len() == map.capacity() {
        map.retain(|_, value| value.strong_count() > 0);
        map.reserve(map.len() + 1);
    }
}
