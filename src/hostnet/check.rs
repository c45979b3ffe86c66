//! What capturing needs of the machine, and what of it is missing.

use super::programs::{Backend, find};
use crate::capture::{Options, RuleSet, Table, Variant, iptables};
use rustix::thread::{CapabilitySet, capabilities};
use std::fmt;

/// One thing that is needed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// Whether it is there.
    pub good: bool,
    /// What it is, and what to do where it is missing.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", if self.good { "ok     " } else { "missing" }, self.text)
    }
}

/// Looks at the capabilities of this process, at the programs, and at what the kernel can do of what the rules need.
/// The kernel is asked by a chain that nothing leads to, which is gone afterwards.
pub fn check(options: &Options, rules: &RuleSet) -> Vec<Finding> {
    let mut findings = capability(options);
    if findings.iter().any(|f| !f.good) {
        // Without it all else fails for the same reason.
        return findings;
    }
    let (good, text) = match Backend::choose(options) {
        Ok(Backend::Nft) => (true, "the program nft, which the kernel understands".to_owned()),
        Ok(Backend::Iptables(programs)) => {
            let name = Backend::Iptables(programs.clone()).name();
            let text = format!("the program {name}-restore, which the kernel understands");
            findings.push(Finding { good: true, text });
            findings.extend(modules(rules, |table, rule| {
                let table = table.name();
                let add = format!("*{table}\n:ISTIO_TRIAL - [0:0]\n-A ISTIO_TRIAL {rule}\nCOMMIT\n");
                let tried = programs.restore(false, &[], &add).is_ok();
                let remove = format!("*{table}\n:ISTIO_TRIAL - [0:0]\n-X ISTIO_TRIAL\nCOMMIT\n");
                // It was not added where it cannot be removed.
                let _ = programs.restore(false, &[], &remove);
                tried
            }));
            if rules.ipv6 {
                findings.push(ipv6(&programs.save(true).map_err(|e| format!("{e:#}"))));
            }
            return findings;
        }
        Err(error) if !any_program(options) => (
            false,
            format!(
                "the programs: {error:#}\n  install the package iptables or nftables in the image (on the node, for \
                 the CNI plugin)"
            ),
        ),
        Err(error) => (
            false,
            format!(
                "a program that the kernel understands: {error:#}\n  load the modules on the node: modprobe -a \
                 ip_tables iptable_nat nf_tables nft_compat nf_nat"
            ),
        ),
    };
    findings.push(Finding { good, text });
    findings
}

fn any_program(options: &Options) -> bool {
    let names: &[&str] = match options.native_nftables {
        true => &["nft"],
        false => &["iptables-restore", "iptables-nft-restore", "iptables-legacy-restore", "nft"],
    };
    names.iter().any(|name| find(name).is_some())
}

fn ipv6(saved: &Result<String, String>) -> Finding {
    match saved {
        Ok(_) => Finding { good: true, text: "the programs for IPv6".to_owned() },
        Err(error) => Finding {
            good: false,
            text: format!("the programs for IPv6, which the pod has: {error}; modprobe -a ip6_tables ip6table_nat"),
        },
    }
}

fn capability(options: &Options) -> Vec<Finding> {
    let has = |wanted| capabilities(None).is_ok_and(|sets| sets.effective.contains(wanted));
    // The older iptables speak to the kernel by a raw socket.
    let raw = options.variant == Some(Variant::Legacy)
        || !options.native_nftables && options.variant.is_none() && find("iptables-nft-restore").is_none();
    let wanted = [("NET_ADMIN", CapabilitySet::NET_ADMIN, true), ("NET_RAW", CapabilitySet::NET_RAW, raw)];
    let finding = |(name, capability, _)| {
        let good = has(capability);
        let remedy = if good {
            ""
        } else {
            ": add NET_ADMIN and NET_RAW to securityContext.capabilities of this container and run it as root, or use \
             the CNI plugin, which needs neither"
        };
        Finding { good, text: format!("the capability {name}{remedy}") }
    };
    wanted.into_iter().filter(|(_, _, needed)| *needed).map(finding).collect()
}

/// Tries each thing that the rules need.
fn modules(rules: &RuleSet, mut works: impl FnMut(Table, &str) -> bool) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (module, (table, shown)) in iptables::needs(rules) {
        let good = works(table, &shown);
        let remedy = if good { String::new() } else { format!(": modprobe {module} on the node") };
        findings.push(Finding { good, text: format!("the kernel module {module} (or built in){remedy}") });
    }
    findings
}
