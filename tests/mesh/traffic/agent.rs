//! Sidecars with `mainsheet agent` beside them: mutual TLS, certificates that change under load, and what is killed
//! meanwhile.

use super::{Scene, assert_none_failed};
use crate::harness::{Pod, World, eventually};
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
fn certificates_that_live_twenty_seconds_change_under_load_while_agents_and_the_control_plane_are_killed() {
    let short = |name: &str| Pod::new(name, "shop", name, "v1").with_agent_apart().variable("SECRET_TTL", "20s");
    let world = World::new(vec![short("client"), short("server")]);
    let mut scene = serve(&world, "rotated");
    assert!(proved(&mut scene).contains(CLIENT));
    let rotations = || {
        let stats = world.workload("server").envoy().stats("^sds.default.update_success$|ssl_context_update_by_sds$");
        stats.values().copied().max().unwrap_or(0)
    };
    let before = rotations();
    let again = |pod: &str| {
        let mut agent = world.workload(pod).agent();
        agent.1.kill();
        sleep(Duration::from_millis(300));
        agent.1 = agent.0.start();
    };

    // Every request is a handshake: none may meet a certificate that has ended.
    scene.client.start(&scene.get("/").workers(2).fresh());
    sleep(Duration::from_secs(6));
    again("client");
    again("server");
    sleep(Duration::from_secs(6));
    // Certificates are good for ten seconds more at least.
    world.control_plane().kill();
    sleep(Duration::from_secs(5));
    world.control_plane().restart();
    sleep(Duration::from_secs(13));
    assert_none_failed(&scene.client.stop());
    assert!(rotations() >= before + 3, "{before} {}", rotations());
    assert!(proved(&mut scene).contains(CLIENT));
    println!("an agent has {} KiB", world.workload("client").agent().1.resident());
}
