//! Tags: further names of a revision, which namespaces and pods have as `istio.io/rev` and which can be moved from one
//! revision to another. They are the same objects that `istioctl tag` makes, so either finds those of the other.

use super::{
    Cluster, Component, Release,
    apply::INSTALLER,
    cluster::{SERVICE, called},
    render,
};
use crate::api::kind::{MUTATING_WEBHOOKS, NAMESPACE, VALIDATING_WEBHOOKS};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The tag by which namespaces that only say `istio-injection: enabled` find their control plane.
const DEFAULT: &str = "default";

/// A tag.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Tag {
    /// Its name.
    pub name: String,
    /// The revision that it leads to.
    pub revision: String,
    /// The namespaces that name it.
    pub namespaces: Vec<String>,
}

/// The tags of a control plane's namespace.
///
/// # Errors
///
/// When the API server does not say.
pub async fn list(cluster: &Cluster, namespace: &str) -> Result<Vec<Tag>, String> {
    let mut all = cluster.list(MUTATING_WEBHOOKS, None, "istio.io/tag").await?;
    all.retain(|object| leads_to(object).is_none_or(|to| to == namespace));
    all.extend(cluster.list(SERVICE, Some(namespace), "istio.io/tag").await?);
    let label = |object: &Value, name: &str| object["metadata"]["labels"][name].as_str().unwrap_or_default().to_owned();
    let found: BTreeMap<String, String> =
        all.iter().rev().map(|object| (label(object, "istio.io/tag"), label(object, "istio.io/rev"))).collect();
    let mut tags = Vec::new();
    for (name, revision) in found {
        let namespaces = cluster.list(NAMESPACE, None, &format!("istio.io/rev={name}")).await?;
        let mut namespaces: Vec<String> = namespaces.iter().map(name_of).collect();
        if name == DEFAULT {
            let enabled = cluster.list(NAMESPACE, None, "istio-injection=enabled").await?;
            namespaces.extend(enabled.iter().map(name_of));
        }
        namespaces.sort();
        tags.push(Tag { name, revision, namespaces });
    }
    Ok(tags)
}

fn name_of(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// The namespace of the control plane that a configuration of webhooks leads to.
fn leads_to(object: &Value) -> Option<&str> {
    object["webhooks"].as_array()?.iter().find_map(|w| w["clientConfig"]["service"]["namespace"].as_str())
}

/// The objects that a tag is made of.
pub(super) async fn objects(cluster: &Cluster, namespace: &str, name: &str) -> Result<Vec<Value>, String> {
    let labels = format!("istio.io/tag={name}");
    let mut all = cluster.list(MUTATING_WEBHOOKS, None, &labels).await?;
    all.extend(cluster.list(VALIDATING_WEBHOOKS, None, &labels).await?);
    all.retain(|object| leads_to(object).is_none_or(|to| to == namespace));
    all.extend(cluster.list(SERVICE, Some(namespace), &labels).await?);
    Ok(all)
}

/// Gives a revision a tag, or moves it there; and gives what was written.
///
/// # Errors
///
/// When there is no such revision, the name is another revision's, or the tag is there and is not to be moved; or when the
/// API server refuses something.
pub async fn set(
    cluster: &Cluster,
    namespace: &str,
    (name, revision): (&str, &str),
    overwrite: bool,
) -> Result<Vec<String>, String> {
    if !is_label(name) {
        return Err(format!("`{name}` is no name for a tag: write small letters, digits and `-`, 40 at most"));
    }
    let own = async |revision: &str| {
        let labels = format!("istio.io/rev={revision},!istio.io/tag");
        let mut found = cluster.list(MUTATING_WEBHOOKS, None, &labels).await?;
        found.retain(|object| leads_to(object).is_none_or(|to| to == namespace));
        Ok::<_, String>(found)
    };
    if name != DEFAULT && !overwrite && !own(name).await?.is_empty() {
        return Err(format!("{name} is the name of a revision; choose another for the tag"));
    }
    let found = own(revision).await?;
    let [injector] = found.as_slice() else {
        let why = if found.is_empty() { "there is none" } else { "there are several" };
        return Err(format!(
            "the revision {revision} in {namespace} should have one MutatingWebhookConfiguration, labelled istio.io/rev: \
             {revision}, and {why}; `mainsheet tag list` and `kubectl get mutatingwebhookconfigurations -L istio.io/rev` \
             show those that there are"
        ));
    };
    let before = list(cluster, namespace).await?.into_iter().find(|tag| tag.name == name);
    if let Some(tag) = before.filter(|tag| !overwrite && tag.revision != revision) {
        let (namespaces, of) = (tag.namespaces.len(), tag.revision);
        return Err(format!(
            "the tag {name} leads to {of}, for {namespaces} namespaces; --overwrite moves it to {revision}"
        ));
    }
    let mut written = Vec::new();
    for object in made(namespace, (name, revision), injector)? {
        cluster.apply(&object, false).await?;
        written.push(called(&object));
    }
    if name == DEFAULT {
        // Two would inject the pods of namespaces that name no revision.
        for object in own(DEFAULT).await? {
            cluster.patch(&object, &json!({ "webhooks": silenced(&object) })).await?;
            written.push(format!("{} (asked for nothing any more)", called(&object)));
        }
    }
    Ok(written)
}

/// Takes a tag away, and gives what was removed.
///
/// # Errors
///
/// When there is none, namespaces name it and it is not to go anyway, or the API server refuses something.
pub async fn remove(cluster: &Cluster, namespace: &str, name: &str, anyway: bool) -> Result<Vec<String>, String> {
    let found = objects(cluster, namespace, name).await?;
    if found.is_empty() {
        return Err(format!("there is no tag {name} in {namespace}"));
    }
    let tag = list(cluster, namespace).await?.into_iter().find(|tag| tag.name == name);
    let used = tag.map(|tag| tag.namespaces).filter(|names| !names.is_empty() && !anyway);
    if let Some(namespaces) = used {
        return Err(format!(
            "pods of these namespaces would get no sidecar any more: {}; move the tag (--overwrite), label them anew, or \
             remove it with --force",
            namespaces.join(", ")
        ));
    }
    let mut gone = Vec::new();
    for object in found {
        cluster.delete(&object).await?;
        gone.push(called(&object));
    }
    if name == DEFAULT {
        gone.extend(woken(cluster, namespace).await?);
    }
    Ok(gone)
}

/// What a tag is made of: what the charts make of it, with what the webhooks of the revision itself say of how it is called.
fn made(namespace: &str, (name, revision): (&str, &str), injector: &Value) -> Result<Vec<Value>, String> {
    let own = if revision == DEFAULT { "" } else { revision };
    let release = |component: Component| Release {
        name: component.release(own),
        namespace: namespace.to_owned(),
        service: INSTALLER,
    };
    let first = injector["webhooks"][0].clone();
    let values = json!({
        "revision": own, "revisionTags": [name], "defaultRevision": revision,
        "global": { "istioNamespace": namespace },
        "sidecarInjectorWebhook": {
            "reinvocationPolicy": first["reinvocationPolicy"].as_str().unwrap_or("Never"),
            "enableNamespacesByDefault": injector["webhooks"].as_array().into_iter().flatten()
                .any(|w| w["name"].as_str().is_some_and(|n| n.starts_with("auto."))),
        },
    });
    let mut all = render(Component::Istiod, &release(Component::Istiod), &values)?;
    all.retain(|object| object["metadata"]["labels"]["istio.io/tag"] == name);
    if name == DEFAULT {
        let base = render(Component::Base, &release(Component::Base), &values)?;
        all.extend(base.into_iter().filter(|object| object["kind"] == VALIDATING_WEBHOOKS.name));
    }
    for object in &mut all {
        object["metadata"]["labels"]["istio.io/tag"] = name.into();
        let injects = object["kind"] == MUTATING_WEBHOOKS.name;
        for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            webhook["clientConfig"]["caBundle"] = first["clientConfig"]["caBundle"].clone();
            if injects {
                webhook["clientConfig"] = first["clientConfig"].clone();
            }
            if webhook["clientConfig"]["caBundle"].is_null() {
                // The control plane writes it.
                webhook["clientConfig"].as_object_mut().map(|config| config.remove("caBundle"));
            }
        }
    }
    Ok(all)
}

