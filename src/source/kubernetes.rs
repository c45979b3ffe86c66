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
mod page;
mod prune;

use crate::{
    model::Change,
    parse::{self, Context},
    store::{Stopped, Writer},
};
use definition::{Definitions, Served, Service};
use follow::{Follow, Follower};
use hyper::Request;
use kind::{BUILT_IN, DEFINITIONS, SETTINGS, Watched};
use kube::Client;
use mirror::Mirror;
use serde_json::Value;
use std::sync::Arc;
use tokio::{sync::watch, task::JoinSet};

pub use client::{ConnectError, connect};
pub use failure::reason;
pub use health::{Health, Standing};

/// Reads everything, says `synced` once it is published, and then follows the changes until the store stops. Says on
/// the way what is still `waiting` to be read.
///
/// # Errors
///
/// When the store has stopped.
pub async fn watch(
    client: Client,
    context: Context,
    writer: Writer,
    health: Health,
    mut report: impl FnMut(Progress),
) -> Result<(), Stopped> {
    let context = Arc::new(context);
    let mut source = Source { client, writer, health, tasks: JoinSet::new(), always: Vec::new() };
    for kind in BUILT_IN {
        let served = source.always(kind);
        source.follow(kind, None, served, Mirror::new(kind, context.clone()));
    }
    let (definitions, custom) = Definitions::new();
    for (kind, served) in custom {
        source.follow(kind, None, served, Mirror::new(kind, context.clone()));
    }
    let served = source.always(&DEFINITIONS);
    source.follow(&DEFINITIONS, None, served, definitions);
    let served = source.always(&SETTINGS);
    let only = (context.system_namespace.to_string(), format!("metadata.name={}", parse::settings_name(&context)));
    source.follow(&SETTINGS, Some(only), served, Mirror::new(&SETTINGS, context));
    source.health.synced(|waiting| report(Progress::Waiting(waiting))).await;
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
    let path = SETTINGS.path(SETTINGS.versions[0], Some(&context.system_namespace));
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
    client: Client,
    writer: Writer,
    health: Health,
    tasks: JoinSet<Stopped>,
    /// Of the kinds that are always there.
    always: Vec<watch::Sender<Service>>,
}

impl Source {
    fn always(&mut self, kind: &'static Watched) -> Served {
        let (sender, served) = watch::channel(Service::Version(kind.versions[0]));
        self.always.push(sender);
        served
    }

    fn follow(
        &mut self,
        kind: &'static Watched,
        only: Option<(String, String)>,
        served: Served,
        state: impl Follow + 'static,
    ) {
        self.health.expect(kind.kind);
        let (client, writer, health) = (self.client.clone(), self.writer.clone(), self.health.clone());
        self.tasks.spawn(Follower { client, kind, only, served, state, writer, health }.run());
    }
}
