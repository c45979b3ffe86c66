//! The kinds that are watched, and what of them is read.

use super::prune::Tree;
use crate::api::kind::{self, ApiKind};

/// A kind that is watched.
#[derive(Clone, Copy, Debug)]
pub(super) struct Watched {
    /// The kind.
    pub(super) of: ApiKind,
    /// Which objects of it, by their fields.
    pub(super) selector: &'static str,
    /// What of it is read.
    reads: Reads,
}

#[derive(Clone, Copy, Debug)]
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
    of: ApiKind {
        group: "apiextensions.k8s.io",
        namespaced: false,
        ..ApiKind::core("CustomResourceDefinition", "customresourcedefinitions")
    },
    selector: "",
    reads: Reads::Only(&[
        "metadata name",
        "metadata uid",
        "metadata resourceVersion",
        "metadata generation",
        "spec group",
        "spec names kind",
        "spec versions name",
        "spec versions served",
        "status conditions type",
        "status conditions status",
    ]),
};

/// The settings of the mesh, which are in one of a namespace's ConfigMaps.
pub(super) const SETTINGS: Watched = watched(ApiKind::core("ConfigMap", "configmaps"), "", NOISE);

/// What gives tags to revisions.
pub(super) const TAGS: &[Watched] = &[
    watched(kind::MUTATING_WEBHOOKS, "", TAG),
    // Of the control plane's namespace alone; what waits for them calls them by this name.
    watched(ApiKind::core("Service (of a tag)", "services"), "", TAG),
];

const TAG: Reads = Reads::Only(&["metadata name", "metadata uid", "metadata resourceVersion", "metadata labels"]);

/// Kubernetes' own kinds, of all namespaces.
pub(super) const BUILT_IN: &[Watched] = &[
    watched(
        kind::NAMESPACE,
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
    watched(
        ApiKind { namespaced: false, ..ApiKind::core("Node", "nodes") },
        "",
        Reads::Only(&[
            "metadata name",
            "metadata uid",
            "metadata resourceVersion",
            "metadata labels",
            "status addresses address",
            "status addresses type",
        ]),
    ),
    watched(
        ApiKind::core("Pod", "pods"),
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
    watched(ApiKind::core("Service", "services"), "", NOISE),
    // Most Secrets are of these two types, and neither is for proxies.
    watched(
        ApiKind::core("Secret", "secrets"),
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
    watched(ApiKind { group: "discovery.k8s.io", ..ApiKind::core("EndpointSlice", "endpointslices") }, "", NOISE),
    watched(kind::INGRESS, "", NOISE),
    watched(
        ApiKind { group: "networking.k8s.io", namespaced: false, ..ApiKind::core("IngressClass", "ingressclasses") },
        "",
        NOISE,
    ),
];

/// The kinds of the mesh, each there once its definition is.
pub(super) const CUSTOM: &[Watched] = &custom();

const fn watched(of: ApiKind, selector: &'static str, reads: Reads) -> Watched {
    Watched { of, selector, reads }
}

const fn custom() -> [Watched; kind::SERVED.len() + kind::OPEN.len()] {
    let mut all = [watched(kind::SERVED[0], "", NOISE); _];
    let mut at = 1;
    while at < all.len() {
        let of = if at < kind::SERVED.len() { kind::SERVED[at] } else { kind::OPEN[at - kind::SERVED.len()] };
        all[at] = Watched { of, ..all[0] };
        at += 1;
    }
    all
}

impl Watched {
    /// What of an object of this kind is read.
    pub(super) fn tree(&self) -> Tree {
        match self.reads {
            Reads::Only(paths) => Tree::only(paths),
            Reads::AllBut(paths) => Tree::all_but(paths),
        }
    }
}
