//! What a push allocates: exact counts, which are the same on every machine. One test alone, since what others do meanwhile
//! would be counted too.

#[path = "../../benches/mesh/changes.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod changes;
#[path = "../../benches/mesh/fleet.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod fleet;
#[path = "../../benches/mesh/meter.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod meter;
#[path = "../../benches/mesh/world.rs"]
#[allow(dead_code, reason = "the benchmarks use the rest")]
mod world;

use fleet::Fleet;
use mainsheet::{
    model::{Change, Mesh},
    snapshot::Snapshot,
};
use std::sync::Arc;
use world::Shape;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

/// What a push of one change allocates, once the same change was pushed and taken back.
fn allocated(streams: usize, change: impl Fn(Shape, bool) -> Vec<Change>) -> u64 {
    let shape = Shape { endpoints: 3, namespaces: 4, virtual_services: 10, destination_rules: 10, ..Shape::of(100) };
    let mut world = Arc::new(Snapshot::new(Mesh::default()).apply(changes::changes(shape.objects())));
    let mut fleet = Fleet::connect((0..streams).map(|n| shape.proxy(n)), &world);
    for back in [false, true, false, true] {
        world = Arc::new(world.apply(change(shape, back)));
        fleet.push(&world);
    }
    let next = Arc::new(world.apply(change(shape, false)));
    meter::measure(|| fleet.push(&next)).1.allocations
}

#[test]
fn a_push_allocates_for_what_changed_and_for_each_that_is_sent_it_and_for_nobody_else() {
    let once_and_each = |change: fn(Shape, bool) -> Vec<Change>| {
        let (one, hundred) = (allocated(1, change), allocated(100, change));
        (one, (hundred - one) / 99)
    };
    let endpoint = once_and_each(|shape, back| shape.endpoint_change(0, back));
    let route = once_and_each(|shape, back| shape.route_change(0, if back { 90 } else { 50 }));
    let unseen = once_and_each(|_, back| changes::unseen_change(back));
    // For one proxy, translating included; and for each more.
    assert_eq!([endpoint, route, unseen], [(243, 19), (304, 16), (20, 0)]);
}
