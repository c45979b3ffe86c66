//! What the engine shares among streams, and whom it wakes.

use super::world::{self, Op};
use crate::{
    snapshot::{Delta, Snapshot},
    xds::{
        Metrics,
        cache::{Engine, Lease},
    },
};
use std::sync::Arc;

fn lease(engine: &Engine, at: &Arc<Snapshot>) -> Lease {
    let mut lease = Lease::new(Arc::new(world::node("p0", "a")));
    engine.seat(&lease);
    engine.advance(&mut lease, at);
    lease
}

#[test]
fn who_is_faster_than_the_engine_hides_a_change_from_nobody_else() {
    let next = |before: &Arc<Snapshot>, which: u8, how: u8| {
        let ops = [1, 2, 4].map(|kind| Op { kind, which, how: [how; 6], gone: false });
        Arc::new(before.apply(ops.iter().map(Op::change)))
    };
    let node = world::node("p0", "a");
    let mut shared = 0;
    for (which, how) in (0..12).flat_map(|which| (0..24).map(move |how| (which, how))) {
        let engine = Engine::new(Arc::new(Metrics::default()));
        let first = next(&Arc::default(), which, how);
        let second = next(&first, which, how + 1);
        let (mut fast, mut slow) = (lease(&engine, &first), lease(&engine, &first));
        // A request of its own brings the one stream there before the engine has followed, with the slots of both.
        let seen = engine.advance(&mut fast, &second);
        engine.follow(&first, &second);
        if !seen || Snapshot::may_change_key(&Delta::between(&first, &second), &node) {
            continue;
        }
        shared += 1;
        assert!(slow.was_woken(), "{which} {how}: the other has what was before");
        engine.advance(&mut slow, &second);
        let (fast, slow) = (fast.config().parts(), slow.config().parts());
        assert!(fast.iter().zip(slow).all(|(a, b)| Arc::ptr_eq(a, b)), "{which} {how}");
    }
    assert!(shared > 10, "{shared} changes are seen and leave the slots that are held");
}
