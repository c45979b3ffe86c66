//! The names that clients subscribe to. Those that ask for the same share one set, which is found by what is in it.

use crate::xds::cache::{lock, make_room};
use std::{
    collections::{BTreeSet, HashMap},
    hash::{BuildHasher as _, RandomState},
    sync::{Arc, Mutex, Weak},
};
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// A set of names. A copy of it costs nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct NameSet {
    names: Arc<BTreeSet<Arc<str>>>,
    /// The sum over the names, which tells sets apart.
    digest: u128,
}

impl NameSet {
    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(super) fn get(&self, name: &str) -> Option<&Arc<str>> {
        self.names.get(name)
    }

    /// The names in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        self.names.iter()
    }

    pub(super) fn digest(&self) -> u128 {
        self.digest
    }
}

/// The sets of names that are in use.
#[derive(Debug)]
pub(super) struct Sets {
    /// Clients choose the names, and must not be able to choose two sets that are taken for one.
    seed: u64,
    sets: Mutex<HashMap<u128, Weak<BTreeSet<Arc<str>>>>>,
}

impl Default for Sets {
    fn default() -> Self {
        Self { seed: RandomState::new().hash_one(0u8), sets: Mutex::default() }
    }
}

impl Sets {
    /// The digest of the set of these names, of which none is there twice.
    pub(super) fn digest(&self, names: &[&str]) -> u128 {
        names.iter().fold(0, |sum: u128, name| sum.wrapping_add(self.digest_of(name)))
    }

    fn digest_of(&self, name: &str) -> u128 {
        xxh3_128_with_seed(name.as_bytes(), self.seed)
    }

    /// A set and these names; those that are not in any set yet are kept as `shared` says.
    pub(super) fn with(&self, set: &NameSet, names: &[&str], shared: impl Fn(&str) -> Arc<str>) -> NameSet {
        let new: Vec<&str> = names.iter().filter(|name| !set.contains(name)).copied().collect();
        let digest = set.digest.wrapping_add(self.digest(&new));
        self.known(digest).unwrap_or_else(|| {
            let mut all = BTreeSet::clone(&set.names);
            all.extend(new.into_iter().map(shared));
            self.keep(all)
        })
    }

    /// A set without these names of it.
    pub(super) fn without(&self, set: &NameSet, names: &[Arc<str>]) -> NameSet {
        let digest = names.iter().fold(set.digest, |sum, name| sum.wrapping_sub(self.digest_of(name)));
        self.known(digest).unwrap_or_else(|| {
            let mut rest = BTreeSet::clone(&set.names);
            rest.retain(|name| !names.contains(name));
            self.keep(rest)
        })
    }

    fn known(&self, digest: u128) -> Option<NameSet> {
        let names = lock(&self.sets).get(&digest).and_then(Weak::upgrade)?;
        Some(NameSet { names, digest })
    }

    fn keep(&self, names: BTreeSet<Arc<str>>) -> NameSet {
        let digest = names.iter().fold(0, |sum: u128, name| sum.wrapping_add(self.digest_of(name)));
        let names = Arc::new(names);
        let mut sets = lock(&self.sets);
        make_room(&mut sets);
        sets.insert(digest, Arc::downgrade(&names));
        NameSet { names, digest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_are_one_set_however_they_came_together() {
        let (sets, own) = (Sets::default(), |name: &str| -> Arc<str> { name.into() });
        let at_once = sets.with(&NameSet::default(), &["a", "b", "c"], own);
        let one = sets.with(&NameSet::default(), &["c"], own);
        let in_turn = sets.with(&sets.with(&one, &["b", "c"], own), &["a"], own);
        assert!(Arc::ptr_eq(&at_once.names, &in_turn.names));
        let less = sets.without(&at_once, &["b".into()]);
        assert!(less.iter().map(|n| &**n).eq(["a", "c"]));
        assert!(Arc::ptr_eq(&less.names, &sets.with(&one, &["a"], own).names));
        assert_eq!(less.digest(), sets.digest(&["c", "a"]));
        assert!(sets.without(&less, &["a".into(), "c".into()]).is_empty());
    }

    #[test]
    fn a_name_that_is_there_twice_is_in_the_set_once() {
        let (sets, own) = (Sets::default(), |name: &str| -> Arc<str> { name.into() });
        let twice = sets.with(&NameSet::default(), &["a", "b", "a"], own);
        assert!(Arc::ptr_eq(&twice.names, &sets.with(&NameSet::default(), &["b", "a"], own).names));
    }
}
