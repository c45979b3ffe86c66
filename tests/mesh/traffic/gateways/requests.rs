//! Requests without TLS, and what they may turn into.

use super::site;
use crate::harness::{Request, eventually};

#[test]
fn the_host_and_the_path_say_where_a_request_goes() {
    let site = site();
    for (url, pod) in [
        ("http://a.example/", "a-v1"),
        ("http://a.example/v2/x", "a-v2"),
        ("http://deep.wild.example/", "a-v1"),
        ("http://deep.wild.example/v2", "a-v2"),
        ("http://server.example/v2", "server-v1"),
    ] {
        assert_eq!(site.curl_ok(url, &[]).served_by(), pod, "{url}");
    }
    for url in ["http://wild.example/", "http://unknown.example/"] {
        assert_eq!(site.curl(url, &[]).status, 404, "{url}");
    }
}

#[test]
fn a_workload_with_a_sidecar_is_told_that_the_gateway_proved_itself() {
    let answer = site().curl_ok("http://server.example/", &[]);
    let proof = answer.sent_header("x-forwarded-client-cert");
    assert!(proof.contains("spiffe://cluster.local/ns/edge/sa/edge"), "{proof}");
}

#[test]
fn clients_without_tls_are_sent_to_https() {
    let site = site();
    let answer = site.curl("http://a.example:81/v2?x=y", &["--head", "--header", "Host: a.example"]);
    assert_eq!(answer.status, 301, "{answer:?}");
    assert!(answer.body.to_lowercase().contains("location: https://a.example/v2?x=y"), "{answer:?}");
}

#[test]
fn an_ingress_is_served_by_path_with_tls_and_without() {
    let site = site();
    site.curl_ok("http://in.example/a", &[]);
    // The certificate is for another name, which is not what this is about.
    for (scheme, more) in [("http", &[][..]), ("https", &["--insecure"][..])] {
        let of = |path: &str| site.curl(&format!("{scheme}://in.example{path}"), more);
        assert!(of("/a/b").served_by().starts_with("a-v"), "{scheme}");
        assert_eq!(of("/server").served_by(), "server-v1", "{scheme}");
        assert_eq!([of("/ab").status, of("/server/x").status, of("/").status], [404; 3], "{scheme}");
    }
}

#[test]
fn http_2_is_taken_without_tls_and_http_1_0_is_refused() {
    let site = site();
    let request = Request::get(&format!("http://{}/", site.edge())).host("a.example").http2();
    let reply = eventually("h2c is answered", || match site.client().one(&request) {
        reply if reply.status == 200 => Ok(reply),
        reply => Err(reply.brief()),
    });
    assert_eq!(reply.served_by(), "a-v1");
    assert_eq!(site.curl("http://a.example/", &["--http1.0"]).status, 426);
}

#[test]
fn a_host_that_comes_or_changes_does_not_send_those_of_its_port_again() {
    let site = site();
    site.curl_ok("http://a.example/", &[]);
    let count = |filter: &str| -> u64 { site.world.workload("edge").envoy().stats(filter).values().sum() };
    let whole = || count("rds.http.80.update_success$");
    let alone = || count("rds.vhds.http.80.config_reload$");
    let before = (whole(), alone());
    assert!(before.0 > 0 && before.1 > 0, "both are counted: {before:?}");
    for (subset, pod) in [("v1", "a-v1"), ("v2", "a-v2"), ("v1", "a-v1")] {
        let rule = format!(
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: single, namespace: shop}}\nspec:\n  \
             hosts: [single.wild.example]\n  gateways: [edge/edge]\n  http: [{{route: [{{destination: {{host: \
             a.shop.svc.cluster.local, subset: {subset}}}}}]}}]\n"
        );
        site.world.apply("single.yaml", &rule);
        eventually("the change is served", || match site.curl("http://single.wild.example/v2", &[]) {
            answer if answer.served_by() == pod => Ok(()),
            answer => Err(format!("{answer:?}")),
        });
    }
    assert_eq!(whole(), before.0);
    assert!(alone() >= before.1 + 3, "the virtual host came each time");
}

#[test]
fn grpc_goes_on_as_http_2() {
    let site = site();
    let grpc = ["--http2", "--request", "POST", "--header", "content-type: application/grpc", "--data", "hello"];
    let answer = site.curl_ok("https://one.example/x", &grpc);
    assert!(answer.body.contains("\"protocol\":\"HTTP/2.0\"") && answer.body.contains("\"hello\""), "{answer:?}");
}

#[test]
fn a_websocket_is_opened_through_tls() {
    let site = site();
    site.curl_ok("https://one.example/", &[]);
    let request =
        "GET /ws HTTP/1.1\\r\\nHost: one.example\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n\\r\\nhello\\n";
    let output = site.s_client(443, "one.example", request, "-quiet");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.starts_with("HTTP/1.1 101") && text.contains("a v1 heard hello"), "{output:?}");
}
