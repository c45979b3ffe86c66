//! Each kind of object, made, changed and deleted in the cluster, is seen in what a proxy is served; and at each step that
//! is what files with the same objects would give.

use crate::harness::{Served, Watching, documents, with_shared};
use mainsheet::{model::Role, plan::Proxy};
use serde_json::{Value, json};

/// What is there in all tests: a client, a server with a service, a gateway, and rules that wait for other objects.
const WORLD: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {mesh: "yes"}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: shop, labels: {app: client}}
spec: {nodeName: here}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: server-0, namespace: shop, labels: {app: server}}
spec: {nodeName: there}
status: {podIP: 10.1.0.2}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: server-a, namespace: shop, labels: {kubernetes.io/service-name: server}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints:
- {addresses: [10.1.0.2], nodeName: there, targetRef: {kind: Pod, name: server-0, namespace: shop}}
- {addresses: [10.1.0.3], nodeName: there, targetRef: {kind: Pod, name: server-1, namespace: shop}}
---
apiVersion: v1
kind: Pod
metadata: {name: edge, namespace: istio-system, labels: {istio: ingressgateway}}
status: {podIP: 10.1.0.9}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: istio-system}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 443, name: https, protocol: HTTPS}, hosts: [a.example], tls: {mode: SIMPLE, credentialName: pair}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: edge, namespace: istio-system}
spec:
  hosts: ["*"]
  gateways: [edge, second]
  http: [{route: [{destination: {host: server.shop.svc.cluster.local}}]}]
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: machines, namespace: shop}
spec:
  hosts: [machines.example]
  addresses: [10.97.0.1]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  workloadSelector: {labels: {app: machine}}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: classed, namespace: shop}
spec:
  ingressClassName: mesh
  rules: [{host: classed.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: server, port: {number: 80}}}}]}}]
"#;

/// One kind: an object of it, a change to it, and the proxy that sees it.
struct Kind {
    object: &'static str,
    change: fn() -> Value,
    proxy: Who,
}

#[derive(Clone, Copy)]
enum Who {
    Client,
    Edge,
}

impl Who {
    fn proxy(self) -> Proxy {
        match self {
            Self::Client => Proxy::Pod { name: "client.shop".into(), role: Role::Sidecar },
            Self::Edge => Proxy::Pod { name: "edge.istio-system".into(), role: Role::Router },
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Step {
    Made,
    Changed,
    Deleted,
}

/// Goes through an object's life up to a step, and holds that the step is seen.
fn seen(kind: &Kind, step: Step) {
    with_shared(async |server| {
        let objects = server.objects();
        let object = &documents(kind.object)[0];
        let is_it = |o: &Value| {
            ["name", "namespace"].iter().all(|f| o["metadata"][*f] == object["metadata"][*f])
                && o["kind"] == object["kind"]
        };
        let world: Vec<Value> = documents(WORLD).into_iter().filter(|o| !is_it(o)).collect();
        objects.put(&world).await;
        if object["kind"] == "Namespace" {
            objects.delete(object).await;
        }
        let proxy = kind.proxy.proxy();
        let watching = Watching::start(server.client()).await;
        let seen = async || -> Vec<Served> {
            let served = watching.agrees(&objects, &proxy).await;
            assert!(!served.is_empty(), "the proxy is served something");
            served
        };
        let before = seen().await;
        objects.create(object).await.expect("an object that is taken");
        let made = seen().await;
        assert!(made != before, "that it was made is seen");
        if step == Step::Changed {
            objects.patch(object, &(kind.change)()).await;
            assert!(seen().await != made, "that it was changed is seen");
        }
        if step == Step::Deleted {
            objects.delete(object).await;
            assert!(seen().await == before, "nothing is left of it");
        }
    });
}

macro_rules! kinds {
    ($($name:ident: $who:ident, $change:tt, $object:literal;)*) => {$(
        mod $name {
            use super::{json, seen, Kind, Step, Who};

            const KIND: Kind = Kind { object: $object, change: || json!($change), proxy: Who::$who };

            #[test]
            fn is_seen_when_it_is_made() {
                seen(&KIND, Step::Made);
            }

            #[test]
            fn is_seen_when_it_is_changed() {
                seen(&KIND, Step::Changed);
            }

            #[test]
            fn is_seen_when_it_is_deleted() {
                seen(&KIND, Step::Deleted);
            }
        }
    )*};
}

kinds! {
    a_node: Client, {"metadata": {"labels": {"topology.kubernetes.io/zone": "other"}}}, r#"
apiVersion: v1
kind: Node
metadata: {name: there, labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}}
"#;
    a_pod: Client, {"metadata": {"labels": {"security.istio.io/tlsMode": "istio"}}}, r#"
apiVersion: v1
kind: Pod
metadata: {name: server-1, namespace: shop, labels: {app: server}}
spec: {nodeName: there}
status: {podIP: 10.1.0.3}
"#;
    a_service: Client, {"spec": {"ports": [{"name": "tcp", "port": 81, "targetPort": 8080}]}}, r#"
apiVersion: v1
kind: Service
metadata: {name: other, namespace: shop}
spec: {clusterIP: 10.96.0.11, ports: [{name: http, port: 80}]}
"#;
    a_slice: Client, {"endpoints": [{"addresses": ["10.1.0.8"]}]}, r#"
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: server-b, namespace: shop, labels: {kubernetes.io/service-name: server}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.1.0.7]}]
"#;
    the_settings: Client, {"data": {"mesh": "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, accessLogFile: /dev/stdout}"}}, r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "{outboundTrafficPolicy: {mode: REGISTRY_ONLY}}"}
