//! What translating from nothing costs for one proxy, of one type at a time, beside what istiod takes for the same:
//! `cargo bench --bench translate [-- --json] [CASE …]`.
//!
//! What a proxy sees of the world is looked up before, as istiod does before its own, and has a column of its own.
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
    snapshot::{Snapshot, ViewKey},
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
        &["case", "objects", "parse cpu", "apply cpu", "apply allocations", "view cpu"],
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
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    for case in cases::all().iter().filter(|case| named.is_empty() || named.iter().any(|name| name == case.name)) {
        run(case, &mut worlds, &mut types);
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
    let node = node(case.router);
    let whole = snapshot.view_key(&node);
    let viewing = repeat(|| snapshot.view_key(&node));
    worlds.row(vec![
        Cell::Text(case.name.to_owned()),
        Cell::Count(case.objects.len() as u64),
        Cell::Seconds(parsing.cpu),
        Cell::Seconds(applying.cpu),
        Cell::Count(applying.allocations),
        Cell::Seconds(viewing),
    ]);
    for (_, kind, nanos, allocations, kilobytes) in istiod::MEASURED.iter().filter(|row| row.0 == case.name) {
        let work = || translate(&snapshot, &whole, *kind);
        let (config, first) = measure(work);
        let (cpu, theirs) = (repeat(work), *nanos as f64 / 1e9);
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

/// What a piece of work costs, as processor seconds, on the average of many times.
fn repeat<T>(work: impl Fn() -> T) -> f64 {
    let (_, first) = measure(&work);
    let times = (SECONDS / first.wall.max(1e-6)).clamp(1.0, 2_000.0) as usize;
    meter::time(|| (0..times).for_each(|_| drop(black_box(work())))) / times as f64
}

/// The parts that have resources of a type, made for a view as if there had been none before.
fn translate(snapshot: &Snapshot, whole: &ViewKey, kind: ResourceType) -> Config {
    let kinds: &[PartKind] = match kind {
        ResourceType::Cluster => &[PartKind::Clusters, PartKind::Inbound],
        ResourceType::Listener => &[PartKind::Listeners, PartKind::Inbound],
        ResourceType::Route => &[PartKind::Routes],
        ResourceType::Secret => &[PartKind::Secrets],
        ResourceType::Names => &[PartKind::Names],
        _ => &[PartKind::Endpoints],
    };
    let part = |kind: &PartKind| Arc::new(Part::build(*kind, Arc::new(kind.key(whole)), snapshot, &Direct));
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
