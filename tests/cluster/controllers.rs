//! What the control plane writes into a cluster: the roots, the status of objects, addresses, and by whom.

use crate::harness::{Plane, Server, Watching, eventually, with_own, with_own_of, with_shared};
use kube::Client;
use mainsheet::{
    ca::{self, Cluster, Keeper, KeyKind, Storage as _},
    controller::{self, Options},
    parse::Context,
    source::kubernetes::Contexts,
};
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, task::JoinHandle, time};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/istio-leader";
const ROOTS: &str = "istio-ca-root-cert";

/// A replica that writes.
struct Replica {
    roots: watch::Sender<String>,
    down: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Replica {
    fn start(client: Client, name: &str, revision: &str, roots: &str) -> Self {
        let (roots, receiver) = watch::channel(roots.to_owned());
        let (down, shutdown) = watch::channel(false);
        let options = Options {
            client,
            contexts: Contexts::new(Context { revision: revision.into(), ..Context::default() }),
            namespace: None,
            name: name.into(),
            lease: Duration::from_secs(4),
            roots: Some(receiver),
            proven: None,
            root_config_map: ROOTS.into(),
            trust_bundle: false,
            worlds: None,
            events: None,
            machines: None,
            status: true,
            addresses: vec!["240.240.0.0/16".parse().expect("a range"), "2001:2::/48".parse().expect("a range")],
        };
        Self { roots, down, task: tokio::spawn(controller::run(options, shutdown)) }
    }

    /// Ends as it does when it is asked to.
    async fn end(self) {
        self.down.send_replace(true);
        self.task.await.expect("an end");
    }

    /// Ends from one moment to the next.
    async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn get(server: &Server, path: &str) -> Result<Value, String> {
    server.objects().send("GET", path, &Value::Null).await
}

async fn system(server: &Server) {
    namespace(server, "istio-system").await;
    let _ = server.objects().send("DELETE", LEASE, &Value::Null).await;
}

async fn namespace(server: &Server, name: &str) {
    let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": name } });
    let made = server.objects().send("POST", "/api/v1/namespaces", &object).await;
    assert!(made.as_ref().is_ok() || made.as_ref().is_err_and(|why| why.starts_with("409")), "{made:?}");
}

fn config_map(namespace: &str) -> String {
    format!("/api/v1/namespaces/{namespace}/configmaps/{ROOTS}")
}

/// Waits until a namespace has these roots.
async fn has_roots(server: &Server, namespace: &str, roots: &str) {
    eventually("the roots are there", async || {
        let found = get(server, &config_map(namespace)).await?;
        let right = found["data"] == json!({ "root-cert.pem": roots })
            && found["metadata"]["labels"]["istio.io/config"] == "true";
        if right { Ok(()) } else { Err(found["data"].to_string()) }
    })
    .await;
}

async fn holder(server: &Server) -> String {
    let lease = get(server, LEASE).await.unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

async fn held_by(server: &Server, name: &str) {
    eventually("the lease is held", async || match holder(server).await {
        found if found == name => Ok(()),
        found => Err(found),
    })
    .await;
}

/// Waits until an object's status is as it should be, and gives the object.
async fn says(server: &Server, path: &str, check: impl Fn(&Value) -> bool) -> Value {
    eventually("the status says so", async || {
        let found = get(server, path).await?;
        if check(&found["status"]) { Ok(found) } else { Err(found["status"].to_string()) }
    })
    .await
}

#[test]
fn every_namespace_has_the_roots_whatever_others_do_to_them() {
    with_shared(async |server: &mut Server| {
        system(server).await;
        let replica = Replica::start(server.client(), "a", "", "ROOTS");
        for name in ["default", "istio-system"] {
            has_roots(server, name, "ROOTS").await;
        }
        namespace(server, "late").await;
        has_roots(server, "late", "ROOTS").await;
        server.objects().send("DELETE", &config_map("late"), &Value::Null).await.expect("deleted");
        has_roots(server, "late", "ROOTS").await;
        let wrong = json!({ "data": { "root-cert.pem": "forged", "more": "x" }, "metadata": { "labels": null } });
        server.objects().send("PATCH", &config_map("late"), &wrong).await.expect("changed");
        has_roots(server, "late", "ROOTS").await;
        replica.roots.send_replace("ROTATED".into());
        for name in ["default", "istio-system", "late"] {
            has_roots(server, name, "ROTATED").await;
        }
        assert!(get(server, &config_map("kube-system")).await.is_err(), "nobody there is of the mesh");
        replica.end().await;
    });
}

#[test]
fn objects_are_told_what_is_said_of_them_once() {
    with_shared(async |server: &mut Server| {
        system(server).await;
        namespace(server, "shop").await;
        let path = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices";
        let good = json!({
            "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": { "name": "reviews" },
            "spec": { "hosts": ["reviews"], "http": [{ "route": [{ "destination": { "host": "reviews" } }] }] },
        });
        server.objects().send("POST", path, &good).await.expect("made");
        let path = &format!("{path}/reviews");
        let others = json!({ "status": { "conditions": [{ "type": "OfOthers", "status": "True" }] } });
        server.objects().send("PATCH", &format!("{path}/status"), &others).await.expect("a status of others");
        let replica = Replica::start(server.client(), "a", "", "ROOTS");
        let ours = |status: &Value, reason: &str, generation: i64| {
            let all = status["conditions"].as_array().cloned().unwrap_or_default();
            status["observedGeneration"] == generation
                && all.iter().any(|c| c["type"] == "Reconciled" && c["reason"] == reason)
                && all.iter().any(|c| c["type"] == "OfOthers")
        };
        says(server, path, |status| ours(status, "Accepted", 1)).await;
        let broken = json!({ "spec": { "http": [{ "match": [{ "uri": { "regex": "/a(" } }], "route": [{ "destination": { "host": "reviews" } }] }] } });
        server.objects().send("PATCH", path, &broken).await.expect("changed");
        let found = says(server, path, |status| ours(status, "Refused", 2)).await;
        assert_eq!(found["status"]["validationMessages"][0]["level"], "ERROR");
        // What was said is not said again.
        time::sleep(Duration::from_secs(2)).await;
        let later = get(server, path).await.expect("the object");
        assert_eq!(later["metadata"]["resourceVersion"], found["metadata"]["resourceVersion"]);
        let healed = json!({ "spec": good["spec"] });
        server.objects().send("PATCH", path, &healed).await.expect("changed");
        let found = says(server, path, |status| ours(status, "Accepted", 3)).await;
        assert!(found["status"]["validationMessages"].is_null());
        replica.end().await;
    });
}

#[test]
fn a_service_entry_without_addresses_gets_some_and_keeps_them() {
    with_shared(async |server: &mut Server| {
        system(server).await;
        namespace(server, "shop").await;
        let path = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries";
        for (name, hosts) in [("a", json!(["a.example"])), ("b", json!(["b.example", "c.example"]))] {
            let entry = json!({
                "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry", "metadata": { "name": name },
                "spec": { "hosts": hosts, "resolution": "DNS", "ports": [{ "number": 80, "name": "http", "protocol": "HTTP" }] },
            });
            server.objects().send("POST", path, &entry).await.expect("made");
        }
        let replica = Replica::start(server.client(), "a", "", "ROOTS");
        let count =
            |wanted: usize| move |status: &Value| status["addresses"].as_array().is_some_and(|all| all.len() == wanted);
        let a = says(server, &format!("{path}/a"), count(2)).await;
        let b = says(server, &format!("{path}/b"), count(4)).await;
        let all: Vec<&Value> =
            [&a, &b].into_iter().flat_map(|o| o["status"]["addresses"].as_array().expect("some")).collect();
        let mut values: Vec<&str> = all.iter().filter_map(|e| e["value"].as_str()).collect();
        values.sort_unstable();
        values.dedup();
        assert_eq!(values.len(), 6, "each is given once: {all:?}");
        // Another replica that takes over gives the same.
        replica.end().await;
        let second = Replica::start(server.client(), "b", "", "ROOTS");
        held_by(server, "b").await;
        let more = json!({ "spec": { "hosts": ["a.example", "d.example"] } });
        server.objects().send("PATCH", &format!("{path}/a"), &more).await.expect("changed");
        let after = says(server, &format!("{path}/a"), count(4)).await;
        let of = |o: &Value, host: &str| -> Vec<Value> {
            o["status"]["addresses"].as_array().expect("some").iter().filter(|e| e["host"] == host).cloned().collect()
        };
        assert_eq!(of(&after, "a.example"), of(&a, "a.example"));
        let none = json!({ "spec": { "resolution": "NONE" } });
        server.objects().send("PATCH", &format!("{path}/a"), &none).await.expect("changed");
        says(server, &format!("{path}/a"), |status| status["addresses"].is_null()).await;
        second.end().await;
    });
}

#[test]
fn one_replica_writes_and_another_goes_on_when_that_ends_or_dies() {
    with_shared(async |server: &mut Server| {
        system(server).await;
        let first = Replica::start(server.client(), "first", "", "ROOTS");
        held_by(server, "first").await;
        let second = Replica::start(server.client(), "second", "", "ROOTS");
        time::sleep(Duration::from_secs(5)).await;
        assert_eq!(holder(server).await, "first", "it is renewed");
        let started = time::Instant::now();
        first.end().await;
        held_by(server, "second").await;
        assert!(started.elapsed() < Duration::from_secs(6), "given back and taken in {:?}", started.elapsed());
        let third = Replica::start(server.client(), "third", "", "ROOTS");
        time::sleep(Duration::from_secs(2)).await;
        second.kill().await;
        held_by(server, "third").await;
        server.objects().send("DELETE", &config_map("default"), &Value::Null).await.expect("deleted");
        has_roots(server, "default", "ROOTS").await;
        third.end().await;
    });
}

#[test]
fn a_replica_that_cannot_renew_its_lease_writes_no_more() {
    with_own(async |mut server: Server| {
        system(&server).await;
        let replica = Replica::start(server.client(), "lonely", "", "ROOTS");
        has_roots(&server, "default", "ROOTS").await;
        server.freeze(true);
        time::sleep(Duration::from_secs(6)).await;
        // Its requests are still waiting at the API server, which goes on; the lease is over.
        replica.roots.send_replace("LATE".into());
        time::sleep(Duration::from_secs(1)).await;
        replica.kill().await;
        server.freeze(false);
        time::sleep(Duration::from_secs(3)).await;
        let found = get(&server, &config_map("default")).await.expect("roots");
        assert_eq!(found["data"]["root-cert.pem"], "ROOTS");
        server.kill();
    });
}

#[test]
fn the_default_control_plane_takes_over_from_one_with_a_revision() {
    with_shared(async |server: &mut Server| {
        system(server).await;
        let canary = Replica::start(server.client(), "canary", "next", "NEXT");
        held_by(server, "canary").await;
        let default = Replica::start(server.client(), "default", "", "ROOTS");
        held_by(server, "default").await;
        has_roots(server, "default", "ROOTS").await;
        time::sleep(Duration::from_secs(3)).await;
        assert_eq!(holder(server).await, "default");
        canary.end().await;
        default.end().await;
    });
}

#[test]
fn replicas_that_start_at_once_make_one_authority() {
    with_shared(async |server: &mut Server| {
        system(server).await;
        let open = || {
            let client = server.client();
            tokio::task::spawn_blocking(move || {
                let made =
                    || Ok(ca::Options { trust_domain: "cluster.local".into(), key: KeyKind::P256, root_ttl: 86400 });
                let keeper = Keeper::open(Arc::new(Cluster::new(client, "istio-system")), made).expect("an authority");
                keeper.authority().borrow().roots().to_owned()
            })
        };
        let mut all = Vec::new();
        for opened in [open(), open(), open(), open()] {
            all.push(opened.await.expect("an authority"));
        }
        all.dedup();
        assert_eq!(all.len(), 1, "all have the same roots");
        let secret = get(server, "/api/v1/namespaces/istio-system/secrets/istio-ca-secret").await.expect("a secret");
        assert_eq!(secret["type"], "istio.io/ca-root");
        let names: Vec<&String> = secret["data"].as_object().expect("entries").keys().collect();
        assert_eq!(names, ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem", "token-key"]);
    });
}

#[test]
fn a_plugged_in_authority_goes_before_the_one_that_was_made() {
    with_shared(async |server: &mut Server| {
        system(server).await;
        let made = ca::self_signed("plugged", KeyKind::P256, ca::now(), 86400).expect("an authority");
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": { "name": "cacerts" }, "stringData": made,
        });
        server.objects().send("POST", "/api/v1/namespaces/istio-system/secrets", &secret).await.expect("made");
        let client = server.client();
        let loaded = tokio::task::spawn_blocking(move || Cluster::new(client, "istio-system").load());
        let loaded = loaded.await.expect("no panic").expect("files");
        assert_eq!(loaded["root-cert.pem"], made["root-cert.pem"]);
        assert!(get(server, "/api/v1/namespaces/istio-system/secrets/istio-ca-secret").await.is_err());
    });
}

#[test]
fn an_ingress_that_is_served_is_told_the_addresses_of_the_gateways() {
    with_own(async |server: Server| {
        let objects = server.objects();
        objects
            .put_yaml(
                r#"
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: mine, namespace: shop, annotations: {kubernetes.io/ingress.class: istio}}
spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: other, namespace: shop, annotations: {kubernetes.io/ingress.class: nginx}}
spec: {rules: [{host: b.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}
---
apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway, namespace: istio-system}
spec: {type: LoadBalancer, externalIPs: [192.0.2.9], ports: [{port: 80}]}
"#,
            )
            .await;
        let plane = Plane::replica(&server, "first", &[]);
        plane.ready().await;
        let path = |name: &str| format!("/apis/networking.k8s.io/v1/namespaces/shop/ingresses/{name}");
        let is = |wanted: Value| move |status: &Value| status["loadBalancer"]["ingress"] == wanted;
        says(&server, &path("mine"), is(json!([{"ip": "192.0.2.9"}]))).await;
        let service = "/api/v1/namespaces/istio-system/services/istio-ingressgateway";
        let balanced =
            json!({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}, {"ip": "192.0.2.1"}]}}});
        objects.send("PATCH", &format!("{service}/status"), &balanced).await.expect("a status");
        let all = json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.9"}, {"hostname": "lb.example"}]);
        let found = says(&server, &path("mine"), is(all)).await;
        let other = get(&server, &path("other")).await.expect("an Ingress");
        assert!(other["status"]["loadBalancer"]["ingress"].is_null(), "it is for another controller");
        time::sleep(Duration::from_secs(2)).await;
        let later = get(&server, &path("mine")).await.expect("an Ingress");
        assert_eq!(later["metadata"]["resourceVersion"], found["metadata"]["resourceVersion"], "it is said once");
        // One that becomes the mesh's is told too.
        let mine = json!({"metadata": {"annotations": {"kubernetes.io/ingress.class": "istio"}}});
        objects.send("PATCH", &path("other"), &mine).await.expect("changed");
        says(&server, &path("other"), |status| !status["loadBalancer"]["ingress"].is_null()).await;
        objects.send("DELETE", service, &Value::Null).await.expect("deleted");
        says(&server, &path("mine"), |status| status["loadBalancer"]["ingress"].is_null()).await;
    });
}

