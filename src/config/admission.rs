//! Options of the webhooks, under istiod's names where it has the thing.

use clap::{Args, ValueEnum};

/// What the API server asks about pods and objects.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Webhooks")]
pub struct Admission {
    /// Whether sidecars are containers that start before the pod's own and end after them; `auto`: where all nodes have
    /// Kubernetes 1.33 or newer.
    #[arg(long, env = "ENABLE_NATIVE_SIDECARS", value_enum, default_value = "auto")]
    pub native_sidecars: NativeSidecars,
    /// What the cluster is. On `openshift` sidecars run as a user that their namespace has; other words change nothing.
    #[arg(long, env = "PLATFORM", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub platform: String,
}

/// Whether sidecars are containers that start before the pod's own and end after them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum NativeSidecars {
    /// Where all nodes know such.
    Auto,
    /// Always.
    True,
    /// Never.
    False,
}
