//! PeerAuthentication (`security.istio.io`).

use super::destination_rule::LabelSelector;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `spec` of a PeerAuthentication.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct PeerAuthentication {
    /// The workloads it is for.
    pub selector: Option<LabelSelector>,
    /// Whether they take mutual TLS.
    pub mtls: Option<MutualTls>,
    /// The same for single ports of theirs.
    pub port_level_mtls: Option<BTreeMap<String, Option<MutualTls>>>,
}

/// Whether mutual TLS is taken.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MutualTls {
    /// How.
    pub mode: MutualTlsMode,
}

/// How mutual TLS is taken.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum MutualTlsMode {
    /// As the wider scope says.
    #[default]
    Unset,
    /// Not at all.
    Disable,
    /// Beside plaintext.
    Permissive,
    /// Alone.
    Strict,
}
