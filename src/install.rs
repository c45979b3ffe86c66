//! Installing without Helm: the charts are in the binary, are filled in by the template engine that fills in injection's
//! templates, and are applied server-side.
//!
//! What an installation has made is labelled, and noted with its values in a ConfigMap, so that it can be compared with what
//! it should be, and removed, without being told again what it was.

mod apply;
mod chart;
mod cluster;
mod ready;
mod record;
mod remove;
mod tag;
#[cfg(test)]
mod tests;
mod values;
mod verify;

pub use apply::{Install, install};
pub use chart::{Component, Release, render};
pub use cluster::{Cluster, KINDS, called};
pub use ready::wait;
pub use remove::{Uninstall, uninstall};
pub use tag::{Tag, list as tags, remove as remove_tag, set as set_tag};
pub use values::{Values, merge, revision};
pub use verify::{Finding, manifest as verify_manifest, verify};
