//! The rules as `iptables-restore` reads them, and what is there already as `iptables-save` writes it.
//!
//! The text replaces what an earlier run has set, whatever its options were, in one step for each table: a chain
//! that is named at the head of a table is emptied, and the jumps to it from the kernel's chains are taken out before
//! they are put in again.

use super::{
    rule::{Chain, Family, Match, Rule, State, Table, Target},
    ruleset::RuleSet,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

/// What of ours is in a table.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Present {
    chains: BTreeSet<&'static str>,
    jumps: Vec<String>,
}

/// Our chains.
const CHAINS: [Chain; 8] = [
    Chain::Inbound,
    Chain::Redirect,
    Chain::InRedirect,
    Chain::IstioOutput,
    Chain::OutputDns,
    Chain::Divert,
    Chain::Tproxy,
    Chain::Drop,
];

/// Finds what is ours in what `iptables-save` writes.
pub fn present(saved: &str) -> BTreeMap<Table, Present> {
    let mut found: BTreeMap<Table, Present> = BTreeMap::new();
    let mut table = None;
    for line in saved.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = Table::ALL.into_iter().find(|t| t.name() == name.trim());
        }
        let Some(table) = table else { continue };
        if let Some(chain) = line.strip_prefix(':').and_then(|l| l.split(' ').next()).and_then(own) {
            found.entry(table).or_default().chains.insert(chain);
        }
        let Some(rule) = line.strip_prefix("-A ") else { continue };
        let target = rule.rsplit_once(" -j ").or_else(|| rule.rsplit_once(" -g ")).map_or("", |(_, to)| to.trim());
        if own(rule.split(' ').next().unwrap_or_default()).is_none() && own(target).is_some() {
            found.entry(table).or_default().jumps.push(rule.to_owned());
        }
    }
    found
}

/// Whether two texts have the same of our chains in the same tables, and as many ways into them.
pub fn alike(saved: &str, wanted: &str) -> bool {
    // One writes as appended what the other inserts.
    let shape = |text: &str| {
        let found = present(&text.replace("\n-I ", "\n-A "));
        found.into_iter().map(|(t, p)| (t, p.chains, p.jumps.len())).collect::<Vec<_>>()
    };
    shape(saved) == shape(wanted)
}

fn own(name: &str) -> Option<&'static str> {
    CHAINS.iter().map(|c| c.name()).find(|n| *n == name)
}

/// The text that sets the rules of one version of IP in place of what is there.
pub fn restore(rules: &RuleSet, family: Family, present: &BTreeMap<Table, Present>) -> String {
    let mut text = String::new();
    for table in Table::ALL {
        let wanted: Vec<&Rule> = rules.of_table(table, family).collect();
        write_table(&mut text, table, &wanted, present.get(&table).unwrap_or(&Present::default()));
    }
    text
}

/// The text that removes what is there.
pub fn remove(present: &BTreeMap<Table, Present>) -> String {
    let mut text = String::new();
    for (table, present) in present {
        write_table(&mut text, *table, &[], present);
    }
    text
}

fn write_table(text: &mut String, table: Table, wanted: &[&Rule], present: &Present) {
    let mut lines = Vec::new();
    let mut chains: Vec<&'static str> = Vec::new();
    let named = wanted.iter().map(|r| r.chain).chain(wanted.iter().filter_map(|r| match r.target {
        Target::Jump(chain) => Some(chain),
        _ => None,
    }));
    for chain in named.filter(|c| !c.is_built_in()) {
        if !chains.contains(&chain.name()) {
            chains.push(chain.name());
        }
    }
    let stale: Vec<&str> = present.chains.iter().filter(|c| !chains.contains(c)).copied().collect();
    lines.extend(chains.iter().chain(&stale).map(|chain| format!(":{chain} - [0:0]")));
    lines.extend(present.jumps.iter().map(|jump| format!("-D {jump}")));
    lines.extend(wanted.iter().map(|rule| line(rule)));
    lines.extend(stale.iter().map(|chain| format!("-X {chain}")));
    if !lines.is_empty() {
        let _ = writeln!(text, "*{}\n{}\nCOMMIT", table.name(), lines.join("\n"));
    }
}

