//! What is wrong with an object: data that travels to the people who wrote it, never an error that stops a push.

use crate::id::ObjectRef;
use serde_json::{Value, json};
use std::{fmt, sync::Arc};

/// How bad a problem is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Severity {
    /// The object is served, but something in it has no effect or not the effect that it seems to have.
    Warning,
    /// The object, or the named part of it, is refused; what was served before stays.
    Error,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

/// Where in an object: `spec.http[0].route[1].destination.host`. Empty for the object as a whole.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct FieldPath(String);

impl FieldPath {
    /// A path that starts at a field of the object, usually `spec`.
    pub fn new(field: impl Into<String>) -> Self {
        Self(field.into())
    }

    /// The path of a field below this one.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        match self.0.is_empty() {
            true => Self(name.to_owned()),
            false => Self(format!("{}.{name}", self.0)),
        }
    }

    /// The path of an entry of a list at this path, counted from 0.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        Self(format!("{}[{index}]", self.0))
    }

    /// The path of an entry of a map at this path.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One finding about one object.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Problem {
    /// Whose problem it is.
    pub object: ObjectRef,
    /// The field, from the object's root.
    pub path: FieldPath,
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong and what to write instead: one sentence or two.
    pub message: String,
    /// Where the object was read (`shop.yaml document 3`), where it came from a file.
    pub location: Option<Arc<str>>,
}

impl Problem {
    /// A problem that refuses the object or the part of it at `path`.
    pub fn error(object: &ObjectRef, path: FieldPath, message: impl Into<String>) -> Self {
        Self::of(Severity::Error, object, path, message)
    }

    /// A problem that leaves the object in force.
    pub fn warning(object: &ObjectRef, path: FieldPath, message: impl Into<String>) -> Self {
        Self::of(Severity::Warning, object, path, message)
    }

    /// As JSON: `kind`, `namespace` and `name` of the object, `path`, `severity`, `message`, and `location` where
    /// it is known.
    pub fn to_json(&self) -> Value {
        let mut json = json!({
            "kind": self.object.kind.as_str(),
            "name": &*self.object.name,
            "path": self.path.as_str(),
            "severity": self.severity.to_string(),
            "message": self.message,
        });
        if !self.object.namespace.is_empty() {
            json["namespace"] = self.object.namespace.as_str().into();
        }
        if let Some(location) = &self.location {
            json["location"] = (**location).into();
        }
        json
    }

    fn of(severity: Severity, object: &ObjectRef, path: FieldPath, message: impl Into<String>) -> Self {
        Self { object: object.clone(), path, severity, message: message.into(), location: None }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.severity, self.object)?;
        if !self.path.as_str().is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)?;
        match &self.location {
            Some(location) => write!(f, " ({location})"),
            None => Ok(()),
        }
    }
}
