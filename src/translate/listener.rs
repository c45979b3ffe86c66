//! Listeners: outbound, inbound, and what their chains are made of.

mod arrival;
mod collision;
mod connection;
pub(super) mod gateway;
mod gateway_bytes;
pub(super) mod inbound;
mod inbound_chain;
mod inbound_cluster;
mod inspector;
pub(super) mod outbound;
mod reserved;
mod service_port;
mod virtual_outbound;

pub(super) use virtual_outbound::proxy_cluster;

use crate::{
    pb::envoy::config::{
        core::v3::Address,
        listener::v3::{
            AdditionalAddress,
            listener::{
                ConnectionBalanceConfig,
                connection_balance_config::{BalanceType, ExactBalance},
            },
        },
    },
    snapshot::View,
    translate::endpoint::{pipe_address, socket_address},
};
use std::sync::Arc;

/// How many connections a socket of the system's accepts at once: one, so that they spread over the workers.
const ACCEPT_AT_ONCE: u32 = 1;

/// The addresses that stand for every local one.
fn wildcards(view: &View<'_>) -> Vec<Arc<str>> {
    of_families(view, view.key.families.wildcards())
}

/// The loopback addresses.
fn loopbacks(view: &View<'_>) -> Vec<Arc<str>> {
    of_families(view, view.key.families.loopbacks())
}

/// The first address alone, unless listeners take both IP families.
fn of_families(view: &View<'_>, addresses: &[&str]) -> Vec<Arc<str>> {
    let count = if view.snapshot.mesh.features.dual_stack { addresses.len() } else { 1 };
    addresses.iter().take(count).map(|a| Arc::from(*a)).collect()
}

/// Where a listener listens: at the first address, and also at the others.
fn bound(addresses: &[Arc<str>], port: u16) -> (Option<Address>, Vec<AdditionalAddress>) {
    let mut addresses = addresses.iter().map(|a| match a.strip_prefix("unix://") {
        Some(path) => pipe_address(path),
        None => socket_address(a, port),
    });
    let first = addresses.next();
    let more = addresses.map(|a| AdditionalAddress { address: Some(a), ..Default::default() });
    (first, more.collect())
}

/// Connections are spread over the workers exactly.
fn exact_balance() -> ConnectionBalanceConfig {
    ConnectionBalanceConfig { balance_type: Some(BalanceType::ExactBalance(ExactBalance {})) }
}
