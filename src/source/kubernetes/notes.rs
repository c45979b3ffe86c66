//! Kinds that are nothing in the world by themselves: a little is noted of each object, and what all say is told on.

use super::follow::Follow;
use crate::model::Change;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Debug, mem};

/// What is noted of the objects of a kind.
pub(super) trait Note: Send + Sync {
    /// What an object is noted under.
    type Name: Ord + Debug + Send + Sync;
    /// What is noted of it.
    type Said: Debug + Send + Sync;

    /// An object's name, and what it says, if that is anything.
    fn read(&self, raw: &Value) -> (Self::Name, Option<Self::Said>);

    /// Takes what all objects say now.
    fn take(&self, all: &BTreeMap<Self::Name, Self::Said>);
}

/// What is noted, and follows the objects.
#[derive(Debug)]
pub(super) struct Notes<N: Note> {
    of: N,
    known: BTreeMap<N::Name, N::Said>,
    listed: BTreeMap<N::Name, N::Said>,
}

impl<N: Note> Notes<N> {
    /// Nothing yet.
    pub(super) fn new(of: N) -> Self {
        Self { of, known: BTreeMap::new(), listed: BTreeMap::new() }
    }

    fn told(&self) -> Vec<Change> {
        self.of.take(&self.known);
        Vec::new()
    }
}

impl<N: Note> Follow for Notes<N> {
    fn begin(&mut self) {
        self.listed.clear();
    }

    fn listed(&mut self, raw: Value, _: &str) {
        let (name, said) = self.of.read(&raw);
        self.listed.extend(said.map(|said| (name, said)));
    }

    fn whole(&mut self) -> Vec<Change> {
        self.known = mem::take(&mut self.listed);
        self.told()
    }

    fn there(&mut self, raw: Value, _: &str) -> Vec<Change> {
        let (name, said) = self.of.read(&raw);
        match said {
            Some(said) => drop(self.known.insert(name, said)),
            None => drop(self.known.remove(&name)),
        }
        self.told()
    }

    fn gone(&mut self, raw: Value, _: &str) -> Vec<Change> {
        self.known.remove(&self.of.read(&raw).0);
        self.told()
    }

    fn unreadable(&mut self, _: Value, _: &str, _: (&str, bool)) -> Vec<Change> {
        Vec::new()
    }

    fn emptied(&mut self) -> Vec<Change> {
        Vec::new()
    }
}
