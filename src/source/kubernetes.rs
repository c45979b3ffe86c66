//! A cluster's objects, read from its API server and watched there.
//!
//! Each kind is followed by itself. An object is parsed as soon as it arrives, by the same functions as one from a file,
//! and nothing of it is kept but its version. A second cluster is a second source with a [`Context`] of its own.

mod client;
mod definition;
mod failure;
mod follow;
mod health;
mod kind;
mod mirror;
mod notes;
mod page;
mod prune;
mod revision;
mod share;

use crate::{
    model::Change,
    parse::{self, Context},
    store::{Stopped, Writer},
};
use definition::{Defined, Definitions, Served, Service};
use follow::{Follow, Follower};
use hyper::Request;
use kind::{BUILT_IN, DEFINITIONS, SETTINGS, TAGS, Watched};
use kube::Client;
use mirror::Mirror;
use revision::Tags;
use serde_json::Value;
use share::Copies;
use std::fmt;
use tokio::{sync::watch, task::JoinSet};

pub use client::{ConnectError, connect};
pub use failure::reason;
pub use health::{Health, Standing};
pub use revision::Contexts;

/// A cluster, and how it is read.
#[derive(Clone)]
pub struct Options {
    /// The way to its API server.
    pub client: Client,
    /// What parsing depends on; the tags in it are brought by the cluster.
    pub contexts: Contexts,
    /// The only namespace whose objects are read, beside the mesh's settings; all where there is none.
    pub namespace: Option<String>,
    /// Where it is told how it stands with each kind.
    pub health: Health,
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options").field("namespace", &self.namespace).finish_non_exhaustive()
    }
}

/// Reads everything, says `synced` once it is published, and then follows the changes until the store stops. Says on
/// the way what is still `waiting` to be read.
///
/// # Errors
///
/// When the store has stopped.
pub async fn watch(options: Options, writer: Writer, mut report: impl FnMut(Progress)) -> Result<(), Stopped> {
    let contexts = options.contexts.clone();
    let context = contexts.now();
    let mut source =
        Source { options, writer, tasks: JoinSet::new(), always: Vec::new(), at_once: watch::channel(false) };
    let copies = Copies::default();
    let mirror = |kind| Mirror::new(kind, contexts.follow(), copies.clone());
    let system = || Some(context.system_namespace.to_string());
    for kind in BUILT_IN {
        let (only, following) = (source.only(kind), source.always(kind));
        source.follow(kind, only, following, mirror(kind));
    }
    let (definitions, custom) = Definitions::new(context.mesh.features.left_out.clone());
    contexts.hold(custom.iter().map(|(_, asking)| asking.clone()).collect());
    for (kind, asking) in custom {
        let only = source.only(kind);
        source.follow(kind, only, (asking.told(), asking.held()), mirror(kind));
    }
    for (kind, namespace) in TAGS.iter().zip([None, system()]) {
        let following = source.always(kind);
        source.follow(kind, (namespace, String::new()), following, Tags::new(kind, contexts.clone()));
    }
    let following = source.always(&DEFINITIONS);
    source.follow(&DEFINITIONS, (None, String::new()), following, definitions);
    let following = source.always(&SETTINGS);
    let named = format!("metadata.name={}", parse::settings_name(&context));
    source.follow(&SETTINGS, (system(), named), following, mirror(&SETTINGS));
    source.options.health.synced(|waiting| report(Progress::Waiting(waiting))).await;
    source.writer.published().await?;
    report(Progress::Synced);
    // None ends while the store is there.
    source.tasks.join_next().await;
    Err(Stopped)
}

/// How far the first reading is.
#[derive(Debug)]
pub enum Progress {
    /// These kinds are not read yet.
    Waiting(Vec<String>),
    /// Everything was read and is published.
    Synced,
}

/// The mesh's settings in the cluster, read once; nothing where there are none.
///
/// # Errors
///
/// When the API server does not say.
pub async fn settings(client: &Client, context: &Context) -> Result<Option<Change>, kube::Error> {
    let path = SETTINGS.of.path(SETTINGS.of.versions[0], Some(&context.system_namespace));
    let request = Request::get(format!("{path}/{}", parse::settings_name(context))).body(Vec::new());
    match client.request::<Value>(request.map_err(kube::Error::HttpError)?).await {
        Ok(raw) => Ok(Some(parse::object(&raw, context))),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
    }
}

/// The public keys by which a cluster's tokens are checked without it.
#[derive(Clone, Debug)]
pub struct TokenKeys {
    /// Who the tokens say has signed them.
    pub issuer: String,
    /// The keys (JWKS).
    pub keys: String,
}

/// The keys of a cluster's tokens.
///
/// # Errors
///
/// When the API server does not say.
pub async fn token_keys(client: &Client) -> Result<TokenKeys, kube::Error> {
    let get = |path: &str| Request::get(path).body(Vec::new()).map_err(kube::Error::HttpError);
    let about = client.request::<Value>(get("/.well-known/openid-configuration")?).await?;
    let keys = client.request_text(get("/openid/v1/jwks")?).await?;
    Ok(TokenKeys { issuer: about["issuer"].as_str().unwrap_or_default().to_owned(), keys })
}

/// What all kinds have in common, and what runs for them.
struct Source {
    options: Options,
    writer: Writer,
    tasks: JoinSet<Stopped>,
    /// Of the kinds that are always there.
    always: Vec<watch::Sender<Defined>>,
    /// For those who need not wait.
    at_once: (watch::Sender<bool>, watch::Receiver<bool>),
}

impl Source {
    fn always(&mut self, kind: &'static Watched) -> (Served, watch::Receiver<bool>) {
        let service = Service::Version(kind.of.versions[0]);
        let (sender, served) = watch::channel(Defined { service, generation: 0 });
        self.always.push(sender);
        (served, self.at_once.1.clone())
    }

    /// Which objects of a kind are read: its namespace, and those that the kind itself selects.
    fn only(&self, kind: &'static Watched) -> (Option<String>, String) {
        (self.options.namespace.clone().filter(|_| kind.of.namespaced), kind.selector.to_owned())
    }

    fn follow(
        &mut self,
        kind: &'static Watched,
        only: (Option<String>, String),
        (served, held): (Served, watch::Receiver<bool>),
        state: impl Follow + 'static,
    ) {
        let Options { client, health, .. } = self.options.clone();
        health.expect(kind.of.name);
        let writer = self.writer.clone();
        self.tasks.spawn(Follower { client, kind, only, served, held, state, writer, health }.run());
    }
}
