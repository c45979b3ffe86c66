//! Which server a policy chooses, and how it is talked to.

use super::{client, field, get, servers};
use crate::harness::{Reply, Request, eventually};
use std::collections::BTreeSet;

/// Services of all servers and the traffic policy of each.
const SERVICES: &[(&str, &str)] = &[
    ("by-header", "loadBalancer: {consistentHash: {httpHeaderName: user}}"),
    ("by-header-maglev", "loadBalancer: {consistentHash: {httpHeaderName: user, maglev: {tableSize: 1009}}}"),
    ("by-cookie", "loadBalancer: {consistentHash: {httpCookie: {name: session, path: /, ttl: 60s}}}"),
    ("by-query", "loadBalancer: {consistentHash: {httpQueryParameterName: user}}"),
    ("by-source", "loadBalancer: {consistentHash: {useSourceIp: true}}"),
    ("in-turn", "loadBalancer: {simple: ROUND_ROBIN}"),
    ("as-http2", "connectionPool: {http: {h2UpgradePolicy: UPGRADE}}"),
    ("one-request-each", "connectionPool: {http: {maxRequestsPerConnection: 1}}"),
    ("one-connection", "connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1}}"),
    ("two-requests", "connectionPool: {http: {h2UpgradePolicy: UPGRADE, http2MaxRequests: 2}}"),
    (
        "all-errors",
        "outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}",
    ),
    (
        "errors-of-gateways",
        "outlierDetection: {consecutive5xxErrors: 0, consecutiveGatewayErrors: 3, interval: 1s, \
     baseEjectionTime: 60s, maxEjectionPercent: 100}",
    ),
    (
        "half-ejected",
        "outlierDetection: {consecutive5xxErrors: 1, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 34}",
    ),
];

/// The objects of all services. Requests are not tried again, so that each answer is that of one server.
pub(super) fn objects() -> String {
    let object = |((name, policy), number): (&(&str, &str), usize)| {
        let api = "networking.istio.io/v1";
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  clusterIP: \
             10.96.5.{number}\n  selector: {{app: s}}\n  ports: [{{name: http, port: 80, targetPort: 8080}}]\n---\n\
             apiVersion: {api}\nkind: DestinationRule\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  host: \
             {name}\n  trafficPolicy: {{{policy}}}\n---\napiVersion: {api}\nkind: VirtualService\nmetadata: {{name: \
             {name}, namespace: shop}}\nspec:\n  hosts: [{name}]\n  http: [{{retries: {{attempts: 0}}, route: \
             [{{destination: {{host: {name}}}}}]}}]\n"
        )
    };
    SERVICES.iter().zip(20..).map(object).collect()
}

/// The one server that answers a request each time.
fn steady(request: &Request) -> String {
    let replies = client().send(&request.clone().count(6).workers(2));
    let servers = servers(&replies);
    assert!(servers.len() == 1 && !servers.contains(""), "{servers:?}");
    servers.into_iter().next().expect("a server").to_owned()
}

fn all_ok(replies: &[Reply]) -> bool {
    replies.iter().all(|r| r.status == 200)
}

#[test]
fn a_key_of_a_request_leads_to_one_server_and_all_keys_to_all() {
    for (service, keyed) in [("by-header", "/"), ("by-header-maglev", "/"), ("by-query", "/?user=")] {
        let mut chosen = BTreeSet::new();
        for user in 0..12 {
            let user = format!("user-{user}");
            let request = match keyed {
                "/" => get(service, "/").header("user", &user),
                query => get(service, &format!("{query}{user}")),
            };
            chosen.insert(steady(&request));
        }
        assert_eq!(chosen.len(), 3, "{service}: {chosen:?}");
    }
}

#[test]
fn a_client_s_address_leads_to_one_server() {
    steady(&get("by-source", "/"));
}

#[test]
fn a_cookie_is_given_and_leads_to_the_server_that_gave_it() {
    let mut client = client();
    for _ in 0..4 {
        let first = client.one(&get("by-cookie", "/"));
        let given = first.header("set-cookie");
        assert!(given.starts_with("session=") && given.contains("Max-Age=60") && given.contains("Path=/"), "{given}");
        let cookie = given.split(';').next().expect("a cookie");
        assert_eq!(steady(&get("by-cookie", "/").header("cookie", cookie)), first.served_by());
        assert_eq!(client.one(&get("by-cookie", "/").header("cookie", cookie)).header("set-cookie"), "");
    }
}

