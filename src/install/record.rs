//! What is noted of an installation: a ConfigMap with what it was made of, and labels of all that it has made.

use super::{
    Cluster, Component, Release,
    cluster::{CONFIG_MAP, KINDS},
};
use serde_json::{Value, json};

/// Which part an object belongs to.
const COMPONENT: &str = "mainsheet.io/component";
/// Which release of it.
const RELEASE: &str = "mainsheet.io/release";
/// The release's namespace.
const NAMESPACE: &str = "mainsheet.io/namespace";

/// An installation of one part.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) component: Component,
    pub(super) release: Release,
    /// What the user has given.
    pub(super) values: Value,
}

impl Record {
    /// The revision; none for the default one.
    pub(super) fn revision(&self) -> &str {
        super::revision(&self.values)
    }

    /// What it is called in messages.
    pub(super) fn called(&self) -> String {
        format!("{} ({}/{})", self.component, self.release.namespace, self.release.name)
    }

    /// What it comes to: the objects of its chart, labelled, and what is noted.
    pub(super) fn objects(&self) -> Result<Vec<Value>, String> {
        let mut objects = super::render(self.component, &self.release, &self.values)?;
        objects.push(json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": { "name": self.name(), "namespace": self.release.namespace },
            "data": {
                "component": self.component.name(),
                "release": self.release.name,
                "values": self.values.to_string(),
                "version": env!("CARGO_PKG_VERSION"),
            },
        }));
        let labels =
            [(COMPONENT, self.component.name()), (RELEASE, &self.release.name), (NAMESPACE, &self.release.namespace)];
        for object in &mut objects {
            for (key, value) in labels {
                object["metadata"]["labels"][key] = value.into();
            }
        }
        Ok(objects)
    }

    fn name(&self) -> String {
        format!("mainsheet-installed-{}", self.release.name)
    }

    /// What finds all that it has made.
    fn selector(&self) -> String {
        let Release { name, namespace, .. } = &self.release;
        format!("{COMPONENT}={},{RELEASE}={name},{NAMESPACE}={namespace}", self.component)
    }

    /// What it has made and is there, the last applied first and what is noted last of all.
    pub(super) async fn made(&self, cluster: &Cluster) -> Result<Vec<Value>, String> {
        let mut all = Vec::new();
        for kind in KINDS.into_iter().rev() {
            all.extend(cluster.list(kind, None, &self.selector()).await?);
        }
        let noted = |object: &Value| object["kind"] == "ConfigMap" && object["metadata"]["name"] == self.name();
        all.sort_by_key(noted);
        Ok(all)
    }
}

/// The installations of a namespace, in the order in which they are made.
pub(super) async fn all(cluster: &Cluster, namespace: &str) -> Result<Vec<Record>, String> {
    let mut records = Vec::new();
    for object in cluster.list(CONFIG_MAP, Some(namespace), RELEASE).await? {
        let data = &object["data"];
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        if !name.starts_with("mainsheet-installed-") {
            continue;
        }
        let component = data["component"].as_str().unwrap_or_default().parse();
        let values = serde_json::from_str(data["values"].as_str().unwrap_or_default());
        let (Ok(component), Ok(values)) = (component, values) else {
            return Err(format!("ConfigMap {namespace}/{name} is not what an installation notes; install it again"));
        };
        let release = data["release"].as_str().unwrap_or_default().to_owned();
        let release = Release { name: release, namespace: namespace.to_owned(), service: super::apply::INSTALLER };
        records.push(Record { component, release, values });
    }
    records.sort_by_key(|record| (record.component, record.release.name.clone()));
    Ok(records)
}

/// Whom an object belongs to that this installation did not make; nothing where it may be changed.
pub(super) fn owner(live: &Value, mine: &Value) -> Option<String> {
    let (labels, annotations) = (&live["metadata"]["labels"], &live["metadata"]["annotations"]);
    let wanted = &mine["metadata"]["labels"];
    if [RELEASE, NAMESPACE].iter().all(|key| labels[*key] == wanted[*key]) {
        return None;
    }
    let text = |value: &Value| value.as_str().map(str::to_owned);
    if let Some(release) = text(&annotations["meta.helm.sh/release-name"]) {
        let namespace = text(&annotations["meta.helm.sh/release-namespace"]).unwrap_or_default();
        return Some(format!("Helm's release {release} in {namespace}"));
    }
    if let Some(release) = text(&labels[RELEASE]) {
        return Some(format!("the installation {release} in {}", text(&labels[NAMESPACE]).unwrap_or_default()));
    }
    if labels["install.operator.istio.io/owning-resource"].is_string() {
        return Some("an installation by istioctl".into());
    }
    let manager = text(&labels["app.kubernetes.io/managed-by"]);
    Some(manager.map_or_else(|| "somebody else".into(), |manager| format!("an installation by {manager}")))
}
