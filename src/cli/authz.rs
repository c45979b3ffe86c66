//! `mainsheet authz`: the rules that hold for a workload.

use super::{Files, ProxyType, Report, USAGE, offline};
use crate::plan::{Proxy, Rules};
use anyhow::Result;
use clap::Args;
use std::process::ExitCode;

/// What is asked.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    files: Files,
    /// The pod that is asked about.
    #[arg(long, value_name = "POD[.NAMESPACE]")]
    proxy: String,
    /// What the proxy of the pod is for.
    #[arg(long, value_enum, default_value = "sidecar")]
    proxy_type: ProxyType,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Report,
}

/// Prints the rules, and on the standard error what is wrong with the objects.
pub(super) fn authz(options: Options) -> Result<ExitCode> {
    let world = offline::world(&options.files)?;
    let proxy = Proxy::Pod { name: options.proxy, role: options.proxy_type.into() };
    let node = match proxy.resolve(&world.snapshot) {
        Ok(node) => node,
        Err(error) => {
            eprintln!("mainsheet: {error}");
            return Ok(ExitCode::from(USAGE));
        }
    };
    let key = world.snapshot.view_key(&node);
    let rules = key.policies.iter().map(|policies| Rules::of(policies)).next().unwrap_or_default();
    match options.output {
        Report::Text => offline::write(rules.to_text().as_bytes())?,
        Report::Json => offline::print(&rules.to_json(), super::Output::Json)?,
        Report::Yaml => offline::print(&rules.to_json(), super::Output::Yaml)?,
    }
    world.problems().for_each(|problem| eprintln!("{problem}"));
    Ok(offline::exit(world.has_errors()))
}
