//! Labels, selectors, and who may see an object.

use crate::id::Namespace;
use std::sync::Arc;

/// Labels, or annotations, in order of their keys. A copy is another hold on the same: they are many and never change.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Labels(Arc<[(Arc<str>, Arc<str>)]>);

impl Labels {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&Arc<str>> {
        let at = self.0.binary_search_by(|(other, _)| (**other).cmp(key)).ok()?;
        Some(&self.0[at].1)
    }

    /// Whether there is a label of this key.
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// The labels in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&Arc<str>, &Arc<str>)> + use<'_> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    /// Their keys in order.
    pub fn keys(&self) -> impl Iterator<Item = &Arc<str>> + use<'_> {
        self.0.iter().map(|(key, _)| key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// In how many places these are held.
    pub fn holds(&self) -> usize {
        Arc::strong_count(&self.0)
    }

    /// These and others, which win.
    #[must_use]
    pub fn with(&self, others: &Self) -> Self {
        self.0.iter().chain(&*others.0).cloned().collect()
    }
}

/// Of two labels with one key the later one counts.
impl FromIterator<(Arc<str>, Arc<str>)> for Labels {
    fn from_iter<I: IntoIterator<Item = (Arc<str>, Arc<str>)>>(labels: I) -> Self {
        let mut labels: Vec<_> = labels.into_iter().collect();
        labels.sort_by(|(a, _), (b, _)| a.cmp(b));
        labels.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                std::mem::swap(later, earlier);
            }
            same
        });
        match labels.is_empty() {
            true => Self::default(),
            false => Self(labels.into()),
        }
    }
}

/// Whether every label of `selector` is among `labels`. An empty selector matches all.
pub fn selects(selector: &Labels, labels: &Labels) -> bool {
    selector.iter().all(|(key, value)| labels.get(key) == Some(value))
}

/// Labels that are asked for in any of Kubernetes' ways.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct LabelSelector {
    /// These labels with these values.
    pub labels: Labels,
    /// And all of these.
    pub expressions: Vec<LabelExpression>,
}

/// What is asked of one label.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LabelExpression {
    /// The label.
    pub key: Arc<str>,
    /// How it is asked for.
    pub operator: LabelOperator,
    /// The values, for the operators that have some.
    pub values: Vec<Arc<str>>,
}

/// How a label is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LabelOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether labels are what is asked for.
    pub fn selects(&self, labels: &Labels) -> bool {
        let holds = |e: &LabelExpression| {
            let value = labels.get(&e.key);
            let among = value.is_some_and(|v| e.values.contains(v));
            match e.operator {
                LabelOperator::In => among,
                LabelOperator::NotIn => !among,
                LabelOperator::Exists => value.is_some(),
                LabelOperator::DoesNotExist => value.is_none(),
            }
        };
        selects(&self.labels, labels) && self.expressions.iter().all(holds)
    }
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
    fn labels_are_in_order_and_the_last_of_a_key_counts() {
        let pairs = [("b", "1"), ("a", "2"), ("b", "3"), ("a", "4"), ("c", "5")];
        let labels: Labels = pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let all: Vec<_> = labels.iter().map(|(k, v)| format!("{k}{v}")).collect();
        assert_eq!(all, ["a4", "b3", "c5"]);
        assert_eq!(labels.get("b").map(|v| &**v), Some("3"));
        assert!(labels.get("d").is_none() && Labels::new().is_empty());
        let more = labels.with(&[("b".into(), "6".into()), ("d".into(), "7".into())].into_iter().collect());
        assert_eq!(more.iter().map(|(_, v)| &**v).collect::<String>(), "4657");
    }

    #[test]
    fn a_selector_asks_for_labels_in_each_way() {
        let labels = |text: &str| -> Labels {
            text.split_whitespace().filter_map(|l| l.split_once('=')).map(|(k, v)| (k.into(), v.into())).collect()
        };
        let asks = |operator, values: &[&str]| LabelSelector {
            labels: labels("mesh=on"),
            expressions: vec![LabelExpression {
                key: "team".into(),
                operator,
                values: values.iter().map(|v| (*v).into()).collect(),
            }],
        };
        let answers = |selector: &LabelSelector| {
            ["mesh=on", "mesh=on team=a", "mesh=on team=b", "team=a"].map(|l| selector.selects(&labels(l)))
        };
        assert_eq!(answers(&asks(LabelOperator::In, &["a", "c"])), [false, true, false, false]);
        assert_eq!(answers(&asks(LabelOperator::NotIn, &["a"])), [true, false, true, false]);
        assert_eq!(answers(&asks(LabelOperator::Exists, &[])), [false, true, true, false]);
        assert_eq!(answers(&asks(LabelOperator::DoesNotExist, &[])), [true, false, false, false]);
        assert!(LabelSelector::default().selects(&Labels::new()), "an empty selector selects all");
    }

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
