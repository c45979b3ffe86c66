//! What is known of one kind: which objects there are, with a fingerprint of what is read of each, and no more, since
//! the model holds the rest. Most changes of Nodes and Pods touch nothing that is read, and end here.
//!
//! No I/O: objects are handed in as the API server tells of them, and changes come out.

use super::{follow::Follow, kind::Watched, share::Copies};
use crate::{
    id::{ObjectRef, fingerprint_bytes},
    model::{Change, State},
    parse::{self, Context},
    problem::{FieldPath, Problem},
};
use serde_json::Value;
use std::{collections::BTreeMap, mem, sync::Arc};
use tokio::sync::watch;

/// The objects of one kind.
#[derive(Debug)]
pub(super) struct Mirror {
    kind: &'static Watched,
    contexts: watch::Receiver<Arc<Context>>,
    context: Arc<Context>,
    copies: Copies,
    /// The fingerprint of each object that is there.
    known: BTreeMap<ObjectRef, u64>,
    /// What a list that is not yet whole says: each object's fingerprint, and what is new of it.
    list: Option<BTreeMap<ObjectRef, (u64, Option<Change>)>>,
}

impl Mirror {
    pub(super) fn new(kind: &'static Watched, mut contexts: watch::Receiver<Arc<Context>>, copies: Copies) -> Self {
        let context = contexts.borrow_and_update().clone();
        Self { kind, contexts, context, copies, known: BTreeMap::new(), list: None }
    }

    /// Which object it is.
    fn name(&self, raw: &mut Value, version: &str) -> ObjectRef {
        // Items of lists leave out what the list says of them all.
        raw["apiVersion"] = self.kind.of.api_version(version).into();
        raw["kind"] = self.kind.of.name.into();
        parse::meta(raw).object
    }

    /// What an object is now, unless it is known to be so.
    fn read(&self, raw: &mut Value, version: &str) -> (ObjectRef, u64, Option<Change>) {
        let object = self.name(raw, version);
        let now = content(raw);
        match self.known.get_key_value(&object) {
            Some((object, known)) if *known == now => (object.clone(), now, None),
            _ => {
                let mut change = parse::object(raw, &self.context);
                self.copies.share(&mut change);
                (change.object.clone(), now, Some(change))
            }
        }
    }

    /// An object is so now: what is told of it at once.
    fn told(&mut self, object: ObjectRef, fingerprint: u64, change: Option<Change>) -> Vec<Change> {
        match &mut self.list {
            Some(list) => {
                list.insert(object, (fingerprint, change));
                Vec::new()
            }
            None => {
                self.known.insert(object, fingerprint);
                change.into_iter().collect()
            }
        }
    }
}

impl Follow for Mirror {
    fn begin(&mut self) {
        self.list = Some(BTreeMap::new());
        if self.contexts.has_changed().unwrap_or_default() {
            self.context = self.contexts.borrow_and_update().clone();
            // The same objects may say something else now.
            self.known.values_mut().for_each(|fingerprint| *fingerprint = 0);
        }
    }

    fn whole(&mut self) -> Vec<Change> {
        let list = self.list.take().unwrap_or_default();
        let mut changes = Vec::new();
        let take = |(object, (fingerprint, change))| {
            changes.extend(change);
            (object, fingerprint)
        };
        let now = list.into_iter().map(take).collect();
        let before = mem::replace(&mut self.known, now);
        let gone = before.into_keys().filter(|object| !self.known.contains_key(object));
        // What is gone comes last: an object that moved is never missing.
        changes.extend(gone.map(gone_change));
        changes
    }

    fn there(&mut self, mut raw: Value, version: &str) -> Vec<Change> {
        let (object, now, change) = self.read(&mut raw, version);
        self.told(object, now, change)
    }

    fn gone(&mut self, mut raw: Value, version: &str) -> Vec<Change> {
        let object = self.name(&mut raw, version);
        match &mut self.list {
            Some(list) => {
                list.remove(&object);
                Vec::new()
            }
            None => self.known.remove(&object).map(|_| gone_change(object)).into_iter().collect(),
        }
    }

    fn unreadable(&mut self, mut raw: Value, version: &str, why: &str) -> Vec<Change> {
        let object = self.name(&mut raw, version);
        let problem = Problem::error(&object, FieldPath::default(), format!("cannot be read: {why}"));
        let change = Change { object: object.clone(), state: State::Bad, problems: vec![problem], raw: None };
        // No object has this fingerprint: it is told again when it comes again.
        self.told(object, 0, Some(change))
    }

    fn emptied(&mut self) -> Vec<Change> {
        self.begin();
        self.whole()
    }
}

