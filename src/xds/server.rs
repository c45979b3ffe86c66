//! The gRPC services: the aggregated one and one for each type, all on the same protocol.

use super::{
    Attendance, Engine, Metrics, Registry,
    session::{Session, down},
    wire::{Answer, Delta, Sotw, Wire},
};
use crate::{
    id::ResourceType,
    pb::envoy::service::{
        cluster::v3::cluster_discovery_service_server as cds,
        discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
            aggregated_discovery_service_server as ads,
        },
        endpoint::v3::endpoint_discovery_service_server as eds,
        extension::v3::extension_config_discovery_service_server as ecds,
        listener::v3::listener_discovery_service_server as lds,
        route::v3::route_discovery_service_server as rds,
        secret::v3::secret_discovery_service_server as sds,
    },
    peer::Caller,
    snapshot::Snapshot,
    translate::Resource,
};
use std::{fmt, sync::Arc, thread::available_parallelism, time::Duration};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming, service::Routes, transport::server::TcpIncoming};

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
        Routes::new(ads::AggregatedDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(cds::ClusterDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(eds::EndpointDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(lds::ListenerDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(rds::RouteDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(sds::SecretDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
            .add_service(ecds::ExtensionConfigDiscoveryServiceServer::new(self.clone()).max_decoding_message_size(max))
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

    fn start<W: Wire>(
        &self,
        only: Option<ResourceType>,
        request: Request<Streaming<W::Request>>,
    ) -> Served<W::Response> {
        let peer = request.remote_addr();
        let (responses, stream) = mpsc::channel(1);
        self.shared.metrics.streams.add(1);
        let caller = request.extensions().get::<Caller>().cloned();
        let session = Session::<W>::new(self.shared.clone(), only, peer, caller);
        tokio::spawn(session.run(request.into_inner(), responses));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

pub(super) type Responses<T> = ReceiverStream<Result<T, Status>>;
pub(super) type Served<T> = Result<Response<Responses<T>>, Status>;

#[tonic::async_trait]
impl ads::AggregatedDiscoveryService for Server {
    type StreamAggregatedResourcesStream = Responses<DiscoveryResponse>;
    type DeltaAggregatedResourcesStream = Responses<DeltaDiscoveryResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Served<DiscoveryResponse> {
        self.start::<Sotw>(None, request)
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Served<DeltaDiscoveryResponse> {
        self.start::<Delta>(None, request)
    }
}

/// The service of one type.
macro_rules! service {
    ($kind:ident: $module:ident::$service:ident {
        $whole:ident: $whole_type:ident, $delta:ident: $delta_type:ident, $fetch:ident
    }) => {
        #[tonic::async_trait]
        impl $module::$service for Server {
            type $whole_type = Responses<DiscoveryResponse>;
            type $delta_type = Responses<DeltaDiscoveryResponse>;

            async fn $whole(&self, request: Request<Streaming<DiscoveryRequest>>) -> Served<DiscoveryResponse> {
                self.start::<Sotw>(Some(ResourceType::$kind), request)
            }

            async fn $delta(
                &self,
                request: Request<Streaming<DeltaDiscoveryRequest>>,
            ) -> Served<DeltaDiscoveryResponse> {
                self.start::<Delta>(Some(ResourceType::$kind), request)
            }

            async fn $fetch(&self, _: Request<DiscoveryRequest>) -> Result<Response<DiscoveryResponse>, Status> {
                Err(Status::unimplemented("resources are served on streams alone"))
            }
        }
    };
}

service!(Cluster: cds::ClusterDiscoveryService {
    stream_clusters: StreamClustersStream, delta_clusters: DeltaClustersStream, fetch_clusters
});
service!(Endpoints: eds::EndpointDiscoveryService {
    stream_endpoints: StreamEndpointsStream, delta_endpoints: DeltaEndpointsStream, fetch_endpoints
});
service!(Listener: lds::ListenerDiscoveryService {
    stream_listeners: StreamListenersStream, delta_listeners: DeltaListenersStream, fetch_listeners
});
service!(Route: rds::RouteDiscoveryService {
    stream_routes: StreamRoutesStream, delta_routes: DeltaRoutesStream, fetch_routes
});
service!(Secret: sds::SecretDiscoveryService {
    stream_secrets: StreamSecretsStream, delta_secrets: DeltaSecretsStream, fetch_secrets
});
service!(Extension: ecds::ExtensionConfigDiscoveryService {
    stream_extension_configs: StreamExtensionConfigsStream,
    delta_extension_configs: DeltaExtensionConfigsStream,
    fetch_extension_configs
});
