//! The kinds that are defined: their names, versions and columns.

use super::of;
use crate::api::{
    self,
    kind::{self, ApiKind},
};
use serde_json::{Value, json};

/// One kind.
pub(super) struct Definition {
    /// Its names and versions, which all have the same fields.
    pub(super) of: ApiKind,
    /// What people type.
    pub(super) short: &'static [&'static str],
    /// Which of its versions is stored.
    pub(super) stored: &'static str,
    /// What a list shows beside the name and the age.
    pub(super) columns: &'static [Column],
    /// Whether an object without a `spec` is refused.
    pub(super) needs_spec: bool,
    /// What it is for.
    pub(super) about: &'static str,
    /// The schema of its `spec`; one that takes everything where there is none.
    pub(super) spec: Option<fn() -> Value>,
}

/// A column of a list.
pub(super) struct Column {
    name: &'static str,
    path: &'static str,
    about: &'static str,
}

impl Column {
    pub(super) fn json(&self) -> Value {
        json!({ "description": self.about, "jsonPath": self.path, "name": self.name, "type": "string" })
    }
}

const PLAIN: Definition = Definition {
    of: ApiKind::core("", ""),
    short: &[],
    stored: "v1",
    columns: &[],
    needs_spec: false,
    about: "",
    spec: None,
};

/// The kinds that are served.
pub(super) const SERVED: &[Definition] = &[
    Definition {
        of: kind::DESTINATION_RULE,
        short: &["dr"],
        columns: &[Column { name: "Host", path: ".spec.host", about: "The service." }],
        about: "How a service is reached.",
        spec: Some(of::<api::destination_rule::DestinationRule>),
        ..PLAIN
    },
    Definition {
        of: kind::GATEWAY,
        short: &["gw"],
        about: "What proxies at the edge of the mesh listen on.",
        spec: Some(of::<api::gateway::Gateway>),
        ..PLAIN
    },
    Definition {
        of: kind::PROXY_CONFIG,
        stored: "v1beta1",
        about: "Settings of proxies themselves.",
        spec: Some(of::<api::proxy_config::Object>),
        ..PLAIN
    },
    Definition {
        of: kind::SERVICE_ENTRY,
        short: &["se"],
        columns: &[
            Column { name: "Hosts", path: ".spec.hosts", about: "The hosts." },
            Column { name: "Location", path: ".spec.location", about: "Whether it is part of the mesh." },
            Column { name: "Resolution", path: ".spec.resolution", about: "How endpoints are found." },
        ],
        needs_spec: true,
        about: "A service that is not one of Kubernetes.",
        spec: Some(of::<api::service_entry::ServiceEntry>),
        ..PLAIN
    },
    Definition {
        of: kind::SIDECAR,
        about: "What workloads see of the mesh, and how traffic reaches them.",
        spec: Some(of::<api::sidecar::Sidecar>),
        ..PLAIN
    },
    Definition {
        of: kind::VIRTUAL_SERVICE,
        short: &["vs"],
        columns: &[
            Column { name: "Gateways", path: ".spec.gateways", about: "The gateways that it is bound to." },
            Column { name: "Hosts", path: ".spec.hosts", about: "The hosts that it is for." },
        ],
        about: "Where requests and connections to a host go.",
        spec: Some(of::<api::virtual_service::VirtualService>),
        ..PLAIN
    },
    Definition {
        of: kind::WORKLOAD_ENTRY,
        short: &["we"],
        columns: &[Column { name: "Address", path: ".spec.address", about: "Where it is." }],
        needs_spec: true,
        about: "A workload outside Kubernetes.",
        spec: Some(of::<api::workload_entry::WorkloadEntry>),
        ..PLAIN
    },
    Definition {
        of: kind::WORKLOAD_GROUP,
        short: &["wg"],
        needs_spec: true,
        about: "What workloads outside Kubernetes have in common.",
        spec: Some(of::<api::workload_entry::WorkloadGroup>),
        ..PLAIN
    },
    Definition {
        of: kind::AUTHORIZATION_POLICY,
        short: &["ap"],
        columns: &[Column {
            name: "Action",
            path: ".spec.action",
            about: "What happens to requests that a rule takes.",
        }],
        about: "Who may do what.",
        spec: Some(of::<api::authorization_policy::AuthorizationPolicy>),
        ..PLAIN
    },
    Definition {
        of: kind::PEER_AUTHENTICATION,
        short: &["pa"],
        columns: &[Column { name: "Mode", path: ".spec.mtls.mode", about: "Whether mutual TLS is demanded." }],
        about: "Whether workloads demand mutual TLS.",
        spec: Some(of::<api::peer_authentication::PeerAuthentication>),
        ..PLAIN
    },
    Definition {
        of: kind::REQUEST_AUTHENTICATION,
        short: &["ra"],
        about: "Whose tokens are taken.",
        spec: Some(of::<api::request_authentication::RequestAuthentication>),
        ..PLAIN
    },
];

/// Kinds of Istio's that are not served yet. Objects of these are kept as they are, so that none is lost.
pub(super) const OPEN: &[Definition] = &[
    Definition {
        of: kind::ENVOY_FILTER,
        stored: "v1alpha3",
        about: "Not served yet: kept as it is, without effect.",
        ..PLAIN
    },
    Definition {
        of: kind::TRAFFIC_EXTENSION,
        stored: "v1alpha1",
        needs_spec: true,
        about: "Not served yet: kept as it is, without effect.",
        ..PLAIN
    },
    Definition {
        of: kind::WASM_PLUGIN,
        stored: "v1alpha1",
        needs_spec: true,
        about: "Not served yet: kept as it is, without effect.",
        ..PLAIN
    },
    Definition {
        of: kind::TELEMETRY,
        short: &["telemetry"],
        stored: "v1alpha1",
        about: "Not served yet: kept as it is, without effect.",
        ..PLAIN
    },
];
