//! What a change costs, in counts that are the same on every machine. The meshes and clients are those of the
//! benchmarks.

#[path = "../../benches/mesh/changes.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod changes;
#[path = "../../benches/mesh/fleet.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod fleet;
#[path = "../../benches/mesh/world.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod world;

use crate::{
    model::{Change, Mesh},
    snapshot::Snapshot,
};
use fleet::{Counts, Fleet};
use std::sync::Arc;
use world::Shape;

/// What one change costs in a mesh of so many services, with so many sidecars of one namespace.
fn cost(services: usize, streams: usize, change: impl Fn(Shape) -> Vec<Change>) -> Counts {
    let shape =
        Shape { endpoints: 3, namespaces: 4, virtual_services: 10, destination_rules: 10, ..Shape::of(services) };
    let world = Arc::new(Snapshot::new(Mesh::default()).apply(changes::changes(shape.objects())));
    let mut fleet = Fleet::connect((0..streams).map(|n| shape.proxy(n)), &world);
    let before = fleet.counts();
    fleet.push(&Arc::new(world.apply(change(shape))));
    fleet.counts() - before
}

fn endpoint(shape: Shape) -> Vec<Change> {
    shape.endpoint_change(0, false)
}

fn route(shape: Shape) -> Vec<Change> {
    shape.route_change(0, 50)
}

#[test]
fn an_endpoint_change_costs_the_same_in_a_mesh_of_any_size() {
    let small = cost(100, 1, endpoint);
    assert_eq!(small, cost(400, 1, endpoint));
    // The whole service and the subset that the endpoint is in differ; the other subset is found to be the same.
    assert_eq!(small.sent, fleet::Sent { messages: 1, resources: 2, bytes: 918 });
    assert_eq!((small.selected, small.rendered), (3, 3), "{small:?}");
    assert_eq!(small.units, 1, "only the endpoints of that service are looked at: {small:?}");
}

#[test]
fn a_route_change_selects_and_renders_the_virtual_host_concerned_and_no_other() {
    let (small, large) = (cost(100, 1, route), cost(400, 1, route));
    for counts in [small, large] {
        assert_eq!(counts.rendered, 1, "{counts:?}");
        // Beside it there is the virtual host for unknown hosts, which the port's routes end with.
        assert_eq!(counts.selected, 2, "{counts:?}");
        assert_eq!(counts.units, 2, "the virtual host, and the port that has it: {counts:?}");
    }
    // Routes are sent as a whole, so each service of the port adds its virtual host to the bytes.
    assert_eq!(small.sent, fleet::Sent { messages: 1, resources: 1, bytes: 48_956 });
    assert_eq!(large.sent, fleet::Sent { messages: 1, resources: 1, bytes: 194_421 });
}

#[test]
fn sidecars_of_one_namespace_and_zone_share_all_but_what_is_their_own() {
    let connect = |streams: usize| {
        let shape = Shape { namespaces: 4, ..Shape::of(100) };
        let world = Arc::new(Snapshot::new(Mesh::default()).apply(changes::changes(shape.objects())));
        Fleet::connect((0..streams).map(|n| shape.proxy(n)), &world).counts()
    };
    // Pods of 25 services, which differ in name, address, node and zone.
    let (one, many) = (connect(1), connect(50));
    let own = many.rendered - one.rendered;
    assert!(
        own <= 25 * 4,
        "each workload has its inbound side, and listeners that name it: {own} beside {}",
        one.rendered
    );
}

#[test]
fn translating_a_change_costs_the_same_however_many_see_it() {
    for change in [endpoint, route] {
        let (one, many) = (cost(100, 1, change), cost(100, 50, change));
        assert_eq!(one.rendered, many.rendered);
        assert_eq!(one.sent.messages * 50, many.sent.messages);
        assert_eq!(one.sent.bytes * 50, many.sent.bytes);
    }
}

#[test]
fn a_change_that_nobody_sees_sends_nothing_and_renders_nothing() {
    let unseen = cost(100, 50, |_| changes::unseen_change(false));
    assert_eq!((unseen.rendered, unseen.sent, unseen.woken), (0, fleet::Sent::default(), 0));
}

/// A mesh of ten services in one namespace, whose policies are each for the pods of one of so many apps.
fn guarded(policies: usize, apps: usize) -> (Shape, Snapshot) {
    let shape = Shape { namespaces: 1, virtual_services: 0, destination_rules: 0, ..Shape::of(10) };
    let policies = (0..policies).map(|n| changes::policy(n, Some(n % apps), "POST"));
    (shape, Snapshot::new(Mesh::default()).apply(changes::changes(shape.objects().chain(policies))))
}

#[test]
fn policies_for_others_cost_a_proxy_nothing() {
    let connect = |policies: usize, apps: usize| {
        let (shape, world) = guarded(policies, apps);
        Fleet::connect([shape.proxy(0)], &Arc::new(world)).counts()
    };
    // Ten policies are for the proxy's app, and 990 for others.
    assert_eq!(connect(10, 1), connect(1_000, 100));
}

#[test]
fn a_policy_that_changes_is_pushed_to_the_proxies_alone_that_it_selects() {
    let change = |streams: usize| {
        let (shape, world) = guarded(1_000, 10);
        let world = Arc::new(world);
        let mut fleet = Fleet::connect((0..streams).map(|n| shape.proxy(n)), &world);
        let before = fleet.counts();
        fleet.push(&Arc::new(world.apply(changes::changes([changes::policy(0, Some(0), "PUT")]))));
        fleet.counts() - before
    };
    // Ten pods of each of ten services: ten proxies in a hundred are of the app.
    let (ten, hundred) = (change(10), change(100));
    assert_eq!((ten.sent.messages, ten.sent.resources), (1, 1), "{ten:?}");
    assert_eq!((hundred.sent.messages, hundred.sent.resources), (10, 10), "{hundred:?}");
    assert_eq!(hundred.sent.bytes, 10 * ten.sent.bytes, "{hundred:?}");
    // The filter for requests, that for connections, and the listener that has them.
    assert_eq!((ten.rendered, hundred.rendered), (3, 3), "{ten:?} {hundred:?}");
}
