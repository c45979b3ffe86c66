//! The running control plane: options become sockets, a store, a source and servers, which are ready once the first
//! snapshot is there, and end when they are told to. No logic of the mesh is here.

mod admission;
mod identity;
mod log;
mod origin;
#[cfg(test)]
mod tests;
mod token;

use crate::{
    agent,
    api::kind::{WORKLOAD_ENTRY, WORKLOAD_GROUP},
    cni,
    config::{self, Address, Discovery, Place, Serving, Writing},
    controller::{self, Leaving, Machines},
    debug::{self, Debug},
    model::{KeyLocator, LeftOut, Mesh},
    parse::{self, Context},
    snapshot::Snapshot,
    source::{keys, kubernetes},
    store::{self, Reader},
    xds::{self, DebugHook, Registry, Server},
};
use admission::Admission;
use anyhow::{Context as _, Result, anyhow, bail};
use axum::Router;
use identity::Identity;
use origin::Origin;
use std::{
    collections::BTreeSet,
    fmt, fs,
    future::IntoFuture as _,
    io,
    net::SocketAddr,
    process::ExitCode,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};
use tokio::{
    net::TcpListener,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
    task::{JoinError, JoinSet},
    time,
};

/// How long proxies wait for the keys of issuers to be fetched when the process starts.
const KEYS_AT_START: Duration = Duration::from_secs(6);

/// Runs the control plane until it is asked to end.
///
/// # Errors
///
/// When it cannot start or cannot go on; the text says why.
pub fn discovery(options: Discovery) -> Result<()> {
    log::start(&options.log);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("starting threads")?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new().context("listening for signals")?;
        let app = App::bind(options).await?;
        app.run(async || signals.next().await).await
    });
    // What is still being computed is for nobody.
    runtime.shutdown_background();
    result
}

/// Runs the agent beside an Envoy, until that ends or it is asked to end, and tells how Envoy ended.
///
/// # Errors
///
/// When it cannot start or cannot go on; the text says why.
pub fn agent(options: config::Agent) -> Result<ExitCode> {
    log::start(&options.log);
    // One thread is enough for one pod, and takes the least memory.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a thread")?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new().context("listening for signals")?;
        agent::run(options, config::environment(), async || signals.next().await).await
    });
    runtime.shutdown_background();
    result
}

/// Runs the agent of a node, which installs the CNI plugin, until it is asked to end.
///
/// # Errors
///
/// When it cannot start, or cannot take away what it brought; the text says why.
pub fn node(log: &config::Log, node: cni::Node) -> Result<()> {
    log::start(log);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting a thread")?;
    let result = runtime.block_on(async {
        let mut signals = Signals::new().context("listening for signals")?;
        // Without an API server pods are not repaired, but the plugin is installed.
        let client = kubernetes::connect(None).await;
        let client = client.inspect_err(|e| tracing::warn!("no API server, so no pod is repaired: {e}")).ok();
        cni::run(node, client, async || signals.next().await).await
    });
    runtime.shutdown_background();
    result
}

/// A control plane that has its ports and does not serve yet.
pub struct App {
    options: Discovery,
    started: Instant,
    grpc: Option<TcpListener>,
    http: Option<TcpListener>,
    monitoring: Option<TcpListener>,
    secure: Option<TcpListener>,
    webhooks: Option<TcpListener>,
    /// The cluster that the objects are in, where they are in one.
    cluster: Option<kube::Client>,
}

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("options", &self.options).finish_non_exhaustive()
    }
}

impl App {
    /// Takes the ports, and looks whether there is something to read.
    ///
    /// # Errors
    ///
    /// When a port cannot be had or a directory cannot be read; the text names the flag.
    pub async fn bind(options: Discovery) -> Result<Self> {
        let started = Instant::now();
        let cluster = origin::find(&options.input).await?;
        let listen = &options.listen;
        let grpc = bind("--grpc-addr", &listen.grpc_addr).await?;
        let http = bind("--http-addr", &listen.http_addr).await?;
        let monitoring = bind("--monitoring-addr", &listen.monitoring_addr).await?;
        let secure = match &options.authority.ca_dir {
            Some(_) => bind("--secure-grpc-addr", &listen.secure_grpc_addr).await?,
            None if cluster.is_some() && options.authority.ca_server => {
                bind("--secure-grpc-addr", &listen.secure_grpc_addr).await?
            }
            None => None,
        };
        let webhooks = match secure.is_some() && cluster.is_some() {
            true => bind("--https-addr", &listen.https_addr).await?,
            false => None,
        };
        Ok(Self { options, started, grpc, http, monitoring, secure, webhooks, cluster })
    }

