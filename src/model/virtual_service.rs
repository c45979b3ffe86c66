//! VirtualServices: which request goes where.

use super::{Created, ExportTo, Labels, ObjectKey};
use crate::id::{Host, Namespace, ObjectRef};
use ipnet::IpNet;
use std::sync::Arc;

/// A VirtualService with its names resolved.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct VirtualService {
    /// The object.
    pub source: ObjectRef,
    /// When it was made.
    pub created: Created,
    /// The hosts that it is for, fully qualified or wildcards.
    pub hosts: Vec<Host>,
    /// The gateways that it is bound to, as `namespace/name`; `mesh` for sidecars.
    pub gateways: Vec<Arc<str>>,
    /// Who sees it.
    pub export_to: ExportTo,
    /// The rules for HTTP, in the order written.
    pub http: Vec<HttpRule>,
    /// The rules for TLS that is passed through, in the order written.
    pub tls: Vec<ConnectionRule>,
    /// The rules for other connections, in the order written.
    pub tcp: Vec<ConnectionRule>,
}

impl VirtualService {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.source.namespace
    }

    /// The hosts that it sends to, or a copy; a host may come more than once.
    pub fn destinations(&self) -> impl Iterator<Item = &Host> {
        let http = self.http.iter().flat_map(|rule| {
            let routed = match &rule.action {
                HttpAction::Route(destinations) => destinations.as_slice(),
                _ => &[],
            };
            routed.iter().chain(rule.mirrors.iter().map(|m| &m.destination)).map(|d| &d.host)
        });
        http.chain(self.connections().flat_map(|rule| &rule.destinations).map(|d| &d.host))
    }

    /// The rules for connections, those for TLS first.
    pub fn connections(&self) -> impl Iterator<Item = &ConnectionRule> {
        self.tls.iter().chain(&self.tcp)
    }

    /// The keys of labels by which it tells its clients apart; a key may come more than once.
    pub fn client_labels(&self) -> impl Iterator<Item = &Arc<str>> {
        let http = self.http.iter().flat_map(|r| &r.matches).map(|m| &m.source_labels);
        let connections = self.connections().flat_map(|r| &r.matches).map(|m| &m.source_labels);
        http.chain(connections).flat_map(Labels::keys)
    }

    /// The VirtualServices that it delegates to.
    pub fn delegates(&self) -> impl Iterator<Item = &ObjectKey> {
        self.http.iter().filter_map(|rule| match &rule.action {
            HttpAction::Delegate(to) => Some(to),
            _ => None,
        })
    }

    /// What sorts it among others for the same host: the older first, then by name and namespace.
    pub fn rank(&self) -> (Created, &str, &str) {
        (self.created, &self.source.name, &self.source.namespace)
    }
}

/// One entry of `http`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct HttpRule {
    /// Its name; empty where it has none.
    pub name: Arc<str>,
    /// It applies where one of these matches; always where there is none.
    pub matches: Vec<HttpMatch>,
    /// What happens.
    pub action: HttpAction,
    /// Changes of path and host on the way.
    pub rewrite: Option<Rewrite>,
    /// How long the whole request may take, in milliseconds; `None` for without end.
    pub timeout: Option<u64>,
    /// Retries; `None` for the mesh's default.
    pub retries: Option<Retry>,
    /// Faults that are injected.
    pub fault: Option<Fault>,
    /// Copies of requests.
    pub mirrors: Vec<Mirror>,
    /// Cross-origin policy.
    pub cors: Option<Cors>,
    /// Changes of headers.
    pub headers: HeaderChanges,
}

/// One entry of `tls` or `tcp`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ConnectionRule {
    /// It applies where one of these matches; always where there is none.
    pub matches: Vec<ConnectionMatch>,
    /// Where connections go, by weight.
    pub destinations: Vec<Destination>,
}

/// Conditions on a connection that must all hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ConnectionMatch {
    /// The names that TLS clients ask for, in lower case; any of them. Empty in rules for TCP.
    pub names: Vec<Arc<str>>,
    /// Where the connection was going; anywhere where there is none.
    pub subnets: Vec<IpNet>,
    /// The port that was dialled.
    pub port: Option<u16>,
    /// Labels of the client's workload.
    pub source_labels: Labels,
    /// The client's namespace; empty for any.
    pub source_namespace: Arc<str>,
    /// The gateways it applies at; empty for all of the VirtualService's.
    pub gateways: Vec<Arc<str>>,
}

/// What happens to a matching request.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum HttpAction {
    /// It goes to one of these, by weight.
    Route(Vec<Destination>),
    /// The client is sent elsewhere.
    Redirect(Redirect),
    /// It is answered by the proxy.
    Respond(DirectResponse),
    /// Another VirtualService, one without hosts, says more.
    Delegate(ObjectKey),
}

impl Default for HttpAction {
    fn default() -> Self {
        Self::Route(Vec::new())
    }
}

