//! The rules that bring a pod's traffic to its sidecar, set as the init container of a pod sets them.

use super::{network::feed, program, run::MARK};
use std::process::Command;

/// What injection asks for: everything but the ports of the sidecar itself.
const WORDS: [&str; 8] = ["-b", "*", "-i", "*", "-d", "15090,15021,15020", "-u", "1337"];

/// Sets the rules in a namespace.
pub(super) fn install(namespace: &str) {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}")).arg(program()).arg("iptables").args(WORDS);
    feed(command.env(MARK, super::run().dir()), "");
}
