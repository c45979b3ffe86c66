//! The file of the mesh's settings, which holds a MeshConfig and no objects.

use super::content::Text;
use crate::{
    id::{Kind, ObjectRef},
    model::{Change, State},
    parse::{self, Context, yaml},
    problem::{FieldPath, Problem},
};
use std::{fs, path::PathBuf};

/// The file of the mesh's settings, and what was last read there.
#[derive(Debug)]
pub(super) struct Settings {
    path: PathBuf,
    read: Option<Text>,
}

impl Settings {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, read: None }
    }

    /// What the file now says, where that is something else than before. While it cannot be read, what it said
    /// stays in force.
    pub(super) fn change(&mut self, context: &Context) -> Option<Change> {
        let text = fs::read_to_string(&self.path).map(Into::into).map_err(|e| format!("cannot be read: {e}"));
        if self.read.as_ref() == Some(&text) {
            return None;
        }
        let name = self.path.display().to_string();
        let value = text.clone().and_then(|t| yaml::value(&t).map_err(|e| format!("is not YAML: {e}")));
        // A file that is written anew is empty for a moment; to have no settings, one writes `{}`.
        let value = match value {
            Ok(value) if value.is_null() => Err("is empty; to set nothing, write {}".to_owned()),
            other => other,
        };
        self.read = Some(text);
        Some(match value {
            Ok(value) => parse::settings(&name, &value, context),
            Err(why) => {
                let object = ObjectRef::new(Kind::MESH_CONFIG, "", name);
                let problems = vec![Problem::error(&object, FieldPath::default(), why)];
                Change { object, state: State::Bad, problems, raw: None }
            }
        })
    }
}
