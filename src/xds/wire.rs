//! The protobuf forms of the protocol's messages, for both variants.

use super::stream::{Names, Request, Response, Variant};
use crate::{
    pb::{
        self,
        envoy::{
            config::core::v3::{ControlPlane, Node as NodePb},
            service::discovery::v3::{
                DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
                Resource as ResourcePb,
            },
        },
        google::protobuf::Any,
    },
    translate::Resource,
};
use serde_json::{Value, json};

/// A variant of the protocol as it is on the wire.
pub(super) trait Wire: 'static {
    /// What a client sends.
    type Request: Send + 'static;
    /// What is answered.
    type Response: Send + 'static;
    /// Which one it is.
    const VARIANT: Variant;
    /// The node that says so, where it does, and what it says.
    fn request(from: Self::Request) -> (Option<NodePb>, Request);
    /// An answer.
    fn response(from: Response) -> Self::Response;
    /// An answer that consists of messages that are no resources of the mesh.
    fn message(from: Answer) -> Self::Response;
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
    type Response = DiscoveryResponse;
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

    fn response(from: Response) -> DiscoveryResponse {
        DiscoveryResponse {
            version_info: from.version,
            resources: from.resources.iter().map(|r| any(r)).collect(),
            type_url: from.type_url.into_owned(),
            nonce: from.nonce,
            ..Default::default()
        }
    }

    fn message(from: Answer) -> DiscoveryResponse {
        DiscoveryResponse {
            type_url: from.type_url,
            resources: from.resources,
            control_plane: from.control_plane.map(|identifier| ControlPlane { identifier }),
            ..Default::default()
        }
    }
}

impl Wire for Delta {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
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

    fn response(from: Response) -> DeltaDiscoveryResponse {
        let resource = |r: &Resource| ResourcePb {
            name: r.name.to_string(),
            version: r.version_text(),
            resource: Some(any(r)),
            ..Default::default()
        };
        DeltaDiscoveryResponse {
            system_version_info: from.version,
            resources: from.resources.iter().map(|r| resource(r)).collect(),
            type_url: from.type_url.into_owned(),
            removed_resources: from.removed.iter().map(|n| n.to_string()).collect(),
            nonce: from.nonce,
            ..Default::default()
        }
    }

    fn message(from: Answer) -> DeltaDiscoveryResponse {
        DeltaDiscoveryResponse {
            type_url: from.type_url,
            resources: from
                .resources
                .into_iter()
                .map(|r| ResourcePb { resource: Some(r), ..Default::default() })
                .collect(),
            control_plane: from.control_plane.map(|identifier| ControlPlane { identifier }),
            ..Default::default()
        }
    }
}

/// The resource in the envelope that both variants carry; its bytes are shared with all that are sent it.
fn any(resource: &Resource) -> Any {
    Any { type_url: resource.kind.type_url().to_owned(), value: resource.body.clone() }
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
