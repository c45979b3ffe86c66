//! Sidecars that hold only what they have used: what they hold, and that requests go where they would go with all of it.

use super::{Scene, assert_none_failed, service};
use crate::harness::{Network, Pod, Process, Reply, Request, World, eventually};
use serde_json::Value;
use std::{sync::OnceLock, time::Duration};

/// How many services there are that nobody asks for.
const OTHERS: usize = 200;

/// A world whose `client` holds only what it has used, and `strict`, which beside that may ask only what is known.
fn shared() -> &'static World {
    static WORLD: OnceLock<(World, Process)> = OnceLock::new();
    let (world, _) = WORLD.get_or_init(|| {
        let others: String = (0..OTHERS).map(|n| service(&format!("other-{n}"), "other", "80")).collect();
        let narrow = "---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: strict, namespace: shop}\n\
                      spec:\n  workloadSelector: {labels: {app: strict}}\n  outboundTrafficPolicy: {mode: REGISTRY_ONLY}\n  \
                      egress: [{hosts: ['./*']}]\n";
        let pods = vec![
            Pod::new("client", "shop", "client", "v1").on_demand(),
            Pod::new("strict", "shop", "strict", "v1").on_demand(),
            Pod::new("a-v1", "shop", "a", "v1"),
            Pod::new("a-v2", "shop", "a", "v2"),
            Pod::new("b-v1", "shop", "b", "v1"),
        ];
        let world = World::with(pods, &[("others.yaml", &others), ("narrow.yaml", narrow)]);
        let outside = Network::OUTSIDE;
        let (http, tcp) = (format!("--http={outside}:7000"), format!("--tcp={outside}:7001"));
        let server = world.run_echo(&world.node(), "outside", &["serve", "--name", "outside", &http, &tcp]);
        (world, server)
    });
    world
}

/// The outbound clusters that a pod's Envoy holds.
fn clusters(world: &World, pod: &str) -> Vec<String> {
    let dump: Value = serde_json::from_str(&world.workload(pod).envoy().config_dump()).expect("a dump");
    let dynamic =
        dump["configs"].as_array().into_iter().flatten().filter_map(|c| c["dynamic_active_clusters"].as_array());
    let names = dynamic.flatten().filter_map(|c| c["cluster"]["name"].as_str());
    names.filter(|name| name.starts_with("outbound|")).map(str::to_owned).collect()
}

fn has(world: &World, cluster: &str) -> bool {
    clusters(world, "client").iter().any(|name| name.contains(cluster))
}

/// Asks again until it is as it should be, as what was applied takes a moment.
fn until(scene: &mut Scene<'_>, request: &Request, what: &str, good: impl Fn(&Reply) -> bool) -> Reply {
    eventually(what, || match scene.client.one(request) {
        reply if good(&reply) => Ok(reply),
        reply => Err(format!("{} {}", reply.brief(), reply.body)),
    })
}

/// Waits until the control plane has a text in what it knows. What is served by it may come a moment later.
fn known(world: &World, text: &str) {
    eventually(&format!("{text} is known"), || {
        let all = world.control_plane().http("/debug/configz").body;
        let services = world.control_plane().http("/debug/registryz").body;
        if all.contains(text) || services.contains(text) { Ok(()) } else { Err("not yet".to_owned()) }
    });
}

#[test]
fn only_what_was_asked_for_is_held_and_the_first_request_waits_for_it() {
    let world = shared();
    let mut scene = Scene::of(world, "first");
    scene.apply(&scene.service("a", "- {name: http, port: 80, targetPort: 8080}"));
    known(world, "first.shop.svc.cluster.local");
    assert!(!has(world, "|first.") && !has(world, "|other-"), "nothing is there unasked");
    let request = scene.get("/");
    let reply = until(&mut scene, &request, "the service answers", |r| r.status == 200);
    assert!(reply.ms < 1000, "the first request took {} ms", reply.ms);
    assert!(has(world, "|first.") && !has(world, "|other-"), "{:?}", clusters(world, "client"));
    assert_eq!(world.workload("client").envoy().rejected(), Vec::<String>::new());
}

