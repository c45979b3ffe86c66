//! The packet filter, the routes and the addresses of a network namespace: reads what is there, sets what `capture`
//! says, and says what is missing where that cannot be done. It works in the namespace of the calling thread.

mod apply;
mod check;
mod netlink;
mod probe;
mod programs;

pub use apply::{Outcome, apply, clean, dry_run, is_applied};
pub use check::{Finding, check};
pub use probe::probe;

use crate::capture::{Names, Network, Options};
use anyhow::{Context as _, Result};
use std::{fs, io, net::IpAddr, os::fd::AsFd, path::Path};

/// Moves the calling thread into a network namespace. What it starts from then on runs there too.
///
/// # Errors
///
/// Where there is none of this name, or it may not be entered.
pub fn enter(namespace: &Path) -> Result<()> {
    let failed = || {
        format!("entering the network namespace {}: it must exist, and that needs CAP_SYS_ADMIN", namespace.display())
    };
    let file = fs::File::open(namespace).with_context(failed)?;
    let kind = Some(rustix::thread::LinkNameSpaceType::Network);
    rustix::thread::move_into_link_name_space(file.as_fd(), kind).with_context(failed)
}

/// The users and groups of this machine.
pub fn names() -> Names {
    // Without the files no name is known, and the message about an unknown name says so.
    let text = |file| fs::read_to_string(file).unwrap_or_default();
    Names::read(&text("/etc/passwd"), &text("/etc/group"))
}

/// What the rules depend on in this namespace.
///
/// # Errors
///
/// Where its addresses cannot be read, or it has none, or `/etc/resolv.conf` is needed and cannot be read.
pub fn network(options: &Options) -> Result<Network> {
    let addresses = netlink::addresses().context("reading the addresses of the network interfaces")?;
    let mut nameservers = Vec::new();
    if options.redirect_dns && !options.capture_all_dns {
        let text = fs::read_to_string("/etc/resolv.conf")
            .context("--redirect-dns needs the servers of /etc/resolv.conf; or add --capture-all-dns")?;
        nameservers = servers(&text);
    }
    Ok(Network { ipv6: captures_ipv6(&addresses, options.dual_stack)?, nameservers })
}

/// Whether IPv6 is captured: where the pod has nothing else, or where it shall be.
fn captures_ipv6(addresses: &[IpAddr], dual_stack: bool) -> Result<bool> {
    let usable = |address: &&IpAddr| match address {
        IpAddr::V4(address) => !(address.is_loopback() || address.is_link_local()),
        IpAddr::V6(address) => !(address.is_loopback() || address.is_unicast_link_local() || address.is_multicast()),
    };
    let usable: Vec<&IpAddr> = addresses.iter().filter(usable).filter(|a| **a != PASSTHROUGH).collect();
    anyhow::ensure!(
        !usable.is_empty(),
        "no network interface has an address yet: the network of the pod is to be set up before its traffic is captured"
    );
    let v4 = usable.iter().any(|a| a.is_ipv4());
    Ok(usable.iter().any(|a| a.is_ipv6()) && (dual_stack || !v4))
}

/// The address that Envoy connects to the workload from; an earlier run may have added it.
const PASSTHROUGH: IpAddr = IpAddr::V6(std::net::Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6));

/// The servers of a `resolv.conf`.
fn servers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        let word = words.next().filter(|w| *w == "nameserver").and(words.next())?;
        word.split('%').next()?.parse().ok()
    };
    text.lines().filter_map(server).collect()
}

/// Whether an answer of the kernel says that there is such a thing already, or none.
fn unless(result: io::Result<()>, kinds: &[rustix::io::Errno]) -> io::Result<()> {
    match result {
        Err(error) if kinds.iter().any(|k| error.raw_os_error() == Some(k.raw_os_error())) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_is_captured_where_there_is_nothing_else_or_both_are_asked_for() {
        let parse = |texts: &[&str]| texts.iter().map(|t| t.parse().expect("an address")).collect::<Vec<IpAddr>>();
        let of = |texts: &[&str], dual| captures_ipv6(&parse(texts), dual).expect("an address");
        assert!(!of(&["127.0.0.1", "10.0.0.1", "::1", "fe80::1"], true));
        assert!(!of(&["10.0.0.1", "fd00::1"], false));
        assert!(of(&["10.0.0.1", "fd00::1"], true));
        assert!(of(&["127.0.0.1", "169.254.0.1", "fd00::1"], false));
        assert!(captures_ipv6(&parse(&["127.0.0.1", "::1", "fe80::1", "::6"]), true).is_err());
    }

    #[test]
    fn the_servers_of_dns_are_those_of_the_file() {
        let text = "# nameserver 9.9.9.9\nsearch svc\nnameserver 10.96.0.10\n nameserver\tfe80::1%eth0\nnameserver x\n";
        assert_eq!(servers(text), ["10.96.0.10".parse::<IpAddr>().expect("v4"), "fe80::1".parse().expect("v6")]);
    }
}
