//! What hooks of a pod's containers ask of the agent beside them: `mainsheet request`, `mainsheet wait`.

use crate::agent;
use anyhow::{Context as _, Result, bail};
use clap::Args;
use std::{
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::{runtime, time};

/// `mainsheet request`.
#[derive(Debug, Args)]
pub(super) struct Ask {
    /// GET or POST.
    #[arg(value_name = "METHOD")]
    method: String,
    /// What is asked for, as /drain or /healthz/ready.
    #[arg(value_name = "PATH")]
    path: String,
    /// The agent's port.
    #[arg(long, alias = "debug-port", default_value_t = 15020, value_name = "PORT")]
    port: u16,
}

/// `mainsheet wait`.
#[derive(Debug, Args)]
pub(super) struct Wait {
    /// The port on which readiness is told.
    #[arg(long, default_value_t = 15021, value_name = "PORT")]
    port: u16,
    /// How long, in seconds; 0 for as long as it takes.
    #[arg(long, alias = "timeoutSeconds", default_value_t = 60, value_name = "SECONDS")]
    timeout_seconds: u64,
    /// How often it is asked, in milliseconds.
    #[arg(long, alias = "periodMillis", default_value_t = 500, value_name = "MILLISECONDS")]
    period_millis: u64,
}

pub(super) fn runtime() -> Result<runtime::Runtime> {
    runtime::Builder::new_current_thread().enable_all().build().context("starting a thread")
}

pub(super) fn request(options: &Ask) -> Result<ExitCode> {
    let path = options.path.trim_start_matches('/');
    let answer = runtime()?.block_on(agent::ask(options.port, &options.method, &format!("/{path}")));
    let (status, body) = answer?;
    super::offline::write(&body)?;
    Ok(super::offline::exit(!(200..300).contains(&status)))
}

pub(super) fn wait(options: &Wait) -> Result<ExitCode> {
    let (started, limit) = (Instant::now(), Duration::from_secs(options.timeout_seconds));
    runtime()?.block_on(async {
        loop {
            let why = match agent::ask(options.port, "GET", "/healthz/ready").await {
                Ok((200, _)) => return Ok(ExitCode::SUCCESS),
                Ok((status, _)) => format!("it answers {status}"),
                Err(error) => format!("{error:#}"),
            };
            if !limit.is_zero() && started.elapsed() >= limit {
                bail!("the proxy is not ready after {limit:?}: {why}");
            }
            time::sleep(Duration::from_millis(options.period_millis.max(10))).await;
        }
    })
}
