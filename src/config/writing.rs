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
    /// Whether the roots are in a ClusterTrustBundle too, where the cluster has such.
    #[arg(long, env = "ENABLE_CLUSTER_TRUST_BUNDLE_API", action = ArgAction::Set, default_value_t = false, value_name = "BOOL")]
    pub cluster_trust_bundle: bool,
    /// Whether Events tell of objects that are refused, here or by proxies, and of who writes.
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub write_events: bool,
    /// Whether machines that connect are given WorkloadEntries after their WorkloadGroups.
    #[arg(long, env = "PILOT_ENABLE_WORKLOAD_ENTRY_AUTOREGISTRATION", action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub register_machines: bool,
    /// How long the WorkloadEntry of a machine stays after that has gone.
    #[arg(long, env = "PILOT_WORKLOAD_ENTRY_GRACE_PERIOD", default_value = "10s", value_name = "DURATION", value_parser = time::parse)]
    pub machine_grace_period: Duration,
    /// Whether a machine must have proved to be of the namespace and the service account of its WorkloadGroup.
    #[arg(long, env = "ISTIO_WORKLOAD_ENTRY_VALIDATE_IDENTITY", action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub validate_machines: bool,
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
