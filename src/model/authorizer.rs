//! External authorizers: services that decide about requests and connections (`extensionProviders` of MeshConfig).

use super::Pattern;
use crate::id::{Host, Namespace, Shared};
use std::{collections::BTreeMap, sync::Arc};

/// The mesh's authorizers by name; `None` for one that cannot be used.
pub type Authorizers = BTreeMap<Arc<str>, Option<Shared<Authorizer>>>;

/// A service that decides about requests.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Authorizer {
    /// Its name among the mesh's.
    pub name: Arc<str>,
    /// The host of the service.
    pub host: Host,
    /// The namespace of the service, where it has to be said.
    pub namespace: Option<Namespace>,
    /// The port of the service.
    pub port: u16,
    /// How long it may take, in milliseconds.
    pub timeout: u64,
    /// Whether what it cannot be asked about is let through.
    pub fail_open: bool,
    /// The status of answers where it cannot be asked; `None` for 403.
    pub status_on_error: Option<u16>,
    /// Whether routes are looked for again after it was asked.
    pub clear_route_cache: bool,
    /// How much of bodies it sees.
    pub body: Option<BodyShown>,
    /// What it is asked in.
    pub protocol: AuthorizerProtocol,
}

/// How much of a request's body an authorizer sees.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct BodyShown {
    /// So many bytes.
    pub max: u32,
    /// Of a longer body as much as that; otherwise the request is refused.
    pub partial: bool,
    /// As bytes, and not as text.
    pub as_bytes: bool,
}

/// What an authorizer is asked in.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum AuthorizerProtocol {
    /// Envoy's own, over gRPC, which knows connections too.
    Grpc,
    /// The request itself, as it is without its body.
    Http(AuthorizerHttp),
}

/// What an authorizer is told of a request, and what of its answer goes where. Names of headers are compared in any case
/// of letters.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct AuthorizerHttp {
    /// Put before the path.
    pub path_prefix: Arc<str>,
    /// The headers of the request that it sees.
    pub sees: Vec<Pattern>,
    /// Further headers that it is sent.
    pub is_sent: Vec<(Arc<str>, Arc<str>)>,
    /// The headers of its answer that the workload sees, where it allows.
    pub to_workload: Vec<Pattern>,
    /// The headers of its answer that the client sees, where it allows.
    pub to_allowed: Vec<Pattern>,
    /// The headers of its answer that the client sees, where it denies.
    pub to_denied: Vec<Pattern>,
}
