//! Connections that hold no requests which the gateway sees.

use super::site;
use crate::harness::eventually;

#[test]
fn bytes_go_where_the_port_says() {
    let site = site();
    let to = format!("{}:9000", site.edge());
    let mut client = site.client();
    eventually("a line is answered", || match client.tcp(&to, "hello") {
        reply if reply.body == "a v1 heard hello" => Ok(()),
        reply => Err(reply.brief()),
    });
}

#[test]
fn bytes_within_tls_go_on_without_it() {
    let site = site();
    eventually("a line is answered", || {
        let output = site.s_client(9001, "one.example", "hello\\n", "-quiet");
        match String::from_utf8_lossy(&output.stdout).trim() {
            "a v2 heard hello" => Ok(()),
            _ => Err(format!("{output:?}")),
        }
    });
}

#[test]
fn tls_that_is_passed_on_ends_at_the_server_of_its_name() {
    let site = site();
    for host in ["left.pass.example", "right.pass.example"] {
        // The certificate is the server's own, and curl checks that it is for the name.
        let answer = site.curl_ok(&format!("https://{host}:9443/"), &[]);
        assert!(answer.body.contains("s_server"), "{answer:?}");
    }
    assert_eq!(site.curl("https://middle.pass.example:9443/", &["--insecure"]).status, 0);
}

#[test]
fn another_network_is_entered_through_its_gateway() {
    let site = site();
    let count = || {
        let stats = site.world.workload("edge").envoy().stats("outbound_.80_._.server.shop.*upstream_cx_total$");
        stats.values().sum::<u64>()
    };
    let mut client = site.world.client("client");
    let request = crate::harness::Request::get("http://10.96.9.4/").host("server").fresh();
    let before = count();
    let reply = eventually("the other network answers", || match client.one(&request) {
        reply if reply.status == 200 => Ok(reply),
        reply => Err(reply.brief()),
    });
    let proof = reply.sent_header("x-forwarded-client-cert").unwrap_or_default();
    assert!(proof.contains("ns/shop/sa/client"), "the gateway cannot look inside: {proof}");
    assert!(count() > before, "the connection came through the gateway");
}
