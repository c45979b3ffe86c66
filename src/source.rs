//! Where objects come from: each source reads them, has them parsed, and hands what changed to the store's writer.
//!
//! Nothing here knows Envoy. A source says when it has read everything once, and goes on watching.

pub mod files;
pub mod keys;
pub mod kubernetes;
mod workload;