"#;
    the_networks: Client, {"data": {"meshNetworks": "{networks: {far: {endpoints: [{fromCidr: 10.1.0.99/32}], gateways: [{address: 1.2.3.4, port: 15443}]}}}"}}, r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {meshNetworks: "{networks: {far: {endpoints: [{fromCidr: 10.1.0.2/32}], gateways: [{address: 1.2.3.4, port: 15443}]}}}"}
"#;
    an_ingress: Edge, {"spec": {"rules": [{"host": "other.example", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": {"service": {"name": "server", "port": {"number": 80}}}}]}}]}}, r#"
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop, annotations: {kubernetes.io/ingress.class: istio}}
spec:
  rules: [{host: web.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: server, port: {number: 80}}}}]}}]
"#;
    a_virtual_service: Client, {"spec": {"http": [{"timeout": "3s", "route": [{"destination": {"host": "server"}}]}]}}, r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: server, namespace: shop}
spec: {hosts: [server], http: [{timeout: 2s, route: [{destination: {host: server}}]}]}
"#;
    a_destination_rule: Client, {"spec": {"trafficPolicy": {"loadBalancer": {"simple": "RANDOM"}}}}, r#"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: server, namespace: shop}
spec: {host: server, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}
"#;
    a_gateway: Edge, {"spec": {"servers": [{"port": {"number": 81, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}}, r#"
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: second, namespace: istio-system}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}]}
"#;
    a_service_entry: Client, {"spec": {"ports": [{"number": 8443, "name": "tls", "protocol": "TLS"}]}}, r#"
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec: {hosts: [api.example], ports: [{number: 443, name: tls, protocol: TLS}], resolution: DNS, location: MESH_EXTERNAL}
"#;
    a_sidecar: Client, {"spec": {"egress": [{"hosts": ["istio-system/*"]}]}}, r#"
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ["./server.shop.svc.cluster.local"]}]}
"#;
    a_workload_entry: Client, {"spec": {"weight": 7}}, r#"
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: machine-1, namespace: shop}
spec: {address: 10.2.0.1, labels: {app: machine}}
"#;
    an_authorization_policy: Client, {"spec": {"action": "DENY", "rules": [{}]}}, r#"
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: paths, namespace: shop}
spec: {rules: [{to: [{operation: {paths: [/open]}}]}]}
"#;
    a_peer_authentication: Client, {"spec": {"mtls": {"mode": "DISABLE"}}}, r#"
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: shop}
spec: {mtls: {mode: STRICT}}
"#;
    a_request_authentication: Client, {"spec": {"jwtRules": [{"issuer": "other@example", "jwks": "{\"keys\": []}"}]}}, r#"
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: shop}
spec: {jwtRules: [{issuer: some@example, jwks: '{"keys": []}'}]}
"#;
}

/// Settings by which only one label makes a namespace part of the mesh.
const SELECTING: &str = r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: "{discoverySelectors: [{matchLabels: {mesh: \"yes\"}}]}"}
---
apiVersion: v1
kind: Service
metadata: {name: extra, namespace: aside}
spec: {clusterIP: 10.96.0.50, ports: [{name: http, port: 80}]}
"#;

#[test]
fn a_namespace_is_part_of_the_mesh_while_its_labels_say_so() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(&format!("{WORLD}\n---{SELECTING}")).await;
        let watching = Watching::start(server.client()).await;
        let seen = async || {
            let served = watching.agrees(&objects, &Who::Client.proxy()).await;
            served.iter().any(|(_, name, _)| name.contains("extra.aside"))
        };
        let aside = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "aside"}});
        let label = |value: Value| json!({"metadata": {"labels": {"mesh": value}}});
        assert!(!seen().await, "a namespace without the label is left alone");
        objects.patch(&aside, &label("yes".into())).await;
        assert!(seen().await);
        objects.patch(&aside, &label("no".into())).await;
        assert!(!seen().await);
        objects.patch(&aside, &label("yes".into())).await;
        assert!(seen().await);
        objects.delete(&aside).await;
        assert!(!seen().await, "with the namespace its labels are gone");
    });
}

