//! A small set. Of those that indexes have many of, most have one member, for which a tree's node is a hundred times too
//! large.

use imbl::OrdSet;
use std::{slice, sync::Arc};

/// A set of a few members, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Few<T>(Arc<[T]>);

impl<T> Few<T> {
    pub(super) fn iter(&self) -> slice::Iter<'_, T> {
        self.0.iter()
    }
}

impl<T> Default for Few<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<'a, T> IntoIterator for &'a Few<T> {
    type Item = &'a T;
    type IntoIter = slice::Iter<'a, T>;

    fn into_iter(self) -> slice::Iter<'a, T> {
        self.iter()
    }
}

/// A set that members are added to and taken from.
pub(super) trait Members<T>: Default + Clone {
    fn add(&mut self, member: T);
    fn take(&mut self, member: &T);
    fn is_none(&self) -> bool;
}

impl<T: Ord + Clone> Members<T> for OrdSet<T> {
    fn add(&mut self, member: T) {
        self.insert(member);
    }

    fn take(&mut self, member: &T) {
        self.remove(member);
    }

    fn is_none(&self) -> bool {
        self.is_empty()
    }
}

impl<T: Ord + Clone> Members<T> for Few<T> {
    fn add(&mut self, member: T) {
        if let Err(at) = self.0.binary_search(&member) {
            let (before, after) = self.0.split_at(at);
            self.0 = before.iter().cloned().chain([member]).chain(after.iter().cloned()).collect();
        }
    }

    fn take(&mut self, member: &T) {
        if self.0.binary_search(member).is_ok() {
            self.0 = self.0.iter().filter(|other| *other != member).cloned().collect();
        }
    }

    fn is_none(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_there_once_and_in_order_until_they_are_taken() {
        let mut few = Few::default();
        [3, 1, 2, 1].into_iter().for_each(|n| few.add(n));
        assert!(few.iter().eq([&1, &2, &3]));
        [1, 4].iter().for_each(|n| few.take(n));
        assert!(few.into_iter().eq([&2, &3]));
        [2, 3].iter().for_each(|n| few.take(n));
        assert!(few.is_none());
    }
}
