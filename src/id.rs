//! Names: small, cheaply cloned, ordered. They say what a thing is called and nothing of what it is.

mod spiffe;

pub use spiffe::{NotSpiffe, Spiffe};

use std::{
    borrow::{Borrow, Cow},
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};
use xxhash_rust::xxh3::Xxh3;

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
            /// The shared text itself.
            pub fn shared(&self) -> Arc<str> {
                self.0.clone()
            }
        }
        impl Deref for $name {
            type Target = str;
            fn deref(&self) -> &str {
                &self.0
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.into())
            }
        }
        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text.into())
            }
        }
        impl From<Arc<str>> for $name {
            fn from(text: Arc<str>) -> Self {
                Self(text)
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

name! {
    /// A Kubernetes namespace.
    Namespace
}
name! {
    /// A lower-case host name, fully qualified, or a wildcard (`*.example.com`, `*`).
    Host
}

impl Host {
    /// Whether this is `*` or starts with `*.`.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with('*')
    }

    /// Whether `self`, taken as a pattern, covers all that `other` stands for: the same name, or a wildcard above it.
    pub fn covers(&self, other: &Host) -> bool {
        match self.0.strip_prefix('*') {
            Some(suffix) => other.0.strip_prefix('*').unwrap_or(&other.0).ends_with(suffix),
            None => self == other,
        }
    }

    /// Whether the sets of names that the two stand for have a name in common.
    pub fn overlaps(&self, other: &Host) -> bool {
        self.covers(other) || other.covers(self)
    }

    /// This host, then each wildcard above it from the nearest to `*`: the order of specificity.
    pub fn candidates(&self) -> impl Iterator<Item = Cow<'_, str>> {
        let wildcards = self.suffixes().map(|suffix| Cow::Owned(format!("*{suffix}")));
        std::iter::once(Cow::Borrowed(&*self.0)).chain(wildcards)
    }

    /// What the wildcards above it have behind their star, from the nearest to `*`.
    pub fn suffixes(&self) -> impl Iterator<Item = &str> {
        let text: &str = &self.0;
        let dots = text.char_indices().filter(|&(at, c)| c == '.' && at + 1 < text.len());
        let skip = usize::from(text.starts_with("*."));
        dots.skip(skip).map(|(at, _)| &text[at..]).chain((text != "*").then_some(""))
    }
}

/// What a resource or object is, by its Kubernetes kind. Kinds that mainsheet does not know keep their own name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Kind(Cow<'static, str>);

macro_rules! kinds {
    ($($name:ident = $text:literal),* $(,)?) => {
        impl Kind {
            $(#[doc = concat!("`", $text, "`.")] pub const $name: Kind = Kind(Cow::Borrowed($text));)*
            /// The kind of this name, without a copy where it is a known one.
            pub fn named(text: &str) -> Kind {
                match text {
                    $($text => Kind::$name,)*
                    other => Kind(Cow::Owned(other.to_owned())),
                }
            }
        }
    };
}

kinds! {
    AUTHORIZATION_POLICY = "AuthorizationPolicy",
    CONFIG_MAP = "ConfigMap",
    CRON_JOB = "CronJob",
    DAEMON_SET = "DaemonSet",
    DEPLOYMENT = "Deployment",
    DESTINATION_RULE = "DestinationRule",
    ENDPOINTS = "Endpoints",
    ENDPOINT_SLICE = "EndpointSlice",
    GATEWAY = "Gateway",
    INGRESS = "Ingress",
    INGRESS_CLASS = "IngressClass",
    JOB = "Job",
    KEY_SET = "KeySet",
    MESH_CONFIG = "MeshConfig",
    NAMESPACE = "Namespace",
    NODE = "Node",
    PEER_AUTHENTICATION = "PeerAuthentication",
    POD = "Pod",
    REPLICA_SET = "ReplicaSet",
    REQUEST_AUTHENTICATION = "RequestAuthentication",
    SECRET = "Secret",
    SERVICE = "Service",
    SERVICE_ACCOUNT = "ServiceAccount",
    SERVICE_ENTRY = "ServiceEntry",
    SIDECAR = "Sidecar",
    STATEFUL_SET = "StatefulSet",
    VIRTUAL_SERVICE = "VirtualService",
    WORKLOAD_ENTRY = "WorkloadEntry",
    WORKLOAD_GROUP = "WorkloadGroup",
}

impl Kind {
    /// The kind as Kubernetes writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Which object: its kind, namespace (empty where it has none) and name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ObjectRef {
    /// The object's kind.
    pub kind: Kind,
    /// The object's namespace; empty for cluster-scoped kinds.
    pub namespace: Namespace,
    /// The object's name.
    pub name: Arc<str>,
}

impl ObjectRef {
    /// The object of this kind, namespace and name.
    pub fn new(kind: Kind, namespace: impl Into<Namespace>, name: impl Into<Arc<str>>) -> Self {
        Self { kind, namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.namespace.is_empty() {
            true => write!(f, "{} {}", self.kind, self.name),
            false => write!(f, "{} {}/{}", self.kind, self.namespace, self.name),
        }
    }
}

/// A service of the mesh: its host, and the namespace that it belongs to (two namespaces may define one host).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServiceKey {
    /// The fully qualified host.
    pub host: Host,
    /// The namespace of the object that defines the service.
    pub namespace: Namespace,
}

/// The xDS resource types, declared in the order in which they are sent: make before break.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum ResourceType {
    /// CDS.
    Cluster,
    /// EDS.
    Endpoints,
    /// LDS.
    Listener,
    /// RDS.
    Route,
    /// VHDS; a unit of RDS where a proxy takes whole route configurations.
    VirtualHost,
    /// SDS.
    Secret,
    /// ECDS.
    Extension,
    /// NDS: the names of the mesh, for agents that resolve them.
    Names,
}

