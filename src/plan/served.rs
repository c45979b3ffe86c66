//! What a proxy is served, as JSON that people and tools read.

use crate::{
    id::ResourceType,
    pb,
    problem::Problem,
    translate::{Config, Resource},
};
use serde_json::{Map, Value, json};

/// The lists of what a proxy is served, and the type that each holds.
const LISTS: [(&str, ResourceType); 7] = [
    ("clusters", ResourceType::Cluster),
    ("endpoints", ResourceType::Endpoints),
    ("listeners", ResourceType::Listener),
    ("routes", ResourceType::Route),
    ("secrets", ResourceType::Secret),
    ("extensions", ResourceType::Extension),
    ("names", ResourceType::Names),
];

/// What a proxy is served, list by list.
#[derive(Clone, PartialEq, Debug)]
pub struct Listing {
    lists: Vec<(&'static str, ResourceType, Vec<Value>)>,
}

impl Listing {
    /// What `config` holds of these types, each list in order of names.
    pub fn of(config: &Config, kinds: &[ResourceType]) -> Self {
        let list = |kind| {
            let mut all: Vec<&Resource> = config.all(kind).chain(config.reserved(kind)).map(|r| &**r).collect();
            all.sort_by(|a, b| a.name.cmp(&b.name));
            all.into_iter().map(resource_to_json).collect()
        };
        let lists = LISTS.iter().filter(|(_, kind)| kinds.contains(kind));
        Self { lists: lists.map(|&(name, kind)| (name, kind, list(kind))).collect() }
    }

    /// The resources of a type, in protobuf's JSON mapping.
    pub fn resources(&self, kind: ResourceType) -> &[Value] {
        self.lists.iter().find(|(_, k, _)| *k == kind).map_or(&[], |(_, _, list)| list)
    }

    /// One object with a field for each list, and the problems.
    pub fn to_json<'a>(&self, problems: impl Iterator<Item = &'a Problem>) -> Value {
        let mut all: Map<String, Value> =
            self.lists.iter().map(|(name, _, list)| ((*name).to_owned(), list.clone().into())).collect();
        all.insert("problems".into(), problems.map(Problem::to_json).collect());
        Value::Object(all)
    }
}

/// A resource in protobuf's JSON mapping, with its type.
fn resource_to_json(resource: &Resource) -> Value {
    let url = resource.kind.type_url();
    match pb::to_json(url, &resource.body) {
        Ok(Value::Object(mut fields)) => {
            // A private key is for the proxy alone.
            if let Some(key) = fields.get_mut("tlsCertificate").and_then(|c| c.get_mut("privateKey")) {
                *key = json!({"inlineString": "[redacted]"});
            }
            fields.insert("@type".into(), url.into());
            Value::Object(fields)
        }
        Ok(other) => other,
        Err(error) => json!({"@type": url, "name": &*resource.name, "error": error}),
    }
}
