//! Out of the mesh through a gateway that speaks TLS for its clients.

use super::site;
use crate::harness::{Request, eventually};

#[test]
fn requests_leave_through_the_egress_gateway_which_secures_them() {
    let site = site();
    let mut client = site.world.client("client");
    let request = Request::get("http://10.99.0.7/").host("outside.example");
    let reply = eventually("the outside answers", || match client.one(&request) {
        reply if reply.status == 200 => Ok(reply),
        reply => Err(format!("{} {}", reply.brief(), reply.body)),
    });
    assert!(reply.body.contains("s_server"), "{}", reply.body);
    let stats = |pod: &str, filter: &str| site.world.workload(pod).envoy().stats(filter).values().sum::<u64>();
    assert!(stats("egress", "outbound.443..outside.example.*ssl.handshake$") > 0, "the gateway spoke TLS");
    assert!(stats("egress", "listener.*8443.*ssl.handshake$") > 0, "and took mutual TLS");
    assert_eq!(stats("client", "outbound.(80|443)..outside.example.*upstream_cx_total$"), 0, "nothing went past it");
}
