//! Files that are watched: read once, and again whenever the kernel tells of a change, or from time to time where
//! it cannot.

use super::{
    catalogue::Catalogue,
    tree::{Open, Pass, Tree},
};
use crate::{
    model::Change,
    parse::Context,
    store::{Stopped, Writer},
};
use notify::{
    EventKind, RecommendedWatcher, RecursiveMode, Watcher as _,
    event::{AccessKind, AccessMode, ModifyKind, MetadataKind},
};
use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};
use tokio::{sync::mpsc, task, time};

/// Changes come in bursts; one is over when so long nothing came, or after `BURST` anyway.
const SETTLE: Duration = Duration::from_millis(15);
const BURST: Duration = Duration::from_millis(50);
/// A file that is replaced may be missing for so long.
const RETURN: Duration = Duration::from_millis(100);
/// The kernel can lose events, and network file systems have none: so often the files' times are looked at anyway.
const SWEEP: Duration = Duration::from_secs(5);
/// And so often where the kernel tells nothing at all.
const POLL: Duration = Duration::from_secs(1);

/// What to read and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directories and single files.
    pub paths: Vec<PathBuf>,
    /// The MeshConfig file, which need not be there.
    pub mesh: Option<PathBuf>,
    /// Look for changes so often and do not ask the kernel.
    pub poll: Option<Duration>,
    /// What parsing depends on.
    pub context: Context,
}

/// The file source.
#[derive(Debug)]
pub struct Files {
    options: Options,
    writer: Writer,
    state: State,
}

/// What goes along to where files are read.
#[derive(Debug)]
struct State {
    tree: Tree,
    catalogue: Catalogue,
}

impl Files {
    /// A source that hands its changes to `writer`.
    pub fn new(options: Options, writer: Writer) -> Self {
        let tree = Tree::new(&options.paths, options.mesh.clone());
        let catalogue = Catalogue::new(options.context.clone());
        Self { options, writer, state: State { tree, catalogue } }
    }

    /// Reads everything, says `synced` once it is published, and then follows the changes until the store stops.
    pub async fn run(mut self, synced: impl FnOnce()) -> Result<(), Stopped> {
        // Watching starts first, so that no change falls between the two.
        let (mut watch, mut paths) = self.watch().await;
        let (mut state, _, changes) = self.state.pass(None).await;
        self.writer.apply(changes).await?;
        self.writer.published().await?;
        synced();
        let mut open = Open::default();
        loop {
            let mut named = BTreeSet::new();
            let pause = match (open.unfinished, &watch) {
                (true, _) => RETURN,
                (_, Some(_)) => SWEEP,
                (_, None) => self.options.poll.unwrap_or(POLL),
            };
            if gather(&mut paths, &mut named, pause).await == Gathered::Nothing && watch.is_some() {
                watch = renew(watch, &self.options);
            }
            let (next, now_open, changes) = state.pass(Some((named.clone(), false))).await;
            (state, open) = (next, now_open);
            self.tell(changes).await?;
            if open.missing {
                time::sleep(RETURN).await;
                gather(&mut paths, &mut named, Duration::ZERO).await;
                let (next, now_open, changes) = state.pass(Some((named, true))).await;
                (state, open) = (next, now_open);
                self.tell(changes).await?;
            }
        }
    }
}
