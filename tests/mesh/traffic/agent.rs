//! Sidecars with `mainsheet agent` beside them: mutual TLS, how they begin and end, and what the agent answers for.

use super::Scene;
use crate::harness::{Pod, Reply, Request, World, eventually};
use std::{
    thread::sleep,
    time::{Duration, Instant},
};

const CLIENT: &str = "URI=spiffe://cluster.local/ns/shop/sa/client";

/// What the server was told of its client's certificate, once requests get through.
fn proved(scene: &mut Scene<'_>) -> String {
    eventually("a request is answered", || match scene.send(scene.get("/")) {
        reply if reply.status == 200 => Ok(reply.sent_header("x-forwarded-client-cert").unwrap_or_default()),
        reply => Err(reply.brief()),
    })
}

fn serve<'a>(world: &'a World, name: &'static str) -> Scene<'a> {
    let scene = Scene::of(world, name);
    scene.apply(&scene.service("server", "- {name: http, port: 80, targetPort: 8080}"));
    scene.wait("outbound|80||NAME.shop.svc.cluster.local");
    scene
}

#[test]
fn an_agent_gets_its_sidecar_a_certificate_and_drains_it_at_the_end() {
    let world = World::new(vec![
        Pod::new("client", "shop", "client", "v1").with_agent(),
        Pod::new("server", "shop", "server", "v1").with_agent(),
    ]);
    let mut scene = serve(&world, "beside");
    assert!(proved(&mut scene).contains(CLIENT));

    let begin = Instant::now();
    let status = world.workload("server").envoy().process().terminate();
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() >= Duration::from_secs(1), "what is under way has its time: {:?}", begin.elapsed());
}

#[test]
fn the_exit_code_of_envoy_is_that_of_its_agent() {
    let world = World::new(vec![Pod::new("client", "shop", "client", "v1").with_agent()]);
    let mut envoy = world.workload("client").envoy();
    envoy.command("/quitquitquit");
    let ended = eventually("the agent ends with its Envoy", || envoy.process().ended().ok_or("it runs".to_owned()));
    assert!(ended.success(), "{ended}");
}

#[test]
fn an_envoy_that_is_killed_or_cannot_start_is_told_by_the_exit_code_of_its_agent() {
    let broken = r#"{"node": {"id": 5}, "nonsense": }"#;
    let world = World::new(vec![
        Pod::new("client", "shop", "client", "v1").with_agent(),
        Pod::new("server", "shop", "server", "v1").with_agent(),
    ]);
    let mut envoy = world.workload("client").envoy();
    envoy.process().kill_started();
    let ended = eventually("the agent ends with its Envoy", || envoy.process().ended().ok_or("it runs".to_owned()));
    assert_eq!(ended.code(), Some(128 + 9), "{ended}");

    let file = world.dir().join("override.json");
    std::fs::write(&file, broken).expect("a file");
    let mut server = world.workload("server").envoy();
    server.kill();
    server.launch().variables.push(("ISTIO_BOOTSTRAP_OVERRIDE".into(), file.display().to_string()));
    server.restart();
    let ended = eventually("the agent ends with its Envoy", || server.process().ended().ok_or("it runs".to_owned()));
    assert_eq!(ended.code(), Some(1), "{ended}");
}

#[test]
fn a_drained_pod_is_not_ready_and_ends_at_once_when_it_is_told_to() {
    let world = World::new(vec![
        Pod::new("client", "shop", "client", "v1").with_agent(),
        Pod::new("server", "shop", "server", "v1").with_agent(),
    ]);
    let mut scene = serve(&world, "drained");
    assert!(proved(&mut scene).contains(CLIENT));
    let ready = |pod: &str| status(&world, pod, "/healthz/ready").status;
    eventually("the pod is ready", || if ready("client") == 200 { Ok(()) } else { Err("it is not".to_owned()) });
    let drain = world.client("client").one(&Request::get("http://127.0.0.1:15020/drain").method("POST"));
    assert_eq!((drain.status, ready("client")), (200, 503));
    // What the workload still needs of others goes on.
    assert_eq!(scene.send(scene.get("/")).status, 200);
    let begin = Instant::now();
    let ended = world.workload("client").envoy().process().end_with("INT");
    assert!(ended.success() && begin.elapsed() < Duration::from_millis(900), "{ended} {:?}", begin.elapsed());
}

#[test]
fn a_pod_that_waits_for_its_connections_ends_when_the_last_is_gone() {
    let waiting = |name: &str| Pod::new(name, "shop", name, "v1").with_agent();
    let world = World::new(vec![
        waiting("server").variable("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true").variable("MINIMUM_DRAIN_DURATION", "1s"),
        Pod::new("bare", "shop", "bare", "v1").bare(),
    ]);
    let ip = world.workload("server").pod.ip.clone();
    let mut bare = world.client("bare");
    eventually("a request is answered", || match bare.one(&Request::get(&format!("http://{ip}:8080/")).fresh()) {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.brief()),
    });
    let slow = std::thread::spawn(move || bare.one(&Request::get(&format!("http://{ip}:8080/?delay=5000")).fresh()));
    sleep(Duration::from_millis(500));
    let begin = Instant::now();
    let ended = world.workload("server").envoy().process().terminate();
    let took = begin.elapsed();
    let reply = slow.join().expect("a reply");
    assert_eq!(reply.status, 200, "{}", reply.brief());
    // Longer than the least, and than the second that others have; and not for ever.
    assert!(ended.success() && (Duration::from_secs(4)..Duration::from_secs(12)).contains(&took), "{ended} {took:?}");
}