/// The webhooks of a configuration, so that they are asked for nothing; as istioctl does it.
fn silenced(object: &Value) -> Value {
    let never = json!({ "matchLabels": { "istio.io/deactivated": "never-match" } });
    let quiet = |webhook: &Value| {
        let mut webhook = webhook.clone();
        webhook["namespaceSelector"] = never.clone();
        webhook["objectSelector"] = never.clone();
        webhook
    };
    object["webhooks"].as_array().into_iter().flatten().map(quiet).collect()
}

/// Lets the webhooks of the revision without a name be asked again, for what the chart says.
async fn woken(cluster: &Cluster, namespace: &str) -> Result<Vec<String>, String> {
    let release = Release { name: "istiod".into(), namespace: namespace.to_owned(), service: INSTALLER };
    let chart = render(
        Component::Istiod,
        &release,
        &json!({ "sidecarInjectorWebhook": { "enableNamespacesByDefault": true } }),
    )?;
    let chart = chart.into_iter().find(|o| o["kind"] == MUTATING_WEBHOOKS.name).unwrap_or_default();
    let mut done = Vec::new();
    for object in cluster.list(MUTATING_WEBHOOKS, None, "istio.io/rev=default,!istio.io/tag").await? {
        if leads_to(&object) != Some(namespace) {
            continue;
        }
        let mut webhooks = object["webhooks"].clone();
        for webhook in webhooks.as_array_mut().into_iter().flatten() {
            let should = chart["webhooks"].as_array().into_iter().flatten().find(|w| w["name"] == webhook["name"]);
            for field in ["namespaceSelector", "objectSelector"] {
                if let Some(should) = should {
                    webhook[field] = should[field].clone();
                }
            }
        }
        cluster.patch(&object, &json!({ "webhooks": webhooks })).await?;
        done.push(format!("{} (asked again)", called(&object)));
    }
    Ok(done)
}

/// Whether a text can be part of the name of a Service.
fn is_label(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=40).contains(&text.len())
        && text.chars().all(|c| plain(c) || c == '-')
        && text.starts_with(plain)
        && text.ends_with(plain)
}
