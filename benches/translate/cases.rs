//! The meshes that are translated: what Istio's own benchmarks of its translation are of, in our own words.

use crate::world::object;
use serde_json::{Value, json};

/// A mesh, the proxy that it is translated for, and what is translated.
pub(crate) struct Case {
    /// What Istio calls it.
    pub(crate) name: &'static str,
    /// The objects.
    pub(crate) objects: Vec<Value>,
    /// The proxy is a gateway.
    pub(crate) router: bool,
}

const ISTIO: &str = "networking.istio.io/v1";
/// The ports of a service with one of each kind.
const ALL: &[(u16, &str, &str)] =
    &[(80, "http", "HTTP"), (7070, "tcp", "TCP"), (443, "https", "HTTPS"), (9090, "auto", "")];

/// Every case.
pub(crate) fn all() -> Vec<Case> {
    let sidecar = |name: &'static str, own: &[(u16, &str, &str)], objects: Vec<Value>| Case {
        name,
        objects: std::iter::once(own_service(own)).chain(objects).collect(),
        router: false,
    };
    let plain = |ports: &[(u16, &str, &str)], count: usize| -> Vec<Value> {
        (0..count).map(|i| entry(i, ports, "MESH_INTERNAL")).collect()
    };
    let one = |port| -> Vec<Value> { plain(&[port], 100) };
    let http = (80, "http", "HTTP");
    vec![
        Case { name: "gateways", objects: gateways(1_000), router: true },
        Case { name: "gateways-shared", objects: gateways_shared(1_000), router: true },
        Case { name: "knative-gateway", objects: knative(100), router: true },
        sidecar("http", &[http], one(http)),
        sidecar("tcp", &[http], one((7070, "tcp", "TCP"))),
        sidecar("tls", &[http], one((7070, "tls", "TLS"))),
        sidecar("auto", &[http], one((7070, "auto", ""))),
        sidecar("strict", ALL, vec![peer_authentication("STRICT")]),
        sidecar("disabled", ALL, vec![peer_authentication("DISABLE")]),
        sidecar("externalname", &[http], (0..100).map(external).collect()),
        // The Telemetry itself is not read: its access log is the mesh's own here.
        sidecar("telemetry-api", ALL, plain(ALL, 100)),
        sidecar("virtualservice", &[http], one(http).into_iter().chain((0..100).map(route)).collect()),
        sidecar("authorizationpolicy", &[http], (0..100).map(policy).collect()),
        sidecar("serviceentry-workloadentry", ALL, selected(100, 1_000)),
        sidecar("tcp, 1000 services", &[http], plain(&[(7070, "tcp", "TCP")], 1_000)),
        Case { name: "secrets", objects: secrets(10), router: true },
        Case { name: "secrets#01", objects: secrets(1_000), router: true },
    ]
}

fn istio(kind: &str, name: &str, spec: Value) -> Value {
    object(ISTIO, kind, "default", name, json!({"spec": spec}))
}

fn ports(ports: &[(u16, &str, &str)]) -> Value {
    ports.iter().map(|(number, name, protocol)| json!({"number": number, "name": name, "protocol": protocol})).collect()
}

/// The service that the proxy's own workload serves.
fn own_service(own: &[(u16, &str, &str)]) -> Value {
    let endpoints = json!([{"address": "1.1.1.1"}]);
    istio(
        "ServiceEntry",
        "own",
        json!({"hosts": ["example.com"], "ports": ports(own), "resolution": "STATIC", "endpoints": endpoints}),
    )
}

fn host(i: usize) -> String {
    format!("service-{i}.mesh.example")
}

fn virtual_address(i: usize) -> String {
    format!("240.240.{}.{}", i / 255, i % 255)
}

