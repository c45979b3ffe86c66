//! Sets rules, and removes them: in one step for each table, whatever was set before and by whichever program.

use super::{
    check::check,
    netlink,
    programs::{Backend, Iptables, find, nft},
    unless,
};
use crate::capture::{Family, Network, Options, RuleSet, iptables, nftables};
use anyhow::{Context as _, Result};
use rustix::io::Errno;
use std::{collections::BTreeMap, fmt::Write, net::Ipv6Addr};

const FAMILIES: [(Family, bool); 2] = [(Family::V4, false), (Family::V6, true)];
/// The source of what Envoy passes on to the workload.
const PASSTHROUGH: Ipv6Addr = Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6);

/// What was done.
#[derive(Debug)]
pub struct Outcome {
    /// The program that did it.
    pub backend: &'static str,
    /// How many rules there are.
    pub rules: usize,
    /// What is asked for and cannot be.
    pub warnings: Vec<String>,
}

/// Sets the rules that options ask for.
///
/// # Errors
///
/// Where no program can; with what is missing for it.
pub fn apply(options: &Options, network: &Network) -> Result<Outcome> {
    let rules = RuleSet::of(options, network);
    let explained = || explain(options, &rules);
    let backend = Backend::choose(options).with_context(explained)?;
    routes(options, &rules)?;
    match &backend {
        Backend::Nft => nft(&["-f", "-"], &nftables::replace(&rules)).map(|_| ()).with_context(explained)?,
        Backend::Iptables(programs) => restore(programs, &rules).with_context(explained)?,
    }
    // Only what is set now may be left: two that capture the same would be hard to reason about.
    remove_others(options, Some(&backend))?;
    Ok(Outcome { backend: backend.name(), rules: rules.rules.len(), warnings: rules.warnings })
}

/// Removes all that was ever set.
///
/// # Errors
///
/// Where something of it stays.
pub fn clean(options: &Options) -> Result<()> {
    remove_others(options, None)?;
    let nothing = RuleSet { rules: Vec::new(), ipv6: false, marked_route: false, warnings: Vec::new() };
    routes(options, &nothing)?;
    let none = [Errno::ADDRNOTAVAIL, Errno::NXIO, Errno::NODEV, Errno::OPNOTSUPP, Errno::AFNOSUPPORT];
    unless(netlink::loopback_address(PASSTHROUGH, false), &none)
        .context("removing the address ::6 of the loopback device")
}

/// What would be done, as the text that the programs would be given.
pub fn dry_run(options: &Options, network: &Network) -> String {
    let rules = RuleSet::of(options, network);
    let mut text = String::new();
    for warning in &rules.warnings {
        let _ = writeln!(text, "# {warning}");
    }
    for (_, ipv6) in FAMILIES.into_iter().filter(|(_, ipv6)| rules.marked_route && (!ipv6 || rules.ipv6)) {
        let (version, mark, table) = (if ipv6 { 6 } else { 4 }, options.mark, options.route_table);
        let _ = writeln!(text, "# ip -{version} rule add fwmark {mark} lookup {table}");
        let _ = writeln!(text, "# ip -{version} route add local default dev lo table {table}");
    }
    if rules.ipv6 {
        text.push_str("# ip -6 addr add ::6/128 dev lo\n");
    }
    if options.native_nftables {
        let _ = write!(text, "# nft -f -\n{}", nftables::replace(&rules));
        return text;
    }
    for (family, ipv6) in FAMILIES.into_iter().filter(|(_, ipv6)| !ipv6 || rules.ipv6) {
        let program = if ipv6 { "ip6tables-restore" } else { "iptables-restore" };
        let _ = write!(text, "# {program} --noflush\n{}", iptables::restore(&rules, family, &BTreeMap::new()));
    }
    text
}

fn explain(options: &Options, rules: &RuleSet) -> String {
    let missing: Vec<String> = check(options, rules).into_iter().filter(|f| !f.good).map(|f| f.text).collect();
    match missing.is_empty() {
        true => "the rules cannot be set".to_owned(),
        false => format!("the rules cannot be set: {}", missing.join("; ")),
    }
}

