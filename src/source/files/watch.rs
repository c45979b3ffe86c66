//! Files that are watched: read once, and again whenever the kernel tells of a change, and from time to time
//! anyway, since it may not tell of all.

use super::{
    catalogue::Catalogue,
    settings::Settings,
    tree::{Open, Pass, Tree},
};
use crate::{
    model::Change,
    parse::Context,
    problem::Severity,
    store::{Stopped, Writer},
};
use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode},
};
use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{self, Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};
use tokio::{
    sync::Notify,
    task,
    time::{self, Instant},
};

/// Changes come in bursts; one is over when so long nothing came, or after `BURST` anyway.
const SETTLE: Duration = Duration::from_millis(15);
const BURST: Duration = Duration::from_millis(60);
/// A file that is replaced may be missing for so long; a file that is being written is looked at again after this.
const RETURN: Duration = Duration::from_millis(100);
/// The kernel can lose events, and network file systems have none: so often the files' times are looked at anyway.
const SWEEP: Duration = Duration::from_secs(5);
/// And no more of the time than one part in so many is spent on that.
const SWEEP_SHARE: u32 = 200;
/// And so often where the kernel tells nothing.
const POLL: Duration = Duration::from_secs(1);

/// What to read and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directories and single files.
    pub paths: Vec<PathBuf>,
    /// The file of the mesh's settings.
    pub settings: Option<PathBuf>,
    /// Look at the files so often and do not ask the kernel.
    pub poll: Option<Duration>,
    /// What parsing depends on.
    pub context: Context,
}

/// Reads everything, says `synced` once it is published, and then follows the changes until the store stops.
///
/// # Errors
///
/// When the store has stopped.
pub async fn watch(options: Options, writer: Writer, synced: impl FnOnce()) -> Result<(), Stopped> {
    let mut state = State::new(&options);
    let noted = state.eyes.noted.clone();
    let mut open;
    let mut changes;
    (state, open, changes) = state.pass(None).await;
    tell(&writer, changes).await?;
    writer.published().await?;
    synced();
    let mut named = BTreeSet::new();
    let mut missing_since = None;
    let mut sweep = Instant::now() + SWEEP;
    loop {
        let left = sweep.saturating_duration_since(Instant::now());
        let pause = match (open.missing || open.unfinished, state.eyes.watcher.is_some()) {
            (true, _) => RETURN,
            (false, true) => left,
            (false, false) => options.poll.unwrap_or(POLL),
        };
        let told = noted.gather(pause, &mut named).await;
        let last = missing_since.is_some_and(|since: Instant| since.elapsed() >= RETURN);
        let begin = Instant::now();
        let only = told && missing_since.is_none() && begin < sweep;
        (state, open, changes) = state.pass(Some(Look { named: named.clone(), only, last })).await;
        if !only {
            sweep = Instant::now() + SWEEP.max(begin.elapsed() * SWEEP_SHARE);
        }
        tell(&writer, changes).await?;
        if open.missing {
            missing_since.get_or_insert_with(Instant::now);
        } else {
            missing_since = None;
            named.clear();
        }
    }
}

/// How the files are looked at that were read before.
struct Look {
    /// The files that are said to have changed.
    named: BTreeSet<PathBuf>,
    /// Only these may have.
    only: bool,
    /// Whether files that are missing are gone.
    last: bool,
}

/// Hands changes to the store, and says in the log what is wrong with their objects.
async fn tell(writer: &Writer, changes: Vec<Change>) -> Result<(), Stopped> {
    for problem in changes.iter().flat_map(|c| &c.problems) {
        match problem.severity {
            Severity::Error => tracing::warn!("{problem}"),
            Severity::Warning => tracing::info!("{problem}"),
        }
    }
    match changes.is_empty() {
        true => Ok(()),
        false => writer.apply(changes).await,
    }
}

/// What goes along to where files are read.
#[derive(Debug)]
struct State {
    context: Context,
    settings: Option<Settings>,
    tree: Tree,
    catalogue: Catalogue,
    eyes: Eyes,
}

impl State {
    fn new(options: &Options) -> Self {
        // The kernel names files in full.
        let absolute = |p: &PathBuf| path::absolute(p).unwrap_or_else(|_| p.clone());
        let paths: Vec<PathBuf> = options.paths.iter().map(absolute).collect();
        let tree = Tree::new(&paths);
        let context = options.context.clone();
        let catalogue = Catalogue::new(context.clone());
        let settings = options.settings.as_ref().map(absolute);
        let eyes = Eyes::new(paths.into_iter().chain(settings.clone()).collect(), options.poll.is_some());
        Self { context, settings: settings.map(Settings::new), tree, catalogue, eyes }
    }

