//! What a route does with the requests that it takes.

use super::{client, field, get, seen, servers, virtual_service};
use crate::{
    harness::{Reply, Request, eventually},
    traffic::{assert_share, counts},
};

/// Hosts and their `http` lists. `V1` stands for a subset of `s` as a destination, and so on.
const HOSTS: &[(&str, &str)] = &[
    ("single", "- route: [{V2}]"),
    ("single-zero", "- route: [{V2, weight: 0}]"),
    ("three-ways", "- route: [{V1, weight: 10}, {V2, weight: 30}, {V3, weight: 60}]"),
    ("two-of-three", "- route: [{V1, weight: 0}, {V2, weight: 50}, {V3, weight: 50}]"),
    (
        "headers-by-weight",
        "- route:
  - {V1, weight: 50, headers: {request: {set: {x-for: one}}, response: {set: {x-from: one}}}}
  - {V2, weight: 50, headers: {request: {set: {x-for: two}}, response: {set: {x-from: two}}}}",
    ),
    (
        "headers",
        "- headers:
    request: {set: {x-set: new, host: other.test}, add: {x-add: more}, remove: [x-gone]}
    response: {set: {content-type: text/plain}, add: {x-added: '1'}, remove: [x-served-by]}
  route: [{V1}]",
    ),
    (
        "retry-gateway",
        "- retries: {attempts: 2, retryOn: gateway-error}
  route: [{V1}]",
    ),
    (
        "retry-status",
        "- retries: {attempts: 2, retryOn: '418,500'}
  route: [{V1}]",
    ),
    (
        "retry-4xx",
        "- retries: {attempts: 2, retryOn: retriable-4xx}
  route: [{V1}]",
    ),
    ("retry-usual", "- route: [{V1}]"),
    (
        "retry-once",
        "- retries: {attempts: 1, retryOn: 5xx}
  route: [{V1}]",
    ),
    (
        "per-try",
        "- retries: {attempts: 2, perTryTimeout: 100ms, retryOn: gateway-error}
  route: [{V1}]",
    ),
    (
        "per-try-and-all",
        "- retries: {attempts: 9, perTryTimeout: 100ms, retryOn: gateway-error}
  timeout: 350ms
  route: [{V1}]",
    ),
    (
        "delay-half",
        "- fault: {delay: {percentage: {value: 50}, fixedDelay: 100ms}}
  route: [{V1}]",
    ),
    (
        "delay-never",
        "- fault: {delay: {percentage: {value: 0}, fixedDelay: 5s}}
  route: [{V1}]",
    ),
    (
        "abort-never",
        "- fault: {abort: {percentage: {value: 0}, httpStatus: 500}}
  route: [{V1}]",
    ),
    (
        "abort-tenth",
        "- fault: {abort: {percentage: {value: 10}, httpStatus: 501}}
  route: [{V1}]",
    ),
    (
        "abort-grpc",
        "- fault: {abort: {percentage: {value: 100}, grpcStatus: RESOURCE_EXHAUSTED}}
  route: [{V1}]",
    ),
    (
        "delay-and-abort",
        "- fault:
    delay: {percentage: {value: 100}, fixedDelay: 100ms}
    abort: {percentage: {value: 100}, httpStatus: 507}
  route: [{V1}]",
    ),
    (
        "mirrors",
        "- route: [{V1}]
  mirrors: [{V2}, {V3, percentage: {value: 50}}]",
    ),
    (
        "mirror",
        "- route: [{V1}]
  mirror: {host: s, subset: v2, port: {number: 80}}
  mirrorPercentage: {value: 25}",
    ),
    (
        "redirects",
        "- {match: [{uri: {exact: /path}}], redirect: {uri: /new}}
- {match: [{uri: {exact: /authority}}], redirect: {authority: new.test}}
- {match: [{uri: {exact: /port}}], redirect: {port: 8443}}
- {match: [{uri: {exact: /scheme}}], redirect: {scheme: https, redirectCode: 308}}
- {match: [{uri: {exact: /scheme-and-port}}], redirect: {scheme: https, derivePort: FROM_REQUEST_PORT}}
- {match: [{uri: {exact: /usual-port}}], redirect: {derivePort: FROM_PROTOCOL_DEFAULT}}
- {match: [{uri: {prefix: /start/}}], redirect: {prefixRewrite: /new/, redirectCode: 307}}
- {match: [{uri: {prefix: /whole/}}], redirect: {uri: /new, redirectCode: 303}}",
    ),
    (
        "rewrites",
        "- {match: [{uri: {exact: /exact}}], rewrite: {uri: /new}, route: [{V1}]}
- {match: [{uri: {prefix: /prefix/}}], rewrite: {uri: /}, route: [{V1}]}
- {match: [{uri: {prefix: /bare}}], rewrite: {uri: /}, route: [{V1}]}
- {match: [{uri: {prefix: /longer}}], rewrite: {uri: /new/and/longer}, route: [{V1}]}
- {match: [{uri: {regex: '/regex/.*'}}], rewrite: {uri: /whole}, route: [{V1}]}
- match: [{uri: {prefix: /groups/}}]
  rewrite: {uriRegexRewrite: {match: '^/groups/(\\w+)/(\\d+)', rewrite: '/\\2/\\1'}}
  route: [{V1}]
- {match: [{uri: {prefix: /authority}}], rewrite: {authority: new.test}, route: [{V1}]}",
    ),
    (
        "answers",
        "- {match: [{uri: {exact: /text}}], directResponse: {status: 418, body: {string: a teapot}}}
- {match: [{uri: {exact: /bytes}}], directResponse: {status: 200, body: {bytes: aGVsbG8=}}}
- {match: [{uri: {exact: /empty}}], directResponse: {status: 204}}
- match: [{uri: {exact: /headers}}]
  directResponse: {status: 503, body: {string: '{}'}}
  headers: {response: {set: {content-type: application/json, x-own: '1'}}}",
    ),
    (
        "cors",
        "- corsPolicy:
    allowOrigins: [{exact: 'https://exact.test'}, {prefix: 'https://prefix.'}, {regex: 'https://[a-c]+\\.test'}]
    allowMethods: [GET, PUT]
    allowHeaders: [x-one, x-two]
    exposeHeaders: [x-three]
    maxAge: 2m
    allowCredentials: true
  route: [{V1}]",
    ),
];

