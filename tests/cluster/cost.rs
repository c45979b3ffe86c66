//! What a cluster costs: the memory and the processor time from the start until all is ready, and for each pod that is
//! replaced. `make cluster-bench` runs it with a release build, and prints a table.

use crate::harness::{Objects, Plane, Server, eventually, with_own};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time;

/// Services and pods of each.
const SIZES: [(usize, usize); 2] = [(1000, 5), (2000, 5)];
/// What counts the changes of pods.
const TOLD: &str = "mainsheet_cluster_events{kind=\"Pod\"}";
/// Pods that are replaced.
const REPLACED: usize = 500;

fn name(service: usize, pod: usize) -> String {
    format!("s{service}-7d4b9c6f5-{pod:05x}")
}

fn address(service: usize, pod: usize, turn: usize) -> String {
    let number = (service * 10 + pod) * 2 + turn;
    format!("10.{}.{}.{}", 64 + number / 65_536, number / 256 % 256, number % 256)
}

fn namespace(service: usize) -> String {
    format!("team-{}", service % 20)
}

/// A pod as a Deployment and the injection of a sidecar leave it.
fn pod(service: usize, pod: usize, turn: usize) -> Value {
    let env: Vec<Value> =
        (0..20).map(|n| json!({"name": format!("SETTING_{n}"), "value": format!("value of {n}")})).collect();
    let probe = json!({"httpGet": {"path": "/health", "port": 8080}, "periodSeconds": 10});
    let container = |name: &str| {
        json!({
            "name": name, "image": format!("registry.example/{name}:1.2.3"), "env": env,
            "ports": [{"name": "http", "containerPort": 8080}], "readinessProbe": probe, "livenessProbe": probe,
            "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}},
        })
    };
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": name(service, pod), "namespace": namespace(service),
            "labels": {"app": format!("s{service}"), "version": "v1", "pod-template-hash": "7d4b9c6f5",
                       "app.kubernetes.io/name": format!("s{service}"), "app.kubernetes.io/part-of": "shop",
                       "service.istio.io/canonical-name": format!("s{service}")},
            "annotations": {"prometheus.io/scrape": "true", "sidecar.istio.io/status": "x".repeat(400)},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": format!("s{service}-7d4b9c6f5"),
                                 "uid": "4f0b5b1e-0000-4000-8000-000000000000", "controller": true}],
        },
        "spec": {"nodeName": format!("node-{}", pod % 40), "serviceAccountName": format!("s{service}"),
                 "containers": [container("app"), container("istio-proxy")]},
        "status": {"phase": "Running", "podIP": address(service, pod, turn), "podIPs": [{"ip": address(service, pod, turn)}],
                   "conditions": [{"type": "Ready", "status": "True"}, {"type": "Initialized", "status": "True"}]},
    })
}

fn slice(service: usize, pods: usize, turns: &dyn Fn(usize) -> usize) -> Value {
    let endpoint = |p: usize| {
        json!({"addresses": [address(service, p, turns(p))], "nodeName": format!("node-{}", p % 40), "zone": "a",
               "conditions": {"ready": true, "serving": true},
               "targetRef": {"kind": "Pod", "name": name(service, p), "namespace": namespace(service)}})
    };
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {"name": format!("s{service}-x"), "namespace": namespace(service),
                     "labels": {"kubernetes.io/service-name": format!("s{service}"), "app": format!("s{service}")}},
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
        "endpoints": (0..pods).map(endpoint).collect::<Vec<_>>(),
    })
}

fn all_of(service: usize, pods: usize) -> Vec<Value> {
    let metadata = json!({"name": format!("s{service}"), "namespace": namespace(service), "labels": {"app": format!("s{service}")}});
    let mut all = vec![
        json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata,
               "spec": {"clusterIP": "None", "selector": {"app": format!("s{service}")},
                        "ports": [{"name": "http", "port": 80, "targetPort": 8080}]}}),
        slice(service, pods, &|_| 0),
    ];
    if service.is_multiple_of(10) {
        let host = format!("s{service}");
        all.push(json!({"apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": metadata,
                        "spec": {"hosts": [host], "http": [{"route": [{"destination": {"host": host}}]}]}}));
    }
    all.extend((0..pods).map(|p| pod(service, p, 0)));
    all
}

async fn write(objects: &Objects, from: usize, to: usize, pods: usize) {
    for first in (from..to).step_by(20) {
        let all: Vec<Value> = (first..to.min(first + 20)).flat_map(|service| all_of(service, pods)).collect();
        objects.put(&all).await;
    }
}

/// Replaces pods as a Deployment does: each goes, and comes with another address.
async fn replace(objects: &Objects, pods: usize) {
    for service in 0..REPLACED / pods {
        for p in 0..pods {
            objects.delete(&pod(service, p, 0)).await;
            objects.put(&[pod(service, p, 1)]).await;
            let slice = slice(service, pods, &|other| usize::from(other <= p));
            objects.patch(&slice, &slice).await;
        }
    }
}

#[test]
#[ignore = "takes minutes; `make cluster-bench` runs it"]
fn cost_of_the_start_and_of_each_pod() {
    with_own(async |server: Server| {
        let objects = server.objects();
        let empty = Plane::start(&server);
        empty.ready().await;
        time::sleep(Duration::from_secs(2)).await;
        println!(
            "| Services | Pods | Ready after | Processor until then | Resident | At most | For each pod replaced |"
        );
        println!("|--:|--:|--:|--:|--:|--:|--:|");
        println!("| 0 | 0 | | {:.2} s | {} MiB | {} MiB | |", empty.cost().1, empty.cost().0, empty.most());
        drop(empty);
        let mut written = 0;
        for (services, pods) in SIZES {
            write(&objects, written, services, pods).await;
            written = services;
            let plane = Plane::start(&server);
            let ready = plane.ready_within(Duration::from_secs(300)).await;
            let used = plane.cost().1;
            time::sleep(Duration::from_secs(5)).await;
            let (resident, before) = plane.cost();
            let (wrote, told) = (Instant::now(), plane.metric(TOLD));
            replace(&objects, pods).await;
            // Each goes, and comes, and gets its address; and the slice follows.
            let seen = async || match plane.metric(TOLD) - told {
                events if events >= (3 * REPLACED) as f64 => Ok(()),
                events => Err(format!("{events} events")),
            };
            eventually("all replaced pods are known", seen).await;
            let each = (plane.cost().1 - before) * 1000.0 / REPLACED as f64;
            println!(
                "| {services} | {} | {:.2} s | {used:.2} s | {resident} MiB | {} MiB | {each:.2} ms |",
                services * pods,
                ready.as_secs_f64(),
                plane.most(),
            );
            eprintln!("{REPLACED} pods were replaced in {:?}; resident then: {} MiB", wrote.elapsed(), plane.cost().0);
            // As they were, for the next size.
            for service in 0..REPLACED / pods {
                for p in 0..pods {
                    objects.delete(&pod(service, p, 1)).await;
                    objects.put(&[pod(service, p, 0)]).await;
                }
                objects.patch(&slice(service, pods, &|_| 0), &slice(service, pods, &|_| 0)).await;
            }
        }
    });
}
