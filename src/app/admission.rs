//! Wires the webhooks: what they answer from, and the port that the API server calls.

use super::{Tasks, identity::Identity};
use crate::{
    ca::serving,
    config::{self, NativeSidecars, Place},
    snapshot::Snapshot,
    source::kubernetes,
    webhook::{self, Metrics, Native, Webhooks},
};
use anyhow::Result;
use axum::{
    extract::Request,
    http::{HeaderValue, header::CONNECTION},
    middleware::{self, Next},
    serve::Listener,
};
use futures_util::{Stream, StreamExt as _};
use std::{future::IntoFuture as _, io, net::SocketAddr, path::PathBuf, pin::Pin, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    time,
};
use tokio_rustls::server::TlsStream;

/// How long it is served after the end was told: the API server, and who leads it here, learn of the end a little later, and a
/// question that comes as its connection is closed is lost.
const LINGER: Duration = Duration::from_secs(4);

/// The webhooks of a cluster.
pub(super) struct Admission {
    cluster: kubernetes::Options,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    following: webhook::Options,
    metrics: Arc<Metrics>,
    linger: Duration,
}

impl Admission {
    pub(super) fn new(
        options: &config::Admission,
        place: &Place,
        mesh_file: Option<PathBuf>,
        (cluster, snapshots): (kubernetes::Options, watch::Receiver<Arc<Snapshot>>),
        patience: Duration,
    ) -> Self {
        let following = webhook::Options {
            client: Some(cluster.client.clone()),
            namespace: place.namespace.clone(),
            revision: place.revision.clone(),
            mesh_file,
            native: match options.native_sidecars {
                NativeSidecars::Auto => Native::Auto,
                NativeSidecars::True => Native::On,
                NativeSidecars::False => Native::Off,
            },
            users_of_namespaces: options.platform == "openshift",
        };
        Self { cluster, snapshots, following, metrics: Arc::default(), linger: LINGER.min(patience / 2) }
    }

    /// What is counted.
    pub(super) fn metrics(&self) -> Arc<Metrics> {
        self.metrics.clone()
    }

    /// Serves until told to end. Gives whether the API server was seen to ask.
    pub(super) fn start(
        self,
        listener: TcpListener,
        identity: &Identity,
        mut shutdown: watch::Receiver<bool>,
        (servers, background): (&mut Tasks, &mut Tasks),
    ) -> Result<watch::Receiver<bool>> {
        let (tls, renewing) = identity.webhook_tls()?;
        let (namespace, revision) = (self.following.namespace.clone(), self.following.revision.clone());
        let (world, following) = webhook::follow(self.following);
        let (sender, proven) = watch::channel(false);
        let proving = webhook::prove(self.cluster.client, namespace, revision, sender);
        background.spawn(async {
            renewing.await;
            ("the webhooks' certificate", Ok(()))
        });
        background.spawn(async {
            following.await;
            ("following what is injected", Ok(()))
        });
        background.spawn(async {
            proving.await;
            ("proving validation", Ok(()))
        });
        let (contexts, snapshots) = (self.cluster.contexts.follow(), self.snapshots);
        let routes = webhook::routes(Webhooks { world, contexts, snapshots, metrics: self.metrics });
        let connections = Connections::new(listener, tls)?;
        tracing::info!(address = %connections.address, "serving webhooks");
        let ending = shutdown.clone();
        let routes = routes.layer(middleware::from_fn(move |request: Request, next: Next| {
            let ending = ending.clone();
            async move {
                let mut answer = next.run(request).await;
                // Whoever is told so asks nothing more on this connection.
                if *ending.borrow() {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                answer
            }
        }));
        let linger = self.linger;
        let down = async move {
            drop(shutdown.wait_for(|down| *down).await);
            time::sleep(linger).await;
        };
        let serve = axum::serve(connections, routes).with_graceful_shutdown(down).into_future();
        servers.spawn(async { ("webhooks", serve.await.map_err(Into::into)) });
        Ok(proven)
    }
}

/// Connections whose handshake is done.
struct Connections {
    incoming: Pin<Box<dyn Stream<Item = io::Result<TlsStream<TcpStream>>> + Send>>,
    address: SocketAddr,
}

impl Connections {
    fn new(listener: TcpListener, tls: watch::Receiver<Arc<rustls::ServerConfig>>) -> io::Result<Self> {
        let address = listener.local_addr()?;
        Ok(Self { incoming: Box::pin(serving::accept(listener, tls)), address })
    }
}

impl Listener for Connections {
    type Io = TlsStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        loop {
            match self.incoming.next().await {
                Some(Ok(stream)) => return (stream, self.address),
                Some(Err(_)) => {}
                // The runtime ends.
                None => std::future::pending().await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        Ok(self.address)
    }
}
