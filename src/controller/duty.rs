//! What a controller is for: which objects it looks at, and which requests bring others to what they should be.

use hyper::{Method, Request};
use serde_json::Value;

/// An object that is looked at, or written: the index of its kind among those watched, its namespace and its name.
pub(super) type Key = (usize, String, String);

/// Objects that are watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// Their API group; empty for Kubernetes' core.
    pub(super) group: &'static str,
    /// Versions that they may be had in, the best first.
    pub(super) versions: &'static [&'static str],
    /// Their kind.
    pub(super) kind: &'static str,
    /// Its name in addresses.
    pub(super) plural: &'static str,
}

/// What a controller is for. It is told what is there, and asked what is to be written.
pub(super) trait Duty: Send {
    /// What it looks at, and with which field selector.
    fn watched(&self) -> Vec<(Watched, Option<String>)>;

    /// An object is there, in one of the versions watched. Gives what is to be looked at.
    fn seen(&mut self, key: &Key, object: &Value) -> Vec<Key>;

    /// An object is not there any more.
    fn gone(&mut self, key: &Key) -> Vec<Key>;

    /// What it works with beside objects has changed.
    fn changed(&mut self) -> Vec<Key> {
        Vec::new()
    }

    /// All objects of a kind were told, in this version; in none where the cluster does not have the kind.
    fn whole(&mut self, _kind: usize, _version: Option<&'static str>) -> Vec<Key> {
        Vec::new()
    }

    /// The request that brings an object to what it should be; none if it is that.
    fn request(&mut self, key: &Key) -> Option<Request<Vec<u8>>>;
}

impl Watched {
    /// Whether its objects are in namespaces.
    pub(super) fn is_namespaced(&self) -> bool {
        let without = [
            "Namespace",
            "ClusterTrustBundle",
            "IngressClass",
            "MutatingWebhookConfiguration",
            "ValidatingWebhookConfiguration",
        ];
        !without.contains(&self.kind)
    }

    /// The path of the objects of a namespace, or of those that are in none.
    pub(super) fn path(&self, version: &str, namespace: &str) -> String {
        let group = match self.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        match self.is_namespaced() {
            true => format!("{group}/namespaces/{namespace}/{}", self.plural),
            false => format!("{group}/{}", self.plural),
        }
    }
}

/// A request with a JSON body.
pub(super) fn request(method: Method, path: &str, body: &Value) -> Request<Vec<u8>> {
    let content = match method {
        Method::PATCH => "application/merge-patch+json",
        _ => "application/json",
    };
    let mut request = Request::new(body.to_string().into_bytes());
    *request.method_mut() = method;
    *request.uri_mut() = path.parse().expect("names of objects are fit for addresses");
    request.headers_mut().insert(hyper::header::CONTENT_TYPE, hyper::header::HeaderValue::from_static(content));
    request
}
