//! Virtual hosts: the unit that is rendered and kept.

use super::{
    action::to_cluster,
    hash, header, matcher, retry,
    rule::{self, RuleRoutes},
};
use crate::{
    id::{Host, ObjectRef, ResourceType, Shared},
    model::{HashKey, OutboundPolicy, Retry},
    pb::envoy::config::route::v3::{
        Decorator, DirectResponseAction, Route, RouteAction, VirtualHost, route::Action,
        route_action::ClusterSpecifier, virtual_host::TlsRequirementType,
    },
    snapshot::{KeptHeaders, View},
    translate::{Input, Resource, cluster::outbound_name, dynamic_dns::UNKNOWN, listener::proxy_cluster},
};
use prost::Message;
use std::sync::Arc;

/// The cluster that sends connections where they were going.
const PASSTHROUGH: &str = "PassthroughCluster";

/// All that a virtual host is made from.
#[derive(Hash)]
pub(super) struct Facade {
    /// Its name: `HOST:PORT`.
    pub(super) name: String,
    /// The hosts that requests name.
    pub(super) domains: Vec<String>,
    /// Where requests go.
    pub(super) routes: Routes,
    /// Clients that come without TLS are sent to HTTPS.
    pub(super) redirect: bool,
    /// The port at which the same is served over QUIC, which clients are told.
    pub(super) alternative: Option<u16>,
    /// Requests say the how manieth attempt they are.
    pub(super) attempts: bool,
    /// The objects that it comes from.
    pub(super) sources: Vec<ObjectRef>,
}

impl Facade {
    /// A virtual host of no object, without any of what only gateways have.
    pub(super) fn new(headers: KeptHeaders, name: String, domains: Vec<String>, routes: Routes) -> Self {
        let attempts = !headers.without_attempts;
        Self { name, domains, routes, redirect: false, alternative: None, attempts, sources: Vec::new() }
    }
}

/// Where the requests for a virtual host go.
#[derive(Clone, Hash)]
pub(super) enum Routes {
    /// To the service.
    Service(ServiceRoute),
    /// Where a VirtualService says.
    Rule(Shared<RuleRoutes>),
    /// Where several VirtualServices say, at a gateway.
    Rules(Vec<Shared<RuleRoutes>>),
    /// Where requests go that no host is known for: nowhere, or to this cluster.
    Unknown(Option<Arc<str>>),
}

/// What the route to a service is made from.
#[derive(Clone, Hash)]
pub(super) struct ServiceRoute {
    /// The service's host.
    pub(super) host: Host,
    /// The port.
    pub(super) port: u16,
    /// What names the endpoint.
    pub(super) hash: Option<HashKey>,
    /// The mesh's default for retries.
    pub(super) retry: Option<Retry>,
}

impl Facade {
    /// The virtual host as Envoy takes it.
    pub(super) fn message(&self) -> VirtualHost {
        VirtualHost {
            name: self.name.clone(),
            domains: self.domains.clone(),
            routes: match &self.routes {
                Routes::Service(service) => vec![to_service(service)],
                Routes::Rule(rule) => rule::routes(rule),
                Routes::Rules(rules) => merged(rules, self.alternative),
                Routes::Unknown(cluster) => vec![unknown(cluster.as_deref())],
            },
            include_request_attempt_count: self.attempts,
            require_tls: if self.redirect { TlsRequirementType::All } else { TlsRequirementType::None }.into(),
            ..Default::default()
        }
    }
}

impl Input for Facade {
    fn render(&self) -> Resource {
        let body = self.message().encode_to_vec();
        Resource::new(ResourceType::VirtualHost, self.name.as_str(), body, self.sources.clone())
    }
}

/// The routes of several VirtualServices: what takes every request comes last, so that it hides none of the others.
fn merged(rules: &[Shared<RuleRoutes>], alternative: Option<u16>) -> Vec<Route> {
    let mut routes: Vec<Route> = rules.iter().flat_map(|r| rule::routes(r)).collect();
    routes.sort_by_key(|route| route.r#match.as_ref().is_some_and(matcher::takes_all));
    for route in &mut routes {
        route.response_headers_to_add.extend(alternative.map(header::alternative));
    }
    routes
}

fn to_service(service: &ServiceRoute) -> Route {
    let cluster = ClusterSpecifier::Cluster(outbound_name(service.port, "", &service.host));
    Route {
        name: "default".into(),
        r#match: Some(matcher::any()),
        decorator: Some(Decorator { operation: format!("{}:{}/*", service.host, service.port), ..Default::default() }),
        action: Some(Action::Route(RouteAction {
            hash_policy: service.hash.as_ref().map(hash::policy).into_iter().collect(),
            // Istio tries other hosts again here even where a hash names one (`BuildDefaultHTTPOutboundRoute`).
            retry_policy: retry::policy(service.retry.as_ref(), false),
            ..to_cluster(cluster, None)
        })),
        ..Default::default()
    }
}

/// What such requests are called, by the cluster that they go to.
fn unknown_name(cluster: Option<&str>) -> &'static str {
    match cluster {
        None => "block_all",
        Some(UNKNOWN) => "allow_any_dynamic_dns",
        Some(_) => "allow_any",
    }
}

/// What becomes of requests that no host is known for.
fn unknown(cluster: Option<&str>) -> Route {
    let (name, action) = match cluster {
        Some(cluster) => {
            (unknown_name(Some(cluster)), Action::Route(to_cluster(ClusterSpecifier::Cluster(cluster.into()), None)))
        }
        None => {
            (unknown_name(None), Action::DirectResponse(DirectResponseAction { status: 502, ..Default::default() }))
        }
    };
    Route { name: name.into(), r#match: Some(matcher::any()), action: Some(action), ..Default::default() }
}

/// The virtual host for requests that no host is known for.
pub(super) fn catch_all(view: &View<'_>) -> Facade {
    let cluster: Option<Arc<str>> = match view.outbound_policy() {
        (OutboundPolicy::AllowAny, Some(proxy)) => Some(proxy_cluster(proxy).into()),
        (OutboundPolicy::AllowAny, None) => Some(PASSTHROUGH.into()),
        (OutboundPolicy::AllowAnyDynamicDns, _) => Some(UNKNOWN.into()),
        (OutboundPolicy::RegistryOnly, _) => None,
    };
    unknown_to(view.key.headers, cluster)
}

/// The virtual host for requests whose host no service is known for: to this cluster, or nowhere.
pub(super) fn unknown_to(headers: KeptHeaders, cluster: Option<Arc<str>>) -> Facade {
    Facade::new(headers, unknown_name(cluster.as_deref()).into(), vec!["*".into()], Routes::Unknown(cluster))
}
