//! Objects from files: directories of YAML and JSON, or single files, read once or watched.
//!
//! What cannot be read is a problem and harms nothing else: what it held before stays in force until it can be
//! read again or is gone.

mod catalogue;
mod content;
mod document;
mod settings;
mod tree;
mod watch;

use crate::{model::Change, parse::Context};
use catalogue::Catalogue;
use serde_json::Value;
use settings::Settings;
use std::{
    fs, io,
    path::{Path, PathBuf},
};
use tree::Tree;

pub use watch::{Options, watch};

/// The documents of a YAML text that say something, each with its number, or why it cannot be read.
pub fn documents(text: &str) -> Vec<(usize, Result<Value, String>)> {
    document::yaml(text).map(|document| (document.number, document.content)).collect()
}

/// Reads every object of these directories (with those below them) and single files once, what stands for pods, and
/// the file of the mesh's settings.
/// Where two hold the same object, the last in the order of `paths`, then of names, and then of documents counts, as it
/// does if all are applied to a cluster.
///
/// # Errors
///
/// When one of `paths` or `settings` is not there. What is wrong below them is told by the changes.
pub fn load(paths: &[PathBuf], settings: Option<&Path>, context: &Context) -> io::Result<Vec<Change>> {
    for path in paths.iter().map(PathBuf::as_path).chain(settings) {
        fs::metadata(path).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))?;
    }
    let mut catalogue = Catalogue::new(context.clone());
    Tree::new(paths).read(&mut catalogue, None);
    let settings = settings.and_then(|path| Settings::new(path.to_path_buf()).change(context));
    Ok(settings.into_iter().chain(catalogue.changes()).collect())
}
