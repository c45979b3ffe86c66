//! The command line: what can be asked of the binary, and what it answers with.

mod authz;
mod bootstrap;
mod cni;
mod identity;
mod inject;
mod install;
mod iptables;
mod offline;
mod pod;
mod survey;

use crate::{app, config};
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, process::ExitCode};

/// Exit code for a command line that cannot be understood (`EX_USAGE`).
const USAGE: u8 = 64;

/// A service-mesh control plane that reads Istio's APIs and drives stock Envoy.
#[derive(Debug, Parser)]
#[command(name = "mainsheet", version, max_term_width = 110)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the control plane.
    Discovery(Box<config::Discovery>),
    /// Run the agent beside an Envoy, and that Envoy.
    Agent(Box<config::Agent>),
    /// Print what a proxy would be served, from files.
    Translate(Translate),
    /// Print what is wrong with the objects in files.
    Validate(Validate),
    /// Give pods in files their sidecar, as the webhook does.
    Inject(inject::Options),
    /// Ask something of the agent of this pod.
    Request(pod::Ask),
    /// Wait until the proxy of this pod is ready.
    Wait(pod::Wait),
    /// Print the rules of RequestAuthentications and AuthorizationPolicies that hold for a workload.
    Authz(authz::Options),
    /// Print the bootstrap of a stock Envoy that proves who it is by a token.
    Bootstrap(bootstrap::Options),
    /// Make tokens by which workloads prove who they are.
    #[command(subcommand)]
    Token(identity::Token),
    /// Look at a certificate authority, and change it.
    #[command(subcommand)]
    Ca(identity::Ca),
    /// Install the mesh into a cluster, without Helm.
    Install(Box<install::Options>),
    /// Remove what `install` has made.
    Uninstall(install::Remove),
    /// Compare a cluster with what was installed, and tell whether it works.
    Verify(install::Verify),
    /// Give revisions further names.
    #[command(subcommand)]
    Tag(install::Tag),
    /// Checks that change nothing.
    #[command(subcommand, alias = "experimental")]
    X(survey::X),
    /// Move a cluster from istiod.
    #[command(subcommand)]
    Migrate(survey::Migrate),
    /// Capture the traffic of a pod.
    #[command(alias = "istio-iptables")]
    Iptables(Box<iptables::Options>),
    /// Remove what `iptables` has set; the same as `iptables --cleanup-only`.
    #[command(alias = "istio-clean-iptables")]
    CleanIptables(Box<iptables::Options>),
    /// Capture the traffic of pods from their node: the CNI plugin, and its installer.
    #[command(subcommand)]
    Cni(cni::Command),
    /// Hold what proxies would be served against golden files.
    Golden(Golden),
}

#[derive(Debug, Args)]
struct Files {
    /// A file or directory of YAML or JSON; may be given several times.
    #[arg(short, long = "file", value_name = "FILE|DIR", required = true, num_args = 1..)]
    files: Vec<PathBuf>,
    /// The mesh's settings, a MeshConfig as YAML; without it those of the ConfigMap `istio` among the objects.
    #[arg(long, alias = "meshConfig", value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    #[command(flatten)]
    place: config::Place,
}

#[derive(Debug, Args)]
struct Translate {
    #[command(flatten)]
    files: Files,
    /// The pod whose proxy is asked about.
    #[arg(long, value_name = "POD[.NAMESPACE]", required_unless_present = "node", conflicts_with = "node")]
    proxy: Option<String>,
    /// What the proxy of the pod is for.
    #[arg(long, value_enum, default_value = "sidecar")]
    proxy_type: ProxyType,
    /// An Envoy Node as JSON or YAML: all that is known of the proxy, as over the wire.
    #[arg(long, value_name = "FILE")]
    node: Option<PathBuf>,
    /// The types to print.
    #[arg(long = "type", value_enum, value_delimiter = ',')]
    types: Vec<Type>,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "yaml")]
    output: Output,
}

#[derive(Debug, Args)]
struct Validate {
    #[command(flatten)]
    files: Files,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "text")]
    output: Report,
}

#[derive(Debug, Args)]
struct Golden {
    /// Directories that are cases or hold some.
    #[arg(required = true)]
    dirs: Vec<PathBuf>,
    /// Rewrite the files instead.
    #[arg(long)]
    bless: bool,
    #[command(flatten)]
    place: config::Place,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum ProxyType {
    /// Beside a workload.
    Sidecar,
    /// A gateway.
    Router,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Type {
    /// Clusters.
    Cds,
    /// Endpoints.
    Eds,
    /// Listeners.
    Lds,
    /// Route configurations.
    Rds,
    /// Secrets.
    Sds,
    /// Extension configurations.
    Ecds,
    /// Names, for agents that resolve them.
    Nds,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Output {
    /// YAML.
    Yaml,
    /// JSON.
    Json,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Report {
    /// A line for each problem.
    Text,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Runs the command that the process was called with.
pub fn main() -> ExitCode {
    // Container runtimes know a plugin by the name of its program alone.
    let own = std::env::args_os().next().map(PathBuf::from);
    if own.is_some_and(|path| path.file_name().is_some_and(|name| name == crate::cni::PLUGIN)) {
        return cni::plugin();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { USAGE } else { 0 };
            // Nothing is left to do where even this cannot be printed.
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let result = match cli.command {
        Command::Discovery(options) => app::discovery(*options).map(|()| ExitCode::SUCCESS),
        Command::Agent(options) => app::agent(*options),
        Command::Translate(args) => offline::translate(args),
        Command::Validate(args) => offline::validate(args),
        Command::Inject(options) => inject::inject(&options),
        Command::Request(options) => pod::request(&options),
        Command::Wait(options) => pod::wait(&options),
        Command::Authz(options) => authz::authz(options),
        Command::Bootstrap(options) => bootstrap::bootstrap(&options),
        Command::Token(command) => identity::token(&command),
        Command::Ca(command) => identity::authority(&command),
        Command::Install(options) => install::install(&options),
        Command::Uninstall(options) => install::uninstall(&options),
        Command::Verify(options) => install::verify(&options),
        Command::Tag(command) => install::tag(&command),
        Command::X(command) => survey::x(&command),
        Command::Migrate(command) => survey::migrate(&command),
        Command::Iptables(options) => iptables::iptables(&options),
        Command::CleanIptables(options) => iptables::clean(*options),
        Command::Cni(command) => cni::cni(command),
        Command::Golden(args) => offline::golden(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("mainsheet: {error:#}");
        ExitCode::FAILURE
    })
}
