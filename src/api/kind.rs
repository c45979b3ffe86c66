//! The kinds of Istio's objects, and where an API server has them.

/// A kind of object as an API server has it.
#[derive(Clone, Copy, Debug)]
pub struct ApiKind {
    /// Its API group; empty for Kubernetes' core.
    pub group: &'static str,
    /// The versions that are understood, the best first. They all say the same.
    pub versions: &'static [&'static str],
    /// Its name.
    pub name: &'static str,
    /// Its name in addresses.
    pub plural: &'static str,
    /// Its objects are in namespaces.
    pub namespaced: bool,
}

/// How a service is reached.
pub const DESTINATION_RULE: ApiKind = networking("DestinationRule", "destinationrules");
/// What proxies at the edge of the mesh listen on.
pub const GATEWAY: ApiKind = networking("Gateway", "gateways");
/// Settings of proxies themselves.
pub const PROXY_CONFIG: ApiKind = ApiKind { versions: &["v1beta1"], ..networking("ProxyConfig", "proxyconfigs") };
/// A service that is not one of Kubernetes.
pub const SERVICE_ENTRY: ApiKind = networking("ServiceEntry", "serviceentries");
/// What workloads see of the mesh, and how traffic reaches them.
pub const SIDECAR: ApiKind = networking("Sidecar", "sidecars");
/// Where requests and connections to a host go.
pub const VIRTUAL_SERVICE: ApiKind = networking("VirtualService", "virtualservices");
/// A workload outside Kubernetes.
pub const WORKLOAD_ENTRY: ApiKind = networking("WorkloadEntry", "workloadentries");
/// What workloads outside Kubernetes have in common.
pub const WORKLOAD_GROUP: ApiKind = networking("WorkloadGroup", "workloadgroups");
/// Who may do what.
pub const AUTHORIZATION_POLICY: ApiKind = security("AuthorizationPolicy", "authorizationpolicies");
/// Whether workloads demand mutual TLS.
pub const PEER_AUTHENTICATION: ApiKind = security("PeerAuthentication", "peerauthentications");
/// Whose tokens are taken.
pub const REQUEST_AUTHENTICATION: ApiKind = security("RequestAuthentication", "requestauthentications");

/// Changes to Envoy's configuration; not served yet.
pub const ENVOY_FILTER: ApiKind = ApiKind { versions: &["v1alpha3"], ..networking("EnvoyFilter", "envoyfilters") };
/// Metrics, logs and traces; not served yet.
pub const TELEMETRY: ApiKind =
    ApiKind { group: "telemetry.istio.io", versions: &["v1", "v1alpha1"], ..ApiKind::core("Telemetry", "telemetries") };
/// Filters of any sort; not served yet.
pub const TRAFFIC_EXTENSION: ApiKind = extension("TrafficExtension", "trafficextensions");
/// Filters in WebAssembly; not served yet.
pub const WASM_PLUGIN: ApiKind = extension("WasmPlugin", "wasmplugins");

/// Namespaces.
pub const NAMESPACE: ApiKind = ApiKind { namespaced: false, ..ApiKind::core("Namespace", "namespaces") };
/// What lets in requests from outside.
pub const INGRESS: ApiKind = ApiKind { group: "networking.k8s.io", ..ApiKind::core("Ingress", "ingresses") };
/// Who is asked to change objects before they are kept.
pub const MUTATING_WEBHOOKS: ApiKind = webhooks("MutatingWebhookConfiguration", "mutatingwebhookconfigurations");
/// Who is asked whether objects may be kept.
pub const VALIDATING_WEBHOOKS: ApiKind = webhooks("ValidatingWebhookConfiguration", "validatingwebhookconfigurations");

/// The kinds that are served.
pub const SERVED: [ApiKind; 11] = [
    DESTINATION_RULE,
    GATEWAY,
    PROXY_CONFIG,
    SERVICE_ENTRY,
    SIDECAR,
    VIRTUAL_SERVICE,
    WORKLOAD_ENTRY,
    WORKLOAD_GROUP,
    AUTHORIZATION_POLICY,
    PEER_AUTHENTICATION,
    REQUEST_AUTHENTICATION,
];

/// The kinds that are read, so that it can be said that they are not served yet.
pub const OPEN: [ApiKind; 4] = [ENVOY_FILTER, TELEMETRY, TRAFFIC_EXTENSION, WASM_PLUGIN];

const fn networking(name: &'static str, plural: &'static str) -> ApiKind {
    ApiKind { group: "networking.istio.io", versions: &["v1", "v1beta1", "v1alpha3"], ..ApiKind::core(name, plural) }
}

const fn security(name: &'static str, plural: &'static str) -> ApiKind {
    ApiKind { group: "security.istio.io", versions: &["v1", "v1beta1"], ..ApiKind::core(name, plural) }
}

const fn extension(name: &'static str, plural: &'static str) -> ApiKind {
    ApiKind { group: "extensions.istio.io", versions: &["v1alpha1"], ..ApiKind::core(name, plural) }
}

const fn webhooks(name: &'static str, plural: &'static str) -> ApiKind {
    ApiKind { group: "admissionregistration.k8s.io", namespaced: false, ..ApiKind::core(name, plural) }
}

/// A selector of labels or fields (`a=b,!c`) as a part of an address.
pub fn escaped(selector: &str) -> String {
    selector.replace('!', "%21").replace('=', "%3D").replace(',', "%2C").replace('/', "%2F")
}

impl ApiKind {
    /// A kind of Kubernetes' core whose objects are in namespaces.
    pub const fn core(name: &'static str, plural: &'static str) -> Self {
        Self { group: "", versions: &["v1"], name, plural, namespaced: true }
    }

    /// The path of its objects at an API server, of one namespace or of all. Those that are in none have one path.
    pub fn path(&self, version: &str, namespace: Option<&str>) -> String {
        let group = match self.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        match namespace {
            Some(namespace) if self.namespaced => format!("{group}/namespaces/{namespace}/{}", self.plural),
            _ => format!("{group}/{}", self.plural),
        }
    }

    /// The name of its definition, where it is one that users add to a cluster.
    pub fn definition(&self) -> String {
        format!("{}.{}", self.plural, self.group)
    }

    /// The `apiVersion` of its objects.
    pub fn api_version(&self, version: &str) -> String {
        match self.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }
}
