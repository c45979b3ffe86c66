//! Kubernetes' own kinds: what of them the mesh reads.

mod ingress;
mod pod;
mod secret;
mod service;
mod slice;

pub(super) use ingress::{ingress, ingress_class};
pub(super) use pod::pod;
pub(super) use secret::secret;
pub(super) use service::{protocol_named, service};
pub(super) use slice::{endpoint_slice, endpoints};

use super::{
    Context, Parsed,
    raw::{meta, typed},
};
use crate::{
    model::{ClusterNode, Labels, Locality, NamespaceInfo},
    problem::FieldPath,
};
use k8s_openapi::api::core::v1;
use serde_json::Value;
use std::sync::Arc;

/// Reads a Namespace.
pub(super) fn namespace(raw: &Value, _: &Context) -> Parsed<NamespaceInfo> {
    let meta = meta(raw);
    let (_, problems) = typed::<v1::Namespace>(&meta.object, &FieldPath::default(), raw);
    let info =
        NamespaceInfo { name: meta.object.name.as_ref().into(), labels: meta.labels, annotations: meta.annotations };
    (Some(info), problems)
}

/// Reads a Node: where it stands, by its labels, the current ones before the deprecated; and how it is reached from
/// outside.
pub(super) fn node(raw: &Value, _: &Context) -> Parsed<ClusterNode> {
    let meta = meta(raw);
    let (node, problems) = typed::<v1::Node>(&meta.object, &FieldPath::default(), raw);
    let locality = Locality {
        region: label(&meta.labels, &["topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region"]),
        zone: label(&meta.labels, &["topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone"]),
        subzone: label(&meta.labels, &["topology.istio.io/subzone"]),
    };
    let addresses = node.and_then(|node| node.status?.addresses).unwrap_or_default();
    let external = addresses.iter().filter(|a| a.type_ == "ExternalIP" && !a.address.is_empty());
    let external = external.map(|a| a.address.as_str().into()).collect();
    (Some(ClusterNode { name: meta.object.name, locality, external }), problems)
}

/// The first of these labels that is there; empty where none is.
fn label(labels: &Labels, keys: &[&str]) -> Arc<str> {
    keys.iter().find_map(|k| labels.get(k)).cloned().unwrap_or_default()
}

/// The entries of an optional map, as labels.
fn labels(map: Option<&std::collections::BTreeMap<String, String>>) -> Labels {
    map.into_iter().flatten().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect()
}

/// An optional text; empty where there is none.
fn text(value: Option<&String>) -> Arc<str> {
    value.map(String::as_str).unwrap_or_default().into()
}
