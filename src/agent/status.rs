//! The agent's own port: readiness, metrics, the application's probes, and orders from within the pod
//! (reference: `pilot/cmd/pilot-agent/status` of Istio).

use super::{probe::Probers, ready::Ready, scrape::Scraper};
use anyhow::Result;
use axum::{
    Router,
    extract::{ConnectInfo, RawQuery, State},
    http::{HeaderMap, Method, StatusCode, Uri, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use std::{net::SocketAddr, sync::Arc};
use tokio::{net::TcpListener, sync::mpsc};

/// What somebody in the pod wants of the agent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Order {
    /// To end at once, and Envoy with it.
    Quit,
    /// To drain Envoy, and to go on until told to end.
    Drain,
}

/// All that the port answers from.
#[derive(Debug)]
pub(super) struct Status {
    pub(super) ready: Arc<Ready>,
    pub(super) scraper: Scraper,
    pub(super) probers: Probers,
    pub(super) orders: mpsc::Sender<Order>,
    /// Whether metrics are for the loopback device alone.
    pub(super) metrics_on_loopback: bool,
}

/// Serves on a socket.
pub(super) async fn serve(listener: TcpListener, status: Status) -> Result<()> {
    let router = Router::new()
        .route("/healthz/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/stats/prometheus", get(metrics))
        .route("/app-health/{container}/{probe}", any(probe))
        .route("/app-lifecycle/{container}/{hook}", any(probe))
        .route("/quitquitquit", any(quit))
        .route("/drain", any(drain))
        .with_state(Arc::new(status));
    Ok(axum::serve(listener, router.into_make_service_with_connect_info::<SocketAddr>()).await?)
}

type Shared = State<Arc<Status>>;
type Peer = ConnectInfo<SocketAddr>;

async fn ready(State(status): Shared) -> Response {
    match status.ready.check().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(why) => {
            tracing::debug!(%why, "not ready");
            (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
        }
    }
}

async fn metrics(
    State(status): Shared,
    ConnectInfo(peer): Peer,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if status.metrics_on_loopback && !is_loopback(peer) {
        return (StatusCode::FORBIDDEN, "metrics are for the pod alone\n").into_response();
    }
    let (kind, text) = status.scraper.scrape(query.as_deref(), &headers).await;
    ([(CONTENT_TYPE, kind)], text).into_response()
}

async fn probe(State(status): Shared, uri: Uri, headers: HeaderMap) -> Response {
    let (status, body) = status.probers.probe(uri.path(), &headers).await;
    (status, body).into_response()
}

async fn quit(State(status): Shared, ConnectInfo(peer): Peer, method: Method) -> Response {
    order(&status, peer, &method, Order::Quit)
}

async fn drain(State(status): Shared, ConnectInfo(peer): Peer, method: Method) -> Response {
    order(&status, peer, &method, Order::Drain)
}

/// Orders are taken from within the pod alone, and never by following a link.
fn order(status: &Status, peer: SocketAddr, method: &Method, order: Order) -> Response {
    if !is_loopback(peer) {
        return (StatusCode::FORBIDDEN, "only requests from the pod itself are taken\n").into_response();
    }
    if method != Method::POST {
        return (StatusCode::METHOD_NOT_ALLOWED, "use POST\n").into_response();
    }
    // Where one waits already, that is enough.
    let _ = status.orders.try_send(order);
    "OK\n".into_response()
}

fn is_loopback(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}
