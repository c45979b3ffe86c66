//! Several mainsheets on one API server: each serves all, one writes, and another goes on when that one is gone.

use crate::harness::{AUDITED, Plane, Proxy, Server, eventually, with_own, with_own_of};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::time;

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/istio-leader";
const ENTRIES: &str = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries";
/// As the replicas of these tests are told.
const TERM: Duration = Duration::from_secs(4);
const NAMES: [&str; 2] = ["first", "second"];

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "shop"},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    })
}

fn entry(number: usize) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1", "kind": "ServiceEntry",
        "metadata": {"name": format!("e{number}"), "namespace": "shop"},
        "spec": {"hosts": [format!("e{number}.example")], "resolution": "DNS",
                 "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}]},
    })
}

fn cluster(name: &str) -> String {
    format!("outbound|80||{name}.shop.svc.cluster.local")
}

async fn get(server: &Server, path: &str) -> Value {
    server.objects().send("GET", path, &Value::Null).await.unwrap_or_default()
}

async fn holder(server: &Server) -> String {
    get(server, LEASE).await["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

async fn held_by(server: &Server, names: &[&str]) -> String {
    eventually("the lease is held", async || match holder(server).await {
        found if names.contains(&found.as_str()) => Ok(found),
        found => Err(format!("held by {found:?}")),
    })
    .await
}

/// Two replicas that are ready, the first of which writes.
async fn two(server: &Server) -> [Plane; 2] {
    server
        .objects()
        .put(&[json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "istio-system"}})])
        .await;
    let first = Plane::replica(server, "first", &[]);
    first.ready().await;
    held_by(server, &["first"]).await;
    let second = Plane::replica(server, "second", &[]);
    second.ready().await;
    [first, second]
}

/// Waits until a namespace has the roots, which the replica that writes brings there.
async fn has_roots(server: &Server, namespace: &str) -> Value {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
    eventually("the roots are there", async || {
        let found = get(server, &path).await;
        if found["data"]["root-cert.pem"].is_string() { Ok(found) } else { Err("no roots") }
    })
    .await
}

async fn remove_roots(server: &Server, namespace: &str) {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/istio-ca-root-cert");
    server.objects().send("DELETE", &path, &Value::Null).await.expect("roots that are there");
}

/// The version of each ServiceEntry, once all have addresses and a status.
async fn all_told(server: &Server, count: usize) -> BTreeMap<String, String> {
    let told = |o: &Value| o["status"]["addresses"].is_array() && o["status"]["observedGeneration"].is_number();
    eventually("all entries are told of", async || {
        let list = get(server, ENTRIES).await["items"].as_array().cloned().unwrap_or_default();
        match list.iter().filter(|o| told(o)).count() {
            ready if ready == count => Ok(versions(&list)),
            ready => Err(format!("{ready} of {count}")),
        }
    })
    .await
}

fn versions(list: &[Value]) -> BTreeMap<String, String> {
    let text = |o: &Value, field: &str| o["metadata"][field].as_str().unwrap_or_default().to_owned();
    list.iter().map(|o| (text(o, "name"), text(o, "resourceVersion"))).collect()
}

#[test]
fn each_of_two_replicas_serves_everything_and_they_sign_for_one_root() {
    with_own(async |server: Server| {
        server.objects().put(&[service("server")]).await;
        let planes = two(&server).await;
        let mut proxies = Vec::new();
        for plane in &planes {
            proxies.push(plane.proxy().await);
        }
        let mut first = Vec::new();
        for proxy in &mut proxies {
            first.push(proxy.next().await.expect("clusters").0);
        }
        assert!(first[0].contains(&cluster("server")) && first[0] == first[1], "{first:?}");
        server.objects().put(&[service("another")]).await;
        for proxy in &mut proxies {
            assert_eq!(proxy.next().await.expect("a change").0, [cluster("another")]);
        }
        let roots = has_roots(&server, "shop").await["data"]["root-cert.pem"].as_str().expect("roots").to_owned();
        for plane in &planes {
            plane.secure_with(&roots).await;
        }
    });
}

#[test]
fn when_the_replica_that_writes_is_killed_another_writes_within_seconds() {
    with_own(async |server: Server| {
        let [first, second] = two(&server).await;
        has_roots(&server, "default").await;
        let mut proxy = second.proxy().await;
        proxy.next().await.expect("clusters");
        drop(first);
        let killed = Instant::now();
        remove_roots(&server, "default").await;
        has_roots(&server, "default").await;
        let took = killed.elapsed();
        println!("written by another after {took:?}");
        assert_eq!(holder(&server).await, "second");
        assert!(took < TERM * 2, "{took:?}");
        server.objects().put(&[service("server")]).await;
        assert_eq!(proxy.next().await.expect("a change").0, [cluster("server")]);
    });
}

