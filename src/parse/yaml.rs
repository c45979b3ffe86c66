//! One YAML document as a JSON value: YAML 1.2 with merge keys (`<<`), and a bound on what aliases may unfold to.
//!
//! Keys become texts, tags of one's own are dropped, and a key that is there twice is an error as it is for kubectl.

use serde::de::{self, DeserializeSeed, Deserializer, EnumAccess, MapAccess, SeqAccess, VariantAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::{cell::Cell, fmt};

/// A document may unfold to this many nodes, or to as many as it has bytes where that is more. Without aliases
/// no document reaches it.
const NODES: usize = 200_000;

/// Reads the one document in `text`; `Null` where it has no content.
pub fn value(text: &str) -> Result<Value, serde_norway::Error> {
    let left = Cell::new(text.len().max(NODES));
    Node { left: &left }.deserialize(serde_norway::Deserializer::from_str(text))
}

#[derive(Clone, Copy)]
struct Node<'a> {
    /// How many nodes may still come.
    left: &'a Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Node<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1);
        self.left.set(left.ok_or_else(|| de::Error::custom("unfolds to too much; use fewer aliases (`*name`)"))?);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Node<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML node")
    }

    fn visit_bool<E>(self, v: bool) -> Result<Value, E> {
        Ok(Value::Bool(v))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_u64<E>(self, v: u64) -> Result<Value, E> {
        Ok(v.into())
    }

    fn visit_f64<E: de::Error>(self, v: f64) -> Result<Value, E> {
        Number::from_f64(v).map(Value::Number).ok_or_else(|| E::custom(format!("{v} is not a number of JSON")))
    }

    fn visit_i128<E: de::Error>(self, v: i128) -> Result<Value, E> {
        Err(E::custom(format!("the number {v} is too large; write it in quotes where a text is meant")))
    }

    fn visit_u128<E: de::Error>(self, v: u128) -> Result<Value, E> {
        Err(E::custom(format!("the number {v} is too large; write it in quotes where a text is meant")))
    }

    fn visit_str<E>(self, v: &str) -> Result<Value, E> {
        Ok(Value::String(v.to_owned()))
    }

    fn visit_string<E>(self, v: String) -> Result<Value, E> {
        Ok(Value::String(v))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_enum<A: EnumAccess<'de>>(self, tagged: A) -> Result<Value, A::Error> {
        let (_, content) = tagged.variant_seed(Tag)?;
        content.newtype_variant_seed(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(entry) = entries.next_element_seed(self)? {
            list.push(entry);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        let mut merged = Vec::new();
        while let Some(key) = entries.next_key_seed(self)? {
            let key = key_text(key)?;
            let value = entries.next_value_seed(self)?;
            if key == "<<" {
                merged.push(value);
            } else if map.contains_key(&key) {
                return Err(de::Error::custom(format!("the key `{key}` is there twice; remove one of the two")));
            } else {
                map.insert(key, value);
            }
        }
        merged.into_iter().try_for_each(|value| merge(&mut map, value))?;
        Ok(Value::Object(map))
    }
}

/// The name of a tag: its content is taken as it stands.
struct Tag;

impl<'de> DeserializeSeed<'de> for Tag {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_identifier(de::IgnoredAny).map(drop)
    }
}

fn key_text<E: de::Error>(key: Value) -> Result<String, E> {
    match key {
        Value::String(text) => Ok(text),
        Value::Number(number) => Ok(number.to_string()),
        Value::Bool(truth) => Ok(truth.to_string()),
        Value::Null => Ok("null".to_owned()),
        Value::Array(_) | Value::Object(_) => Err(E::custom("a key must be a text; quote it where it has brackets")),
    }
}

/// Adds what `<<` brings; keys that are there already win.
fn merge<E: de::Error>(into: &mut Map<String, Value>, from: Value) -> Result<(), E> {
    match from {
        Value::Object(map) => {
            for (key, value) in map {
                into.entry(key).or_insert(value);
            }
            Ok(())
        }
        Value::Array(list) if list.iter().all(Value::is_object) => {
            list.into_iter().try_for_each(|map| merge(into, map))
        }
        Value::Null => Ok(()),
        _ => Err(E::custom("`<<` takes a mapping or a list of mappings")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(text: &str) -> Value {
        value(text).unwrap_or_else(|e| panic!("{e} in {text}"))
    }

    fn refused(text: &str) -> String {
        value(text).expect_err("an error").to_string()
    }

    #[test]
    fn scalars_are_those_of_yaml_1_2() {
        let text = "a: yes\nb: true\nc: 0x1F\nd: 0o17\ne: 1e3\nf: ~\ng: '12'\nh: 1_000\ni: 2024-01-01\nj:\n";
        let expected = json!({"a": "yes", "b": true, "c": 31, "d": 15, "e": 1000.0, "f": null, "g": "12",
            "h": "1_000", "i": "2024-01-01", "j": null});
        assert_eq!(read(text), expected);
    }

    #[test]
    fn keys_become_texts() {
        assert_eq!(read("80: a\ntrue: b\n1.5: c\n"), json!({"80": "a", "true": "b", "1.5": "c"}));
        assert!(refused("? [a]\n: b\n").contains("a key must be a text"));
    }

    #[test]
    fn merge_keys_add_what_is_not_there_and_the_first_of_a_list_wins() {
        let text = "base: &b {x: 1, y: 2}\nother: &o {y: 3, z: 4}\nall:\n  <<: [*b, *o]\n  x: 0\n";
        assert_eq!(read(text)["all"], json!({"x": 0, "y": 2, "z": 4}));
        assert!(refused("<<: 3\n").contains("takes a mapping"));
    }

    #[test]
    fn anchors_repeat_values_and_tags_of_ones_own_are_dropped() {
        assert_eq!(read("a: &x [1, 2]\nb: *x\nc: !Ref {d: 1}\n"), json!({"a": [1, 2], "b": [1, 2], "c": {"d": 1}}));
        assert_eq!(read("a: !!str 5\nb: !secret hidden\n"), json!({"a": "5", "b": "hidden"}));
    }

    #[test]
    fn aliases_that_unfold_without_end_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for i in 1..9 {
            let row = vec![format!("*a{}", i - 1); 10].join(", ");
            text += &format!("a{i}: &a{i} [{row}]\n");
        }
        let message = refused(&text);
        assert!(message.contains("unfolds to too much") || message.contains("repetition limit"), "{message}");
    }

    #[test]
    fn nesting_without_end_is_refused() {
        assert!(refused(&"[".repeat(100_000)).contains("recursion limit"));
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused() {
        assert!(refused("a: 1\nb: 2\na: 3\n").contains("the key `a` is there twice"));
    }

    #[test]
    fn what_json_cannot_say_is_refused() {
        assert!(refused("a: .inf\n").contains("not a number"));
        assert!(refused("a: 99999999999999999999999\n").contains("too large"));
    }
}
