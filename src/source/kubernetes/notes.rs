//! Kinds that are nothing in the world by themselves: a little is noted of each object, and what all say is told on.

use super::follow::Follow;
use crate::model::Change;
use serde_json::Value;
use std::{collections::BTreeMap, fmt::Debug};

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
    /// What a list says that is not yet whole.
    list: Option<BTreeMap<N::Name, N::Said>>,
}

impl<N: Note> Notes<N> {
    /// Nothing yet.
    pub(super) fn new(of: N) -> Self {
        Self { of, known: BTreeMap::new(), list: None }
    }

    /// An object says this now.
    fn told(&mut self, name: N::Name, said: Option<N::Said>) -> Vec<Change> {
        let notes = self.list.as_mut().unwrap_or(&mut self.known);
        match said {
            Some(said) => drop(notes.insert(name, said)),
            None => drop(notes.remove(&name)),
        }
        if self.list.is_none() {
            self.of.take(&self.known);
        }
        Vec::new()
    }
}

impl<N: Note> Follow for Notes<N> {
    fn begin(&mut self) {
        self.list = Some(BTreeMap::new());
    }

    fn whole(&mut self) -> Vec<Change> {
        self.known = self.list.take().unwrap_or_default();
        self.of.take(&self.known);
        Vec::new()
    }

    fn there(&mut self, raw: Value, _: &str) -> Vec<Change> {
        let (name, said) = self.of.read(&raw);
        self.told(name, said)
    }

    fn gone(&mut self, raw: Value, _: &str) -> Vec<Change> {
        let (name, _) = self.of.read(&raw);
        self.told(name, None)
    }

    fn unreadable(&mut self, _: Value, _: &str, _: &str) -> Vec<Change> {
        Vec::new()
    }

    fn emptied(&mut self) -> Vec<Change> {
        Vec::new()
    }
}