/// Conditions that must all hold.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct HttpMatch {
    /// Its name; empty where it has none.
    pub name: Arc<str>,
    /// The path.
    pub uri: Option<StringMatch>,
    /// The path's letters match in either case.
    pub ignore_uri_case: bool,
    /// The scheme.
    pub scheme: Option<StringMatch>,
    /// The method.
    pub method: Option<StringMatch>,
    /// The host as the request has it.
    pub authority: Option<StringMatch>,
    /// Headers by name; `None` where being present is enough.
    pub headers: Vec<(Arc<str>, Option<StringMatch>)>,
    /// Headers that must not match; `None` where being absent is asked for.
    pub without_headers: Vec<(Arc<str>, Option<StringMatch>)>,
    /// Query parameters by name; `None` where being present is enough.
    pub query_params: Vec<(Arc<str>, Option<StringMatch>)>,
    /// The port that the request was sent to.
    pub port: Option<u16>,
    /// Labels of the client's workload.
    pub source_labels: Labels,
    /// The client's namespace; empty for any.
    pub source_namespace: Arc<str>,
    /// The gateways it applies at; empty for all of the VirtualService's.
    pub gateways: Vec<Arc<str>>,
    /// The prefix of statistics; empty for none.
    pub stat_prefix: Arc<str>,
}

/// How a text is compared.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum StringMatch {
    /// Equal.
    Exact(Arc<str>),
    /// Starts with.
    Prefix(Arc<str>),
    /// Is this path or one below it.
    Segments(Arc<str>),
    /// Matches as a whole (RE2).
    Regex(Arc<str>),
}

/// A place to send to.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Destination {
    /// The service's host.
    pub host: Host,
    /// The subset; empty for the whole service.
    pub subset: Arc<str>,
    /// The port; `None` where the service's only port or the listener's is meant.
    pub port: Option<u16>,
    /// The share among several destinations.
    pub weight: u32,
    /// Changes of headers.
    pub headers: HeaderChanges,
}

/// Changes of headers on the way there and back.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct HeaderChanges {
    /// Of the request.
    pub request: HeaderOperations,
    /// Of the response.
    pub response: HeaderOperations,
    /// The host that the request gets (`:authority` or `host` among the request's headers).
    pub authority: Option<Arc<str>>,
}

/// Changes of the headers of one message; what is set or added is sorted by name.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct HeaderOperations {
    /// Headers that replace those of the same name.
    pub set: Vec<(Arc<str>, Arc<str>)>,
    /// Headers beside those of the same name.
    pub add: Vec<(Arc<str>, Arc<str>)>,
    /// Headers taken away.
    pub remove: Vec<Arc<str>>,
}

/// Changes of path and host.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Rewrite {
    /// What takes the place of the matched path or prefix; `None` to leave it.
    pub uri: Option<Arc<str>>,
    /// A pattern in the path and what takes its place.
    pub uri_regex: Option<(Arc<str>, Arc<str>)>,
    /// The host; `None` to leave it.
    pub authority: Option<Arc<str>>,
}

/// Where a client is sent.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Redirect {
    /// The path; `None` to keep it.
    pub uri: Option<Arc<str>>,
    /// What takes the place of the matched prefix; `None` to keep it.
    pub prefix: Option<Arc<str>>,
    /// The host; `None` to keep it.
    pub authority: Option<Arc<str>>,
    /// The scheme; `None` to keep it.
    pub scheme: Option<Arc<str>>,
    /// The port.
    pub port: RedirectPort,
    /// The status: 301, 302, 303, 307 or 308.
    pub code: u16,
}

/// The port that a client is sent to.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum RedirectPort {
    /// The scheme's own.
    #[default]
    Default,
    /// This one.
    Number(u16),
    /// The one that the request came to.
    FromRequest,
}

/// An answer that the proxy gives.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DirectResponse {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: Option<Body>,
}

/// A body that the configuration holds.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Body {
    /// Text.
    Text(Arc<str>),
    /// Bytes.
    Bytes(Arc<[u8]>),
}

/// Retries.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Retry {
    /// How many; 0 for none.
    pub attempts: u32,
    /// How long one may take, in milliseconds.
    pub per_try_timeout: Option<u64>,
    /// The conditions, comma separated, as the user wrote them; `None` for the default.
    pub retry_on: Option<Arc<str>>,
    /// Whether other localities are tried; `None` for the default.
    pub remote_localities: Option<bool>,
    /// Whether hosts that were tried are left out; `None` for the default, which is to leave them out.
    pub ignore_previous_hosts: Option<bool>,
    /// The wait before the first retry, in milliseconds.
    pub backoff: Option<u64>,
}

/// A share of requests, as precise as it was written.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Share {
    /// In percent.
    Percent(u32),
    /// In millionths.
    Millionths(u32),
}

/// Faults that are injected.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Fault {
    /// A delay: milliseconds, and the share.
    pub delay: Option<(u64, Share)>,
    /// A refusal, and the share; `None` for no request at all.
    pub abort: Option<(Abort, Option<Share>)>,
}

/// How a request is refused.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Abort {
    /// With this HTTP status.
    Http(u16),
    /// With this gRPC status.
    Grpc(u32),
}

/// Copies of requests.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mirror {
    /// Where they go.
    pub destination: Destination,
    /// The share.
    pub share: Share,
}

/// Cross-origin policy.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Cors {
    /// The origins that are let in.
    pub allow_origins: Vec<StringMatch>,
    /// The methods.
    pub allow_methods: Vec<Arc<str>>,
    /// The request headers.
    pub allow_headers: Vec<Arc<str>>,
    /// The response headers that scripts may read.
    pub expose_headers: Vec<Arc<str>>,
    /// How long an answer holds, in seconds.
    pub max_age: Option<u64>,
    /// Whether credentials are allowed; `None` where nothing is said.
    pub allow_credentials: Option<bool>,
    /// Whether preflights from other origins go on to the service; `None` for the default, which is that they do.
    pub forward_unmatched: Option<bool>,
}
