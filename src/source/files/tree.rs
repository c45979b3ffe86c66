//! The files below the given paths: which there are, which may have changed, and their text.

use super::{
    catalogue::{Catalogue, Position},
    content::Text,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, Metadata},
    io,
    path::{Component, Path, PathBuf},
    time::{Duration, SystemTime},
};

/// Larger files are refused.
const MAX_BYTES: u64 = 64 << 20;
/// A file that changed less than this before it was read may have changed again without a trace in its times.
const RACY: Duration = Duration::from_secs(2);
/// How long a file whose last line has no end is taken as one that is still being written.
const UNFINISHED: Duration = Duration::from_millis(500);

/// The paths to read and what is known of the files there.
#[derive(Debug)]
pub(super) struct Tree {
    roots: Vec<PathBuf>,
    /// What all names of files leave out.
    shared: PathBuf,
    seen: BTreeMap<Position, Stamp>,
    /// There are no links among the files and directories: each is known by one path.
    plain: bool,
}

/// What tells one state of a file from another without reading it.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    inode: u64,
    /// Whether it changed so short a time before that this says little.
    racy: bool,
}

/// What reading left open.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Open {
    /// A file that was there is not; it may be on its way back.
    pub(super) missing: bool,
    /// A file seems to be still being written.
    pub(super) unfinished: bool,
}

/// How a pass looks at files that are already known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pass<'a> {
    /// The files that are said to have changed.
    pub(super) named: &'a BTreeSet<PathBuf>,
    /// Whether files that are missing are gone.
    pub(super) last: bool,
    /// The time.
    pub(super) now: SystemTime,
}

impl Tree {
    pub(super) fn new(roots: &[PathBuf]) -> Self {
        Self { roots: roots.to_vec(), shared: shared(roots), seen: BTreeMap::new(), plain: false }
    }

    /// Hands the catalogue every file that is new, changed or gone. The first pass of all takes files as they are.
    /// What is below a directory that cannot be listed is not gone.
    pub(super) fn read(&mut self, catalogue: &mut Catalogue, pass: Option<Pass<'_>>) -> Open {
        let mut open = Open::default();
        let (found, plain) = self.list();
        self.plain = plain;
        let hidden = |p: &Position| found.iter().any(|(at, stamp)| stamp.is_err() && p.1.starts_with(&at.1));
        let missing = |p: &&Position| !found.contains_key(*p) && !hidden(p);
        let known: Vec<Position> = catalogue.positions().filter(missing).cloned().collect();
        open.missing = !known.is_empty() && pass.is_some_and(|p| !p.last);
        if open.missing {
            return open;
        }
        for position in known {
            self.seen.remove(&position);
            catalogue.remove(&position);
        }
        for (position, stamp) in found {
            let named = pass.is_some_and(|p| p.named.contains(&*position.1));
            if !named && self.seen.get(&position).is_some_and(|s| Some(s) == stamp.as_ref().ok() && !s.racy) {
                continue;
            }
            open.unfinished |= self.take(catalogue, position, stamp, pass);
        }
        open
    }

    /// The same for the files that are said to have changed alone. `None` where others have to be looked at, too: some
    /// may be gone, or known by more than one path.
    pub(super) fn read_named(&mut self, catalogue: &mut Catalogue, pass: Pass<'_>) -> Option<Open> {
        let mut found = Vec::new();
        for path in pass.named {
            let mut roots = self.roots.iter().enumerate().filter(|(_, root)| path.starts_with(root));
            let (Some((at, root)), None, true) = (roots.next(), roots.next(), self.plain) else { return None };
            let below = path.strip_prefix(root).ok()?;
            if below.components().any(|c| is_hidden(&c.as_os_str().to_string_lossy())) {
                return None;
            }
            let position = (at, path.as_path().into());
            match fs::symlink_metadata(path) {
                Ok(metadata) if !metadata.is_file() => return None,
                Ok(metadata) => found.extend(has_objects(path).then(|| (position, stamp(&metadata)))),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return None,
                Err(_) => {
                    let mut known = self.seen.range(position..).take_while(|(at, _)| at.1.starts_with(path));
                    if known.next().is_some() {
                        return None;
                    }
                }
            }
        }
        let mut open = Open::default();
        for (position, stamp) in found {
            open.unfinished |= self.take(catalogue, position, stamp, Some(pass));
        }
        Some(open)
    }

    /// Hands the catalogue a file, unless that is still being written: then it says so.
    fn take(
        &mut self,
        catalogue: &mut Catalogue,
        position: Position,
        stamp: Result<Stamp, String>,
        pass: Option<Pass<'_>>,
    ) -> bool {
        let text = match &stamp {
            Ok(_) => text(&position.1),
            Err(why) => Err(why.clone()),
        };
        if pass.is_some_and(|p| unfinished(&position.1, &text, stamp.as_ref().ok(), p.now)) {
            return true;
        }
        let name = self.name(&position.1);
        catalogue.read(position.clone(), &name, &text);
        if let Ok(stamp) = stamp {
            self.seen.insert(position, stamp);
        }
        false
    }

