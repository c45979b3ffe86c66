//! ProxyConfig: what the mesh, or a workload, says of its own proxies, as far as the control plane takes it.

use std::sync::Arc;

/// What is said of a proxy.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProxyConfig {
    /// What stands before it, as a gateway.
    pub topology: Option<Topology>,
    /// What it makes of headers.
    pub headers: Option<ProxyHeaders>,
    /// What it makes of its clients' connections.
    pub connections: Option<ConnectionSettings>,
}

impl ProxyConfig {
    /// This, and for what it says nothing of what another says.
    #[must_use]
    pub fn over(&self, other: &Self) -> Self {
        Self {
            topology: self.topology.or(other.topology),
            headers: self.headers.clone().or_else(|| other.headers.clone()),
            connections: self.connections.clone().or_else(|| other.connections.clone()),
        }
    }
}

/// What stands before a gateway.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Topology {
    /// How many proxies add the address of their client, each of them trusted.
    pub trusted_proxies: u32,
    /// What becomes of the header that tells of clients' certificates; `None` where nothing is said.
    pub client_certificate: Option<ClientCertificate>,
    /// Connections start with the PROXY protocol's header.
    pub proxy_protocol: bool,
}

/// What becomes of the header that tells of clients' certificates (`x-forwarded-client-cert`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ClientCertificate {
    /// It is replaced by what the proxy itself saw.
    SanitizeSet,
    /// It is taken away.
    Sanitize,
    /// It stays as the client sent it, where the client is known.
    ForwardOnly,
    /// What the proxy itself saw is added, where the client is known.
    AppendForward,
    /// It stays as the client sent it.
    AlwaysForwardOnly,
}

/// What a proxy makes of headers. Nothing of it is set by default.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ProxyHeaders {
    /// What a sidecar does with what clients tell of certificates.
    pub client_certificate: Option<ClientCertificate>,
    /// What a sidecar tells of its clients' certificates.
    pub certificate_details: CertificateDetails,
    /// What answers name as the server.
    pub server: ServerHeader,
    /// Requests get no identifier.
    pub without_request_id: bool,
    /// Requests do not say the how manieth attempt they are.
    pub without_attempts: bool,
    /// Envoy's own headers for finding faults are left out.
    pub without_debug: bool,
    /// The names of HTTP/1.1 headers keep their case.
    pub preserve_case: bool,
    /// Requests whose host is rewritten say which it was.
    pub forwarded_host: bool,
    /// Requests say the port that they came to.
    pub forwarded_port: bool,
}

/// Which parts of a client's certificate are told; `None` for what is usual.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct CertificateDetails {
    /// Its subject.
    pub subject: Option<bool>,
    /// All of it.
    pub cert: Option<bool>,
    /// All of it, with those that signed it.
    pub chain: Option<bool>,
    /// Its names of hosts.
    pub dns: Option<bool>,
    /// Its identity.
    pub uri: Option<bool>,
}

/// What answers name as the server.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub enum ServerHeader {
    /// The proxy.
    #[default]
    Proxy,
    /// What the server itself says.
    Unchanged,
    /// This.
    Named(Arc<str>),
}

/// What a proxy makes of its clients' connections; times in milliseconds, `None` for what is usual.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct ConnectionSettings {
    /// A gateway that anybody may reach takes more care where nothing is said.
    pub edge: bool,
    /// The most bytes that a connection holds back, at gateways.
    pub buffer_limit: Option<u32>,
    /// Idle time of connections.
    pub idle_timeout: Option<u64>,
    /// How long a connection may last.
    pub max_connection_duration: Option<u64>,
    /// How long a request may last with its answer.
    pub max_stream_duration: Option<u64>,
    /// Idle time of requests.
    pub stream_idle_timeout: Option<u64>,
    /// How long a request may take to arrive.
    pub request_timeout: Option<u64>,
    /// How long its headers may take.
    pub request_headers_timeout: Option<u64>,
    /// How long connections are given to end.
    pub drain_timeout: Option<u64>,
    /// Requests at once on one HTTP/2 connection.
    pub max_concurrent_streams: Option<u32>,
    /// The first window of HTTP/2 requests.
    pub stream_window: Option<u32>,
    /// The first window of HTTP/2 connections.
    pub connection_window: Option<u32>,
    /// What becomes of headers with underscores in their names.
    pub underscores: Option<Underscores>,
    /// Whether `//` becomes `/`.
    pub merge_slashes: Option<bool>,
    /// What becomes of escaped slashes.
    pub escaped_slashes: Option<EscapedSlashes>,
}

impl ConnectionSettings {
    /// The settings of a gateway, which may be one that anybody reaches.
    #[must_use]
    pub fn of_gateway(self) -> Self {
        if !self.edge {
            return self;
        }
        Self {
            edge: true,
            buffer_limit: self.buffer_limit.or(Some(32 * 1024)),
            idle_timeout: self.idle_timeout.or(Some(3_600_000)),
            stream_idle_timeout: self.stream_idle_timeout.or(Some(300_000)),
            request_timeout: self.request_timeout.or(Some(300_000)),
            request_headers_timeout: self.request_headers_timeout.or(Some(60_000)),
            max_concurrent_streams: self.max_concurrent_streams.or(Some(100)),
            stream_window: self.stream_window.or(Some(64 * 1024)),
            connection_window: self.connection_window.or(Some(1024 * 1024)),
            underscores: self.underscores.or(Some(Underscores::Reject)),
            merge_slashes: self.merge_slashes.or(Some(true)),
            escaped_slashes: self.escaped_slashes.or(Some(EscapedSlashes::UnescapeAndRedirect)),
            ..self
        }
    }
}

/// What becomes of headers with underscores in their names.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Underscores {
    /// They are like others.
    Allow,
    /// The request is refused.
    Reject,
    /// They are left out.
    Drop,
}

/// What becomes of slashes that a path has escaped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EscapedSlashes {
    /// They stay.
    Keep,
    /// The request is refused.
    Reject,
    /// They become slashes, and the client is sent to the new path.
    UnescapeAndRedirect,
    /// They become slashes.
    UnescapeAndForward,
}
