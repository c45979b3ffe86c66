//! `mainsheet inject`: pods in files get their sidecar.

use super::offline;
use crate::{
    parse::yaml,
    source::files,
    webhook::{Injector, Proxies, Settings, file, mesh},
};
use anyhow::{Context as _, Result, anyhow, bail};
use clap::Args;
use serde_json::{Value, json};
use std::{
    fs,
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// `mainsheet inject`.
#[derive(Debug, Args)]
pub(super) struct Options {
    /// The file with the objects, or `-` for the standard input. What has no pods is printed as it is.
    #[arg(short, long = "file", alias = "filename", value_name = "FILE")]
    file: PathBuf,
    /// Where to write; without this to the standard output.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// The templates: what the ConfigMap istio-sidecar-injector has as `config`. Without this those of the chart.
    #[arg(long, alias = "injectConfigFile", value_name = "FILE")]
    inject_config_file: Option<PathBuf>,
    /// Values for the templates: what the ConfigMap has as `values`, or some of them.
    #[arg(long, alias = "valuesFile", value_name = "FILE")]
    values_file: Option<PathBuf>,
    /// The mesh's settings, a MeshConfig as YAML.
    #[arg(long, alias = "meshConfigFile", alias = "mesh-config", value_name = "FILE")]
    mesh_config_file: Option<PathBuf>,
    /// The revision of the control plane.
    #[arg(long, default_value = "", hide_default_value = true, value_name = "NAME")]
    revision: String,
    /// The namespace of objects that do not say.
    #[arg(long, short, default_value = "", hide_default_value = true, value_name = "NAME")]
    namespace: String,
    /// Make sidecars containers that start before the pod's own and end after them; the cluster must know such.
    #[arg(long, env = "ENABLE_NATIVE_SIDECARS", value_parser = clap::builder::FalseyValueParser::new())]
    native_sidecars: bool,
}

pub(super) fn inject(options: &Options) -> Result<ExitCode> {
    let injector = injector(options)?;
    let text = match options.file == Path::new("-") {
        true => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("reading the standard input")?;
            text
        }
        false => read(&options.file)?,
    };
    let mut out = String::new();
    for (number, document) in files::documents(&text) {
        let mut object = document.map_err(|why| anyhow!("document {number} {why}"))?;
        let namespaceless = object["metadata"]["namespace"].is_null() && object["metadata"].is_object();
        if namespaceless && !options.namespace.is_empty() {
            object["metadata"]["namespace"] = options.namespace.as_str().into();
        }
        let made = file::object(&injector, options.native_sidecars, &object);
        let (made, said) = made.map_err(|why| anyhow!("document {number}: {why}"))?;
        said.iter().for_each(|text| eprintln!("mainsheet: {text}"));
        out.push_str(&serde_norway::to_string(&made)?);
        out.push_str("---\n");
    }
    match &options.output {
        Some(file) => fs::write(file, out).with_context(|| file.display().to_string())?,
        None => offline::write(out.as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn injector(options: &Options) -> Result<Injector> {
    let values = |file: &Option<PathBuf>| file.as_deref().map_or(Ok(json!({})), value);
    let given = values(&options.values_file)?;
    let settings = match &options.inject_config_file {
        Some(file) => {
            let values = given.to_string();
            Settings::parse(&read(file)?, &values).map_err(|why| anyhow!("{}: {why}", file.display()))?
        }
        None => Settings::built_in().with_values(given),
    };
    if let Some(why) = settings.said.first() {
        bail!("--inject-config-file: {why}");
    }
    let mesh = mesh(&values(&options.mesh_config_file)?);
    Ok(Injector { settings, mesh, revision: options.revision.clone(), proxies: Proxies::default(), users: None })
}

fn read(file: &Path) -> Result<String> {
    fs::read_to_string(file).with_context(|| format!("reading {}", file.display()))
}

/// A file that holds a map.
fn value(file: &Path) -> Result<Value> {
    match yaml::value(&read(file)?).with_context(|| file.display().to_string())? {
        Value::Null => Ok(json!({})),
        value @ Value::Object(_) => Ok(value),
        _ => bail!("{} is no map of fields", file.display()),
    }
}