fn entry(i: usize, all: &[(u16, &str, &str)], location: &str) -> Value {
    let labels = json!({"security.istio.io/tlsMode": "istio"});
    let spec = json!({
        "hosts": [host(i)],
        // One with ports of each kind has no address of its own.
        "addresses": if all.len() == 1 { vec![virtual_address(i)] } else { Vec::new() },
        "ports": ports(all),
        "resolution": "STATIC",
        "location": location,
        "endpoints": [{"address": "1.2.3.4", "labels": labels}],
    });
    istio("ServiceEntry", &format!("service-{i}"), spec)
}

fn external(i: usize) -> Value {
    let spec = json!({"type": "ExternalName", "externalName": host(i), "ports": [{"name": "http", "port": 80}]});
    object("v1", "Service", "default", &format!("service-{i}"), json!({"spec": spec}))
}

fn peer_authentication(mode: &str) -> Value {
    object(
        "security.istio.io/v1",
        "PeerAuthentication",
        "istio-system",
        "default",
        json!({"spec": {"mtls": {"mode": mode}}}),
    )
}

fn policy(i: usize) -> Value {
    let rule = json!({"from": [{"source": {"namespaces": ["default"]}}], "to": [{"operation": {"methods": ["POST"]}}]});
    let spec = json!({"action": "DENY", "rules": [rule]});
    object("security.istio.io/v1", "AuthorizationPolicy", "default", &format!("policy-{i}"), json!({"spec": spec}))
}

fn route(i: usize) -> Value {
    let rule = json!({
        "match": [{"uri": {"prefix": "/foo"}}, {"uri": {"regex": "/bar"}}],
        "rewrite": {"uri": "/new"},
        "route": [{"destination": {"host": host(i)}}],
    });
    istio("VirtualService", &format!("service-{i}"), json!({"hosts": [host(i)], "http": [rule]}))
}

/// Services whose endpoints are workloads that they select.
fn selected(services: usize, workloads: usize) -> Vec<Value> {
    let service = |i: usize| {
        let selector = json!({"labels": {"app": format!("app-{i}")}});
        let spec = json!({
            "hosts": [host(i)],
            "ports": ports(ALL),
            "resolution": "STATIC",
            "location": "MESH_INTERNAL",
            "workloadSelector": selector,
        });
        istio("ServiceEntry", &format!("service-{i}"), spec)
    };
    let workload = |j: usize| {
        let spec = json!({"address": format!("10.1.{}.{}", j / 250, j % 250), "labels": {"app": format!("app-{}", j % services)}});
        istio("WorkloadEntry", &format!("workload-{j}"), spec)
    };
    (0..services).map(service).chain((0..workloads).map(workload)).collect()
}

fn gateway(name: &str, servers: Value) -> Value {
    istio("Gateway", name, json!({"selector": {"istio.io/benchmark": "true"}, "servers": servers}))
}

