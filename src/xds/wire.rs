//! The protobuf forms of the protocol's messages, for both variants.

use super::stream::{Names, Request, Variant};
use crate::pb::{
    self,
    envoy::{
        config::core::v3::{ControlPlane, Node as NodePb},
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Resource as ResourcePb,
        },
    },
    google::protobuf::Any,
};
use prost::Message as _;
use serde_json::{Value, json};

/// A variant of the protocol as it is on the wire.
pub(super) trait Wire: 'static {
    /// What a client sends.
    type Request: prost::Message + Default + 'static;
    /// Which one it is.
    const VARIANT: Variant;
    /// The node that says so, where it does, and what it says.
    fn request(from: Self::Request) -> (Option<NodePb>, Request);
    /// An answer that consists of messages that are no resources of the mesh, encoded.
    fn message(from: Answer) -> Vec<u8>;
}

/// The answer to a request of a debug type.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Answer {
    /// The type that was asked for.
    pub type_url: String,
    /// What is answered.
    pub resources: Vec<Any>,
    /// Who answers, where the type says so.
    pub control_plane: Option<String>,
}

/// State of the world.
#[derive(Debug)]
pub(super) struct Sotw;

/// Delta.
#[derive(Debug)]
pub(super) struct Delta;

impl Wire for Sotw {
    type Request = DiscoveryRequest;
    const VARIANT: Variant = Variant::Sotw;

    fn request(from: DiscoveryRequest) -> (Option<NodePb>, Request) {
        let request = Request {
            type_url: from.type_url,
            nonce: from.response_nonce,
            error: from.error_detail.map(|e| e.message),
            names: Names::All { names: from.resource_names, version: from.version_info },
        };
        (from.node, request)
    }

    fn message(from: Answer) -> Vec<u8> {
        let message = DiscoveryResponse {
            type_url: from.type_url,
            resources: from.resources,
            control_plane: from.control_plane.map(|identifier| ControlPlane { identifier }),
            ..Default::default()
        };
        message.encode_to_vec()
    }
}

impl Wire for Delta {
    type Request = DeltaDiscoveryRequest;
    const VARIANT: Variant = Variant::Delta;

    fn request(from: DeltaDiscoveryRequest) -> (Option<NodePb>, Request) {
        let request = Request {
            type_url: from.type_url,
            nonce: from.response_nonce,
            error: from.error_detail.map(|e| e.message),
            names: Names::Changes {
                subscribe: from.resource_names_subscribe,
                unsubscribe: from.resource_names_unsubscribe,
                versions: from.initial_resource_versions,
            },
        };
        (from.node, request)
    }

    fn message(from: Answer) -> Vec<u8> {
        let resources = from.resources.into_iter().map(|r| ResourcePb { resource: Some(r), ..Default::default() });
        let message = DeltaDiscoveryResponse {
            type_url: from.type_url,
            resources: resources.collect(),
            control_plane: from.control_plane.map(|identifier| ControlPlane { identifier }),
            ..Default::default()
        };
        message.encode_to_vec()
    }
}

/// Envoy's `Node` in protobuf's JSON, as far as it is read.
pub(super) fn node_to_json(node: &NodePb) -> Value {
    let locality = node.locality.as_ref().map(|l| json!({"region": l.region, "zone": l.zone, "subZone": l.sub_zone}));
    json!({
        "id": node.id,
        "cluster": node.cluster,
        "metadata": node.metadata.as_ref().map(pb::struct_to_json),
        "locality": locality,
    })
}