    /// The addresses of the ports for gRPC, HTTP and monitoring, where they are not turned off.
    pub fn addresses(&self) -> [Option<SocketAddr>; 3] {
        [&self.grpc, &self.http, &self.monitoring].map(|l| l.as_ref().and_then(|l| l.local_addr().ok()))
    }

    /// The address of the port for gRPC over TLS, where there is one.
    pub fn secure_address(&self) -> Option<SocketAddr> {
        self.secure.as_ref().and_then(|l| l.local_addr().ok())
    }

    /// Serves until `stop` first returns, then ends its streams; until `stop` returns again at most.
    ///
    /// # Errors
    ///
    /// When a part of it ends before.
    pub async fn run(self, mut stop: impl AsyncFnMut()) -> Result<()> {
        let limit = self.options.serving.shutdown_duration;
        let (down, shutdown) = watch::channel(false);
        let Running { mut background, mut servers, registry } = tokio::select! {
            () = stop() => return Ok(()),
            running = self.start(shutdown) => running?,
        };
        tokio::select! {
            () = stop() => {}
            Some(ended) = background.join_next() => return Err(early(ended)),
            Some(ended) = servers.join_next() => return Err(early(ended)),
        }
        tracing::info!(streams = registry.len(), "ending");
        down.send_replace(true);
        let drained = async { while servers.join_next().await.is_some() {} };
        tokio::select! {
            drained = time::timeout(limit, drained) => match drained {
                Ok(()) => tracing::info!("ended"),
                Err(_) => tracing::warn!(streams = registry.len(), "ended with work that took longer than {limit:?}"),
            },
            () = stop() => bail!("told to end a second time, with {} streams left", registry.len()),
        }
        Ok(())
    }

