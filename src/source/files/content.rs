//! One file as objects: what it holds now, and what it held before where it cannot be read now.

use super::document::{self, Document};
use crate::{
    id::{Kind, ObjectRef, fingerprint_bytes},
    model::{Change, State},
    parse::{self, Context},
    problem::{FieldPath, Problem},
    source::workload,
};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Which object, told by its API group from others of its kind and name.
pub(super) type Key = (ObjectRef, Arc<str>);

/// One object of a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) key: Key,
    /// `shop.yaml document 3`.
    pub(super) location: Arc<str>,
    /// The fingerprint of the object as it was given.
    print: u64,
    /// The object as it was given, where stand-ins for pods depend on it.
    pub(super) shaping: Option<Value>,
    pub(super) change: Arc<Change>,
}

impl Entry {
    pub(super) fn new(raw: Value, location: Arc<str>, context: &Context) -> Self {
        let mut change = match workload::is_workload(&raw) {
            true => Change {
                object: parse::meta(&raw).object,
                state: State::Bad,
                problems: workload::check(&raw),
                raw: None,
            },
            false => parse::object(&raw, context),
        };
        for problem in &mut change.problems {
            problem.location.get_or_insert_with(|| location.clone());
        }
        let group = raw["apiVersion"].as_str().and_then(|v| v.split_once('/')).map_or("", |(group, _)| group);
        let key = (change.object.clone(), group.into());
        let (print, shapes) = (print(&raw), workload::shapes_pods(&raw));
        Self { key, location, print, shaping: shapes.then_some(raw), change: Arc::new(change) }
    }

    /// Whether another one is of the same object in the same words.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.key == other.key && self.print == other.print
    }
}

fn print(raw: &Value) -> u64 {
    fingerprint_bytes(raw.to_string().as_bytes())
}

/// A file as it was read last.
#[derive(Debug)]
pub(super) struct Content {
    /// What stands for the file where it is itself the matter.
    pub(super) object: ObjectRef,
    pub(super) entries: Vec<Arc<Entry>>,
    /// What is wrong with the file, or with documents that cannot be read.
    pub(super) problems: Vec<Problem>,
    /// What was read last, good or bad.
    fingerprint: u64,
    /// The last text that was not cut off.
    text: Arc<str>,
}

/// The objects of before, by location.
type Known<'a> = BTreeMap<&'a Arc<str>, Vec<&'a Arc<Entry>>>;

/// A file's text, or why it cannot be had.
pub(super) type Text = Result<Arc<str>, String>;

impl Content {
    /// What a file of this name holds; what it held before stays in force where that cannot be told.
    pub(super) fn read(name: &str, text: &Text, before: Option<&Content>, context: &Context) -> Self {
        let object = ObjectRef::new(Kind::named("File"), "", name);
        let mut content = Self {
            object,
            entries: Vec::new(),
            problems: Vec::new(),
            fingerprint: fingerprint(text),
            text: before.map_or_else(|| "".into(), |b| b.text.clone()),
        };
        let text = match text {
            Ok(text) if is_cut_off(&content.text, text) => Err(CUT_OFF),
            Ok(text) => Ok(text),
            Err(why) => Err(why.as_str()),
        };
        let whole = match text {
            Ok(text) => {
                content.text = text.clone();
                let documents: Box<dyn Iterator<Item = Document>> = match name.ends_with(".json") {
                    true => Box::new(document::json(text)),
                    false => Box::new(document::yaml(text)),
                };
                let mut known = Known::new();
                for entry in before.into_iter().flat_map(|b| &b.entries) {
                    known.entry(&entry.location).or_default().push(entry);
                }
                // Each is taken, whatever came of those before.
                let mut whole = true;
                for document in documents {
                    whole &= content.take(name, document, &known, context);
                }
                whole
            }
            Err(why) => {
                content.refuse(name.into(), FieldPath::default(), why);
                false
            }
        };
        if let Some(before) = before.filter(|_| !whole) {
            content.keep(&before.entries);
        }
        content
    }

    /// Whether this is what was read last.
    pub(super) fn is_of(&self, text: &Text) -> bool {
        self.fingerprint == fingerprint(text)
    }

    /// Takes the objects of a document; whether all of them could be told.
    fn take(&mut self, name: &str, document: Document, known: &Known<'_>, context: &Context) -> bool {
        let location = format!("{name} document {}", document.number);
        let value = match document.content {
            Ok(value) => value,
            Err(why) => {
                self.refuse(location.into(), FieldPath::default(), &why);
                return false;
            }
        };
        let mut whole = true;
        for (location, raw) in objects(location, value) {
            let location: Arc<str> = location.into();
            if let Some((path, message)) = nameless(&raw) {
                self.refuse(location, path, message);
                whole = false;
                continue;
            }
            let print = print(&raw);
            let same = known.get(&location).into_iter().flatten().find(|e| e.print == print);
            let entry = same.map_or_else(|| Arc::new(Entry::new(raw, location, context)), |e| Arc::clone(e));
            self.entries.push(entry);
        }
        whole
    }

    fn refuse(&mut self, location: Arc<str>, path: FieldPath, message: &str) {
        let problem = Problem::error(&self.object, path, message);
        self.problems.push(Problem { location: Some(location), ..problem });
    }

    /// Keeps the objects of before that are not there now: they may be in what cannot be read.
    fn keep(&mut self, before: &[Arc<Entry>]) {
        let there: BTreeSet<Key> = self.entries.iter().map(|e| e.key.clone()).collect();
        self.entries.extend(before.iter().filter(|e| !there.contains(&e.key)).cloned());
    }
}

fn fingerprint(text: &Text) -> u64 {
    match text {
        Ok(text) => fingerprint_bytes(text.as_bytes()),
        Err(why) => !fingerprint_bytes(why.as_bytes()),
    }
}

