//! ProxyConfig: as a part of the mesh's settings, of a node and of an annotation, and as a kind of its own
//! (Istio: `mesh/v1alpha1/proxy.proto` and `networking/v1beta1/proxy_config.proto`).

use super::{
    Context,
    raw::{meta, typed, typed_spec},
    value::Findings,
    yaml,
};
use crate::{
    api::proxy_config::{self as api, Forwarded},
    id::{Kind, ObjectRef},
    model::{
        CertificateDetails, ClientCertificate, ConnectionSettings, EscapedSlashes, ProxyConfig, ProxyHeaders,
        ServerHeader, Topology, Underscores,
    },
    problem::{FieldPath, Problem},
};
use serde_json::Value;

/// The smallest window of HTTP/2, and the largest number that it has.
const WINDOW: (u32, u32) = (65_535, i32::MAX as u32);

/// Reads what is at `path` of an object.
pub(super) fn proxy_config(found: &mut Findings<'_>, path: &FieldPath, value: &Value) -> ProxyConfig {
    let mut value = value.clone();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, value| !value.is_null() && !api::OF_STARTERS.contains(&name.as_str()));
    }
    let (config, problems) = typed::<api::ProxyConfig>(found.object(), path, &value);
    found.extend(problems);
    let Some(config) = config else { return ProxyConfig::default() };
    ProxyConfig {
        topology: config.gateway_topology.as_ref().map(topology),
        headers: config.proxy_headers.as_ref().map(|h| headers(found, &path.field("proxyHeaders"), h)),
        connections: config
            .connection_settings
            .as_ref()
            .map(|c| connections(found, &path.field("connectionSettings"), c)),
    }
}

/// Reads what a node says of itself: what is wrong there counts as not said.
pub(super) fn of_node(value: &Value) -> ProxyConfig {
    let object = ObjectRef::new(Kind::named("Node"), "", "");
    let mut found = Findings::new(&object, Vec::new());
    proxy_config(&mut found, &FieldPath::default(), &whole(value))
}

/// Reads the annotation of a workload, which is YAML.
pub(super) fn of_annotation(text: &str) -> ProxyConfig {
    yaml::value(text).map(|value| of_node(&value)).unwrap_or_default()
}

/// The same with whole numbers as such: those of a protobuf `Struct` have fractions.
fn whole(value: &Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64().filter(|n| n.fract() == 0.0 && n.abs() < 1e15) {
            Some(n) => Value::from(n as i64),
            None => value.clone(),
        },
        Value::Array(values) => values.iter().map(whole).collect(),
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), whole(value))).collect(),
        other => other.clone(),
    }
}

fn topology(config: &api::Topology) -> Topology {
    Topology {
        trusted_proxies: config.num_trusted_proxies,
        client_certificate: forwarded(config.forward_client_cert_details),
        proxy_protocol: config.proxy_protocol.as_ref().is_some_and(Value::is_object),
    }
}

fn forwarded(how: Forwarded) -> Option<ClientCertificate> {
    match how {
        Forwarded::Undefined => None,
        Forwarded::Sanitize => Some(ClientCertificate::Sanitize),
        Forwarded::ForwardOnly => Some(ClientCertificate::ForwardOnly),
        Forwarded::AppendForward => Some(ClientCertificate::AppendForward),
        Forwarded::SanitizeSet => Some(ClientCertificate::SanitizeSet),
        Forwarded::AlwaysForwardOnly => Some(ClientCertificate::AlwaysForwardOnly),
    }
}

fn headers(found: &mut Findings<'_>, path: &FieldPath, config: &api::ProxyHeaders) -> ProxyHeaders {
    let off = |switch: &Option<api::Switch>| switch.as_ref().is_some_and(|s| s.disabled == Some(true));
    let on = |switch: &Option<api::Switch>| switch.as_ref().is_some_and(|s| s.enabled == Some(true));
    let details = config.set_current_client_cert_details.as_ref();
    let server = match &config.server {
        Some(server) if server.disabled == Some(true) => ServerHeader::Unchanged,
        Some(server) if server.value.chars().any(|c| c.is_control()) => {
            found.error(
                &path.field("server").field("value"),
                "has a character that headers cannot have; write letters, digits and spaces",
            );
            ServerHeader::Proxy
        }
        Some(server) if !server.value.is_empty() => ServerHeader::Named(server.value.as_str().into()),
        _ => ServerHeader::Proxy,
    };
    ProxyHeaders {
        client_certificate: forwarded(config.forwarded_client_cert),
        certificate_details: CertificateDetails {
            subject: details.and_then(|d| d.subject),
            cert: details.and_then(|d| d.cert),
            chain: details.and_then(|d| d.chain),
            dns: details.and_then(|d| d.dns),
            uri: details.and_then(|d| d.uri),
        },
        server,
        without_request_id: off(&config.request_id),
        without_attempts: off(&config.attempt_count),
        without_debug: off(&config.envoy_debug_headers),
        preserve_case: config.preserve_http1_header_case == Some(true),
        forwarded_host: on(&config.x_forwarded_host),
        forwarded_port: on(&config.x_forwarded_port),
    }
}

