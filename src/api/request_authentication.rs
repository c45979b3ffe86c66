//! RequestAuthentication (`security.istio.io`). Its parts are read one by one, so that a broken one spoils no other.

use super::{authorization_policy::TargetRef, destination_rule::LabelSelector};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// `spec` of a RequestAuthentication.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct RequestAuthentication {
    /// The workloads it is for.
    #[schemars(with = "LabelSelector")]
    pub selector: Option<Value>,
    /// The one object it is for instead.
    #[schemars(with = "TargetRef")]
    pub target_ref: Option<Value>,
    /// The objects it is for instead.
    #[schemars(with = "Vec<TargetRef>")]
    pub target_refs: Option<Value>,
    /// Whose tokens are taken.
    #[schemars(with = "Vec<JwtRule>")]
    pub jwt_rules: Option<Value>,
}

/// Whose tokens are taken, and how.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct JwtRule {
    /// Who makes them.
    pub issuer: String,
    /// For whom they are.
    pub audiences: Vec<String>,
    /// Where the issuer's keys are.
    #[serde(alias = "jwks_uri")]
    pub jwks_uri: String,
    /// The issuer's keys.
    pub jwks: String,
    /// The headers that they come in.
    pub from_headers: Vec<Option<JwtHeader>>,
    /// The query parameters that they come in.
    pub from_params: Vec<String>,
    /// The cookies that they come in.
    pub from_cookies: Vec<String>,
    /// The header that gets what a token says.
    pub output_payload_to_header: String,
    /// Whether the workload gets the token.
    pub forward_original_token: bool,
    /// The headers that get single claims.
    pub output_claim_to_headers: Vec<Option<ClaimToHeader>>,
    /// How long fetching keys may take.
    pub timeout: Option<String>,
    /// Claims whose texts are lists with spaces between.
    pub space_delimited_claims: Vec<String>,
}

/// A header that tokens come in.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct JwtHeader {
    /// Its name.
    pub name: String,
    /// What is before the token.
    pub prefix: String,
}

/// A header that gets a claim.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ClaimToHeader {
    /// Its name.
    pub header: String,
    /// The claim.
    pub claim: String,
}