#[test]
fn bodies_upper_case_and_ports_are_as_good_as_any_first_request() {
    for (name, host) in [("body", "body"), ("case", "CASE.Shop"), ("port", "port.shop.svc:80"), ("all", "ALL:80")] {
        let mut scene = Scene::of(shared(), name);
        scene.apply(&scene.service("a", "- {name: http, port: 80, targetPort: 8080}"));
        known(scene.world, &format!("{name}.shop.svc.cluster.local"));
        let at = format!("http://{}/", scene.address);
        let as_host = |host: &str| Request::get(&at).host(host);
        let request = as_host(host);
        let large = "x".repeat(20_000);
        let post = request.clone().method("POST").body(&large);
        let reply = until(&mut scene, &post, name, |r| r.status == 200);
        assert_eq!(reply.echo()["body"].as_str().map(str::len), Some(large.len()));
        // The same host as others write it is a host of its own to Envoy.
        assert_eq!(scene.client.one(&as_host(name)).status, 200);
        assert_eq!(scene.client.one(&request).status, 200);
    }
    assert_eq!(shared().workload("client").envoy().rejected(), Vec::<String>::new());
}

#[test]
fn a_first_request_over_http_2_is_served() {
    let mut scene = Scene::of(shared(), "two");
    scene.apply(&scene.service("a", "- {name: http2-x, port: 80, targetPort: 8080}"));
    known(scene.world, "two.shop.svc.cluster.local");
    let request = scene.get("/").http2();
    until(&mut scene, &request, "the service answers", |r| r.status == 200);
}

#[test]
fn a_host_that_nobody_knows_goes_where_it_was_going_until_it_is_a_service() {
    let mut scene = Scene::of(shared(), "late");
    let to = format!("http://{}:7000/", Network::OUTSIDE);
    // Some service makes the port one whose requests are told apart by host.
    scene.apply(&service("late-maker", "b", "7000"));
    known(scene.world, "late-maker");
    let request = Request::get(&to).host("late.test");
    until(&mut scene, &request, "the host outside answers", |r| r.echo()["name"] == "outside");
    let entry = "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: late, namespace: shop}\nspec:\n  \
                 hosts: [late.test]\n  ports: [{number: 7000, name: http, protocol: HTTP}]\n  resolution: STATIC\n  \
                 workloadSelector: {labels: {app: a}}\n";
    let entry = entry.replace("ports: [{number: 7000", "ports: [{targetPort: 8080, number: 7000");
    scene.apply(&(service("late-maker", "b", "7000") + &entry));
    until(&mut scene, &request, "the new service answers", |r| r.served_by().starts_with("a-"));
}

#[test]
fn a_host_below_a_wildcard_that_was_used_is_not_hidden_by_it() {
    let mut scene = Scene::of(shared(), "wild");
    let entry = |name: &str, host: &str, app: &str| {
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: \
             shop}}\nspec:\n  hosts: ['{host}']\n  ports: [{{number: 80, name: http, protocol: HTTP, targetPort: \
             8080}}]\n  resolution: STATIC\n  workloadSelector: {{labels: {{app: {app}}}}}\n"
        )
    };
    let both = entry("wild", "*.wild.test", "a") + &entry("tame", "tame.wild.test", "b");
    scene.apply(&both);
    known(scene.world, "tame.wild.test");
    let get = |host: &str| Request::get("http://10.96.9.9/").host(host);
    until(&mut scene, &get("one.wild.test"), "the wildcard answers", |r| r.served_by().starts_with("a-"));
    assert!(scene.send(get("tame.wild.test")).served_by().starts_with("b-"));
    assert!(scene.send(get("two.wild.test")).served_by().starts_with("a-"));
    // Nor may a request that asks for the wildcard itself hide others.
    for star in ["*", "*.wild.test", "tame.*"] {
        assert_eq!(scene.send(get(star)).status, 404, "{star}");
    }
    assert!(scene.send(get("tame.wild.test")).served_by().starts_with("b-"));
    assert!(scene.send(get("three.wild.test")).served_by().starts_with("a-"));
    // One that comes later takes what went to the wildcard.
    scene.apply(&(both + &entry("new", "two.wild.test", "b")));
    until(&mut scene, &get("two.wild.test"), "the new one answers", |r| r.served_by().starts_with("b-"));
}

