//! What all files hold together, and what of it changed: which object is in force where several files have it,
//! and the pods that workloads stand for.
//!
//! No I/O: texts are handed in, and changes come out.

use super::content::{Content, Entry, Key, Text};
use crate::{
    id::ObjectRef,
    model::{Change, State},
    parse::Context,
    problem::{FieldPath, Problem},
    source::workload,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

/// Where a file stands among the others: the place of its root, then its path. The last to hold an object wins, as if
/// all were applied in this order.
pub(super) type Position = (usize, Arc<Path>);

/// The files as they were read last, and what was last told of them. What it does is in proportion to the files that
/// changed.
#[derive(Debug)]
pub(super) struct Catalogue {
    context: Context,
    files: BTreeMap<Position, Content>,
    /// Who holds each object, in the order of files and documents: the last is in force.
    holders: BTreeMap<Key, Vec<(Position, Arc<Entry>)>>,
    /// What is wrong with files.
    broken: BTreeMap<(ObjectRef, Position), Arc<Change>>,
    /// The pods that workloads stand for, as they follow from `shaping`.
    stand_ins: BTreeMap<ObjectRef, Arc<Entry>>,
    shaping: BTreeMap<Key, Arc<Entry>>,
    /// How many of `shaping` are workloads.
    workloads: usize,
    /// Of what something else may be to tell than was.
    dirty: BTreeSet<ObjectRef>,
    told: BTreeMap<ObjectRef, Arc<Change>>,
}

impl Catalogue {
    pub(super) fn new(context: Context) -> Self {
        Self {
            context,
            files: BTreeMap::new(),
            holders: BTreeMap::new(),
            broken: BTreeMap::new(),
            stand_ins: BTreeMap::new(),
            shaping: BTreeMap::new(),
            workloads: 0,
            dirty: BTreeSet::new(),
            told: BTreeMap::new(),
        }
    }

    /// Takes in the text of a file, which people know by this name.
    pub(super) fn read(&mut self, at: Position, name: &str, text: &Text) {
        let before = self.files.get(&at);
        if before.is_none_or(|content| !content.is_of(text)) {
            let content = Content::read(name, text, before, &self.context);
            self.remove(&at);
            self.hold(at, content);
        }
    }

    /// Takes in that a file is no longer there.
    pub(super) fn remove(&mut self, at: &Position) {
        let Some(content) = self.files.remove(at) else { return };
        for key in content.entries.into_iter().map(|e| e.key.clone()) {
            if let Some(holders) = self.holders.get_mut(&key) {
                holders.retain(|(holder, _)| holder != at);
                if holders.is_empty() {
                    self.holders.remove(&key);
                }
            }
            self.dirty.insert(key.0);
        }
        self.broken.remove(&(content.object.clone(), at.clone()));
        self.dirty.insert(content.object);
    }

    fn hold(&mut self, at: Position, content: Content) {
        for entry in &content.entries {
            let holders = self.holders.entry(entry.key.clone()).or_default();
            let place = holders.partition_point(|(holder, _)| *holder <= at);
            holders.insert(place, (at.clone(), entry.clone()));
            self.dirty.insert(entry.key.0.clone());
        }
        if !content.problems.is_empty() {
            let (object, problems) = (content.object.clone(), content.problems.clone());
            self.dirty.insert(object.clone());
            let change = Change { object: object.clone(), state: State::Bad, problems, raw: None };
            self.broken.insert((object, at.clone()), Arc::new(change));
        }
        self.files.insert(at, content);
    }

    /// The files that are there.
    pub(super) fn positions(&self) -> impl Iterator<Item = &Position> {
        self.files.keys()
    }

    /// What changed since this was last asked.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        self.reshape();
        let (mut changes, mut gone) = (Vec::new(), Vec::new());
        for object in std::mem::take(&mut self.dirty) {
            let before = self.told.remove(&object);
            match (self.now(&object), before) {
                (Some(now), before) => {
                    if !before.is_some_and(|b| Arc::ptr_eq(&b, &now) || b == now) {
                        changes.push(Change::clone(&now));
                    }
                    self.told.insert(object, now);
                }
                (None, Some(_)) => gone.push(Change { object, state: State::Gone, problems: Vec::new(), raw: None }),
                (None, None) => {}
            }
        }
        changes.append(&mut gone);
        changes
    }

    /// Makes the pods that workloads stand for anew, where what they follow from has changed.
    fn reshape(&mut self) {
        let mut differs = false;
        for object in &self.dirty {
            for key in keys(&self.holders, object).chain(keys(&self.shaping, object)).cloned().collect::<BTreeSet<_>>()
            {
                let now = self.holders.get(&key).and_then(|h| h.last()).map(|(_, e)| e).filter(|e| shapes_pods(e));
                let before = match now {
                    Some(entry) => self.shaping.insert(key, entry.clone()),
                    None => self.shaping.remove(&key),
                };
                let count = |entry: Option<&Arc<Entry>>| entry.iter().filter(|e| is_workload(e)).count();
                self.workloads = self.workloads + count(now) - count(before.as_ref());
                differs |= match (&before, now) {
                    (Some(a), Some(b)) => !Arc::ptr_eq(a, b),
                    (a, b) => a.is_some() || b.is_some(),
                };
            }
        }
        // Without workloads there is nothing that other objects could shape.
        if differs && (self.workloads > 0 || !self.stand_ins.is_empty()) {
            let shaping: Vec<Arc<Entry>> = self.shaping.values().cloned().collect();
            let made = stand_ins(&shaping, &self.context).into_iter().map(|e| (e.key.0.clone(), e)).collect();
            let before = std::mem::replace(&mut self.stand_ins, made);
            self.dirty.extend(before.into_keys().chain(self.stand_ins.keys().cloned()));
        }
    }

    /// What there is to tell of an object now.
    fn now(&self, object: &ObjectRef) -> Option<Arc<Change>> {
        let mut now = None;
        for key in keys(&self.holders, object) {
            let Some(((_, entry), losers)) = self.holders[key].split_last() else { continue };
            put(
                &mut now,
                match losers {
                    [] => entry.change.clone(),
                    _ => with_problems(&entry.change, losers.iter().map(|(_, loser)| double(loser, entry)).collect()),
                },
            );
        }
        if let Some(entry) = self.stand_ins.get(object) {
            put(&mut now, entry.change.clone());
        }
        let from = (object.clone(), (0, Path::new("").into()));
        for (_, change) in self.broken.range(from..).take_while(|((of, _), _)| of == object) {
            put(&mut now, change.clone());
        }
        now
    }
}

