//! What a route does with a request.

use super::Scene;

#[test]
fn a_rewrite_changes_path_and_host() {
    let mut scene = Scene::new("rewrite");
    scene.route(
        "a",
        "- match: [{uri: {prefix: /old}}]
  rewrite: {uri: /new, authority: other.test}
  route: [{destination: {host: NAME}}]
- match: [{uri: {prefix: /re/}}]
  rewrite: {uriRegexRewrite: {match: '/re/([a-z]+)/(.*)', rewrite: '/\\2/\\1'}}
  route: [{destination: {host: NAME}}]",
    );
    let echo = scene.send(scene.get("/old/x?q=1")).echo();
    assert_eq!((echo["path"].as_str(), echo["host"].as_str()), (Some("/new/x?q=1"), Some("other.test")));
    let echo = scene.send(scene.get("/re/one/two")).echo();
    assert_eq!((echo["path"].as_str(), echo["host"].as_str()), (Some("/two/one"), Some("rewrite")));
}

#[test]
fn a_redirect_names_the_new_place() {
    let mut scene = Scene::new("redirect");
    scene.route(
        "a",
        "- match: [{uri: {exact: /moved}}]
  redirect: {uri: /there, authority: elsewhere.test, redirectCode: 302}
- match: [{uri: {prefix: /https}}]
  redirect: {scheme: https}
- route: [{destination: {host: NAME}}]",
    );
    let reply = scene.send(scene.get("/moved"));
    assert_eq!((reply.status, reply.header("location")), (302, "http://elsewhere.test/there"));
    let reply = scene.send(scene.get("/https/x"));
    assert_eq!((reply.status, reply.header("location")), (301, "https://redirect/https/x"));
}

#[test]
fn a_direct_response_needs_no_workload() {
    let mut scene = Scene::new("direct");
    scene.route("nothing", "- directResponse: {status: 418, body: {string: short and stout}}");
    let reply = scene.send(scene.get("/"));
    assert_eq!((reply.status, reply.body.as_str()), (418, "short and stout"));
}

#[test]
fn headers_are_added_set_and_removed() {
    let mut scene = Scene::new("header-operations");
    scene.route(
        "a",
        "- headers:
    request: {set: {x-set: route}, add: {x-add: route}, remove: [x-gone]}
    response: {set: {x-answer: route}, remove: [x-served-by]}
  route:
  - destination: {host: NAME, subset: v1}
    headers:
      request: {add: {x-add: destination}, set: {x-destination: '1'}}
      response: {add: {x-answer-destination: '1'}}",
    );
    let reply = scene.send(scene.get("/").header("x-set", "client").header("x-add", "client").header("x-gone", "1"));
    let sent = |name| reply.sent_header(name);
    assert_eq!(sent("x-set").as_deref(), Some("route"));
    let added = sent("x-add").unwrap_or_default();
    for part in ["client", "route", "destination"] {
        assert!(added.contains(part), "{part} in {added}");
    }
    assert_eq!(sent("x-gone"), None);
    assert_eq!(sent("x-destination").as_deref(), Some("1"));
    assert_eq!((reply.header("x-answer"), reply.header("x-answer-destination")), ("route", "1"));
    assert_eq!(reply.header("x-served-by"), "", "removed");
    assert_eq!(reply.echo()["name"], "a");
}

#[test]
fn an_injected_delay_is_waited() {
    let mut scene = Scene::new("delay");
    scene.route(
        "a",
        "- match: [{headers: {slow: {exact: 'yes'}}}]
  fault: {delay: {percentage: {value: 100}, fixedDelay: 400ms}}
  route: [{destination: {host: NAME}}]
- route: [{destination: {host: NAME}}]",
    );
    let slow = scene.send(scene.get("/").header("slow", "yes"));
    assert!(slow.status == 200 && slow.ms >= 400, "{}", slow.brief());
    let fast = scene.send(scene.get("/"));
    assert!(fast.status == 200 && fast.ms < 400, "{}", fast.brief());
}

