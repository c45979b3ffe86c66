//! VirtualService (`networking.istio.io`): its `spec` as it is written.
//!
//! Numbers are wide and enumerations are texts, so that a value out of range is reported with its path and not
//! as something that cannot be read.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// Declares types whose fields have the names of Istio's API and may all be left out.
macro_rules! fields {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field_doc:meta])* $field:ident: $kind:ty,)* })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
            #[serde(rename_all = "camelCase", default)]
            pub struct $name { $($(#[$field_doc])* pub $field: $kind,)* }
        )*
    };
}

fields! {
    /// `spec` of a VirtualService.
    VirtualService {
        /// The hosts that it is for.
        hosts: Vec<String>,
        /// The gateways that it is bound to.
        gateways: Vec<String>,
        /// Rules for HTTP.
        http: Vec<HttpRoute>,
        /// Rules for TLS that is passed through.
        tls: Vec<TlsRoute>,
        /// Rules for TCP.
        tcp: Vec<TcpRoute>,
        /// The namespaces that see it.
        export_to: Vec<String>,
    }
    /// A rule for HTTP.
    HttpRoute {
        /// Its name.
        name: String,
        /// Where it applies.
        r#match: Vec<HttpMatch>,
        /// Where requests go.
        route: Vec<HttpDestination>,
        /// Where clients are sent.
        redirect: Option<Redirect>,
        /// What the proxy answers.
        direct_response: Option<DirectResponse>,
        /// The VirtualService that says more.
        delegate: Option<Delegate>,
        /// Changes of path and host.
        rewrite: Option<Rewrite>,
        /// The time that a request may take.
        timeout: Option<String>,
        /// Retries.
        retries: Option<Retries>,
        /// Faults.
        fault: Option<Fault>,
        /// Where a copy goes.
        mirror: Option<Destination>,
        /// Where copies go.
        mirrors: Vec<Mirror>,
        /// The share that is copied, in whole percent (older name).
        #[serde(alias = "mirror_percent")]
        mirror_percent: Option<i64>,
        /// The share that is copied.
        mirror_percentage: Option<Percent>,
        /// Cross-origin policy.
        cors_policy: Option<Cors>,
        /// Changes of headers.
        headers: Option<Headers>,
    }
    /// Conditions for HTTP.
    HttpMatch {
        /// Its name.
        name: String,
        /// The path.
        uri: Option<StringMatch>,
        /// The scheme.
        scheme: Option<StringMatch>,
        /// The method.
        method: Option<StringMatch>,
        /// The host.
        authority: Option<StringMatch>,
        /// Headers.
        headers: BTreeMap<String, Option<StringMatch>>,
        /// Headers that must not match.
        without_headers: BTreeMap<String, Option<StringMatch>>,
        /// Query parameters.
        query_params: BTreeMap<String, Option<StringMatch>>,
        /// Letters of the path match in either case.
        ignore_uri_case: bool,
        /// The port that was dialled.
        port: i64,
        /// Labels of the client.
        source_labels: BTreeMap<String, String>,
        /// The client's namespace.
        source_namespace: String,
        /// Gateways.
        gateways: Vec<String>,
        /// The prefix of statistics.
        stat_prefix: String,
    }
    /// How a text is compared: one of these.
    StringMatch {
        /// Equal.
        exact: Option<String>,
        /// Starts with.
        prefix: Option<String>,
        /// Matches.
        regex: Option<String>,
    }
    /// A service.
    Destination {
        /// Its host.
        host: String,
        /// A part of it.
        subset: String,
        /// A port of it.
        port: Option<PortSelector>,
    }
    /// A port by its number.
    PortSelector {
        /// The number.
        number: i64,
    }
    /// One of the places that a rule sends to.
    HttpDestination {
        /// The place.
        destination: Option<Destination>,
        /// The share.
        weight: i64,
        /// Changes of headers.
        headers: Option<Headers>,
    }
    /// Where clients are sent.
    Redirect {
        /// The path.
        uri: String,
        /// What takes the place of the matched prefix.
        prefix_rewrite: String,
        /// The host.
        authority: String,
        /// The port.
        port: Option<i64>,
        /// Where the port comes from.
        derive_port: Option<String>,
        /// The scheme.
        scheme: String,
        /// The status.
        redirect_code: i64,
    }
    /// What the proxy answers.
    DirectResponse {
        /// The status.
        status: i64,
        /// The body.
        body: Option<Body>,
    }
    /// A body: one of these.
    Body {
        /// Text.
        string: Option<String>,
        /// Bytes in base64.
        bytes: Option<String>,
    }
    /// Another VirtualService.
    Delegate {
        /// Its name.
        name: String,
        /// Its namespace.
        namespace: String,
    }
    /// Changes of path and host.
    Rewrite {
        /// The path or prefix.
        uri: String,
        /// The host.
        authority: String,
        /// A pattern in the path.
        uri_regex_rewrite: Option<RegexRewrite>,
    }
    /// A pattern and what takes its place.
    RegexRewrite {
        /// The pattern.
        r#match: String,
        /// What takes its place.
        rewrite: String,
    }
    /// Retries.
    Retries {
        /// How many.
        attempts: i64,
        /// The time that one may take.
        per_try_timeout: Option<String>,
        /// When.
        retry_on: String,
        /// Whether other localities are tried.
        retry_remote_localities: Option<bool>,
        /// Whether hosts that were tried are left out.
        retry_ignore_previous_hosts: Option<bool>,
        /// The wait before the first.
        backoff: Option<String>,
    }
    /// Faults.
    Fault {
        /// A delay.
        delay: Option<Delay>,
        /// A refusal.
        abort: Option<Abort>,
    }
    /// A delay.
    Delay {
        /// The share in whole percent (older name).
        percent: i64,
        /// The share.
        percentage: Option<Percent>,
        /// How long.
        fixed_delay: Option<String>,
        /// How long on average; Istio never made it work.
        exponential_delay: Option<String>,
    }
    /// A refusal: one of the three statuses.
    Abort {
        /// HTTP.
        http_status: Option<i64>,
        /// gRPC, by name.
        grpc_status: Option<String>,
        /// HTTP/2; Istio never made it work.
        http2_error: Option<String>,
        /// The share.
        percentage: Option<Percent>,
    }
    /// A share in percent.
    Percent {
        /// The number.
        value: f64,
    }
    /// A place that copies go to.
    Mirror {
        /// The place.
        destination: Option<Destination>,
        /// The share.
        percentage: Option<Percent>,
    }
    /// Cross-origin policy.
    Cors {
        /// Origins as they are (older name).
        allow_origin: Vec<String>,
        /// Origins.
        allow_origins: Vec<StringMatch>,
        /// Methods.
        allow_methods: Vec<String>,
        /// Request headers.
        allow_headers: Vec<String>,
        /// Response headers that scripts may read.
        expose_headers: Vec<String>,
        /// How long an answer holds.
        max_age: Option<String>,
        /// Whether credentials are allowed.
        allow_credentials: Option<bool>,
        /// What happens to preflights from other origins.
        unmatched_preflights: String,
    }
    /// Changes of headers.
    Headers {
        /// Of the request.
        request: Option<HeaderOperations>,
        /// Of the response.
        response: Option<HeaderOperations>,
    }
    /// Changes of the headers of one message.
    HeaderOperations {
        /// Headers that replace those of the same name.
        set: BTreeMap<String, String>,
        /// Headers beside those of the same name.
        add: BTreeMap<String, String>,
        /// Headers taken away.
        remove: Vec<String>,
    }
    /// A rule for TLS that is passed through.
    TlsRoute {
        /// Where it applies.
        r#match: Vec<TlsMatch>,
        /// Where connections go.
        route: Vec<L4Destination>,
    }
    /// Conditions for TLS.
    TlsMatch {
        /// The names that the client asks for.
        sni_hosts: Vec<String>,
        /// Where the connection was going.
        destination_subnets: Vec<String>,
        /// The port that was dialled.
        port: i64,
        /// Labels of the client.
        source_labels: BTreeMap<String, String>,
        /// Gateways.
        gateways: Vec<String>,
        /// The client's namespace.
        source_namespace: String,
    }
    /// A rule for TCP.
    TcpRoute {
        /// Where it applies.
        r#match: Vec<TcpMatch>,
        /// Where connections go.
        route: Vec<L4Destination>,
    }
    /// Conditions for TCP.
    TcpMatch {
        /// Where the connection was going.
        destination_subnets: Vec<String>,
        /// The port that was dialled.
        port: i64,
        /// Where the connection comes from; Istio never made it work.
        source_subnet: String,
        /// Labels of the client.
        source_labels: BTreeMap<String, String>,
        /// Gateways.
        gateways: Vec<String>,
        /// The client's namespace.
        source_namespace: String,
    }
    /// One of the places that connections go to.
    L4Destination {
        /// The place.
        destination: Option<Destination>,
        /// The share.
        weight: i64,
    }
}
