//! What goes on when a part of the mesh is killed, and how it comes back.

use super::{Scene, assert_none_failed};
use crate::harness::{Pod, Reply, World, eventually};
use std::{thread::sleep, time::Duration};

fn world() -> World {
    World::new(vec![
        Pod::new("client", "shop", "client", "v1"),
        Pod::new("a-v1", "shop", "a", "v1"),
        Pod::new("a-v2", "shop", "a", "v2"),
    ])
}

/// Waits until a sidecar has a stream to the control plane.
fn wait_connected(world: &World, pod: &str) {
    eventually("the stream is back", || {
        let stats = world.workload(pod).envoy().stats("^control_plane.connected_state$");
        if stats.values().any(|v| *v == 1) { Ok(()) } else { Err(format!("{stats:?}")) }
    });
}

#[test]
fn a_killed_control_plane_is_not_missed_and_sends_nothing_again() {
    let world = world();
    let mut scene = Scene::of(&world, "steady");
    scene.route("a", "- route: [{destination: {host: NAME, subset: v1}}]");
    let updates = || ["client", "a-v1", "a-v2"].map(|pod| world.workload(pod).envoy().updates());
    let before = updates();

    scene.client.start(&scene.get("/").workers(2).pause_ms(1));
    world.control_plane().kill();
    sleep(Duration::from_millis(300));
    world.control_plane().restart();
    for workload in world.workloads() {
        wait_connected(&world, &workload.pod.name);
    }
    sleep(Duration::from_millis(500));
    assert_eq!(before, updates(), "what the proxies have already is not sent again");
    assert_none_failed(&scene.client.stop());

    // The new control plane is in charge: what changes now arrives.
    scene.route("a", "- route: [{destination: {host: NAME, subset: v2}}]");
    assert_eq!(scene.served_by("/"), "a-v2");
    assert_ne!(before, updates());
}

#[test]
fn a_killed_proxy_comes_back_and_the_others_notice_nothing() {
    let world = world();
    let mut scene = Scene::of(&world, "survives");
    scene.route("a", "- route: [{destination: {host: NAME}}]");
    let updates = || ["client", "a-v2"].map(|pod| world.workload(pod).envoy().updates());
    let before = updates();

    scene.client.start(&scene.get("/").workers(2).pause_ms(1));
    sleep(Duration::from_millis(200));
    world.workload("a-v1").envoy().kill();
    sleep(Duration::from_millis(500));
    world.workload("a-v1").envoy().restart();
    world.workload("a-v1").envoy().wait_live();
    let replies = scene.client.stop();
    // Requests that were at the killed proxy are lost with it; a new one goes to the other pod.
    let lost = replies.iter().filter(|r| r.status != 200).count();
    assert!(lost <= 4 && replies.len() > 50, "{lost} of {} lost", replies.len());

    let mut answered = |who: &str| {
        eventually("the pod answers again", || {
            let replies = scene.client.send(&scene.get("/").count(10));
            if replies.iter().any(|r| r.served_by() == who) { Ok(()) } else { Err(replies[0].brief()) }
        });
    };
    answered("a-v1");
    answered("a-v2");
    assert_eq!(before, updates(), "nothing changed for the others");
}

#[test]
fn the_caller_s_own_proxy_comes_back_with_the_same_routes() {
    let world = world();
    let mut scene = Scene::of(&world, "same");
    scene.route("a", "- route: [{destination: {host: NAME, subset: v2}}]");
    assert_eq!(scene.served_by("/"), "a-v2");
    world.workload("client").envoy().kill();
    assert!(scene.send(scene.get("/").fresh()).error.is_some(), "captured, and nobody there");
    world.workload("client").envoy().restart();
    world.workload("client").envoy().wait_live();
    let replies = scene.client.send(&scene.get("/").count(20));
    assert!(
        replies.iter().all(|r| r.served_by() == "a-v2"),
        "{:?}",
        replies.iter().map(Reply::brief).collect::<Vec<_>>()
    );
}

#[test]
fn a_control_plane_that_is_asked_to_end_does_so_cleanly() {
    let world = World::new(vec![Pod::new("client", "shop", "client", "v1")]);
    let begin = std::time::Instant::now();
    let status = world.control_plane().terminate();
    assert!(status.success(), "{status}");
    assert!(begin.elapsed() < Duration::from_secs(12), "{:?}", begin.elapsed());
}