fn both(hosts: &Value) -> Value {
    json!([
        {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts},
        {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": hosts, "tls": {"mode": "ISTIO_MUTUAL"}},
    ])
}

fn to(i: usize, prefix: String) -> Value {
    json!({"match": [{"uri": {"prefix": prefix}}], "route": [{"destination": {"host": host(i)}}]})
}

fn gateways(count: usize) -> Vec<Value> {
    let of = |i: usize| {
        let hosts = json!([format!("a-{i}.example"), format!("b-{i}.example"), format!("c-{i}.example")]);
        let name = format!("gateway-{i}");
        let spec = json!({"hosts": hosts, "gateways": [name], "http": [to(i, format!("/route-{i}"))]});
        [
            gateway(&name, both(&hosts)),
            istio("VirtualService", &name, spec),
            entry(i, &[(80, "http", "HTTP")], "MESH_INTERNAL"),
        ]
    };
    (0..count).flat_map(of).collect()
}

fn gateways_shared(count: usize) -> Vec<Value> {
    let hosts = json!(["a.example", "b.example", "c.example"]);
    let of = |i: usize| {
        let rules: Vec<Value> = (0..6).map(|n| to(i, format!("/route-{i}-{n}"))).collect();
        let spec = json!({"hosts": hosts, "gateways": ["shared"], "http": rules});
        [istio("VirtualService", &format!("route-{i}"), spec), entry(i, &[(80, "http", "HTTP")], "MESH_INTERNAL")]
    };
    std::iter::once(gateway("shared", both(&hosts))).chain((0..count).flat_map(of)).collect()
}

/// What Knative makes of services: two rules each, all for the same hosts, at a gateway for the outside and one within.
fn knative(count: usize) -> Vec<Value> {
    let entrance = |name: &str, target: u16| {
        let labels = json!({"istio.io/benchmark": "true"});
        let port = json!([{"number": 80, "targetPort": target, "name": "http", "protocol": "HTTP"}]);
        let endpoints = json!([{"address": "1.1.1.1", "labels": labels}]);
        istio(
            "ServiceEntry",
            name,
            json!({"hosts": [format!("{name}.example")], "ports": port, "resolution": "STATIC", "endpoints": endpoints}),
        )
    };
    let at = |name: &str, port: u16| {
        gateway(name, json!([{"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]))
    };
    let rule = |i: usize, gateway: &str, authority: &str, over: bool| {
        let set = json!({"request": {"set": {"x-namespace": "default", "x-revision": format!("hello-{i}")}}});
        let mut found = json!({"authority": {"prefix": authority}, "gateways": [gateway]});
        if over {
            found["headers"] = json!({"x-hash": {"exact": "override"}});
        }
        let mut rule = json!({"match": [found], "route": [{"destination": {"host": format!("hello-{i}.example"), "port": {"number": 80}}, "headers": set, "weight": 100}]});
        if over {
            rule["headers"] = json!({"request": {"set": {"x-hash": "0647dfaebda7111f09cd1ee30dfb4cbdf540bcd4"}}});
        }
        rule
    };
    let public =
        ["hello.default", "hello.default.outside.example", "hello.default.svc", "hello.default.svc.cluster.local"];
    let of = |i: usize| {
        let outer = [
            rule(i, "within", public[0], true),
            rule(i, "within", public[0], false),
            rule(i, "outside", public[1], true),
            rule(i, "outside", public[1], false),
        ];
        let inner = [rule(i, "within", public[0], true), rule(i, "within", public[0], false)];
        [
            istio(
                "VirtualService",
                &format!("outer-{i}"),
                json!({"hosts": public, "gateways": ["outside", "within"], "http": outer}),
            ),
            istio(
                "VirtualService",
                &format!("inner-{i}"),
                json!({"hosts": [public[0], public[2], public[3]], "gateways": ["within"], "http": inner}),
            ),
        ]
    };
    let entrances = [entrance("outside", 8080), entrance("within", 8081), at("outside", 80), at("within", 8081)];
    entrances.into_iter().chain((0..count).flat_map(of)).collect()
}

/// Certificates that a gateway shows, each for a host.
fn secrets(count: usize) -> Vec<Value> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let made = rcgen::generate_simple_self_signed(["shown.example".to_owned()]).expect("a certificate");
    let data = json!({"tls.crt": STANDARD.encode(made.cert.pem()), "tls.key": STANDARD.encode(made.signing_key.serialize_pem())});
    let secret = |i: usize| {
        object("v1", "Secret", "default", &format!("shown-{i}"), json!({"type": "kubernetes.io/tls", "data": data}))
    };
    let server = |i: usize| {
        json!({
            "port": {"number": 443, "name": format!("https-{i}"), "protocol": "HTTPS"},
            "hosts": [format!("shown-{i}.example")],
            "tls": {"mode": "SIMPLE", "credentialName": format!("shown-{i}")},
        })
    };
    let servers: Vec<Value> = (0..count).map(server).collect();
    (0..count).map(secret).chain([gateway("shown", servers.into())]).collect()
}
