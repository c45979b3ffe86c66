//! Reading JSON without what nobody asks for: an object of a cluster is many times larger than what is read of it.

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};
use std::{borrow::Cow, collections::BTreeMap, fmt};

/// What is read of an object. Lists are passed through: what is said of a list holds for each of its items.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// What holds for these fields; nothing is read of those with none.
    named: BTreeMap<&'static str, Option<Tree>>,
    /// Whether fields that are not named are read.
    others: bool,
}

impl Tree {
    /// Everything.
    pub(super) fn all() -> Self {
        Self { named: BTreeMap::new(), others: true }
    }

    /// These fields alone, each a path of names with blanks between, and all that is below them.
    pub(super) fn only(paths: &[&'static str]) -> Self {
        let mut tree = Self::default();
        for path in paths {
            let (place, last) = tree.place(path, false);
            place.named.insert(last, Some(Self::all()));
        }
        tree
    }

    /// Everything but these fields.
    pub(super) fn all_but(paths: &[&'static str]) -> Self {
        let mut tree = Self::all();
        for path in paths {
            let (place, last) = tree.place(path, true);
            place.named.insert(last, None);
        }
        tree
    }

    /// The parent of a path, made where it is missing, and the path's last name.
    fn place(&mut self, path: &'static str, others: bool) -> (&mut Self, &'static str) {
        let (parents, last) = path.rsplit_once(' ').unwrap_or(("", path));
        let mut place = self;
        for name in parents.split_whitespace() {
            let below = place.named.entry(name).or_insert(None);
            place = below.get_or_insert_with(|| Self { named: BTreeMap::new(), others });
        }
        (place, last)
    }
}

impl<'de> DeserializeSeed<'de> for &Tree {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.others && self.named.is_empty() {
            true => serde::Deserialize::deserialize(deserializer),
            false => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for &Tree {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut read = Map::new();
        while let Some(name) = fields.next_key::<Cow<'_, str>>()? {
            match self.named.get(&*name) {
                Some(Some(below)) => drop(read.insert(name.into_owned(), fields.next_value_seed(below)?)),
                None if self.others => drop(read.insert(name.into_owned(), fields.next_value()?)),
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(read))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut read = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            read.push(item);
        }
        Ok(Value::Array(read))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(tree: &Tree, value: &Value) -> Value {
        tree.deserialize(&mut serde_json::Deserializer::from_str(&value.to_string())).expect("JSON")
    }

    #[test]
    fn only_what_is_named_is_read_in_each_item_of_a_list() {
        let tree = Tree::only(&["metadata name", "spec containers ports", "spec containers name"]);
        let container = json!({"name": "a", "image": "b", "ports": [{"containerPort": 1, "name": "x"}]});
        let pod = json!({"metadata": {"name": "p", "uid": "u"}, "spec": {"containers": [container]}, "status": 1});
        let ports = json!([{"containerPort": 1, "name": "x"}]);
        let read = read(&tree, &pod);
        assert_eq!(read, json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a", "ports": ports}]}}));
    }

    #[test]
    fn all_but_what_is_named_is_read() {
        let tree = Tree::all_but(&["metadata managedFields", "metadata annotations last.applied/x"]);
        let object = json!({
            "metadata": {"name": "p", "managedFields": [1], "annotations": {"a": "b", "last.applied/x": "c"}},
            "spec": {"n": [1, -2, 2.5, true, null, "t"]},
        });
        let mut wanted = object.clone();
        wanted["metadata"] = json!({"name": "p", "annotations": {"a": "b"}});
        assert_eq!(read(&tree, &object), wanted);
    }

    #[test]
    fn what_is_no_object_is_read_as_it_is() {
        assert_eq!(read(&Tree::only(&["spec name"]), &json!({"spec": "text"})), json!({"spec": "text"}));
        assert_eq!(read(&Tree::all_but(&["spec"]), &json!({"spec": {}})), json!({}));
    }
}
