//! Which values belong to a key, where most keys have one or two: all pairs are in one tree, because a tree for
//! each key would be mostly empty.

use imbl::OrdSet;

/// Pairs, found by their first half.
#[derive(Clone, Debug)]
pub(super) struct Relation<K: Ord, V: Ord>(OrdSet<(K, Option<V>)>);

impl<K: Ord, V: Ord> Default for Relation<K, V> {
    fn default() -> Self {
        Self(OrdSet::new())
    }
}

impl<K: Ord + Clone, V: Ord + Clone> Relation<K, V> {
    /// Adds a pair.
    pub(super) fn add(&mut self, key: K, value: V) {
        self.0.insert((key, Some(value)));
    }

    /// Takes a pair away.
    pub(super) fn remove(&mut self, key: K, value: V) {
        self.0.remove(&(key, Some(value)));
    }

    /// The values of a key, in order.
    pub(super) fn of(&self, key: K) -> impl Iterator<Item = &V> {
        // `None` is in no pair, and before all values.
        let pairs = self.0.range((key.clone(), None)..);
        pairs.take_while(move |(k, _)| *k == key).filter_map(|(_, value)| value.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_values_that_were_added_and_not_removed() {
        let mut relation = Relation::default();
        for (key, value) in [(2, "b"), (1, "z"), (2, "a"), (3, "c"), (2, "a")] {
            relation.add(key, value);
        }
        assert_eq!(relation.of(2).collect::<Vec<_>>(), [&"a", &"b"]);
        relation.remove(2, "a");
        relation.remove(2, "never there");
        assert_eq!(relation.of(2).collect::<Vec<_>>(), [&"b"]);
        assert_eq!(relation.of(4).count(), 0);
    }
}
