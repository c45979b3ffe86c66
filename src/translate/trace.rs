//! Tracing: which requests are traced, and what a proxy says of itself in spans.

use crate::pb::{
    envoy::{
        extensions::filters::network::http_connection_manager::v3::http_connection_manager::Tracing as TracingPb,
        r#type::{
            metadata::v3::{
                MetadataKey, MetadataKind,
                metadata_key::{PathSegment, path_segment::Segment},
                metadata_kind::{Kind, Request},
            },
            v3::Percent,
        },
    },
    span::{
        CustomTag,
        custom_tag::{Literal, Metadata, Type},
    },
};
use std::sync::Arc;

/// Tags whose values the authorization filter leaves when a policy is only tried out.
const DRY_RUN: [(&str, &str); 4] = [
    ("istio.authorization.dry_run.allow_policy.name", "istio_dry_run_allow_shadow_effective_policy_id"),
    ("istio.authorization.dry_run.allow_policy.result", "istio_dry_run_allow_shadow_engine_result"),
    ("istio.authorization.dry_run.deny_policy.name", "istio_dry_run_deny_shadow_effective_policy_id"),
    ("istio.authorization.dry_run.deny_policy.result", "istio_dry_run_deny_shadow_engine_result"),
];

/// Which requests are traced, and who traces them.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Tracing {
    /// The share of requests, in percent × 100.
    pub(super) sampling: u32,
    /// The revision of the application.
    pub(super) canonical_revision: Arc<str>,
    /// The application.
    pub(super) canonical_service: Arc<str>,
    /// The cluster that the proxy is in.
    pub(super) cluster: Arc<str>,
    /// The mesh that the proxy is in.
    pub(super) mesh: Arc<str>,
    /// The namespace that the proxy is in.
    pub(super) namespace: Arc<str>,
}

impl Tracing {
    /// The settings as a connection manager takes them.
    pub(super) fn render(&self) -> TracingPb {
        let literals = [
            ("istio.canonical_revision", &self.canonical_revision),
            ("istio.canonical_service", &self.canonical_service),
            ("istio.cluster_id", &self.cluster),
            ("istio.mesh_id", &self.mesh),
            ("istio.namespace", &self.namespace),
        ];
        let literals = literals.into_iter().filter(|(_, value)| !value.is_empty());
        let literals = literals.map(|(tag, value)| literal(tag, value));
        TracingPb {
            client_sampling: Some(Percent { value: 100.0 }),
            random_sampling: Some(Percent { value: f64::from(self.sampling) / 100.0 }),
            overall_sampling: Some(Percent { value: 100.0 }),
            custom_tags: DRY_RUN.iter().map(|(tag, key)| dry_run(tag, key)).chain(literals).collect(),
            ..Default::default()
        }
    }
}

fn literal(tag: &str, value: &str) -> CustomTag {
    CustomTag { tag: tag.into(), r#type: Some(Type::Literal(Literal { value: value.into() })) }
}

fn dry_run(tag: &str, key: &str) -> CustomTag {
    let metadata = Metadata {
        kind: Some(MetadataKind { kind: Some(Kind::Request(Request {})) }),
        metadata_key: Some(MetadataKey {
            key: "envoy.filters.http.rbac".into(),
            path: vec![PathSegment { segment: Some(Segment::Key(key.into())) }],
        }),
        ..Default::default()
    };
    CustomTag { tag: tag.into(), r#type: Some(Type::Metadata(metadata)) }
}
