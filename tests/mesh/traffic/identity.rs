//! Mutual TLS between real sidecars that proved who they are by tokens, and plaintext beside it.

use super::Scene;
use crate::harness::{Client, Pod, Reply, World, eventually};
use std::sync::OnceLock;

/// A client and a server with certificates, a client whose sidecar has none, and one without a sidecar.
fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        World::new(vec![
            Pod::new("client", "shop", "client", "v1").with_identity(),
            Pod::new("server", "shop", "server", "v1").with_identity(),
            Pod::new("strict", "shop", "strict", "v1").with_identity(),
            Pod::new("closed", "shop", "closed", "v1"),
            Pod::new("plain", "shop", "plain", "v1"),
            Pod::new("bare", "shop", "bare", "v1").bare(),
        ])
    })
}

const CLIENT: &str = "URI=spiffe://cluster.local/ns/shop/sa/client";

/// What the workload was told of its client's certificate.
fn proved(reply: &Reply) -> String {
    reply.sent_header("x-forwarded-client-cert").unwrap_or_default()
}

/// What a pod is answered at another's own address.
fn direct(from: &mut Client, pod: &str) -> Reply {
    from.get(&format!("http://{}:8080/", world().workload(pod).pod.ip))
}

fn policy(name: &str, app: &str, mode: &str) -> String {
    format!(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{selector: {{matchLabels: {{app: {app}}}}}, mtls: {{mode: {mode}}}}}\n"
    )
}

#[test]
fn requests_between_workloads_are_mutual_tls_without_anybodys_doing() {
    let mut scene = Scene::of(world(), "mutual");
    for (name, port) in [("http", 80), ("grpc", 81), ("any", 82)] {
        let ports = format!("- {{name: {name}, port: {port}, targetPort: {}}}", 8000 + port);
        scene.apply(&scene.service("server", &ports));
        scene.wait(&format!("outbound|{port}||NAME.shop.svc.cluster.local"));
        let url = format!("http://{}:{port}/", scene.address);
        let reply = eventually(&format!("{name} is answered"), || {
            let request = crate::harness::Request::get(&url).host(&format!("mutual:{port}"));
            let request = if name == "grpc" { request.http2() } else { request };
            match scene.client.one(&request) {
                reply if reply.status == 200 => Ok(reply),
                reply => Err(reply.brief()),
            }
        });
        // Who is proved to have sent it is known only where the server took the connection for one with requests.
        assert!(proved(&reply).contains(CLIENT), "{name}: {}", proved(&reply));
    }
}

#[test]
fn lines_of_text_go_through_mutual_tls_too() {
    let scene = Scene::of(world(), "lines");
    scene.apply(&scene.service("server", "- {name: any, port: 90, targetPort: 9000}"));
    scene.wait("outbound|90||NAME.shop.svc.cluster.local");
    let to = format!("{}:90", scene.address);
    let mut client = world().client("client");
    eventually("a line is answered", || match client.tcp(&to, "\u{1}\u{2}") {
        reply if reply.error.is_none() => Ok(()),
        reply => Err(reply.brief()),
    });
    let stats = world().workload("server").envoy().stats("listener.*ssl.handshake$");
    assert!(stats.values().sum::<u64>() > 0, "{stats:?}");
}

#[test]
fn plaintext_is_taken_unless_a_policy_refuses_it() {
    let mut bare = world().client("bare");
    let mut plain = world().client("plain");
    for from in [&mut bare, &mut plain] {
        let reply = eventually("plaintext is taken", || match direct(from, "strict") {
            reply if reply.status == 200 => Ok(reply),
            reply => Err(reply.brief()),
        });
        assert_eq!(proved(&reply), "");
    }
    let mut scene = Scene::of(world(), "strictly");
    scene.apply(&scene.service("strict", "- {name: http, port: 80, targetPort: 8080}"));
    scene.wait("outbound|80||NAME.shop.svc.cluster.local");
    world().apply("strict.yaml", &policy("strict", "strict", "STRICT"));
    for from in [&mut bare, &mut plain] {
        eventually("plaintext is refused", || match direct(from, "strict") {
            reply if reply.status == 200 => Err(reply.brief()),
            _ => Ok(()),
        });
    }
    let reply = scene.send(scene.get("/"));
    assert_eq!(reply.status, 200, "{}", reply.brief());
    assert!(proved(&reply).contains(CLIENT), "{}", proved(&reply));

    world().apply("strict.yaml", &policy("strict", "strict", "DISABLE"));
    let reply = eventually("mutual TLS is given up", || match scene.send(scene.get("/")) {
        reply if reply.status == 200 && proved(&reply).is_empty() => Ok(reply),
        reply => Err(format!("{} {}", reply.brief(), proved(&reply))),
    });
    assert_eq!(reply.served_by(), "strict-v1");
    assert_eq!(direct(&mut bare, "strict").status, 200);
}

#[test]
fn a_sidecar_without_a_certificate_takes_nothing_where_mutual_tls_is_a_must() {
    let mut bare = world().client("bare");
    eventually("plaintext is taken", || match direct(&mut bare, "closed") {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.brief()),
    });
    world().apply("closed.yaml", &policy("closed", "closed", "STRICT"));
    eventually("plaintext is refused", || match direct(&mut bare, "closed") {
        reply if reply.status == 200 => Err(reply.brief()),
        _ => Ok(()),
    });
}
