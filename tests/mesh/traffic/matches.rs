//! Which requests a route is for.

use super::{Scene, assert_share, counts};

#[test]
fn weights_divide_the_requests() {
    let mut scene = Scene::new("weights");
    scene.route(
        "a",
        "- route:
  - {destination: {host: NAME, subset: v1}, weight: 75}
  - {destination: {host: NAME, subset: v2}, weight: 25}",
    );
    let replies = scene.client.send(&scene.get("/").count(600).workers(4));
    assert_share(&replies, "a-v1", 0.75);
    assert_share(&replies, "a-v2", 0.25);
}

#[test]
fn a_destination_without_weight_gets_nothing() {
    let mut scene = Scene::new("weight-zero");
    scene.route(
        "a",
        "- route:
  - {destination: {host: NAME, subset: v1}, weight: 0}
  - {destination: {host: NAME, subset: v2}, weight: 100}",
    );
    let replies = scene.client.send(&scene.get("/").count(40));
    assert_eq!(counts(&replies).keys().collect::<Vec<_>>(), ["a-v2"]);
}

#[test]
fn headers_choose_the_route() {
    let mut scene = Scene::new("headers");
    scene.route(
        "a",
        "- match: [{headers: {user: {exact: jason}}}]
  route: [{destination: {host: NAME, subset: v2}}]
- match: [{headers: {user: {prefix: te}}, withoutHeaders: {old: {}}}]
  route: [{destination: {host: NAME, subset: v2}}]
- match: [{headers: {user: {regex: 'x[0-9]+'}}}]
  route: [{destination: {host: NAME, subset: v2}}]
- route: [{destination: {host: NAME, subset: v1}}]",
    );
    let mut version = |headers: &[(&str, &str)]| {
        let request = headers.iter().fold(scene.get("/"), |r, (k, v)| r.header(k, v));
        scene.send(request).served_by().to_owned()
    };
    assert_eq!(version(&[("user", "jason")]), "a-v2");
    assert_eq!(version(&[("user", "jasonx")]), "a-v1");
    assert_eq!(version(&[("user", "tester")]), "a-v2");
    assert_eq!(version(&[("user", "tester"), ("old", "1")]), "a-v1");
    assert_eq!(version(&[("user", "x12")]), "a-v2");
    assert_eq!(version(&[("user", "x12y")]), "a-v1");
    assert_eq!(version(&[]), "a-v1");
}

#[test]
fn paths_choose_the_route() {
    let mut scene = Scene::new("paths");
    scene.route(
        "a",
        "- match: [{uri: {exact: /exact}}, {uri: {prefix: /pre/}}, {uri: {regex: '/r/[a-c]+'}}]
  route: [{destination: {host: NAME, subset: v2}}]
- match: [{uri: {exact: /CASE}, ignoreUriCase: true}]
  route: [{destination: {host: NAME, subset: v2}}]
- route: [{destination: {host: NAME, subset: v1}}]",
    );
    for path in ["/exact", "/pre/x", "/r/abc", "/case", "/exact?a=b"] {
        assert_eq!(scene.served_by(path), "a-v2", "{path}");
    }
    for path in ["/exact/x", "/pre", "/r/abcd", "/cases", "/Exact", "/"] {
        assert_eq!(scene.served_by(path), "a-v1", "{path}");
    }
}

#[test]
fn methods_and_queries_choose_the_route() {
    let mut scene = Scene::new("queries");
    scene.route(
        "a",
        "- match: [{method: {exact: POST}}]
  route: [{destination: {host: NAME, subset: v2}}]
- match: [{queryParams: {v: {exact: '2'}}}, {queryParams: {q: {regex: '[0-9]+'}}}]
  route: [{destination: {host: NAME, subset: v2}}]
- route: [{destination: {host: NAME, subset: v1}}]",
    );
    let post = scene.get("/").method("POST").body("hello");
    let reply = scene.send(post);
    assert_eq!((reply.served_by(), reply.echo()["body"].as_str()), ("a-v2", Some("hello")));
    assert_eq!(scene.served_by("/?v=2"), "a-v2");
    assert_eq!(scene.served_by("/?v=1"), "a-v1");
    assert_eq!(scene.served_by("/?q=17"), "a-v2");
    assert_eq!(scene.served_by("/?q=x"), "a-v1");
}

#[test]
fn the_first_route_that_matches_is_taken() {
    let mut scene = Scene::new("order");
    scene.route(
        "a",
        "- match: [{uri: {prefix: /x}}]
  route: [{destination: {host: NAME, subset: v1}}]
- match: [{uri: {exact: /x/y}}]
  route: [{destination: {host: NAME, subset: v2}}]",
    );
    assert_eq!(scene.served_by("/x/y"), "a-v1");
    let reply = scene.send(scene.get("/nothing"));
    assert_eq!(reply.status, 404, "no route is for it: {}", reply.body);
}
