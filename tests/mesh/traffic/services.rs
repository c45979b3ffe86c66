//! Which workloads a service means, and what is no service.

use super::{SUBSETS, Scene, assert_share, counts, service, shared};
use crate::harness::{Client, Network, Pod, Request, World};

#[test]
fn an_envoy_that_takes_messages_compressed_is_served_as_any_other() {
    let others: String = (0..100).map(|n| service(&format!("s-{n}"), "a", "80")).collect();
    let pods =
        vec![Pod::new("client", "shop", "client", "v1").compressed(), Pod::new("a-v1", "shop", "a", "v1").bare()];
    let world = World::with(pods, &[("others.yaml", &others)]);
    let mut scene = Scene::of(&world, "small");
    scene.route("a", "- route: [{destination: {host: NAME, subset: v1}}]");
    assert_eq!(scene.served_by("/"), "a-v1");
    let reply = scene.client.one(&Request::get("http://10.96.9.9/").host("s-7"));
    assert_eq!(reply.served_by(), "a-v1", "{}", reply.brief());
    let count = |name: &str| -> f64 { world.control_plane().metrics(name).iter().map(|(_, value)| value).sum() };
    let (resources, messages) = (count("mainsheet_bytes_sent"), count("mainsheet_message_bytes_sent"));
    assert!(resources > 50_000.0 && messages < resources / 4.0, "{resources} bytes became {messages}");
}

#[test]
fn requests_are_spread_over_the_pods_of_a_service() {
    let mut scene = Scene::new("spread");
    scene.apply(&scene.service("a", "- {name: http, port: 80, targetPort: 8080}"));
    scene.wait("NAME.shop.svc.cluster.local:80");
    let replies = scene.client.send(&scene.get("/").count(200).workers(4));
    assert_share(&replies, "a-v1", 0.5);
    // Both sidecars took part: the one of the client, and the one of the workload.
    let echo = replies[0].echo();
    assert!(echo["peer"].as_str().is_some_and(|p| p.starts_with("127.0.0.6:")), "{}", echo["peer"]);
    assert!(echo["headers"]["x-request-id"].is_string());
}

#[test]
fn every_name_of_a_service_is_known() {
    let mut scene = Scene::new("names");
    scene.apply(&scene.service("b", "- {name: http, port: 80, targetPort: 8080}"));
    scene.wait("NAME.shop.svc.cluster.local:80");
    let url = format!("http://{}/", scene.address);
    for host in [
        "names",
        "names:80",
        "names.shop",
        "names.shop.svc",
        "names.shop.svc.cluster.local",
        "names.shop.svc.cluster.local:80",
    ] {
        let reply = scene.send(Request::get(&url).host(host));
        assert_eq!((reply.status, reply.served_by()), (200, "b-v1"), "{host}");
    }
    let by_address = scene.send(Request::get(&url));
    assert_eq!((by_address.status, by_address.served_by()), (200, "b-v1"), "the address as the host");
}

#[test]
fn a_subset_is_the_pods_with_its_labels() {
    let mut scene = Scene::new("subset");
    scene.route(
        "a",
        "- match: [{uri: {prefix: /one}}]
  route: [{destination: {host: NAME, subset: v1}}]
- match: [{uri: {prefix: /two}}]
  route: [{destination: {host: NAME.shop.svc.cluster.local, subset: v2}}]
- route: [{destination: {host: NAME}}]",
    );
    for (path, who) in [("/one", "a-v1"), ("/two", "a-v2")] {
        let replies = scene.client.send(&scene.get(path).count(20));
        assert_eq!(counts(&replies).keys().collect::<Vec<_>>(), [who]);
    }
    let replies = scene.client.send(&scene.get("/").count(40));
    assert_eq!(counts(&replies).len(), 2);
}

#[test]
fn a_route_to_another_service_leaves_the_first() {
    let mut scene = Scene::new("elsewhere");
    let other = "---
apiVersion: v1
kind: Service
metadata: {name: elsewhere-b, namespace: shop}
spec: {selector: {app: b}, clusterIP: 10.96.200.1, ports: [{name: http, port: 8000, targetPort: 8081}]}
";
    let routes = scene.virtual_service("- route: [{destination: {host: elsewhere-b, port: {number: 8000}}}]");
    scene.apply(&format!("{}{other}{routes}", scene.service("a", "- {name: http, port: 80, targetPort: 8080}")));
    scene.wait(&scene.marker());
    let reply = scene.send(scene.get("/"));
    assert_eq!((reply.served_by(), reply.echo()["port"].as_u64()), ("b-v1", Some(8081)));
}

#[test]
fn a_service_without_pods_answers_503() {
    let mut scene = Scene::new("empty");
    scene.apply(&scene.service("nobody", "- {name: http, port: 80, targetPort: 8080}"));
    scene.wait("NAME.shop.svc.cluster.local:80");
    assert_eq!(scene.send(scene.get("/")).status, 503);
}

#[test]
fn the_ports_of_a_service_lead_to_ports_of_the_pod() {
    let mut scene = Scene::new("ports");
    scene.apply(&scene.service(
        "b",
        "- {name: http, port: 80, targetPort: 8081}
  - {name: http-more, port: 8888, targetPort: 8080}",
    ));
    scene.wait("NAME.shop.svc.cluster.local:8888");
    let port = |reply: crate::harness::Reply| reply.echo()["port"].as_u64();
    assert_eq!(port(scene.send(scene.get("/"))), Some(8081));
    let other = Request::get(&format!("http://{}:8888/", scene.address)).host("ports:8888");
    assert_eq!(port(scene.send(other)), Some(8080));
}

