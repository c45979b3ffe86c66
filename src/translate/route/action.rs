//! What a route does: send a request to one place or by weight to several, send the client elsewhere, answer.

use super::{
    fault::fraction,
    hash, header, matcher, retry,
    rule::{Making, Place},
};
use crate::{
    model::{Body, Destination, DirectResponse, Mirror, Redirect, RedirectPort},
    pb::{
        self,
        envoy::{
            config::{
                core::v3::{DataSource, RuntimeFractionalPercent, data_source::Specifier},
                route::v3::{
                    DirectResponseAction, RedirectAction, RouteAction, WeightedCluster,
                    redirect_action::{PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier},
                    route::Action,
                    route_action::{ClusterSpecifier, HostRewriteSpecifier, RequestMirrorPolicy},
                    weighted_cluster::{ClusterWeight, cluster_weight},
                },
            },
            r#type::matcher::v3::RegexMatchAndSubstitute,
        },
    },
};

/// Sends to a cluster, for as long as it takes, or for `timeout` milliseconds.
#[allow(
    deprecated,
    reason = "the field that follows max_grpc_timeout cannot say that grpc-timeout counts up to the timeout"
)]
pub(super) fn to_cluster(cluster: ClusterSpecifier, timeout: Option<u64>) -> RouteAction {
    let timeout = Some(pb::millis(timeout.unwrap_or_default()));
    RouteAction { cluster_specifier: Some(cluster), timeout, max_grpc_timeout: timeout, ..Default::default() }
}

/// Sends to the destinations of a rule.
pub(super) fn send(making: &Making<'_>, destinations: &[Destination]) -> RouteAction {
    let (rule, places) = (making.rule, &making.chosen.places);
    let rewrite = rule.rewrite.as_ref();
    let host = rewrite.and_then(|r| r.authority.as_ref()).or(rule.headers.authority.as_ref());
    let (cluster, host) = match (destinations, &places[..]) {
        ([only], [place]) => (ClusterSpecifier::Cluster(place.cluster()), host.or(only.headers.authority.as_ref())),
        _ => (ClusterSpecifier::WeightedClusters(weighted(destinations, places)), host),
    };
    let hashes = destinations.iter().zip(places).filter(|(d, _)| destinations.len() == 1 || d.weight > 0);
    let hashed = matches!(&places[..], [Place { hash: Some(_), .. }]);
    let retries = rule.retries.as_ref().or(making.input.retry.as_ref());
    RouteAction {
        append_x_forwarded_host: rewrite.is_some() && making.input.forwarded_host,
        host_rewrite_specifier: host.map(|h| HostRewriteSpecifier::HostRewriteLiteral(h.to_string())),
        prefix_rewrite: rewrite.and_then(|r| r.uri.as_ref()).map(ToString::to_string).unwrap_or_default(),
        regex_rewrite: rewrite.and_then(|r| r.uri_regex.as_ref()).map(|(pattern, to)| RegexMatchAndSubstitute {
            pattern: Some(matcher::regex(pattern)),
            substitution: to.to_string(),
        }),
        hash_policy: hashes.filter_map(|(_, p)| p.hash.as_ref()).map(hash::policy).collect(),
        retry_policy: retry::policy(retries, hashed),
        request_mirror_policies: rule
            .mirrors
            .iter()
            .zip(&making.chosen.mirrors)
            .map(|(mirror, place)| copy(mirror, place, making.input.keep_shadow_host))
            .collect(),
        ..to_cluster(cluster, rule.timeout)
    }
}

fn weighted(destinations: &[Destination], places: &[Place]) -> WeightedCluster {
    let clusters = destinations.iter().zip(places).filter(|(d, _)| d.weight > 0).map(|(destination, place)| {
        let changes = &destination.headers;
        ClusterWeight {
            name: place.cluster(),
            weight: pb::uint32(destination.weight),
            request_headers_to_add: header::added(&changes.request).collect(),
            request_headers_to_remove: header::removed(&changes.request).collect(),
            response_headers_to_add: header::added(&changes.response).collect(),
            response_headers_to_remove: header::removed(&changes.response).collect(),
            host_rewrite_specifier: changes
                .authority
                .as_ref()
                .map(|h| cluster_weight::HostRewriteSpecifier::HostRewriteLiteral(h.to_string())),
            ..Default::default()
        }
    });
    WeightedCluster { clusters: clusters.collect(), ..Default::default() }
}

fn copy(mirror: &Mirror, place: &Place, keep_host: bool) -> RequestMirrorPolicy {
    RequestMirrorPolicy {
        cluster: place.cluster(),
        runtime_fraction: Some(RuntimeFractionalPercent {
            default_value: Some(fraction(mirror.share)),
            ..Default::default()
        }),
        trace_sampled: pb::boolean(false),
        disable_shadow_host_suffix_append: keep_host,
        ..Default::default()
    }
}

/// Sends the client elsewhere; `port` is the one that it dialled, with `tls` or without.
pub(super) fn redirect(redirect: &Redirect, port: u16, tls: bool) -> Action {
    let text = |t: &Option<std::sync::Arc<str>>| t.as_deref().unwrap_or_default().to_owned();
    let target = match redirect.port {
        RedirectPort::Default => 0,
        RedirectPort::Number(number) => number,
        RedirectPort::FromRequest => port,
    };
    // The port that the scheme means anyway is not written out.
    let implied = match redirect.scheme.as_deref().unwrap_or(if tls { "https" } else { "http" }) {
        "https" => 443,
        _ => 80,
    };
    Action::Redirect(RedirectAction {
        host_redirect: text(&redirect.authority),
        port_redirect: if target == implied { 0 } else { target.into() },
        scheme_rewrite_specifier: redirect
            .scheme
            .as_ref()
            .map(|s| SchemeRewriteSpecifier::SchemeRedirect(s.to_string())),
        path_rewrite_specifier: Some(match &redirect.prefix {
            Some(prefix) => PathRewriteSpecifier::PrefixRewrite(prefix.to_string()),
            None => PathRewriteSpecifier::PathRedirect(text(&redirect.uri)),
        }),
        response_code: match redirect.code {
            302 => RedirectResponseCode::Found,
            303 => RedirectResponseCode::SeeOther,
            307 => RedirectResponseCode::TemporaryRedirect,
            308 => RedirectResponseCode::PermanentRedirect,
            _ => RedirectResponseCode::MovedPermanently,
        }
        .into(),
        ..Default::default()
    })
}

/// Answers.
pub(super) fn respond(response: &DirectResponse) -> Action {
    let body = response.body.as_ref().map(|body| match body {
        Body::Text(text) => Specifier::InlineString(text.to_string()),
        Body::Bytes(bytes) => Specifier::InlineBytes(bytes.to_vec().into()),
    });
    Action::DirectResponse(DirectResponseAction {
        status: response.status.into(),
        body: body.map(|specifier| DataSource { specifier: Some(specifier), ..Default::default() }),
        ..Default::default()
    })
}
