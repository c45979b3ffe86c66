//! Whether the API server asks before it takes an object: until it is seen to refuse one that is refused always, objects must
//! not be refused because nobody answers.

use super::validate::ALWAYS_REFUSED;
use hyper::{Request, header::CONTENT_TYPE};
use kube::Client;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::{sync::watch, time};

/// The shortest and the longest time between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Tries until the API server refuses, for our reason, and says so.
pub async fn prove(client: Client, namespace: String, revision: String, proven: watch::Sender<bool>) {
    let mut pause = PAUSES.0;
    let mut said = String::new();
    loop {
        match refused(&client, &namespace, &revision).await {
            Ok(()) => break,
            Err(why) if why != said => {
                tracing::info!(why, "validation is not asked yet");
                said = why;
            }
            Err(_) => {}
        }
        time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    tracing::info!("the API server asks validation before it takes objects");
    proven.send_replace(true);
    std::future::pending().await
}

/// Offers an object that is never to be stored.
async fn refused(client: &Client, namespace: &str, revision: &str) -> Result<(), String> {
    let revision = if revision.is_empty() { "default" } else { revision };
    let object = json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {
            "name": "mainsheet-validation-is-asked",
            "namespace": namespace,
            "labels": { "istio.io/rev": revision },
            "annotations": { ALWAYS_REFUSED: "true" },
        },
        "spec": { "servers": [{ "hosts": ["*"], "port": { "number": 80, "name": "http", "protocol": "HTTP" } }] },
    });
    let path = format!("/apis/networking.istio.io/v1/namespaces/{namespace}/gateways?dryRun=All");
    let request = Request::post(path).header(CONTENT_TYPE, "application/json").body(object.to_string().into_bytes());
    let request = request.map_err(|e| e.to_string())?;
    match client.request::<Value>(request).await {
        Ok(_) => Err("an object that is always refused was taken".into()),
        Err(kube::Error::Api(status)) if status.message.contains(ALWAYS_REFUSED) => Ok(()),
        // Where there is no such kind nobody can write one.
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}