impl ResourceType {
    /// Every type, in the order of sending.
    pub const ALL: [ResourceType; 8] = [
        Self::Cluster,
        Self::Endpoints,
        Self::Listener,
        Self::Route,
        Self::VirtualHost,
        Self::Secret,
        Self::Extension,
        Self::Names,
    ];

    /// The type URL on the wire.
    pub const fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoints => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::VirtualHost => "type.googleapis.com/envoy.config.route.v3.VirtualHost",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            Self::Extension => "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
            Self::Names => "type.googleapis.com/istio.networking.nds.v1.NameTable",
        }
    }

    /// The type of a type URL.
    pub fn of_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|t| t.type_url() == url)
    }

    /// What operators call it: `cds`, `eds`, …
    pub const fn short(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoints => "eds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::VirtualHost => "vhds",
            Self::Secret => "sds",
            Self::Extension => "ecds",
            Self::Names => "nds",
        }
    }

    /// Whether a subscription without names means all resources (xDS protocol, "How the client specifies
    /// what resources to return": of Envoy's types only Listener and Cluster have the legacy wildcard).
    pub const fn has_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener | Self::Names)
    }
}

/// The 128-bit fingerprint of a value: equal values have equal fingerprints in every process.
pub fn fingerprint(value: &impl Hash) -> u128 {
    let mut hasher = Fingerprinter(Xxh3::new());
    value.hash(&mut hasher);
    hasher.0.digest128()
}

/// The 64-bit fingerprint of bytes.
pub fn fingerprint_bytes(bytes: &[u8]) -> u64 {
    xxhash_rust::xxh3::xxh3_64(bytes)
}

struct Fingerprinter(Xxh3);

impl Hasher for Fingerprinter {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
    fn finish(&self) -> u64 {
        self.0.digest()
    }
}

/// A shared value whose fingerprint was computed once: comparing and hashing it is constant work, however
/// large it is.
pub struct Shared<T: ?Sized> {
    fingerprint: u128,
    value: Arc<T>,
}

impl<T: Hash> Shared<T> {
    /// Shares `value`.
    pub fn new(value: T) -> Self {
        Self { fingerprint: fingerprint(&value), value: Arc::new(value) }
    }
}

impl<T: ?Sized> Shared<T> {
    /// The fingerprint of the value.
    pub fn fingerprint(&self) -> u128 {
        self.fingerprint
    }
}

impl<T: ?Sized> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self { fingerprint: self.fingerprint, value: self.value.clone() }
    }
}

impl<T: ?Sized> Deref for Shared<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T: ?Sized> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint == other.fingerprint
    }
}

impl<T: ?Sized> Eq for Shared<T> {}

impl<T: ?Sized> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.fingerprint.hash(state);
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Shared<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_names_the_wildcards_above_it_nearest_first() {
        let all = |h: &str| Host::from(h).candidates().map(Cow::into_owned).collect::<Vec<_>>();
        assert_eq!(all("a.b.c"), ["a.b.c", "*.b.c", "*.c", "*"]);
        assert_eq!(all("*.b.c"), ["*.b.c", "*.c", "*"]);
        assert_eq!(all("a"), ["a", "*"]);
        assert_eq!(all("*"), ["*"]);
    }

    #[test]
    fn wildcards_cover_what_is_below_them() {
        let covers = |a: &str, b: &str| Host::from(a).covers(&Host::from(b));
        assert!(covers("*.b.c", "a.b.c") && covers("*", "a") && covers("*.c", "*.b.c") && covers("a", "a"));
        assert!(!covers("a.b.c", "*.b.c") && !covers("*.b.c", "b.c") && !covers("*.b.c", "*.c"));
    }

    #[test]
    fn equal_values_have_equal_fingerprints() {
        assert_eq!(Shared::new(vec!["a", "b"]), Shared::new(vec!["a", "b"]));
        assert_ne!(fingerprint(&("a", "b")), fingerprint(&("ab", "")));
    }
}
