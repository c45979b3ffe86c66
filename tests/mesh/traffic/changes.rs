//! What changes while requests are under way, without one of them lost.

use super::{SUBSETS, Scene, assert_none_failed, counts};
use crate::harness::eventually;
use std::{thread::sleep, time::Duration};

#[test]
fn an_edit_of_the_routes_loses_no_request() {
    let mut scene = Scene::new("edited");
    let to = |version: &str| format!("- route: [{{destination: {{host: NAME, subset: {version}}}}}]");
    scene.route("a", &to("v1"));
    scene.client.start(&scene.get("/").workers(2).pause_ms(1));
    for version in ["v2", "v1", "v2", "v1", "v2"] {
        sleep(Duration::from_millis(150));
        scene.route("a", &to(version));
    }
    let replies = scene.client.stop();
    assert_none_failed(&replies);
    assert_eq!(counts(&replies).len(), 2, "both were routed to");
    assert_eq!(scene.served_by("/"), "a-v2");
}

#[test]
fn a_subset_that_comes_with_its_route_loses_no_request() {
    let mut scene = Scene::new("made-before");
    scene.apply(&scene.service("a", "- {name: http, port: 80, targetPort: 8080}"));
    scene.wait("NAME.shop.svc.cluster.local:80");
    scene.client.start(&scene.get("/").workers(2).pause_ms(1));
    for _ in 0..3 {
        let service = scene.service("a", "- {name: http, port: 80, targetPort: 8080}");
        let routes = scene.virtual_service("- route: [{destination: {host: NAME, subset: v2}}]");
        scene.apply(&format!("{service}{SUBSETS}{routes}"));
        scene.wait(&scene.marker());
        sleep(Duration::from_millis(100));
        scene.apply(&service);
        let gone = format!("outbound|80|v2|{}.shop", scene.name);
        scene.world.wait_until("client", "has no subset", |dump| !dump.contains(&gone));
    }
    assert_none_failed(&scene.client.stop());
}

#[test]
fn endpoints_come_and_go_without_a_lost_request() {
    let mut scene = Scene::new("scaled");
    let service = scene.service("a", "- {name: http, port: 80, targetPort: 8080}");
    let service = service.replace("  selector: {app: a}\n", "");
    let ip = |pod: &str| scene.world.workload(pod).pod.ip.clone();
    let (one, two) = (ip("a-v1"), ip("a-v2"));
    let slice = |ips: &[&String]| {
        let endpoints: String = ips.iter().map(|ip| format!("- {{addresses: [{ip}]}}\n")).collect();
        format!(
            "{service}---\napiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: NAME-1, namespace: \
             shop, labels: {{kubernetes.io/service-name: NAME}}}}\naddressType: IPv4\nports: [{{name: http, port: \
             8080}}]\nendpoints:\n{endpoints}"
        )
    };
    scene.apply(&slice(&[&one]));
    scene.wait("NAME.shop.svc.cluster.local:80");
    eventually("the first endpoint answers", || match scene.client.one(&scene.get("/")) {
        reply if reply.status == 200 => Ok(()),
        reply => Err(reply.brief()),
    });
    let cluster = format!("outbound|80||{}.shop.svc.cluster.local", scene.name);
    let members = || -> usize {
        let stats = scene.world.workload("client").envoy().stats("scaled.*membership_total$");
        stats.iter().filter(|(name, _)| name.contains(&cluster)).map(|(_, n)| *n as usize).sum()
    };
    let wait_members = |count: usize| {
        eventually("the endpoints arrive", || if members() == count { Ok(()) } else { Err(members().to_string()) });
    };
    scene.client.start(&scene.get("/").workers(2).pause_ms(1));
    scene.apply(&slice(&[&one, &two]));
    wait_members(2);
    sleep(Duration::from_millis(200));
    scene.apply(&slice(&[&two]));
    wait_members(1);
    sleep(Duration::from_millis(200));
    let replies = scene.client.stop();
    assert_none_failed(&replies);
    assert_eq!(counts(&replies).len(), 2, "both pods answered");
    assert_eq!(scene.served_by("/"), "a-v2");
}

#[test]
fn a_change_of_one_service_sends_nothing_of_the_others() {
    let mut scene = Scene::new("alone");
    let world = scene.world;
    scene.route("a", "- route: [{destination: {host: NAME, subset: v1}}]");
    let bystander = Scene::new("bystander");
    bystander.apply(&bystander.service("b", "- {name: http, port: 6000, targetPort: 8080}"));
    bystander.wait("NAME.shop.svc.cluster.local:6000");
    let count = || {
        let stats = world.workload("client").envoy().stats("(bystander|rds.6000).*(update_success|config_reload)$");
        stats.into_iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>()
    };
    let before = count();
    assert!(!before.is_empty(), "there are counters");
    for version in ["v2", "v1"] {
        scene.route("a", &format!("- route: [{{destination: {{host: NAME, subset: {version}}}}}]"));
    }
    assert_eq!(before, count());
}

#[test]
fn an_edit_of_one_host_s_routes_does_not_send_those_of_the_port_again() {
    let mut scene = Scene::new("by-itself");
    let world = scene.world;
    scene.route("a", "- route: [{destination: {host: NAME, subset: v1}}]");
    let count = |filter: &str| -> u64 { world.workload("client").envoy().stats(filter).values().sum() };
    let whole = || count("rds.80.update_success$");
    let alone = || count("rds.vhds.80.config_reload$");
    let before = (whole(), alone());
    assert!(before.0 > 0 && before.1 > 0, "both are counted: {before:?}");
    for version in ["v2", "v1"] {
        scene.route("a", &format!("- route: [{{destination: {{host: NAME, subset: {version}}}}}]"));
    }
    assert_eq!(whole(), before.0);
    assert!(alone() >= before.1 + 2, "the virtual host came each time");
}
