//! Thousands of proxies over real connections, and what they cost their control plane:
//! `cargo bench --bench fleet -- --services 1000 --clients 100`.
//!
//! The mesh follows from the numbers given, the same for the same numbers. The control plane is the mainsheet of this
//! tree, or any other that serves xDS (`--addr`, with `--dir` for the objects that it reads and `--pid` for what it
//! uses). At the end everything that each proxy holds is compared with a translation from nothing.

#[path = "../mesh/table.rs"]
mod table;
#[path = "../mesh/world.rs"]
mod world;

mod bare;
mod mark;
mod mesh;
mod plot;
mod process;
mod proxies;
mod results;
mod server;

use anyhow::{Context as _, Result, bail};
use clap::Parser as _;
use mainsheet::{
    id::{ResourceType, fingerprint_bytes},
    parse::{self, Context},
    pb::envoy::config::core::v3::Node,
    plan::World,
    xds::{Engine, Lease},
};
use mark::Mark;
use mesh::{Mesh, Step};
use process::{Used, forget_peak, used};
use proxies::{Held, Proxy, Shared, Way};
use results::Results;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use server::Server;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};
use table::Table;
use tokio::task::JoinHandle;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};
use world::Shape;

/// How often a step is done; the middle one is shown.
const ROUNDS: usize = 3;

