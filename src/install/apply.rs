//! Installing.

use super::{
    Cluster, Component, Release,
    cluster::called,
    record::{self, Record},
};
use serde_json::{Value, json};

/// Who installs, as charts are told.
pub(super) const INSTALLER: &str = "mainsheet";

/// What is to be installed.
#[derive(Clone, Debug)]
pub struct Install {
    /// The parts.
    pub components: Vec<Component>,
    /// Where.
    pub namespace: String,
    /// The name of the release, where it is not the usual one; for a single part.
    pub name: Option<String>,
    /// What the user has given for the charts; the same for each.
    pub values: Value,
    /// Whether objects may be replaced that somebody else has made.
    pub take_over: bool,
}

impl Install {
    /// The parts in the order in which they are applied, each with its objects.
    fn parts(&self) -> Result<Vec<(Record, Vec<Value>)>, String> {
        let revision = super::revision(&self.values);
        let mut components = self.components.clone();
        components.sort();
        components.dedup();
        let record = |component: Component| {
            let name = self.name.clone().unwrap_or_else(|| component.release(revision));
            let release = Release { name, namespace: self.namespace.clone(), service: INSTALLER };
            let record = Record { component, release, values: self.values.clone() };
            record.objects().map(|objects| (record, objects))
        };
        components.into_iter().map(record).collect()
    }

    /// All objects, in the order in which they are applied.
    ///
    /// # Errors
    ///
    /// When the values make no objects.
    pub fn objects(&self) -> Result<Vec<Value>, String> {
        Ok(self.parts()?.into_iter().flat_map(|(_, objects)| objects).collect())
    }
}

/// Installs, tells of what it does, and gives the objects that are there now.
///
/// # Errors
///
/// When objects belong to somebody else, before anything is written; or when the API server refuses something.
pub async fn install(cluster: &Cluster, what: &Install, mut tell: impl FnMut(String)) -> Result<Vec<Value>, String> {
    let parts = what.parts()?;
    let objects = || parts.iter().flat_map(|(_, objects)| objects);
    let found = foreign(cluster, objects()).await?;
    if !found.is_empty() && !what.take_over {
        let all: String =
            found.iter().map(|(live, owner)| format!("\n  {} belongs to {owner}", called(live))).collect();
        return Err(format!(
            "nothing was changed, as these objects were made by others:{all}\nLet their owner change them (helm \
             upgrade), leave their part out (--component), use a revision of its own (--revision), or replace them with \
             --take-over"
        ));
    }
    let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": what.namespace } });
    if cluster.get(&namespace).await?.is_none() {
        cluster.apply(&namespace, false).await?;
        tell(format!("{}: made", called(&namespace)));
    }
    for (live, owner) in &found {
        let mine = objects().find(|object| called(object) == called(live)).ok_or("what was found is among them")?;
        cluster.replace(&successor(mine, live)).await?;
        tell(format!("{}: taken over from {owner}", called(live)));
    }
    for (record, mine) in &parts {
        for object in mine {
            cluster.apply(object, false).await?;
        }
        let names: Vec<String> = mine.iter().map(called).collect();
        for old in record.made(cluster).await? {
            // Objects of a kind that is no longer defined go with its definition, so definitions stay.
            if old["kind"] != "CustomResourceDefinition" && !names.contains(&called(&old)) {
                cluster.delete(&old).await?;
                tell(format!("{}: removed, as these values make none", called(&old)));
            }
        }
        tell(format!("{}: {} objects are applied", record.called(), mine.len()));
    }
    Ok(parts.into_iter().flat_map(|(_, objects)| objects).collect())
}

/// The objects that are there and were not made by this installation, with their owners.
async fn foreign(cluster: &Cluster, objects: impl Iterator<Item = &Value>) -> Result<Vec<(Value, String)>, String> {
    let mut found = Vec::new();
    for object in objects {
        let Some(live) = cluster.get(object).await? else { continue };
        found.extend(record::owner(&live, object).map(|owner| (live, owner)));
    }
    Ok(found)
}

/// An object in the place of another: what the other says goes, but for the roots by which webhooks are known, as pods could
/// not be made before somebody writes them again.
fn successor(object: &Value, live: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = live["metadata"]["resourceVersion"].clone();
    let live: Vec<&Value> = live["webhooks"].as_array().into_iter().flatten().collect();
    for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
        let before = live.iter().find(|w| w["name"] == webhook["name"]);
        if let Some(bundle) = before.map(|w| &w["clientConfig"]["caBundle"]).filter(|b| b.is_string()) {
            webhook["clientConfig"]["caBundle"] = bundle.clone();
        }
    }
    object
}