fn connections(found: &mut Findings<'_>, path: &FieldPath, config: &api::ConnectionSettings) -> ConnectionSettings {
    let at = |name: &str| path.field(name);
    let mut number = |name: &str, number: Option<i64>, (least, most): (u32, u32)| {
        let number = number?;
        let read = u32::try_from(number).ok().filter(|n| (least..=most).contains(n));
        if read.is_none() {
            found.error(&at(name), format!("{number} is out of range; write a number from {least} to {most}"));
        }
        read
    };
    let buffer_limit = number(
        "listenerPerConnectionBufferLimitBytes",
        config.listener_per_connection_buffer_limit_bytes,
        (0, u32::MAX),
    );
    let streams = number("httpMaxConcurrentStreams", config.http_max_concurrent_streams, (1, WINDOW.1));
    let stream_window = number("http2InitialStreamWindowSize", config.http2_initial_stream_window_size, WINDOW);
    let connection_window =
        number("http2InitialConnectionWindowSize", config.http2_initial_connection_window_size, WINDOW);
    let mut time = |name: &str, text: &Option<String>| found.duration(&at(name), text.as_ref());
    ConnectionSettings {
        edge: config.profile == api::Profile::Edge,
        buffer_limit,
        idle_timeout: time("httpIdleTimeout", &config.http_idle_timeout),
        max_connection_duration: time("httpMaxConnectionDuration", &config.http_max_connection_duration),
        max_stream_duration: time("httpMaxStreamDuration", &config.http_max_stream_duration),
        stream_idle_timeout: time("httpStreamIdleTimeout", &config.http_stream_idle_timeout),
        request_timeout: time("httpRequestTimeout", &config.http_request_timeout),
        request_headers_timeout: time("httpRequestHeadersTimeout", &config.http_request_headers_timeout),
        drain_timeout: time("httpDrainTimeout", &config.http_drain_timeout),
        max_concurrent_streams: streams,
        stream_window,
        connection_window,
        underscores: match config.http_headers_with_underscores_action {
            api::Underscores::Unset => None,
            api::Underscores::Allow => Some(Underscores::Allow),
            api::Underscores::Reject => Some(Underscores::Reject),
            api::Underscores::Drop => Some(Underscores::Drop),
        },
        merge_slashes: config.http_merge_slashes,
        escaped_slashes: match config.http_path_with_escaped_slashes_action {
            api::EscapedSlashes::PathWithEscapedSlashesUnspecified => None,
            api::EscapedSlashes::KeepUnchanged => Some(EscapedSlashes::Keep),
            api::EscapedSlashes::RejectRequest => Some(EscapedSlashes::Reject),
            api::EscapedSlashes::UnescapeAndRedirect => Some(EscapedSlashes::UnescapeAndRedirect),
            api::EscapedSlashes::UnescapeAndForward => Some(EscapedSlashes::UnescapeAndForward),
        },
    }
}

/// Checks an object of the kind ProxyConfig. What it says is for those who start proxies, so nothing that is served
/// depends on it.
pub(super) fn object(raw: &Value, _: &Context) -> Vec<Problem> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed_spec::<api::Object>(&meta.object, raw);
    let Some(spec) = spec else { return problems };
    let mut found = Findings::new(&meta.object, problems);
    if let Some(selector) = &spec.selector {
        found.labels(&path.field("selector").field("matchLabels"), &selector.match_labels);
    }
    if spec.concurrency.is_some_and(|n| !(0..=1024).contains(&n)) {
        found.error(&path.field("concurrency"), "is no number of threads; write one from 1, or 0 for one per CPU");
    }
    for name in spec.environment_variables.keys() {
        let starts = |c: char| c.is_ascii_alphabetic() || c == '_';
        if !name.starts_with(starts) || !name.chars().all(|c| starts(c) || c.is_ascii_digit()) {
            let message = format!("{name:?} is no name of a variable; write letters, digits and underscores");
            found.error(&path.field("environmentVariables").key(name), message);
        }
    }
    if spec.image.as_ref().is_some_and(|i| i.image_type.is_empty()) {
        found.warn(&path.field("image").field("imageType"), "is empty and has no effect; name a variant");
    }
    found.finish(()).1
}