    async fn start(self, shutdown: watch::Receiver<bool>) -> Result<Running> {
        let addresses = self.addresses();
        let Self { options, started, grpc, http, monitoring, secure, webhooks, cluster } = self;
        let Discovery { input, serving, authority, keys, writing, admission, unused, .. } = options;
        for (flag, why) in unused.iter() {
            tracing::info!("--{flag} has no meaning here: {why}");
        }
        let (context, said) = context(&input.place);
        said.iter().for_each(|text| tracing::warn!("in the environment: {text}"));
        let (writer, reader, store) = store::new(Snapshot::new((*context.mesh).clone()), pace(&serving));
        let place = input.place.clone();
        let left_out = context.mesh.features.left_out.clone();
        let mesh_file = input.mesh_config.clone();
        let origin = Origin::new(input, context, cluster);
        let (pending, waiting) = watch::channel(vec![origin.name().to_owned()]);
        let mut servers = Tasks::new();
        let pages = Pages::serve(&mut servers, [("HTTP", http), ("monitoring", monitoring)], (&shutdown, &waiting));
        // An authority is made before anything is served, and is then told what it is for by the settings themselves.
        let opened =
            identity::open(&authority, &place, &origin, &|what| drop(pending.send_replace(vec![what]))).await?;
        let identity = opened.map(|opened| Identity::new(&authority, &place, &reader, opened)).transpose()?;
        let (age, patience) = (authority.max_stream_age, serving.shutdown_duration);
        let machines = machines(&writing, &left_out, origin.client());
        let serving = xds::Options {
            secrets: identity.as_ref().map(Identity::secrets),
            attendance: machines.clone().map(|machines| Arc::new(machines) as _),
            ..xds_options(&serving, age)
        };
        let (server, mut debug) = server(&reader, &shutdown, &waiting, serving);
        debug.identity = identity.as_ref().map(Identity::shown);
        debug.cluster = origin.health();
        debug.machines = machines.as_ref().map(|machines| machines.counted() as _);
        let cluster = origin.cluster();
        let registry = debug.registry.clone();

        let mut background = Tasks::new();
        follow(&mut background, "the store", store.run());
        let (tried, attempts) = watch::channel(BTreeSet::new());
        let fetched = key_options(keys);
        let fetching = keys::watch(fetched.clone(), writer.clone(), reader.snapshots.clone(), tried);
        follow(&mut background, "fetching keys", fetching);
        let synced = move |pending| {
            announce(addresses, &reader.snapshots.borrow(), started);
            let wanted = reader.snapshots.borrow().wanted_keys().into_keys().collect();
            tokio::spawn(ready_with_keys(wanted, attempts, pending));
        };
        background
            .spawn(async { ("reading the objects", origin.watch(writer, pending, synced).await.map_err(Into::into)) });

        let mut proven = None;
        if let (Some(listener), Some(identity), Some(cluster)) = (webhooks, &identity, &cluster) {
            let followed = (cluster.clone(), debug.snapshots.clone());
            let admission = Admission::new(&admission, &place, mesh_file, followed, patience);
            debug.webhooks = Some(admission.metrics());
            proven = Some(admission.start(listener, identity, shutdown.clone(), (&mut servers, &mut background))?);
        }
        if let Some(cluster) = cluster {
            let options = writer_options(writing, cluster, &debug, (age, machines));
            let options = controller::Options { roots: identity.as_ref().map(Identity::roots), proven, ..options };
            servers.spawn(write(options, shutdown.clone(), waiting.clone()));
        }
        if let Some(identity) = identity {
            let (serving, tasks) = identity.start(&fetched)?;
            tasks.into_iter().for_each(|(name, task)| follow(&mut background, name, task));
            if let Some(listener) = secure {
                let serve = serve_secure(serving, server.clone(), listener, shutdown.clone(), waiting.clone());
                servers.spawn(async { ("gRPC over TLS", serve.await) });
            }
        }
        if let Some(listener) = grpc {
            let serve = serve_grpc(server, listener, shutdown.clone(), waiting);
            servers.spawn(async { ("gRPC", serve.await) });
        }
        pages.open([debug::http(debug.clone()), debug::monitoring(debug)]);
        Ok(Running { background, servers, registry })
    }
}

/// The pages over HTTP, which answer from the beginning: until they are open, with what is waited for.
struct Pages([Arc<OnceLock<Router>>; 2]);

