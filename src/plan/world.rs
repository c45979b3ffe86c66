//! The world that files describe.

use crate::{
    parse::Context,
    problem::{Problem, Severity},
    snapshot::Snapshot,
    source::files,
};
use std::path::{Path, PathBuf};

/// The world that files describe, read once.
#[derive(Debug)]
pub struct World {
    /// Everything that could be understood.
    pub snapshot: Snapshot,
    /// What has no effect because of what is not there.
    idle: Vec<Problem>,
}

impl World {
    /// Reads these files and directories, over the settings of the context, which those of the file
    /// `settings` or among the files override.
    ///
    /// # Errors
    ///
    /// When a path cannot be read at all. What is wrong within files is a problem of the snapshot.
    pub fn load(paths: &[PathBuf], settings: Option<&Path>, context: &Context) -> std::io::Result<Self> {
        let changes = files::load(paths, settings, context)?;
        let snapshot = Snapshot::new((*context.mesh).clone()).apply(changes);
        Ok(Self { idle: snapshot.idle_policies(), snapshot })
    }

    /// What is wrong with the objects, by object.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.snapshot.problems.values().flat_map(|p| p.iter()).chain(&self.idle)
    }

    /// Whether an object, or a part of one, was refused.
    pub fn has_errors(&self) -> bool {
        self.problems().any(|p| p.severity == Severity::Error)
    }
}