#[test]
fn two_services_on_one_port_are_told_apart() {
    let (mut one, mut two) = (Scene::new("twin-one"), Scene::new("twin-two"));
    one.apply(&one.service("a", "- {name: http, port: 80, targetPort: 8080}"));
    two.apply(&two.service("b", "- {name: http, port: 80, targetPort: 8080}"));
    one.wait("twin-one.shop.svc.cluster.local:80");
    one.wait("twin-two.shop.svc.cluster.local:80");
    assert!(one.served_by("/").starts_with("a-"));
    assert_eq!(two.served_by("/"), "b-v1");
}

#[test]
fn a_headless_service_is_reached_at_the_addresses_of_its_pods() {
    let mut scene = Scene::new("headless");
    let service = scene.service("a", "- {name: http, port: 8081, targetPort: 8081}\n  - {name: tcp, port: 9000}");
    scene.apply(&service.replace(&scene.address, "None"));
    scene.wait("NAME.shop.svc.cluster.local:8081");
    for (pod, who) in [("a-v1", "a-v1"), ("a-v2", "a-v2")] {
        let ip = &scene.world.workload(pod).pod.ip;
        let http = scene.client.one(&Request::get(&format!("http://{ip}:8081/")).host("headless:8081"));
        // The name means all pods of the service, whichever address the client took.
        assert!(http.status == 200 && http.served_by().starts_with("a-"), "{}", http.brief());
        let tcp = scene.client.tcp(&format!("{ip}:9000"), "hi");
        assert_eq!(tcp.body, format!("{} heard hi", who.replace('-', " ")), "{:?}", tcp.error);
    }
}

#[test]
fn what_is_no_service_is_passed_through() {
    let mut client = shared().client("client");
    let outside = Network::OUTSIDE;
    let reply = client.one(&Request::get(&format!("http://{outside}:7000/x")).host("outside.test"));
    assert_eq!((reply.status, reply.echo()["name"].as_str()), (200, Some("outside")), "{}", reply.brief());
    assert_eq!(client.tcp(&format!("{outside}:7001"), "hi").body, "outside  heard hi");
}

#[test]
fn what_comes_from_outside_the_mesh_is_let_in() {
    let world = shared();
    let mut node = Client::new(&world.node());
    let reply = node.get(&format!("http://{}:8080/", world.workload("b-v1").pod.ip));
    assert_eq!((reply.status, reply.served_by()), (200, "b-v1"));
    let tcp = node.tcp(&format!("{}:9000", world.workload("b-v1").pod.ip), "hi");
    assert_eq!(tcp.body, "b v1 heard hi");
}

#[test]
fn without_capture_a_workload_sends_to_the_listeners_of_its_proxy() {
    let mut scene = Scene::new("uncaptured-port");
    scene.client = scene.world.client("uncaptured");
    let service = scene.service("a", "- {name: http, port: 8500, targetPort: 8080}");
    let routes = scene.virtual_service("- route: [{destination: {host: NAME, subset: v2}}]");
    scene.apply(&format!("{service}{SUBSETS}{routes}"));
    scene.world.wait_config("uncaptured", &scene.marker());
    crate::harness::eventually("the listener answers", || {
        let request = Request::get("http://127.0.0.1:8500/").host("uncaptured-port:8500");
        match scene.client.one(&request) {
            reply if reply.status == 200 && reply.served_by() == "a-v2" => Ok(()),
            reply => Err(reply.brief()),
        }
    });
}

#[test]
fn a_broken_object_leaves_the_others_working() {
    let mut scene = Scene::new("broken");
    scene.route("a", "- route: [{destination: {host: NAME, subset: v1}}]");
    let broken = "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: NAME-bad, namespace: shop}
spec:
  hosts: [NAME-bad]
  http: [{match: [{uri: {regex: '['}}], route: [{destination: {host: NAME}}]}]
---
apiVersion: v1
kind: Service
metadata: {name: NAME-service, namespace: shop}
spec: {ports: [{name: http, port: 700000}]}
---
this: is no object
";
    let http = "- route: [{destination: {host: NAME, subset: v2}}]";
    let service = scene.service("a", "- {name: http, port: 80, targetPort: 8080}");
    let routes = scene.virtual_service(http);
    scene.apply(&format!("{broken}{service}{SUBSETS}{routes}"));
    scene.wait(&scene.marker());
    assert_eq!(scene.served_by("/"), "a-v2");
    let problems = scene.world.control_plane().http("/debug/problems").body;
    for object in ["broken-bad", "broken-service"] {
        assert!(problems.contains(object), "{object} in {problems}");
    }
    assert_eq!(scene.world.workload("client").envoy().rejected(), Vec::<String>::new());
}

#[test]
fn with_registry_only_what_is_no_service_gets_502() {
    let mesh = "
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data:
  mesh: |
    outboundTrafficPolicy: {mode: REGISTRY_ONLY}
";
    let pods = vec![Pod::new("client", "shop", "client", "v1"), Pod::new("a-v1", "shop", "a", "v1")];
    let world = World::with(pods, &[("mesh.yaml", mesh)]);
    let mut scene = Scene::of(&world, "known");
    scene.apply(&scene.service("a", "- {name: http, port: 80, targetPort: 8080}"));
    scene.wait("NAME.shop.svc.cluster.local:80");
    assert_eq!(scene.served_by("/"), "a-v1");
    let unknown = Request::get(&format!("http://{}/", scene.address)).host("unknown.test");
    assert_eq!(scene.send(unknown).status, 502);
    let elsewhere = scene.client.get(&format!("http://{}:7000/", Network::OUTSIDE));
    assert!(elsewhere.error.is_some(), "{}", elsewhere.brief());
}
