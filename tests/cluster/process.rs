//! A real mainsheet process on a cluster: when it is ready, what it says when the cluster is lost, and what it costs.

use crate::harness::{Plane, Server, eventually, with_own};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time;

fn service(namespace: &str, name: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
        "spec": {"clusterIP": "None", "ports": [{"name": "http", "port": 80}]},
    })
}

fn cluster(namespace: &str, name: &str) -> String {
    format!("outbound|80||{name}.{namespace}.svc.cluster.local")
}

#[test]
fn it_is_ready_with_the_first_world_and_serves_changes_at_once() {
    with_own(async |mut server: Server| {
        let objects = server.objects();
        objects.put(&[service("shop", "server")]).await;
        server.kill();
        let plane = Plane::start(&server);
        let named = async || match plane.get(false, "/ready") {
            (status, text) if status == "503" && text.contains("Pod (") && text.contains("refused") => Ok(()),
            other => Err(format!("{other:?}")),
        };
        eventually("what is waited for is named, and why", named).await;
        server.restart().await;
        println!("ready after {:?}", plane.ready().await);
        let mut proxy = plane.proxy().await;
        let (first, _) = proxy.next().await.expect("clusters");
        assert!(first.contains(&cluster("shop", "server")), "{first:?}");
        let written = Instant::now();
        objects.put(&[service("shop", "second")]).await;
        let (second, _) = proxy.next().await.expect("a change");
        assert_eq!(second, [cluster("shop", "second")]);
        println!("from the write to the proxy: {:?}", written.elapsed());
        objects.delete(&service("shop", "second")).await;
        assert_eq!(proxy.next().await.expect("a change").1, [cluster("shop", "second")]);
    });
}

#[test]
fn without_the_api_server_proxies_have_what_they_had_and_readiness_and_metrics_say_so() {
    with_own(async |mut server: Server| {
        let objects = server.objects();
        objects.put(&[service("shop", "server")]).await;
        let plane = Plane::start(&server);
        plane.ready().await;
        assert_eq!(plane.metric("mainsheet_cluster_lost_seconds"), 0.0);
        assert_eq!(plane.metric("mainsheet_cluster_kind_readable{kind=\"Service\"}"), 1.0);
        let mut proxy = plane.proxy().await;
        let before = proxy.next().await.expect("clusters").0;
        server.kill();
        let told = async || match plane.get(false, "/ready") {
            (status, text) if status == "200" && text.contains("cannot be read") && text.contains("Service") => Ok(()),
            other => Err(format!("{other:?}")),
        };
        eventually("the loss is told, and is no reason not to be ready", told).await;
        time::sleep(Duration::from_secs(2)).await;
        assert!(plane.metric("mainsheet_cluster_lost_seconds") >= 1.0);
        assert_eq!(plane.metric("mainsheet_cluster_kind_readable{kind=\"Service\"}"), 0.0);
        let mut another = plane.proxy().await;
        assert_eq!(another.next().await.expect("clusters").0, before, "a new proxy is served the last world");
        server.restart().await;
        objects.put(&[service("shop", "second")]).await;
        for proxy in [&mut proxy, &mut another] {
            assert_eq!(proxy.next().await.expect("a change").0, [cluster("shop", "second")], "and nothing else");
        }
        let found = async || match plane.get(false, "/ready") {
            (status, text) if status == "200" && text.is_empty() => Ok(()),
            other => Err(format!("{other:?}")),
        };
        eventually("that it is back is told", found).await;
        assert_eq!(plane.metric("mainsheet_cluster_lost_seconds"), 0.0);
    });
}

/// A pod, the service that it is of, its slice, and a rule.
fn four(number: usize) -> Vec<Value> {
    let (name, ip) =
        (format!("s{number}"), format!("10.{}.{}.{}", 64 + number / 65_536, number / 256 % 256, number % 256));
    let metadata =
        json!({"name": name, "namespace": "many", "labels": {"app": name, "kubernetes.io/service-name": name}});
    let route = json!([{"route": [{"destination": {"host": name}}]}]);
    vec![
        service("many", &name),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n"}, "status": {"podIP": ip}}),
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata, "addressType": "IPv4",
               "ports": [{"name": "http", "port": 80}],
               "endpoints": [{"addresses": [ip], "targetRef": {"kind": "Pod", "name": name, "namespace": "many"}}]}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
               "metadata": {"name": name, "namespace": "many"}, "spec": {"hosts": [name], "http": route}}),
    ]
}

#[test]
fn ten_thousand_objects_are_read_at_the_start() {
    with_own(async |server: Server| {
        let objects = server.objects();
        let empty = Plane::start(&server);
        let (took, cost) = (empty.ready().await, empty.cost());
        println!("nothing: ready after {took:?} with {} MiB and {} s of processors", cost.0, cost.1);
        drop(empty);
        for batch in (0..2500).collect::<Vec<_>>().chunks(50) {
            let all: Vec<Value> = batch.iter().flat_map(|n| four(*n)).collect();
            objects.put(&all).await;
        }
        let plane = Plane::start(&server);
        let (took, cost) = (plane.ready().await, plane.cost());
        println!("10,000 objects: ready after {took:?} with {} MiB and {} s of processors", cost.0, cost.1);
        assert_eq!(plane.metric("mainsheet_pods"), 2500.0);
        assert_eq!(plane.metric("pilot_virt_services"), 2500.0);
        assert!(cost.0 < 400, "{} MiB", cost.0);
        let mut proxy = plane.proxy().await;
        let (clusters, _) = proxy.next().await.expect("clusters");
        assert!(clusters.len() >= 2500, "{}", clusters.len());
    });
}
