//! What is logged, as Istio's users say it: `default:debug,xds:info`, or a level alone.

use std::{collections::BTreeMap, str::FromStr};

/// How much is logged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Nothing.
    None,
    /// What the process cannot go on with.
    Error,
    /// What somebody must see to.
    Warn,
    /// What begins and ends.
    Info,
    /// Every push.
    Debug,
    /// Everything.
    Trace,
}

/// How much is logged of what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Levels {
    /// Of all that is not named.
    pub default: Level,
    /// Of the rooms that are named.
    pub rooms: BTreeMap<&'static str, Level>,
    /// Names that stand for nothing here.
    pub unknown: Vec<String>,
}

/// Istio's names of what is logged, and the rooms that do that here. A room's own name stands for it as well.
const SCOPES: &[(&str, &str)] = &[
    ("ads", "xds"),
    ("delta", "xds"),
    ("xds", "xds"),
    ("model", "store"),
    ("store", "store"),
    ("kube", "source"),
    ("file", "source"),
    ("source", "source"),
    ("app", "app"),
    ("debug", "debug"),
];

impl FromStr for Levels {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut levels = Self { default: Level::Info, rooms: BTreeMap::new(), unknown: Vec::new() };
        for entry in text.split(',').map(str::trim).filter(|e| !e.is_empty()) {
            let (scope, level) = entry.split_once(':').unwrap_or(("default", entry));
            let level = level_named(level)?;
            match SCOPES.iter().find(|(name, _)| *name == scope) {
                Some((_, room)) => drop(levels.rooms.insert(room, level)),
                None if scope == "default" || scope == "all" => levels.default = level,
                None => levels.unknown.push(scope.to_owned()),
            }
        }
        Ok(levels)
    }
}

fn level_named(text: &str) -> Result<Level, String> {
    Ok(match text {
        "none" => Level::None,
        "fatal" | "error" => Level::Error,
        "warn" => Level::Warn,
        "info" => Level::Info,
        "debug" => Level::Debug,
        "trace" => Level::Trace,
        _ => return Err(format!("`{text}` is not a level; write none, error, warn, info or debug")),
    })
}
