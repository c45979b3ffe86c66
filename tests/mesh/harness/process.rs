//! A process of a world: what it says goes to a file, and it ends with its owner.

use super::network::Place;
use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

/// A running program.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a program whose output goes to `log`, after what is there already.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Self {
        let file = File::options().create(true).append(true).open(&log).expect("a log file");
        let program = format!("{command:?}");
        command.stdin(Stdio::null()).stdout(file.try_clone().expect("a log file")).stderr(file);
        let child = command.spawn().unwrap_or_else(|error| panic!("{program}: {error}"));
        Self { child, log }
    }

    /// Ends it and what it started at once, with no chance to say goodbye.
    pub(crate) fn kill(&mut self) {
        let id = self.child.id();
        let started = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let _ = self.child.kill();
        for child in started.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", child]).status();
        }
        let _ = self.child.wait();
    }

    /// How much memory it has, in KiB: with the pages of files, which others may have as well, and alone.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process that runs");
        let said = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).expect("its memory");
            line.trim().trim_end_matches(" kB").parse().expect("a number")
        };
        (said("VmRSS:"), said("RssAnon:"))
    }

    /// Kills what it started, and not itself.
    pub(crate) fn kill_started(&self) {
        let id = self.child.id();
        let started = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        for child in started.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", child]).status();
        }
    }

    /// Asks it to end, as Kubernetes does.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        self.end_with("TERM")
    }

    /// Sends it a signal, and waits for its end.
    pub(crate) fn end_with(&mut self, signal: &str) -> std::process::ExitStatus {
        let id = self.child.id().to_string();
        let _ = Command::new("kill").args([&format!("-{signal}"), &id]).status();
        self.child.wait().expect("the end of a child")
    }

    /// How it has ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().expect("a child")
    }

    /// Fails with the last of its output where it has ended by itself.
    pub(crate) fn expect_running(&mut self) {
        if let Ok(Some(status)) = self.child.try_wait() {
            panic!("ended with {status}: {}", self.last_output());
        }
    }

    /// The last lines that it wrote.
    pub(crate) fn last_output(&self) -> String {
        last_lines(&self.log, 25)
    }
}

fn last_lines(path: &Path, count: usize) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text.lines().collect();
    format!("{}:\n{}", path.display(), lines[lines.len().saturating_sub(count)..].join("\n"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How a program is started, again and again.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    /// Where it runs.
    pub(crate) place: Place,
    /// Whom it runs as.
    pub(crate) user: User,
    /// The program.
    pub(crate) program: PathBuf,
    /// The words of its command line.
    pub(crate) words: Vec<String>,
    /// What is in its environment beside the usual.
    pub(crate) variables: Vec<(String, String)>,
    /// Where its output goes.
    pub(crate) log: PathBuf,
}

impl Launch {
    /// Starts it.
    pub(crate) fn start(&self) -> Process {
        let mut command = command(&self.place, &self.program, self.user);
        command.args(&self.words).envs(self.variables.iter().map(|(name, value)| (name, value)));
        Process::start(command, self.log.clone())
    }
}

/// Whom a program runs as, in a namespace. Elsewhere it is the user of this process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum User {
    /// The user of this process.
    Own,
    /// The proxy, whose own traffic is not captured.
    Proxy,
    /// The proxy where it takes connections that are addressed to others (TPROXY).
    TransparentProxy,
}

impl User {
    fn words(self) -> &'static [&'static str] {
        const PROXY: [&str; 4] = ["setpriv", "--reuid=1337", "--regid=1337", "--clear-groups"];
        const TRANSPARENT: [&str; 6] =
            [PROXY[0], PROXY[1], PROXY[2], PROXY[3], "--inh-caps=+net_admin", "--ambient-caps=+net_admin"];
        match self {
            Self::Own => &[],
            Self::Proxy => &PROXY,
            Self::TransparentProxy => &TRANSPARENT,
        }
    }
}

/// A command that starts `program` in a place.
pub(crate) fn command(place: &Place, program: &Path, user: User) -> Command {
    let mut words: Vec<String> = Vec::new();
    if let Place::Namespace(name) = place {
        words.extend(["nsenter".to_owned(), format!("--net=/run/netns/{name}")]);
        words.extend(user.words().iter().map(ToString::to_string));
    }
    words.push(program.display().to_string());
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).env(super::run::MARK, super::run().dir());
    command
}
