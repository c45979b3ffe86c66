//! The HTTP connection manager: how connections become requests, and where their routes come from.

use super::{
    access_log::AccessLog,
    ads,
    dynamic_dns::Cache,
    guard::Guard,
    http_filter::{self, Choice},
    network_filter, route,
    trace::Tracing,
};
use crate::{
    id::Shared,
    model::{
        ClientCertificate, ConnectionSettings, EscapedSlashes, IdentitySource, PathNormalization, ProxyHeaders, Retry,
        Role, ServerHeader, Topology, Underscores,
    },
    pb::{
        self,
        envoy::{
            config::{
                core::v3::{
                    Http1ProtocolOptions, Http2ProtocolOptions, Http3ProtocolOptions, HttpProtocolOptions,
                    TypedExtensionConfig,
                    http_protocol_options::HeadersWithUnderscoresAction,
                    http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat},
                },
                listener::v3::Filter,
                route::v3::{
                    Decorator, Route, RouteAction, RouteConfiguration, RouteMatch, VirtualHost,
                    route::Action,
                    route_action::{ClusterSpecifier, MaxStreamDuration},
                    route_match::PathSpecifier,
                },
            },
            extensions::{
                filters::network::http_connection_manager::v3::{
                    HttpConnectionManager, Rds, RequestIdExtension,
                    http_connection_manager::{
                        CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier,
                        ServerHeaderTransformation, SetCurrentClientCertDetails, UpgradeConfig,
                    },
                },
                http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
                request_id::uuid::v3::UuidRequestIdConfig,
            },
        },
    },
    snapshot::{KeptHeaders, View},
};
use pb::google::protobuf::BoolValue;
use std::sync::Arc;

/// What the mesh and the proxy set for all their connection managers.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Settings {
    normalization: PathNormalization,
    http10: bool,
    idle_timeout: Option<u64>,
    topology: Topology,
    headers: ProxyHeaders,
    kept: KeptHeaders,
    connections: ConnectionSettings,
    /// Retries of requests to the own workload, where the mesh says.
    inbound_retry: Option<Retry>,
    tracing: Option<Tracing>,
    log: Option<AccessLog>,
    /// The proxy has a certificate of the mesh.
    mtls: bool,
    /// The proxy holds only what it has used.
    on_demand: bool,
}

impl Settings {
    /// Whether clients' addresses come by the PROXY protocol.
    pub(super) fn takes_proxy_protocol(&self) -> bool {
        self.topology.proxy_protocol
    }

    /// The most bytes that a gateway's connection holds back.
    pub(super) fn buffer_limit(&self) -> Option<u32> {
        self.connections.buffer_limit
    }

    /// The settings of a view's nodes.
    pub(super) fn of(view: &View<'_>) -> Shared<Self> {
        let (mesh, key) = (&view.snapshot.mesh, view.key);
        let face = key.face.as_ref();
        let proxy = face.map(|f| f.proxy.clone()).unwrap_or_default();
        // A proxy that says nothing of its connections has the mesh's settings, whatever else it says.
        let connections = proxy.connections.or_else(|| mesh.proxy_config.connections.clone()).unwrap_or_default();
        let tracing = face.and_then(|face| face.traced.as_ref()).map(|traced| Tracing {
            sampling: mesh.trace_sampling,
            canonical_revision: traced.revision.clone(),
            canonical_service: traced.service.clone(),
            cluster: key.cluster.clone(),
            mesh: traced.mesh.clone(),
            namespace: key.namespace.shared(),
        });
        Shared::new(Self {
            normalization: mesh.path_normalization,
            http10: mesh.features.http10 || face.is_some_and(|f| f.settings.http10),
            idle_timeout: face.and_then(|f| f.settings.idle_timeout),
            topology: proxy.topology.unwrap_or_default(),
            kept: KeptHeaders::of(proxy.headers.as_ref()),
            headers: proxy.headers.unwrap_or_default(),
            connections: match key.role {
                Role::Router => connections.of_gateway(),
                Role::Sidecar => connections,
            },
            inbound_retry: mesh.inbound_retry.clone(),
            tracing,
            log: AccessLog::of(mesh),
            mtls: key.identity != IdentitySource::None,
            on_demand: key.on_demand,
        })
    }
}

