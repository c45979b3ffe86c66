//! The network of a world: a namespace that stands for the node with a bridge in it, and one namespace per pod.
//! No address of it is seen outside.

use super::{capture, process, run};
use std::{
    io::Write,
    process::{Command, Stdio},
};

/// Where a program runs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    /// Where this process runs. Addresses are of the loopback device.
    Here,
    /// In the network namespace of this name.
    Namespace(String),
}

/// A node and the namespaces of its pods, deleted with it.
#[derive(Debug)]
pub(crate) struct Network {
    prefix: String,
    namespaces: Vec<String>,
}

impl Network {
    /// The address that pods reach the node by: the control plane listens here.
    pub(crate) const NODE: &str = "10.244.0.1";
    /// An address of the node that is in no file: a server outside of the mesh.
    pub(crate) const OUTSIDE: &str = "10.99.0.1";

    /// A node without pods.
    ///
    /// # Panics
    ///
    /// Where this process may not make network namespaces.
    pub(crate) fn new(prefix: String) -> Self {
        assert!(
            may_make_namespaces(),
            "network namespaces need root and `ip` (iproute2): run as root after `make tools`"
        );
        let node = format!("{prefix}node");
        ip(None, &[format!("netns add {node}")]);
        let network = Self { prefix, namespaces: vec![node.clone()] };
        ip(
            Some(&node),
            &[
                "link set lo up".to_owned(),
                // Without an address of its own a bridge takes one of its pods', and another with each pod that comes:
                // those that know the old one then send to nobody.
                "link add br0 address 02:00:0a:f4:00:01 type bridge".to_owned(),
                format!("addr add {}/16 dev br0", Self::NODE),
                format!("addr add {}/32 dev br0", Self::OUTSIDE),
                "link set br0 up".to_owned(),
            ],
        );
        network
    }

    /// Programs of the node may listen on any address and port, as if it were theirs.
    pub(crate) fn bind_anything(&self) {
        let script =
            "echo 1 >/proc/sys/net/ipv4/ip_nonlocal_bind; echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start";
        feed(process::command(&self.node(), "sh".as_ref(), process::User::Own).args(["-c", script]), "");
    }

    /// The place of the node itself.
    pub(crate) fn node(&self) -> Place {
        Place::Namespace(self.namespaces[0].clone())
    }

    /// A namespace for the pod of this address. Its traffic is captured as a sidecar's is.
    pub(crate) fn add_pod(&mut self, name: &str, address: &str, captured: bool) -> Place {
        let namespace = format!("{}{name}", self.prefix);
        let port = format!("v{}", self.namespaces.len());
        ip(None, &[format!("netns add {namespace}")]);
        self.namespaces.push(namespace.clone());
        ip(
            Some(&self.namespaces[0]),
            &[
                format!("link add {port} type veth peer name eth0 netns {namespace}"),
                format!("link set {port} master br0 up"),
            ],
        );
        ip(
            Some(&namespace),
            &[
                "link set lo up".to_owned(),
                format!("addr add {address}/16 dev eth0"),
                "link set eth0 up".to_owned(),
                format!("route add default via {}", Self::NODE),
            ],
        );
        if captured {
            capture::install(&namespace);
        }
        let place = Place::Namespace(namespace);
        // As in a container, where a program that is not root's may listen on port 80.
        let script = "echo 0 >/proc/sys/net/ipv4/ip_unprivileged_port_start";
        feed(process::command(&place, "sh".as_ref(), process::User::Own).args(["-c", script]), "");
        place
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for namespace in &self.namespaces {
            // What is left of it goes with the run.
            let _ = Command::new("ip").args(["netns", "del", namespace]).stderr(Stdio::null()).status();
        }
    }
}

/// Whether this process may make network namespaces.
pub(crate) fn may_make_namespaces() -> bool {
    let (_, prefix) = run().part();
    let name = format!("{prefix}try");
    let ip = |what| Command::new("ip").args(["netns", what, &name]).stderr(Stdio::null()).status();
    ip("add").is_ok_and(|s| s.success()) && ip("del").is_ok_and(|s| s.success())
}

/// Runs commands of `ip`, within a namespace where one is named.
fn ip(namespace: Option<&str>, commands: &[String]) {
    let mut ip = Command::new("ip");
    if let Some(namespace) = namespace {
        ip.args(["-n", namespace]);
    }
    feed(ip.args(["-batch", "-"]), &format!("{}\n", commands.join("\n")));
}

/// Runs a command that reads `input`, and fails with what it says where it fails.
pub(super) fn feed(command: &mut Command, input: &str) {
    let result = try_feed(command, input);
    result.unwrap_or_else(|error| panic!("{command:?} < {input}: {error}"));
}

/// Runs a command that reads `input`.
pub(super) fn try_feed(command: &mut Command, input: &str) -> Result<(), String> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| e.to_string())?;
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).map_err(|e| e.to_string())?;
    let output = child.wait_with_output().map_err(|e| e.to_string())?;
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}
