//! What translation and pushes cost on meshes of growing size: `cargo bench --bench push [-- --json] [-- SERVICES…]`.
//!
//! Counts (selected, rendered, messages, resources, bytes, allocations) are the same on every machine and in every
//! run. What they must show: one endpoint change costs the same in a mesh of any size, and translating costs the
//! same however many proxies see the same.

#[path = "mesh/changes.rs"]
mod changes;
#[path = "mesh/fleet.rs"]
mod fleet;
#[path = "mesh/large.rs"]
mod large;
#[path = "mesh/meter.rs"]
#[allow(dead_code, reason = "other benchmarks use the rest")]
mod meter;
#[path = "mesh/table.rs"]
mod table;
#[path = "mesh/world.rs"]
mod world;

use fleet::{Counts, Fleet};
use large::Large;
use mainsheet::{
    id::ResourceType,
    model::{Change, Mesh, Node},
    snapshot::Snapshot,
    translate::{Config, Direct},
};
use meter::{Cost, live, measure, resident};
use std::sync::Arc;
use table::{Cell, Table};
use world::Shape;

#[global_allocator]
static ALLOCATOR: meter::Counting = meter::Counting;

const SERVICES: &[usize] = &[100, 1_000, 10_000];
const STREAMS: &[usize] = &[1, 100, 1_000];
/// Each change is done so often; the time that is shown is the middle one, by the clock, because kernels count
/// processor time too coarsely for it.
const ROUNDS: usize = 5;
/// Objects are parsed and applied so many at a time, as a source that lists them would.
const BATCH: usize = 500;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let chosen: Vec<usize> = arguments.iter().filter_map(|a| a.parse().ok()).collect();
    let mut results = Results::new();
    policies(&mut results);
    policy_changes(&mut results);
    large::all().into_iter().for_each(|large| one(large, &mut results));
    for services in if chosen.is_empty() { SERVICES } else { &chosen } {
        eprintln!("… {services} services");
        run(Shape { pods: false, ..Shape::of(*services) }, &mut results, &[]);
        run(Shape::of(*services), &mut results, STREAMS);
    }
    match json {
        true => println!("{:#}", serde_json::Value::Array(results.tables().map(Table::json).into())),
        false => results.tables().into_iter().for_each(|table| println!("{table}")),
    }
}

struct Results {
    policies: Table,
    large: Table,
    world: Table,
    translation: Table,
    connect: Table,
    change: Table,
}

impl Results {
    fn new() -> Self {
        Self {
            policies: Table::new(
                "Translation for one sidecar in a namespace with policies; istiod needs 0.986 ms for the first row's listeners",
                &["policies", "its own", "principals", "wall", "cpu", "listener bytes", "allocations", "parse cpu"],
            ),
            large: Table::new(
                "Large inputs: every object parsed, applied at once, and translated for one proxy",
                &["input", "objects", "parse cpu", "apply cpu", "wall", "cpu", "resources", "bytes", "allocations"],
            ),
            world: Table::new(
                "The world: every object parsed, and applied to an empty snapshot",
                &["services", "pods", "objects", "parse cpu", "apply cpu", "apply allocations", "kept", "resident"],
            ),
            translation: Table::new(
                "Full translation for one sidecar, nothing cached",
                &["services", "pods", "wall", "cpu", "resources", "bytes", "allocations", "kept", "peak"],
            ),
            connect: Table::new(
                "Sidecars of one namespace connect and get everything",
                &[
                    "services", "streams", "selected", "rendered", "messages", "bytes", "cpu", "kept", "resident",
                    "peak",
                ],
            ),
            change: Table::new(
                "One change, while so many sidecars of one namespace are connected",
                &[
                    "services",
                    "streams",
                    "change",
                    "selected",
                    "rendered",
                    "messages",
                    "resources",
                    "bytes",
                    "allocations",
                    "apply",
                    "push",
                ],
            ),
        }
    }

    fn tables(&self) -> [&Table; 6] {
        [&self.policies, &self.large, &self.world, &self.translation, &self.connect, &self.change]
    }
}

