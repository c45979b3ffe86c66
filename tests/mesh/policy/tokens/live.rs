//! Keys that the control plane fetches, and policies that change under traffic: a real mainsheet serves a real Envoy.

use super::{Token, keys_at};
use crate::{
    harness::{Pod, Reply, Request, World, eventually, free_port},
    policy::refusals::policy,
};
use serde_json::json;
use std::net::TcpListener;

/// A workload behind a sidecar that takes requests at a port of the loopback device.
struct Served {
    world: World,
    url: String,
}

impl Served {
    fn start(policies: &str) -> Self {
        const ADDRESS: &str = "127.0.92.1";
        let (port, behind) = (free_port(), free_port());
        let mut pod = Pod::new("server", "shop", "server", "v1");
        (pod.ip, pod.http, pod.tcp) = (ADDRESS.to_owned(), vec![behind], Vec::new());
        let sidecar = json!({ "apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
            "metadata": { "name": "server", "namespace": "shop" },
            "spec": { "ingress": [{ "port": { "number": port, "protocol": "HTTP", "name": "http" }, "bind": ADDRESS,
                "defaultEndpoint": format!("0.0.0.0:{behind}") }] } });
        let objects: String = pod.objects().iter().chain([&sidecar]).map(|o| format!("---\n{o}\n")).collect();
        let files = vec![("objects.yaml".to_owned(), objects), ("policies.yaml".to_owned(), policies.to_owned())];
        Self { world: World::on_loopback(vec![pod], files), url: format!("http://{ADDRESS}:{port}") }
    }

    fn get(&self, path: &str, token: Option<&str>) -> Reply {
        let request = Request::get(&format!("{}{path}", self.url)).fresh();
        let with = |token: &str| request.clone().header("authorization", &format!("Bearer {token}"));
        self.world.client("server").one(&token.map_or_else(|| request.clone(), with))
    }

    fn eventually(&self, path: &str, token: Option<&str>, status: u16) {
        eventually(&format!("{path} is answered with {status}"), || match self.get(path, token) {
            reply if reply.status == status => Ok(()),
            reply => Err(reply.brief()),
        });
    }
}

#[test]
fn a_place_of_keys_that_is_dead_closes_what_needs_a_token_until_it_lives() {
    let place = free_port();
    let tokens = super::rules(&format!("  - issuer: iss\n    jwksUri: 'http://127.0.0.1:{place}/keys'\n"));
    let required = policy(
        "required",
        "  rules:\n  - to: [{operation: {paths: [/open]}}]\n  - from: [{source: {requestPrincipals: ['*']}}]\n",
    );
    let served = Served::start(&format!("{tokens}{required}"));
    let token = Token::of(json!({})).sign();
    served.eventually("/open", None, 200);
    assert_eq!(served.get("/secret", None).status, 403);
    assert_eq!(served.get("/secret", Some(&token)).status, 401, "nobody can say that it is good");
    keys_at(TcpListener::bind(("127.0.0.1", place)).expect("the place of the keys"));
    served.eventually("/secret", Some(&token), 200);
    let forged = Token { secret: b"another".to_vec(), ..Token::of(json!({})) }.sign();
    assert_eq!(served.get("/secret", Some(&forged)).status, 401);
    assert_eq!(served.get("/open", None).status, 200);
}

#[test]
fn a_policy_that_is_broken_while_it_serves_closes_what_it_protects_and_nothing_else() {
    let rules = |block: &str| {
        let spec = "  rules:\n  - to: [{operation: {paths: [/open]}}]\n  - to: [{operation: {paths: [/secret]}}]\n    \
                    from: [{source: {ipBlocks: [BLOCK]}}]\n";
        policy("guard", &spec.replace("BLOCK", block))
    };
    let served = Served::start(&rules("127.0.0.0/8"));
    served.eventually("/secret", None, 200);
    for broken in ["127.0.0.0/99", "nonsense", "''"] {
        served.world.apply("policies.yaml", &rules(broken));
        served.eventually("/secret", None, 403);
        assert_eq!(served.get("/open", None).status, 200, "{broken}");
        served.world.apply("policies.yaml", &rules("127.0.0.0/8"));
        served.eventually("/secret", None, 200);
    }
}