#[derive(Clone, Debug, clap::Parser)]
struct Options {
    /// Services of the mesh.
    #[arg(long, default_value_t = 1000)]
    services: usize,
    /// Endpoints of each service.
    #[arg(long, default_value_t = 10)]
    endpoints: usize,
    /// VirtualServices, one each for the first services.
    #[arg(long, default_value_t = 1)]
    virtual_services: usize,
    /// DestinationRules, one each for the first services (not with --entries).
    #[arg(long, default_value_t = 0)]
    destination_rules: usize,
    /// AuthorizationPolicies, spread over the namespaces.
    #[arg(long, default_value_t = 0)]
    policies: usize,
    /// Namespaces that the services are spread over.
    #[arg(long, default_value_t = 1)]
    namespaces: usize,
    /// Each namespace has a Sidecar that lets in its own services alone.
    #[arg(long)]
    sidecars: bool,
    /// ServiceEntries with endpoints in place of Kubernetes' objects.
    #[arg(long)]
    entries: bool,
    /// What the made-up values follow from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Proxies.
    #[arg(long, default_value_t = 100)]
    clients: usize,
    /// The proxies take all resources each time, in place of differences.
    #[arg(long)]
    sotw: bool,
    /// The proxies do not say that they are Envoys, so that they are served whole routes.
    #[arg(long)]
    whole_routes: bool,
    /// A control plane that runs already, as HOST:PORT.
    #[arg(long)]
    addr: Option<String>,
    /// Its process.
    #[arg(long, requires = "addr")]
    pid: Option<u32>,
    /// The directory for the objects; it is made, and left there.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Write the objects to the directory and end.
    #[arg(long, requires = "dir")]
    write: bool,
    /// The certificate of the authority to which TLS leads.
    #[arg(long)]
    root_cert: Option<PathBuf>,
    /// The name in the control plane's certificate.
    #[arg(long, default_value = "istiod.istio-system.svc")]
    server_name: String,
    /// A file of tokens, one to a line, which the proxies show in turn.
    #[arg(long)]
    token_file: Option<PathBuf>,
    /// What is done, one after another.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "endpoint,pod,route,service,unseen,idle")]
    steps: Vec<Step>,
    /// While so many endpoints change a second, one more is waited for.
    #[arg(long, value_delimiter = ',')]
    churn: Vec<u32>,
    /// The control plane is killed and started again, and all proxies come back with what they have.
    #[arg(long, conflicts_with = "addr")]
    restart: bool,
    /// So many changes of every kind, drawn by the seed, as fast as 200 a second: what a day brings. Now and then a proxy
    /// is killed and another takes its place. Memory is told in between.
    #[arg(long, default_value_t = 0)]
    day: usize,
    /// One proxy of so many is slow: it lets each response lie for a fifth of a second.
    #[arg(long, default_value_t = 0)]
    slow: usize,
    /// What the first proxy is sent is sent to all by a server that does nothing else, too.
    #[arg(long, conflicts_with = "sotw")]
    alone: bool,
    /// Do all of it for each of these numbers of services, and tell how the figures grow.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["addr", "dir"])]
    each_services: Vec<usize>,
    /// Do all of it for each of these numbers of proxies, and tell how the figures grow.
    #[arg(long, value_delimiter = ',', conflicts_with_all = ["addr", "dir", "each_services"])]
    each_clients: Vec<usize>,
    /// Where drawings of that go.
    #[arg(long)]
    plots: Option<PathBuf>,
    /// Be that server, with the messages of this file.
    #[arg(long, hide = true, requires = "addr")]
    bare: Option<PathBuf>,
    /// Seconds to wait for all to have everything, and for a step.
    #[arg(long, default_value_t = 120)]
    patience: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<()> {
    let options = Options::parse();
    if let (Some(recorded), Some(address)) = (&options.bare, &options.addr) {
        return bare::serve(recorded, address.parse()?);
    }
    let (over, sizes) = match (&options.each_services[..], &options.each_clients[..]) {
        ([], []) => return once(&options).map(drop),
        ([], clients) => ("clients", clients),
        (services, _) => ("services", services),
    };
    let mut curves = plot::Curves::default();
    for size in sizes {
        eprintln!("… {size} {over}");
        let mut one = options.clone();
        match over {
            "clients" => one.clients = *size,
            _ => one.services = *size,
        }
        curves.add(*size, &once(&one)?);
    }
    for (name, exponent) in curves.exponents() {
        println!("{name} grows as {over} to the power of {exponent:.2}");
    }
    options.plots.iter().try_for_each(|to| curves.draw(over, to))?;
    Ok(())
}

/// Does all of it, and returns the figures by name.
fn once(options: &Options) -> Result<BTreeMap<String, f64>> {
    let scratch = std::env::temp_dir().join(format!("mainsheet-fleet-{}", std::process::id()));
    let dir = options.dir.clone().unwrap_or_else(|| scratch.join("mesh"));
    std::fs::create_dir_all(&dir)?;
    let result = run(options, dir, &scratch);
    if options.dir.is_none() && result.is_ok() {
        std::fs::remove_dir_all(&scratch)?;
    }
    result
}

fn run(options: &Options, dir: PathBuf, scratch: &Path) -> Result<BTreeMap<String, f64>> {
    let mesh = mesh_of(options, dir);
    let objects = mesh.write()?;
    if options.write {
        println!("{objects} objects are in {}", mesh.dir.display());
        return Ok(BTreeMap::new());
    }
    std::fs::create_dir_all(scratch)?;
    let mut server = match &options.addr {
        Some(address) => Server::elsewhere(address.clone(), options.pid),
        None => Server::start(&mesh.dir, &scratch.join("mainsheet.log"))?,
    };
    let mut results = Results::new();
    results.start(options, objects, &server);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let mut run = Run { options, mesh: &mesh, server: &mut server, shared: Shared::new() };
    runtime.block_on(run.measure(&mut results, scratch))?;
    match options.json {
        true => println!("{:#}", Value::Array(results.tables().map(Table::json).into())),
        false => results.tables().into_iter().for_each(|table| println!("{table}")),
    }
    Ok(results.figures)
}

fn mesh_of(options: &Options, dir: PathBuf) -> Mesh {
    let shape = Shape {
        endpoints: options.endpoints,
        namespaces: options.namespaces.max(1),
        virtual_services: options.virtual_services.min(options.services),
        destination_rules: options.destination_rules.min(options.services),
        seed: options.seed,
        ..Shape::of(options.services)
    };
    Mesh { shape, entries: options.entries, policies: options.policies, sidecars: options.sidecars, dir }
}

/// A control plane, and the proxies that it serves.
struct Run<'a> {
    options: &'a Options,
    mesh: &'a Mesh,
    server: &'a mut Server,
    shared: Arc<Shared>,
}

