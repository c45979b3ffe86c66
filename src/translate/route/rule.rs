//! The routes that a VirtualService makes.

use super::{action, cors, fault, header, matcher};
use crate::{
    id::{Host, Shared},
    model::{HashKey, HttpAction, HttpMatch, HttpRule, Retry, VirtualService},
    pb::{
        self,
        envoy::config::route::v3::{Decorator, Route, route::Action},
        google::protobuf::Any,
    },
    translate::{cluster::outbound_name, provenance},
};
use std::{collections::BTreeMap, sync::Arc};

/// What the routes of a VirtualService are made from, for one kind of client and one port.
#[derive(Clone, Hash)]
pub(super) struct RuleRoutes {
    /// The VirtualService, with what it delegates.
    pub(super) rule: Shared<VirtualService>,
    /// The rules that count here, in order.
    pub(super) chosen: Vec<Chosen>,
    /// The port that clients dial.
    pub(super) port: u16,
    /// Whether clients speak TLS to the proxy.
    pub(super) tls: bool,
    /// The mesh's default for retries.
    pub(super) retry: Option<Retry>,
    /// Requests whose host is rewritten say which it was.
    pub(super) forwarded_host: bool,
    /// Copies keep the host that the request has.
    pub(super) keep_shadow_host: bool,
}

/// A rule that counts for a client, and the places that it names.
#[derive(Clone, Hash)]
pub(super) struct Chosen {
    /// Which rule of the VirtualService.
    pub(super) rule: usize,
    /// Which of its conditions count; none for a rule without conditions.
    pub(super) conditions: Vec<usize>,
    /// The place of each destination.
    pub(super) places: Vec<Place>,
    /// The place of each mirror.
    pub(super) mirrors: Vec<Place>,
}

/// A place to send to.
#[derive(Clone, Hash)]
pub(super) struct Place {
    /// The service's host.
    pub(super) host: Host,
    /// The subset; empty for the whole service.
    pub(super) subset: Arc<str>,
    /// The port.
    pub(super) port: u16,
    /// What names the endpoint.
    pub(super) hash: Option<HashKey>,
}

impl Place {
    /// The cluster.
    pub(super) fn cluster(&self) -> String {
        outbound_name(self.port, &self.subset, &self.host)
    }
}

/// One route to be made: its rule, the condition it has, and the places that the rule names.
pub(super) struct Making<'a> {
    pub(super) input: &'a RuleRoutes,
    pub(super) rule: &'a HttpRule,
    pub(super) chosen: &'a Chosen,
    pub(super) condition: Option<&'a HttpMatch>,
}

/// The routes, in order.
pub(super) fn routes(input: &RuleRoutes) -> Vec<Route> {
    let mut routes = Vec::new();
    for chosen in &input.chosen {
        let rule = &input.rule.http[chosen.rule];
        let making = |condition| Making { input, rule, chosen, condition };
        match rule.matches.is_empty() {
            true => routes.push(route(&making(None))),
            false => routes.extend(chosen.conditions.iter().map(|i| route(&making(Some(&rule.matches[*i]))))),
        }
    }
    routes
}

fn route(making: &Making<'_>) -> Route {
    let Making { input, rule, condition, .. } = making;
    let changes = &rule.headers;
    let mut route = Route {
        name: match condition.map(|c| &*c.name) {
            None | Some("") => rule.name.to_string(),
            Some(condition) => format!("{}.{condition}", rule.name),
        },
        r#match: Some(condition.map_or_else(matcher::any, matcher::of)),
        metadata: Some(provenance::of(&input.rule.source)),
        stat_prefix: condition.map(|c| c.stat_prefix.to_string()).unwrap_or_default(),
        request_headers_to_add: header::added(&changes.request).collect(),
        request_headers_to_remove: header::removed(&changes.request).collect(),
        response_headers_to_add: header::added(&changes.response).collect(),
        response_headers_to_remove: header::removed(&changes.response).collect(),
        typed_per_filter_config: filters(rule),
        decorator: Some(Decorator { operation: operation(making), ..Default::default() }),
        ..Default::default()
    };
    match &rule.action {
        HttpAction::Redirect(redirect) => route.action = Some(action::redirect(redirect, input.port, input.tls)),
        HttpAction::Respond(response) => route.action = Some(action::respond(response)),
        HttpAction::Route(destinations) => {
            if let [only] = &destinations[..] {
                // With one destination, its changes are the route's.
                route.request_headers_to_add.extend(header::added(&only.headers.request));
                route.request_headers_to_remove.extend(header::removed(&only.headers.request));
                route.response_headers_to_add.extend(header::added(&only.headers.response));
                route.response_headers_to_remove.extend(header::removed(&only.headers.response));
            }
            route.action = Some(Action::Route(action::send(making, destinations)));
        }
        HttpAction::Delegate(_) => {}
    }
    route
}

/// The settings of HTTP filters for this route alone.
fn filters(rule: &HttpRule) -> BTreeMap<String, Any> {
    let fault = rule.fault.as_ref().and_then(fault::config).map(|c| ("envoy.filters.http.fault", pb::any(&c)));
    let cors = rule.cors.as_ref().map(|c| ("envoy.filters.http.cors", pb::any(&cors::config(c))));
    fault.into_iter().chain(cors).map(|(name, config)| (name.to_owned(), config)).collect()
}

/// What traces call it: the one place and the path, else the VirtualService.
fn operation(making: &Making<'_>) -> String {
    let path = matcher::operation(making.condition);
    match (&making.rule.action, &making.chosen.places[..]) {
        (HttpAction::Route(_), [only]) => format!("{}:{}{path}", only.host, only.port),
        _ => format!("{}:{}{path}", making.input.rule.source.name, making.input.port),
    }
}