    /// The files that there are, and whether there are no links among them. A root that is missing or cannot be listed
    /// stands in its own place with the reason.
    fn list(&self) -> (BTreeMap<Position, Result<Stamp, String>>, bool) {
        let mut found = BTreeMap::new();
        let mut visited = Visited { plain: true, directories: BTreeSet::new() };
        for (i, root) in self.roots.iter().enumerate() {
            let mut add = |path: PathBuf, stamp| {
                found.entry((i, path.into())).or_insert(stamp);
            };
            visited.plain &= fs::symlink_metadata(root).is_ok_and(|m| !m.is_symlink());
            match fs::metadata(root) {
                Ok(metadata) if metadata.is_dir() => walk(root, &mut visited, &mut add),
                Ok(metadata) => add(root.clone(), stamp(&metadata)),
                Err(e) => add(root.clone(), Err(format!("cannot be read: {e}"))),
            }
        }
        (found, visited.plain)
    }

    /// How people know a file: its path without what all paths have in common.
    fn name(&self, path: &Path) -> String {
        let name = path.strip_prefix(&self.shared).unwrap_or(path);
        let name = if name.as_os_str().is_empty() { path } else { name };
        name.display().to_string()
    }
}

/// The deepest directory that all roots are in, or are.
fn shared(roots: &[PathBuf]) -> PathBuf {
    let directory = |root: &PathBuf| match root.is_dir() {
        true => root.clone(),
        false => root.parent().map(Path::to_path_buf).unwrap_or_default(),
    };
    let mut directories = roots.iter().map(directory);
    let first = directories.next().unwrap_or_default();
    directories.fold(first, |a, b| {
        let same = a.components().zip(b.components()).take_while(|(x, y)| x == y);
        same.map(|(x, _)| x).filter(|c| *c != Component::CurDir).collect()
    })
}

/// What was looked at.
struct Visited {
    directories: BTreeSet<PathBuf>,
    /// There was no link.
    plain: bool,
}

/// Whether a name is no object's file.
fn is_hidden(name: &str) -> bool {
    name.starts_with(['.', '#'])
}

/// Lists what a directory and those below it hold, each directory once however many links lead to it. Names that
/// start with a dot are no objects' files: so editors name what they are still writing, and Kubernetes the
/// directories that stand behind a mounted ConfigMap.
fn walk(directory: &Path, visited: &mut Visited, add: &mut impl FnMut(PathBuf, Result<Stamp, String>)) {
    let listed = fs::canonicalize(directory).and_then(|real| match visited.directories.insert(real) {
        true => fs::read_dir(directory).and_then(Iterator::collect::<io::Result<Vec<_>>>),
        false => Ok(Vec::new()),
    });
    let mut entries = match listed {
        Ok(entries) => entries,
        Err(e) => return add(directory.to_path_buf(), Err(format!("cannot be listed: {e}"))),
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for (entry, path) in entries.iter().map(|entry| (entry, entry.path())) {
        visited.plain &= entry.file_type().is_ok_and(|t| !t.is_symlink());
        let hidden = is_hidden(&entry.file_name().to_string_lossy());
        // Follows links. What is gone by now is a link to nowhere or about to be found missing.
        let Some(metadata) = fs::metadata(&path).ok().filter(|_| !hidden) else { continue };
        if metadata.is_dir() {
            walk(&path, visited, add);
        } else if metadata.is_file() && has_objects(&path) {
            add(path, stamp(&metadata));
        }
    }
}

/// Whether a file's name says that it holds objects.
pub(super) fn has_objects(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
}

fn stamp(metadata: &Metadata) -> Result<Stamp, String> {
    use std::os::unix::fs::MetadataExt;
    if !metadata.is_file() {
        return Err("is neither a file nor a directory".into());
    }
    if metadata.len() > MAX_BYTES {
        return Err(format!("has more than {} MiB; split it", MAX_BYTES >> 20));
    }
    let modified = metadata.modified().ok();
    let racy = modified.is_none_or(|m| SystemTime::now().duration_since(m).is_ok_and(|age| age < RACY));
    Ok(Stamp { modified, bytes: metadata.len(), inode: metadata.ino(), racy })
}

fn text(path: &Path) -> Text {
    let bytes = fs::read(path).map_err(|e| format!("cannot be read: {e}"))?;
    let text = String::from_utf8(bytes).map_err(|e| format!("is not UTF-8: {}", e.utf8_error()))?;
    Ok(text.into())
}

/// Whether a text looks like one that is still being written: it is young, and its last line has no end. JSON shows
/// by itself whether it is whole.
fn unfinished(path: &Path, text: &Text, stamp: Option<&Stamp>, now: SystemTime) -> bool {
    let Ok(text) = text else { return false };
    let age = stamp.and_then(|s| s.modified).and_then(|m| now.duration_since(m).ok());
    let young = age.is_some_and(|age| age < UNFINISHED);
    young && !text.ends_with('\n') && path.extension().is_none_or(|e| e != "json")
}
