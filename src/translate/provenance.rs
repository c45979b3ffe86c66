//! The object that a part of a resource comes from, where telemetry and people look for it.

use crate::{
    id::ObjectRef,
    pb::{self, envoy::config::core::v3::Metadata},
};
use std::collections::BTreeMap;

/// Says that something comes from a VirtualService.
pub(super) fn of_virtual_service(object: &ObjectRef) -> Metadata {
    let path = format!("/apis/networking.istio.io/v1/namespaces/{}/virtual-service/{}", object.namespace, object.name);
    Metadata {
        filter_metadata: BTreeMap::from([("istio".to_owned(), pb::fields([("config", pb::string(path))]))]),
        ..Default::default()
    }
}