/// The fingerprint of what an object says, whichever its version is.
fn content(raw: &mut Value) -> u64 {
    let version = raw["metadata"].as_object_mut().and_then(|metadata| metadata.remove("resourceVersion"));
    let fingerprint = fingerprint_bytes(raw.to_string().as_bytes());
    if let Some(version) = version {
        raw["metadata"]["resourceVersion"] = version;
    }
    fingerprint
}

fn gone_change(object: ObjectRef) -> Change {
    Change { object, state: State::Gone, problems: Vec::new(), raw: None }
}

#[cfg(test)]
mod tests {
    use super::{super::kind::BUILT_IN, *};
    use serde_json::json;

    fn mirror() -> Mirror {
        let namespaces = BUILT_IN.iter().find(|k| k.of.name == "Namespace").expect("a kind");
        Mirror::new(namespaces, watch::channel(Arc::default()).1, Copies::default())
    }

    fn namespace(name: &str, version: u32) -> Value {
        let labels = json!({"changed": version.to_string()});
        json!({"metadata": {"name": name, "uid": name, "resourceVersion": version.to_string(), "labels": labels}})
    }

    fn list(mirror: &mut Mirror, objects: &[Value]) -> Vec<String> {
        mirror.begin();
        objects
            .iter()
            .for_each(|o| assert!(mirror.there(o.clone(), "v1").is_empty(), "nothing is told before it is whole"));
        told(mirror.whole())
    }

    fn told(changes: Vec<Change>) -> Vec<String> {
        let sign = |state: &State| if *state == State::Gone { "-" } else { "+" };
        changes.iter().map(|c| format!("{}{}", sign(&c.state), c.object.name)).collect()
    }

    #[test]
    fn a_list_tells_what_is_new_what_changed_and_what_vanished_in_one() {
        let mut mirror = mirror();
        assert_eq!(list(&mut mirror, &[namespace("a", 1), namespace("b", 2), namespace("c", 3)]), ["+a", "+b", "+c"]);
        assert_eq!(list(&mut mirror, &[namespace("a", 1), namespace("c", 5), namespace("d", 6)]), ["+c", "+d", "-b"]);
        assert_eq!(list(&mut mirror, &[namespace("a", 1), namespace("c", 5), namespace("d", 6)]), [""; 0]);
    }

    #[test]
    fn a_list_that_is_begun_anew_leaves_nothing_of_the_first_try() {
        let mut mirror = mirror();
        mirror.begin();
        mirror.there(namespace("a", 1), "v1");
        assert_eq!(list(&mut mirror, &[namespace("b", 2)]), ["+b"]);
        mirror.begin();
        mirror.there(namespace("c", 3), "v1");
        assert_eq!(told(mirror.emptied()), ["-b"], "a list that never ends changes nothing");
    }

    #[test]
    fn what_changes_while_a_list_is_told_is_told_as_it_is_at_its_end() {
        let mut mirror = mirror();
        list(&mut mirror, &[namespace("a", 1), namespace("b", 2), namespace("c", 3)]);
        mirror.begin();
        for object in [namespace("a", 4), namespace("b", 2), namespace("c", 3), namespace("d", 5), namespace("a", 1)] {
            mirror.there(object, "v1");
        }
        assert_eq!(told(mirror.gone(namespace("c", 6), "v1")), [""; 0]);
        mirror.gone(namespace("d", 7), "v1");
        assert_eq!(told(mirror.whole()), ["-c"]);
    }

    #[test]
    fn an_object_that_was_deleted_and_made_again_between_two_lists_is_told() {
        let mut mirror = mirror();
        list(&mut mirror, &[namespace("a", 1)]);
        let mut again = namespace("a", 1);
        again["metadata"]["uid"] = "other".into();
        assert_eq!(list(&mut mirror, &[again]), ["+a"]);
    }

    #[test]
    fn a_new_version_that_says_the_same_is_no_change() {
        let mut mirror = mirror();
        assert_eq!(told(mirror.there(namespace("a", 1), "v1")), ["+a"]);
        let mut again = namespace("a", 1);
        again["metadata"]["resourceVersion"] = "2".into();
        assert_eq!(told(mirror.there(again, "v1")), [""; 0]);
    }

    #[test]
    fn what_is_told_twice_changes_nothing() {
        let mut mirror = mirror();
        assert_eq!(told(mirror.there(namespace("a", 1), "v1")), ["+a"]);
        assert_eq!(told(mirror.there(namespace("a", 1), "v1")), [""; 0]);
        assert_eq!(told(mirror.gone(namespace("a", 2), "v1")), ["-a"]);
        assert_eq!(told(mirror.gone(namespace("a", 2), "v1")), [""; 0]);
    }
}