impl Run<'_> {
    /// Connects the proxies, does the steps, and compares what the proxies hold.
    async fn measure(&mut self, results: &mut Results, scratch: &Path) -> Result<()> {
        let (options, mesh) = (self.options, self.mesh);
        forget_peak(self.server.pid);
        let before = Before::now(self.server);
        let nodes: Vec<Value> = (0..options.clients).map(|n| mesh.sidecar(n)).collect();
        if options.alone {
            self.shared.record();
        }
        let (mut tasks, mut held) = connect(options, &nodes, self.server, &self.shared)?;
        self.all_have_everything("connect", &before, results).await?;
        let recorded = self.shared.recorded();
        let mut round = 1;
        for step in &options.steps {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                rounds.push(self.once(*step, round).await?);
                round += 1;
            }
            results.step(&format!("{step:?}").to_lowercase(), rounds);
        }
        if options.restart {
            // Those that come back at once are counted, too.
            self.shared.start_again();
            self.shared.take();
            self.server.restart()?;
            // It is not counted what the start itself costs: that has its own table.
            let before = Before::now(self.server);
            self.all_have_everything("come back", &before, results).await?;
            self.shared.start_again();
        }
        for rate in &options.churn {
            let one = self.while_others_change(*rate, round).await?;
            round += 1;
            results.step(&format!("pod, {rate} others a second"), vec![one]);
        }
        if options.day > 0 {
            self.day(&nodes, &mut tasks, &mut held, results).await?;
        }
        self.shared.quiet(Duration::from_millis(500), self.patience()).await;
        let failures = self.shared.failures();
        if !failures.is_empty() {
            bail!("connections ended: {failures:?}");
        }
        tasks.iter().for_each(tokio::task::JoinHandle::abort);
        compare(options, mesh, &nodes, &held)?;
        if options.alone {
            let file = scratch.join("recorded");
            bare::write(&recorded, &file)?;
            *self.server = Server::bare(&file)?;
            self.shared = Shared::new();
            let before = Before::now(self.server);
            (tasks, _) = connect(options, &nodes, self.server, &self.shared)?;
            self.all_have_everything("the same, sent alone", &before, results).await?;
            if let Some((_, name)) = bare::one(&recorded) {
                let mut rounds = Vec::new();
                for _ in 0..ROUNDS {
                    rounds.push(self.again(&name).await?);
                }
                results.step("endpoint, sent alone", rounds);
            }
            tasks.iter().for_each(tokio::task::JoinHandle::abort);
        }
        Ok(())
    }

    /// Waits until all proxies have all that they asked for, and notes what it took.
    async fn all_have_everything(&self, what: &str, before: &Before, results: &mut Results) -> Result<()> {
        let Self { options, server, shared, .. } = self;
        while shared.ready() < options.clients {
            if before.at.elapsed() > self.patience() {
                bail!("{} of {} proxies have everything: {:?}", shared.ready(), options.clients, shared.failures());
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let all = before.at.elapsed().as_secs_f64();
        shared.quiet(Duration::from_millis(500), self.patience()).await;
        results.connect((what, options.clients), all, before, &outcome(before, server, shared, Vec::new()));
        Ok(())
    }

    fn patience(&self) -> Duration {
        Duration::from_secs(self.options.patience)
    }

    async fn once(&self, step: Step, round: usize) -> Result<Outcome> {
        let Self { options, mesh, server, shared } = self;
        forget_peak(server.pid);
        shared.take();
        let before = Before::now(server);
        // What to look for must be known before it can come.
        let mark = mesh.sign(step, round).map(|s| Mark::new(options.clients, s.kinds, &s.name));
        shared.look_for(mark.clone());
        mesh.step(step, round)?;
        let seconds = match &mark {
            Some(mark) => mark.wait(self.patience()).await,
            None => Vec::new(),
        };
        // A change that is not to be seen gets the time in which one that is would have been.
        tokio::time::sleep(Duration::from_millis(300)).await;
        shared.quiet(Duration::from_millis(300), self.patience()).await;
        shared.look_for(None);
        Ok(outcome(&before, server, shared, seconds))
    }

    /// The server that does nothing else sends the first endpoints again.
    async fn again(&self, name: &str) -> Result<Outcome> {
        let Self { options, server, shared, .. } = self;
        shared.take();
        let before = Before::now(server);
        let mark = Mark::new(options.clients, &[ResourceType::Endpoints], name);
        shared.look_for(Some(mark.clone()));
        let pid = server.pid.and_then(|pid| Pid::from_raw(pid.cast_signed())).context("its process")?;
        kill_process(pid, Signal::USR1)?;
        let seconds = mark.wait(self.patience()).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        shared.look_for(None);
        Ok(outcome(&before, server, shared, seconds))
    }

    /// One pod's replacement is waited for while other endpoints change, so many a second.
    async fn while_others_change(&self, rate: u32, round: usize) -> Result<Outcome> {
        let Self { options, mesh, server, shared } = self;
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let others = (*mesh).clone();
        let churn = tokio::spawn(async move {
            let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
            let mut count = 0;
            while stopped.try_recv().is_err() {
                clock.tick().await;
                others.churn(count)?;
                count += 1;
            }
            std::io::Result::Ok(())
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        shared.take();
        let before = Before::now(server);
        let mut seconds = Vec::new();
        for again in 0..5 {
            let Some(sign) = mesh.sign(Step::Pod, round) else { break };
            let mark = Mark::new(options.clients, sign.kinds, &sign.name);
            shared.look_for(Some(mark.clone()));
            mesh.step(Step::Pod, round * 10 + again)?;
            seconds.extend(mark.wait(self.patience()).await);
            tokio::time::sleep(Duration::from_millis(700)).await;
        }
        shared.look_for(None);
        let _ = stop.send(());
        churn.await??;
        seconds.sort_by(f64::total_cmp);
        Ok(outcome(&before, server, shared, seconds))
    }
}

/// How often memory is told in a day.
const PARTS: usize = 10;
/// Of so many changes of a day one is that a proxy is killed.
const KILLED: usize = 20;

impl Run<'_> {
    /// Changes the mesh in every way, for as many times as there are changes in a day, and tells how memory goes.
    async fn day(
        &self,
        nodes: &[Value],
        tasks: &mut [JoinHandle<()>],
        held: &mut [Arc<Mutex<Held>>],
        results: &mut Results,
    ) -> Result<()> {
        let Self { options, mesh, server, shared } = self;
        let ways = ways(options, server)?;
        let draw = |change: usize, of: usize| mesh.shape.random(change, of) as usize;
        let mut clock = tokio::time::interval(Duration::from_millis(5));
        let mut before = Before::now(server);
        shared.take();
        for part in 0..PARTS {
            forget_peak(server.pid);
            for round in 0..options.day / PARTS {
                clock.tick().await;
                let change = part * (options.day / PARTS) + round;
                if round % KILLED == 0 {
                    let at = draw(change, 0) % nodes.len();
                    tasks[at].abort();
                    let proxy = proxy(options, &ways, at, &nodes[at], shared)?;
                    held[at] = proxy.held();
                    tasks[at] = tokio::spawn(proxy.run());
                    continue;
                }
                mesh.any(draw(change, 1), draw(change, 2))?;
            }
            tokio::time::sleep(Duration::from_millis(500)).await;
            shared.quiet(Duration::from_millis(500), self.patience()).await;
            results.part((part + 1) * (options.day / PARTS), &outcome(&before, server, shared, Vec::new()));
            before = Before::now(server);
        }
        Ok(())
    }
}

type Fleet = (Vec<JoinHandle<()>>, Vec<Arc<Mutex<Held>>>);

/// Lets all proxies connect, and returns where each keeps what it holds.
fn connect(options: &Options, nodes: &[Value], server: &Server, shared: &Arc<Shared>) -> Result<Fleet> {
    let ways = ways(options, server)?;
    let (mut tasks, mut all) = (Vec::new(), Vec::new());
    for (at, node) in nodes.iter().enumerate() {
        let proxy = proxy(options, &ways, at, node, shared)?;
        all.push(proxy.held());
        tasks.push(tokio::spawn(proxy.run()));
    }
    Ok((tasks, all))
}

/// The `at`-th proxy.
fn proxy(options: &Options, ways: &[Way], at: usize, node: &Value, shared: &Arc<Shared>) -> Result<Proxy> {
    let slow = options.slow > 0 && at.is_multiple_of(options.slow);
    let pause = if slow { Duration::from_millis(200) } else { Duration::ZERO };
    let way = Way { pause, ..ways[at % ways.len()].clone() };
    Ok(Proxy::new(at, as_node(options, node)?, way, shared.clone()))
}

/// The node as its proxy says it.
fn as_node(options: &Options, node: &Value) -> Result<Node> {
    let node = if options.whole_routes { node.clone() } else { as_envoy(node.clone()) };
    mainsheet::pb::from_json(node).map_err(anyhow::Error::msg)
}

/// The node as an Envoy says it, which also says what it is built from.
fn as_envoy(mut node: Value) -> Value {
    node["userAgentName"] = "envoy".into();
    node["userAgentBuildVersion"] = serde_json::json!({"version": {"majorNumber": 1, "minorNumber": 40}});
    node
}

/// How the proxies reach the control plane, in turn: one way for each token.
fn ways(options: &Options, server: &Server) -> Result<Vec<Way>> {
    let scheme = if options.root_cert.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{}", server.address))?
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    if let Some(path) = &options.root_cert {
        let root = Certificate::from_pem(std::fs::read(path)?);
        let tls = ClientTlsConfig::new().ca_certificate(root).domain_name(&options.server_name);
        endpoint = endpoint.tls_config(tls)?;
    }
    let tokens = options.token_file.as_ref().map(std::fs::read_to_string).transpose()?.unwrap_or_default();
    let mut tokens: Vec<_> = tokens
        .split_whitespace()
        .map(|token| format!("Bearer {token}").parse().map(Some).context("a token"))
        .collect::<Result<_>>()?;
    if tokens.is_empty() {
        tokens.push(None);
    }
    Ok(tokens
        .into_iter()
        .map(|token| Way { endpoint: endpoint.clone(), delta: !options.sotw, token, pause: Duration::ZERO })
        .collect())
}

/// What was used when something began.
struct Before {
    at: Instant,
    server: Used,
    own: Used,
}

impl Before {
    fn now(server: &Server) -> Self {
        Self { at: Instant::now(), server: used(server.pid), own: used(Some(std::process::id())) }
    }
}

/// What a step came to.
struct Outcome {
    seconds: Vec<f64>,
    received: BTreeMap<&'static str, proxies::Received>,
    server: f64,
    own: f64,
    resident: u64,
    peak: u64,
}

fn outcome(before: &Before, server: &Server, shared: &Shared, seconds: Vec<f64>) -> Outcome {
    let now = used(server.pid);
    Outcome {
        seconds,
        received: shared.take(),
        server: now.cpu - before.server.cpu,
        own: used(Some(std::process::id())).cpu - before.own.cpu,
        resident: now.resident,
        peak: now.peak,
    }
}

/// What each proxy holds must be what a translation of the objects from nothing gives it.
fn compare(options: &Options, mesh: &Mesh, nodes: &[Value], held: &[Arc<Mutex<Held>>]) -> Result<()> {
    let world = World::load(std::slice::from_ref(&mesh.dir), None, &Context::default())?;
    let snapshot = Arc::new(world.snapshot);
    let engine = Engine::new(Arc::default());
    for (node, held) in nodes.iter().zip(held) {
        let mut parsed = parse::node(node).map_err(anyhow::Error::msg)?;
        parsed.virtual_hosts = !options.sotw && !options.whole_routes;
        let id = parsed.id.clone();
        let mut lease = Lease::new(Arc::new(parsed));
        engine.advance(&mut lease, &snapshot);
        let held = held.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in [ResourceType::Cluster, ResourceType::Endpoints, ResourceType::Listener] {
            let whole: BTreeMap<&str, u64> =
                lease.config().all(kind).map(|r| (&*r.name, fingerprint_bytes(&r.body))).collect();
            let own: BTreeMap<&str, u64> =
                held[kind as usize].iter().map(|(name, (print, _))| (&**name, *print)).collect();
            if let Some((name, _)) = own.iter().find(|(name, print)| whole.get(*name) != Some(*print)) {
                bail!("{id} holds another {name} than there is");
            }
            if let Some((name, _)) =
                whole.iter().find(|(name, _)| kind != ResourceType::Endpoints && !own.contains_key(*name))
            {
                bail!("{id} has not got {name}");
            }
        }
        for kind in [ResourceType::Route, ResourceType::VirtualHost] {
            for (name, (print, _)) in &held[kind as usize] {
                let there = lease.config().get(kind, name).map(|r| fingerprint_bytes(&r.body));
                if there.is_some_and(|whole| whole != *print) {
                    bail!("{id} holds another {name} than there is");
                }
            }
        }
    }
    eprintln!("all {} proxies hold what a translation from nothing gives", nodes.len());
    Ok(())
}
