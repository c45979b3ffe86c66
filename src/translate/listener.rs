//! Listeners: outbound, inbound, and what their chains are made of.

pub(super) mod inbound;
pub(super) mod outbound;
