//! Sidecar (`networking.istio.io`): its `spec` as it is written.

use super::{
    destination_rule::ConnectionPool,
    gateway::{Port, ServerTls},
    virtual_service::Destination,
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `spec` of a Sidecar.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Sidecar {
    /// The workloads it is for.
    pub workload_selector: Option<WorkloadSelector>,
    /// Where the workload's own traffic arrives.
    pub ingress: Vec<Ingress>,
    /// What the workload may send to, and where.
    pub egress: Vec<Egress>,
    /// Limits of connections to the workload.
    pub inbound_connection_pool: Option<ConnectionPool>,
    /// What happens to traffic that no service is known for.
    pub outbound_traffic_policy: Option<OutboundTrafficPolicy>,
}

/// Chooses workloads by their labels.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadSelector {
    /// The labels they have.
    pub labels: BTreeMap<String, String>,
}

/// A port where the workload's own traffic arrives.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Ingress {
    /// The port.
    pub port: Option<Port>,
    /// The address.
    pub bind: String,
    /// Whether traffic is captured.
    pub capture_mode: String,
    /// Where the workload listens.
    pub default_endpoint: String,
    /// TLS that is ended; has no effect unless a switch is on.
    pub tls: Option<ServerTls>,
    /// Limits of connections.
    pub connection_pool: Option<ConnectionPool>,
}

/// What the workload may send to, and where.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Egress {
    /// The port; none for all that services have.
    pub port: Option<Port>,
    /// The address, or a socket of the file system.
    pub bind: String,
    /// Whether traffic is captured.
    pub capture_mode: String,
    /// `namespace/host`.
    pub hosts: Vec<String>,
}

/// What happens to traffic that no service is known for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OutboundTrafficPolicy {
    /// Whether it is let through.
    pub mode: String,
    /// Where it goes.
    pub egress_proxy: Option<Destination>,
}
