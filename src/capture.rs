//! What brings a pod's traffic to its sidecar: the rules of the packet filter, as data and as the text that the tools
//! of a kernel read. Nothing here touches a kernel; that is the business of `hostnet`.
//!
//! The way through: [`Settings`] (what was written, and where) → [`Options`] (what it means) → [`RuleSet`] (what the
//! packet filter shall do) → [`iptables`] or [`nftables`] (how it is told).

pub mod iptables;
pub mod nftables;
mod options;
mod rule;
mod ruleset;
mod settings;
#[cfg(test)]
mod tests;

pub use options::{Groups, Mode, Options, Ports, Ranges, Variant};
pub use rule::{Chain, Family, Match, PortRange, Protocol, Rule, State, Table, Target};
pub use ruleset::{Network, RuleSet};
pub use settings::{FLAGS, Flag, Kind, Names, Setting, Settings};

/// The name of Envoy's own address as the source of what it passes on to the workload.
const PASSTHROUGH_V4: &str = "127.0.0.6/32";
/// The same of IPv6; the loopback device has it only if it is added.
const PASSTHROUGH_V6: &str = "::6/128";
const LOOPBACK_V6: &str = "::1/128";
/// Where the agent answers DNS.
const DNS_PORT: u16 = 15053;
/// The mark, in TPROXY mode, of what Envoy sends to the workload's own address.
const OUTBOUND_MARK: u32 = 1338;
