//! Removing what was installed.

use super::{
    Cluster, Component,
    cluster::{CUSTOM_RESOURCE_DEFINITION, called},
    record::{self, Record},
    tag,
};

/// What is to be removed.
#[derive(Clone, Debug)]
pub struct Uninstall {
    /// Where it is.
    pub namespace: String,
    /// Of which revision; `default` is that without a name.
    pub revision: String,
    /// The parts.
    pub components: Vec<Component>,
    /// The release, where there are several of a part.
    pub name: Option<String>,
    /// Everything of every revision, with the definitions of the mesh's kinds and so all objects of them.
    pub purge: bool,
}

/// Whether an installation is of a revision.
pub(super) fn is_of(record: &Record, revision: &str) -> bool {
    let own = record.revision();
    record.component == Component::Base || own == revision || own.is_empty() && matches!(revision, "" | "default")
}

impl Uninstall {
    fn chooses(&self, record: &Record) -> bool {
        if self.purge {
            return true;
        }
        let named = self.name.as_ref().is_none_or(|name| *name == record.release.name);
        record.component != Component::Base
            && self.components.contains(&record.component)
            && is_of(record, &self.revision)
            && named
    }
}

/// Removes what an installation has made, and tells of it.
///
/// # Errors
///
/// When there is nothing of that, tags still lead to it, or the API server refuses something.
pub async fn uninstall(cluster: &Cluster, what: &Uninstall, mut tell: impl FnMut(String)) -> Result<(), String> {
    let records = record::all(cluster, &what.namespace).await?;
    let (chosen, kept): (Vec<Record>, Vec<Record>) = records.into_iter().partition(|record| what.chooses(record));
    if chosen.is_empty() {
        let there: String =
            kept.iter().map(|r| format!("\n  {}, revision {}", r.called(), shown(r.revision()))).collect();
        let there = if there.is_empty() { " nothing".to_owned() } else { there };
        return Err(format!(
            "in {} nothing was installed by `mainsheet install` that this names; there is:{there}\nWhat Helm has \
             installed, `helm uninstall` removes",
            what.namespace
        ));
    }
    for record in chosen.iter().filter(|record| record.component == Component::Istiod) {
        tags(cluster, record, what, &mut tell).await?;
    }
    for record in chosen.iter().rev() {
        let mut count = 0;
        for object in record.made(cluster).await? {
            cluster.delete(&object).await?;
            count += 1;
        }
        tell(format!("{}: {count} objects are removed", record.called()));
    }
    if !what.purge {
        let definitions = cluster.list(CUSTOM_RESOURCE_DEFINITION, None, "").await?;
        let ours = definitions.iter().filter(|d| d["spec"]["group"].as_str().is_some_and(|g| g.ends_with(".istio.io")));
        tell(format!("{} definitions of the mesh's kinds stay, with all objects of them", ours.count()));
    }
    tell(format!(
        "the authority's key (Secret istio-ca-secret or cacerts in {}), the roots in ConfigMaps istio-ca-root-cert and \
         the namespace stay",
        what.namespace
    ));
    Ok(())
}

/// Sees to the tags that lead to a control plane that goes: their webhooks would keep pods from being made.
async fn tags(
    cluster: &Cluster,
    record: &Record,
    what: &Uninstall,
    tell: &mut impl FnMut(String),
) -> Result<(), String> {
    let revision = shown(record.revision());
    for found in tag::list(cluster, &what.namespace).await?.into_iter().filter(|t| t.revision == revision) {
        if !what.purge {
            return Err(format!(
                "nothing was removed: the tag {name} leads to the revision {revision}, and pods of the namespaces that \
                 name it could not be made; move it (mainsheet tag set {name} --revision OTHER --overwrite) or remove it \
                 (mainsheet tag remove {name})",
                name = found.name
            ));
        }
        for object in tag::objects(cluster, &what.namespace, &found.name).await? {
            cluster.delete(&object).await?;
            tell(format!("{}: removed", called(&object)));
        }
    }
    Ok(())
}

fn shown(revision: &str) -> &str {
    if revision.is_empty() { "default" } else { revision }
}