#[test]
fn an_injected_abort_never_reaches_the_workload() {
    let mut scene = Scene::new("abort");
    scene.route(
        "a",
        "- match: [{uri: {prefix: /half}}]
  fault: {abort: {percentage: {value: 50}, httpStatus: 429}}
  route: [{destination: {host: NAME}}]
- fault: {abort: {percentage: {value: 100}, httpStatus: 555}}
  route: [{destination: {host: NAME}}]",
    );
    let all = scene.client.send(&scene.get("/").count(20));
    assert!(all.iter().all(|r| r.status == 555 && r.served_by().is_empty()), "{}", all[0].brief());
    let half = scene.client.send(&scene.get("/half").count(300).workers(2));
    let aborted = half.iter().filter(|r| r.status == 429).count();
    assert!((105..=195).contains(&aborted), "{aborted} of 300");
    assert!(half.iter().all(|r| matches!(r.status, 200 | 429)));
}

#[test]
fn a_timeout_ends_a_slow_request() {
    let mut scene = Scene::new("timeout");
    scene.route("a", "- timeout: 300ms\n  route: [{destination: {host: NAME}}]");
    let reply = scene.send(scene.get("/?delay=3000"));
    assert!(reply.status == 504 && (290..1500).contains(&reply.ms), "{}", reply.brief());
    assert_eq!(scene.send(scene.get("/?delay=50")).status, 200);
}

#[test]
fn a_failed_request_is_sent_again_as_often_as_the_route_says() {
    let mut scene = Scene::new("retries");
    scene.route(
        "b",
        "- match: [{uri: {prefix: /none}}]
  retries: {attempts: 0}
  route: [{destination: {host: NAME}}]
- retries: {attempts: 3, retryOn: 5xx, perTryTimeout: 2s}
  route: [{destination: {host: NAME}}]",
    );
    let saved = scene.send(scene.get("/?key=retry-saved&fail=2&status=503"));
    assert_eq!((saved.status, saved.echo()["seen"].as_u64()), (200, Some(3)));
    let lost = scene.send(scene.get("/?key=retry-lost&fail=9&status=500"));
    assert_eq!((lost.status, lost.echo()["seen"].as_u64()), (500, Some(4)), "one request and three retries");
    let once = scene.send(scene.get("/none?key=retry-none&fail=1&status=503"));
    assert_eq!((once.status, once.echo()["seen"].as_u64()), (503, Some(1)));
}

#[test]
fn a_mirror_gets_a_copy_and_its_answer_goes_nowhere() {
    let mut scene = Scene::new("mirror");
    scene.route(
        "a",
        "- route: [{destination: {host: NAME, subset: v1}}]
  mirrors: [{destination: {host: NAME, subset: v2}, percentage: {value: 100}}]",
    );
    let replies = scene.client.send(&scene.get("/?key=mirrored").count(30));
    assert!(replies.iter().all(|r| r.served_by() == "a-v1"));
    let mut shadow = scene.world.client("a-v2");
    crate::harness::eventually("the shadow has all copies", || {
        let seen = shadow.get("http://127.0.0.1:8080/_count?key=mirrored").echo()["seen"].as_u64();
        if seen == Some(30) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn a_cors_preflight_is_answered_by_the_proxy() {
    let mut scene = Scene::new("cors");
    scene.route(
        "a",
        "- corsPolicy: {allowOrigins: [{exact: 'https://shop.test'}], allowMethods: [GET], maxAge: 1h}
  route: [{destination: {host: NAME}}]",
    );
    let ask = |origin| {
        scene.get("/").method("OPTIONS").header("origin", origin).header("access-control-request-method", "GET")
    };
    let (allowed, other) = (ask("https://shop.test"), ask("https://other.test"));
    let reply = scene.send(allowed);
    assert_eq!((reply.status, reply.header("access-control-allow-origin")), (200, "https://shop.test"));
    assert_eq!((reply.header("access-control-max-age"), reply.served_by()), ("3600", ""));
    assert_eq!(scene.send(other).header("access-control-allow-origin"), "");
}