/// The VirtualServices of all hosts.
pub(super) fn objects() -> String {
    let object = |(name, http): &(&str, &str)| {
        let subset = |http: String, n: char| {
            http.replace(&format!("V{n}"), &format!("destination: {{host: s, subset: v{n}, port: {{number: 80}}}}"))
        };
        virtual_service(
            &format!("route-{name}"),
            &format!("{name}.test"),
            &['1', '2', '3'].into_iter().fold((*http).to_owned(), subset),
        )
    };
    HOSTS.iter().map(object).collect()
}

/// Nothing that waits for 100 ms is measured to be faster than this: clocks are coarse.
const LATE: u64 = 98;

fn host(name: &str, path: &str) -> Request {
    get(&format!("{name}.test"), path)
}

fn send(request: &Request) -> Reply {
    client().one(request)
}

#[test]
fn every_weight_is_the_share_of_its_destination() {
    let mut client = client();
    for (name, shares) in [
        ("single", [0.0, 1.0, 0.0]),
        ("single-zero", [0.0, 1.0, 0.0]),
        ("three-ways", [0.1, 0.3, 0.6]),
        ("two-of-three", [0.0, 0.5, 0.5]),
    ] {
        let replies = client.send(&host(name, "/").count(300).workers(4));
        assert_eq!(counts(&replies).values().sum::<usize>(), 300, "{name}");
        for (server, share) in ["s-v1", "s-v2", "s-v3"].into_iter().zip(shares) {
            assert_share(&replies, server, share);
        }
    }
}

#[test]
fn the_headers_of_a_destination_are_for_its_share_alone() {
    let replies = client().send(&host("headers-by-weight", "/").count(40));
    assert_eq!(servers(&replies).len(), 2);
    for reply in replies {
        let expected = if reply.served_by() == "s-v1" { "one" } else { "two" };
        assert_eq!((reply.header("x-from"), reply.sent_header("x-for").as_deref()), (expected, Some(expected)));
    }
}

