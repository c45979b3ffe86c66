//! What the control plane writes into a cluster: the roots, the status of objects, addresses, and by whom.

use crate::harness::{Server, eventually, with_own, with_shared};
use kube::Client;
use mainsheet::{
    ca::{self, Cluster, Keeper, KeyKind, Storage as _},
    controller::{self, Options},
    parse::Context,
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
            context: Context { revision: revision.into(), ..Context::default() },
            name: name.into(),
            lease: Duration::from_secs(4),
            roots: Some(receiver),
            root_config_map: ROOTS.into(),
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
