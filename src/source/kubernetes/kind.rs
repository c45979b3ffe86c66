//! The kinds that are watched, and what of them is read.

use super::prune::Tree;

/// A kind that is watched.
#[derive(Debug)]
pub(super) struct Watched {
    /// Its API group; empty for Kubernetes' core.
    pub(super) group: &'static str,
    /// The versions that are understood, the best first. They all say the same.
    pub(super) versions: &'static [&'static str],
    /// Its name.
    pub(super) kind: &'static str,
    /// Its name in addresses.
    pub(super) plural: &'static str,
    /// Which objects of it, by their fields.
    pub(super) selector: &'static str,
    /// What of it is read.
    reads: Reads,
}

#[derive(Debug)]
enum Reads {
    /// These fields alone, each a path of names.
    Only(&'static [&'static str]),
    /// Everything but these.
    AllBut(&'static [&'static str]),
}

/// What nobody reads: it is often longer than the rest.
const NOISE: Reads =
    Reads::AllBut(&["metadata managedFields", "metadata annotations kubectl.kubernetes.io/last-applied-configuration"]);

/// Definitions of kinds that users add to a cluster.
pub(super) const DEFINITIONS: Watched = Watched {
    group: "apiextensions.k8s.io",
    versions: &["v1"],
    kind: "CustomResourceDefinition",
    plural: "customresourcedefinitions",
    selector: "",
    reads: Reads::Only(&[
        "metadata name",
        "metadata uid",
        "metadata resourceVersion",
        "spec group",
        "spec names kind",
        "spec versions name",
        "spec versions served",
        "status conditions type",
        "status conditions status",
    ]),
};

/// The settings of the mesh, which are in one of a namespace's ConfigMaps.
pub(super) const SETTINGS: Watched = core("ConfigMap", "configmaps", "", NOISE);

/// What gives tags to revisions.
pub(super) const TAGS: &[Watched] = &[
    Watched {
        group: "admissionregistration.k8s.io",
        ..core("MutatingWebhookConfiguration", "mutatingwebhookconfigurations", "", TAG)
    },
    // Of the control plane's namespace alone; what waits for them calls them by this name.
    core("Service (of a tag)", "services", "", TAG),
];

const TAG: Reads = Reads::Only(&["metadata name", "metadata uid", "metadata resourceVersion", "metadata labels"]);

/// Kubernetes' own kinds, of all namespaces.
pub(super) const BUILT_IN: &[Watched] = &[
    core(
        "Namespace",
        "namespaces",
        "",
        Reads::Only(&[
            "metadata name",
            "metadata uid",
            "metadata resourceVersion",
            "metadata creationTimestamp",
            "metadata labels",
            "metadata annotations",
        ]),
    ),
    core(
        "Node",
        "nodes",
        "",
        Reads::Only(&["metadata name", "metadata uid", "metadata resourceVersion", "metadata labels"]),
    ),
    core(
        "Pod",
        "pods",
        "",
        Reads::Only(&[
            "metadata name",
            "metadata namespace",
            "metadata uid",
            "metadata resourceVersion",
            "metadata creationTimestamp",
            "metadata deletionTimestamp",
            "metadata labels",
            "metadata ownerReferences",
            "spec containers name",
            "spec containers ports",
            "spec hostNetwork",
            "spec hostname",
            "spec initContainers name",
            "spec initContainers ports",
            "spec initContainers restartPolicy",
            "spec nodeName",
            "spec serviceAccountName",
            "spec subdomain",
            "status conditions status",
            "status conditions type",
            "status phase",
            "status podIP",
            "status podIPs",
        ]),
    ),
    core("Service", "services", "", NOISE),
    // Most Secrets are of these two types, and neither is for proxies.
    core(
        "Secret",
        "secrets",
        "type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token",
        Reads::Only(&[
            "metadata name",
            "metadata namespace",
            "metadata uid",
            "metadata resourceVersion",
            "metadata creationTimestamp",
            "type",
            "data cert",
            "data key",
            "data cacert",
            "data crl",
            "data tls.crt",
            "data tls.key",
            "data tls.ocsp-staple",
            "data ca.crt",
            "data ca.crl",
        ]),
    ),
    Watched { group: "discovery.k8s.io", ..core("EndpointSlice", "endpointslices", "", NOISE) },
    Watched { group: "networking.k8s.io", ..core("Ingress", "ingresses", "", NOISE) },
    Watched { group: "networking.k8s.io", ..core("IngressClass", "ingressclasses", "", NOISE) },
];

/// The kinds of the mesh, each there once its definition is.
pub(super) const CUSTOM: &[Watched] = &[
    networking("DestinationRule", "destinationrules"),
    Watched { versions: &["v1alpha3"], ..networking("EnvoyFilter", "envoyfilters") },
    networking("Gateway", "gateways"),
    Watched { versions: &["v1beta1"], ..networking("ProxyConfig", "proxyconfigs") },
    networking("ServiceEntry", "serviceentries"),
    networking("Sidecar", "sidecars"),
    networking("VirtualService", "virtualservices"),
    networking("WorkloadEntry", "workloadentries"),
    networking("WorkloadGroup", "workloadgroups"),
    security("AuthorizationPolicy", "authorizationpolicies"),
    security("PeerAuthentication", "peerauthentications"),
    security("RequestAuthentication", "requestauthentications"),
    custom("telemetry.istio.io", &["v1", "v1alpha1"], "Telemetry", "telemetries"),
    custom("extensions.istio.io", &["v1alpha1"], "TrafficExtension", "trafficextensions"),
    custom("extensions.istio.io", &["v1alpha1"], "WasmPlugin", "wasmplugins"),
];

const fn core(kind: &'static str, plural: &'static str, selector: &'static str, reads: Reads) -> Watched {
    Watched { group: "", versions: &["v1"], kind, plural, selector, reads }
}

const fn custom(
    group: &'static str,
    versions: &'static [&'static str],
    kind: &'static str,
    plural: &'static str,
) -> Watched {
    Watched { group, versions, kind, plural, selector: "", reads: NOISE }
}

const fn networking(kind: &'static str, plural: &'static str) -> Watched {
    custom("networking.istio.io", &["v1", "v1beta1", "v1alpha3"], kind, plural)
}

const fn security(kind: &'static str, plural: &'static str) -> Watched {
    custom("security.istio.io", &["v1", "v1beta1"], kind, plural)
}

impl Watched {
    /// What of an object of this kind is read.
    pub(super) fn tree(&self) -> Tree {
        match self.reads {
            Reads::Only(paths) => Tree::only(paths),
            Reads::AllBut(paths) => Tree::all_but(paths),
        }
    }

    /// Whether its objects are in namespaces.
    pub(super) fn is_namespaced(&self) -> bool {
        !matches!(
            self.kind,
            "Namespace" | "Node" | "IngressClass" | "CustomResourceDefinition" | "MutatingWebhookConfiguration"
        )
    }

    /// The path of its objects at the API server, of one namespace or of all.
    pub(super) fn path(&self, version: &str, namespace: Option<&str>) -> String {
        let group = match self.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        };
        match namespace {
            Some(namespace) => format!("{group}/namespaces/{namespace}/{}", self.plural),
            None => format!("{group}/{}", self.plural),
        }
    }

    /// The `apiVersion` of its objects.
    pub(super) fn api_version(&self, version: &str) -> String {
        match self.group {
            "" => version.to_owned(),
            group => format!("{group}/{version}"),
        }
    }
}
