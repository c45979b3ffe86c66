//! The object that a part of a resource comes from, where telemetry and people look for it.

use crate::{
    id::{Kind, ObjectRef},
    pb::{self, envoy::config::core::v3::Metadata},
};
use std::collections::BTreeMap;

/// Says that something comes from an object of Istio's networking.
pub(super) fn of(object: &ObjectRef) -> Metadata {
    let kind = if object.kind == Kind::SIDECAR { "sidecar" } else { "virtual-service" };
    let path = format!("/apis/networking.istio.io/v1/namespaces/{}/{kind}/{}", object.namespace, object.name);
    Metadata {
        filter_metadata: BTreeMap::from([("istio".to_owned(), pb::fields([("config", pb::string(path))]))]),
        ..Default::default()
    }
}

/// Where a DestinationRule is in the API of Kubernetes.
pub(super) fn of_destination_rule(object: &ObjectRef) -> String {
    format!("/apis/networking.istio.io/v1/namespaces/{}/destination-rule/{}", object.namespace, object.name)
}
