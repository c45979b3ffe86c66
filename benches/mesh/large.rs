//! Meshes in which one thing is large: what most costs where a control plane does all of it again for each change.

use super::{
    changes::changes,
    world::{Shape, object},
};
use mainsheet::{
    model::{Change, Node},
    parse,
};
use serde_json::{Value, json};

/// How large.
const MANY: usize = 1_000;
/// How many of something that belongs to one.
const SOME: usize = 10;
/// The hosts of a Sidecar.
const HOSTS: usize = 100;

/// A mesh with something large, its proxy, and a change of a part of it.
pub(crate) struct Large {
    /// What is large.
    pub(crate) name: &'static str,
    /// Services.
    pub(crate) services: u64,
    /// Every object.
    pub(crate) objects: Vec<Value>,
    /// The proxy that has to do with it.
    pub(crate) proxy: Node,
    /// A change, and what takes it back.
    pub(crate) change: [Vec<Change>; 2],
}

/// All of them.
pub(crate) fn all() -> [Large; 4] {
    [gateways(), routes(), workload_entries(), sidecar()]
}

/// Gateways, each with one host on the same two ports, and a VirtualService for each.
fn gateways() -> Large {
    let shape = Shape { virtual_services: 0, pods: false, ..Shape::of(HOSTS) };
    let gateway = |n: usize| {
        let hosts = json!([format!("host-{n}.example")]);
        let spec = json!({
            "selector": {"istio": "ingress"},
            "servers": [
                {"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": hosts},
                {"port": {"number": 443, "name": "https", "protocol": "HTTPS"}, "hosts": hosts, "tls": {"mode": "ISTIO_MUTUAL"}},
            ],
        });
        object("networking.istio.io/v1", "Gateway", "ns-0", &format!("gateway-{n:04}"), json!({"spec": spec}))
    };
    let rule = move |n: usize, timeout: &str| {
        let spec = json!({
            "hosts": [format!("host-{n}.example")],
            "gateways": [format!("gateway-{n:04}")],
            "http": [{
                "match": [{"uri": {"prefix": format!("/route-{n}")}}],
                "route": [{"destination": {"host": shape.host(n % shape.services)}}],
                "timeout": timeout,
            }],
        });
        object("networking.istio.io/v1", "VirtualService", "ns-0", &format!("gateway-{n:04}"), json!({"spec": spec}))
    };
    let proxy = json!({
        "id": "router~10.9.9.9~ingress.ns-0~ns-0.svc.cluster.local",
        "metadata": {
            "NAMESPACE": "ns-0",
            "CLUSTER_ID": "Kubernetes",
            "ISTIO_VERSION": "1.26.0",
            "LABELS": {"istio": "ingress"},
        },
    });
    Large {
        name: "1,000 hosts of gateways on one listener",
        services: HOSTS as u64,
        objects: shape.objects().chain((0..MANY).map(gateway)).chain((0..MANY).map(|n| rule(n, "5s"))).collect(),
        proxy: parse::node(&proxy).expect("the node is well formed"),
        change: ["6s", "5s"].map(|timeout| changes([rule(0, timeout)])),
    }
}

/// One VirtualService with many routes.
fn routes() -> Large {
    let shape = Shape { virtual_services: 0, pods: false, ..Shape::of(HOSTS) };
    let rule = move |timeout: &str| {
        let route = |n: usize| {
            json!({
                "match": [{"uri": {"prefix": format!("/route-{n}/")}}],
                "route": [{"destination": {"host": shape.host(n % shape.services)}}],
                "timeout": if n == 0 { timeout } else { "5s" },
            })
        };
        let spec = json!({"hosts": [shape.host(0)], "http": (0..MANY).map(route).collect::<Vec<_>>()});
        object("networking.istio.io/v1", "VirtualService", "ns-0", "routes", json!({"spec": spec}))
    };
    Large {
        name: "one VirtualService with 1,000 routes",
        services: HOSTS as u64,
        objects: shape.objects().chain([rule("5s")]).collect(),
        proxy: shape.proxy(0),
        change: ["6s", "5s"].map(|timeout| changes([rule(timeout)])),
    }
}

/// ServiceEntries that select WorkloadEntries.
fn workload_entries() -> Large {
    let shape = Shape { virtual_services: 0, pods: false, ..Shape::of(1) };
    let service = |n: usize| {
        let spec = json!({
            "hosts": [format!("entry-{n}.example")],
            "addresses": [format!("240.240.{}.{}", n / 250, n % 250 + 1)],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "location": "MESH_INTERNAL",
            "resolution": "STATIC",
            "workloadSelector": {"labels": {"app": format!("entry-{n}")}},
        });
        object("networking.istio.io/v1", "ServiceEntry", "ns-0", &format!("entry-{n:04}"), json!({"spec": spec}))
    };
    let workload = |n: usize, address: usize| {
        let spec = json!({
            "address": format!("10.8.{}.{}", address / 250, address % 250 + 1),
            "labels": {"app": format!("entry-{}", n / SOME), "security.istio.io/tlsMode": "istio"},
        });
        object("networking.istio.io/v1", "WorkloadEntry", "ns-0", &format!("workload-{n:05}"), json!({"spec": spec}))
    };
    let workloads = (0..MANY * SOME).map(|n| workload(n, n));
    Large {
        name: "1,000 ServiceEntries of 10 WorkloadEntries",
        services: MANY as u64,
        objects: shape.objects().chain((0..MANY).map(service)).chain(workloads).collect(),
        proxy: shape.proxy(0),
        change: [MANY * SOME, 0].map(|address| changes([workload(0, address)])),
    }
}

/// A Sidecar that names hosts one by one, in a mesh with ten times as many.
fn sidecar() -> Large {
    let shape = Shape { pods: false, ..Shape::of(MANY) };
    let hosts: Vec<String> = (0..HOSTS).map(|n| format!("*/{}", shape.host(n * SOME))).collect();
    let spec = json!({"egress": [{"hosts": hosts}]});
    Large {
        name: "a Sidecar of 100 hosts among 1,000",
        services: MANY as u64,
        objects: shape
            .objects()
            .chain([object("networking.istio.io/v1", "Sidecar", "ns-0", "default", json!({"spec": spec}))])
            .collect(),
        proxy: shape.proxy(0),
        change: [80, 90].map(|percent| shape.route_change(0, percent)),
    }
}