const CUT_OFF: &str = "ends too early: it is only the beginning of what it was, as if half-written. What it held stays \
                       in force until it is whole again; to take that away, delete the file";

/// Whether `now` is `before` cut off in the middle, which is no edit: within a line, with documents after it
/// missing, or with everything missing.
fn is_cut_off(before: &str, now: &str) -> bool {
    let Some(rest) = before.strip_prefix(now).filter(|rest| !rest.trim().is_empty()) else {
        return now.trim().is_empty() && !before.trim().is_empty();
    };
    let starts = |line: &str| line.trim_end() == "---" || line.starts_with("--- ");
    match now.is_empty() || now.ends_with('\n') {
        _ if now.trim().is_empty() => true,
        true => {
            let mut lines = rest.lines().skip_while(|l| l.trim().is_empty());
            !lines.next().is_some_and(starts) && lines.any(starts)
        }
        false => !rest.starts_with(['\n', '\r']) || rest.lines().any(starts),
    }
}

/// The objects of a document: itself, or the items of a list.
fn objects(location: String, document: Value) -> Vec<(String, Value)> {
    let list = document["kind"].as_str().and_then(|kind| kind.strip_suffix("List")).map(str::to_owned);
    let Some(kind) = list.filter(|_| document["items"].is_array()) else { return vec![(location, document)] };
    let Value::Object(mut list) = document else { return Vec::new() };
    let version = list.remove("apiVersion").unwrap_or_default();
    let Some(Value::Array(items)) = list.remove("items") else { return Vec::new() };
    let mut found = Vec::new();
    for (i, mut item) in items.into_iter().enumerate() {
        if let Some(item) = item.as_object_mut().filter(|_| !kind.is_empty()) {
            complete(item, &kind, &version);
        }
        found.extend(objects(format!("{location} item {}", i + 1), item));
    }
    found
}

/// Items of a typed list (`ServiceList`) may leave out what the list says of them all.
fn complete(item: &mut Map<String, Value>, kind: &str, version: &Value) {
    item.entry("kind").or_insert_with(|| kind.into());
    item.entry("apiVersion").or_insert_with(|| version.clone());
}

/// Why a document cannot be told from others, if so.
fn nameless(raw: &Value) -> Option<(FieldPath, &'static str)> {
    let says = |v: &Value| v.as_str().is_some_and(|t| !t.is_empty());
    if !raw.is_object() {
        return Some((FieldPath::default(), "is not an object: it needs apiVersion, kind and metadata"));
    }
    if !says(&raw["kind"]) {
        return Some((FieldPath::new("kind"), "is missing: every object needs apiVersion, kind and metadata.name"));
    }
    if !says(&raw["apiVersion"]) {
        return Some((FieldPath::new("apiVersion"), "is missing: write the version of the kind, as `v1`"));
    }
    let name = FieldPath::new("metadata").field("name");
    match (&raw["metadata"]["name"], raw["metadata"]["generateName"].is_string()) {
        (name, _) if says(name) => None,
        (_, true) => Some((name, "is missing: generateName makes names only in a cluster; write a name")),
        (_, false) => Some((name, "is missing, or not a text: write the object's name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_off_within_a_line_or_with_later_documents_missing() {
        let before = "a: 1\nb: 22\n---\nc: 3\n---\nd: 4\ne: 5\n";
        for now in
            ["", "\n", "a: 1\nb: 2", "a: 1\n", "a: 1\nb: 22\n---\nc", "a: 1\nb: 22", "a: 1\nb: 22\n---\nc: 3\n---\nd"]
        {
            assert!(is_cut_off(before, now), "{now:?}");
        }
        let edits = [
            "a: 1\nb: 22\n",
            "a: 1\nb: 22\n---\nc: 3\n",
            "a: 1\nb: 22\n---\nc: 3\n---\nd: 4\n",
            "a: 1\nb: 22\n---\nc: 3\n---\nd: 4\ne: 5",
            "a: 2\n",
            before,
            "a: 1\nb: 22\n---\nc: 3\n---\nd: 4\ne: 5\nf: 6\n",
        ];
        for now in edits {
            assert!(!is_cut_off(before, now), "{now:?}");
        }
        assert!(!is_cut_off("", "a: 1\n"));
        assert!(!is_cut_off("", ""));
    }

    #[test]
    fn items_of_lists_are_objects_of_their_own() {
        let list = serde_json::json!({"kind": "ServiceList", "apiVersion": "v1", "items": [
            {"metadata": {"name": "a"}},
            {"kind": "List", "items": [{"kind": "Pod", "metadata": {"name": "b"}}]},
        ]});
        let found = objects("f document 1".into(), list);
        assert_eq!(found[0].0, "f document 1 item 1");
        assert_eq!((&found[0].1["kind"], &found[0].1["apiVersion"]), (&"Service".into(), &"v1".into()));
        assert_eq!((found[1].0.as_str(), &found[1].1["kind"]), ("f document 1 item 2 item 1", &"Pod".into()));
    }

    #[test]
    fn what_has_no_kind_or_name_says_so() {
        let path = |v: Value| nameless(&v).map(|(path, _)| path.to_string());
        assert_eq!(path("text".into()).as_deref(), Some(""));
        assert_eq!(path(serde_json::json!({"apiVersion": "v1"})).as_deref(), Some("kind"));
        assert_eq!(path(serde_json::json!({"kind": "Pod", "metadata": {"name": "a"}})).as_deref(), Some("apiVersion"));
        let unnamed = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"generateName": "a-"}});
        assert_eq!(path(unnamed).as_deref(), Some("metadata.name"));
    }
}
