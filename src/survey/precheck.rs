//! What would be in the way of an installation.

use super::{Finding, Survey, ordered, pods};
use crate::{
    install::{Cluster, Component, KINDS, Release, called, render},
    model::Mesh,
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The oldest minor version of Kubernetes 1 that has what is used: conditions of webhooks, and applying server-side.
const OLDEST: u64 = 28;

/// What is in the way of installing this revision; nothing where it can go ahead.
///
/// # Errors
///
/// When the API server does not say.
pub async fn precheck(cluster: &Cluster, survey: &Survey) -> Result<Vec<Finding>, String> {
    let mut found = version(cluster).await?;
    found.extend(rights(cluster, &survey.namespace).await?);
    found.extend(definitions(cluster).await?);
    found.extend(others(survey));
    found.extend(survey.served(Mesh::default(), false));
    found.extend(pods::room(survey));
    Ok(ordered(found))
}

async fn version(cluster: &Cluster) -> Result<Vec<Finding>, String> {
    let version = cluster.ask("GET", "/version", &Value::Null).await?.unwrap_or_default();
    let minor = version["minor"].as_str().unwrap_or_default().trim_end_matches(|c: char| !c.is_ascii_digit());
    let shown = version["gitVersion"].as_str().unwrap_or("unknown");
    Ok(match minor.parse::<u64>() {
        Ok(minor) if minor >= OLDEST => Vec::new(),
        Ok(_) => {
            let what = format!("is {shown}, and what is installed needs 1.{OLDEST} at least");
            vec![Finding::error("Kubernetes", what)]
        }
        Err(_) => vec![Finding::warning("Kubernetes", format!("its version, {shown}, cannot be told"))],
    })
}

/// What the one who asks may not do, and installing does.
async fn rights(cluster: &Cluster, namespace: &str) -> Result<Vec<Finding>, String> {
    let mut found = Vec::new();
    for kind in KINDS {
        let mut missing = Vec::new();
        for verb in ["get", "create", "patch", "delete"] {
            let place = if kind.namespaced { namespace } else { "" };
            let asked = json!({ "resource": kind.plural, "group": kind.group, "verb": verb, "namespace": place });
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": { "resourceAttributes": asked },
            });
            let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
            let answer = cluster.ask("POST", path, &review).await?.unwrap_or_default();
            if answer["status"]["allowed"] != true {
                missing.push(verb);
            }
        }
        if !missing.is_empty() {
            let what =
                format!("you may not {}: ask for the right, or let somebody install who has it", missing.join(", "));
            found.push(Finding::error(kind.plural, what));
        }
    }
    Ok(found)
}

/// Definitions of the mesh's kinds that are there and are not what this installation brings.
async fn definitions(cluster: &Cluster) -> Result<Vec<Finding>, String> {
    let release = Release { name: "istio-base".into(), namespace: "istio-system".into(), service: "mainsheet" };
    let mut found = Vec::new();
    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for wanted in render(Component::Base, &release, &json!({}))? {
        let Some(live) = cluster.get(&wanted).await? else { continue };
        let versions = |object: &Value| -> Vec<String> {
            let all = object["spec"]["versions"].as_array().into_iter().flatten().filter(|v| v["served"] == true);
            all.filter_map(|v| v["name"].as_str()).map(str::to_owned).collect()
        };
        let there = versions(&live);
        let missing: Vec<String> = versions(&wanted).into_iter().filter(|v| !there.contains(v)).collect();
        if !missing.is_empty() {
            let what = format!("does not serve {}; have its owner upgrade it, or take it over", missing.join(", "));
            found.push(Finding::error(called(&wanted), what));
        }
        let (labels, annotations) = (&live["metadata"]["labels"], &live["metadata"]["annotations"]);
        if labels["mainsheet.io/release"].is_null() {
            let owner = match annotations["meta.helm.sh/release-name"].as_str() {
                Some(release) => format!("Helm's release {release}"),
                None => "somebody else".into(),
            };
            *owners.entry(owner).or_default() += 1;
        }
    }
    for (owner, count) in owners {
        let what = format!(
            "{count} of them were made by {owner}: leave base out (--component istiod), or replace them (--take-over)"
        );
        found.push(Finding::warning("definitions of the mesh's kinds", what));
    }
    Ok(found)
}

/// Other control planes that inject the same pods.
fn others(survey: &Survey) -> Vec<Finding> {
    let mut found = Vec::new();
    for object in survey.of_kind("MutatingWebhookConfiguration") {
        let injects = |w: &&Value| w["name"].as_str().is_some_and(|name| name.ends_with("sidecar-injector.istio.io"));
        let Some(webhook) = object["webhooks"].as_array().into_iter().flatten().find(injects) else { continue };
        let labels = &object["metadata"]["labels"];
        let silent = webhook["namespaceSelector"]["matchLabels"]["istio.io/deactivated"] == "never-match";
        if labels["mainsheet.io/release"].is_string() || silent || !survey.is_of(&labels["istio.io/rev"]) {
            continue;
        }
        let service = &webhook["clientConfig"]["service"];
        let whose = match (service["name"].as_str(), service["namespace"].as_str()) {
            (Some(name), Some(namespace)) => format!("{name}.{namespace}"),
            _ => webhook["clientConfig"]["url"].as_str().unwrap_or("another control plane").to_owned(),
        };
        let what = format!(
            "has {whose} inject the pods of this revision; install with another (--revision mainsheet) beside it, or have it \
             replaced (docs/migration.md)"
        );
        found.push(Finding::error(called(object), what));
    }
    found
}
