//! `mainsheet bootstrap`: what a stock Envoy without an agent is started with.

use super::{Output, ProxyType, offline::world};
use crate::{
    bootstrap::{self, ControlPlane, Proof},
    model::Role,
    plan::Proxy,
};
use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use std::{fs, path::PathBuf, process::ExitCode};

/// `mainsheet bootstrap`.
#[derive(Debug, Args)]
pub(super) struct Options {
    #[command(flatten)]
    files: super::Files,
    /// The pod that the proxy is of.
    #[arg(long, value_name = "POD[.NAMESPACE]")]
    proxy: String,
    /// What the proxy is for.
    #[arg(long, value_enum, default_value = "sidecar")]
    proxy_type: ProxyType,
    /// Where the control plane serves over TLS.
    #[arg(long, default_value = "istiod.istio-system.svc:15012", value_name = "HOST:PORT")]
    discovery_address: String,
    /// The name in the control plane's certificate, where it is not the host.
    #[arg(long, value_name = "NAME")]
    server_name: Option<String>,
    /// The file of the mesh's roots, for Envoy to read.
    #[arg(long, default_value = "/var/run/secrets/istio/root-cert.pem", value_name = "FILE")]
    root_cert: String,
    /// The file of the token, for Envoy to read.
    #[arg(long, default_value = "/var/run/secrets/tokens/istio-token", value_name = "FILE")]
    token: String,
    /// The file that tells Envoy of the token; it is written, with what belongs in it, if --write-secrets is given.
    #[arg(long, default_value = "/etc/mainsheet/token-sds.json", value_name = "FILE")]
    token_secret: PathBuf,
    /// The file that tells Envoy of the roots, in the same way.
    #[arg(long, default_value = "/etc/mainsheet/roots-sds.json", value_name = "FILE")]
    roots_secret: PathBuf,
    /// Write the files that tell Envoy of the token and of the roots.
    #[arg(long, alias = "write-token-secret")]
    write_secrets: bool,
    /// The port of Envoy's admin interface.
    #[arg(long, default_value_t = 15000, value_name = "PORT")]
    admin_port: u16,
    /// How to print.
    #[arg(short, long, value_enum, default_value = "json")]
    output: Output,
}

pub(super) fn bootstrap(args: &Options) -> Result<ExitCode> {
    let world = world(&args.files)?;
    let role = match args.proxy_type {
        ProxyType::Sidecar => Role::Sidecar,
        ProxyType::Router => Role::Router,
    };
    let node = Proxy::Pod { name: args.proxy.clone(), role }.resolve(&world.snapshot)?;
    let wrong = || anyhow!("--discovery-address {}: write HOST:PORT", args.discovery_address);
    let (host, port) = args.discovery_address.rsplit_once(':').ok_or_else(wrong)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let [secret, roots] = [&args.token_secret, &args.roots_secret].map(|file| file.to_string_lossy());
    let control_plane = ControlPlane {
        host,
        port: port.parse().map_err(|_| wrong())?,
        server_name: args.server_name.as_deref().unwrap_or(host),
        proof: Proof::Token { roots: &roots, secret: &secret },
    };
    if args.write_secrets {
        let files = [
            (&args.token_secret, bootstrap::token_secret(&args.token)),
            (&args.roots_secret, bootstrap::roots_secret(&args.root_cert)),
        ];
        for (file, secret) in files {
            fs::write(file, secret.to_string()).with_context(|| file.display().to_string())?;
        }
    }
    let json = bootstrap::bootstrap(&bootstrap::agentless(&node), &control_plane, args.admin_port);
    match args.output {
        Output::Json => println!("{}", serde_json::to_string_pretty(&json)?),
        Output::Yaml => print!("{}", serde_norway::to_string(&json)?),
    }
    Ok(ExitCode::SUCCESS)
}