fn run(shape: Shape, results: &mut Results, streams: &[usize]) {
    let pods = Cell::Text(if shape.pods { "yes" } else { "no" }.to_owned());
    let services = Cell::Count(shape.services as u64);
    let before = live();
    let (snapshot, objects, parse, apply) = load(shape);
    results.world.row(vec![
        services.clone(),
        pods.clone(),
        Cell::Count(objects),
        Cell::Seconds(parse),
        Cell::Seconds(apply.cpu),
        Cell::Count(apply.allocations),
        Cell::Memory(live() - before),
        Cell::Memory(resident("VmRSS") as i64),
    ]);
    let proxy = shape.proxy(0);
    let (config, cost) = measure(|| Config::of(&snapshot, &proxy, &Direct));
    let all = || ResourceType::ALL.into_iter().flat_map(|kind| config.all(kind));
    results.translation.row(vec![
        services,
        pods,
        Cell::Seconds(cost.wall),
        Cell::Seconds(cost.cpu),
        Cell::Count(all().count() as u64),
        Cell::Count(all().map(|r| r.body.len() as u64).sum()),
        Cell::Count(cost.allocations),
        Cell::Memory(cost.kept),
        Cell::Memory(cost.peak as i64),
    ]);
    drop(config);
    for count in streams {
        serve(shape, &snapshot, *count, results);
    }
}

/// What policies cost where nothing else is there: those for all workloads of the namespace, those of which one in a
/// hundred is for the sidecar, and one that names many principals.
fn policies(results: &mut Results) {
    let shape = Shape::of(1);
    let of = |count: usize, apps: usize| -> Vec<_> {
        (0..count).map(|n| changes::policy(n, (apps > 1).then_some(n % apps), "POST")).collect()
    };
    let worlds = [
        (100, 100, 0, of(100, 1)),
        (1_000, 1_000, 0, of(1_000, 1)),
        (1_000, 10, 0, of(1_000, 100)),
        (1, 1, 10_000, vec![changes::long_policy(10_000)]),
    ];
    for (count, own, principals, objects) in worlds {
        let (changes, parse) = measure(|| changes::changes(objects));
        let snapshot =
            Snapshot::new(Mesh::default()).apply(changes::changes(shape.objects()).into_iter().chain(changes));
        let proxy = shape.proxy(0);
        let (config, cost) = translated(&snapshot, &proxy);
        let bytes = config.all(ResourceType::Listener).map(|r| r.body.len() as u64).sum();
        results.policies.row(vec![
            Cell::Count(count),
            Cell::Count(own),
            Cell::Count(principals),
            Cell::Seconds(cost.wall),
            Cell::Seconds(cost.cpu),
            Cell::Count(bytes),
            Cell::Count(cost.allocations),
            Cell::Seconds(parse.cpu),
        ]);
    }
}

/// One of a thousand policies changes, each of which is for one of ten apps.
fn policy_changes(results: &mut Results) {
    let shape = Shape { namespaces: 1, ..Shape::of(10) };
    let policies = (0..1_000).map(|n| changes::policy(n, Some(n % 10), "POST"));
    let snapshot = Snapshot::new(Mesh::default()).apply(changes::changes(shape.objects().chain(policies)));
    let snapshot = Arc::new(snapshot);
    for streams in STREAMS {
        let mut fleet = Fleet::connect((0..*streams).map(|n| shape.proxy(n)), &snapshot);
        let changes = ["PUT", "POST"].map(|method| changes::changes([changes::policy(0, Some(0), method)]));
        let measured = repeat(&mut fleet, &snapshot, changes);
        let name = Cell::Text("policy of one app in ten".to_owned());
        results.change.row([vec![Cell::Count(10), Cell::Count(*streams as u64), name], measured].concat());
    }
}

/// What a proxy is given, and what translating costs: the middle one of many times.
fn translated(snapshot: &Snapshot, proxy: &Node) -> (Config, Cost) {
    let (config, first) = measure(|| Config::of(snapshot, proxy, &Direct));
    let mut costs: Vec<Cost> = (1..ROUNDS * 5).map(|_| measure(|| Config::of(snapshot, proxy, &Direct)).1).collect();
    costs.push(first);
    costs.sort_by(|a, b| a.wall.total_cmp(&b.wall));
    (config, costs[costs.len() / 2])
}

