//! `mainsheet token`, `mainsheet ca`: identity by hand, on the directory or the Secret that a control plane has its authority in.

use crate::{
    ca::{self, Authority, Cluster, Directory, Keeper, KeyKind, Rotation, Step, Storage},
    source::kubernetes,
};
use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use std::{path::PathBuf, process::ExitCode, time::Duration};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// `mainsheet token`.
#[derive(Debug, Subcommand)]
pub(super) enum Token {
    /// Print a token by which a workload proves its service account.
    Create(Create),
}

/// `mainsheet token create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    /// The service account.
    #[arg(long, visible_alias = "service-account", value_name = "NAME")]
    sa: String,
    /// Its namespace.
    #[arg(long, short, default_value = "default", value_name = "NAME")]
    namespace: String,
    /// The one pod that it is for.
    #[arg(long, value_name = "NAME")]
    pod: Option<String>,
    /// How long the token is valid.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = crate::config::duration)]
    ttl: Duration,
    /// Whom it is for.
    #[arg(long, default_value = "istio-ca", value_name = "NAME")]
    audience: String,
    /// The directory of the certificate authority.
    #[arg(long, value_name = "DIR")]
    ca_dir: PathBuf,
}

/// `mainsheet ca`.
#[derive(Debug, Subcommand)]
pub(super) enum Ca {
    /// Show the authority and where its rotation stands.
    Show(Show),
    /// Make an intermediate authority below this one, for another cluster's cacerts.
    NewIntermediate(NewIntermediate),
    /// Take the next step towards a new root: trust it, sign with it, trust the old one no longer.
    Rotate(Rotate),
}

/// Where an authority is kept.
#[derive(Debug, Args)]
pub(super) struct Kept {
    /// The directory of the certificate authority; without it the Secret of a cluster.
    #[arg(long, value_name = "DIR")]
    ca_dir: Option<PathBuf>,
    /// The kubeconfig; without it that of KUBECONFIG, of ~/.kube/config, or of the pod that this runs in.
    #[arg(long, value_name = "FILE", conflicts_with = "ca_dir")]
    kubeconfig: Option<PathBuf>,
    /// The namespace of the control plane.
    #[arg(short, long, default_value = "istio-system", value_name = "NAME", conflicts_with = "ca_dir")]
    namespace: String,
}

impl Kept {
    /// Does something with what it is kept in.
    fn with(&self, work: impl FnOnce(&dyn Storage) -> Result<()>) -> Result<()> {
        if let Some(dir) = &self.ca_dir {
            return work(&Directory::new(dir)).with_context(|| dir.display().to_string());
        }
        // A Secret is read and written while a thread waits for it, so there must be another that does it.
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        runtime.block_on(async {
            let client = kubernetes::connect(self.kubeconfig.as_deref()).await.context("finding the API server")?;
            let what = || format!("the Secret of the authority in {}", self.namespace);
            work(&Cluster::new(client, &self.namespace)).with_context(what)
        })
    }
}

/// `mainsheet ca show`.
#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    kept: Kept,
}

/// `mainsheet ca new-intermediate`.
#[derive(Debug, Args)]
pub(super) struct NewIntermediate {
    /// The directory of the certificate authority.
    #[arg(long, value_name = "DIR")]
    ca_dir: PathBuf,
    /// The directory to write ca-cert.pem, ca-key.pem, cert-chain.pem and root-cert.pem to.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The organisation in its subject.
    #[arg(long, default_value = "intermediate", value_name = "NAME")]
    name: String,
    /// The kind of its key: p256, p384, rsa2048 or rsa4096.
    #[arg(long, default_value = "p256", value_name = "KIND")]
    key: KeyKind,
    /// How long it is valid.
    #[arg(long, default_value = "17520h", value_name = "DURATION", value_parser = crate::config::duration)]
    ttl: Duration,
}

