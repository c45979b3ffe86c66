//! The gRPC services: the aggregated one and one for each type, all on the same protocol.

use super::{
    Attendance, Engine, Metrics, Registry,
    encoded::Encoder,
    grpc::{ADS, CDS, ECDS, EDS, LDS, Messages, RDS, SDS, Serve, Service},
    requests::Requests,
    session::{Session, down},
    wire::{Answer, Wire},
};
use crate::{id::ResourceType, peer::Caller, snapshot::Snapshot, translate::Resource};
use std::{
    fmt,
    sync::{Arc, Once, Weak},
    thread::available_parallelism,
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};
use tonic::{Request, service::Routes, transport::server::TcpIncoming};

/// How many streams for each worker may be new at once, with all that they are sent under way.
const ARRIVALS: usize = 32;

/// Answers a request of a debug type: its type URL, and the names asked for.
pub type DebugHook = Arc<dyn Fn(&str, &[String]) -> Result<Answer, String> + Send + Sync>;

/// Has secrets for proxies that have nobody beside them to get these.
pub trait Secrets: fmt::Debug + Send + Sync {
    /// The newest secrets of a caller, as long as somebody looks; none until they are there.
    fn follow(&self, caller: &Caller) -> watch::Receiver<Arc<[Resource]>>;
}

/// How the services behave.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many translations are computed at once; 0 for as many as the machine can.
    pub workers: usize,
    /// Streams at once on one connection.
    pub max_streams: u32,
    /// The largest request, in bytes.
    pub max_request: usize,
    /// How often a silent connection is asked whether it lives.
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    pub keepalive_timeout: Duration,
    /// How long the stream of a client lasts, so that it proves again who it is, and finds a replica again.
    pub max_age: Duration,
    /// The secrets of clients that have proved who they are.
    pub secrets: Option<Arc<dyn Secrets>>,
    /// Who is told of nodes that come and go.
    pub attendance: Option<Arc<dyn Attendance>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            workers: 0,
            max_streams: 100_000,
            max_request: 4 << 20,
            keepalive_interval: Duration::from_secs(30),
            keepalive_timeout: Duration::from_secs(10),
            max_age: Duration::from_secs(30 * 60),
            secrets: None,
            attendance: None,
        }
    }
}

/// What all streams of a server have.
pub(super) struct Shared {
    pub(super) engine: Arc<Engine>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) registry: Arc<Registry>,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) shutdown: watch::Receiver<bool>,
    pub(super) debug: Option<DebugHook>,
    pub(super) secrets: Option<Arc<dyn Secrets>>,
    pub(super) attendance: Option<Arc<dyn Attendance>>,
    pub(super) max_age: Duration,
    /// Who may translate: a permit for each worker.
    pub(super) turns: Semaphore,
    /// Which streams may be new at once: a permit for each.
    pub(super) arrivals: Arc<Semaphore>,
    pub(super) encoder: Encoder,
    following: Once,
}

/// Has the engine follow the snapshots until there are no more, or nobody serves any more.
async fn follow(shared: Weak<Shared>, mut snapshots: watch::Receiver<Arc<Snapshot>>) {
    let mut at = snapshots.borrow_and_update().clone();
    while snapshots.changed().await.is_ok() {
        let Some(engine) = shared.upgrade().map(|shared| shared.engine.clone()) else { return };
        let (from, to) = (at, snapshots.borrow_and_update().clone());
        at = to.clone();
        let work = tokio::task::spawn_blocking(move || engine.follow(&from, &to));
        // What cannot be translated for some is found again by their own streams, which then end.
        if let Err(error) = work.await {
            tracing::error!(%error, "following the snapshots failed");
        }
    }
}

/// The xDS server.
#[derive(Clone)]
pub struct Server {
    shared: Arc<Shared>,
    options: Options,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("options", &self.options).field("registry", &self.shared.registry).finish()
    }
}

impl Server {
    /// A server of the snapshots in `snapshots`, until `shutdown` is true. `debug` answers the debug types.
    pub fn new(
        snapshots: watch::Receiver<Arc<Snapshot>>,
        shutdown: watch::Receiver<bool>,
        debug: Option<DebugHook>,
        registry: Arc<Registry>,
        options: Options,
    ) -> Self {
        let workers = match options.workers {
            0 => available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let metrics = Arc::new(Metrics::default());
        let engine = Arc::new(Engine::new(metrics.clone()));
        let turns = Semaphore::new(workers);
        Self {
            shared: Arc::new(Shared {
                engine,
                metrics,
                registry,
                snapshots,
                shutdown,
                debug,
                secrets: options.secrets.clone(),
                attendance: options.attendance.clone(),
                max_age: options.max_age,
                turns,
                arrivals: Arc::new(Semaphore::new(workers * ARRIVALS)),
                encoder: Encoder::default(),
                following: Once::new(),
            }),
            options,
        }
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// Who is connected.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.shared.registry
    }

    /// The engine that translates for its streams.
    pub fn engine(&self) -> &Arc<Engine> {
        &self.shared.engine
    }

    /// A server of gRPC with its settings.
    pub fn builder(&self) -> tonic::transport::Server {
        tonic::transport::Server::builder()
            .max_concurrent_streams(self.options.max_streams)
            .http2_keepalive_interval(Some(self.options.keepalive_interval))
            .http2_keepalive_timeout(Some(self.options.keepalive_timeout))
            // Whose stream ends comes back on another connection, maybe to another replica.
            .max_connection_age(self.options.max_age.mul_f64(0.9))
    }

    /// Its services, to which others may be added.
    pub fn routes(&self) -> Routes {
        let max = self.options.max_request;
        Routes::new(Service::<_, ADS>::new(self.clone(), max))
            .add_service(Service::<_, CDS>::new(self.clone(), max))
            .add_service(Service::<_, EDS>::new(self.clone(), max))
            .add_service(Service::<_, LDS>::new(self.clone(), max))
            .add_service(Service::<_, RDS>::new(self.clone(), max))
            .add_service(Service::<_, SDS>::new(self.clone(), max))
            .add_service(Service::<_, ECDS>::new(self.clone(), max))
    }

    /// Serves on a socket until shutdown, and then until every stream has ended.
    ///
    /// # Errors
    ///
    /// When the socket fails.
    pub async fn serve(&self, listener: TcpListener) -> Result<(), tonic::transport::Error> {
        let mut shutdown = self.shared.shutdown.clone();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let router = self.builder().add_routes(self.routes());
        router.serve_with_incoming_shutdown(incoming, async move { down(&mut shutdown).await }).await
    }
}

impl Serve for Server {
    fn serve<W: Wire>(&self, only: Option<ResourceType>, request: Request<Requests<W::Request>>) -> Messages {
        let shared = &self.shared;
        shared.following.call_once(|| drop(tokio::spawn(follow(Arc::downgrade(shared), shared.snapshots.clone()))));
        let peer = request.remote_addr();
        let (responses, messages) = mpsc::channel(1);
        self.shared.metrics.streams.add(1);
        let caller = request.extensions().get::<Caller>().cloned();
        let encoding = request.extensions().get().copied().unwrap_or_default();
        let session = Session::<W>::new(self.shared.clone(), only, peer, caller, encoding);
        tokio::spawn(session.run(request.into_inner(), responses));
        messages
    }
}
