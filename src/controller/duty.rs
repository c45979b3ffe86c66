//! What a controller is for: which objects it looks at, and which requests bring others to what they should be.

use crate::api::kind::ApiKind;
use hyper::{Method, Request};
use serde_json::Value;

/// An object that is looked at, or written: the index of its kind among those watched, its namespace and its name.
pub(super) type Key = (usize, String, String);

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It is done.
    Done,
    /// Somebody else was faster, or the object is gone: what is there now was or will be seen.
    Moot,
    /// It failed, and is tried again later.
    Again,
    /// It may not be done any more.
    Over,
}

/// What a controller is for. It is told what is there, and asked what is to be written.
pub(super) trait Duty: Send {
    /// What it looks at, and with which field selector.
    fn watched(&self) -> Vec<(ApiKind, Option<String>)>;

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

    /// What became of the request for an object.
    fn answered(&mut self, _key: &Key, _outcome: Outcome) {}

    /// The request that brings an object to what it should be; none if it is that.
    fn request(&mut self, key: &Key) -> Option<Request<Vec<u8>>>;
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
