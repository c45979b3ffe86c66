//! Wires how tokens are judged that a cluster has signed: the cluster is asked about each, or its public keys are taken
//! once and looked at again.

use crate::{
    peer::{Issuer, Keys, Reviewer},
    source::kubernetes::{self, TokenKeys},
};
use kube::Client;
use std::{
    sync::{Arc, RwLock},
    time::Duration,
};
use tokio::time;

/// How often the keys are looked at.
const INTERVAL: Duration = Duration::from_secs(60);
/// How often an API server is asked that does not answer.
const AGAIN: Duration = Duration::from_secs(2);

/// Who judges tokens that a cluster has signed.
pub(super) enum Judge {
    /// The cluster, about each token.
    Cluster(Reviewer),
    /// Its keys, without it.
    Keys(Client, Arc<Issuer>),
}

impl Judge {
    /// The judge of a cluster. Its keys are waited for, as nobody could be served before.
    pub(super) async fn of(
        client: Client,
        offline: bool,
        audiences: &[String],
        waits: &(dyn Fn(String) + Sync),
    ) -> Self {
        if !offline {
            return Self::Cluster(Reviewer::new(client, audiences.to_vec()));
        }
        loop {
            match keys(&client).await {
                Ok((name, keys)) => {
                    let issuer = Issuer { name, audiences: audiences.to_vec(), keys: RwLock::new(keys) };
                    return Self::Keys(client, Arc::new(issuer));
                }
                Err(why) => {
                    tracing::warn!("the keys of the cluster's tokens cannot be had: {why}");
                    waits(format!("the API server (the keys of the cluster's tokens cannot be had: {why})"));
                }
            }
            time::sleep(AGAIN).await;
        }
    }
}

async fn keys(client: &Client) -> Result<(String, Keys), String> {
    let TokenKeys { issuer, keys } = kubernetes::token_keys(client).await.map_err(|e| kubernetes::reason(&e))?;
    Ok((issuer, Keys::parse(&keys)?))
}

/// Takes the keys of a cluster again and again. While they cannot be had, they stay as they were.
pub(super) async fn follow(client: Client, issuer: Arc<Issuer>) {
    loop {
        time::sleep(INTERVAL).await;
        match keys(&client).await {
            Ok((name, keys)) if name == issuer.name => issuer.replace(keys),
            Ok((name, _)) => tracing::error!("the cluster signs tokens as {name} now; this process has to start again"),
            Err(why) => tracing::debug!("the keys of the cluster's tokens stay as they were: {why}"),
        }
    }
}
