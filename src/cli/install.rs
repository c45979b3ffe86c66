//! `mainsheet install`, `uninstall`, `verify` and `tag`.

use super::offline::{exit, write};
use crate::{
    install::{self, Cluster, Component, Install, Uninstall, Values},
    parse::yaml,
    source::kubernetes,
};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::{Args, Subcommand};
use serde_json::Value;
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

/// Which cluster, and where in it.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The kubeconfig; without it that of KUBECONFIG, of ~/.kube/config, or of the pod that this runs in.
    #[arg(long, value_name = "FILE")]
    pub(super) kubeconfig: Option<PathBuf>,
    /// The namespace.
    #[arg(long, short, alias = "istioNamespace", default_value = "istio-system", value_name = "NAME")]
    pub(super) namespace: String,
}

impl Place {
    /// The cluster.
    pub(super) async fn cluster(&self) -> Result<Cluster> {
        let client = kubernetes::connect(self.kubeconfig.as_deref()).await.context("finding the API server")?;
        Ok(Cluster::new(client))
    }
}

/// `mainsheet install`.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    place: Place,
    /// What to install; the values go to the chart of each.
    #[arg(long, value_delimiter = ',', default_value = "base,istiod", value_name = "base|istiod|cni|gateway")]
    component: Vec<Component>,
    /// Values for the charts, as a YAML file; may be given several times.
    #[arg(long, short = 'f', value_name = "FILE")]
    values: Vec<PathBuf>,
    /// A value for the charts, as --set global.hub=registry.example; may be given several times.
    #[arg(long, value_name = "NAME=VALUE")]
    set: Vec<String>,
    /// The same, and it is a text whatever it looks like.
    #[arg(long, value_name = "NAME=VALUE")]
    set_string: Vec<String>,
    /// The revision, for several control planes beside each other.
    #[arg(long, short, value_name = "NAME")]
    revision: Option<String>,
    /// The name of the release; for a gateway also that of its objects.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Print the objects, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Replace objects that others have made: Helm, istioctl, or another release.
    #[arg(long)]
    take_over: bool,
    /// How long to wait until all works; 0s for not at all.
    #[arg(long, default_value = "300s", value_name = "DURATION", value_parser = crate::config::duration)]
    timeout: Duration,
}

/// `mainsheet uninstall`.
#[derive(Debug, Args)]
pub(super) struct Remove {
    #[command(flatten)]
    place: Place,
    /// The revision; `default` is that without a name.
    #[arg(long, short, default_value = "default", value_name = "NAME")]
    revision: String,
    /// What to remove of it.
    #[arg(long, value_delimiter = ',', default_value = "istiod", value_name = "istiod|cni|gateway")]
    component: Vec<Component>,
    /// The name of the release, where there are several.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Remove every part of every revision in this namespace, and the definitions of the mesh's kinds with all objects.
    #[arg(long)]
    purge: bool,
}

/// `mainsheet verify`.
#[derive(Debug, Args)]
pub(super) struct Verify {
    #[command(flatten)]
    place: Place,
    /// The revision; without it all that are installed in the namespace.
    #[arg(long, short, value_name = "NAME")]
    revision: Option<String>,
    /// Objects to compare with instead, as `helm get manifest` prints them; `-` for the standard input.
    #[arg(long, short, value_name = "FILE")]
    file: Option<PathBuf>,
}

/// `mainsheet tag`.
#[derive(Debug, Subcommand)]
pub(super) enum Tag {
    /// Give a revision a further name, or move the name there.
    Set(SetTag),
    /// List the tags and who names them.
    #[command(alias = "show")]
    List(Place),
    /// Take a tag away.
    #[command(alias = "delete")]
    Remove(RemoveTag),
}

/// `mainsheet tag set`.
#[derive(Debug, Args)]
pub(super) struct SetTag {
    /// The tag; `default` is for namespaces that say istio-injection=enabled, and for objects that name no revision.
    name: String,
    /// The revision that it leads to.
    #[arg(long, short, value_name = "NAME")]
    revision: String,
    /// Move it, if it leads to another revision.
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    place: Place,
}

/// `mainsheet tag remove`.
#[derive(Debug, Args)]
pub(super) struct RemoveTag {
    /// The tag.
    name: String,
    /// Also where namespaces name it, whose pods get no sidecar then.
    #[arg(long, short = 'y', alias = "skip-confirmation")]
    force: bool,
    #[command(flatten)]
    place: Place,
}

pub(super) fn install(options: &Options) -> Result<ExitCode> {
    let what = what(options)?;
    if options.dry_run {
        let mut text = String::new();
        for object in what.objects().map_err(|why| anyhow!(why))? {
            text.push_str("---\n");
            text.push_str(&serde_norway::to_string(&object)?);
        }
        write(text.as_bytes())?;
        return Ok(ExitCode::SUCCESS);
    }
    super::pod::runtime()?.block_on(async {
        let cluster = options.place.cluster().await?;
        let objects = install::install(&cluster, &what, say).await.map_err(|why| anyhow!(why))?;
        if !options.timeout.is_zero() {
            install::wait(&cluster, &objects, options.timeout).await.map_err(|why| anyhow!(why))?;
            say("everything is ready".into());
        }
        Ok(ExitCode::SUCCESS)
    })
}

