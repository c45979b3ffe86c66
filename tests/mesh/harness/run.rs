//! One run of this program: its directory, its names, and the keeper that clears up after it.
//!
//! The keeper is a shell that waits for the end of its standard input, which comes when the run ends, in
//! whatever way: then it ends every process that carries the run's mark and deletes its namespaces and files.

use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The variable in the environment of every process of a run; its value is the run's directory.
pub(crate) const MARK: &str = "MAINSHEET_RUN";
const KEEPER: &str = "mainsheet-keeper";

/// The one run of this process.
#[derive(Debug)]
pub(crate) struct Run {
    id: u32,
    dir: PathBuf,
    envoy: PathBuf,
    keeper: Mutex<Child>,
    counter: AtomicU32,
}

/// The run of this process, begun with the first call.
pub(crate) fn run() -> &'static Run {
    static RUN: OnceLock<Run> = OnceLock::new();
    RUN.get_or_init(Run::begin)
}

impl Run {
    fn begin() -> Self {
        let temporary = std::env::temp_dir();
        sweep(&temporary);
        let keeper = Command::new("sh")
            .args(["-c", KEEP, KEEPER])
            .arg(&temporary)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A Ctrl-C is meant for the run, which the keeper outlives.
            .process_group(0)
            .spawn()
            .expect("a shell");
        let id = keeper.id();
        let dir = temporary.join(format!("mainsheet-{id}"));
        fs::create_dir_all(&dir).expect("the directory of the run");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).expect("the rights of the directory");
        let envoy = envoy_for_anyone(&dir);
        Self { id, dir, envoy, keeper: Mutex::new(keeper), counter: AtomicU32::new(0) }
    }

    /// The directory of what belongs to the run.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A new directory below it, and the prefix of names for what belongs with it.
    pub(crate) fn part(&self) -> (PathBuf, String) {
        let number = self.counter.fetch_add(1, Ordering::Relaxed);
        let dir = self.dir.join(number.to_string());
        fs::create_dir_all(&dir).expect("a directory of the run");
        (dir, format!("{}{number}-", prefix(self.id)))
    }

    /// The program of Envoy, where its own user can read it.
    pub(crate) fn envoy(&self) -> &Path {
        &self.envoy
    }

    /// A program of ours, where the proxy's user can read it.
    pub(crate) fn program(&self, source: &Path) -> PathBuf {
        static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
        PROGRAM.get_or_init(|| for_anyone(source, &self.dir.join("mainsheet"))).clone()
    }

    /// Everything stays up when this process ends. Ends with the process that is answered.
    pub(crate) fn keep(&self) -> u32 {
        let mut keeper = self.keeper.lock().expect("the keeper");
        let input = keeper.stdin.as_mut().expect("the keeper's input");
        writeln!(input, "keep").expect("the keeper listens");
        self.id
    }
}

/// The prefix of the names of all network namespaces of a run.
fn prefix(id: u32) -> String {
    format!("ms-{id}-")
}

/// Envoy runs as a user of its own, who may not look into the home directory that the cache is in.
fn envoy_for_anyone(dir: &Path) -> PathBuf {
    let source = match std::env::var_os("ENVOY") {
        Some(path) => PathBuf::from(path),
        None => {
            let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
            let cache = cache.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")));
            cache.unwrap_or_default().join("mainsheet/envoy-1.40.0/envoy")
        }
    };
    assert!(source.is_file(), "the real Envoy is not at {}: `make tools` installs it", source.display());
    for_anyone(&source, &dir.join("envoy"))
}

fn for_anyone(source: &Path, target: &Path) -> PathBuf {
    if fs::hard_link(source, target).is_err() {
        fs::copy(source, target).expect("a copy of a program");
    }
    target.to_owned()
}

/// Clears up after runs whose keeper was killed as well.
fn sweep(temporary: &Path) {
    let entries = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|e| e.file_name());
    let names = |dir: &Path, start: &str| -> Vec<(String, Option<u32>)> {
        let id = |n: &str| n.strip_prefix(start)?.split('-').next()?.parse().ok();
        entries(dir).filter_map(|n| n.into_string().ok()).map(|n| (n.clone(), id(&n))).collect()
    };
    let gone = |id: u32| {
        let words = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
        !String::from_utf8_lossy(&words).contains(KEEPER)
    };
    for (name, id) in names(Path::new("/run/netns"), "ms-") {
        if id.is_some_and(gone) {
            let script = "ip netns pids \"$1\" | xargs -r kill -9; ip netns del \"$1\"";
            let _ = Command::new("sh").args(["-c", script, "sh", &name]).stderr(Stdio::null()).status();
        }
    }
    for (name, id) in names(temporary, "mainsheet-") {
        if id.is_some_and(gone) {
            let _ = fs::remove_dir_all(temporary.join(name));
        }
    }
}

/// What the keeper does. `$1` is the directory that the run's own directory is in, and `$$` the run's id.
const KEEP: &str = r#"
dir=$1/mainsheet-$$
PATH=$PATH:/usr/sbin:/sbin
end() {
    for p in $(grep -lsxz "MAINSHEET_RUN=$dir" /proc/[0-9]*/environ | cut -d/ -f3); do kill -9 "$p"; done
    for n in $(ls /run/netns | grep "^ms-$$-"); do ip netns del "$n"; done
    rm -rf "$dir"
}
trap end EXIT
trap 'exit 0' TERM
keep=0
while read -r line; do [ "$line" = keep ] && keep=1; done
while [ $keep = 1 ]; do sleep 3600 & wait $!; done
"#;
