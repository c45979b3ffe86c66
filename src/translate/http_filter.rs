//! HTTP filters, in the order in which requests pass them.

use crate::pb::{
    self,
    envoy::extensions::filters::{
        http::{
            cors::v3::Cors,
            fault::v3::HttpFault,
            grpc_stats::v3::{FilterConfig, filter_config::PerMethodStatSpecifier},
            grpc_web::v3::GrpcWeb,
            router::v3::Router,
        },
        network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
    },
};
use prost::Name;

/// The filters of a connection manager. Faults and cross-origin policies are configured by routes; the filters
/// only have to be there.
pub(super) fn filters(grpc_web: bool) -> Vec<HttpFilter> {
    let stats = FilterConfig {
        emit_filter_state: true,
        per_method_stat_specifier: Some(PerMethodStatSpecifier::StatsForAllMethods(pb::google::protobuf::BoolValue {
            value: false,
        })),
        ..Default::default()
    };
    let web = grpc_web.then(|| filter("envoy.filters.http.grpc_web", &GrpcWeb {}));
    let rest = [
        filter("envoy.filters.http.grpc_stats", &stats),
        filter("envoy.filters.http.fault", &HttpFault::default()),
        filter("envoy.filters.http.cors", &Cors {}),
        filter("envoy.filters.http.router", &Router::default()),
    ];
    web.into_iter().chain(rest).collect()
}

fn filter(name: &str, config: &impl Name) -> HttpFilter {
    HttpFilter { name: name.into(), config_type: Some(ConfigType::TypedConfig(pb::any(config))), ..Default::default() }
}