#[test]
fn shares_subsets_and_copies_fetch_all_that_they_need() {
    let mut scene = Scene::of(shared(), "shares");
    let service = scene.service("a", "- {name: http, port: 80, targetPort: 8080}");
    let copies = super::SUBSETS.to_owned() + &super::service("copied", "b", "80");
    let rule = scene.virtual_service(
        "- route:\n  - {destination: {host: NAME, subset: v1}, weight: 50}\n  - {destination: {host: NAME, subset: v2}, \
         weight: 50}\n  mirrors: [{destination: {host: copied.shop.svc.cluster.local}, percentage: {value: 100}}]\n",
    );
    scene.apply(&(service + &copies + &rule));
    known(scene.world, "copied.shop.svc.cluster.local");
    let request = scene.get("/");
    until(&mut scene, &request, "the service answers", |r| r.status == 200);
    let replies = scene.client.send(&scene.get("/?key=on-demand").count(60));
    assert_none_failed(&replies);
    assert_eq!(super::counts(&replies).len(), 2);
    let mut shadow = scene.world.client("b-v1");
    eventually("the shadow has all copies", || {
        let seen = shadow.get("http://127.0.0.1:8080/_count?key=on-demand").echo()["seen"].as_u64();
        if seen == Some(60) { Ok(()) } else { Err(format!("{seen:?}")) }
    });
}

#[test]
fn connections_of_bytes_wait_for_their_cluster() {
    let mut scene = Scene::of(shared(), "bytes");
    scene.apply(&scene.service("a", "- {name: tcp, port: 9000, targetPort: 9000}"));
    let listener = scene.address.clone();
    scene.wait(&listener);
    let to = format!("{}:9000", scene.address);
    let reply = scene.client.tcp(&to, "hi");
    assert!(reply.body.ends_with("heard hi"), "{}", reply.brief());
    assert!(has(scene.world, "|9000||bytes."));
}

#[test]
fn a_service_that_goes_is_refused_at_once_and_one_that_comes_back_is_served() {
    let mut scene = Scene::of(shared(), "back");
    let service = scene.service("a", "- {name: http, port: 80, targetPort: 8080}");
    let keeper = super::service("back-keeper", "b", "80");
    scene.apply(&(service.clone() + &keeper));
    known(scene.world, "back.shop.svc.cluster.local");
    // Of a client that may ask only what is known: a name that is nobody's is refused there.
    scene.client = scene.world.client("strict");
    let request = scene.get("/");
    until(&mut scene, &request, "it answers", |r| r.status == 200);
    for _ in 0..3 {
        scene.apply(&keeper);
        let reply = until(&mut scene, &request, "it is refused", |r| r.status == 502);
        assert!(reply.ms < 1000, "it took {} ms to say so", reply.ms);
        scene.apply(&(service.clone() + &keeper));
        until(&mut scene, &request, "it answers again", |r| r.status == 200);
    }
}

#[test]
fn a_route_to_what_there_is_not_fails_at_once_and_works_when_it_is_there() {
    let mut scene = Scene::of(shared(), "absent");
    let service = scene.service("a", "- {name: http, port: 80, targetPort: 8080}");
    let rule = scene.virtual_service("- route: [{destination: {host: NAME, subset: v2}}]");
    scene.apply(&(service.clone() + &rule));
    known(scene.world, "absent.shop.svc.cluster.local");
    let request = scene.get("/");
    until(&mut scene, &request, "it is refused", |r| r.status == 503);
    for _ in 0..3 {
        let reply = scene.client.one(&request);
        assert_eq!(reply.status, 503, "{}", reply.brief());
        assert!(reply.ms < 1000, "it took {} ms to say so", reply.ms);
    }
    scene.apply(&(service + super::SUBSETS + &rule));
    until(&mut scene, &request, "the subset answers", |r| r.served_by() == "a-v2");
}

#[test]
fn where_only_what_is_known_may_be_asked_the_rest_is_refused() {
    let scene = Scene::of(shared(), "strictly");
    scene.apply(&scene.service("a", "- {name: http, port: 80, targetPort: 8080}"));
    known(scene.world, "strictly.shop.svc.cluster.local");
    let mut strict = scene.world.client("strict");
    let get = |host: &str| Request::get("http://10.96.9.9/").host(host);
    eventually("the service answers", || match strict.one(&get("strictly")) {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.brief()),
    });
    for host in ["nobody.test", "other.nobody.test", "nobody.test"] {
        let reply = strict.one(&get(host));
        assert_eq!(reply.status, 502, "{}", reply.brief());
    }
}

