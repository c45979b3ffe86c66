//! HTTP filters, in the order in which requests pass them.

use super::{
    ads,
    dynamic_dns::Cache,
    tls::{ALPN, METADATA},
};
use crate::pb::{
    self,
    envoy::config::core::v3::{
        DataSource, SubstitutionFormatString, data_source::Specifier, substitution_format_string::Format,
    },
    envoy::extensions::filters::{
        common::set_filter_state::v3::{FilterStateValue, filter_state_value, filter_state_value::SharedWithUpstream},
        http::{
            cors::v3::Cors,
            fault::v3::HttpFault,
            grpc_stats::v3::{FilterConfig, filter_config::PerMethodStatSpecifier},
            grpc_web::v3::GrpcWeb,
            on_demand::v3::{OnDemand, OnDemandCds},
            router::v3::Router,
            set_filter_state::v3::Config as SetFilterState,
        },
        network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
    },
};
use prost::Name;

/// The most milliseconds that a request or connection waits for its cluster.
pub(super) const FETCH: u64 = 5000;

/// What of the filters of a connection manager differs from one to another.
pub(super) struct Choice<'a> {
    /// Requests of gRPC-Web become those of gRPC.
    pub(super) grpc_web: bool,
    /// Names that are resolved when they are asked for.
    pub(super) dynamic: &'a [Cache],
    /// Envoy's own headers for finding faults are left out.
    pub(super) quiet: bool,
    /// The servers of the mesh are told that a connection holds requests, where the cluster does not know it: it has
    /// the application protocols to offer in its metadata.
    pub(super) announce: bool,
    /// Requests wait for their virtual host and their cluster to be fetched.
    pub(super) on_demand: bool,
}

/// The filters of a connection manager. Faults and cross-origin policies are configured by routes; the filters
/// only have to be there.
pub(super) fn filters(choice: &Choice<'_>) -> Vec<HttpFilter> {
    let stats = FilterConfig {
        emit_filter_state: true,
        per_method_stat_specifier: Some(PerMethodStatSpecifier::StatsForAllMethods(pb::google::protobuf::BoolValue {
            value: false,
        })),
        ..Default::default()
    };
    // Once a virtual host has come the request is begun anew, so nothing may have been done with it before.
    let fetch = choice.on_demand.then(|| {
        let clusters = OnDemandCds { source: Some(ads()), timeout: Some(pb::millis(FETCH)), ..Default::default() };
        filter("envoy.filters.http.on_demand", &OnDemand { odcds: Some(clusters) })
    });
    let web = choice.grpc_web.then(|| filter("envoy.filters.http.grpc_web", &GrpcWeb {}));
    let dynamic = choice.dynamic.iter().map(|cache| filter("envoy.filters.http.dynamic_forward_proxy", &cache.http()));
    let first = [
        filter("envoy.filters.http.grpc_stats", &stats),
        filter("envoy.filters.http.fault", &HttpFault::default()),
        filter("envoy.filters.http.cors", &Cors {}),
    ];
    let announced = choice.announce.then(|| filter("envoy.filters.http.set_filter_state", &announcement()));
    let router =
        filter("envoy.filters.http.router", &Router { suppress_envoy_headers: choice.quiet, ..Default::default() });
    fetch.into_iter().chain(web).chain(first).chain(announced).chain(dynamic).chain([router]).collect()
}

/// Offers what the cluster's metadata says, and where it says nothing what the cluster itself does.
fn announcement() -> SetFilterState {
    let text = |text: String| DataSource { specifier: Some(Specifier::InlineString(text)), ..Default::default() };
    let format = SubstitutionFormatString {
        omit_empty_values: true,
        format: Some(Format::TextFormatSource(text(format!("%METADATA(CLUSTER:{METADATA}:{ALPN})%")))),
        ..Default::default()
    };
    SetFilterState {
        on_request_headers: vec![FilterStateValue {
            key: Some(filter_state_value::Key::ObjectKey("envoy.network.application_protocols".into())),
            value: Some(filter_state_value::Value::FormatString(format)),
            shared_with_upstream: SharedWithUpstream::Once.into(),
            skip_if_empty: true,
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn filter(name: &str, config: &impl Name) -> HttpFilter {
    HttpFilter { name: name.into(), config_type: Some(ConfigType::TypedConfig(pb::any(config))), ..Default::default() }
}
