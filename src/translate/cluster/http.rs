//! How a cluster speaks HTTP.

use crate::{
    model::{ConnectionPool, Protocol},
    pb::{
        self,
        envoy::{
            config::{
                cluster::v3::Cluster,
                common::matcher::v3::{
                    HttpHeadersMatch, MatchPredicate,
                    match_predicate::{MatchSet, Rule},
                },
                core::v3::{
                    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions,
                    KeepaliveSettings, UpstreamHttpProtocolOptions,
                },
                route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
            },
            extensions::upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, OutlierDetection, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                    explicit_http_config::ProtocolConfig,
                },
            },
            r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
        },
    },
};

use crate::translate::connection_manager::kept_case;

/// The key under which a cluster holds these options.
const OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

/// How a cluster speaks HTTP; nothing at all where it is Envoy's default.
#[derive(Default)]
pub(in crate::translate) struct Options {
    version: Version,
    /// The names of HTTP/1.1 headers keep their case.
    keep_case: bool,
    common: Option<CommonOptions>,
    /// The answers that count as errors; empty for every 5xx.
    pub(in crate::translate) error_codes: Vec<u32>,
    /// The name in the TLS handshake is the request's host.
    pub(in crate::translate) auto_sni: bool,
    /// The server's certificate must be for the request's host.
    pub(in crate::translate) auto_san: bool,
}

#[derive(Default)]
enum Version {
    /// HTTP/1.1, where anything else is to be said.
    #[default]
    Default,
    Http2(Box<Http2ProtocolOptions>),
    /// The version that the client speaks.
    Downstream,
}

impl Options {
    /// What a port's protocol and its limits make of it.
    pub(in crate::translate) fn of(
        protocol: Protocol,
        pool: &ConnectionPool,
        h2_upgrade: bool,
        keep_case: bool,
    ) -> Self {
        let upgrade = match pool.h2_upgrade {
            _ if pool.use_client_protocol => false,
            Some(own) => own,
            None => h2_upgrade && protocol.is_http(),
        };
        let version = match protocol {
            _ if pool.use_client_protocol => Version::Downstream,
            p if p.is_http2() => Version::Http2(Box::new(http2(pool))),
            Protocol::Auto => Version::Downstream,
            _ if upgrade => Version::Http2(Box::new(http2(pool))),
            _ => Version::Default,
        };
        let keep_case = keep_case && (protocol.is_http() || protocol == Protocol::Auto);
        Self { version, keep_case, common: common(pool), ..Self::default() }
    }

    /// What a cluster speaks that passes anything on: the client's version, and connections end that are idle for so many
    /// milliseconds.
    pub(in crate::translate) fn passthrough(idle_timeout: u64, keep_case: bool) -> Self {
        let common = CommonOptions { idle_timeout: Some(pb::millis(idle_timeout)), ..Default::default() };
        Self { version: Version::Downstream, keep_case, common: Some(common), ..Self::default() }
    }

    /// Whether requests are sent by HTTP/2 alone.
    pub(in crate::translate) fn is_http2(&self) -> bool {
        matches!(self.version, Version::Http2(_))
    }

    /// Writes them into a cluster, unless nothing differs from Envoy's default.
    pub(in crate::translate) fn write(self, cluster: &mut Cluster) {
        if let Some(options) = self.message() {
            cluster.typed_extension_protocol_options.insert(OPTIONS.to_owned(), pb::any(&options));
        }
    }

    fn message(self) -> Option<HttpProtocolOptions> {
        let says_nothing =
            !self.keep_case && self.common.is_none() && self.error_codes.is_empty() && !self.auto_sni && !self.auto_san;
        let explicit =
            |config| UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig { protocol_config: Some(config) });
        let version = match self.version {
            Version::Default if says_nothing => return None,
            Version::Default => explicit(ProtocolConfig::HttpProtocolOptions(http1(self.keep_case))),
            Version::Http2(options) => explicit(ProtocolConfig::Http2ProtocolOptions(*options)),
            Version::Downstream => downstream(self.keep_case),
        };
        Some(HttpProtocolOptions {
            common_http_protocol_options: self.common,
            upstream_http_protocol_options: (self.auto_sni || self.auto_san).then(|| UpstreamHttpProtocolOptions {
                auto_sni: self.auto_sni,
                auto_san_validation: self.auto_san,
                ..Default::default()
            }),
            outlier_detection: (!self.error_codes.is_empty())
                .then(|| OutlierDetection { error_matcher: Some(any_status(&self.error_codes)) }),
            upstream_protocol_options: Some(version),
            ..Default::default()
        })
    }
}

/// The version that the client speaks.
fn downstream(keep_case: bool) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(http1(keep_case)),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        ..Default::default()
    })
}

fn http1(keep_case: bool) -> Http1ProtocolOptions {
    Http1ProtocolOptions { header_key_format: keep_case.then(kept_case), ..Default::default() }
}

fn http2(pool: &ConnectionPool) -> Http2ProtocolOptions {
    Http2ProtocolOptions {
        max_concurrent_streams: pool.max_concurrent_streams.and_then(pb::uint32),
        connection_keepalive: pool.http2_keepalive.map(|(interval, timeout)| KeepaliveSettings {
            interval: Some(pb::millis(interval)),
            timeout: Some(pb::millis(timeout)),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// What holds for every version; also there, and empty, where something is said that only HTTP/2 has.
fn common(pool: &ConnectionPool) -> Option<CommonOptions> {
    let idle = pool.http_idle_timeout.or(pool.tcp_idle_timeout);
    let duration = pool.max_connection_duration;
    let requests = pool.max_requests_per_connection;
    let http2 = pool.max_concurrent_streams.is_some() || pool.http2_keepalive.is_some();
    (idle.is_some() || duration.is_some() || requests.is_some() || http2).then(|| CommonOptions {
        idle_timeout: idle.map(pb::millis),
        max_connection_duration: duration.map(pb::millis),
        max_requests_per_connection: requests.and_then(pb::uint32),
        ..Default::default()
    })
}

/// Matches answers of any of these statuses.
fn any_status(codes: &[u32]) -> MatchPredicate {
    let one = |code: &u32| MatchPredicate {
        rule: Some(Rule::HttpResponseHeadersMatch(HttpHeadersMatch {
            headers: vec![HeaderMatcher {
                name: ":status".to_owned(),
                header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(StringMatcher {
                    match_pattern: Some(MatchPattern::Exact(code.to_string())),
                    ..Default::default()
                })),
                ..Default::default()
            }],
        })),
    };
    match codes {
        [code] => one(code),
        codes => MatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules: codes.iter().map(one).collect() })) },
    }
}
