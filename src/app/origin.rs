//! Wires where the objects come from: files or a cluster, and with either a file of the mesh's settings.

use crate::{
    config::Input,
    id::Shared,
    model::Mesh,
    parse::Context,
    plan::World,
    snapshot::Snapshot,
    source::{
        files,
        kubernetes::{self, Contexts, Health, Progress},
    },
    store::{Stopped, Writer},
};
use anyhow::{Context as _, Result};
use kube::Client;
use std::{fs, io, path::Path, pin::pin, time::Duration};
use tokio::{
    sync::{oneshot, watch},
    time,
};

/// How often an API server is asked that does not answer.
const AGAIN: Duration = Duration::from_secs(2);

/// Where the objects come from.
pub(super) struct Origin {
    input: Input,
    context: Context,
    cluster: Option<kubernetes::Options>,
}

/// The cluster that the objects are in, unless they are in files, which must then be there.
pub(super) async fn find(input: &Input) -> Result<Option<Client>> {
    for dir in &input.config_dirs {
        readable(dir).with_context(|| format!("--config-dir {}", dir.display()))?;
    }
    if let Some(file) = &input.mesh_config {
        readable(file).with_context(|| format!("--mesh-config {}", file.display()))?;
    }
    if !input.config_dirs.is_empty() {
        return Ok(None);
    }
    let named = input.kubeconfig.as_ref().map_or_else(String::new, |file| format!(" {}", file.display()));
    let client = kubernetes::connect(input.kubeconfig.as_deref()).await;
    client.map(Some).with_context(|| format!("--kubeconfig{named} (or --config-dir, to read files)"))
}

fn readable(path: &Path) -> io::Result<()> {
    match fs::metadata(path)?.is_dir() {
        true => fs::read_dir(path).map(drop),
        false => fs::File::open(path).map(drop),
    }
}

impl Origin {
    pub(super) fn new(input: Input, context: Context, cluster: Option<Client>) -> Self {
        let cluster = cluster.map(|client| kubernetes::Options {
            client,
            contexts: Contexts::new(context.clone()),
            namespace: Some(input.watch_namespace.clone()).filter(|name| !name.is_empty()),
            health: Health::default(),
        });
        Self { input, context, cluster }
    }

    /// The cluster that the objects are in, where they are in one.
    pub(super) fn client(&self) -> Option<Client> {
        self.cluster.as_ref().map(|cluster| cluster.client.clone())
    }

    /// How it stands with the cluster, where the objects are in one.
    pub(super) fn health(&self) -> Option<Health> {
        self.cluster.as_ref().map(|cluster| cluster.health.clone())
    }

    /// How the cluster is read, where the objects are in one.
    pub(super) fn cluster(&self) -> Option<kubernetes::Options> {
        self.cluster.clone()
    }

    /// What is waited for in the beginning.
    pub(super) fn name(&self) -> &'static str {
        if self.cluster.is_some() { "the API server" } else { "files" }
    }

    /// The mesh's settings, read once, before anything else is. Waits for the API server if it has to, and says so.
    pub(super) async fn mesh(&self, waits: &(dyn Fn(String) + Sync)) -> io::Result<Shared<Mesh>> {
        let settings = self.input.mesh_config.as_deref();
        let read = World::load(&self.input.config_dirs, settings, &self.context)?.snapshot;
        // A file goes before what the cluster says.
        let Some(cluster) = self.cluster.as_ref().filter(|_| settings.is_none()) else { return Ok(read.mesh) };
        loop {
            match kubernetes::settings(&cluster.client, &self.context).await {
                Ok(change) => return Ok(Snapshot::new((*self.context.mesh).clone()).apply(change).mesh),
                Err(error) => {
                    let why = kubernetes::reason(&error);
                    tracing::warn!("the mesh's settings cannot be read from the API server: {why}");
                    waits(format!("the API server (the mesh's settings cannot be read: {why})"));
                }
            }
            time::sleep(AGAIN).await;
        }
    }

    /// Reads everything, says `synced` once it is published, and goes on watching.
    pub(super) async fn watch(
        self,
        writer: Writer,
        pending: watch::Sender<Vec<String>>,
        synced: impl FnOnce(watch::Sender<Vec<String>>),
    ) -> Result<(), Stopped> {
        let Self {
            input: Input { config_dirs: paths, mesh_config: settings, poll_interval: poll, .. }, context, ..
        } = self;
        let has_settings = settings.is_some();
        let files = files::Options { paths, settings, poll, context };
        let Some(cluster) = self.cluster else {
            return files::watch(files, writer, || synced(pending)).await;
        };
        let (tell, told) = oneshot::channel();
        let mut settings = pin!(async {
            let published = || {
                let _ = tell.send(());
            };
            match has_settings {
                true => files::watch(files, writer.clone(), published).await,
                false => {
                    published();
                    std::future::pending().await
                }
            }
        });
        tokio::select! {
            stopped = &mut settings => return stopped,
            _ = told => {}
        }
        let mut after = Some((pending, synced));
        let report = |progress| match (progress, &after) {
            (Progress::Waiting(kinds), Some((pending, _))) => drop(pending.send_replace(kinds)),
            (Progress::Synced, _) => {
                if let Some((pending, synced)) = after.take() {
                    synced(pending);
                }
            }
            (Progress::Waiting(_), None) => {}
        };
        tokio::select! {
            stopped = settings => stopped,
            stopped = kubernetes::watch(cluster, writer.clone(), report) => stopped,
        }
    }
}
