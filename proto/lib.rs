//! The generated messages and services of Envoy's API and of our own, and their descriptors.
//!
//! They are a package of their own because they change seldom and are long: what is built from `src/` need not build
//! them again.

#![allow(missing_docs, rust_2018_idioms, clippy::all, clippy::pedantic, clippy::restriction, reason = "generated code")]

include!(concat!(env!("OUT_DIR"), "/pb/mod.rs"));

/// The descriptors of the types that there is code for, with all that they name.
pub const SERVED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/served.bin"));

/// The descriptors of every type of Envoy's API.
pub const ALL: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/all.bin"));