/// The keys of an object, one for each API group that it is of.
fn keys<'a, V>(map: &'a BTreeMap<Key, V>, object: &'a ObjectRef) -> impl Iterator<Item = &'a Key> {
    map.range((object.clone(), "".into())..).map(|(key, _)| key).take_while(move |key| key.0 == *object)
}

/// Whether stand-ins depend on this object.
fn shapes_pods(entry: &Entry) -> bool {
    entry.shaping.is_some()
}

fn is_workload(entry: &Entry) -> bool {
    entry.shaping.as_ref().is_some_and(workload::is_workload)
}

fn stand_ins(shaping: &[Arc<Entry>], context: &Context) -> Vec<Arc<Entry>> {
    let locations: BTreeMap<&ObjectRef, &Arc<str>> = shaping.iter().map(|e| (&e.key.0, &e.location)).collect();
    let location = |id: &ObjectRef| locations.get(id).map(|l| Arc::clone(l));
    let made = workload::stand_ins(shaping.iter().filter_map(|e| e.shaping.as_ref()));
    let entry = |stand_in: workload::StandIn| {
        let location = location(&stand_in.workload).expect("a stand-in's workload is among those it is made from");
        Arc::new(Entry::new(stand_in.pod, location, context))
    };
    made.into_iter().map(entry).collect()
}

/// That `loser` is not in force because `winner` is.
fn double(loser: &Entry, winner: &Entry) -> Problem {
    let (object, path) = (&loser.key.0, FieldPath::default());
    let problem = match loser.is_same(winner) {
        true => Problem::warning(object, path, format!("is also in {}; one of the two can go", winner.location)),
        false => Problem::error(
            object,
            path,
            format!(
                "is also in {}, which comes later and is in force, as it is where both are applied; remove or rename one \
                 of the two",
                winner.location
            ),
        ),
    };
    Problem { location: Some(loser.location.clone()), ..problem }
}

/// Adds what is to be told of an object. Kinds of different API groups may share a name: what can be used is used.
fn put(now: &mut Option<Arc<Change>>, change: Arc<Change>) {
    *now = Some(match now.take() {
        None => change,
        Some(there) => {
            let (one, other) = match matches!(there.state, State::Is(_)) {
                true => (there, change),
                false => (change, there),
            };
            with_problems(&one, other.problems.clone())
        }
    });
}

fn with_problems(change: &Change, more: Vec<Problem>) -> Arc<Change> {
    let mut change = change.clone();
    change.problems.extend(more);
    Arc::new(change)
}

#[cfg(test)]
mod tests;