#[test]
fn an_ingress_without_a_service_before_the_gateways_is_told_the_addresses_of_their_nodes() {
    with_own(async |server: Server| {
        let objects = server.objects();
        objects
            .put_yaml(
                r#"
apiVersion: v1
kind: Namespace
metadata: {name: istio-system}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: '{ingressService: "", ingressSelector: edge}'}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: mine, namespace: shop, annotations: {kubernetes.io/ingress.class: istio}}
spec: {rules: [{host: a.example, http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}
---
apiVersion: v1
kind: Node
metadata: {name: one}
status: {addresses: [{type: InternalIP, address: 10.0.0.1}, {type: ExternalIP, address: 192.0.2.1}]}
---
apiVersion: v1
kind: Node
metadata: {name: two}
status: {addresses: [{type: ExternalIP, address: 192.0.2.2}]}
---
apiVersion: v1
kind: Pod
metadata: {name: gateway, namespace: istio-system, labels: {istio: edge}}
spec: {nodeName: one}
status: {podIP: 10.1.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: starting, namespace: istio-system, labels: {istio: edge}}
spec: {nodeName: two}
---
apiVersion: v1
kind: Pod
metadata: {name: another, namespace: istio-system, labels: {istio: ingressgateway}}
spec: {nodeName: two}
status: {podIP: 10.1.0.2}
"#,
            )
            .await;
        let plane = Plane::replica(&server, "first", &[]);
        plane.ready().await;
        let path = "/apis/networking.k8s.io/v1/namespaces/shop/ingresses/mine";
        let is = |wanted: Value| move |status: &Value| status["loadBalancer"]["ingress"] == wanted;
        says(&server, path, is(json!([{"ip": "192.0.2.1"}]))).await;
        let starts = json!({"status": {"podIP": "10.1.0.3", "podIPs": [{"ip": "10.1.0.3"}]}});
        let pod = "/api/v1/namespaces/istio-system/pods/starting/status";
        objects.send("PATCH", pod, &starts).await.expect("a status");
        says(&server, path, is(json!([{"ip": "192.0.2.1"}, {"ip": "192.0.2.2"}]))).await;
        let moved = json!({"status": {"addresses": [{"type": "ExternalIP", "address": "192.0.2.7"}]}});
        objects.send("PATCH", "/api/v1/nodes/one/status", &moved).await.expect("a status");
        says(&server, path, is(json!([{"ip": "192.0.2.2"}, {"ip": "192.0.2.7"}]))).await;
    });
}

