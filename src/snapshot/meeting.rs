//! What an index by host has for a host: names meet where one is the other, or a wildcard above it.

use crate::id::Host;
use imbl::OrdMap;
use std::ops::Bound::{Excluded, Included};

/// The entries of a host and of the wildcards above it, the nearest first.
pub(super) fn above<'a, 'h, V>(
    index: &'a OrdMap<Host, V>,
    host: &'h Host,
) -> impl Iterator<Item = (&'a Host, &'a V)> + use<'a, 'h, V> {
    // As a rule there is no wildcard at all, or a few, which sort before all other names.
    let is_wild = index.range::<_, str>((Included("*"), Excluded("+"))).next().is_some();
    let mut name = String::new();
    let wildcards = host.suffixes().take_while(move |_| is_wild).filter_map(move |suffix| {
        name.clear();
        name.extend(["*", suffix]);
        index.get_key_value(name.as_str())
    });
    index.get_key_value(&**host).into_iter().chain(wildcards)
}

/// The same, and for a wildcard the entries below it in order.
pub(super) fn overlapping<'a, 'h, V>(
    index: &'a OrdMap<Host, V>,
    host: &'h Host,
) -> impl Iterator<Item = (&'a Host, &'a V)> + use<'a, 'h, V> {
    let all = host.is_wildcard().then(|| index.iter()).into_iter().flatten();
    above(index, host).chain(all.filter(move |(other, _)| *other != host && host.covers(other)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_meets_what_is_above_and_below_it() {
        let index = |names: &[&str]| -> OrdMap<Host, ()> { names.iter().map(|n| (Host::from(*n), ())).collect() };
        fn names<'a>(found: impl Iterator<Item = (&'a Host, &'a ())>) -> Vec<String> {
            found.map(|(h, ())| h.to_string()).collect()
        }
        let all = index(&["*", "*.b.c", "*.c", "*.x", "-.c", "a.b.c", "a.c", "b.c"]);
        assert_eq!(names(above(&all, &"a.b.c".into())), ["a.b.c", "*.b.c", "*.c", "*"]);
        assert_eq!(names(above(&all, &"z.b.c".into())), ["*.b.c", "*.c", "*"]);
        assert_eq!(names(overlapping(&all, &"*.c".into())), ["*.c", "*", "*.b.c", "-.c", "a.b.c", "a.c", "b.c"]);
        assert_eq!(names(overlapping(&all, &"a.c".into())), ["a.c", "*.c", "*"]);
        assert_eq!(names(above(&index(&["a.b.c", "b.c"]), &"a.b.c".into())), ["a.b.c"]);
        assert_eq!(names(overlapping(&index(&["a.b.c", "b.c"]), &"*".into())), ["a.b.c", "b.c"]);
    }
}
