//! What goes to and fro on a stream, in one form for both variants of the protocol. Names follow the xDS
//! protocol; the protobuf forms are made from these in `wire`.

use crate::{
    id::{ObjectRef, ResourceType},
    translate::Resource,
};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The two ways in which the protocol tells what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Variant {
    /// State of the world: names are listed whole each time.
    Sotw,
    /// Delta: only what differs is said.
    Delta,
}

/// What a client says.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Request {
    /// The type that it is about.
    pub type_url: String,
    /// The nonce of the response that it answers; empty where it answers none.
    pub nonce: String,
    /// Why the answered response was refused; `None` where it was taken.
    pub error: Option<String>,
    /// What it says of its subscription.
    pub names: Names,
}

/// What a request says of a subscription.
#[derive(Clone, PartialEq, Debug)]
pub enum Names {
    /// State of the world: all names, and the version last taken.
    All {
        /// The names.
        names: Vec<String>,
        /// The version last taken; empty where there is none.
        version: String,
    },
    /// Delta: what is added and taken away.
    Changes {
        /// Names added.
        subscribe: Vec<String>,
        /// Names taken away.
        unsubscribe: Vec<String>,
        /// What the client has from an earlier stream, by name with its version; first request only.
        versions: BTreeMap<String, String>,
    },
}

impl Request {
    /// The names that it asks for.
    pub fn subscribed(&self) -> &[String] {
        match &self.names {
            Names::All { names, .. } => names,
            Names::Changes { subscribe, .. } => subscribe,
        }
    }
}

impl Default for Names {
    fn default() -> Self {
        Self::All { names: Vec::new(), version: String::new() }
    }
}

/// What is answered.
#[derive(Clone, PartialEq, Debug)]
pub struct Response {
    /// The type that it is about.
    pub type_url: Cow<'static, str>,
    /// What the client answers with.
    pub nonce: String,
    /// What the client has of the type once it took this: the same content has the same version, also after
    /// a restart.
    pub version: String,
    /// The resources: what changed, or all where the variant and type want it.
    pub resources: Arc<[Arc<Resource>]>,
    /// The names that are gone, or never were (delta).
    pub removed: Vec<Arc<str>>,
}

/// A response that a client refused.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rejection {
    /// The response's nonce.
    pub nonce: String,
    /// The client's words.
    pub message: Arc<str>,
    /// The resources at fault, as far as they are known.
    pub resources: Vec<Arc<str>>,
    /// The objects that those come from.
    pub objects: Vec<ObjectRef>,
}

/// Where one type stands on a stream: for people and debug pages.
#[derive(Clone, PartialEq, Debug)]
pub struct Standing {
    /// The type.
    pub kind: ResourceType,
    /// Whether everything is subscribed.
    pub wildcard: bool,
    /// The names that are subscribed by name, in order.
    pub names: Vec<Arc<str>>,
    /// The nonce sent last; empty where nothing was sent.
    pub nonce_sent: String,
    /// The nonce taken last; empty where none was.
    pub nonce_acked: String,
    /// The version of what the client has, once it takes what is under way.
    pub version: String,
    /// Whether a response was sent and not answered.
    pub in_flight: bool,
    /// The refusal that still keeps something from the client.
    pub error: Option<Rejection>,
}
