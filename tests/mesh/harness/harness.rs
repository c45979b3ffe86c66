//! What the tests and the demo run mainsheet with: real Envoys, workloads, and a network that looks to both
//! like that of a cluster. Everything stands in network namespaces and directories of one run, and ends with it.

mod agent;
mod bootstrap;
mod capture;
mod certificate;
mod client;
mod control_plane;
mod envoy;
mod network;
mod pod;
mod process;
mod run;
mod world;

pub(crate) use agent::{AgentFiles, AgentPorts};
pub(crate) use bootstrap::{Bootstrap, sidecar_node};
pub(crate) use certificate::{Asked, Shown, Signer};
pub(crate) use client::{Client, Reply, Request};
pub(crate) use control_plane::{ControlPlane, Ports, free_port, program};
pub(crate) use envoy::Envoy;
pub(crate) use network::{Network, Place, may_make_namespaces};
pub(crate) use pod::Pod;
pub(crate) use process::{Launch, Process, User, command};
pub(crate) use run::{MARK, Run, run};
pub(crate) use world::{Workload, World};

use std::time::{Duration, Instant};

/// How long a change may take to have its effect before a test gives up. Far above what it takes, since the
/// machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Asks until there is an answer, or fails with what was said last.
pub(crate) fn eventually<T>(what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) if begin.elapsed() > PATIENCE => panic!("{what}: still not after {PATIENCE:?}: {error}"),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}
