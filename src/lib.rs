//! mainsheet: a service-mesh control plane that reads Istio's APIs and drives stock Envoy.
//!
//! The rooms and who may know whom are listed in `layering.rs`; the way through is in `README.md`.

#![forbid(unsafe_code)]

pub mod agent;
pub mod api;
pub mod app;
pub mod bootstrap;
pub mod ca;
pub mod capture;
pub mod cli;
pub mod cni;
pub mod config;
pub mod controller;
pub mod debug;
pub mod hostnet;
pub mod id;
pub mod install;
pub mod model;
pub mod parse;
pub mod pb;
pub mod peer;
pub mod plan;
pub mod problem;
pub mod prometheus;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod survey;
pub mod template;
pub mod tls;
pub mod translate;
pub mod webhook;
pub mod xds;

// The benchmarks' meshes are also those of tests, and call the library by its name.
#[cfg(test)]
extern crate self as mainsheet;
#[cfg(test)]
mod dice;
#[cfg(test)]
mod layering;
