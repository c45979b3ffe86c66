//! What in a request names the endpoint, where a DestinationRule says so (`consistentHash`).

use crate::{
    id::Host,
    model::{HashKey, LoadBalancerKind, TrafficPolicy},
    pb::{
        self,
        envoy::config::route::v3::route_action::{
            HashPolicy,
            hash_policy::{ConnectionProperties, Cookie, CookieAttribute, Header, PolicySpecifier, QueryParameter},
        },
    },
    snapshot::View,
};

/// The key for a service without a VirtualService, on one of its ports.
pub(super) fn of_service(view: &View<'_>, host: &Host, port: u16) -> Option<HashKey> {
    let policy = policies(view, host)?;
    let own = policy.ports.iter().find(|(number, _)| *number == port);
    own.and_then(|(_, own)| key(own)).or_else(|| key(&policy)).cloned()
}

/// The key for a destination; settings for a port count only where the destination names the port.
pub(super) fn of_destination(view: &View<'_>, host: &Host, subset: &str, port: Option<u16>) -> Option<HashKey> {
    let rules = view.destination_rules(host, &namespace(view, host));
    let named = |policy: &TrafficPolicy| {
        let own = policy.ports.iter().find(|(number, _)| Some(*number) == port);
        own.and_then(|(_, own)| key(own)).or_else(|| key(policy)).cloned()
    };
    let subset = rules.iter().find_map(|r| r.subsets.iter().find(|s| &*s.name == subset));
    let whole = policies(view, host);
    subset.and_then(|s| s.policy.as_ref()).and_then(named).or_else(|| whole.as_ref().and_then(named))
}

/// Envoy's form of a key.
pub(super) fn policy(key: &HashKey) -> HashPolicy {
    let specifier = match key {
        HashKey::Header(name) => {
            PolicySpecifier::Header(Header { header_name: name.to_string(), ..Default::default() })
        }
        HashKey::Cookie { name, path, ttl, attributes } => PolicySpecifier::Cookie(Cookie {
            name: name.to_string(),
            path: path.to_string(),
            ttl: ttl.map(pb::millis),
            attributes: attributes
                .iter()
                .map(|(name, value)| CookieAttribute { name: name.to_string(), value: value.to_string() })
                .collect(),
        }),
        HashKey::SourceIp => PolicySpecifier::ConnectionProperties(ConnectionProperties { source_ip: true }),
        HashKey::QueryParameter(name) => PolicySpecifier::QueryParameter(QueryParameter { name: name.to_string() }),
    };
    HashPolicy { policy_specifier: Some(specifier), terminal: false }
}

fn namespace(view: &View<'_>, host: &Host) -> crate::id::Namespace {
    view.service(host).map_or_else(|| view.key.namespace.clone(), |s| s.namespace.clone())
}

/// What the rules in force say of the whole service: the first that says anything.
fn policies(view: &View<'_>, host: &Host) -> Option<TrafficPolicy> {
    let rules = view.destination_rules(host, &namespace(view, host));
    rules.iter().map(|r| &r.policy).find(|p| **p != TrafficPolicy::default()).cloned()
}

fn key(policy: &TrafficPolicy) -> Option<&HashKey> {
    match policy.load_balancer.as_ref().map(|l| &l.kind) {
        Some(LoadBalancerKind::Hash { key, .. }) => Some(key),
        _ => None,
    }
}