/// A configuration of webhooks: two, one of which leads to the namespace of the control plane.
fn webhooks(kind: &str, name: &str, revision: Value) -> Value {
    let webhook = |name: &str, namespace: &str| {
        json!({
            "name": name, "sideEffects": "None", "admissionReviewVersions": ["v1"], "failurePolicy": "Ignore",
            "clientConfig": {"service": {"name": "istiod", "namespace": namespace, "path": "/inject"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": ["example.com"], "apiVersions": ["v1"], "resources": ["x"]}],
        })
    };
    let suffix = if kind.starts_with("Mutating") { "sidecar-injector.istio.io" } else { "validation.istio.io" };
    json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": kind,
        "metadata": {"name": name, "labels": {"istio.io/rev": revision}},
        "webhooks": [webhook(&format!("rev.{suffix}"), "istio-system"), webhook("rev.example.com", "istio-system"),
                     webhook(&format!("far.{suffix}"), "elsewhere")],
    })
}

#[test]
fn webhooks_of_the_control_plane_are_known_by_its_roots_whatever_others_do_to_them() {
    with_own(async |server: Server| {
        system(&server).await;
        let objects = server.objects();
        let parent = "/apis/admissionregistration.k8s.io/v1";
        let of = |plural: &str, name: &str| format!("{parent}/{plural}/{name}");
        let (mutating, validating) = ("mutatingwebhookconfigurations", "validatingwebhookconfigurations");
        for (kind, plural) in
            [("MutatingWebhookConfiguration", mutating), ("ValidatingWebhookConfiguration", validating)]
        {
            objects
                .send("POST", &format!("{parent}/{plural}"), &webhooks(kind, "ours", "canary".into()))
                .await
                .expect("made");
            objects
                .send("POST", &format!("{parent}/{plural}"), &webhooks(kind, "others", Value::Null))
                .await
                .expect("made");
        }
        let replica = Replica::start(server.client(), "a", "", "ROOTS");
        let bundles = async |path: &str| -> Vec<String> {
            let found = get(&server, path).await.expect("a configuration");
            let all = found["webhooks"].as_array().expect("webhooks").iter();
            all.map(|w| w["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned()).collect()
        };
        let is = async |path: &str, wanted: &str| {
            let check = async || match bundles(path).await {
                found if found == [wanted, "", ""] => Ok(()),
                found => Err(format!("{path}: {found:?}")),
            };
            eventually("the webhook is known by the roots", check).await;
        };
        // ROOTS and ROTATED.
        is(&of(mutating, "ours"), "Uk9PVFM=").await;
        is(&of(validating, "ours"), "Uk9PVFM=").await;
        let again = webhooks("MutatingWebhookConfiguration", "ours", "canary".into());
        let wrong = json!({"webhooks": again["webhooks"]});
        objects.send("PATCH", &of(mutating, "ours"), &wrong).await.expect("changed");
        is(&of(mutating, "ours"), "Uk9PVFM=").await;
        replica.roots.send_replace("ROTATED".into());
        is(&of(mutating, "ours"), "Uk9UQVRFRA==").await;
        is(&of(validating, "ours"), "Uk9UQVRFRA==").await;
        assert_eq!(bundles(&of(mutating, "others")).await, ["", "", ""], "which no revision is marked with");
        replica.end().await;
    });
}

const BUNDLES: &[&str] = &[
    "--feature-gates=ClusterTrustBundle=true",
    "--runtime-config=certificates.k8s.io/v1beta1/clustertrustbundles=true",
];

#[test]
fn the_roots_are_in_a_cluster_trust_bundle_where_the_cluster_has_such() {
    with_own_of(BUNDLES, async |server: Server| {
        system(&server).await;
        let plane = Plane::replica(&server, "first", &["--cluster-trust-bundle=true"]);
        plane.ready().await;
        let path = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles/istio.io:istiod-ca:root-cert";
        let whole = async || {
            let found = get(&server, path).await?;
            let roots = get(&server, &config_map("default")).await?["data"]["root-cert.pem"].clone();
            match found["spec"]["trustBundle"] == roots && found["spec"]["signerName"] == "istio.io/istiod-ca" {
                true => Ok(()),
                false => Err(found.to_string()),
            }
        };
        eventually("the bundle is there", whole).await;
        server.objects().send("DELETE", path, &Value::Null).await.expect("deleted");
        eventually("the bundle is there again", whole).await;
    });
}

/// Waits for an Event, and gives its text.
async fn event(server: &Server, namespace: &str, reason: &str, about: &str) -> String {
    let path = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    eventually("there is an Event", async || {
        let all = get(server, &path).await?["items"].as_array().cloned().unwrap_or_default();
        let found = all.iter().find(|e| e["reason"] == reason && e["regarding"]["name"] == about);
        found.map(|e| e["note"].as_str().unwrap_or_default().to_owned()).ok_or(json!(all).to_string())
    })
    .await
}

#[test]
fn events_tell_of_objects_that_are_refused_here_and_by_proxies_and_of_who_writes() {
    with_own(async |server: Server| {
        system(&server).await;
        let objects = server.objects();
        objects
            .put_yaml(
                r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: broken, namespace: shop}
spec: {hosts: [a], http: [{match: [{uri: {regex: "/a("}}], route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: outside, namespace: shop}
spec: {hosts: [a.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}
"#,
            )
            .await;
        let plane = Plane::replica(&server, "first", &[]);
        plane.ready().await;
        assert_eq!(
            event(&server, "istio-system", "LeaderElection", "istio-leader").await,
            "first writes into the cluster from now on"
        );
        assert!(event(&server, "shop", "Refused", "broken").await.contains("regular expression"));
        let mut proxy = plane.proxy().await;
        proxy.refuse("Error adding/updating cluster(s) outbound|80||a.example: no such thing").await;
        assert!(event(&server, "shop", "RefusedByProxy", "outside").await.contains("no such thing"));
        // The same is not said again.
        time::sleep(Duration::from_secs(2)).await;
        let all = get(&server, "/apis/events.k8s.io/v1/namespaces/shop/events").await.expect("events");
        assert_eq!(all["items"].as_array().expect("events").len(), 2, "{all}");
    });
}

#[test]
fn what_is_marked_with_a_tag_of_this_revision_is_read_as_soon_as_that_is_one() {
    with_own(async |server: Server| {
        system(&server).await;
        let objects = server.objects();
        objects
            .put_yaml(
                r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: tagged, namespace: shop, labels: {istio.io/rev: prod}}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: own, namespace: shop, labels: {istio.io/rev: canary}}
spec: {hosts: [b], http: [{route: [{destination: {host: b}}]}]}
"#,
            )
            .await;
        let mut tag = webhooks("MutatingWebhookConfiguration", "istio-revision-tag-prod", "canary".into());
        tag["metadata"]["labels"]["istio.io/tag"] = "prod".into();
        let parent = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
        objects.send("POST", parent, &tag).await.expect("a tag");
        let context = || Context { revision: "canary".into(), ..Context::default() };
        let watching = Watching::of(server.client(), context()).await;
        let names = |watching: &Watching| -> Vec<String> {
            watching.world().virtual_services.keys().map(|key| key.name.to_string()).collect()
        };
        assert_eq!(names(&watching), ["own", "tagged"], "from the first world on");
        let becomes = async |wanted: &[&str]| {
            let check = async || match names(&watching) {
                found if found == wanted => Ok(()),
                found => Err(format!("{found:?}")),
            };
            eventually("the objects of the tag come and go with it", check).await;
        };
        objects.send("DELETE", &format!("{parent}/istio-revision-tag-prod"), &Value::Null).await.expect("deleted");
        becomes(&["own"]).await;
        // A Service of the control plane's namespace says it as well.
        let service = json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "istiod-revision-tag-prod", "namespace": "istio-system",
                         "labels": {"istio.io/rev": "canary", "istio.io/tag": "prod"}},
            "spec": {"ports": [{"port": 443}]},
        });
        objects.put(&[service]).await;
        becomes(&["own", "tagged"]).await;
    });
}

