//! Whether what is installed works: pods run, definitions are served, webhooks can be called.

use super::{Cluster, Finding, cluster::CONFIG_MAP};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How often it is looked again.
const PAUSE: Duration = Duration::from_millis(500);

/// Waits until installed objects work.
///
/// # Errors
///
/// When they do not after this long, with what does not; or when the API server does not say.
pub async fn wait(cluster: &Cluster, objects: &[Value], longest: Duration) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let mut found = Vec::new();
        for object in objects.iter().filter(|object| is_looked_at(object)) {
            let live = cluster.get(object).await?;
            found.extend(look(cluster, object, live.as_ref()).await?);
        }
        if found.is_empty() {
            return Ok(());
        }
        if started.elapsed() >= longest {
            let all: String = found.iter().map(|finding| format!("\n  {finding}")).collect();
            return Err(format!("everything is applied, and after {} s this is not ready:{all}", longest.as_secs()));
        }
        sleep(PAUSE).await;
    }
}

fn is_looked_at(object: &Value) -> bool {
    let kind = object["kind"].as_str().unwrap_or_default();
    matches!(kind, "Deployment" | "DaemonSet" | "CustomResourceDefinition") || !object["webhooks"].is_null()
}

/// What keeps an object that is there from working.
pub(super) async fn look(cluster: &Cluster, object: &Value, live: Option<&Value>) -> Result<Vec<Finding>, String> {
    let Some(live) = live else { return Ok(vec![Finding::new(object, "is not there", "install it again")]) };
    let finding = |what: String, todo: String| Ok(vec![Finding::new(object, what, todo)]);
    match object["kind"].as_str().unwrap_or_default() {
        "Deployment" | "DaemonSet" => match pods(object, live) {
            Some(what) => {
                let (name, namespace) = (&object["metadata"]["name"], &object["metadata"]["namespace"]);
                let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
                let (name, namespace) = (name.as_str().unwrap_or("?"), namespace.as_str().unwrap_or("?"));
                finding(what, format!("`kubectl -n {namespace} describe {kind}/{name}` and its pods say why"))
            }
            None => Ok(Vec::new()),
        },
        "CustomResourceDefinition" => match condition(live, "Established") {
            Some(c) if c["status"] == "True" => Ok(Vec::new()),
            c => {
                let why = c.and_then(|c| c["message"].as_str()).unwrap_or("the API server has not said so yet");
                finding(format!("is not served: {why}"), "wait, or look at its conditions".into())
            }
        },
        "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration" => webhooks(cluster, object, live).await,
        _ => Ok(Vec::new()),
    }
}

fn condition<'a>(live: &'a Value, name: &str) -> Option<&'a Value> {
    live["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == name)
}

/// What is wrong with the pods of a Deployment or DaemonSet.
fn pods(object: &Value, live: &Value) -> Option<String> {
    let status = &live["status"];
    let count = |name: &str| status[name].as_i64().unwrap_or(0);
    if count("observedGeneration") < live["metadata"]["generation"].as_i64().unwrap_or(0) {
        return Some("the newest version is not rolled out: no controller has looked at it yet".into());
    }
    let (wanted, updated, ready) = match object["kind"] == "DaemonSet" {
        true => (count("desiredNumberScheduled"), count("updatedNumberScheduled"), count("numberAvailable")),
        false => (live["spec"]["replicas"].as_i64().unwrap_or(1), count("updatedReplicas"), count("availableReplicas")),
    };
    if updated >= wanted && ready >= wanted {
        return None;
    }
    let failure = ["ReplicaFailure", "Progressing"].iter().find_map(|name| condition(live, name));
    let why = failure.and_then(|c| c["message"].as_str()).map_or_else(String::new, |why| format!(" ({why})"));
    Some(format!("{ready} of {wanted} pods are ready, {updated} of the newest version{why}"))
}

/// Whether the API server can call webhooks, and knows by the authority's root whom it calls.
async fn webhooks(cluster: &Cluster, object: &Value, live: &Value) -> Result<Vec<Finding>, String> {
    let mut found = Vec::new();
    let all: Vec<&Value> = live["webhooks"].as_array().into_iter().flatten().collect();
    let of = all.iter().find_map(|w| w["clientConfig"]["service"]["namespace"].as_str());
    let Some(namespace) = of else { return Ok(found) };
    let roots = cluster.find(CONFIG_MAP, namespace, "istio-ca-root-cert").await?.unwrap_or_default();
    let root = roots["data"]["root-cert.pem"].as_str().unwrap_or_default().trim().to_owned();
    let log = format!("the log of the control plane in {namespace} says what it may not write");
    for webhook in all {
        let name = webhook["name"].as_str().unwrap_or_default();
        let bundle = webhook["clientConfig"]["caBundle"].as_str().unwrap_or_default();
        let told = STANDARD.decode(bundle).map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned());
        let (what, todo) = match told {
            _ if bundle.is_empty() => ("has no caBundle: the control plane has not written it yet", log.as_str()),
            Ok(told) if root.is_empty() || told == root => continue,
            _ => (
                "has a caBundle that is not the authority's root, so the API server cannot call it",
                "remove the caBundle; the control plane writes it anew",
            ),
        };
        found.push(Finding::new(object, format!("{name} {what}"), todo));
    }
    if root.is_empty() && found.is_empty() {
        let what = "nobody can tell whether its caBundle is right: there is no ConfigMap istio-ca-root-cert";
        found.push(Finding::new(object, what, log));
    }
    Ok(found)
}