#[test]
fn a_control_plane_that_comes_back_finds_all_in_place() {
    let pods = vec![Pod::new("client", "shop", "client", "v1").on_demand(), Pod::new("a-v1", "shop", "a", "v1")];
    let others: String = (0..20).map(|n| service(&format!("other-{n}"), "other", "80")).collect();
    let world = World::with(pods, &[("others.yaml", &others)]);
    let mut scene = Scene::of(&world, "kept");
    let both = scene.service("a", "- {name: http, port: 80, targetPort: 8080}") + &service("fresh", "a", "80");
    scene.apply(&both);
    known(&world, "fresh.shop.svc.cluster.local");
    let request = scene.get("/");
    until(&mut scene, &request, "the service answers", |r| r.status == 200);
    let held = clusters(&world, "client");
    scene.client.start(&scene.get("/").workers(2).pause_ms(2));
    world.control_plane().kill();
    std::thread::sleep(Duration::from_millis(300));
    world.control_plane().restart();
    // What nobody has asked for yet is served after that, too.
    let mut other = world.client("client");
    let fresh = Request::get(&format!("http://{}/", scene.address)).host("fresh.shop");
    eventually("a new host answers", || match other.one(&fresh) {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.brief()),
    });
    assert_none_failed(&scene.client.stop());
    let now = clusters(&world, "client");
    assert!(held.iter().all(|name| now.contains(name)) && now.len() == held.len() + 1, "{held:?} {now:?}");
    assert_eq!(world.workload("client").envoy().rejected(), Vec::<String>::new());
}

#[test]
fn with_mutual_tls_the_first_request_is_served_as_any_other() {
    let pods = vec![
        Pod::new("client", "shop", "client", "v1").with_agent().on_demand(),
        Pod::new("a-v1", "shop", "a", "v1").with_agent().on_demand(),
    ];
    let strict = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: all, namespace: \
                  istio-system}\nspec: {mtls: {mode: STRICT}}\n";
    let world = World::with(pods, &[("strict.yaml", strict)]);
    let mut scene = Scene::of(&world, "secured");
    scene.apply(&scene.service("a", "- {name: http, port: 80, targetPort: 8080}"));
    known(&world, "secured.shop.svc.cluster.local");
    let request = scene.get("/");
    let reply = until(&mut scene, &request, "it answers", |r| r.status == 200);
    assert!(
        reply.sent_header("x-forwarded-client-cert").is_some_and(|h| h.contains("/ns/shop/sa/client")),
        "{}",
        reply.body
    );
}

/// What it costs to fetch, and saves to hold: `make bench` prints it.
#[test]
#[ignore = "a measurement"]
fn cost_of_holding_only_what_is_used() {
    const SERVICES: usize = 1000;
    const USED: usize = 200;
    let services: String = (0..SERVICES).map(|n| service(&format!("s-{n}"), "a", "80")).collect();
    let pods = vec![
        Pod::new("whole", "shop", "whole", "v1"),
        Pod::new("used", "shop", "used", "v1").on_demand(),
        Pod::new("a-v1", "shop", "a", "v1"),
        Pod::new("a-v2", "shop", "a", "v2"),
    ];
    let world = World::with(pods, &[("services.yaml", &services)]);
    println!("{SERVICES} services of 2 pods; the first request to each of {USED}, then one more to each; milliseconds");
    println!("| Sidecar holds | MiB | first p50 | p99 | again p50 | p99 | MiB then | clusters |");
    println!("|---|--:|--:|--:|--:|--:|--:|--:|");
    for (pod, what) in [("whole", "everything"), ("used", "what it used")] {
        let memory = || world.workload(pod).envoy().process().memory().0 as f64 / 1024.0;
        let before = memory();
        let mut client = world.client(pod);
        let mut round = || {
            let took = (0..USED).map(|n| {
                let begin = std::time::Instant::now();
                let reply = client.one(&Request::get("http://10.96.9.9/").host(&format!("s-{n}")));
                assert_eq!(reply.status, 200, "{}", reply.brief());
                begin.elapsed().as_secs_f64() * 1000.0
            });
            let mut all: Vec<f64> = took.collect();
            all.sort_by(f64::total_cmp);
            (all[USED / 2], all[USED * 99 / 100])
        };
        let (first, again) = (round(), round());
        let held = clusters(&world, pod).len();
        let (p50, p99, p50_again, p99_again) = (first.0, first.1, again.0, again.1);
        let after = memory();
        println!(
            "| {what} | {before:.0} | {p50:.1} | {p99:.1} | {p50_again:.1} | {p99_again:.1} | {after:.0} | {held} |"
        );
    }
}
