//! Options of what is written into the cluster.

use super::time;
use clap::{ArgAction, Args};
use ipnet::IpNet;
use std::time::Duration;

/// What is written into the cluster, by one replica at a time.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Writing into the cluster")]
pub struct Writing {
    /// What this replica is called, which no other is; without this the name of the machine.
    #[arg(long, env = "POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,
    /// How long a replica may write after it was last heard of.
    #[arg(long, default_value = "15s", value_name = "DURATION", value_parser = time::parse)]
    pub lease_duration: Duration,
    /// The ConfigMap of each namespace that has the roots which workloads trust.
    #[arg(long, env = "PILOT_CA_CERT_CONFIGMAP", default_value = "istio-ca-root-cert", value_name = "NAME")]
    pub root_config_map: String,
    /// Whether objects are told, in their status, what is said of them.
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub write_status: bool,
    /// Whether ServiceEntries without addresses are given some.
    #[arg(long, env = "PILOT_ENABLE_IP_AUTOALLOCATE", action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub ip_autoallocate: bool,
    /// The IPv4 addresses that they are given.
    #[arg(long, env = "PILOT_IP_AUTOALLOCATE_IPV4_PREFIX", default_value = "240.240.0.0/16", value_name = "PREFIX")]
    pub ipv4_prefix: IpNet,
    /// The IPv6 addresses that they are given.
    #[arg(long, env = "PILOT_IP_AUTOALLOCATE_IPV6_PREFIX", default_value = "2001:2::/48", value_name = "PREFIX")]
    pub ipv6_prefix: IpNet,
}