#[test]
fn a_class_makes_its_ingresses_those_of_the_mesh_while_it_is_there() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let watching = Watching::start(server.client()).await;
        let seen = async || {
            let served = watching.agrees(&objects, &Who::Edge.proxy()).await;
            served.iter().any(|(_, _, body)| body.windows(15).any(|w| w == b"classed.example"))
        };
        let class = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "mesh"},
            "spec": {"controller": "istio.io/ingress-controller"},
        });
        assert!(!seen().await);
        objects.put(std::slice::from_ref(&class)).await;
        assert!(seen().await);
        objects.delete(&class).await;
        assert!(!seen().await);
    });
}

#[test]
fn a_secret_is_served_to_the_gateway_that_names_it_as_it_comes_changes_and_goes() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let watching = Watching::start(server.client()).await;
        let secret = |pair: &rcgen::CertifiedKey<rcgen::KeyPair>| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
                "metadata": {"name": "pair", "namespace": "istio-system"},
                "stringData": {"tls.crt": pair.cert.pem(), "tls.key": pair.signing_key.serialize_pem()},
            })
        };
        let pair = || rcgen::generate_simple_self_signed(["a.example".to_owned()]).expect("a certificate");
        let served = async |name: &str| {
            let _ = name;
            watching.agrees(&objects, &Who::Edge.proxy()).await
        };
        let before = served("before").await;
        let first = secret(&pair());
        objects.put(std::slice::from_ref(&first)).await;
        let made = served("made").await;
        assert!(made != before, "it is served");
        objects.patch(&first, &secret(&pair())).await;
        let changed = served("changed").await;
        assert!(changed != made && changed != before, "the new one is served");
        objects.delete(&first).await;
        assert!(served("deleted").await == before);
    });
}

#[test]
fn secrets_that_are_for_no_proxy_are_not_even_read() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let release = |name: &str, kind: &str| {
            json!({
                "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": "shop"}, "type": kind,
                "stringData": {"release": "long"},
            })
        };
        objects.put(&[release("a", "helm.sh/release.v1"), release("b", "Opaque")]).await;
        let watching = Watching::start(server.client()).await;
        let names: Vec<String> = watching.world().secrets.keys().map(|k| k.name.to_string()).collect();
        assert_eq!(names, ["b"]);
    });
}

#[test]
fn an_object_of_another_revision_is_not_there() {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let watching = Watching::start(server.client()).await;
        let proxy = Who::Client.proxy();
        let before = watching.agrees(&objects, &proxy).await;
        let rule = &documents(
            r#"
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: server, namespace: shop, labels: {istio.io/rev: canary}}
spec: {host: server, trafficPolicy: {connectionPool: {tcp: {maxConnections: 3}}}}
"#,
        )[0];
        objects.put(std::slice::from_ref(rule)).await;
        assert!(watching.agrees(&objects, &proxy).await == before, "it is for another control plane");
        objects.patch(rule, &json!({"metadata": {"labels": {"istio.io/rev": "default"}}})).await;
        assert!(watching.agrees(&objects, &proxy).await != before, "now it is for this one");
        objects.patch(rule, &json!({"metadata": {"labels": {"istio.io/rev": "canary"}}})).await;
        assert!(watching.agrees(&objects, &proxy).await == before, "and for the other one again");
    });
}

/// Kinds that change nothing for proxies yet: that they are there is told as a problem.
fn told(kind: &str, version: &str) {
    with_shared(async |server| {
        let objects = server.objects();
        objects.put_yaml(WORLD).await;
        let watching = Watching::start(server.client()).await;
        let object =
            json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x", "namespace": "shop"}, "spec": {}});
        let is_told = || watching.world().problems.keys().any(|o| o.kind.as_str() == kind);
        let is_shown = || watching.world().raw.keys().any(|o| o.kind.as_str() == kind);
        assert!(!is_told());
        objects.put(std::slice::from_ref(&object)).await;
        crate::harness::eventually("it is told", async || if is_told() { Ok(()) } else { Err("not yet") }).await;
        objects.delete(&object).await;
        let gone = || !is_told() && !is_shown();
        crate::harness::eventually("it is no longer told", async || if gone() { Ok(()) } else { Err("not yet") }).await;
    });
}

#[test]
fn an_envoy_filter_is_told() {
    told("EnvoyFilter", "networking.istio.io/v1alpha3");
}

#[test]
fn a_telemetry_is_told() {
    told("Telemetry", "telemetry.istio.io/v1");
}

#[test]
fn a_wasm_plugin_is_told() {
    told("WasmPlugin", "extensions.istio.io/v1alpha1");
}

#[test]
fn a_traffic_extension_is_told() {
    told("TrafficExtension", "extensions.istio.io/v1alpha1");
}