#[test]
fn a_replica_that_stood_still_writes_nothing_after_its_lease_ran_out() {
    with_own_of(AUDITED, async |server: Server| {
        let [first, second] = two(&server).await;
        // It is stopped while it has much to write.
        let entries: Vec<Value> = (0..300).map(entry).collect();
        server.objects().put(&entries).await;
        time::sleep(Duration::from_millis(100)).await;
        first.signal("-STOP");
        let stopped = Instant::now();
        held_by(&server, &["second"]).await;
        println!("taken over after {:?}", stopped.elapsed());
        let before = all_told(&server, entries.len()).await;
        // What both would mend, if both could: the roots of every namespace.
        remove_roots(&server, "shop").await;
        has_roots(&server, "shop").await;
        let over = jiff::Timestamp::now();
        first.signal("-CONT");
        time::sleep(TERM).await;
        assert_eq!(holder(&server).await, "second");
        let after = get(&server, ENTRIES).await["items"].as_array().cloned().unwrap_or_default();
        assert!(versions(&after) == before, "nothing was written again");
        let late: Vec<String> = server.writes().iter().filter_map(|w| late(w, "first", over)).collect();
        assert!(late.is_empty(), "{late:#?}");
        assert!(server.writes().iter().any(|w| w["user"]["username"] == "second"), "writes are noted");
        // It is as good as the other from then on.
        drop(second);
        held_by(&server, &["first"]).await;
        remove_roots(&server, "shop").await;
        has_roots(&server, "shop").await;
    });
}

/// A change by somebody that came to the API server after a moment, in words. Questions are none, and neither is a try to
/// renew the lease, nor what was on its way and was refused: both name the version that they replace.
fn late(write: &Value, user: &str, moment: jiff::Timestamp) -> Option<String> {
    let at: jiff::Timestamp = write["requestReceivedTimestamp"].as_str()?.parse().ok()?;
    let what = &write["objectRef"];
    let asks = ["tokenreviews", "subjectaccessreviews", "leases"].iter().any(|r| what["resource"] == *r);
    // What is refused whenever it is offered asks whether the webhook answers.
    let question = asks || what["name"] == "mainsheet-validation-is-asked";
    let refused = write["responseStatus"]["code"] == 409;
    (write["user"]["username"] == user && at > moment && !question && !refused)
        .then(|| format!("{} {what}", write["verb"]))
}

#[test]
fn without_the_api_server_for_longer_than_a_lease_all_are_served_and_one_writes_after_it() {
    with_own(async |mut server: Server| {
        server.objects().put(&[service("server")]).await;
        let planes = two(&server).await;
        has_roots(&server, "shop").await;
        let mut proxies = Vec::new();
        for plane in &planes {
            let mut proxy = plane.proxy().await;
            proxy.next().await.expect("clusters");
            proxies.push(proxy);
        }
        server.kill();
        time::sleep(TERM * 2).await;
        for plane in &planes {
            let mut new = plane.proxy().await;
            assert!(new.next().await.expect("clusters").0.contains(&cluster("server")), "as it was last known");
            let (status, text) = plane.get(false, "/ready");
            assert!(status == "200" && text.contains("cannot be read"), "{status} {text}");
            assert!(plane.metric("mainsheet_cluster_lost_seconds") >= 1.0);
        }
        server.restart().await;
        held_by(&server, &NAMES).await;
        remove_roots(&server, "shop").await;
        has_roots(&server, "shop").await;
        server.objects().put(&[service("another")]).await;
        for proxy in &mut proxies {
            let (changed, gone) = proxy.next().await.expect("a change");
            assert!(changed == [cluster("another")] && gone.is_empty(), "{changed:?} {gone:?}, and nothing else");
        }
    });
}

#[test]
fn with_an_authority_of_its_own_the_start_without_an_api_server_says_what_it_waits_for() {
    with_own(async |mut server: Server| {
        server.kill();
        let plane = Plane::with_authority(&server, &[]);
        let named = async || match plane.get(false, "/ready") {
            (status, text) if status == "503" && text.contains("the mesh's settings") && text.contains("refused") => {
                Ok(())
            }
            other => Err(format!("{other:?}")),
        };
        eventually("what is waited for is named", named).await;
        assert_eq!(plane.get(false, "/debug/syncz").0, "503");
        server.restart().await;
        plane.ready().await;
        assert_eq!(plane.get(false, "/debug/syncz").0, "200");
    });
}

#[test]
fn a_connection_ends_after_its_time_so_that_proxies_spread() {
    with_own(async |server: Server| {
        let plane = Plane::replica(&server, "first", &["--keepaliveMaxServerConnectionAge", "3s", "--ca-server=false"]);
        plane.ready().await;
        let mut proxy: Proxy = plane.proxy().await;
        proxy.next().await.expect("clusters");
        let started = Instant::now();
        let end = proxy.next().await.expect_err("its end");
        assert!((2..=6).contains(&started.elapsed().as_secs()), "{end} after {:?}", started.elapsed());
    });
}
