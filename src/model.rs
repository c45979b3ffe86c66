//! Resolved concepts: what the objects mean, as plain values. No Kubernetes, no protobuf, no serialisation.

mod authorization_policy;
mod authorizer;
mod delegate;
mod destination_rule;
mod endpoint;
mod gateway;
mod label;
mod mesh;
mod node;
mod object;
mod peer_authentication;
mod reach;
mod secret;
mod service;
mod service_entry;
mod sidecar;
mod virtual_service;
mod workload;

pub use authorization_policy::*;
pub use authorizer::*;
pub use delegate::*;
pub use destination_rule::*;
pub use endpoint::*;
pub use gateway::*;
pub use label::*;
pub use mesh::*;
pub use node::*;
pub use object::*;
pub use peer_authentication::*;
pub use reach::*;
pub use secret::*;
pub use service::*;
pub use service_entry::*;
pub use sidecar::*;
pub use virtual_service::*;
pub use workload::*;
