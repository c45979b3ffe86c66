//! What is spoken on a port.

use super::{Scene, counts};

#[test]
fn a_tcp_service_is_reached_at_its_address() {
    let mut scene = Scene::new("tcp");
    scene.apply(&scene.service("b", "- {name: tcp, port: 3000, targetPort: 9000}"));
    scene.wait("outbound|3000||NAME.shop.svc.cluster.local");
    let to = format!("{}:3000", scene.address);
    crate::harness::eventually("the service answers", || match scene.client.tcp(&to, "hello") {
        reply if reply.body == "b v1 heard hello" => Ok(()),
        reply => Err(format!("{reply:?}")),
    });
}

#[test]
fn on_a_port_without_a_protocol_it_is_found_out() {
    let mut scene = Scene::new("sniffed");
    scene.apply(&scene.service(
        "b",
        "- {name: web, port: 4000, targetPort: 8080}
  - {name: line, port: 4001, targetPort: 9000}",
    ));
    scene.wait("outbound|4001||NAME.shop.svc.cluster.local");
    scene.wait("NAME.shop.svc.cluster.local:4000");
    let request = crate::harness::Request::get(&format!("http://{}:4000/", scene.address)).host("sniffed:4000");
    let reply = scene.send(request);
    assert_eq!((reply.status, reply.served_by()), (200, "b-v1"));
    assert!(reply.sent_header("x-request-id").is_some(), "taken for HTTP");
    assert_eq!(scene.client.tcp(&format!("{}:4001", scene.address), "hello").body, "b v1 heard hello");
}

// What a port of a pod speaks is said once for all services that lead to it, so these two have ports of their own.

#[test]
fn a_grpc_port_speaks_http_2_to_the_workload() {
    let mut scene = Scene::new("grpc");
    scene.apply(&scene.service("b", "- {name: grpc, port: 5000, targetPort: 8082}"));
    scene.wait("NAME.shop.svc.cluster.local:5000");
    let request = crate::harness::Request::get(&format!("http://{}:5000/x", scene.address)).host("grpc:5000").http2();
    let reply = scene.send(request.method("POST").header("content-type", "application/grpc").body("hello"));
    let echo = reply.echo();
    assert_eq!((reply.status, echo["protocol"].as_str()), (200, Some("HTTP/2.0")), "{}", reply.brief());
    assert_eq!(echo["body"], "hello");
}

#[test]
fn the_protocol_of_the_client_is_kept_where_the_port_allows_both() {
    let mut scene = Scene::new("app-protocol");
    scene.apply(&scene.service(
        "b",
        "- {name: one, appProtocol: http, port: 80, targetPort: 8080}
  - {name: two, appProtocol: kubernetes.io/h2c, port: 5001, targetPort: 8083}",
    ));
    scene.wait("NAME.shop.svc.cluster.local:5001");
    let protocol = |reply: crate::harness::Reply| reply.echo()["protocol"].as_str().map(str::to_owned);
    assert_eq!(protocol(scene.send(scene.get("/"))).as_deref(), Some("HTTP/1.1"));
    let request = crate::harness::Request::get(&format!("http://{}:5001/", scene.address)).host("app-protocol:5001");
    assert_eq!(protocol(scene.send(request)).as_deref(), Some("HTTP/2.0"), "the port says so");
}

#[test]
fn a_proxy_that_takes_all_resources_each_time_is_served_the_same() {
    let mut scene = Scene::new("whole");
    scene.client = scene.world.client("sotw");
    for (version, who) in [("v1", "a-v1"), ("v2", "a-v2")] {
        scene.route("a", &format!("- route: [{{destination: {{host: NAME, subset: {version}}}}}]"));
        scene.world.wait_config("sotw", &scene.marker());
        let replies = scene.client.send(&scene.get("/").count(10));
        assert_eq!(counts(&replies).keys().collect::<Vec<_>>(), [who]);
    }
    assert_eq!(scene.world.workload("sotw").envoy().rejected(), Vec::<String>::new());
}
