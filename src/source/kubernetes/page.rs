//! What an API server answers: pages of lists, and the lines of a watch. Objects are read one by one.

use super::prune::Tree;
use serde::{
    Deserialize,
    de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};
use std::{borrow::Cow, fmt};

/// What a list says of itself.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct About {
    /// The version of the world that it shows.
    pub(super) resource_version: String,
    /// Where the next page begins; empty on the last.
    #[serde(rename = "continue")]
    pub(super) next: String,
}

/// Reads a page: hands out the text of each object of it, and returns what the page says of itself.
pub(super) fn page(text: &[u8], each: &mut dyn FnMut(&str)) -> Result<About, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(text);
    let about = Page(each).deserialize(&mut json)?;
    json.end().map(|()| about)
}

/// Reads an object of a page.
pub(super) fn object(text: &str, tree: &Tree) -> Result<Value, serde_json::Error> {
    tree.deserialize(&mut serde_json::Deserializer::from_str(text))
}

struct Page<'a>(&'a mut dyn FnMut(&str));

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = About;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<About, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = About;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of objects")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<About, A::Error> {
        let mut about = About::default();
        while let Some(name) = fields.next_key::<Cow<'_, str>>()? {
            match &*name {
                "metadata" => about = fields.next_value()?,
                // Each is read by itself, so that one that cannot be read harms no other.
                "items" => {
                    fields.next_value::<Option<Vec<&RawValue>>>()?.into_iter().flatten().for_each(|o| self.0(o.get()))
                }
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        Ok(about)
    }
}

/// A line of a watch.
#[derive(Debug, PartialEq)]
pub(super) enum Line {
    /// An object is there, or has changed.
    There(Value),
    /// An object is gone.
    Gone(Value),
    /// All is told up to this version; with `whole` all that was there when the watch began.
    Mark {
        /// The version.
        version: String,
        /// Whether the objects that were there at the beginning end here.
        whole: bool,
    },
    /// The server gives up: a `Status`.
    Error(Value),
}

/// Reads a line of a watch.
pub(super) fn line(text: &[u8], tree: &Tree) -> Result<Line, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(text);
    LineOf(tree).deserialize(&mut json)
}

struct LineOf<'a>(&'a Tree);

impl<'de> DeserializeSeed<'de> for LineOf<'_> {
    type Value = Line;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Line, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for LineOf<'_> {
    type Value = Line;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a line of a watch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Line, A::Error> {
        let (mut kind, mut object) = (None::<String>, None::<Value>);
        while let Some(name) = fields.next_key::<Cow<'_, str>>()? {
            match (&*name, kind.as_deref()) {
                ("type", _) => kind = Some(fields.next_value()?),
                ("object", Some("ADDED" | "MODIFIED" | "DELETED")) => object = Some(fields.next_value_seed(self.0)?),
                ("object", _) => object = Some(fields.next_value()?),
                _ => drop(fields.next_value::<IgnoredAny>()?),
            }
        }
        let object = object.ok_or_else(|| A::Error::missing_field("object"))?;
        match kind.as_deref() {
            Some("ADDED" | "MODIFIED") => Ok(Line::There(object)),
            Some("DELETED") => Ok(Line::Gone(object)),
            Some("ERROR") => Ok(Line::Error(object)),
            Some("BOOKMARK") => Ok(Line::Mark {
                version: object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
                whole: object["metadata"]["annotations"]["k8s.io/initial-events-end"] == "true",
            }),
            other => Err(A::Error::custom(format!("{other:?} is not a type of line"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_objects_of_a_page_are_handed_out_and_the_next_page_named() {
        let text = json!({
            "kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "7", "continue": "abc"},
            "items": [{"metadata": {"name": "a", "uid": "1"}}, {"metadata": {"name": "b"}}],
        });
        let mut names = Vec::new();
        let tree = Tree::only(&["metadata name"]);
        let mut each = |text: &str| names.push(object(text, &tree).expect("an object"));
        let about = page(text.to_string().as_bytes(), &mut each).expect("a page");
        assert_eq!((about.resource_version.as_str(), about.next.as_str()), ("7", "abc"));
        assert_eq!(names, [json!({"metadata": {"name": "a"}}), json!({"metadata": {"name": "b"}})]);
        let empty = page(br#"{"metadata": {"resourceVersion": "8"}, "items": null}"#, &mut |_| ());
        assert_eq!(empty.expect("a page").resource_version, "8");
    }

    #[test]
    fn a_page_that_is_cut_off_is_no_page() {
        let cut = br#"{"metadata": {"resourceVersion": "7"}, "items": [{"metadata": {"name": "a"}}, "#;
        assert!(page(cut, &mut |_| ()).is_err());
    }

    #[test]
    fn an_object_that_is_too_deep_is_known_by_its_name() {
        let deep = format!("{}1{}", "[".repeat(200), "]".repeat(200));
        let text = format!(r#"{{"type":"ADDED","object":{{"metadata":{{"name":"a"}},"spec":{deep}}}}}"#);
        assert!(line(text.as_bytes(), &Tree::all()).is_err());
        let named = line(text.as_bytes(), &Tree::only(&["metadata"])).expect("a line");
        assert_eq!(named, Line::There(json!({"metadata": {"name": "a"}})));
        let text = format!(r#"{{"items":[{{"metadata":{{"name":"a"}},"spec":{deep}}},{{}}],"metadata":{{}}}}"#);
        let mut read = Vec::new();
        let mut each =
            |text: &str| read.push((object(text, &Tree::all()).ok(), object(text, &Tree::only(&["metadata"])).ok()));
        page(text.as_bytes(), &mut each).expect("a page");
        assert_eq!(read, [(None, Some(json!({"metadata": {"name": "a"}}))), (Some(json!({})), Some(json!({})))]);
    }

    #[test]
    fn lines_are_told_apart() {
        let tree = Tree::only(&["metadata name"]);
        // The type comes first, as servers write it.
        let read =
            |said: Value| line(format!(r#"{{"type":{},"object":{}}}"#, said["type"], said["object"]).as_bytes(), &tree);
        let object = json!({"metadata": {"name": "a", "resourceVersion": "3"}});
        let kept = json!({"metadata": {"name": "a"}});
        assert_eq!(read(json!({"type": "ADDED", "object": object})).expect("a line"), Line::There(kept.clone()));
        assert_eq!(read(json!({"type": "DELETED", "object": object})).expect("a line"), Line::Gone(kept));
        let mark = |whole| Line::Mark { version: "3".into(), whole };
        assert_eq!(read(json!({"type": "BOOKMARK", "object": object})).expect("a line"), mark(false));
        let end = json!({"metadata": {"resourceVersion": "3", "annotations": {"k8s.io/initial-events-end": "true"}}});
        assert_eq!(read(json!({"type": "BOOKMARK", "object": end})).expect("a line"), mark(true));
        let status = json!({"kind": "Status", "code": 410});
        assert_eq!(read(json!({"type": "ERROR", "object": status})).expect("a line"), Line::Error(status));
        assert!(read(json!({"type": "NEWS", "object": {}})).is_err());
        assert!(line(br#"{"type":"ADDED","object":{"metadata":{"na"#, &tree).is_err());
    }
}