/// Whether there are the chains, and the ways into them, that options call for. What is in the chains was set with them
/// in one step.
pub fn is_applied(options: &Options, network: &Network) -> bool {
    let rules = RuleSet::of(options, network);
    match Backend::choose(options) {
        Ok(Backend::Nft) => {
            let tables = nft(&["list", "tables"], "").unwrap_or_default();
            rules.rules.iter().all(|r| tables.contains(nftables::table_name(r.table)))
        }
        Ok(Backend::Iptables(programs)) => {
            FAMILIES.into_iter().filter(|(_, ipv6)| !ipv6 || rules.ipv6).all(|(f, ipv6)| {
                let wanted = iptables::restore(&rules, f, &BTreeMap::new());
                programs.save(ipv6).is_ok_and(|saved| iptables::alike(&saved, &wanted))
            })
        }
        Err(_) => false,
    }
}

/// Both versions of IP are tried before one is changed.
fn restore(programs: &Iptables, rules: &RuleSet) -> Result<()> {
    let mut texts = Vec::new();
    for (family, ipv6) in FAMILIES.into_iter().filter(|(_, ipv6)| !ipv6 || rules.ipv6) {
        let present = iptables::present(&programs.save(ipv6)?);
        texts.push((ipv6, iptables::restore(rules, family, &present)));
    }
    for words in [&["--test"][..], &[]] {
        for (ipv6, text) in &texts {
            programs.restore(*ipv6, words, text)?;
        }
    }
    if !rules.ipv6 {
        // An earlier run may have captured IPv6 too.
        remove(programs, true)?;
    }
    Ok(())
}

/// Removes what programs other than one have set.
fn remove_others(options: &Options, keep: Option<&Backend>) -> Result<()> {
    let kept = match keep {
        Some(Backend::Iptables(programs)) => programs.variant(),
        _ => None,
    };
    for programs in Iptables::all(options) {
        let variant = programs.variant();
        if variant.is_some() && variant != kept {
            remove(&programs, false)?;
            remove(&programs, true)?;
        }
    }
    if keep != Some(&Backend::Nft) && find("nft").is_some() {
        let tables = nft(&["list", "tables"], "").unwrap_or_default();
        if tables.contains("inet istio-proxy-") {
            nft(&["-f", "-"], &nftables::remove()).context("removing the tables of an earlier run")?;
        }
    }
    Ok(())
}

/// Removes what one set of programs has set. What is not there or does not work has set nothing.
fn remove(programs: &Iptables, ipv6: bool) -> Result<()> {
    let Ok(saved) = programs.save(ipv6) else { return Ok(()) };
    let text = iptables::remove(&iptables::present(&saved));
    if text.is_empty() {
        return Ok(());
    }
    programs.restore(ipv6, &[], &text).context("removing the rules of an earlier run")
}

/// Before a packet can be marked there is to be a route for it.
fn routes(options: &Options, rules: &RuleSet) -> Result<()> {
    let none = [Errno::NOENT, Errno::SRCH, Errno::AFNOSUPPORT, Errno::OPNOTSUPP];
    for (_, ipv6) in FAMILIES {
        let add = rules.marked_route && (!ipv6 || rules.ipv6);
        let accepted = if add { &[Errno::EXIST][..] } else { &none[..] };
        unless(netlink::local_route(ipv6, options.route_table, add), accepted)
            .with_context(|| format!("the local route of table {} (it needs CAP_NET_ADMIN)", options.route_table))?;
        let rule = || netlink::mark_rule(ipv6, options.mark, options.route_table, add);
        // Others may have added it more than once.
        while !add && rule().is_ok() {}
        unless(rule(), accepted)
            .with_context(|| format!("the routing rule of mark {} (it needs CAP_NET_ADMIN)", options.mark))?;
    }
    if rules.ipv6 {
        // ::1 is all that the device has; of IPv4 it has all of 127.0.0.0/8.
        unless(netlink::loopback_address(PASSTHROUGH, true), &[Errno::EXIST])
            .context("the address ::6 of the loopback device (it needs CAP_NET_ADMIN)")?;
    }
    Ok(())
}
