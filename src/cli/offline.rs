//! The commands that read files and print: `translate`, `validate`, `golden`.

use super::{Files, Golden, Output, ProxyType, Report, Translate, Type, USAGE, Validate};
use crate::{
    app,
    config::Place,
    id::ResourceType,
    model::Role,
    parse::Context,
    plan::{self, Listing, Proxy, World},
    problem::{Problem, Severity},
    translate::{Config, Direct},
};
use anyhow::{Context as _, Result};
use serde_json::Value;
use std::{fs, io::Write, process::ExitCode};

pub(super) fn translate(args: Translate) -> Result<ExitCode> {
    let world = world(&args.files)?;
    let proxy = match (&args.node, args.proxy) {
        (Some(path), _) => {
            let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
            Proxy::Node(serde_norway::from_str(&text).with_context(|| format!("reading {}", path.display()))?)
        }
        (None, name) => Proxy::Pod { name: name.unwrap_or_default(), role: args.proxy_type.into() },
    };
    let node = match proxy.resolve(&world.snapshot) {
        Ok(node) => node,
        Err(error) => {
            eprintln!("mainsheet: {error}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let config = Config::of(&world.snapshot, &node, &Direct);
    let kinds: Vec<ResourceType> = match args.types.is_empty() {
        true => ResourceType::ALL.to_vec(),
        false => args.types.into_iter().map(Into::into).collect(),
    };
    let listing = Listing::of(&config, &kinds);
    print(&listing.to_json(world.problems().chain(config.problems())), args.output)?;
    Ok(exit(world.has_errors() || config.problems().any(|p| p.severity == Severity::Error)))
}

pub(super) fn validate(args: Validate) -> Result<ExitCode> {
    let world = world(&args.files)?;
    let all = || world.problems().map(Problem::to_json).collect::<Value>();
    match args.output {
        Report::Json => print(&all(), Output::Json)?,
        Report::Yaml => print(&all(), Output::Yaml)?,
        Report::Text => {
            let lines: String = world.problems().map(|p| format!("{p}\n")).collect();
            write(lines.as_bytes())?;
        }
    }
    Ok(exit(world.has_errors()))
}

pub(super) fn golden(args: Golden) -> Result<ExitCode> {
    let outcomes = plan::golden(&args.dirs, &context(&args.place), args.bless)?;
    let diffs: Vec<&String> = outcomes.iter().flat_map(|o| &o.diffs).collect();
    for diff in &diffs {
        write(diff.as_bytes())?;
    }
    let bad = outcomes.iter().filter(|o| !o.diffs.is_empty()).count();
    eprintln!("{} cases, {bad} differ", outcomes.len());
    Ok(exit(bad > 0))
}

/// The world that files describe.
pub(super) fn world(files: &Files) -> Result<World> {
    World::load(&files.files, files.mesh_config.as_deref(), &context(&files.place)).context("reading the files")
}

/// What parsing depends on. What is wrong with the environment is said on the standard error.
fn context(place: &Place) -> Context {
    let (context, said) = app::context(place);
    said.iter().for_each(|text| eprintln!("mainsheet: in the environment: {text}"));
    context
}

pub(super) fn exit(failed: bool) -> ExitCode {
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

pub(super) fn print(value: &Value, output: Output) -> Result<()> {
    let text = match output {
        Output::Yaml => serde_norway::to_string(value)?,
        Output::Json => format!("{value:#}\n"),
    };
    write(text.as_bytes())
}

/// Writes to the standard output; a reader that has gone away is no failure.
pub(super) fn write(bytes: &[u8]) -> Result<()> {
    match std::io::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

impl From<ProxyType> for Role {
    fn from(from: ProxyType) -> Self {
        match from {
            ProxyType::Sidecar => Self::Sidecar,
            ProxyType::Router => Self::Router,
        }
    }
}

impl From<Type> for ResourceType {
    fn from(from: Type) -> Self {
        match from {
            Type::Cds => Self::Cluster,
            Type::Eds => Self::Endpoints,
            Type::Lds => Self::Listener,
            Type::Rds => Self::Route,
            Type::Sds => Self::Secret,
            Type::Ecds => Self::Extension,
            Type::Nds => Self::Names,
        }
    }
}
