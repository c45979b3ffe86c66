//! What translating from nothing costs for one proxy, of one type at a time, beside what istiod takes for the same:
//! `cargo bench --bench translate [-- --json]`.
//!
//! Nothing is kept from one time to the next. Time is processor time of the one thread that does it.

#[path = "../mesh/meter.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod meter;
#[path = "../mesh/table.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod table;
#[path = "../mesh/world.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod world;

mod cases;
mod istiod;

use cases::Case;
use mainsheet::{
    id::ResourceType,
    model::{Mesh, Node},
    parse::{self, Context},
    snapshot::Snapshot,
    translate::{Config, Direct, Part, PartKind},
};
use meter::measure;
use serde_json::json;
use std::{hint::black_box, sync::Arc};
use table::{Cell, Table};

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

/// Each translation is done for so long in all.
const SECONDS: f64 = 0.25;

fn main() {
    let mut worlds = Table::new(
        "The objects of each case, parsed, and applied to an empty snapshot",
        &["case", "objects", "parse cpu", "apply cpu", "apply allocations"],
    );
    let mut types = Table::new(
        "Translation of one type for one proxy, from nothing",
        &[
            "case",
            "type",
            "cpu",
            "istiod",
            "share",
            "allocations",
            "istiod's",
            "its share",
            "resources",
            "bytes",
            "istiod's kB",
        ],
    );
    for case in cases::all() {
        run(&case, &mut worlds, &mut types);
    }
    match std::env::args().any(|argument| argument == "--json") {
        true => println!("{:#}", serde_json::Value::Array([&worlds, &types].map(Table::json).into())),
        false => println!("{worlds}\n{types}"),
    }
}

fn run(case: &Case, worlds: &mut Table, types: &mut Table) {
    let context = Context::default();
    let (changes, parsing) =
        measure(|| case.objects.iter().map(|object| parse::object(object, &context)).collect::<Vec<_>>());
    let (snapshot, applying) = measure(|| Snapshot::new(Mesh::default()).apply(changes));
    worlds.row(vec![
        Cell::Text(case.name.to_owned()),
        Cell::Count(case.objects.len() as u64),
        Cell::Seconds(parsing.cpu),
        Cell::Seconds(applying.cpu),
        Cell::Count(applying.allocations),
    ]);
    let node = node(case.router);
    for (_, kind, nanos, allocations, kilobytes) in istiod::MEASURED.iter().filter(|row| row.0 == case.name) {
        let work = || translate(&snapshot, &node, *kind);
        let (config, first) = measure(work);
        let times = (SECONDS / first.wall.max(1e-6)).clamp(1.0, 2_000.0) as usize;
        let ((), all) = measure(|| (0..times).for_each(|_| drop(black_box(work()))));
        let (cpu, theirs) = (all.cpu / times as f64, *nanos as f64 / 1e9);
        let share = |own: f64, their: f64| Cell::Text(format!("1/{:.1}", their / own));
        types.row(vec![
            Cell::Text(case.name.to_owned()),
            Cell::Text(kind.short().to_owned()),
            Cell::Seconds(cpu),
            Cell::Seconds(theirs),
            share(cpu, theirs),
            Cell::Count(first.allocations),
            Cell::Count(*allocations),
            share(first.allocations as f64, *allocations as f64),
            Cell::Count(config.count(*kind) as u64),
            Cell::Count(config.all(*kind).map(|r| r.body.len() as u64).sum()),
            Cell::Count(*kilobytes as u64),
        ]);
    }
}

/// The parts that have resources of a type, made for a node as if there had been none before.
fn translate(snapshot: &Snapshot, node: &Node, kind: ResourceType) -> Config {
    let whole = snapshot.view_key(node);
    let kinds: &[PartKind] = match kind {
        ResourceType::Cluster => &[PartKind::Clusters, PartKind::Inbound],
        ResourceType::Listener => &[PartKind::Listeners, PartKind::Inbound],
        ResourceType::Route => &[PartKind::Routes],
        ResourceType::Secret => &[PartKind::Secrets],
        ResourceType::Names => &[PartKind::Names],
        _ => &[PartKind::Endpoints],
    };
    let part = |kind: &PartKind| Arc::new(Part::build(*kind, Arc::new(kind.key(&whole)), snapshot, &Direct));
    Config::new(kinds.iter().map(part).collect())
}

fn node(router: bool) -> Node {
    let kind = if router { "router" } else { "sidecar" };
    let node = json!({
        "id": format!("{kind}~1.1.1.1~v0.default~default.example.org"),
        "metadata": {
            "NAMESPACE": "default",
            "CLUSTER_ID": "Kubernetes",
            "ISTIO_VERSION": "1.26.0",
            "DNS_CAPTURE": "true",
            "LABELS": {"istio.io/benchmark": "true"},
        },
    });
    let mut node = parse::node(&node).expect("the node is well formed");
    node.proven = true;
    node
}
