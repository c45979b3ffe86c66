//! Cross-origin policy.

use super::{fault::fraction, matcher};
use crate::{
    model::{Cors, Share},
    pb::{
        self, envoy::config::core::v3::RuntimeFractionalPercent, envoy::extensions::filters::http::cors::v3::CorsPolicy,
    },
};

/// The settings of the CORS filter for a route.
pub(super) fn config(cors: &Cors) -> CorsPolicy {
    CorsPolicy {
        allow_origin_string_match: cors.allow_origins.iter().map(matcher::string).collect(),
        allow_methods: cors.allow_methods.join(","),
        allow_headers: cors.allow_headers.join(","),
        expose_headers: cors.expose_headers.join(","),
        max_age: cors.max_age.map(|seconds| seconds.to_string()).unwrap_or_default(),
        allow_credentials: cors.allow_credentials.and_then(pb::boolean),
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(fraction(Share::Percent(100))),
            ..Default::default()
        }),
        forward_not_matching_preflights: pb::boolean(cors.forward_unmatched.unwrap_or(true)),
        ..Default::default()
    }
}