/// `mainsheet ca rotate`.
#[derive(Debug, Args)]
pub(super) struct Rotate {
    #[command(flatten)]
    kept: Kept,
    /// The kind of the new root's key: p256, p384, rsa2048 or rsa4096.
    #[arg(long, default_value = "p256", value_name = "KIND")]
    key: KeyKind,
    /// How long the new root is valid.
    #[arg(long, default_value = "87600h", value_name = "DURATION", value_parser = crate::config::duration)]
    root_ttl: Duration,
    /// How long a step must have been in force before the next: the life of a workload's certificate.
    #[arg(long, default_value = "24h", value_name = "DURATION", value_parser = crate::config::duration)]
    overlap: Duration,
}

pub(super) fn token(command: &Token) -> Result<ExitCode> {
    let Token::Create(args) = command;
    let mint = Keeper::mint_of(&Directory::new(&args.ca_dir)).with_context(|| args.ca_dir.display().to_string())?;
    let (whose, now, ttl) = ((&*args.namespace, &*args.sa), ca::now(), args.ttl.as_secs());
    let token = match &args.pod {
        Some(pod) => mint.token_of_pod(whose, pod, &args.audience, (now, ttl)),
        None => mint.token(whose, &args.audience, now, ttl),
    };
    println!("{}", token?);
    Ok(ExitCode::SUCCESS)
}

pub(super) fn authority(command: &Ca) -> Result<ExitCode> {
    match command {
        Ca::Show(args) => args.kept.with(show)?,
        Ca::NewIntermediate(args) => intermediate(args)?,
        Ca::Rotate(args) => args.kept.with(|storage| rotate(args, storage))?,
    }
    Ok(ExitCode::SUCCESS)
}

fn show(storage: &dyn Storage) -> Result<()> {
    let files = storage.load()?;
    let authority = Authority::from_files(&files, ca::now())?;
    print_certificate("signs", authority.certificate())?;
    for root in authority.trusted()? {
        print_certificate("trusted", &root)?;
    }
    let rotation = Rotation::of(&files);
    match rotation.since {
        0 => println!("rotation: {rotation}"),
        since => println!("rotation: {rotation}, for {} s", ca::now().saturating_sub(since)),
    }
    Ok(())
}

fn print_certificate(what: &str, der: &[u8]) -> Result<()> {
    let (_, certificate) = X509Certificate::from_der(der)?;
    println!("{what}: {}", certificate.subject());
    println!("  serial {}", certificate.raw_serial_as_string());
    println!("  valid from {} to {}", certificate.validity().not_before, certificate.validity().not_after);
    println!("  issued by {}", certificate.issuer());
    Ok(())
}

fn intermediate(args: &NewIntermediate) -> Result<()> {
    let files = Directory::new(&args.ca_dir).load()?;
    let authority = Authority::from_files(&files, ca::now()).with_context(|| args.ca_dir.display().to_string())?;
    let out = Directory::new(&args.out);
    if !out.load()?.is_empty() {
        bail!("{} has something in it already; name another directory", args.out.display());
    }
    out.save(&authority.intermediate(&args.name, args.key, ca::now(), args.ttl.as_secs())?)?;
    println!("made an intermediate authority in {}", args.out.display());
    Ok(())
}

fn rotate(args: &Rotate, storage: &dyn Storage) -> Result<()> {
    let files = storage.load()?;
    let authority = Authority::from_files(&files, ca::now())?;
    let (_, certificate) = X509Certificate::from_der(authority.certificate())?;
    let organization = certificate.subject().iter_organization().find_map(|o| o.as_str().ok()).unwrap_or_default();
    let step = Step {
        organization,
        key: args.key,
        root_ttl: args.root_ttl.as_secs(),
        overlap: args.overlap.as_secs(),
        now: ca::now(),
    };
    let next = Rotation::advance(&files, &step)?;
    // What does not hold together must not take the place of what does.
    Authority::from_files(&next, ca::now())?;
    storage.save(&next)?;
    println!("rotation: {}", Rotation::of(&next));
    Ok(())
}
