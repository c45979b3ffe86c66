//! Labels, selectors, and who may see an object.

use crate::id::Namespace;
use std::{collections::BTreeMap, sync::Arc};

/// Labels by key.
pub type Labels = BTreeMap<Arc<str>, Arc<str>>;

/// Whether every label of `selector` is among `labels`. An empty selector matches all.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Which namespaces see an object.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum ExportTo {
    /// Whatever the mesh's default says.
    #[default]
    Unset,
    /// Every namespace.
    All,
    /// No namespace at all (`~`).
    Nobody,
    /// The object's own namespace (`.`) where `own` is set, and the named ones.
    Some {
        /// Whether the object's own namespace sees it.
        own: bool,
        /// Other namespaces that see it, in order.
        namespaces: Vec<Namespace>,
    },
}

impl ExportTo {
    /// Whether an object of namespace `from` is seen in namespace `by`; `default` decides where nothing is set.
    pub fn visible(&self, from: &Namespace, by: &Namespace, default: &ExportTo) -> bool {
        match (self, default) {
            (Self::Unset, Self::Unset) | (Self::All, _) => true,
            (Self::Unset, default) => default.visible(from, by, &Self::All),
            (Self::Nobody, _) => false,
            (Self::Some { own, namespaces }, _) => (*own && from == by) || namespaces.contains(by),
        }
    }
}

/// When an object was made: seconds since 1970, 0 where it does not say. Older objects win conflicts.
pub type Created = i64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn export_lists_name_who_sees_an_object() {
        let (a, b) = (Namespace::from("a"), Namespace::from("b"));
        let own = ExportTo::Some { own: true, namespaces: vec![] };
        assert!(own.visible(&a, &a, &ExportTo::Unset) && !own.visible(&a, &b, &ExportTo::Unset));
        assert!(ExportTo::Unset.visible(&a, &b, &ExportTo::Unset));
        assert!(!ExportTo::Unset.visible(&a, &b, &own) && ExportTo::Unset.visible(&a, &a, &own));
        assert!(!ExportTo::Nobody.visible(&a, &a, &ExportTo::All));
        let to_b = ExportTo::Some { own: false, namespaces: vec![b.clone()] };
        assert!(to_b.visible(&a, &b, &ExportTo::Unset) && !to_b.visible(&a, &a, &ExportTo::Unset));
    }
}
