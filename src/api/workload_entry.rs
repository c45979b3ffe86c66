//! WorkloadEntry and WorkloadGroup (`networking.istio.io`), and the endpoints of a ServiceEntry.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `spec` of a WorkloadEntry, and one of the `endpoints` of a ServiceEntry.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadEntry {
    /// An IP address, a DNS name, or `unix://` and the path of a socket.
    pub address: String,
    /// Ports of the workload by the name of the service's port.
    pub ports: BTreeMap<String, u32>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The network that it is in.
    pub network: String,
    /// Where it stands: `region/zone/subzone`.
    pub locality: String,
    /// Its share of the load.
    pub weight: u32,
    /// Its service account.
    pub service_account: String,
}

/// `spec` of a WorkloadGroup.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadGroup {
    /// What the WorkloadEntries that are made of it are given.
    pub metadata: Option<ObjectMeta>,
    /// What they are like.
    pub template: Option<WorkloadEntry>,
    /// How it is found out whether they serve.
    pub probe: Option<ReadinessProbe>,
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
}

/// How it is found out whether a workload serves.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ReadinessProbe {
    /// The wait before the first time, in seconds.
    pub initial_delay_seconds: i32,
    /// How long an answer may take, in seconds.
    pub timeout_seconds: i32,
    /// How often, in seconds.
    pub period_seconds: i32,
    /// Good answers after which it serves.
    pub success_threshold: i32,
    /// Bad answers after which it does not.
    pub failure_threshold: i32,
    /// By a request.
    pub http_get: Option<HttpProbe>,
    /// By a connection.
    pub tcp_socket: Option<TcpProbe>,
    /// By a command.
    pub exec: Option<ExecProbe>,
    /// By gRPC's health protocol.
    pub grpc: Option<GrpcProbe>,
}

/// A probe by a request.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpProbe {
    /// The path.
    pub path: String,
    /// The port.
    pub port: u32,
    /// The host.
    pub host: String,
    /// `HTTP` or `HTTPS`.
    pub scheme: String,
    /// Headers of the request.
    pub http_headers: Vec<HttpHeader>,
}

/// A header of a request.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct HttpHeader {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A probe by a connection.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct TcpProbe {
    /// The host.
    pub host: String,
    /// The port.
    pub port: u32,
}

/// A probe by a command.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ExecProbe {
    /// The command and its arguments.
    pub command: Vec<String>,
}

/// A probe by gRPC's health protocol.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct GrpcProbe {
    /// The port.
    pub port: u32,
    /// The service that is asked for.
    pub service: String,
}
