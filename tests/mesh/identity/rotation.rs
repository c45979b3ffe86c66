//! Everything behind an identity changes under load: certificates that live twenty seconds, the root that they are of,
//! and the processes that they come from, which are killed. No request may fail.

use super::service;
use crate::harness::{Client, Pod, Request, World, eventually};
use serde_json::Value;
use std::{
    collections::BTreeSet,
    fs,
    thread::sleep,
    time::{Duration, Instant},
};

/// How long a step of a rotation is in force before the next: the life of a certificate.
const OVERLAP: &str = "20s";
const REQUESTS: usize = 20_000;

/// Gives the pods the roots that there are now, as Kubernetes does with its ConfigMap.
fn distribute(world: &World) {
    for workload in world.workloads() {
        let roots = world.dir().join(format!("{}-roots.pem", workload.pod.name));
        let draft = roots.with_extension("draft");
        fs::copy(world.authority().join("root-cert.pem"), &draft).expect("the roots");
        let anybody = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        fs::set_permissions(&draft, anybody).expect("a file");
        fs::rename(draft, roots).expect("a file");
    }
}

/// Kills the agent of a pod, and starts it again a little later.
fn kill_agent(world: &World, pod: &str) {
    let mut agent = world.workload(pod).agent();
    agent.1.kill();
    sleep(Duration::from_millis(300));
    agent.1 = agent.0.start();
}

fn kill_control_plane(world: &World, away: Duration) {
    world.control_plane().kill();
    sleep(away);
    world.control_plane().restart();
}

/// Of each kind of proxy one sends and one answers: beside an agent, and with secrets from the control plane.
fn world() -> World {
    let short =
        |name: &str, app: &str| Pod::new(name, "shop", app, "v1").with_agent_apart().variable("SECRET_TTL", "20s");
    let without = |name: &str, app: &str| Pod::new(name, "shop", app, "v1").with_identity();
    let pods = vec![
        short("client", "client"),
        short("server", "server"),
        without("walker", "walker"),
        without("stand", "server"),
    ];
    // A connection for each request between the proxies, so that each request is a handshake.
    let objects = service("fresh", "server", "10.96.8.20", &["http-80 80 8080".to_owned()])
        + &service("kept", "server", "10.96.8.21", &["http-80 80 8081".to_owned()])
        + "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: fresh, namespace: shop}\n\
           spec: {host: fresh, trafficPolicy: {connectionPool: {http: {maxRequestsPerConnection: 1}}}}\n";
    World::with_certificates(pods, &[("services.yaml", &objects)], "20s")
}

/// A client of a pod that asks a service again and again.
struct Load {
    pod: &'static str,
    service: &'static str,
    client: Client,
    request: Request,
}

/// Each sending pod asks each service; all are answered when this returns.
fn loads(world: &World) -> Vec<Load> {
    let mut loads = Vec::new();
    for pod in ["client", "walker"] {
        for (service, address, workers, pause) in [("fresh", "10.96.8.20", 2, 4), ("kept", "10.96.8.21", 4, 1)] {
            let request = Request::get(&format!("http://{address}/")).host(service).brief();
            let request = request.workers(workers).pause_ms(pause);
            loads.push(Load { pod, service, client: world.client(pod), request });
        }
    }
    for Load { pod, service, client, request } in &mut loads {
        eventually(&format!("{service} answers {pod}"), || match client.one(request) {
            reply if reply.status == 200 => Ok(()),
            reply => Err(reply.brief()),
        });
    }
    loads
}

/// The sum of a statistic of the servers.
fn counted(world: &World, filter: &str) -> u64 {
    ["server", "stand"].iter().map(|pod| world.workload(pod).envoy().stats(filter).values().sum::<u64>()).sum()
}

const HANDSHAKES: &str = "^listener.*ssl.handshake$";
const ANSWERS: &str = "^http.inbound.*downstream_rq_2xx$";

/// The root is replaced, and everybody killed on the way; each at its second, or later.
fn turmoil(world: &World, begin: Instant) {
    let at = |second: u64| sleep(Duration::from_secs(second).saturating_sub(begin.elapsed()));
    world.rotate(OVERLAP).expect("the new root is trusted");
    distribute(world);
    at(4);
    kill_agent(world, "client");
    at(7);
    kill_agent(world, "server");
    at(10);
    kill_control_plane(world, Duration::from_secs(4));
    if begin.elapsed() < Duration::from_secs(19) {
        assert!(world.rotate(OVERLAP).is_err(), "not all may have learnt of the new root");
    }
    at(21);
    eventually("the new root signs", || world.rotate(OVERLAP));
    at(24);
    kill_control_plane(world, Duration::from_secs(2));
    at(28);
    kill_agent(world, "server");
    kill_agent(world, "client");
    at(42);
    eventually("the old root is gone", || world.rotate(OVERLAP));
    distribute(world);
    at(44);
    kill_control_plane(world, Duration::from_secs(1));
    at(53);
}

#[test]
fn no_request_fails_while_certificates_and_the_root_change_and_who_makes_them_is_killed() {
    let world = world();
    let mut loads = loads(&world);
    let before = counted(&world, HANDSHAKES);
    let begin = Instant::now();
    for load in &mut loads {
        load.client.start(&load.request);
    }
    turmoil(&world, begin);
    // A machine that has much else to do takes longer; what is counted are requests, not seconds.
    while counted(&world, ANSWERS) < REQUESTS as u64 && begin.elapsed() < Duration::from_secs(300) {
        sleep(Duration::from_millis(200));
    }

    let mut sent = 0;
    let mut failed = Vec::new();
    for Load { pod, service, client, .. } in &mut loads {
        let replies = client.stop();
        println!("{pod} sent {} requests to {service}", replies.len());
        sent += replies.len();
        let wrong = replies.iter().filter(|r| r.status != 200);
        failed.extend(wrong.map(|r| format!("{pod} {service}: {} {}", r.brief(), r.body)));
    }
    let handshakes = counted(&world, HANDSHAKES) - before;
    println!("{sent} requests, {handshakes} handshakes, {:?}", begin.elapsed());
    assert!(failed.is_empty(), "{} of {sent} requests failed: {:#?}", failed.len(), &failed[..failed.len().min(10)]);
    assert!(sent >= REQUESTS, "only {sent} requests were sent");
    assert!(handshakes >= 2_000, "only {handshakes} handshakes");
    have_the_new_root_alone(&world);
    println!("an agent has {} KiB", world.workload("client").agent().1.memory().0);
}

/// Whoever was there all the time has the new root alone, and is served by the control plane that has it as well.
fn have_the_new_root_alone(world: &World) {
    let roots = fs::read_to_string(world.authority().join("root-cert.pem")).expect("the roots");
    assert_eq!(roots.matches("BEGIN").count(), 1);
    for workload in world.workloads() {
        eventually("the stream is there", || {
            let stats = workload.envoy().stats("^control_plane.connected_state$");
            if stats.values().all(|v| *v == 1) { Ok(()) } else { Err(format!("{stats:?}")) }
        });
        let certificates = workload.envoy().admin("/certs");
        let page: Value = serde_json::from_str(&certificates).expect("a page");
        let each = page["certificates"].as_array().into_iter().flatten();
        let roots = each.flat_map(|c| c["ca_cert"].as_array().into_iter().flatten());
        let serials: BTreeSet<&str> = roots.filter_map(|root| root["serial_number"].as_str()).collect();
        assert_eq!(serials.len(), 1, "{}: {certificates}", workload.pod.name);
    }
}
