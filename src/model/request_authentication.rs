//! RequestAuthentications: whose tokens are taken.

use super::{Created, Reach};
use crate::id::{Kind, Namespace, ObjectRef, Shared};
use std::sync::Arc;

/// What one RequestAuthentication says.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct RequestAuthentication {
    /// The object.
    pub source: ObjectRef,
    /// When it was made.
    pub created: Created,
    /// The proxies that it is for.
    pub reach: Reach,
    /// Whose tokens are taken.
    pub rules: Vec<Shared<JwtRule>>,
}

impl RequestAuthentication {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.source.namespace
    }

    /// The order in which those of one scope count: the oldest first.
    pub fn rank(&self) -> (Created, &Arc<str>, &Namespace) {
        (self.created, &self.source.name, &self.source.namespace)
    }
}

/// Whose tokens are taken, and how.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct JwtRule {
    /// Who makes them; empty for anybody who has the keys.
    pub issuer: Arc<str>,
    /// For whom they are; empty for anybody.
    pub audiences: Vec<Arc<str>>,
    /// The keys that they are signed with.
    pub keys: KeySource,
    /// The headers that they come in, each with what is before the token.
    pub headers: Vec<(Arc<str>, Arc<str>)>,
    /// The query parameters that they come in.
    pub params: Vec<Arc<str>>,
    /// The cookies that they come in.
    pub cookies: Vec<Arc<str>>,
    /// Whether the workload gets the token.
    pub forward: bool,
    /// The header that gets what a token says; empty for none.
    pub payload_header: Arc<str>,
    /// The headers that get single claims: header and claim.
    pub claim_headers: Vec<(Arc<str>, Arc<str>)>,
    /// How long fetching keys may take, in milliseconds.
    pub timeout: u64,
    /// Claims whose texts are lists with spaces between, sorted.
    pub spaced_claims: Vec<Arc<str>>,
}

/// Where the keys of an issuer are.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum KeySource {
    /// Here.
    Inline(Arc<str>),
    /// There.
    Fetched(KeyLocator),
    /// Nowhere: no token is taken.
    Missing,
}

/// Where keys are fetched from.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyLocator {
    /// This URL has them.
    Keys(Arc<str>),
    /// This URL says where they are (OpenID discovery).
    Discovery(Arc<str>),
}

impl KeyLocator {
    /// The URL.
    pub fn url(&self) -> &Arc<str> {
        match self {
            Self::Keys(url) | Self::Discovery(url) => url,
        }
    }

    /// The object that what was fetched is kept as.
    pub fn object(&self) -> ObjectRef {
        let name = match self {
            Self::Keys(url) => url.to_string(),
            Self::Discovery(url) => format!("openid:{url}"),
        };
        ObjectRef::new(Kind::KEY_SET, "", name)
    }
}

/// Keys that were fetched.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeySet {
    /// From where.
    pub locator: KeyLocator,
    /// The keys (RFC 7517), such as Envoy takes them.
    pub keys: Arc<str>,
}