    /// Looks at the files where that holds up nobody.
    async fn pass(mut self, look: Option<Look>) -> (Self, Open, Vec<Change>) {
        let work = task::spawn_blocking(move || {
            // Watching starts before reading, so that no change falls between the two.
            self.eyes.open();
            let pass = look.as_ref().map(|l| Pass { named: &l.named, last: l.last, now: SystemTime::now() });
            let only = pass.filter(|_| look.as_ref().is_some_and(|l| l.only));
            let open = only.and_then(|pass| self.tree.read_named(&mut self.catalogue, pass));
            let open = open.unwrap_or_else(|| self.tree.read(&mut self.catalogue, pass));
            let settings = self.settings.as_mut().and_then(|s| s.change(&self.context));
            let changes = settings.into_iter().chain(self.catalogue.changes()).collect();
            (self, open, changes)
        });
        work.await.expect("reading files does not panic")
    }
}

/// The kernel's watches, of what the roots were when they were made.
#[derive(Debug)]
struct Eyes {
    roots: Arc<[PathBuf]>,
    noted: Arc<Noted>,
    watcher: Option<RecommendedWatcher>,
    of: Vec<Option<Target>>,
    /// The kernel is not asked.
    shut: bool,
    complained: bool,
}

/// What a root is: device, inode, and whether it is a directory.
type Target = (u64, u64, bool);

impl Eyes {
    fn new(roots: Vec<PathBuf>, shut: bool) -> Self {
        let noted = Arc::new(Noted::default());
        Self { roots: roots.into(), noted, watcher: None, of: Vec::new(), shut, complained: false }
    }

    /// Watches the roots as they are now.
    fn open(&mut self) {
        let target = |p: &PathBuf| fs::metadata(p).ok().map(|m| (m.dev(), m.ino(), m.is_dir()));
        let now: Vec<_> = self.roots.iter().map(target).collect();
        if self.shut || self.watcher.is_some() && self.of == now {
            return;
        }
        match self.watcher(&now) {
            Ok(watcher) => (self.watcher, self.of, self.complained) = (Some(watcher), now, false),
            Err(error) => {
                self.watcher = None;
                if !std::mem::replace(&mut self.complained, true) {
                    tracing::warn!(%error, "files cannot be watched, so they are looked at every {POLL:?}");
                }
            }
        }
    }

    fn watcher(&self, targets: &[Option<Target>]) -> notify::Result<RecommendedWatcher> {
        let (noted, roots) = (self.noted.clone(), self.roots.clone());
        let mut watcher = notify::recommended_watcher(move |event| noted.note(event, &roots))?;
        for (root, target) in self.roots.iter().zip(targets) {
            match (target, root.parent()) {
                (Some((.., true)), _) => watcher.watch(root, RecursiveMode::Recursive)?,
                // A file that is replaced is another one under the same name, which its directory knows.
                (_, Some(parent)) if parent.is_dir() => watcher.watch(parent, RecursiveMode::NonRecursive)?,
                (..) => return Err(io::Error::from(io::ErrorKind::NotFound).into()),
            }
        }
        Ok(watcher)
    }
}

/// What the kernel told of and nobody has looked at yet.
#[derive(Debug, Default)]
struct Noted {
    paths: Mutex<BTreeSet<PathBuf>>,
    /// Something changed that has no name.
    others: AtomicBool,
    news: Notify,
}

impl Noted {
    fn note(&self, event: notify::Result<Event>, roots: &[PathBuf]) {
        match event {
            // Our own reading is no change.
            Ok(Event { kind: EventKind::Access(kind), .. }) if kind != AccessKind::Close(AccessMode::Write) => return,
            Ok(event) => {
                let paths: Vec<_> = event.paths.into_iter().filter(|p| concerns(p, roots)).collect();
                match (paths.is_empty(), event.attrs.flag()) {
                    (true, None) => return,
                    (_, Some(_)) => self.others.store(true, Ordering::Relaxed),
                    (false, None) => {}
                }
                self.paths.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
            }
            Err(error) => {
                self.others.store(true, Ordering::Relaxed);
                tracing::debug!(%error, "watching files");
            }
        }
        self.news.notify_one();
    }

    /// Waits until something changed and the burst is over, or for `pause`, and adds what changed. Says whether the kernel
    /// told of all of it by name.
    async fn gather(&self, pause: Duration, named: &mut BTreeSet<PathBuf>) -> bool {
        let told = time::timeout(pause, self.news.notified()).await.is_ok();
        if told {
            let begin = Instant::now();
            while begin.elapsed() < BURST && time::timeout(SETTLE, self.news.notified()).await.is_ok() {}
        }
        let others = self.others.swap(false, Ordering::Relaxed);
        named.append(&mut self.paths.lock().unwrap_or_else(PoisonError::into_inner));
        told && !others
    }
}

/// Whether a path is a root, below one, or one of the links beside a root that Kubernetes turns to a new version.
fn concerns(path: &Path, roots: &[PathBuf]) -> bool {
    let link = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with(".."));
    roots.iter().any(|root| path.starts_with(root) || (link && root.parent() == path.parent()))
}

#[cfg(test)]
mod tests;