fn what(options: &Options) -> Result<Install> {
    let mut values = Values { set: options.set.clone(), set_string: options.set_string.clone(), files: Vec::new() };
    for file in &options.values {
        let text = fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))?;
        match yaml::value(&text).with_context(|| file.display().to_string())? {
            Value::Null => {}
            value @ Value::Object(_) => values.files.push(value),
            _ => bail!("{} is no map of values", file.display()),
        }
    }
    let mut values = install::merge(&values).map_err(|why| anyhow!("--set {why}"))?;
    match (options.revision.as_deref(), install::revision(&values)) {
        (Some(flag), value) if !value.is_empty() && value != flag => {
            bail!("--revision is {flag}, and the value `revision` is {value}; give one of them")
        }
        // The default revision has no name.
        (Some("default"), _) => values["revision"] = "".into(),
        (Some(flag), _) => values["revision"] = flag.into(),
        (None, _) => {}
    }
    let components = options.component.clone();
    if options.name.is_some() && components.len() != 1 {
        bail!("--name is for a single part; give --component with it");
    }
    Ok(Install {
        components,
        namespace: options.place.namespace.clone(),
        name: options.name.clone(),
        values,
        take_over: options.take_over,
    })
}

pub(super) fn uninstall(options: &Remove) -> Result<ExitCode> {
    if options.component.contains(&Component::Base) && !options.purge {
        bail!("base has the definitions of the mesh's kinds, and all objects go with them; --purge removes it");
    }
    let what = Uninstall {
        namespace: options.place.namespace.clone(),
        revision: options.revision.clone(),
        components: options.component.clone(),
        name: options.name.clone(),
        purge: options.purge,
    };
    super::pod::runtime()?.block_on(async {
        let cluster = options.place.cluster().await?;
        install::uninstall(&cluster, &what, say).await.map_err(|why| anyhow!(why))?;
        Ok(ExitCode::SUCCESS)
    })
}

pub(super) fn verify(options: &Verify) -> Result<ExitCode> {
    let text = options.file.as_deref().map(read).transpose()?;
    let namespace = options.place.namespace.as_str();
    let looked = super::pod::runtime()?.block_on(async {
        let cluster = options.place.cluster().await?;
        let done = match &text {
            Some(text) => install::verify_manifest(&cluster, text, namespace).await,
            None => install::verify(&cluster, namespace, options.revision.as_deref()).await,
        };
        done.map_err(|why| anyhow!(why))
    });
    let (count, found) = looked?;
    let mut lines: String = found.iter().map(|finding| format!("{finding}\n")).collect();
    lines.push_str(&match found.len() {
        0 => format!("{count} objects are as they should be, and ready\n"),
        wrong => format!("{wrong} findings in {count} objects\n"),
    });
    write(lines.as_bytes())?;
    Ok(exit(!found.is_empty()))
}

pub(super) fn tag(command: &Tag) -> Result<ExitCode> {
    let place = match command {
        Tag::Set(options) => &options.place,
        Tag::List(place) => place,
        Tag::Remove(options) => &options.place,
    };
    super::pod::runtime()?.block_on(async {
        let cluster = place.cluster().await?;
        let namespace = place.namespace.as_str();
        let text = match command {
            Tag::Set(options) => {
                let of = (options.name.as_str(), options.revision.as_str());
                let done = install::set_tag(&cluster, namespace, of, options.overwrite).await;
                let lines: String = done.map_err(|why| anyhow!(why))?.iter().map(|l| format!("{l}\n")).collect();
                format!("{lines}the tag {} leads to the revision {}\n", options.name, options.revision)
            }
            Tag::List(_) => {
                let tags = install::tags(&cluster, namespace).await.map_err(|why| anyhow!(why))?;
                let line = |t: &install::Tag| format!("{:<20} {:<20} {}\n", t.name, t.revision, t.namespaces.join(","));
                format!("{:<20} {:<20} NAMESPACES\n", "TAG", "REVISION") + &tags.iter().map(line).collect::<String>()
            }
            Tag::Remove(options) => {
                let done = install::remove_tag(&cluster, namespace, &options.name, options.force).await;
                done.map_err(|why| anyhow!(why))?.iter().map(|line| format!("{line}: removed\n")).collect()
            }
        };
        write(text.as_bytes())?;
        Ok(ExitCode::SUCCESS)
    })
}

fn read(file: &Path) -> Result<String> {
    if file != Path::new("-") {
        return fs::read_to_string(file).with_context(|| format!("reading {}", file.display()));
    }
    let mut text = String::new();
    std::io::stdin().read_to_string(&mut text).context("reading the standard input")?;
    Ok(text)
}

/// Tells of what was done; the results of commands go to the standard output, and this does not.
fn say(line: String) {
    eprintln!("{line}");
}
