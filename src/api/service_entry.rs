//! ServiceEntry (`networking.istio.io`).

use super::workload_entry::WorkloadEntry;
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `spec` of a ServiceEntry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceEntry {
    /// The hosts.
    pub hosts: Vec<String>,
    /// Virtual addresses, or blocks of them.
    pub addresses: Vec<String>,
    /// The ports.
    pub ports: Vec<ServicePort>,
    /// Whether it is part of the mesh.
    pub location: Location,
    /// How endpoints are found.
    pub resolution: Resolution,
    /// Endpoints.
    pub endpoints: Option<Vec<WorkloadEntry>>,
    /// The workloads that are its endpoints.
    pub workload_selector: Option<WorkloadSelector>,
    /// Who sees it.
    pub export_to: Vec<String>,
    /// Identities that endpoints may have.
    pub subject_alt_names: Vec<String>,
}

/// A port of a ServiceEntry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServicePort {
    /// The number.
    pub number: u32,
    /// What is spoken.
    pub protocol: String,
    /// The name.
    pub name: String,
    /// The number at the endpoints.
    pub target_port: u32,
}

/// Whether a service is part of the mesh.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Location {
    /// It is not.
    #[default]
    MeshExternal,
    /// It is.
    MeshInternal,
}

/// How endpoints are found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Resolution {
    /// The client knows.
    #[default]
    None,
    /// They are written down.
    Static,
    /// By DNS, every answer.
    Dns,
    /// By DNS, one answer at a time.
    DnsRoundRobin,
    /// By DNS, the name that is asked for.
    DynamicDns,
}

/// Chooses workloads by their labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// The labels they have.
    pub labels: BTreeMap<String, String>,
}
