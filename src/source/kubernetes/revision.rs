//! By which names this control plane's revision is known: its own, and the tags that people have given it, as
//! MutatingWebhookConfigurations and Services of the control plane's namespace say.
//!
//! Which objects are read depends on it, so the mesh's kinds are read after it, and anew where it changes.

use super::{
    definition::Asking,
    kind::Watched,
    notes::{Note, Notes},
};
use crate::parse::{self, Context};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// What parsing depends on, as it is now: with the tags that the cluster gives this revision.
#[derive(Clone, Debug)]
pub struct Contexts {
    newest: Arc<watch::Sender<Arc<Context>>>,
    known: Arc<Mutex<Known>>,
}

/// The tags, by who tells of them.
#[derive(Debug, Default)]
struct Known {
    tags: BTreeMap<&'static str, BTreeMap<String, String>>,
    /// Whose objects were not all read yet.
    unread: BTreeSet<&'static str>,
    asking: Vec<Asking>,
}

impl Contexts {
    /// Without a tag until the cluster tells of some.
    pub fn new(context: Context) -> Self {
        Self { newest: Arc::new(watch::Sender::new(Arc::new(context))), known: Arc::default() }
    }

    /// As it is now.
    pub fn now(&self) -> Arc<Context> {
        self.newest.borrow().clone()
    }

    /// As it is now and becomes.
    pub fn follow(&self) -> watch::Receiver<Arc<Context>> {
        self.newest.subscribe()
    }

    /// Those who follow kinds that depend on it; they begin once everything is known.
    pub(super) fn hold(&self, asking: Vec<Asking>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).asking = asking;
    }

    /// Takes in the tags of one source.
    fn take(&self, of: &'static str, tags: &BTreeMap<String, String>) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.tags.insert(of, tags.clone());
        let first = known.unread.remove(of) && known.unread.is_empty();
        let revision = self.now().revision.clone();
        let revision = if revision.is_empty() { "default" } else { &revision };
        let all = known.tags.values().flatten().filter(|(_, of)| **of == *revision);
        let mine: BTreeSet<Arc<str>> = all.map(|(tag, _)| tag.as_str().into()).collect();
        let changed = self.newest.send_if_modified(|context| {
            context.tags != mine && {
                tracing::info!(tags = ?mine, "tags of this revision");
                *context = Arc::new(Context { tags: mine, ..(**context).clone() });
                true
            }
        });
        if first || changed && known.unread.is_empty() {
            known.asking.iter().for_each(Asking::again);
        }
    }
}

/// Objects of a kind that give tags to revisions.
#[derive(Debug)]
pub(super) struct Tags {
    contexts: Contexts,
    of: &'static str,
}

impl Tags {
    pub(super) fn new(kind: &'static Watched, contexts: Contexts) -> Notes<Self> {
        contexts.known.lock().unwrap_or_else(PoisonError::into_inner).unread.insert(kind.of.name);
        Notes::new(Self { contexts, of: kind.of.name })
    }
}

impl Note for Tags {
    type Name = String;
    /// The tag that it gives, and to which revision.
    type Said = (String, String);

    fn read(&self, raw: &Value) -> (String, Option<(String, String)>) {
        let metadata = parse::meta(raw);
        let label = |name: &str| metadata.labels.get(name).map(ToString::to_string).filter(|text| !text.is_empty());
        (metadata.object.name.to_string(), label("istio.io/tag").zip(label("istio.io/rev")))
    }

    fn take(&self, all: &BTreeMap<String, (String, String)>) {
        self.contexts.take(self.of, &all.values().cloned().collect());
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{follow::Follow as _, kind::TAGS},
        *,
    };
    use serde_json::json;

    fn object(name: &str, tag: &str, revision: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "Service",
               "metadata": {"name": name, "labels": {"istio.io/tag": tag, "istio.io/rev": revision}}})
    }

    fn now(contexts: &Contexts) -> Vec<String> {
        contexts.now().tags.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn tags_of_this_revision_are_known_from_either_kind_and_those_of_others_are_not() {
        let contexts = Contexts::new(Context { revision: "canary".into(), ..Context::default() });
        let mut sources: Vec<Notes<Tags>> = TAGS.iter().map(|kind| Tags::new(kind, contexts.clone())).collect();
        sources[0].begin();
        sources[0].there(object("a", "test", "canary"), "v1");
        sources[0].there(object("b", "prod", "stable"), "v1");
        sources[0].whole();
        sources[1].begin();
        sources[1].whole();
        assert_eq!(now(&contexts), ["test"]);
        sources[1].there(object("c", "next", "canary"), "v1");
        assert_eq!(now(&contexts), ["next", "test"]);
        sources[0].there(object("a", "test", "stable"), "v1");
        sources[1].gone(object("c", "next", "canary"), "v1");
        assert_eq!(now(&contexts), [""; 0]);
    }

    #[test]
    fn the_default_revision_is_named_default_by_those_who_give_it_a_tag() {
        let contexts = Contexts::new(Context::default());
        let mut tags = Tags::new(&TAGS[0], contexts.clone());
        tags.there(object("a", "prod", "default"), "v1");
        assert_eq!(now(&contexts), ["prod"]);
    }
}
