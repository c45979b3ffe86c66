//! The shapes of Istio's objects as users write them, field by field: nothing of what they mean.

pub mod authorization_policy;
pub mod destination_rule;
pub mod extension_provider;
pub mod gateway;
pub mod kind;
pub mod mesh;
pub mod peer_authentication;
pub mod proxy_config;
pub mod request_authentication;
pub mod schema;
pub mod service_entry;
pub mod sidecar;
pub mod virtual_service;
pub mod workload_entry;
