//! Translation: from a view of a snapshot to encoded xDS resources. Pure: the same snapshot and the same key
//! give the same bytes, always.
//!
//! A *part* is what nodes with one key are served of one kind; it consists of *units* (a host, a port), each
//! of which is selected and rendered on its own. Selecting joins what the view has into small *inputs*;
//! rendering takes nothing but its input, so that a rendered resource may be kept by the input's fingerprint.

mod access_log;
mod authorization;
mod cluster;
mod connection_manager;
mod dynamic_dns;
mod endpoint;
mod filter_chain;
mod guard;
mod http_filter;
mod listener;
mod mutual_tls;
mod names;
mod network_filter;
mod on_demand;
mod part;
mod provenance;
mod regex;
mod remark;
mod route;
mod secret;
mod termination;
mod tls;
mod tokens;
mod trace;

pub use on_demand::Asked;
pub use part::{Config, Part, PartKind, Unit};
pub use remark::remarks;

use crate::{
    id::{ObjectRef, ResourceType, fingerprint, fingerprint_bytes},
    pb::{
        self,
        envoy::config::core::v3::{
            AggregatedConfigSource, ApiVersion, ConfigSource, config_source::ConfigSourceSpecifier,
        },
    },
    problem::Problem,
};
use bytes::Bytes;
use std::{collections::BTreeSet, fmt, hash::Hash, sync::Arc};

/// One encoded xDS resource. What it says is not for logs: it may be a secret.
#[derive(Clone)]
pub struct Resource {
    /// Its type.
    pub kind: ResourceType,
    /// Its name.
    pub name: Arc<str>,
    /// The hash of its bytes: the same resource has the same version, also after a restart.
    pub version: u64,
    /// What tells it and its name from others: sums over resources tell sets of them apart.
    pub digest: u128,
    /// The encoded message.
    pub body: Bytes,
    /// The objects that it comes from, beside those of its pieces.
    pub sources: Arc<[ObjectRef]>,
    /// The resources that it was put together from. It keeps them, so that one of them that changes is the only one
    /// to be rendered again.
    pub pieces: Arc<[Arc<Resource>]>,
}

impl Resource {
    /// The resource with these bytes.
    pub fn new(kind: ResourceType, name: impl Into<Arc<str>>, body: impl Into<Bytes>, sources: Vec<ObjectRef>) -> Self {
        let body = body.into();
        let (name, version, sources) = (name.into(), fingerprint_bytes(&body), sources.into());
        let digest = digest(&name, version);
        Self { kind, name, version, digest, body, sources, pieces: Arc::default() }
    }

    /// The objects that it comes from, in order.
    pub fn origins(&self) -> BTreeSet<&ObjectRef> {
        self.sources.iter().chain(self.pieces.iter().flat_map(|p| p.origins())).collect()
    }

    /// Whether another resource is the same and comes from the same objects.
    fn is_same(&self, other: &Self) -> bool {
        let same = |(a, b): (&Arc<Self>, &Arc<Self>)| Arc::ptr_eq(a, b) || a.is_same(b);
        let pieces = || self.pieces.len() == other.pieces.len() && self.pieces.iter().zip(&*other.pieces).all(same);
        self == other && self.sources == other.sources && pieces()
    }

    /// The version as it is on the wire.
    pub fn version_text(&self) -> String {
        format!("{:016x}", self.version)
    }

    /// Whether this is its version as it is on the wire.
    pub fn is_version(&self, text: &str) -> bool {
        let digits = text.len() == 16 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        digits && u64::from_str_radix(text, 16) == Ok(self.version)
    }
}

/// What tells a name with a version from others.
pub fn digest(name: &str, version: u64) -> u128 {
    fingerprint(&(name, version))
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("Resource");
        out.field("kind", &self.kind).field("name", &self.name).field("version", &self.version);
        out.field("bytes", &self.body.len()).field("sources", &self.sources).finish()
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Self) -> bool {
        (self.kind, self.version, &self.name) == (other.kind, other.version, &other.name)
    }
}

impl Eq for Resource {}

impl Hash for Resource {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.kind, self.version, &self.name).hash(state);
    }
}

/// All that one resource is made from. It is the key under which the resource is kept, so nothing that is
/// not in it can have an effect on the resource.
pub trait Input: Hash {
    /// Makes the resource.
    fn render(&self) -> Resource;
}

/// Makes resources, or knows where they are kept.
pub trait Renderer {
    /// The resource of the input with this fingerprint; `render` makes it.
    fn resource(&self, fingerprint: u128, render: &dyn Fn() -> Resource) -> Arc<Resource>;
}

impl dyn Renderer + '_ {
    /// The resource of an input.
    pub fn get<I: Input>(&self, input: &I) -> Arc<Resource> {
        self.resource(fingerprint(&(std::any::type_name::<I>(), input)), &|| input.render())
    }
}

/// More of the stream that the resource itself came on, without a limit to waiting.
fn ads() -> ConfigSource {
    ConfigSource {
        config_source_specifier: Some(ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        initial_fetch_timeout: Some(pb::millis(0)),
        resource_api_version: ApiVersion::V3.into(),
        ..Default::default()
    }
}

/// A renderer that keeps nothing.
#[derive(Clone, Copy, Debug)]
pub struct Direct;

impl Renderer for Direct {
    fn resource(&self, _: u128, render: &dyn Fn() -> Resource) -> Arc<Resource> {
        Arc::new(render())
    }
}

/// What one unit gives.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Built {
    /// Its resources.
    pub resources: Vec<Arc<Resource>>,
    /// What is wrong with the objects that they come from, as far as this view is concerned.
    pub problems: Vec<Problem>,
    /// What it adds to the unit that is put together from it and others.
    pub piece: Option<Piece>,
}

/// What a unit adds to the resource that is put together from several units, which cannot be known from one alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// The part of the resource, if nothing else wants what it claims.
    pub resource: Option<Arc<Resource>>,
    /// The fingerprints of what only one piece may have.
    pub claims: Box<[u64]>,
    /// The fingerprint of its rank among those that claim the same.
    pub rank: u128,
    /// Whether it asks for anything: what is wrong counts only then.
    pub asks: bool,
    /// Whether it asks for the resource.
    pub asks_for_whole: bool,
    /// What is wrong with the objects that it comes from.
    pub problems: Vec<Problem>,
}
