//! What the tests share: API servers, objects in them, and sources that watch them.

pub(crate) mod link;
pub(crate) mod object;
pub(crate) mod plane;
pub(crate) mod server;
pub(crate) mod watching;

pub(crate) use link::Link;
pub(crate) use object::{Objects, documents};
pub(crate) use plane::{Plane, Proxy};
pub(crate) use server::{AUDITED, Server};
pub(crate) use watching::{Served, Watching, served};

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    sync::{Mutex, MutexGuard},
    time,
};

/// How long things may take that happen at once on a machine with nothing else to do.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// One runtime for all tests, as connections of a client belong to the runtime that made them.
static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().enable_all().worker_threads(2).build().expect("threads")
});
static SHARED: LazyLock<Mutex<Server>> = LazyLock::new(|| Mutex::new(RUNTIME.block_on(Server::start_with(&[]))));

/// Runs a test with the API server that tests share, emptied, for it alone.
pub(crate) fn with_shared(test: impl AsyncFnOnce(&mut Server)) {
    LazyLock::force(&SHARED);
    RUNTIME.block_on(async {
        let mut server: MutexGuard<'_, Server> = SHARED.lock().await;
        server.objects().clear().await;
        test(&mut server).await;
    });
}

/// Runs a test with an API server of its own.
pub(crate) fn with_own(test: impl AsyncFnOnce(Server)) {
    with_own_of(&[], test);
}

/// Runs a test with an API server of its own that has these words on its command line.
pub(crate) fn with_own_of(words: &'static [&'static str], test: impl AsyncFnOnce(Server)) {
    RUNTIME.block_on(async { test(Server::start_with(words).await).await });
}

/// A new directory for a test's files.
pub(crate) fn directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let root = Path::new(env!("CARGO_TARGET_TMPDIR"));
    if count == 0 {
        remove_left_over(root);
    }
    let dir = root.join(format!("cluster-{}-{count}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// Removes the directories of runs that are over: what tests share lives as long as their process.
fn remove_left_over(root: &Path) {
    for path in fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path()) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let process = name.strip_prefix("cluster-").and_then(|rest| rest.split('-').next());
        if process.is_some_and(|id| !Path::new("/proc").join(id).exists()) {
            let _ = fs::remove_dir_all(path);
        }
    }
}

/// Waits until something is so, or fails with what is instead.
pub(crate) async fn eventually<T, E: std::fmt::Display>(what: &str, check: impl AsyncFnMut() -> Result<T, E>) -> T {
    within(SOON, what, check).await
}

/// Waits so long until something is so, or fails with what is instead.
pub(crate) async fn within<T, E: std::fmt::Display>(
    longest: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> Result<T, E>,
) -> T {
    let started = Instant::now();
    loop {
        match check().await {
            Ok(value) => return value,
            Err(why) if started.elapsed() > longest => panic!("{what}: not after {longest:?}: {why}"),
            Err(_) => time::sleep(Duration::from_millis(10)).await,
        }
    }
}