impl Pages {
    fn serve(
        servers: &mut Tasks,
        listeners: [(&'static str, Option<TcpListener>); 2],
        (shutdown, waiting): (&watch::Receiver<bool>, &watch::Receiver<Vec<String>>),
    ) -> Self {
        Self(listeners.map(|(name, listener)| {
            let pages = Arc::default();
            if let Some(listener) = listener {
                let mut shutdown = shutdown.clone();
                let down = async move { drop(shutdown.wait_for(|down| *down).await) };
                let answers = debug::once_open(Arc::clone(&pages), waiting.clone());
                let answers = answers.into_make_service_with_connect_info::<SocketAddr>();
                let serve = axum::serve(listener, answers).with_graceful_shutdown(down).into_future();
                servers.spawn(async move { (name, serve.await.map_err(Into::into)) });
            }
            pages
        }))
    }

    fn open(&self, pages: [Router; 2]) {
        for (closed, open) in self.0.iter().zip(pages) {
            closed.get_or_init(|| open);
        }
    }
}

/// Writes into the cluster, once all of it was read.
async fn write(
    options: controller::Options,
    down: watch::Receiver<bool>,
    pending: watch::Receiver<Vec<String>>,
) -> (&'static str, Result<()>) {
    if until_ready(down.clone(), pending).await {
        controller::run(options, down).await;
    }
    ("writing into the cluster", Ok(()))
}

/// What this replica is called.
fn replica(writing: &Writing) -> String {
    let machine = || fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    writing.pod_name.clone().unwrap_or_else(|| format!("{}-{}", machine().trim(), std::process::id()))
}

/// What is written into a cluster, beside the roots.
fn writer_options(
    writing: Writing,
    cluster: kubernetes::Options,
    debug: &Debug,
    (age, machines): (Duration, Option<Machines>),
) -> controller::Options {
    let addresses = if writing.ip_autoallocate { vec![writing.ipv4_prefix, writing.ipv6_prefix] } else { Vec::new() };
    controller::Options {
        name: replica(&writing),
        client: cluster.client,
        contexts: cluster.contexts,
        namespace: cluster.namespace,
        lease: writing.lease_duration.max(Duration::from_secs(2)),
        roots: None,
        proven: None,
        root_config_map: writing.root_config_map,
        trust_bundle: writing.cluster_trust_bundle,
        worlds: Some(debug.snapshots.clone()).filter(|_| writing.write_status),
        events: writing.write_events.then(|| (debug.registry.clone(), debug.metrics.clone())),
        // Who is connected comes back within the age of a stream.
        machines: machines.map(|machines| Leaving {
            grace: writing.machine_grace_period,
            longest: age.mul_f64(1.5),
            counted: machines.counted(),
        }),
        status: writing.write_status,
        addresses,
    }
}

/// Tasks with what people call them.
type Tasks = JoinSet<(&'static str, Result<()>)>;

/// Runs a task among others.
fn follow(tasks: &mut Tasks, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
    tasks.spawn(async move {
        task.await;
        (name, Ok(()))
    });
}

/// What runs.
struct Running {
    background: Tasks,
    /// What ends by itself when told to, once nobody needs it any more.
    servers: Tasks,
    registry: Arc<Registry>,
}

/// What it means that a task has ended which should not have.
fn early(ended: Result<(&'static str, Result<()>), JoinError>) -> anyhow::Error {
    match ended {
        Ok((name, Ok(()))) => anyhow!("{name} has stopped"),
        Ok((name, Err(error))) => error.context(name),
        Err(error) => anyhow!(error).context("a task has failed"),
    }
}

fn xds_options(serving: &Serving, max_age: Duration) -> xds::Options {
    xds::Options {
        workers: serving.workers,
        max_streams: serving.max_streams,
        max_request: serving.max_request_bytes,
        keepalive_interval: serving.keepalive_interval,
        keepalive_timeout: serving.keepalive_timeout,
        max_age,
        ..xds::Options::default()
    }
}

/// Who looks after machines that connect, where the objects are in a cluster.
fn machines(writing: &Writing, left_out: &LeftOut, cluster: Option<kube::Client>) -> Option<Machines> {
    let theirs = [WORKLOAD_ENTRY, WORKLOAD_GROUP].iter().all(|kind| !left_out.has(&kind.definition()));
    let client = cluster.filter(|_| writing.register_machines && theirs)?;
    Some(Machines::new(client, replica(writing), writing.validate_machines))
}

/// The xDS server, and what debug pages show of it.
fn server(
    reader: &Reader,
    shutdown: &watch::Receiver<bool>,
    pending: &watch::Receiver<Vec<String>>,
    options: xds::Options,
) -> (Server, Debug) {
    // The pages show the server, which answers with the pages.
    let pages = Arc::new(OnceLock::<Debug>::new());
    let answers = pages.clone();
    let hook: DebugHook = Arc::new(move |type_url, names| match answers.get() {
        Some(debug) => debug.answer(type_url, names),
        None => Err("the server is starting".into()),
    });
    let registry = Arc::new(Registry::default());
    let server = Server::new(reader.snapshots.clone(), shutdown.clone(), Some(hook), registry.clone(), options);
    let (snapshots, metrics) = (reader.snapshots.clone(), server.metrics().clone());
    let debug = Debug {
        snapshots,
        registry,
        metrics,
        pending: pending.clone(),
        identity: None,
        cluster: None,
        webhooks: None,
        machines: None,
    };
    (server, pages.get_or_init(|| debug).clone())
}

/// Serves xDS once there is a world: a proxy that asks before would be told that everything is gone.
async fn serve_grpc(
    server: Server,
    listener: TcpListener,
    shutdown: watch::Receiver<bool>,
    pending: watch::Receiver<Vec<String>>,
) -> Result<()> {
    match until_ready(shutdown, pending).await {
        true => server.serve(listener).await.map_err(Into::into),
        false => Ok(()),
    }
}

/// Serves xDS and certificates over TLS, once there is a world.
async fn serve_secure(
    serving: identity::Secure,
    server: Server,
    listener: TcpListener,
    mut down: watch::Receiver<bool>,
    pending: watch::Receiver<Vec<String>>,
) -> Result<()> {
    match until_ready(down.clone(), pending).await {
        true => serving.serve(server, listener, async move { drop(down.wait_for(|down| *down).await) }).await,
        false => Ok(()),
    }
}

/// Waits until there is a world, and says whether there is one.
async fn until_ready(mut shutdown: watch::Receiver<bool>, mut pending: watch::Receiver<Vec<String>>) -> bool {
    tokio::select! {
        _ = shutdown.wait_for(|down| *down) => false,
        _ = pending.wait_for(Vec::is_empty) => true,
    }
}

/// Lets proxies in once the keys that policies want were asked for: until then their tokens would be refused.
async fn ready_with_keys(
    wanted: BTreeSet<KeyLocator>,
    mut attempts: watch::Receiver<BTreeSet<KeyLocator>>,
    pending: watch::Sender<Vec<String>>,
) {
    let tried = attempts.wait_for(|tried| wanted.is_subset(tried));
    if time::timeout(KEYS_AT_START, tried).await.is_err() {
        tracing::warn!("keys of issuers are still being fetched; their tokens are refused until then");
    }
    pending.send_replace(Vec::new());
}

/// How keys of issuers are fetched.
fn key_options(keys: config::Keys) -> keys::Options {
    keys::Options {
        refresh: keys.jwks_refresh_interval,
        pause: Duration::from_secs(1),
        longest: Duration::from_secs(60),
        roots: keys.jwks_ca_file,
        blocked: keys.jwks_blocked_range,
        trusting: keys.jwks_insecure_skip_verify,
    }
}

fn pace(serving: &Serving) -> store::Options {
    store::Options { quiet: serving.debounce_after, at_most: serving.debounce_max }
}

/// What parsing depends on, by the command line and the environment, and what is wrong with the latter.
pub fn context(place: &Place) -> (Context, Vec<String>) {
    let [domain, cluster] = [&place.domain, &place.cluster_id].map(|text| Arc::<str>::from(text.as_str()));
    let mut mesh = Mesh { domain: domain.clone(), cluster: cluster.clone(), ..Mesh::default() };
    let variables = config::environment();
    let said = parse::environment(&mut mesh, variables.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    let context = Context {
        domain,
        cluster,
        system_namespace: place.namespace.as_str().into(),
        revision: place.revision.as_str().into(),
        tags: BTreeSet::new(),
        mesh: Arc::new(mesh),
    };
    (context, said)
}

/// The one line of what is served.
fn announce(addresses: [Option<SocketAddr>; 3], snapshot: &Snapshot, started: Instant) {
    let [grpc, http, monitoring] = addresses.map(|a| a.map_or_else(|| "off".to_owned(), |a| a.to_string()));
    tracing::info!(
        %grpc,
        %http,
        %monitoring,
        services = snapshot.services().count(),
        pods = snapshot.pods.len(),
        problems = snapshot.problems.values().map(|p| p.len()).sum::<usize>(),
        millis = started.elapsed().as_millis(),
        "serving"
    );
}

async fn bind(flag: &str, address: &Address) -> Result<Option<TcpListener>> {
    let mut last = None;
    for candidate in address.candidates() {
        match TcpListener::bind(candidate).await {
            Ok(listener) => return Ok(Some(listener)),
            Err(error) => {
                // A machine without IPv6 has the other candidate; a port that is taken is taken in both.
                let taken = error.kind() == io::ErrorKind::AddrInUse;
                last = Some(error);
                if taken {
                    break;
                }
            }
        }
    }
    match last {
        None => Ok(None),
        Some(error) => Err(error).with_context(|| format!("{flag} {address}")),
    }
}

/// What asks the process to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