#[test]
fn the_host_and_other_headers_are_set_on_the_way() {
    let request = host("headers", "/").header("x-set", "old").header("x-add", "first").header("x-gone", "1");
    let reply = send(&request);
    let echo = reply.echo();
    assert_eq!(echo["host"], "other.test");
    assert_eq!(reply.sent_header("x-set").as_deref(), Some("new"));
    assert_eq!(reply.sent_header("x-add").as_deref(), Some("first,more"));
    assert_eq!(reply.sent_header("x-gone"), None);
    let answered = ["content-type", "x-added", "x-served-by"].map(|name| reply.header(name));
    assert_eq!(answered, ["text/plain", "1", ""]);
}

#[test]
fn the_server_sees_as_many_tries_as_the_route_says() {
    let mut client = client();
    // The host, what fails how often, the status in the end, and how many tries the server saw.
    for (name, status, fail, end, tries) in [
        ("retry-gateway", 502, 1, 200, 2),
        ("retry-gateway", 503, 2, 200, 3),
        ("retry-gateway", 504, 9, 504, 3),
        ("retry-gateway", 500, 9, 500, 1),
        ("retry-status", 418, 2, 200, 3),
        ("retry-status", 500, 9, 500, 3),
        ("retry-status", 502, 9, 502, 1),
        ("retry-4xx", 409, 1, 200, 2),
        ("retry-4xx", 404, 9, 404, 1),
        ("retry-once", 503, 9, 503, 2),
        ("retry-once", 501, 1, 200, 2),
        ("retry-usual", 500, 9, 500, 1),
        ("retry-usual", 404, 9, 404, 1),
    ] {
        let key = format!("{name}-{status}-{fail}");
        let reply = client.one(&host(name, &format!("/?key={key}&fail={fail}&status={status}")));
        assert_eq!((reply.status, seen("s-v1", &key)), (end, tries), "{key}");
    }
}

#[test]
fn each_try_has_its_time_and_all_of_them_together_theirs() {
    let reply = send(&host("per-try", "/?key=per-try&delay=1000"));
    assert_eq!((reply.status, seen("s-v1", "per-try")), (504, 3), "{}", reply.brief());
    assert!((300..1000).contains(&reply.ms), "{}", reply.brief());
    // Envoy counts from when its loop last woke, a little before the request.
    let reply = send(&host("per-try-and-all", "/?key=per-try-and-all&delay=1000"));
    assert!(reply.status == 504 && (340..1000).contains(&reply.ms), "{}", reply.brief());
    assert!((2..=4).contains(&seen("s-v1", "per-try-and-all")), "{}", seen("s-v1", "per-try-and-all"));
}

#[test]
fn faults_meet_their_percentage_of_the_requests() {
    let mut client = client();
    let slow = client.send(&host("delay-half", "/").count(100).workers(8));
    let late = slow.iter().filter(|r| r.ms >= LATE).count();
    assert!((25..=75).contains(&late), "{late} of 100");
    let aborted = client.send(&host("abort-tenth", "/").count(400).workers(4));
    let failed = aborted.iter().filter(|r| r.status == 501).count();
    assert!((10..=70).contains(&failed), "{failed} of 400");
    for name in ["delay-never", "abort-never"] {
        let replies = client.send(&host(name, "/").count(50).workers(4));
        assert!(replies.iter().all(|r| r.status == 200 && r.ms < 5000), "{name}");
    }
}

#[test]
fn a_fault_may_be_a_status_of_grpc_or_come_late() {
    let request = host("abort-grpc", "/x").method("POST").header("content-type", "application/grpc").http2();
    let reply = send(&request);
    assert_eq!((reply.status, reply.header("grpc-status")), (200, "8"), "{:?}", reply.headers);
    let reply = send(&host("delay-and-abort", "/"));
    assert!(reply.status == 507 && reply.ms >= LATE, "{}", reply.brief());
}

#[test]
fn mirrors_see_their_percentage_of_the_requests() {
    let mut client = client();
    for name in ["mirrors", "mirror"] {
        let replies = client.send(&host(name, &format!("/?key={name}")).count(200).workers(4));
        assert_eq!(servers(&replies).into_iter().collect::<Vec<_>>(), ["s-v1"]);
        assert_eq!(seen("s-v1", name), 200);
    }
    eventually("the mirrors have their copies", || {
        let copies = [seen("s-v2", "mirrors"), seen("s-v3", "mirrors"), seen("s-v2", "mirror")];
        match copies[0] == 200 && (60..=140).contains(&copies[1]) && (20..=85).contains(&copies[2]) {
            true => Ok(()),
            false => Err(format!("{copies:?}")),
        }
    });
}

