//! The webhooks over HTTP: `/inject` and `/validate`, with whatever path is behind.

use super::{
    admit::{Outcome, admit},
    follow::State as World,
    metrics::Metrics,
    review::{Review, Verdict, unreadable},
    validate::{Found, validate},
};
use crate::{parse::Context, snapshot::Snapshot};
use axum::{
    Router,
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, watch},
    time,
};

/// The largest request that is read, in bytes: objects of Kubernetes have up to 3 MB, twice where they are updated.
const LARGEST: usize = 6 << 20;
/// How long a request may take to come: the API server itself does not wait longer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Requests that are read and answered at once; others wait.
const AT_ONCE: usize = 64;

/// What answers.
#[derive(Debug)]
pub struct Webhooks {
    /// What pods are injected with.
    pub world: watch::Receiver<World>,
    /// What parsing depends on.
    pub contexts: watch::Receiver<Arc<Context>>,
    /// All objects that are served.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

struct Shared {
    webhooks: Webhooks,
    turns: Semaphore,
}

/// The pages.
pub fn routes(webhooks: Webhooks) -> Router {
    Router::new()
        .route("/inject", post(inject))
        .route("/inject/", post(inject))
        .route("/inject/{*rest}", post(inject))
        .route("/validate", post(check))
        .route("/validate/", post(check))
        .route("/validate/{*rest}", post(check))
        .route("/ready", get(|| async { StatusCode::OK }))
        .with_state(Arc::new(Shared { webhooks, turns: Semaphore::new(AT_ONCE) }))
}

async fn inject(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let metrics = shared.webhooks.metrics.clone();
    metrics.count_request();
    let started = Instant::now();
    let path = request.uri().path().to_owned();
    let _turn = shared.turns.acquire().await;
    let body = match body(request).await {
        Ok(body) => body,
        Err((status, why)) => {
            metrics.count_failure();
            return (status, why).into_response();
        }
    };
    let world = shared.webhooks.world.borrow().clone();
    // A template may take its time, which is not that of other requests.
    let answered = tokio::task::spawn_blocking(move || answer_pod(&world, &path, &body)).await;
    match answered {
        Ok((answer, outcome)) => {
            metrics.count_answer(&outcome, started.elapsed());
            json(answer)
        }
        Err(error) => {
            tracing::error!(%error, "injection has failed");
            metrics.count_failure();
            (StatusCode::INTERNAL_SERVER_ERROR, "injection has failed; the log says more\n").into_response()
        }
    }
}

/// The answer about a pod.
pub(super) fn answer_pod(world: &World, path: &str, body: &[u8]) -> (Vec<u8>, Outcome) {
    let review = match Review::parse(body) {
        Ok(review) => review,
        Err(why) => return (unreadable(&why), Outcome::Failed),
    };
    let (verdict, outcome) = match &world.injector {
        Ok(injector) => admit(injector, world.native, path, &review),
        Err(why) => (Verdict::Refused(why.clone()), Outcome::Failed),
    };
    let meta = &review.object["metadata"];
    let name = meta["name"].as_str().or_else(|| meta["generateName"].as_str()).unwrap_or_default();
    let namespace = &review.namespace;
    match (&outcome, &verdict) {
        (Outcome::Skipped(why), _) => tracing::debug!(namespace, name, why, "a pod is left alone"),
        (Outcome::Failed, Verdict::Refused(why)) => tracing::warn!(namespace, name, why, "a pod is refused"),
        _ => tracing::debug!(namespace, name, "a pod is injected"),
    }
    (review.answer(&verdict), outcome)
}

async fn check(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let metrics = &shared.webhooks.metrics;
    let _turn = shared.turns.acquire().await;
    let body = match body(request).await {
        Ok(body) => body,
        Err((status, why)) => {
            metrics.count_http_error(status.as_u16());
            return (status, why).into_response();
        }
    };
    let context = shared.webhooks.contexts.borrow().clone();
    let others = shared.webhooks.snapshots.borrow().clone();
    let answered = tokio::task::spawn_blocking(move || answer_object(&context, &others, &body)).await;
    match answered {
        Ok((answer, counted)) => {
            counted.iter().for_each(|(resource, found)| metrics.count_validation(resource, *found));
            json(answer)
        }
        Err(error) => {
            tracing::error!(%error, "validation has failed");
            metrics.count_http_error(500);
            (StatusCode::INTERNAL_SERVER_ERROR, "validation has failed; the log says more\n").into_response()
        }
    }
}

/// The answer about any other object, and what is counted of it: nothing where nobody means to apply it.
pub(super) fn answer_object(
    context: &Context,
    others: &Snapshot,
    body: &[u8],
) -> (Vec<u8>, Option<([String; 3], Found)>) {
    let review = match Review::parse(body) {
        Ok(review) => review,
        Err(why) => return (unreadable(&why), None),
    };
    let (verdict, found) = validate(&review, context, others);
    if let (Verdict::Refused(why), false) = (&verdict, review.dry_run) {
        let name = review.object["metadata"]["name"].as_str().unwrap_or_default();
        tracing::info!(kind = review.resource[2], namespace = review.namespace, name, why, "an object is refused");
    }
    let counted = (!review.dry_run || found == Found::Valid).then(|| (review.resource.clone(), found));
    (review.answer(&verdict), counted)
}

fn json(body: Vec<u8>) -> Response {
    ([(CONTENT_TYPE, "application/json")], body).into_response()
}

/// The body of a request that asks something.
async fn body(request: Request<Body>) -> Result<Bytes, (StatusCode, &'static str)> {
    let content = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    if content.split(';').next().unwrap_or_default().trim() != "application/json" {
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "invalid Content-Type, want `application/json`\n"));
    }
    let read = time::timeout(PATIENCE, to_bytes(request.into_body(), LARGEST)).await;
    let Ok(read) = read else { return Err((StatusCode::REQUEST_TIMEOUT, "the body takes too long to come\n")) };
    match read {
        Ok(body) if body.is_empty() => Err((StatusCode::BAD_REQUEST, "no body found\n")),
        Ok(body) => Ok(body),
        Err(_) => Err((StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 6 MiB, or cannot be read\n")),
    }
}