/// The connection manager of one filter chain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Manager {
    /// What the mesh and the proxy set.
    pub(super) settings: Shared<Settings>,
    /// The prefix of statistics, without the mark that ends it.
    pub(super) stat_prefix: Arc<str>,
    /// Where routes come from.
    pub(super) routes: Routes,
    /// Requests of gRPC-Web become those of gRPC.
    pub(super) grpc_web: bool,
    /// Names that are resolved when they are asked for.
    pub(super) dynamic: Vec<Cache>,
    /// What stands before the routes.
    pub(super) guard: Guard,
    /// Requests name their host in full, as forward proxies are asked.
    pub(super) absolute_urls: bool,
}

/// Where routes come from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Routes {
    /// The route configuration of this name; the traffic is outbound.
    Named(Arc<str>),
    /// The route configuration of this name; the traffic enters the mesh, or leaves it, here.
    Gateway {
        /// The name.
        name: Arc<str>,
        /// The prefix of statistics gets the mark that ends it.
        marked: bool,
        /// Requests come over QUIC.
        quic: bool,
    },
    /// No service is known for the requests, which go where their hosts resolve to.
    Unknown,
    /// Everything goes to the workload; the traffic is inbound.
    Inbound {
        /// The cluster, which also names the routes.
        cluster: Arc<str>,
        /// The service's host; empty where there is none.
        host: Arc<str>,
        /// The service's port.
        port: u16,
        /// Requests that did not get through are tried again.
        retry: bool,
        /// Requests come over HTTP/2.
        http2: bool,
    },
}

impl Manager {
    /// The connection manager as a network filter.
    pub(super) fn filter(&self) -> Filter {
        let settings = &*self.settings;
        let (escaped, merge) = match settings.normalization {
            PathNormalization::None | PathNormalization::Base => (PathWithEscapedSlashesAction::KeepUnchanged, false),
            PathNormalization::MergeSlashes => (PathWithEscapedSlashesAction::KeepUnchanged, true),
            PathNormalization::DecodeAndMergeSlashes => (PathWithEscapedSlashesAction::UnescapeAndForward, true),
        };
        let http1 = Http1ProtocolOptions {
            accept_http_10: settings.http10,
            allow_absolute_url: self.absolute_urls.then_some(pb::google::protobuf::BoolValue { value: true }),
            ..Default::default()
        };
        let id = UuidRequestIdConfig { use_request_id_for_trace_sampling: pb::boolean(true), ..Default::default() };
        let mut manager = HttpConnectionManager {
            stat_prefix: match self.routes {
                Routes::Gateway { marked: false, .. } => self.stat_prefix.to_string(),
                _ => format!("{};", self.stat_prefix),
            },
            http_filters: self
                .guard
                .http()
                .chain(http_filter::filters(&Choice {
                    grpc_web: self.grpc_web,
                    dynamic: &self.dynamic,
                    quiet: settings.headers.without_debug,
                    announce: settings.mtls && matches!(self.routes, Routes::Named(_) | Routes::Gateway { .. }),
                    on_demand: settings.on_demand && matches!(self.routes, Routes::Named(_)),
                }))
                .collect(),
            normalize_path: pb::boolean(settings.normalization != PathNormalization::None),
            merge_slashes: merge,
            path_with_escaped_slashes_action: escaped.into(),
            proxy_100_continue: true,
            use_remote_address: pb::boolean(false),
            upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..Default::default() }],
            stream_idle_timeout: Some(pb::millis(0)),
            common_http_protocol_options: settings
                .idle_timeout
                .map(|t| HttpProtocolOptions { idle_timeout: Some(pb::millis(t)), ..Default::default() }),
            http_protocol_options: (settings.http10 || self.absolute_urls).then_some(http1),
            tracing: settings.tracing.as_ref().map(Tracing::render),
            access_log: settings.log.iter().map(AccessLog::render).collect(),
            generate_request_id: settings.headers.without_request_id.then_some(BoolValue { value: false }),
            append_x_forwarded_port: settings.headers.forwarded_port,
            request_id_extension: Some(RequestIdExtension { typed_config: Some(pb::any(&id)) }),
            ..Default::default()
        };
        self.routes.apply(settings, &mut manager);
        settings.take_care(&mut manager);
        network_filter::filter("envoy.filters.network.http_connection_manager", &manager)
    }
}

