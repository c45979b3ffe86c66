//! Capture, proven by packets: what `mainsheet iptables` sets in the network namespace of a pod, and where connections
//! then arrive. Small listeners stand for Envoy, the agent, the workload, and the world outside.

mod api;
mod bench;
mod cleanup;
mod exclusions;
mod names;
mod node;
mod plugin;
mod redirect;
mod tproxy;
mod trouble;