#[test]
fn servers_get_requests_in_turn() {
    let replies = client().send(&get("in-turn", "/").count(30));
    for server in ["s-v1", "s-v2", "s-v3"] {
        assert_eq!(replies.iter().filter(|r| r.served_by() == server).count(), 10, "{server}");
    }
}

#[test]
fn requests_go_on_as_http2_where_the_policy_upgrades_them() {
    let mut client = client();
    for (service, protocol) in [("as-http2", "HTTP/2.0"), ("in-turn", "HTTP/1.1")] {
        assert_eq!(client.one(&get(service, "/")).echo()["protocol"], protocol, "{service}");
    }
}

#[test]
fn a_connection_ends_after_as_many_requests_as_the_policy_says() {
    let peers = |service| -> BTreeSet<String> {
        let replies = client().send(&get(service, "/").count(12));
        replies.iter().map(|r| r.echo()["peer"].as_str().unwrap_or_default().to_owned()).collect()
    };
    assert_eq!(peers("one-request-each").len(), 12);
    assert_eq!(peers("in-turn").len(), 3);
}

#[test]
fn what_is_more_than_the_limits_is_refused_at_once() {
    for service in ["one-connection", "two-requests"] {
        let replies = client().send(&get(service, "/?delay=100").count(32).workers(8));
        let (served, refused): (Vec<_>, Vec<_>) = replies.iter().partition(|r| r.status == 200);
        assert!(served.len() >= 2, "{service}: {} were served", served.len());
        assert!(refused.len() >= 8, "{service}: {} were refused", refused.len());
        for reply in refused {
            assert_eq!((reply.status, reply.header("x-envoy-overloaded")), (503, "true"), "{}", reply.brief());
            assert!(reply.ms < 90, "{service}: waited {}", reply.brief());
        }
        assert!(all_ok(&client().send(&get(service, "/").count(20))), "{service}: one at a time is served");
    }
}

/// Fails three times at each server and often enough after that, since a proxy looks at what failed beside its work.
fn fail_until_nobody_is_left(service: &str, status: u16) {
    let mut client = client();
    let request = get(service, &format!("/?status={status}"));
    eventually("nobody is left", || {
        let replies = client.send(&request.clone().count(10).pause_ms(5));
        assert!(replies.iter().all(|r| r.status == if r.served_by().is_empty() { 503 } else { status }));
        let last = replies.last().expect("a reply");
        if last.served_by().is_empty() { Ok(()) } else { Err(last.brief()) }
    });
    let stats = field().workload("client").envoy().stats(&format!("{service}.shop.*ejections_active$"));
    assert_eq!(stats.values().sum::<u64>(), 3, "{stats:?}");
}

#[test]
fn servers_that_fail_are_left_out() {
    let mut client = client();
    assert!(all_ok(&client.send(&get("all-errors", "/").count(6))));
    fail_until_nobody_is_left("all-errors", 500);
}

#[test]
fn which_failures_count_is_as_the_policy_says() {
    let mut client = client();
    let replies = client.send(&get("errors-of-gateways", "/?status=500").count(30));
    assert!(replies.iter().all(|r| r.status == 500), "500 is not of a gateway");
    fail_until_nobody_is_left("errors-of-gateways", 502);
}

#[test]
fn no_more_servers_are_left_out_than_the_policy_says() {
    let mut client = client();
    client.send(&get("half-ejected", "/?status=500").count(12));
    let ejected = || field().workload("client").envoy().stats("half-ejected.*ejections_active$").values().sum::<u64>();
    eventually("one is left out", || if ejected() == 1 { Ok(()) } else { Err(ejected().to_string()) });
    let replies = client.send(&get("half-ejected", "/").count(30));
    assert!(all_ok(&replies));
    assert_eq!(servers(&replies).len(), 2, "one of three is left out");
    assert_eq!(ejected(), 1);
}
