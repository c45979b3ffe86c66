//! Files of YAML or JSON, read once.

use crate::{model::Change, parse, parse::Context};
use serde::Deserialize as _;
use std::{fs, io, path::PathBuf};

/// Reads every object of these files and directories.
///
/// # Errors
///
/// When a path cannot be read.
pub fn load(paths: &[PathBuf], context: &Context) -> io::Result<Vec<Change>> {
    let mut changes = Vec::new();
    for path in paths {
        if path.is_dir() {
            let mut below: Vec<PathBuf> = fs::read_dir(path)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
            below.sort();
            changes.extend(load(&below, context)?);
            continue;
        }
        let text = fs::read_to_string(path)?;
        for document in serde_norway::Deserializer::from_str(&text) {
            let value = serde_json::Value::deserialize(document).map_err(io::Error::other)?;
            if !value.is_null() {
                changes.push(parse::object(&value, context));
            }
        }
    }
    Ok(changes)
}