impl Settings {
    /// What the proxy's own ProxyConfig says comes last.
    fn take_care(&self, manager: &mut HttpConnectionManager) {
        match &self.headers.server {
            ServerHeader::Proxy => {}
            ServerHeader::Named(name) => manager.server_name = name.to_string(),
            ServerHeader::Unchanged => {
                manager.server_name = String::new();
                manager.server_header_transformation = ServerHeaderTransformation::PassThrough.into();
            }
        }
        if self.headers.preserve_case {
            manager.http_protocol_options.get_or_insert_default().header_key_format = Some(kept_case());
        }
        let own = &self.connections;
        if own.idle_timeout.or(own.max_connection_duration).or(own.max_stream_duration).is_some() {
            let common = manager.common_http_protocol_options.get_or_insert_default();
            common.idle_timeout = own.idle_timeout.map(pb::millis).or(common.idle_timeout.take());
            common.max_connection_duration = own.max_connection_duration.map(pb::millis);
            common.max_stream_duration = own.max_stream_duration.map(pb::millis);
        }
        if let Some(underscores) = own.underscores {
            let common = manager.common_http_protocol_options.get_or_insert_default();
            common.headers_with_underscores_action = match underscores {
                Underscores::Allow => HeadersWithUnderscoresAction::Allow,
                Underscores::Reject => HeadersWithUnderscoresAction::RejectRequest,
                Underscores::Drop => HeadersWithUnderscoresAction::DropHeader,
            }
            .into();
        }
        manager.stream_idle_timeout = own.stream_idle_timeout.map(pb::millis).or(manager.stream_idle_timeout.take());
        manager.request_timeout = own.request_timeout.map(pb::millis);
        manager.request_headers_timeout = own.request_headers_timeout.map(pb::millis);
        manager.drain_timeout = own.drain_timeout.map(pb::millis);
        if own.max_concurrent_streams.or(own.stream_window).or(own.connection_window).is_some() {
            let http2 = manager.http2_protocol_options.get_or_insert_default();
            http2.max_concurrent_streams = own.max_concurrent_streams.and_then(pb::uint32);
            http2.initial_stream_window_size = own.stream_window.and_then(pb::uint32);
            http2.initial_connection_window_size = own.connection_window.and_then(pb::uint32);
        }
        manager.merge_slashes = own.merge_slashes.unwrap_or(manager.merge_slashes);
        if let Some(escaped) = own.escaped_slashes {
            manager.path_with_escaped_slashes_action = match escaped {
                EscapedSlashes::Keep => PathWithEscapedSlashesAction::KeepUnchanged,
                EscapedSlashes::Reject => PathWithEscapedSlashesAction::RejectRequest,
                EscapedSlashes::UnescapeAndRedirect => PathWithEscapedSlashesAction::UnescapeAndRedirect,
                EscapedSlashes::UnescapeAndForward => PathWithEscapedSlashesAction::UnescapeAndForward,
            }
            .into();
        }
    }
}

/// The names of headers as they came.
pub(super) fn kept_case() -> HeaderKeyFormat {
    let formatter = TypedExtensionConfig {
        name: "preserve_case".into(),
        typed_config: Some(pb::any(&PreserveCaseFormatterConfig::default())),
    };
    HeaderKeyFormat { header_format: Some(HeaderFormat::StatefulFormatter(formatter)) }
}

fn forwarded(how: ClientCertificate) -> ForwardClientCertDetails {
    match how {
        ClientCertificate::Sanitize => ForwardClientCertDetails::Sanitize,
        ClientCertificate::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        ClientCertificate::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        ClientCertificate::AppendForward => ForwardClientCertDetails::AppendForward,
        ClientCertificate::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    }
}

