//! The kinds that are defined: their names, versions and columns.

use super::of;
use crate::api;
use serde_json::{Value, json};

/// One kind.
pub(super) struct Kind {
    /// Its group.
    pub(super) group: &'static str,
    /// Its name.
    pub(super) kind: &'static str,
    /// Its name in paths.
    pub(super) plural: &'static str,
    /// What people type.
    pub(super) short: &'static [&'static str],
    /// Its versions, which all have the same fields.
    pub(super) versions: &'static [&'static str],
    /// Which of them is stored.
    pub(super) stored: usize,
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

const NETWORKING: Kind = Kind {
    group: "networking.istio.io",
    kind: "",
    plural: "",
    short: &[],
    versions: &["v1", "v1alpha3", "v1beta1"],
    stored: 0,
    columns: &[],
    needs_spec: false,
    about: "",
    spec: None,
};
const SECURITY: Kind = Kind { group: "security.istio.io", versions: &["v1", "v1beta1"], ..NETWORKING };

/// The kinds that are served.
pub(super) const KINDS: &[Kind] = &[
    Kind {
        kind: "DestinationRule",
        plural: "destinationrules",
        short: &["dr"],
        columns: &[Column { name: "Host", path: ".spec.host", about: "The service." }],
        about: "How a service is reached.",
        spec: Some(of::<api::destination_rule::DestinationRule>),
        ..NETWORKING
    },
    Kind {
        kind: "Gateway",
        plural: "gateways",
        short: &["gw"],
        about: "What proxies at the edge of the mesh listen on.",
        spec: Some(of::<api::gateway::Gateway>),
        ..NETWORKING
    },
    Kind {
        kind: "ProxyConfig",
        plural: "proxyconfigs",
        versions: &["v1beta1"],
        about: "Settings of proxies themselves.",
        spec: Some(of::<api::proxy_config::Object>),
        ..NETWORKING
    },
    Kind {
        kind: "ServiceEntry",
        plural: "serviceentries",
        short: &["se"],
        columns: &[
            Column { name: "Hosts", path: ".spec.hosts", about: "The hosts." },
            Column { name: "Location", path: ".spec.location", about: "Whether it is part of the mesh." },
            Column { name: "Resolution", path: ".spec.resolution", about: "How endpoints are found." },
        ],
        needs_spec: true,
        about: "A service that is not one of Kubernetes.",
        spec: Some(of::<api::service_entry::ServiceEntry>),
        ..NETWORKING
    },
    Kind {
        kind: "Sidecar",
        plural: "sidecars",
        about: "What workloads see of the mesh, and how traffic reaches them.",
        spec: Some(of::<api::sidecar::Sidecar>),
        ..NETWORKING
    },
    Kind {
        kind: "VirtualService",
        plural: "virtualservices",
        short: &["vs"],
        columns: &[
            Column { name: "Gateways", path: ".spec.gateways", about: "The gateways that it is bound to." },
            Column { name: "Hosts", path: ".spec.hosts", about: "The hosts that it is for." },
        ],
        about: "Where requests and connections to a host go.",
        spec: Some(of::<api::virtual_service::VirtualService>),
        ..NETWORKING
    },
    Kind {
        kind: "WorkloadEntry",
        plural: "workloadentries",
        short: &["we"],
        columns: &[Column { name: "Address", path: ".spec.address", about: "Where it is." }],
        needs_spec: true,
        about: "A workload outside Kubernetes.",
        spec: Some(of::<api::workload_entry::WorkloadEntry>),
        ..NETWORKING
    },
    Kind {
        kind: "WorkloadGroup",
        plural: "workloadgroups",
        short: &["wg"],
        needs_spec: true,
        about: "What workloads outside Kubernetes have in common.",
        spec: Some(of::<api::workload_entry::WorkloadGroup>),
        ..NETWORKING
    },
    Kind {
        kind: "AuthorizationPolicy",
        plural: "authorizationpolicies",
        short: &["ap"],
        columns: &[Column {
            name: "Action",
            path: ".spec.action",
            about: "What happens to requests that a rule takes.",
        }],
        about: "Who may do what.",
        spec: Some(of::<api::authorization_policy::AuthorizationPolicy>),
        ..SECURITY
    },
    Kind {
        kind: "PeerAuthentication",
        plural: "peerauthentications",
        short: &["pa"],
        columns: &[Column { name: "Mode", path: ".spec.mtls.mode", about: "Whether mutual TLS is demanded." }],
        about: "Whether workloads demand mutual TLS.",
        spec: Some(of::<api::peer_authentication::PeerAuthentication>),
        ..SECURITY
    },
    Kind {
        kind: "RequestAuthentication",
        plural: "requestauthentications",
        short: &["ra"],
        about: "Whose tokens are taken.",
        spec: Some(of::<api::request_authentication::RequestAuthentication>),
        ..SECURITY
    },
];

/// Kinds of Istio's that are not served yet. Objects of these are kept as they are, so that none is lost.
pub(super) const OPEN: &[Kind] = &[
    Kind {
        kind: "EnvoyFilter",
        plural: "envoyfilters",
        versions: &["v1alpha3"],
        about: "Not served yet: kept as it is, without effect.",
        ..NETWORKING
    },
    Kind {
        group: "extensions.istio.io",
        kind: "TrafficExtension",
        plural: "trafficextensions",
        versions: &["v1alpha1"],
        needs_spec: true,
        about: "Not served yet: kept as it is, without effect.",
        ..NETWORKING
    },
    Kind {
        group: "extensions.istio.io",
        kind: "WasmPlugin",
        plural: "wasmplugins",
        versions: &["v1alpha1"],
        needs_spec: true,
        about: "Not served yet: kept as it is, without effect.",
        ..NETWORKING
    },
    Kind {
        group: "telemetry.istio.io",
        kind: "Telemetry",
        plural: "telemetries",
        short: &["telemetry"],
        versions: &["v1", "v1alpha1"],
        stored: 1,
        about: "Not served yet: kept as it is, without effect.",
        ..NETWORKING
    },
];
