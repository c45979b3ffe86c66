//! Connection pools and outlier detection.

use crate::{
    api::destination_rule as api,
    model::{ConnectionPool, Keepalive, OutlierDetection},
    parse::value::Findings,
    problem::FieldPath,
};

/// Reads `connectionPool`.
pub(in crate::parse) fn pool(
    found: &mut Findings<'_>,
    path: &FieldPath,
    pool: Option<&api::ConnectionPool>,
) -> Option<ConnectionPool> {
    let pool = pool?;
    let mut out = ConnectionPool::default();
    if let Some(tcp) = &pool.tcp {
        tcp_pool(found, &path.field("tcp"), tcp, &mut out);
    }
    if let Some(http) = &pool.http {
        http_pool(found, &path.field("http"), http, &mut out);
    }
    if pool.tcp.is_none() && pool.http.is_none() {
        found.warn(path, "is empty and has no effect; set tcp or http below it, or leave it out");
    }
    Some(out)
}

fn tcp_pool(found: &mut Findings<'_>, path: &FieldPath, tcp: &api::TcpPool, out: &mut ConnectionPool) {
    out.max_connections = found.count(&path.field("maxConnections"), tcp.max_connections);
    out.connect_timeout = found.positive_duration(&path.field("connectTimeout"), tcp.connect_timeout.as_ref());
    out.max_connection_duration =
        found.positive_duration(&path.field("maxConnectionDuration"), tcp.max_connection_duration.as_ref());
    out.tcp_idle_timeout = found.duration(&path.field("idleTimeout"), tcp.idle_timeout.as_ref());
    out.keepalive = tcp.tcp_keepalive.as_ref().map(|k| keepalive(found, &path.field("tcpKeepalive"), k));
}

/// Reads `tcpKeepalive`; its times count in whole seconds.
pub(in crate::parse) fn keepalive(
    found: &mut Findings<'_>,
    path: &FieldPath,
    keepalive: &api::TcpKeepalive,
) -> Keepalive {
    let seconds = |millis: u64| u32::try_from(millis / 1000).unwrap_or(u32::MAX);
    Keepalive {
        probes: Some(keepalive.probes).filter(|n| *n > 0),
        time: found.positive_duration(&path.field("time"), keepalive.time.as_ref()).map(seconds),
        interval: found.positive_duration(&path.field("interval"), keepalive.interval.as_ref()).map(seconds),
    }
}

fn http_pool(found: &mut Findings<'_>, path: &FieldPath, http: &api::HttpPool, out: &mut ConnectionPool) {
    out.max_pending_requests = found.count(&path.field("http1MaxPendingRequests"), http.http1_max_pending_requests);
    out.max_requests = found.count(&path.field("http2MaxRequests"), http.http2_max_requests);
    out.max_requests_per_connection =
        found.count(&path.field("maxRequestsPerConnection"), http.max_requests_per_connection);
    out.max_retries = found.count(&path.field("maxRetries"), http.max_retries);
    out.http_idle_timeout = found.duration(&path.field("idleTimeout"), http.idle_timeout.as_ref());
    out.max_concurrent_streams = found.count(&path.field("maxConcurrentStreams"), http.max_concurrent_streams);
    out.use_client_protocol = http.use_client_protocol;
    out.h2_upgrade = match http.h2_upgrade_policy {
        api::H2UpgradePolicy::Default => None,
        api::H2UpgradePolicy::DoNotUpgrade => Some(false),
        api::H2UpgradePolicy::Upgrade => Some(true),
    };
    if out.h2_upgrade == Some(true) && http.use_client_protocol {
        found.error(
            &path.field("h2UpgradePolicy"),
            "is UPGRADE beside useClientProtocol, which keeps the client's protocol; leave one out",
        );
    }
    if let Some(keepalive) = &http.http2_keep_alive {
        let path = path.field("http2KeepAlive");
        let mut part = |name: &str, text: &Option<String>| {
            if text.is_none() {
                found.error(&path.field(name), "is missing; http2KeepAlive needs both interval and timeout");
            }
            found.positive_duration(&path.field(name), text.as_ref())
        };
        let (interval, timeout) = (part("interval", &keepalive.interval), part("timeout", &keepalive.timeout));
        out.http2_keepalive = interval.zip(timeout);
    }
}

/// Reads `outlierDetection`.
pub(in crate::parse) fn outlier(
    found: &mut Findings<'_>,
    path: &FieldPath,
    outlier: Option<&api::OutlierDetection>,
) -> Option<OutlierDetection> {
    let outlier = outlier?;
    if outlier.consecutive_errors != 0 {
        found.warn(
            &path.field("consecutiveErrors"),
            "no longer has an effect; write consecutive5xxErrors or consecutiveGatewayErrors",
        );
    }
    let local = outlier.consecutive_local_origin_failures.filter(|n| *n > 0);
    if local.is_some() && !outlier.split_external_local_origin_errors {
        found.error(
            &path.field("consecutiveLocalOriginFailures"),
            "counts only when splitExternalLocalOriginErrors is true; set that too, or leave this out",
        );
    }
    let codes = path.field("outlierDetectionHttpErrorCodes");
    for (at, code) in outlier.outlier_detection_http_error_codes.iter().enumerate() {
        if !(100..600).contains(code) {
            found.error(&codes.index(at), format!("{code} is not an HTTP status; write a number from 100 to 599"));
        }
    }
    Some(OutlierDetection {
        consecutive_5xx: outlier.consecutive_5xx_errors,
        consecutive_gateway_errors: outlier.consecutive_gateway_errors,
        split_local: outlier.split_external_local_origin_errors,
        consecutive_local: local,
        interval: found.positive_duration(&path.field("interval"), outlier.interval.as_ref()),
        base_ejection: found.positive_duration(&path.field("baseEjectionTime"), outlier.base_ejection_time.as_ref()),
        max_ejection_percent: Some(found.percent(&path.field("maxEjectionPercent"), outlier.max_ejection_percent))
            .filter(|n| *n > 0),
        min_health_percent: Some(found.percent(&path.field("minHealthPercent"), outlier.min_health_percent))
            .filter(|n| *n > 0),
        error_codes: outlier.outlier_detection_http_error_codes.clone(),
    })
}
