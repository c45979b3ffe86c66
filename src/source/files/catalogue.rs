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
    collections::{BTreeMap, btree_map},
    path::Path,
    sync::Arc,
};

/// Where a file stands among the others: the place of its root, then its path. The first to hold an object wins.
pub(super) type Position = (usize, Arc<Path>);

/// The files as they were read last, and what was last told of them.
#[derive(Debug)]
pub(super) struct Catalogue {
    context: Context,
    files: BTreeMap<Position, Content>,
    /// The pods that workloads stand for, as they follow from `shaping`.
    stand_ins: Vec<Arc<Entry>>,
    shaping: Vec<Arc<Entry>>,
    told: BTreeMap<ObjectRef, Arc<Change>>,
}

impl Catalogue {
    pub(super) fn new(context: Context) -> Self {
        let (stand_ins, shaping) = (Vec::new(), Vec::new());
        Self { context, files: BTreeMap::new(), stand_ins, shaping, told: BTreeMap::new() }
    }

    /// Takes in the text of a file, which people know by this name.
    pub(super) fn read(&mut self, at: Position, name: &str, text: &Text) {
        let before = self.files.get(&at);
        if before.is_none_or(|content| !content.is_of(text)) {
            let content = Content::read(name, text, before, &self.context);
            self.files.insert(at, content);
        }
    }

    /// Takes in that a file is no longer there.
    pub(super) fn remove(&mut self, at: &Position) {
        self.files.remove(at);
    }

    /// The files that are there.
    pub(super) fn positions(&self) -> impl Iterator<Item = &Position> {
        self.files.keys()
    }

    /// What changed since this was last asked.
    pub(super) fn changes(&mut self) -> Vec<Change> {
        let now = self.now();
        let mut changes = Vec::new();
        for (object, change) in &now {
            let before = self.told.get(object);
            if !before.is_some_and(|b| Arc::ptr_eq(b, change) || b == change) {
                changes.push(Change::clone(change));
            }
        }
        for object in self.told.keys().filter(|o| !now.contains_key(o)) {
            changes.push(Change { object: object.clone(), state: State::Gone, problems: Vec::new(), raw: None });
        }
        self.told = now;
        changes
    }

    /// All there is to tell now.
    fn now(&mut self) -> BTreeMap<ObjectRef, Arc<Change>> {
        let mut in_force: BTreeMap<&Key, &Arc<Entry>> = BTreeMap::new();
        let mut doubles: BTreeMap<&Key, Vec<Problem>> = BTreeMap::new();
        for entry in self.files.values().flat_map(|f| &f.entries) {
            match in_force.entry(&entry.key) {
                btree_map::Entry::Vacant(place) => drop(place.insert(entry)),
                btree_map::Entry::Occupied(winner) => {
                    doubles.entry(&entry.key).or_default().push(double(entry, winner.get()));
                }
            }
        }
        let shaping: Vec<_> = in_force.values().filter(|e| shapes_pods(e)).map(|e| Arc::clone(e)).collect();
        let same =
            shaping.len() == self.shaping.len() && shaping.iter().zip(&self.shaping).all(|(a, b)| Arc::ptr_eq(a, b));
        if !same {
            self.stand_ins = stand_ins(&shaping, &self.context);
            self.shaping = shaping;
        }
        let mut now = BTreeMap::new();
        for (key, entry) in in_force {
            let change = match doubles.remove(key) {
                None => entry.change.clone(),
                Some(problems) => with_problems(&entry.change, problems),
            };
            put(&mut now, change);
        }
        self.stand_ins.iter().for_each(|entry| put(&mut now, entry.change.clone()));
        for file in self.files.values().filter(|f| !f.problems.is_empty()) {
            let (object, problems) = (file.object.clone(), file.problems.clone());
            put(&mut now, Arc::new(Change { object, state: State::Bad, problems, raw: None }));
        }
        now
    }
}

/// Whether stand-ins depend on this object.
fn shapes_pods(entry: &Entry) -> bool {
    workload::is_workload(&entry.raw) || matches!(entry.key.0.kind.as_str(), "Pod" | "Node")
}

fn stand_ins(shaping: &[Arc<Entry>], context: &Context) -> Vec<Arc<Entry>> {
    let location = |id: &ObjectRef| shaping.iter().find(|e| e.key.0 == *id).map(|e| e.location.clone());
    let made = workload::stand_ins(shaping.iter().map(|e| &e.raw));
    let entry = |stand_in: workload::StandIn| {
        let location = location(&stand_in.workload).expect("a stand-in's workload is among those it is made from");
        Arc::new(Entry::new(stand_in.pod, location, context))
    };
    made.into_iter().map(entry).collect()
}

/// That `loser` is not in force because `winner` is.
fn double(loser: &Entry, winner: &Entry) -> Problem {
    let (object, path) = (&loser.key.0, FieldPath::default());
    let problem = match loser.raw == winner.raw {
        true => Problem::warning(object, path, format!("is also in {}; one of the two can go", winner.location)),
        false => Problem::error(
            object,
            path,
            format!("is also in {}, which is in force; remove or rename one of the two", winner.location),
        ),
    };
    Problem { location: Some(loser.location.clone()), ..problem }
}

/// Adds what is to be told of an object. Kinds of different API groups may share a name: what can be used is used.
fn put(now: &mut BTreeMap<ObjectRef, Arc<Change>>, change: Arc<Change>) {
    match now.entry(change.object.clone()) {
        btree_map::Entry::Vacant(place) => drop(place.insert(change)),
        btree_map::Entry::Occupied(mut place) => {
            let (one, other) = match matches!(place.get().state, State::Is(_)) {
                true => (place.get(), &change),
                false => (&change, place.get()),
            };
            let merged = with_problems(one, other.problems.clone());
            place.insert(merged);
        }
    }
}

fn with_problems(change: &Change, more: Vec<Problem>) -> Arc<Change> {
    let mut change = change.clone();
    change.problems.extend(more);
    Arc::new(change)
}

#[cfg(test)]
mod tests;
