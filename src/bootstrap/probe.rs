//! Probes of an application that Envoy asks itself: requests are passed on, with the path and headers of the probe; for
//! connections and gRPC Envoy looks each second how the application is, and answers with what it found last.

use super::{TYPES, address};
use serde_json::{Value, json};

/// Connections from here are not captured.
const FROM: [&str; 2] = ["127.0.0.6", "::6"];
/// How often Envoy looks by itself.
const INTERVAL: &str = "1s";

/// The numbers by which a filter knows how a cluster is: they must be counted.
pub(super) const COUNTED: &str = "cluster\\./app-(health|lifecycle)/.*\\.membership_.*";

/// What a probe takes.
#[derive(Debug)]
pub(super) struct Probe {
    pub(super) cluster: Value,
    /// Where requests are passed on.
    pub(super) route: Option<Value>,
    /// What answers them otherwise.
    pub(super) filter: Option<Value>,
}

/// The probe of a path, of an application at this address.
pub(super) fn probe(path: &str, prober: &Value, at: &str) -> Probe {
    let timeout = format!("{}s", prober["timeoutSeconds"].as_u64().unwrap_or(1).max(1));
    let action = ["httpGet", "tcpSocket", "grpc"].into_iter().find(|kind| prober[*kind].is_object());
    let kind = action.unwrap_or_default();
    let action = &prober[kind];
    let own = action["host"].as_str().filter(|host| !host.is_empty());
    let port = action["port"].as_u64().and_then(|port| u16::try_from(port).ok()).unwrap_or_default();
    let by_name = own.is_some_and(|host| host.parse::<std::net::IpAddr>().is_err());
    let mut cluster = json!({
        "name": path,
        "type": if by_name { "STRICT_DNS" } else { "STATIC" },
        "connect_timeout": timeout,
        "load_assignment": {"cluster_name": path, "endpoints": [{"lb_endpoints": [
            {"endpoint": {"address": address(own.unwrap_or(at), port)}},
        ]}]},
    });
    if own.is_none() {
        let [first, second] = FROM.map(|ip| address(ip, 0)["socket_address"].take());
        cluster["upstream_bind_config"] =
            json!({"source_address": first, "extra_source_addresses": [{"address": second}]});
    }
    if kind == "httpGet" {
        if action["scheme"].as_str().is_some_and(|scheme| scheme.eq_ignore_ascii_case("https")) {
            // As kubelet does: a probe asks whether somebody is there, not who.
            cluster["transport_socket"] = json!({"name": "envoy.transport_sockets.tls", "typed_config": {
                "@type": format!("{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext"),
            }});
        }
        return Probe { cluster, route: Some(passed_on(path, action, &timeout)), filter: None };
    }
    let mut check = json!({
        "timeout": timeout,
        "interval": INTERVAL,
        "no_traffic_interval": INTERVAL,
        "unhealthy_threshold": 1,
        "healthy_threshold": 1,
    });
    if kind == "grpc" {
        let service = action["service"].as_str().unwrap_or_default();
        // By itself Envoy would name the cluster, which is no authority.
        check["grpc_health_check"] = json!({"service_name": service, "authority": "localhost"});
        cluster["typed_extension_protocol_options"] = json!({"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": format!("{TYPES}.upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": {"http2_protocol_options": {}},
        }});
    } else {
        check["tcp_health_check"] = json!({});
    }
    cluster["health_checks"] = json!([check]);
    let filter = json!({"name": path, "typed_config": {
        "@type": format!("{TYPES}.filters.http.health_check.v3.HealthCheck"),
        "pass_through_mode": false,
        "cluster_min_healthy_percentages": {path: {"value": 100}},
        "headers": [{"name": ":path", "string_match": {"exact": path}}],
    }});
    Probe { cluster, route: None, filter: Some(filter) }
}

/// The route of requests for a path to what the probe asks for.
fn passed_on(path: &str, action: &Value, timeout: &str) -> Value {
    let asked = action["path"].as_str().unwrap_or_default();
    let asked = if asked.starts_with('/') { asked.to_owned() } else { format!("/{asked}") };
    let mut to = json!({"cluster": path, "prefix_rewrite": asked, "timeout": timeout});
    let mut headers = Vec::new();
    for header in action["httpHeaders"].as_array().into_iter().flatten() {
        let (Some(name), Some(value)) = (header["name"].as_str(), header["value"].as_str()) else { continue };
        if name.eq_ignore_ascii_case("host") {
            to["host_rewrite_literal"] = value.into();
        } else {
            // What looks like a command of Envoy is meant as it stands.
            let value = value.replace('%', "%%");
            headers
                .push(json!({"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}));
        }
    }
    let mut route = json!({"match": {"path": path}, "route": to});
    if !headers.is_empty() {
        route["request_headers_to_add"] = headers.into();
    }
    route
}
