//! A certificate is revoked while its workload runs: proxies refuse it as soon as they are told, and no other.

use super::service;
use crate::harness::{Asked, Client, Pod, Request, Signer, World, eventually};
use std::fs;

#[test]
fn a_certificate_that_was_revoked_comes_in_no_more() {
    let policy = "---\napiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: all, namespace: shop}\n\
                  spec: {mtls: {mode: STRICT}}\n";
    let objects = service("server", "server", "10.96.8.30", &["http-80 80 8080".to_owned()]) + policy;
    // One is told over xDS, the other by the file that its agent follows.
    let list = |name: &str| std::env::temp_dir().join(format!("mainsheet-{name}-{}.pem", std::process::id()));
    let file = list("revoked");
    let mut beside = Pod::new("beside", "shop", "beside", "v1").with_agent();
    beside.words = vec!["--crl".to_owned(), file.display().to_string()];
    let pods = vec![Pod::new("server", "shop", "server", "v1").with_identity(), beside];
    let world = World::with(pods, &[("server.yaml", &objects)]);
    let mesh = Signer::of(&world.authority());
    let sign = |name: &str| mesh.sign(&Asked::of("spiffe://cluster.local/ns/shop/sa/client"), world.dir().join(name));
    let (good, revoked) = (sign("good"), sign("revoked"));
    let mut client = Client::new(&world.node());
    let mut status = |pod: &str, shown| {
        let request = Request::get(&format!("http://{}:8080/", world.workload(pod).pod.ip)).fresh();
        client.one(&request.tls(Some(shown), &["istio-http/1.1", "istio", "http/1.1"])).status
    };
    for pod in ["server", "beside"] {
        for shown in [&good, &revoked] {
            eventually("a request is answered", || if status(pod, shown) == 200 { Ok(()) } else { Err(String::new()) });
        }
    }
    let text = mesh.revoke(&revoked);
    fs::write(world.authority().join("..data/ca-crl.pem"), &text).expect("a file");
    fs::write(&file, &text).expect("a file");
    for pod in ["server", "beside"] {
        eventually("it is refused", || if status(pod, &revoked) == 200 { Err("it is not".to_owned()) } else { Ok(()) });
        assert_eq!(status(pod, &good), 200, "{pod}");
    }
    fs::remove_file(file).expect("a file");
}
