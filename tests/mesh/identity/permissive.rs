//! One port for all: what a workload without any settings of its own is told in, on the same address and port.

use super::service;
use crate::harness::{Asked, Client, Pod, Request, Shown, Signer, World, eventually};

const PORT: u16 = 7300;
const CLIENT: &str = "spiffe://cluster.local/ns/shop/sa/client";

/// Whoever waits for the server to speak first is found out by waiting, which the mesh does not do by itself.
const SETTINGS: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                        data: {mesh: 'protocolDetectionTimeout: 500ms'}\n";

/// What comes of each way to talk to the port: the answer in a word.
fn told(client: &mut Client, ip: &str, proxy: &Shown) -> Vec<(&'static str, String)> {
    let to = format!("{ip}:{PORT}");
    let get = || Request::get(&format!("http://{to}/")).fresh();
    let mut requests = |request: &Request| {
        let reply = client.one(request);
        let proved = reply.sent_header("x-forwarded-client-cert").unwrap_or_default();
        match reply.status {
            200 if proved.contains(CLIENT) => "proved".to_owned(),
            200 => format!("answered{proved}"),
            _ => "refused".to_owned(),
        }
    };
    let http = [
        ("requests of a proxy", requests(&get().tls(Some(proxy), &["istio-http/1.1", "istio", "http/1.1"]))),
        ("the application's own TLS", requests(&get().tls(None, &["http/1.1"]))),
        ("the application's own TLS, without protocols", requests(&get().tls(None, &[]))),
        ("requests", requests(&get())),
        ("requests of HTTP/2", requests(&get().http2())),
    ];
    let mut lines = |line: &str, tls: bool| {
        let reply = match tls {
            true => client.tcp_tls(&to, line, Some(proxy), &["istio"]),
            false => client.tcp(&to, line),
        };
        reply.error.map_or(reply.body, |_| "refused".to_owned())
    };
    let bytes = [
        ("bytes of a proxy", lines("\u{1}hello", true)),
        ("bytes", lines("\u{1}hello", false)),
        ("bytes that might become a request", lines("hello", false)),
        ("silence", lines("", false)),
        ("silence of a proxy", lines("", true)),
    ];
    http.into_iter().chain(bytes).collect()
}

#[test]
fn one_port_takes_proxies_of_the_mesh_and_everybody_else_until_it_is_strict() {
    let server = Pod::new("server", "shop", "server", "v1").with_identity().idle();
    let objects = service("server", "server", "10.96.8.9", &[format!("any-{PORT} {PORT} {PORT}")]);
    let pods = vec![server, Pod::new("client", "shop", "client", "v1").with_identity()];
    let world = World::with(pods, &[("server.yaml", &objects), ("settings.yaml", SETTINGS)]);
    let mesh = Signer::of(&world.authority());
    let own = mesh.sign(&Asked::dns("server.example"), world.dir().join("own"));
    let words = format!("--any=0.0.0.0:{PORT}={}", own.base.display());
    let server = world.workload("server");
    let _app = world.run_echo(&server.place, "app", &["serve", "--name", "app", &words]);
    let proxy = mesh.sign(&Asked::of(CLIENT), world.dir().join("proxy"));
    let (mut outside, ip) = (Client::new(&world.node()), server.pod.ip.clone());
    let heard = |line: &str| format!("app  heard {line}");
    assert_eq!(
        told(&mut outside, &ip, &proxy),
        [
            ("requests of a proxy", "proved".into()),
            ("the application's own TLS", "answered".into()),
            ("the application's own TLS, without protocols", "answered".into()),
            ("requests", "answered".into()),
            ("requests of HTTP/2", "answered".into()),
            ("bytes of a proxy", heard("\u{1}hello")),
            ("bytes", heard("\u{1}hello")),
            ("bytes that might become a request", heard("hello")),
            ("silence", "app is ready".into()),
            ("silence of a proxy", "app is ready".into()),
        ]
    );

    // The same from a workload of the mesh, whose proxy finds out what is spoken.
    let mut client = world.client("client");
    let reply = client.one(&Request::get(&format!("http://10.96.8.9:{PORT}/")).host(&format!("server:{PORT}")));
    let proved = reply.sent_header("x-forwarded-client-cert").unwrap_or_default();
    assert!(proved.contains(CLIENT), "{} {proved}", reply.brief());
    for (line, answer) in [("\u{1}hello", heard("\u{1}hello")), ("", "app is ready".into())] {
        let reply = client.tcp(&format!("10.96.8.9:{PORT}"), line);
        assert_eq!(reply.body, answer, "{:?}", reply.error);
    }
    assert!(world.workload("server").envoy().stats("listener.*ssl.no_certificate$").values().all(|n| *n == 0));

    world.apply(
        "strict.yaml",
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: strict, namespace: shop}\n\
         spec: {mtls: {mode: STRICT}}\n",
    );
    eventually("plaintext is refused", || match outside.get(&format!("http://{ip}:{PORT}/")) {
        reply if reply.status == 200 => Err(reply.brief()),
        _ => Ok(()),
    });
    for (what, got) in told(&mut outside, &ip, &proxy) {
        assert_eq!(got != "refused", what.ends_with("of a proxy"), "{what}: {got}");
    }
}