/// A mesh with something large.
fn one(large: Large, results: &mut Results) {
    eprintln!("… {}", large.name);
    let (name, count) = (Cell::Text(large.name.to_owned()), large.objects.len());
    let (changes, parse) = measure(|| changes::changes(large.objects));
    let (snapshot, apply) = measure(|| Arc::new(Snapshot::new(Mesh::default()).apply(changes)));
    let (config, cost) = translated(&snapshot, &large.proxy);
    let all = || ResourceType::ALL.into_iter().flat_map(|kind| config.all(kind));
    results.large.row(vec![
        name.clone(),
        Cell::Count(count as u64),
        Cell::Seconds(parse.cpu),
        Cell::Seconds(apply.cpu),
        Cell::Seconds(cost.wall),
        Cell::Seconds(cost.cpu),
        Cell::Count(all().count() as u64),
        Cell::Count(all().map(|r| r.body.len() as u64).sum()),
        Cell::Count(cost.allocations),
    ]);
    let mut fleet = Fleet::connect([large.proxy], &snapshot);
    let measured = repeat(&mut fleet, &snapshot, large.change);
    results.change.row([vec![Cell::Count(large.services), Cell::Count(1), name], measured].concat());
}

/// Parses and applies every object of a mesh.
fn load(shape: Shape) -> (Arc<Snapshot>, u64, f64, Cost) {
    let (mut snapshot, mut count, mut parse, mut apply) = (Snapshot::new(Mesh::default()), 0, 0.0, Cost::default());
    let mut objects = shape.objects().peekable();
    while objects.peek().is_some() {
        let batch: Vec<_> = objects.by_ref().take(BATCH).collect();
        count += batch.len() as u64;
        let (changes, parsing) = measure(|| changes::changes(batch));
        parse += parsing.cpu;
        let (next, cost) = measure(|| snapshot.apply(changes));
        snapshot = next;
        apply.cpu += cost.cpu;
        apply.allocations += cost.allocations;
    }
    (Arc::new(snapshot), count, parse, apply)
}

fn serve(shape: Shape, snapshot: &Arc<Snapshot>, streams: usize, results: &mut Results) {
    let nodes: Vec<_> = (0..streams).map(|n| shape.proxy(n)).collect();
    let (mut fleet, cost) = measure(|| Fleet::connect(nodes, snapshot));
    let counts = fleet.counts();
    results.connect.row(vec![
        Cell::Count(shape.services as u64),
        Cell::Count(streams as u64),
        Cell::Count(counts.selected),
        Cell::Count(counts.rendered),
        Cell::Count(counts.sent.messages),
        Cell::Count(counts.sent.bytes),
        Cell::Seconds(cost.cpu),
        Cell::Memory(cost.kept),
        Cell::Memory(resident("VmRSS") as i64),
        Cell::Memory(resident("VmHWM") as i64),
    ]);
    let there_and_back: [(&str, [Vec<Change>; 2]); 3] = [
        ("endpoint", [false, true].map(|ready| shape.endpoint_change(0, ready))),
        ("route", [80, 90].map(|percent| shape.route_change(0, percent))),
        ("unseen", [false, true].map(changes::unseen_change)),
    ];
    for (name, changes) in there_and_back {
        let measured = repeat(&mut fleet, snapshot, changes);
        results.change.row(
            [
                vec![Cell::Count(shape.services as u64), Cell::Count(streams as u64), Cell::Text(name.to_owned())],
                measured,
            ]
            .concat(),
        );
    }
}

/// Does a change and takes it back, some times over; what is measured is doing it.
fn repeat(fleet: &mut Fleet, snapshot: &Arc<Snapshot>, [there, back]: [Vec<Change>; 2]) -> Vec<Cell> {
    let mut rounds: Vec<(Counts, Cost, Cost)> = Vec::new();
    let mut now = snapshot.clone();
    for _ in 0..ROUNDS {
        let changes = there.clone();
        let (next, apply) = measure(|| Arc::new(now.apply(changes)));
        let before = fleet.counts();
        let ((), push) = measure(|| fleet.push(&next));
        rounds.push((fleet.counts() - before, apply, push));
        now = Arc::new(next.apply(back.clone()));
        fleet.push(&now);
    }
    assert!(rounds.iter().all(|r| r.0 == rounds[0].0), "the same change costs the same each time: {rounds:?}");
    let middle = |of: fn(&(Counts, Cost, Cost)) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[ROUNDS / 2]
    };
    let (counts, apply, push) = rounds[ROUNDS - 1];
    vec![
        Cell::Count(counts.selected),
        Cell::Count(counts.rendered),
        Cell::Count(counts.sent.messages),
        Cell::Count(counts.sent.resources),
        Cell::Count(counts.sent.bytes),
        Cell::Count(apply.allocations + push.allocations),
        Cell::Seconds(middle(|r| r.1.wall)),
        Cell::Seconds(middle(|r| r.2.wall)),
    ]
}
