//! The process of Envoy: started once, told to end, and never started again behind anybody's back.

use anyhow::{Context as _, Result};
use std::{
    os::unix::process::ExitStatusExt as _,
    path::PathBuf,
    process::{ExitCode, ExitStatus, Stdio},
    time::Duration,
};
use tokio::{
    process::{self, Child},
    time,
};

/// How long Envoy may take to end when it is told to.
const PATIENCE: Duration = Duration::from_secs(3);

/// How Envoy is started.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) program: PathBuf,
    pub(super) config: PathBuf,
    /// A bootstrap that is laid over the other.
    pub(super) overrides: Option<String>,
    /// How long connections have to go away when listeners are drained.
    pub(super) drain: Duration,
    pub(super) ipv4: bool,
    pub(super) level: String,
    pub(super) levels: Option<String>,
    /// How many threads; 0 or nothing for as many as there are CPUs.
    pub(super) concurrency: Option<u32>,
}

impl Command {
    fn words(&self) -> Vec<String> {
        let mut words = vec!["-c".to_owned(), self.config.display().to_string()];
        let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
        add("--drain-time-s", self.drain.as_secs().to_string());
        add("--drain-strategy", "immediate".into());
        add("--local-address-ip-version", if self.ipv4 { "v4" } else { "v6" }.into());
        add("--file-flush-interval-msec", "1000".into());
        // Levels may be given for parts as well: `warning,http:debug`.
        let (scoped, plain): (Vec<&str>, Vec<&str>) = self.level.split(',').partition(|level| level.contains(':'));
        add("-l", plain.first().unwrap_or(&"warning").to_string());
        let scoped: Vec<&str> = scoped.into_iter().chain(self.levels.as_deref()).collect();
        if !scoped.is_empty() {
            add("--component-log-level", scoped.join(","));
        }
        if let Some(overrides) = &self.overrides {
            add("--config-yaml", overrides.clone());
        }
        if let Some(threads) = self.concurrency.filter(|threads| *threads > 0) {
            add("--concurrency", threads.to_string());
        }
        words.extend(
            ["--disable-hot-restart", "--allow-unknown-static-fields", "--skip-deprecated-logs"].map(Into::into),
        );
        words
    }
}

/// A running Envoy. It goes when this goes.
#[derive(Debug)]
pub(super) struct Envoy {
    child: Child,
}

impl Envoy {
    pub(super) fn start(command: &Command) -> Result<Self> {
        let mut start = process::Command::new(&command.program);
        start.args(command.words()).stdin(Stdio::null()).kill_on_drop(true);
        let child = start.spawn().with_context(|| format!("starting {}", command.program.display()))?;
        tracing::info!(program = %command.program.display(), pid = child.id(), "Envoy is started");
        Ok(Self { child })
    }

    /// Waits until it ends, and tells how that is to be told on.
    pub(super) async fn ended(&mut self) -> Result<ExitCode> {
        let status = self.child.wait().await.context("waiting for Envoy")?;
        tracing::info!(%status, "Envoy has ended");
        Ok(code(status))
    }

    /// Tells it to end, and ends it where it does not.
    pub(super) async fn end(&mut self) -> Result<ExitCode> {
        let pid = self.child.id().and_then(|id| rustix::process::Pid::from_raw(id.try_into().ok()?));
        if let Some(pid) = pid {
            // It may have ended just now.
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        if let Ok(code) = time::timeout(PATIENCE, self.ended()).await {
            return code;
        }
        tracing::warn!("Envoy does not end, and is killed");
        self.child.kill().await.context("killing Envoy")?;
        self.ended().await
    }
}

/// Envoy's exit code, or 128 and the signal that ended it, as shells have it.
fn code(status: ExitStatus) -> ExitCode {
    let signal = || status.signal().map_or(1, |signal| 128 + signal);
    ExitCode::from(u8::try_from(status.code().unwrap_or_else(signal)).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_has_levels_threads_and_times() {
        let mut command = Command {
            program: "envoy".into(),
            config: "/x/envoy-rev.json".into(),
            overrides: None,
            drain: Duration::from_secs(45),
            ipv4: true,
            level: "info,http:debug".into(),
            levels: Some("router:trace".into()),
            concurrency: Some(2),
        };
        let words = command.words().join(" ");
        assert!(words.starts_with("-c /x/envoy-rev.json --drain-time-s 45 --drain-strategy immediate"), "{words}");
        assert!(words.contains("-l info --component-log-level http:debug,router:trace --concurrency 2"), "{words}");
        (command.concurrency, command.ipv4) = (Some(0), false);
        let words = command.words().join(" ");
        assert!(!words.contains("--concurrency") && words.contains("--local-address-ip-version v6"), "{words}");
    }
}