/// A rule as a line.
pub fn line(rule: &Rule) -> String {
    let mut line = match rule.first {
        true => format!("-I {} 1", rule.chain.name()),
        false => format!("-A {}", rule.chain.name()),
    };
    for one in &rule.matches {
        let _ = write!(line, " {}", words(one));
    }
    let _ = write!(line, " -j {}", target(rule.target));
    line
}

fn words(one: &Match) -> String {
    match one {
        Match::In(interface) => format!("-i {interface}"),
        Match::Out(interface) => format!("-o {interface}"),
        Match::From(range) => format!("-s {range}"),
        Match::To(range) => format!("-d {range}"),
        Match::NotTo(range) => format!("! -d {range}"),
        Match::Protocol(protocol) => format!("-p {protocol}"),
        Match::ToPort(port) => format!("--dport {}", port.text(":")),
        Match::NotToPorts(ports) => match &ports[..] {
            [port] => format!("! --dport {port}"),
            ports => {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                format!("-m multiport ! --dports {}", ports.join(","))
            }
        },
        Match::FromPort(port) => format!("--sport {port}"),
        Match::User(uid) => format!("-m owner --uid-owner {uid}"),
        Match::NotUser(uid) => format!("-m owner ! --uid-owner {uid}"),
        Match::Group(gid) => format!("-m owner --gid-owner {gid}"),
        Match::NotGroups(gids) => {
            let gids: Vec<String> = gids.iter().map(|gid| format!("-m owner ! --gid-owner {gid}")).collect();
            gids.join(" ")
        }
        Match::Mark(mark) => format!("-m mark --mark {mark}"),
        Match::NotMark(mark) => format!("-m mark ! --mark {mark}"),
        Match::ConnectionMark(mark) => format!("-m connmark --mark {mark}"),
        Match::State(State::Established) => "-m conntrack --ctstate RELATED,ESTABLISHED".to_owned(),
        Match::State(State::Invalid) => "-m conntrack --ctstate INVALID".to_owned(),
    }
}

fn target(target: Target) -> String {
    match target {
        Target::Return => "RETURN".to_owned(),
        Target::Accept => "ACCEPT".to_owned(),
        Target::Drop => "DROP".to_owned(),
        Target::Jump(chain) => chain.name().to_owned(),
        Target::Redirect(port) => format!("REDIRECT --to-ports {port}"),
        Target::Tproxy { port, mark } => format!("TPROXY --tproxy-mark {mark}/0xffffffff --on-port {port}"),
        Target::SetMark(mark) => format!("MARK --set-mark {mark}"),
        Target::SaveMark => "CONNMARK --save-mark".to_owned(),
        Target::RestoreMark => "CONNMARK --restore-mark".to_owned(),
        Target::Zone(zone) => format!("CT --zone {zone}"),
    }
}

/// What of the kernel a rule needs: the words that a rule of its own shows it by, and the kernel's module.
pub fn needs(rules: &RuleSet) -> BTreeMap<&'static str, (Table, String)> {
    let mut needs = BTreeMap::new();
    for rule in &rules.rules {
        let protocol =
            if rule.matches.contains(&Match::Protocol(super::Protocol::Udp)) { "-p udp " } else { "-p tcp " };
        for one in &rule.matches {
            let module = match one {
                Match::User(_) | Match::NotUser(_) | Match::Group(_) | Match::NotGroups(_) => "xt_owner",
                Match::NotToPorts(ports) if ports.len() > 1 => "xt_multiport",
                Match::Mark(_) | Match::NotMark(_) => "xt_mark",
                Match::ConnectionMark(_) => "xt_connmark",
                Match::State(_) => "xt_conntrack",
                _ => continue,
            };
            // The owner is known of what goes out alone; the chain of the trial is one for all.
            let shown = format!("{protocol}{} -j RETURN", words(one));
            needs.entry(module).or_insert((rule.table, shown));
        }
        let module = match rule.target {
            Target::Redirect(_) => "xt_REDIRECT",
            Target::Tproxy { .. } => "xt_TPROXY",
            Target::SetMark(_) => "xt_mark",
            Target::SaveMark | Target::RestoreMark => "xt_connmark",
            Target::Zone(_) => "xt_CT",
            _ => continue,
        };
        needs.entry(module).or_insert((rule.table, format!("{protocol}-j {}", target(rule.target))));
    }
    needs
}
