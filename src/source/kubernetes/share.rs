//! One copy of what many objects say alike: namespaces, nodes and accounts, and the labels of the pods of one Deployment.

use crate::{
    id::{Namespace, ObjectRef},
    model::{Change, Labels, Object, Pod, Slice, State},
};
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};

/// How many new copies are kept before those that nobody else has are let go.
const SWEEP: usize = 8192;

/// The copies, which all kinds of a cluster have in common.
#[derive(Clone, Debug, Default)]
pub(super) struct Copies(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    texts: BTreeSet<Arc<str>>,
    labels: BTreeSet<Labels>,
    new: usize,
}

impl Copies {
    /// Puts the copies that are there in the place of those of an object.
    pub(super) fn share(&self, change: &mut Change) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.name(&mut change.object);
        if let State::Is(object) = &mut change.state {
            match &mut **object {
                Object::Pod(pod) => kept.pod(pod),
                Object::Slice(slice) => kept.slice(slice),
                _ => {}
            }
        }
        if kept.new >= SWEEP {
            kept.new = 0;
            kept.labels.retain(|labels| labels.holds() > 1);
            kept.texts.retain(|text| Arc::strong_count(text) > 1);
        }
    }
}

impl Kept {
    fn text(&mut self, text: &mut Arc<str>) {
        match self.texts.get(&**text) {
            Some(known) => text.clone_from(known),
            None => {
                self.new += 1;
                self.texts.insert(text.clone());
            }
        }
    }

    fn namespace(&mut self, namespace: &mut Namespace) {
        let mut text = namespace.shared();
        self.text(&mut text);
        *namespace = text.into();
    }

    fn name(&mut self, object: &mut ObjectRef) {
        self.namespace(&mut object.namespace);
        self.text(&mut object.name);
    }

    fn labels(&mut self, labels: &mut Labels) {
        if let Some(known) = self.labels.get(labels) {
            labels.clone_from(known);
            return;
        }
        let shared = labels.iter().map(|(name, value)| {
            let (mut name, mut value) = (name.clone(), value.clone());
            self.text(&mut name);
            self.text(&mut value);
            (name, value)
        });
        *labels = shared.collect();
        self.new += 1;
        self.labels.insert(labels.clone());
    }

    fn pod(&mut self, pod: &mut Pod) {
        self.namespace(&mut pod.namespace);
        self.labels(&mut pod.labels);
        self.name(&mut pod.source);
        let texts =
            [&mut pod.name, &mut pod.account, &mut pod.node, &mut pod.workload, &mut pod.hostname, &mut pod.subdomain];
        texts.into_iter().for_each(|text| self.text(text));
        pod.ports.iter_mut().for_each(|(name, _)| self.text(name));
        pod.ports.shrink_to_fit();
        pod.ips.shrink_to_fit();
    }

    fn slice(&mut self, slice: &mut Slice) {
        self.namespace(&mut slice.namespace);
        self.text(&mut slice.service);
        self.name(&mut slice.source);
        for group in &mut slice.groups {
            group.ports.iter_mut().for_each(|(name, _)| self.text(name));
            group.endpoints.shrink_to_fit();
            for endpoint in &mut group.endpoints {
                let texts = endpoint.pod.iter_mut().chain([&mut endpoint.node, &mut endpoint.hostname]);
                texts.for_each(|text| self.text(text));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{self, Context};
    use serde_json::json;

    fn pod(name: &str) -> Change {
        let raw = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": "shop", "labels": {"app": "a", "version": "v1"}},
            "spec": {"nodeName": "here"},
        });
        parse::object(&raw, &Context::default())
    }

    fn read(change: &Change) -> &Pod {
        match &change.state {
            State::Is(object) => match &**object {
                Object::Pod(pod) => pod,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn pods_that_say_the_same_have_one_copy_of_it_and_say_what_they_said() {
        let copies = Copies::default();
        let [mut a, mut b] = ["a", "b"].map(pod);
        let before = [a.clone(), b.clone()];
        copies.share(&mut a);
        copies.share(&mut b);
        assert_eq!([a.clone(), b.clone()], before);
        assert_eq!(read(&a).labels.holds(), 3, "each pod holds the copy that is kept");
        assert!(Arc::ptr_eq(&read(&a).node, &read(&b).node));
        assert!(Arc::ptr_eq(&read(&a).name, &read(&a).source.name));
    }

    #[test]
    fn what_nobody_has_any_more_is_let_go() {
        let copies = Copies::default();
        for number in 0..SWEEP * 2 {
            copies.share(&mut pod(&number.to_string()));
        }
        assert!(copies.0.lock().expect("a lock").texts.len() < SWEEP + 20);
    }
}
