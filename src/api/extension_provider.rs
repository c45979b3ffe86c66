//! `extensionProviders` of MeshConfig: those that decide about requests.

use serde::Deserialize;
use std::collections::BTreeMap;

/// An authorizer that is asked by HTTP, or by gRPC, which has fewer fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Authorizer {
    /// The service: `HOST` or `NAMESPACE/HOST`.
    pub service: String,
    /// Its port.
    pub port: i64,
    /// How long it may take.
    pub timeout: Option<String>,
    /// Whether what it cannot be asked about is let through.
    pub fail_open: bool,
    /// Whether routes are looked for again afterwards.
    pub clear_route_cache: bool,
    /// The status where it cannot be asked.
    pub status_on_error: Option<String>,
    /// How much of bodies it sees.
    pub include_request_body_in_check: Option<Body>,
    /// Put before the path.
    pub path_prefix: String,
    /// The headers that it sees.
    pub include_request_headers_in_check: Vec<String>,
    /// The same, as it was called before.
    pub include_headers_in_check: Vec<String>,
    /// Further headers that it is sent.
    pub include_additional_headers_in_check: BTreeMap<String, String>,
    /// The headers of its answer that the workload sees.
    pub headers_to_upstream_on_allow: Vec<String>,
    /// The headers of its answer that an allowed client sees.
    pub headers_to_downstream_on_allow: Vec<String>,
    /// The headers of its answer that a denied client sees.
    pub headers_to_downstream_on_deny: Vec<String>,
}

/// The fields that have a meaning where gRPC is spoken.
pub const OF_GRPC: &[&str] =
    &["service", "port", "timeout", "failOpen", "clearRouteCache", "statusOnError", "includeRequestBodyInCheck"];

/// How much of a request's body is seen.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Body {
    /// So many bytes.
    pub max_request_bytes: i64,
    /// Of a longer body as much as that.
    pub allow_partial_message: bool,
    /// As bytes.
    pub pack_as_bytes: bool,
}
