//! Changes to a mesh, at random.

use super::chance::Chance;
use crate::harness::Objects;
use serde_json::{Value, json};

/// What is there all along.
pub(super) const ALWAYS: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: always-0, namespace: shop, labels: {app: always, version: v1}}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Service
metadata: {name: always, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: always-a, namespace: shop, labels: {kubernetes.io/service-name: always}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.2], targetRef: {kind: Pod, name: always-0, namespace: shop}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: always, namespace: shop}
spec: {host: always, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: always, namespace: shop}
spec: {hosts: [always], http: [{route: [{destination: {host: always, subset: v1}}]}]}
"#;

/// A request that changes something.
pub(super) struct Change {
    method: &'static str,
    path: String,
    body: Value,
}

impl Change {
    /// Sends it, in vain where nobody listens.
    pub(super) async fn send(&self, objects: &Objects) {
        let _ = objects.send(self.method, &self.path, &self.body).await;
    }
}

/// Some change to one of a few objects, which comes or goes or says something else.
pub(super) fn any(chance: &mut Chance) -> Change {
    let number = chance.below(8);
    let (group, kind, plural, spec) = match chance.below(6) {
        0 => (
            "v1",
            "Service",
            "services",
            json!({"clusterIP": "None", "ports": [{"name": "http", "port": 80 + chance.below(3)}]}),
        ),
        1 => ("discovery.k8s.io/v1", "EndpointSlice", "endpointslices", Value::Null),
        2 => ("networking.istio.io/v1", "DestinationRule", "destinationrules", rule(number, chance)),
        3 => ("networking.istio.io/v1", "ServiceEntry", "serviceentries", entry(number, chance)),
        4 => ("security.istio.io/v1", "PeerAuthentication", "peerauthentications", peers(number, chance)),
        _ => ("networking.istio.io/v1", "VirtualService", "virtualservices", routes(number, chance)),
    };
    let prefix = if group == "v1" { "/api" } else { "/apis" };
    let parent = format!("{prefix}/{group}/namespaces/shop/{plural}");
    let name = format!("s{number}");
    let mut object = json!({"apiVersion": group, "kind": kind, "metadata": {"name": name, "namespace": "shop"}});
    if kind == "EndpointSlice" {
        object["metadata"]["labels"] = json!({"kubernetes.io/service-name": name});
        object["addressType"] = "IPv4".into();
        object["ports"] = json!([{"name": "http", "port": 8080}]);
        object["endpoints"] = (0..chance.below(4))
            .map(|n| json!({"addresses": [format!("10.2.{number}.{}", n + chance.below(9) + 1)]}))
            .collect();
    } else {
        object["spec"] = spec;
    }
    match chance.below(5) {
        0 => Change { method: "DELETE", path: format!("{parent}/{name}"), body: Value::Null },
        1 | 2 => Change { method: "POST", path: parent, body: object },
        _ => Change { method: "PATCH", path: format!("{parent}/{name}"), body: object },
    }
}

fn rule(number: usize, chance: &mut Chance) -> Value {
    json!({"host": format!("s{number}"), "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 1 + chance.below(9)}}}})
}

fn entry(number: usize, chance: &mut Chance) -> Value {
    let resolution = ["DNS", "NONE", "DNS"][chance.below(3)];
    let ports = json!([{"number": 80 + chance.below(2), "name": "http", "protocol": "HTTP"}]);
    json!({"hosts": [format!("s{number}.example")], "resolution": resolution, "ports": ports})
}

fn peers(number: usize, chance: &mut Chance) -> Value {
    let mode = ["STRICT", "PERMISSIVE", "DISABLE"][chance.below(3)];
    json!({"selector": {"matchLabels": {"app": format!("s{number}")}}, "mtls": {"mode": mode}})
}

/// Routes. Those of some names are always broken: who has seen an object when it was good goes on with that, so that what
/// an object which breaks comes to depends on who is asked.
fn routes(number: usize, chance: &mut Chance) -> Value {
    let host = format!("s{number}");
    let matches = match (number, chance.below(2)) {
        (6.., _) => json!([{"uri": {"regex": "/a("}}]),
        (_, 0) => json!([{"uri": {"prefix": format!("/{}", chance.below(9))}}]),
        _ => Value::Null,
    };
    let mut route = json!({"timeout": format!("{}s", 1 + chance.below(9)), "route": [{"destination": {"host": host}}]});
    if !matches.is_null() {
        route["match"] = matches;
    }
    json!({"hosts": [host], "http": [route]})
}
