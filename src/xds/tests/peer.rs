//! A client that speaks the protocol by hand, and configurations that consist of made-up resources.

use crate::{
    id::{Kind, ObjectRef, ResourceType},
    snapshot::Snapshot,
    translate::{Config, Part, Resource},
    xds::{
        Metrics,
        stream::{Names, Request, Response, Stream, Variant},
        tests::world,
    },
};
use std::{collections::BTreeMap, sync::Arc};

pub(super) use ResourceType::{
    Cluster as CDS, Endpoints as EDS, Extension as ECDS, Listener as LDS, Route as RDS, VirtualHost as VHDS,
};

/// A configuration from `cds:a=1 eds:a=1`: the type, name and content of each resource.
pub(super) fn config(text: &str) -> Arc<Config> {
    let key = Arc::new(Snapshot::default().view_key(&world::node("p", "a")));
    let resources = text.split_whitespace().map(|item| {
        let (kind, rest) = item.split_once(':').expect("a type");
        let (name, content) = rest.split_once('=').expect("a content");
        let kind = ResourceType::ALL.into_iter().find(|t| t.short() == kind).expect("a known type");
        let source = ObjectRef::new(Kind::SERVICE, "a", format!("of-{name}"));
        Arc::new(Resource::new(kind, name, content.to_owned().into_bytes(), vec![source]))
    });
    Arc::new(Config::new(vec![Arc::new(Part::of(key, resources.collect()))]))
}

/// What was sent, one text for each response: `cds a=1 b=2 -c`.
pub(super) type Said = Vec<String>;

/// One end of a stream.
pub(super) struct Peer {
    pub(super) stream: Stream,
    pub(super) metrics: Arc<Metrics>,
    variant: Variant,
    names: BTreeMap<ResourceType, Vec<String>>,
    pub(super) last: BTreeMap<ResourceType, Response>,
}

impl Peer {
    pub(super) fn new(variant: Variant, text: &str) -> Self {
        let metrics = Arc::new(Metrics::default());
        let stream = Stream::new(config(text), metrics.clone());
        Self { stream, metrics, variant, names: BTreeMap::new(), last: BTreeMap::new() }
    }

    pub(super) fn sotw(text: &str) -> Self {
        Self::new(Variant::Sotw, text)
    }

    pub(super) fn delta(text: &str) -> Self {
        Self::new(Variant::Delta, text)
    }

    /// Subscribes to these names: in state of the world, to these alone.
    pub(super) fn ask(&mut self, kind: ResourceType, names: &[&str]) -> Said {
        self.ask_with(kind, names, &[], &[])
    }

    pub(super) fn unsubscribe(&mut self, kind: ResourceType, names: &[&str]) -> Said {
        self.ask_with(kind, &[], names, &[])
    }

    /// A first request with what is there from an earlier stream: names with contents in a delta stream.
    pub(super) fn ask_with(
        &mut self,
        kind: ResourceType,
        subscribe: &[&str],
        unsubscribe: &[&str],
        has: &[(&str, &str)],
    ) -> Said {
        let owned = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let version = |content: &str| Resource::new(kind, "", content.to_owned().into_bytes(), vec![]).version_text();
        let names = match self.variant {
            Variant::Sotw => {
                self.names.insert(kind, owned(subscribe));
                Names::All { names: owned(subscribe), version: String::new() }
            }
            Variant::Delta => Names::Changes {
                subscribe: owned(subscribe),
                unsubscribe: owned(unsubscribe),
                versions: has.iter().map(|(name, content)| ((*name).to_owned(), version(content))).collect(),
            },
        };
        self.request(kind, names, String::new(), None)
    }

    /// A first state-of-the-world request with the version last taken.
    pub(super) fn ask_at(&mut self, kind: ResourceType, names: &[&str], version: &str) -> Said {
        let names: Vec<_> = names.iter().map(|n| (*n).to_owned()).collect();
        self.names.insert(kind, names.clone());
        self.request(kind, Names::All { names, version: version.to_owned() }, String::new(), None)
    }

    /// Takes the last response of a type.
    pub(super) fn ack(&mut self, kind: ResourceType) -> Said {
        let nonce = self.nonce(kind);
        self.answer(kind, &nonce, None)
    }

    /// Takes the last response of a type and lists other names from now on.
    pub(super) fn ack_with(&mut self, kind: ResourceType, names: &[&str]) -> Said {
        self.names.insert(kind, names.iter().map(|n| (*n).to_owned()).collect());
        self.ack(kind)
    }

    /// Refuses the last response of a type.
    pub(super) fn nack(&mut self, kind: ResourceType, message: &str) -> Said {
        let nonce = self.nonce(kind);
        self.answer(kind, &nonce, Some(message))
    }

    pub(super) fn answer(&mut self, kind: ResourceType, nonce: &str, error: Option<&str>) -> Said {
        let names = match self.variant {
            Variant::Sotw => {
                Names::All { names: self.names.get(&kind).cloned().unwrap_or_default(), version: String::new() }
            }
            Variant::Delta => {
                Names::Changes { subscribe: Vec::new(), unsubscribe: Vec::new(), versions: BTreeMap::new() }
            }
        };
        self.request(kind, names, nonce.to_owned(), error)
    }

    fn request(&mut self, kind: ResourceType, names: Names, nonce: String, error: Option<&str>) -> Said {
        let request = Request { type_url: kind.type_url().into(), nonce, error: error.map(str::to_owned), names };
        let responses = self.stream.on_request(request);
        self.hear(responses)
    }

    /// The world becomes this.
    pub(super) fn becomes(&mut self, text: &str) -> Said {
        let responses = self.stream.on_config(config(text));
        self.hear(responses)
    }

    pub(super) fn overdue(&mut self) -> Said {
        let responses = self.stream.on_overdue();
        self.hear(responses)
    }

    pub(super) fn push_all(&mut self) -> Said {
        let responses = self.stream.push_all();
        self.hear(responses)
    }

    pub(super) fn nonce(&self, kind: ResourceType) -> String {
        self.last.get(&kind).map(|r| r.nonce.clone()).unwrap_or_default()
    }

    fn hear(&mut self, responses: Vec<Response>) -> Said {
        let mut said = Vec::new();
        for response in responses {
            let kind = ResourceType::of_url(&response.type_url).expect("a known type");
            let mut text = vec![kind.short().to_owned()];
            text.extend(response.resources.iter().map(|r| {
                assert_eq!(r.kind, kind);
                format!("{}={}", r.name, String::from_utf8_lossy(&r.body))
            }));
            text.extend(response.removed.iter().map(|n| format!("-{n}")));
            said.push(text.join(" "));
            self.last.insert(kind, response);
        }
        said
    }

    /// What the stream believes that the client has of a type: `a=1 b=2`.
    pub(super) fn held(&self, kind: ResourceType) -> String {
        let mut held: Vec<_> =
            self.stream.held(kind).iter().map(|r| format!("{}={}", r.name, String::from_utf8_lossy(&r.body))).collect();
        held.sort();
        held.join(" ")
    }
}

/// Nothing was said.
pub(super) const NOTHING: [&str; 0] = [];