/// A GET of the agent's own port from within a pod.
fn status(world: &World, pod: &str, path: &str) -> Reply {
    world.client(pod).get(&format!("http://127.0.0.1:15020{path}"))
}

#[test]
fn the_agent_answers_for_readiness_metrics_and_probes_of_its_pod() {
    let probers = r#"{
        "/app-health/app/livez": {"httpGet": {"path": "/live?x=1", "port": 8080, "httpHeaders": [{"name": "Host", "value": "app"}]}},
        "/app-health/app/readyz": {"httpGet": {"path": "/?status=503", "port": 8080}, "timeoutSeconds": 3},
        "/app-health/app/startupz": {"tcpSocket": {"port": 9000}},
        "/app-health/gone/livez": {"tcpSocket": {"port": 9999}},
        "/app-health/gone/readyz": {"grpc": {"port": 9999}}
    }"#;
    let world = World::new(vec![
        Pod::new("client", "shop", "client", "v1")
            .with_agent()
            .variable("ISTIO_KUBE_APP_PROBERS", probers)
            .variable("ISTIO_PROMETHEUS_ANNOTATIONS", r#"{"scrape":"true","port":"8080","path":"/app-metrics"}"#),
        Pod::new("bare", "shop", "bare", "v1").bare(),
    ]);
    eventually("the pod is ready", || match status(&world, "client", "/healthz/ready") {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.body),
    });
    // As kubelet asks: by the pod's address, through Envoy.
    let ip = world.workload("client").pod.ip.clone();
    assert_eq!(world.client("bare").get(&format!("http://{ip}:15021/healthz/ready")).status, 200);
    let live = status(&world, "client", "/app-health/app/livez");
    assert_eq!((live.status, &live.echo()["path"], &live.echo()["host"]), (200, &"/live?x=1".into(), &"app".into()));
    let codes = ["app/readyz", "app/startupz", "gone/livez", "gone/readyz", "none/livez"]
        .map(|probe| status(&world, "client", &format!("/app-health/{probe}")).status);
    assert_eq!(codes, [503, 200, 500, 500, 400]);

    let page = status(&world, "client", "/stats/prometheus").body;
    for part in ["istio_agent_cert_expiry_seconds{", "envoy_server_live{", "\"path\":\"/app-metrics\""] {
        assert!(page.contains(part), "{part}: {page}");
    }

    let quit = |pod: &str, host: &str, method: &str| {
        world.client(pod).one(&Request::get(&format!("http://{host}:15020/quitquitquit")).method(method)).status
    };
    assert_eq!((quit("bare", &ip, "POST"), quit("client", "127.0.0.1", "GET")), (403, 405));
    assert_eq!(quit("client", "127.0.0.1", "POST"), 200);
    let mut envoy = world.workload("client").envoy();
    let ended = eventually("the agent ends", || envoy.process().ended().ok_or("it runs".to_owned()));
    assert!(ended.success(), "{ended}");
}

#[test]
fn names_of_the_mesh_are_resolved_by_the_agent_and_follow_their_services() {
    let world = World::new(vec![
        Pod::new("client", "shop", "client", "v1").with_agent().variable("ISTIO_META_DNS_CAPTURE", "true"),
    ]);
    let service = |ip: &str| {
        format!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: web, namespace: shop}}\nspec:\n  clusterIP: {ip}\n  \
             ports: [{{name: http, port: 80}}]\n"
        )
    };
    let mut client = world.client("client");
    let mut resolves = |name: &str, v6: bool, to: &str| {
        eventually(name, || match client.resolve("127.0.0.1:15053", name, v6) {
            reply if reply.body == to => Ok(()),
            reply => Err(format!("{} {:?}", reply.body, reply.error)),
        });
    };
    world.apply("web.yaml", &service("10.96.3.1"));
    resolves("web", false, "NoError 10.96.3.1");
    resolves("web.shop.svc.cluster.local", false, "NoError 10.96.3.1");
    resolves("WEB.shop", true, "NoError");
    world.apply("web.yaml", &service("10.96.3.2"));
    resolves("web.shop.svc", false, "NoError 10.96.3.2");
    // The names are there still when nobody is left to tell of them.
    world.control_plane().kill();
    resolves("web", false, "NoError 10.96.3.2");
    world.control_plane().restart();
    world.apply("web.yaml", &service("10.96.3.3"));
    resolves("web", false, "NoError 10.96.3.3");
    assert_eq!(status(&world, "client", "/healthz/ready").status, 200);
}
