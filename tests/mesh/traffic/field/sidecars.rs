//! What the Sidecar of a workload lets in and out.

use super::{ADDRESS, field, get};
use crate::harness::{Network, Request, eventually};

#[test]
fn with_registry_only_a_client_reaches_what_its_sidecar_names_and_nothing_else() {
    let mut narrow = field().client("narrow");
    field().wait_config("narrow", "s.shop.svc.cluster.local:80");
    let reply = narrow.one(&get("s.shop", "/"));
    assert_eq!((reply.status, reply.served_by().is_empty()), (200, false), "{}", reply.brief());
    // Other services, hosts of VirtualServices, and what is nowhere.
    for host in ["in-turn.shop", "single.test", "nowhere.test"] {
        let reply = narrow.one(&get(host, "/"));
        assert_eq!((reply.status, reply.served_by()), (502, ""), "{host}");
    }
    for to in [format!("{}:7000", Network::OUTSIDE), "10.96.5.2:81".to_owned()] {
        let reply = narrow.get(&format!("http://{to}/"));
        assert!(reply.error.is_some(), "{to}: {}", reply.brief());
    }
    let dump = field().workload("narrow").envoy().config_dump();
    assert!(!dump.contains("in-turn"), "it is not even told");
    // The others are let through.
    let mut client = field().client("client");
    let outside = client.get(&format!("http://{}:7000/", Network::OUTSIDE));
    assert_eq!((outside.status, client.one(&get("in-turn.shop", "/")).status), (200, 200));
}

#[test]
fn a_listener_of_a_sidecar_is_for_its_own_hosts() {
    let entry = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: near, namespace: shop}}\nspec:\n  \
         hosts: [near.test]\n  ports: [{{number: 8600, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints: [{{address: {}, ports: {{http: 8080}}}}]\n",
        field().workload("s-v2").pod.ip
    );
    field().apply("near.yaml", &entry);
    field().wait_config("narrow", "near.test:8600");
    let mut narrow = field().client("narrow");
    let mut ask = |host: &str| narrow.one(&Request::get("http://127.0.0.1:8600/").host(host));
    eventually("the listener answers", || match ask("near.test:8600") {
        reply if reply.served_by() == "s-v2" => Ok(()),
        reply => Err(reply.brief()),
    });
    assert_eq!(ask("s.shop").status, 502);
    assert_eq!(narrow.one(&get("near.test", "/")).status, 502, "and only there");
}

#[test]
fn what_comes_to_a_port_goes_to_the_endpoint_that_the_sidecar_names() {
    let mut client = field().client("client");
    let reply = client.one(&get("inner", "/"));
    assert_eq!((reply.status, reply.served_by(), reply.echo()["port"].as_u64()), (200, "inner-v1", Some(8081)));
    let grpc = Request::get("http://10.96.5.3:82/x").host("inner:82").method("POST").http2().body("hello");
    let echo = client.one(&grpc.header("content-type", "application/grpc")).echo();
    assert_eq!((echo["port"].as_u64(), echo["protocol"].as_str()), (Some(8083), Some("HTTP/2.0")));
    assert_eq!(client.tcp("10.96.5.3:9100", "hello").body, "inner v1 heard hello");
    // Another workload's Sidecar changes nothing for who has none.
    assert_eq!(client.get(&format!("http://{ADDRESS}/")).echo()["port"], 8080);
}
