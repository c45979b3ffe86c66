//! What streams share between snapshots: the parts of translations, and rendered resources.
//!
//! Streams that see the same hold the same slot, and the first of them that needs a newer snapshot brings the
//! slot there; the rest find it done. What no stream holds any more is forgotten.
//!
//! [`Engine::follow`] does that for all slots as soon as there is a newer snapshot, and wakes the streams alone that are
//! served something else by it: a change costs nothing to those that do not see it.

mod render;

use super::Metrics;
use crate::{
    model::Node,
    snapshot::{Delta, Snapshot, ViewKey},
    translate::{Config, Part, PartKind},
};
use futures_util::FutureExt as _;
pub(super) use render::Kept;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak},
};
use tokio::sync::Notify;

/// How many differences of snapshots are kept. Streams that lag further behind than this compute their own again.
const MAX_DELTAS: usize = 16;

/// Translates for all streams, each thing once.
#[derive(Debug)]
pub struct Engine {
    slots: Mutex<HashMap<SlotKey, Weak<Slot>>>,
    seats: Mutex<Vec<Weak<Seat>>>,
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
    seat: Arc<Seat>,
    config: Arc<Config>,
}

/// What the engine knows of a stream: which slots it holds, and how it is woken.
#[derive(Debug)]
pub(super) struct Seat {
    node: Arc<Node>,
    held: Mutex<Held>,
    woken: Notify,
}

/// The slots of a node, and the snapshot that it has them by.
#[derive(Clone, Debug, Default)]
struct Held {
    at: Option<Arc<Snapshot>>,
    slots: Arc<[Arc<Slot>]>,
}

impl Lease {
    /// A lease for a node, of nothing yet.
    pub fn new(node: Arc<Node>) -> Self {
        let seat = Arc::new(Seat { node, held: Mutex::default(), woken: Notify::new() });
        Self { seat, config: Arc::default() }
    }

    /// What the node is served.
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Whether it was woken since this was last asked.
    pub fn was_woken(&self) -> bool {
        self.seat.woken().now_or_never().is_some()
    }

    /// Where it is woken.
    pub(super) fn seat(&self) -> Arc<Seat> {
        self.seat.clone()
    }
}

impl Seat {
    /// Waits until the lease is to be brought to a newer snapshot.
    pub(super) async fn woken(&self) {
        self.woken.notified().await;
    }

    /// Has the lease brought to a newer snapshot.
    pub(super) fn wake(&self) {
        self.woken.notify_one();
    }
}

impl Engine {
    /// An engine that counts what it does.
    pub fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            slots: Mutex::default(),
            seats: Mutex::default(),
            deltas: Mutex::default(),
            kept: Kept::new(metrics.clone()),
            metrics,
        }
    }

    /// Brings a lease to a snapshot and says whether what its node is served differs from before. This is the
    /// work of translating: not to be done where others wait.
    pub fn advance(&self, lease: &mut Lease, to: &Arc<Snapshot>) -> bool {
        let Held { at, mut slots } = lock(&lease.seat.held).clone();
        let is_there = at.as_ref().is_some_and(|at| Arc::ptr_eq(at, to));
        let rekey = !is_there
            && at.as_ref().is_none_or(|at| {
                let delta = self.delta(at, to);
                Snapshot::may_change_key(delta.get_or_init(|| Delta::between(at, to)), &lease.seat.node)
            });
        if rekey {
            slots = self.slots_of(&lease.seat.node, to, &slots).into();
        }
        let parts: Vec<_> = slots.iter().map(|slot| self.part(slot, to)).collect();
        *lock(&lease.seat.held) = Held { at: Some(to.clone()), slots };
        let old = lease.config.parts();
        if old.len() == parts.len() && old.iter().zip(&parts).all(|(a, b)| Arc::ptr_eq(a, b)) {
            return false;
        }
        lease.config = Arc::new(Config::new(parts));
        true
    }

    /// Has a lease woken from now on by [`Engine::follow`].
    pub fn seat(&self, lease: &Lease) {
        let mut seats = lock(&self.seats);
        if seats.len() == seats.capacity() {
            seats.retain(|seat| seat.strong_count() > 0);
            let room = seats.len() + 1;
            seats.reserve(room);
        }
        seats.push(Arc::downgrade(&lease.seat));
    }

    /// Brings all slots from a snapshot to the next, and wakes the leases that are to be brought there: those that are
    /// served something else, or may hold other slots. Says how many these are.
    pub fn follow(&self, from: &Arc<Snapshot>, to: &Arc<Snapshot>) -> usize {
        let delta = self.delta(from, to);
        let delta = delta.get_or_init(|| Delta::between(from, to));
        let slots: Vec<Arc<Slot>> = lock(&self.slots).values().filter_map(Weak::upgrade).collect();
        let changed: HashSet<*const Slot> =
            slots.iter().filter(|slot| self.bring(slot, from, to, delta)).map(Arc::as_ptr).collect();
        let seats: Vec<Arc<Seat>> = lock(&self.seats).iter().filter_map(Weak::upgrade).collect();
        let concerned = |seat: &&Arc<Seat>| {
            let mut held = lock(&seat.held);
            let stays = held.at.as_ref().is_some_and(|at| Arc::ptr_eq(at, from))
                && !Snapshot::may_change_key(delta, &seat.node)
                && (changed.is_empty() || !held.slots.iter().any(|slot| changed.contains(&Arc::as_ptr(slot))));
            if stays {
                held.at = Some(to.clone());
            }
            !stays
        };
        seats.iter().filter(concerned).map(|seat| seat.wake()).count()
    }

    /// Brings a slot from a snapshot to the next, and says whether those that hold it may be served something else then. Where a
    /// stream was faster, or came later with an older snapshot, nobody knows any more what the others have of it: they
    /// are to look.
    fn bring(&self, slot: &Slot, from: &Arc<Snapshot>, to: &Arc<Snapshot>, delta: &Delta) -> bool {
        let before = {
            let mut state = lock(&slot.state);
            let Some((of, part)) = &mut *state else { return false };
            if !Arc::ptr_eq(of, from) {
                return true;
            }
            if !part.may_change(delta) {
                of.clone_from(to);
                return false;
            }
            part.clone()
        };
        !Arc::ptr_eq(&before, &self.part(slot, to))
    }

    /// Whether bringing a lease to a snapshot is no work any more, because the slots that it holds are there.
    pub fn is_done(&self, lease: &Lease, to: &Arc<Snapshot>) -> bool {
        let Held { at: Some(at), slots } = &*lock(&lease.seat.held) else { return false };
        let same_key = Arc::ptr_eq(at, to)
            || self.delta(at, to).get().is_some_and(|delta| !Snapshot::may_change_key(delta, &lease.seat.node));
        let is_there = |slot: &Arc<Slot>| {
            let state = slot.state.try_lock().ok();
            state.is_some_and(|state| state.as_ref().is_some_and(|(of, _)| Arc::ptr_eq(of, to)))
        };
        same_key && slots.iter().all(is_there)
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
pub(super) fn make_room<K: Eq + Hash, V>(map: &mut HashMap<K, Weak<V>>) {
    if map.len() == map.capacity() {
        map.retain(|_, value| value.strong_count() > 0);
        map.reserve(map.len() + 1);
    }
}