/// Tells of a client's certificate, at a gateway.
fn forward_certificates(manager: &mut HttpConnectionManager, how: ClientCertificate) {
    manager.forward_client_cert_details = forwarded(how).into();
    let tells = matches!(how, ClientCertificate::SanitizeSet | ClientCertificate::AppendForward);
    manager.set_current_client_cert_details = tells.then(|| SetCurrentClientCertDetails {
        subject: pb::boolean(true),
        cert: true,
        dns: true,
        uri: true,
        ..Default::default()
    });
}

/// Routes that come on the stream that the listener itself came on.
fn rds(name: &str) -> RouteSpecifier {
    RouteSpecifier::Rds(Rds { config_source: Some(ads()), route_config_name: name.to_owned() })
}

impl Routes {
    fn apply(&self, settings: &Settings, manager: &mut HttpConnectionManager) {
        match self {
            Self::Named(name) => manager.route_specifier = Some(rds(name)),
            Self::Unknown => {
                manager.route_specifier = Some(RouteSpecifier::RouteConfig(route::unresolved(settings.kept)))
            }
            Self::Gateway { name, quic, .. } => {
                manager.route_specifier = Some(rds(name));
                manager.server_name = "istio-envoy".into();
                manager.use_remote_address = pb::boolean(true);
                let told = settings.topology.client_certificate.unwrap_or(ClientCertificate::SanitizeSet);
                forward_certificates(manager, told);
                manager.xff_num_trusted_hops = settings.topology.trusted_proxies;
                manager.http_protocol_options.get_or_insert_default();
                if *quic {
                    manager.codec_type = CodecType::Http3.into();
                    manager.http3_protocol_options = Some(Http3ProtocolOptions::default());
                }
            }
            Self::Inbound { http2, .. } => {
                manager.server_name = "istio-envoy".into();
                let told = settings.headers.client_certificate.unwrap_or(ClientCertificate::AppendForward);
                manager.forward_client_cert_details = forwarded(told).into();
                let details = settings.headers.certificate_details;
                manager.set_current_client_cert_details = Some(SetCurrentClientCertDetails {
                    subject: Some(BoolValue { value: details.subject.unwrap_or(true) }),
                    cert: details.cert.unwrap_or(false),
                    chain: details.chain.unwrap_or(false),
                    dns: details.dns.unwrap_or(true),
                    uri: details.uri.unwrap_or(true),
                    ..Default::default()
                });
                manager.http2_protocol_options = http2.then(Http2ProtocolOptions::default);
                let retry = settings.inbound_retry.as_ref();
                manager.route_specifier = self.inbound(retry).map(RouteSpecifier::RouteConfig);
            }
        }
    }

    /// The one route that all inbound requests take.
    fn inbound(&self, said: Option<&Retry>) -> Option<RouteConfiguration> {
        let Self::Inbound { cluster, host, port, retry, .. } = self else { return None };
        let unlimited = || Some(pb::millis(0));
        let action = RouteAction {
            cluster_specifier: Some(ClusterSpecifier::Cluster(cluster.to_string())),
            timeout: unlimited(),
            max_stream_duration: Some(MaxStreamDuration {
                max_stream_duration: unlimited(),
                grpc_timeout_header_max: unlimited(),
                ..Default::default()
            }),
            retry_policy: retry.then(|| route::retry::inbound_policy(said)).flatten(),
            ..Default::default()
        };
        let route = Route {
            name: "default".into(),
            r#match: Some(RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() }),
            decorator: Some(Decorator { operation: format!("{host}:{port}/*"), ..Default::default() }),
            action: Some(Action::Route(action)),
            ..Default::default()
        };
        Some(RouteConfiguration {
            name: cluster.to_string(),
            virtual_hosts: vec![VirtualHost {
                name: format!("inbound|http|{port}"),
                domains: vec!["*".into()],
                routes: vec![route],
                ..Default::default()
            }],
            validate_clusters: pb::boolean(false),
            ..Default::default()
        })
    }
}