#[test]
fn a_control_plane_of_one_namespace_reads_and_writes_in_no_other() {
    with_own(async |server: Server| {
        system(&server).await;
        let objects = server.objects();
        for name in ["shop", "other"] {
            let text = r#"
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a, namespace: NAME}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: NAME}
spec: {clusterIP: None, ports: [{name: http, port: 80}]}
"#;
            objects.put_yaml(&text.replace("NAME", name)).await;
        }
        let settings = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio", "namespace": "istio-system"},
            "data": {"mesh": "trustDomain: far.example\n"},
        });
        objects.put(&[settings]).await;
        let plane = Plane::replica(&server, "first", &["--watch-namespace", "shop"]);
        plane.ready().await;
        assert_eq!((plane.metric("pilot_services"), plane.metric("pilot_virt_services")), (1.0, 1.0));
        assert!(plane.get(false, "/debug/mesh").1.contains("far.example"), "the mesh's settings are read");
        let path = |namespace: &str| format!("/apis/networking.istio.io/v1/namespaces/{namespace}/virtualservices/a");
        says(&server, &path("shop"), |status| status["observedGeneration"] == 1).await;
        time::sleep(Duration::from_secs(1)).await;
        assert!(get(&server, &path("other")).await.expect("an object")["status"].is_null());
        assert!(get(&server, &config_map("shop")).await.is_ok());
        assert!(get(&server, &config_map("other")).await.is_err());
    });
}
