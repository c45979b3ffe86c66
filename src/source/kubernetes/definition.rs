//! Which of the mesh's kinds a cluster has, by their definitions: a kind may come, go, and change its versions at any
//! time.

use super::{
    kind::{CUSTOM, Watched},
    notes::{Note, Notes},
};
use crate::model::LeftOut;
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};
use tokio::sync::watch;

/// Whether a kind is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Service {
    /// Nobody knows yet.
    Unknown,
    /// It is not.
    Missing,
    /// In this version.
    Version(&'static str),
}

/// What is known of a kind's definition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Defined {
    /// Whether the kind is there. Who follows it is woken when this changes.
    pub(super) service: Service,
    /// Which writing of its definition that is. Nobody is woken for this alone.
    pub(super) generation: i64,
}

/// Where it is told whether a kind is there.
pub(super) type Served = watch::Receiver<Defined>;

/// Who follows a kind: it is told whether that is there, and to read it anew.
#[derive(Clone, Debug)]
pub(super) struct Asking {
    served: Arc<watch::Sender<Defined>>,
    held: Arc<watch::Sender<bool>>,
}

impl Asking {
    /// What it is told.
    pub(super) fn told(&self) -> Served {
        self.served.subscribe()
    }

    /// Whether it may begin.
    pub(super) fn held(&self) -> watch::Receiver<bool> {
        self.held.subscribe()
    }

    /// Everything is to be read, for the first time or again.
    pub(super) fn again(&self) {
        self.held.send_replace(false);
        self.served.send_modify(|_| {});
    }
}

/// The definitions, as far as they are of the mesh's kinds.
#[derive(Debug)]
pub(super) struct Definitions {
    served: Vec<(&'static Watched, Asking)>,
    /// Kinds that are not there whatever their definitions say.
    left_out: LeftOut,
}

impl Definitions {
    /// None yet, and for each of the mesh's kinds who is to follow it.
    pub(super) fn new(left_out: LeftOut) -> (Notes<Self>, Vec<(&'static Watched, Asking)>) {
        let asking = || Asking {
            served: Arc::new(watch::Sender::new(Defined { service: Service::Unknown, generation: 0 })),
            held: Arc::new(watch::Sender::new(true)),
        };
        let served: Vec<_> = CUSTOM.iter().map(|kind| (kind, asking())).collect();
        (Notes::new(Self { served: served.clone(), left_out }), served)
    }
}

impl Note for Definitions {
    /// The group and the name of a kind.
    type Name = (String, String);
    /// The versions that it is served in, none before the API server serves it, and which writing says so.
    type Said = (BTreeSet<String>, i64);

    fn read(&self, raw: &Value) -> (Self::Name, Option<Self::Said>) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let list = |value: &'_ Value| value.as_array().cloned().unwrap_or_default();
        let spec = &raw["spec"];
        // One of the two is enough for the API server (apiextensions-apiserver: `customresource_handler.go`, ServeHTTP),
        // and the second comes later: by seconds where there are several API servers, by minutes where one ended just
        // before it said so.
        let serves = ["NamesAccepted", "Established"].map(Value::from);
        let up =
            list(&raw["status"]["conditions"]).iter().any(|c| serves.contains(&c["type"]) && c["status"] == "True");
        let versions = list(&spec["versions"]).into_iter().filter(|v| up && v["served"] == true);
        let said = (versions.map(|v| text(&v["name"])).collect(), raw["metadata"]["generation"].as_i64().unwrap_or(0));
        ((text(&spec["group"]), text(&spec["names"]["kind"])), Some(said))
    }

    fn take(&self, all: &BTreeMap<Self::Name, Self::Said>) {
        for (kind, asking) in &self.served {
            let said = all.get(&(kind.of.group.to_owned(), kind.of.name.to_owned()));
            let said = said.filter(|_| !self.left_out.has(&kind.of.definition()));
            let best = said.and_then(|(v, _)| kind.of.versions.iter().copied().find(|best| v.contains(*best)));
            let service = best.map_or(Service::Missing, Service::Version);
            let now = Defined { service, generation: said.map_or(0, |(_, generation)| *generation) };
            asking.served.send_if_modified(|served| mem::replace(served, now).service != service);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::follow::Follow as _, *};
    use serde_json::json;

    fn definition(kind: &str, versions: Value, [accepted, established]: [&str; 2]) -> Value {
        json!({
            "metadata": {"generation": 3},
            "spec": {"group": "networking.istio.io", "names": {"kind": kind}, "versions": versions},
            "status": {"conditions": [
                {"type": "NamesAccepted", "status": accepted}, {"type": "Established", "status": established},
            ]},
        })
    }

    #[test]
    fn the_best_version_that_is_served_is_told_once_the_api_server_serves_the_kind() {
        let (mut definitions, told) = Definitions::new(LeftOut::default());
        let (_, asking) = told.into_iter().find(|(k, _)| k.of.name == "Sidecar").expect("a kind");
        let mut served = asking.told();
        let versions = json!([
            {"name": "v1alpha3", "served": true}, {"name": "v1beta1", "served": true}, {"name": "v1", "served": false},
        ]);
        assert_eq!(served.borrow().service, Service::Unknown);
        definitions.there(definition("Sidecar", versions.clone(), ["False", "False"]), "v1");
        assert_eq!(served.borrow().service, Service::Missing);
        definitions.there(definition("Sidecar", versions.clone(), ["True", "False"]), "v1");
        let defined = Defined { service: Service::Version("v1beta1"), generation: 3 };
        assert_eq!(*served.borrow_and_update(), defined);
        definitions.begin();
        let mut again = definition("Sidecar", versions, ["False", "True"]);
        again["metadata"]["generation"] = 4.into();
        definitions.there(again, "v1");
        definitions.whole();
        assert!(!served.has_changed().expect("a sender"), "the same versions again are no news");
        assert_eq!(served.borrow().generation, 4);
        definitions.gone(definition("Sidecar", json!([]), ["True", "True"]), "v1");
        assert_eq!(served.borrow().service, Service::Missing);
    }

    #[test]
    fn a_kind_that_is_left_out_is_not_there() {
        let left_out = LeftOut { ignored: vec!["*.istio.io".into()], ..LeftOut::default() };
        let (mut definitions, told) = Definitions::new(left_out);
        let (_, asking) = told.into_iter().find(|(k, _)| k.of.name == "Sidecar").expect("a kind");
        definitions.there(definition("Sidecar", json!([{"name": "v1", "served": true}]), ["True", "True"]), "v1");
        assert_eq!(asking.told().borrow().service, Service::Missing);
    }
}
