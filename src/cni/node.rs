//! The agent of a node: installs the plugin, puts back what others overwrite, repairs pods, and tells whether all is
//! in place. When it ends it takes the plugin away, unless another agent is about to follow it.

use super::{Installation, Installed, Repair};
use anyhow::{Context as _, Result};
use axum::{Router, http::StatusCode, routing::get};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, Client};
use notify::{RecursiveMode, Watcher as _};
use std::{
    collections::VecDeque,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpListener, sync::Notify, time};

/// The DaemonSet of the agent, by whose name its pods are known.
pub(super) const PODS: &str = "mainsheet-cni-node";
/// How long after a change the files are looked at: who changes one often changes it again at once.
const SETTLE: Duration = Duration::from_millis(200);
/// How often they are looked at without a change being told.
const PERIOD: Duration = Duration::from_secs(10);
/// So many rewrites within this time are a fight with somebody.
const FIGHT: (usize, Duration) = (6, Duration::from_secs(60));

/// An agent.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it installs.
    pub installation: Installation,
    /// What it repairs, if it does.
    pub repair: Option<Repair>,
    /// The namespace that it runs in.
    pub namespace: String,
    /// The port on which it tells how it is.
    pub port: u16,
}

/// Runs an agent until `end` is done.
///
/// # Errors
///
/// Where it cannot begin, or cannot take away what it brought.
pub async fn run(node: Node, client: Option<Client>, end: impl AsyncFnOnce()) -> Result<()> {
    let ready = Arc::new(AtomicBool::new(false));
    let listener = TcpListener::bind(("::", node.port)).await;
    let listener = match listener {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("0.0.0.0", node.port)).await.with_context(|| format!("port {}", node.port))?,
    };
    let health = health(&ready);
    let repair = async {
        match (&node.repair, &client) {
            (Some(repair), Some(client)) => repair.run(client.clone()).await,
            _ => std::future::pending().await,
        }
    };
    tokio::select! {
        () = end() => {}
        () = keep(&node.installation, &ready) => {}
        () = repair => {}
        served = async { axum::serve(listener, health).await } => served.context("telling how it is")?,
    }
    if followed(client, &node.namespace).await {
        tracing::info!("the plugin stays: another agent follows, and pods wait for it meanwhile");
        return Ok(());
    }
    tracing::info!("the plugin is taken away");
    node.installation.remove()
}

/// Whether the agent's DaemonSet is there, which then brings another agent. Where that cannot be learnt it is taken to
/// be: what stays too long lets pods wait, what goes too early lets them speak without the mesh.
async fn followed(client: Option<Client>, namespace: &str) -> bool {
    let Some(client) = client else { return false };
    match Api::<DaemonSet>::namespaced(client, namespace).get(PODS).await {
        Ok(set) => set.metadata.deletion_timestamp.is_none(),
        // Who is deleted with everything else may not ask any more.
        Err(kube::Error::Api(status)) => !matches!(status.code, 401 | 403 | 404),
        Err(_) => true,
    }
}

/// Installs, and does so again whenever something has changed.
async fn keep(installation: &Installation, ready: &AtomicBool) {
    let changed = Arc::new(Notify::new());
    let told = Arc::clone(&changed);
    let watcher = notify::recommended_watcher(move |_| told.notify_one());
    let mut watcher = watcher.inspect_err(|e| tracing::warn!("changes of files are not told: {e}")).ok();
    let mut rewrites = VecDeque::new();
    let mut said = String::new();
    loop {
        for dir in [&installation.networks, &installation.plugins, &installation.account] {
            // Those that are not there yet are looked at in time.
            let _ = watcher.as_mut().map(|w| w.watch(dir, RecursiveMode::NonRecursive));
        }
        let state = installation.install();
        ready.store(matches!(state, Ok(Installed::Done { .. })), Ordering::Relaxed);
        let text = match &state {
            Ok(Installed::Done { file, written }) if !written.is_empty() => {
                note_fight(&mut rewrites, file);
                format!("{} written; the plugin is in {}", written.join(", "), file.display())
            }
            Ok(Installed::Done { .. }) => String::new(),
            Ok(Installed::Waiting(why)) => why.clone(),
            Err(error) => format!("{error:#}"),
        };
        if !text.is_empty() && text != said {
            tracing::info!("{text}");
        }
        said = text;
        tokio::select! {
            () = changed.notified() => {}
            () = time::sleep(PERIOD) => {}
        }
        time::sleep(SETTLE).await;
    }
}

/// Says it where somebody else writes the same file again and again.
fn note_fight(rewrites: &mut VecDeque<Instant>, file: &Path) {
    let (most, within) = FIGHT;
    rewrites.push_back(Instant::now());
    while rewrites.front().is_some_and(|first| first.elapsed() > within) {
        rewrites.pop_front();
    }
    if rewrites.len() >= most {
        tracing::warn!(
            "{} was overwritten {most} times within {within:?}: something else on the node wants it for itself (with \
             Cilium set cni.exclusive to false)",
            file.display()
        );
        rewrites.clear();
    }
}

fn health(ready: &Arc<AtomicBool>) -> Router {
    let ready = Arc::clone(ready);
    let readiness = async move || match ready.load(Ordering::Relaxed) {
        true => (StatusCode::OK, "ok"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "the plugin is not in place"),
    };
    Router::new().route("/healthz", get(async || "ok")).route("/readyz", get(readiness))
}
