//! Capture without a privileged container in each pod: a plugin that the node's container runtime calls for every pod
//! (CNI), the installer that puts it there and keeps it there, and the repair of pods that came before it.

mod decision;
mod install;
mod node;
mod plugin;
mod protocol;
mod repair;
#[cfg(test)]
mod tests;

pub use decision::{Decision, decide};
pub use install::{Installation, Installed};
pub use node::{Node, run};
pub use plugin::plugin;
pub use repair::{Mend, Repair, broken};

/// What the plugin is called: its program, and its type in the configuration of a network.
pub const PLUGIN: &str = "mainsheet-cni";
/// The file, in the directory of the agent, by which the plugin speaks to the API server.
const KUBECONFIG: &str = "mainsheet-cni-kubeconfig";