#[test]
fn redirects_change_what_they_say_and_keep_the_rest() {
    let mut client = client();
    for (path, status, location) in [
        ("/path?a=b", 301, "http://redirects.test/new?a=b"),
        ("/authority?a=b", 301, "http://new.test/authority?a=b"),
        ("/port", 301, "http://redirects.test:8443/port"),
        ("/scheme", 308, "https://redirects.test/scheme"),
        ("/scheme-and-port", 301, "https://redirects.test:80/scheme-and-port"),
        ("/usual-port", 301, "http://redirects.test/usual-port"),
        ("/start/x/y", 307, "http://redirects.test/new/x/y"),
        ("/whole/x/y", 303, "http://redirects.test/new"),
    ] {
        let reply = client.one(&host("redirects", path));
        assert_eq!((reply.status, reply.header("location")), (status, location), "{path}");
    }
}

#[test]
fn rewrites_change_the_path_and_the_host_that_the_server_sees() {
    let mut client = client();
    for (path, seen, authority) in [
        ("/exact?a=b", "/new?a=b", "rewrites.test"),
        ("/prefix/x/y?a=b", "/x/y?a=b", "rewrites.test"),
        ("/bare", "/", "rewrites.test"),
        // Only the prefix goes, as it is written.
        ("/bare/x", "//x", "rewrites.test"),
        ("/longer/x", "/new/and/longer/x", "rewrites.test"),
        ("/groups/abc/12/x?a=b", "/12/abc/x?a=b", "rewrites.test"),
        ("/authority/x", "/authority/x", "new.test"),
    ] {
        let echo = client.one(&host("rewrites", path)).echo();
        assert_eq!((echo["path"].as_str(), echo["host"].as_str()), (Some(seen), Some(authority)), "{path}");
    }
}

#[test]
fn answers_of_a_route_itself_have_status_body_and_headers() {
    let mut client = client();
    for (path, status, body) in
        [("/text", 418, "a teapot"), ("/bytes", 200, "hello"), ("/empty", 204, ""), ("/headers", 503, "{}")]
    {
        let reply = client.one(&host("answers", path));
        assert_eq!((reply.status, reply.body.as_str(), reply.served_by()), (status, body, ""), "{path}");
    }
    let reply = client.one(&host("answers", "/headers"));
    assert_eq!((reply.header("content-type"), reply.header("x-own")), ("application/json", "1"));
    assert_eq!(client.one(&host("answers", "/else")).status, 404);
}

#[test]
fn origins_are_allowed_as_the_policy_says() {
    let mut client = client();
    let preflight = |origin| {
        host("cors", "/").method("OPTIONS").header("origin", origin).header("access-control-request-method", "PUT")
    };
    for origin in ["https://exact.test", "https://prefix.any.test", "https://abc.test"] {
        let reply = client.one(&preflight(origin));
        let of = |name: &str| reply.header(&format!("access-control-{name}")).replace(", ", ",");
        assert_eq!((reply.status, reply.served_by(), of("allow-origin").as_str()), (200, "", origin), "{origin}");
        let rest = ["allow-methods", "allow-headers", "max-age", "allow-credentials"].map(of);
        assert_eq!(rest, ["GET,PUT", "x-one,x-two", "120", "true"]);
        let reply = client.one(&host("cors", "/").header("origin", origin));
        let of = |name: &str| reply.header(&format!("access-control-{name}"));
        assert_eq!((reply.served_by(), of("allow-origin"), of("expose-headers")), ("s-v1", origin, "x-three"));
    }
    for origin in ["https://exact.test.evil", "http://exact.test", "https://abcd.test", "https://x.prefix.test"] {
        let reply = client.one(&host("cors", "/").header("origin", origin));
        assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, ""), "{origin}");
    }
}

#[test]
fn a_delegate_routes_what_its_root_gives_it() {
    let mut client = client();
    for (path, server) in [("/one/deep/x", "s-v1"), ("/one/x", "s-v2"), ("/two", "s-v3")] {
        let replies = client.send(&get("delegate.test", path).count(4));
        assert_eq!(servers(&replies).into_iter().collect::<Vec<_>>(), [server], "{path}");
    }
    assert_eq!(field().workload("client").envoy().rejected(), Vec::<String>::new());
}
