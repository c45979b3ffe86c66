//! Servers near and far, those that do not answer, and those that come and go.

use super::{client, field, get, servers};
use crate::{
    harness::{Reply, eventually},
    traffic::assert_share,
};

/// Without a share, no endpoint of so few may be left out.
const ELSEWHERE: &str =
    "outlierDetection: {consecutive5xxErrors: 3, interval: 1s, baseEjectionTime: 60s, maxEjectionPercent: 100}";

/// A host whose endpoints are pods in regions, and its policy. The client is in `r1`.
fn apply(name: &str, endpoints: &[(&str, &str)], policy: &str) {
    let endpoint = |(pod, locality): &(&str, &str)| {
        format!("  - {{address: {}, locality: {locality}, ports: {{http: 8080}}}}\n", field().workload(pod).pod.ip)
    };
    let endpoints: String = endpoints.iter().map(endpoint).collect();
    let objects = format!(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  \
         hosts: [{name}.test]\n  ports: [{{number: 80, name: http, protocol: HTTP}}]\n  resolution: STATIC\n  \
         endpoints:\n{endpoints}---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: \
         {name}, namespace: shop}}\nspec:\n  host: {name}.test\n  trafficPolicy: {{{policy}}}\n---\napiVersion: \
         networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  hosts: \
         [{name}.test]\n  http: [{{retries: {{attempts: 0}}, route: [{{destination: {{host: {name}.test}}}}]}}]\n"
    );
    field().apply(&format!("{name}.yaml"), &objects);
    // What is no host yet is sent to the address itself, where nobody is.
    field().wait_config("client", &format!("{name}.test:80"));
}

fn ask(name: &str, count: u64) -> Vec<Reply> {
    client().send(&get(&format!("{name}.test"), "/").count(count).workers(2))
}

/// Waits until all requests to a host are answered by these servers, each of them.
fn eventually_served_by(name: &str, expected: &[&str]) {
    eventually(&format!("{name} is served by {expected:?}"), || {
        let replies = ask(name, 12);
        let got: Vec<&str> = servers(&replies).into_iter().collect();
        if got == expected { Ok(()) } else { Err(format!("{got:?} {}", replies[0].brief())) }
    });
}

#[test]
fn requests_stay_near_and_go_far_when_nobody_near_is_left() {
    let near = ("s-v1", "r1/z1/s1");
    let (zone, region, far) = (("s-v2", "r1/z2/s1"), ("s-v3", "r2/z1/s1"), ("inner", "r3/z1/s1"));
    for (endpoints, server) in [
        (vec![near, zone, region], "s-v1"),
        (vec![zone, region], "s-v2"),
        (vec![region], "s-v3"),
        (vec![region, near], "s-v1"),
    ] {
        apply("nearest", &endpoints, ELSEWHERE);
        eventually_served_by("nearest", &[server]);
    }
    let to_r2 = format!("loadBalancer: {{localityLbSetting: {{failover: [{{from: r1, to: r2}}]}}}}, {ELSEWHERE}");
    apply("nearest", &[region, far], &to_r2);
    eventually_served_by("nearest", &["s-v3"]);
}

#[test]
fn requests_go_far_when_those_near_fail() {
    apply("failing", &[("quiet", "r1/z1/s1"), ("s-v2", "r2/z1/s1")], ELSEWHERE);
    eventually_served_by("failing", &["s-v2"]);
}

#[test]
fn regions_have_the_shares_that_the_policy_gives_them() {
    let shares = "{from: 'r1/*', to: {'r1/*': 70, 'r2/*': 30}}";
    let policy = format!("loadBalancer: {{localityLbSetting: {{distribute: [{shares}]}}}}, {ELSEWHERE}");
    apply("shared", &[("s-v1", "r1/z1/s1"), ("s-v2", "r2/z1/s1"), ("s-v3", "r3/z1/s1")], &policy);
    eventually_served_by("shared", &["s-v1", "s-v2"]);
    let replies = ask("shared", 400);
    assert_share(&replies, "s-v1", 0.7);
    assert_share(&replies, "s-v2", 0.3);
}

#[test]
fn where_locality_means_nothing_all_are_used() {
    let policy = format!("loadBalancer: {{localityLbSetting: {{enabled: false}}}}, {ELSEWHERE}");
    apply("anywhere", &[("s-v1", "r1/z1/s1"), ("s-v2", "r2/z1/s1")], &policy);
    eventually_served_by("anywhere", &["s-v1", "s-v2"]);
}

#[test]
fn labels_say_who_is_near_where_the_policy_names_them() {
    // The client's `app` is none of the endpoints', so it is left to the labels that they share with it.
    let policy = format!(
        "loadBalancer: {{localityLbSetting: {{failoverPriority: ['topology.kubernetes.io/region']}}}}, {ELSEWHERE}"
    );
    apply("labelled", &[("s-v1", "r2/z1/s1"), ("s-v2", "r1/z9/s9"), ("s-v3", "r1/z1/s1")], &policy);
    eventually_served_by("labelled", &["s-v2", "s-v3"]);
}

#[test]
fn a_request_that_one_server_refuses_is_tried_at_another() {
    let mut client = client();
    let once = client.send(&get("refusing.test", "/once").count(40));
    let refused = once.iter().filter(|r| r.status == 503).count();
    assert!((5..=35).contains(&refused), "{refused} of 40");
    let replies = client.send(&get("refusing.test", "/").count(40));
    assert!(replies.iter().all(|r| r.status == 200 && r.served_by() == "s-v1"), "the other never answers");
}
