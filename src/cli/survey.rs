//! `mainsheet x precheck` and `mainsheet migrate check`: what is in the way, and what would be different.

use super::{
    Output, Report,
    install::Place,
    offline::{exit, print, write},
};
use crate::{
    problem::Severity,
    source::files,
    survey::{self, Finding, Survey},
};
use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// `mainsheet x`.
#[derive(Debug, Subcommand)]
pub(super) enum X {
    /// Tell what in a cluster is in the way of an installation. Nothing is changed.
    Precheck(Precheck),
}

/// `mainsheet migrate`.
#[derive(Debug, Subcommand)]
pub(super) enum Migrate {
    /// Tell what would be different if mainsheet took istiod's place. Nothing is changed.
    Check(Check),
}

/// `mainsheet x precheck`.
#[derive(Debug, Args)]
pub(super) struct Precheck {
    #[command(flatten)]
    place: Place,
    /// The revision that is to be installed.
    #[arg(long, short, default_value = "", hide_default_value = true, value_name = "NAME")]
    revision: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Report,
}

/// `mainsheet migrate check`.
#[derive(Debug, Args)]
pub(super) struct Check {
    #[command(flatten)]
    place: Place,
    /// The revision of the istiod that is to be replaced; without it that without a name.
    #[arg(long, short, default_value = "", hide_default_value = true, value_name = "NAME")]
    revision: String,
    /// Files or directories with the cluster's objects, instead of a cluster.
    #[arg(long = "file", short, value_name = "FILE|DIR", num_args = 1..)]
    files: Vec<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Report,
}

pub(super) fn x(command: &X) -> Result<ExitCode> {
    let X::Precheck(options) = command;
    let found = super::pod::runtime()?.block_on(async {
        let cluster = options.place.cluster().await?;
        let survey = options.place.survey(&cluster, &options.revision).await?;
        survey::precheck(&cluster, &survey).await.map_err(|why| anyhow!(why))
    })?;
    report(&found, options.output, "nothing is in the way of an installation")
}

pub(super) fn migrate(command: &Migrate) -> Result<ExitCode> {
    let Migrate::Check(options) = command;
    let survey = match options.files.is_empty() {
        true => super::pod::runtime()?.block_on(async {
            let cluster = options.place.cluster().await?;
            options.place.survey(&cluster, &options.revision).await
        })?,
        false => {
            let mut objects = Vec::new();
            options.files.iter().try_for_each(|path| load(path, &mut objects))?;
            Survey { objects, namespace: options.place.namespace.clone(), revision: options.revision.clone() }
        }
    };
    report(
        &survey.migration(),
        options.output,
        "nothing would be different but what docs/differences-from-istiod.md lists",
    )
}

impl Place {
    async fn survey(&self, cluster: &crate::install::Cluster, revision: &str) -> Result<Survey> {
        let objects = survey::read(cluster, &self.namespace).await.map_err(|why| anyhow!(why))?;
        Ok(Survey { objects, namespace: self.namespace.clone(), revision: revision.to_owned() })
    }
}

/// The objects of a file, or of all files below a directory; those of a List one by one.
fn load(path: &Path, objects: &mut Vec<Value>) -> Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path).with_context(|| format!("reading {}", path.display()))?;
        let mut paths = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<PathBuf>>>()?;
        paths.sort();
        let is_read =
            |p: &&PathBuf| p.is_dir() || p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        return paths.iter().filter(is_read).try_for_each(|path| load(path, objects));
    }
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    for (number, document) in files::documents(&text) {
        let object = document.map_err(|why| anyhow!("{}: document {number} {why}", path.display()))?;
        match object["kind"]
            .as_str()
            .is_some_and(|kind| kind.ends_with("List"))
            .then(|| object["items"].as_array())
            .flatten()
        {
            Some(items) => objects.extend(items.iter().cloned()),
            None => objects.push(object),
        }
    }
    Ok(())
}

fn report(found: &[Finding], output: Report, nothing: &str) -> Result<ExitCode> {
    let all = || found.iter().map(Finding::to_json).collect::<Value>();
    let errors = found.iter().filter(|f| f.severity == Severity::Error).count();
    match output {
        Report::Json => print(&all(), Output::Json)?,
        Report::Yaml => print(&all(), Output::Yaml)?,
        Report::Text if found.is_empty() => write(format!("{nothing}\n").as_bytes())?,
        Report::Text => {
            let lines: String = found.iter().map(|f| format!("{f}\n")).collect();
            write(format!("{lines}{errors} errors, {} warnings\n", found.len() - errors).as_bytes())?;
        }
    }
    Ok(exit(errors > 0))
}
