//! Serving proxies: the xDS protocol, what is kept between snapshots, and the gRPC services.
//!
//! The way through: a [`Server`] has one task per stream, which brings its [`Lease`] of the [`Engine`] to the
//! newest snapshot and lets the protocol ([`stream::Stream`], which knows no socket) say what to send. The
//! [`Registry`] shows all of it to debug pages.

mod attendance;
mod cache;
mod encoded;
mod grpc;
mod local;
mod metrics;
mod registry;
mod requests;
mod server;
mod session;
pub mod stream;
mod wire;

#[cfg(test)]
mod cost;
#[cfg(test)]
mod tests;

pub use attendance::{Attendance, Stay};
pub use cache::{Engine, Lease};
pub use local::{Asked, Local};
pub use metrics::{Counter, Metrics};
pub use registry::{Connection, Registry};
pub use server::{DebugHook, Options, Secrets, Server};
pub use wire::Answer;
