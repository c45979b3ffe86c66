//! The rules as `nft -f` reads them: three tables of our own, replaced in one step, all or nothing.

use super::{
    rule::{Chain, Family, Match, Protocol, Rule, State, Table, Target},
    ruleset::RuleSet,
};
use ipnet::IpNet;
use std::{collections::BTreeSet, fmt::Write};

/// The family that both versions of IP belong to.
const FAMILY: &str = "inet";

/// The name of one of our tables.
pub fn table_name(table: Table) -> &'static str {
    match table {
        Table::Raw => "istio-proxy-raw",
        Table::Mangle => "istio-proxy-mangle",
        Table::Nat => "istio-proxy-nat",
    }
}

/// The text that sets the rules in place of what is there.
pub fn replace(rules: &RuleSet) -> String {
    let mut text = remove();
    for table in Table::ALL {
        let of_table: Vec<&Rule> = rules.rules.iter().filter(|r| r.table == table).collect();
        let mut chains: BTreeSet<Chain> = of_table.iter().map(|r| r.chain).collect();
        chains.extend(of_table.iter().filter_map(|r| match r.target {
            Target::Jump(chain) => Some(chain),
            _ => None,
        }));
        if chains.is_empty() {
            continue;
        }
        let _ = writeln!(text, "table {FAMILY} {} {{", table_name(table));
        // A chain must be there before it is jumped to, so all come empty first.
        for chain in &chains {
            let _ = writeln!(text, "    chain {} {{{} }}", chain_name(*chain), hook(table, *chain));
        }
        for chain in &chains {
            write_chain(&mut text, rules, *chain, &of_table);
        }
        text.push_str("}\n");
    }
    text
}

/// The text that removes what is there, and what is no longer there.
pub fn remove() -> String {
    // A table that is added just before is surely there to be deleted.
    let of = |table| format!("add table {FAMILY} {0}\ndelete table {FAMILY} {0}\n", table_name(table));
    Table::ALL.map(of).concat()
}

fn write_chain(text: &mut String, rules: &RuleSet, chain: Chain, of_table: &[&Rule]) {
    let (first, last): (Vec<&Rule>, Vec<&Rule>) = of_table.iter().filter(|r| r.chain == chain).partition(|r| r.first);
    if first.is_empty() && last.is_empty() {
        return;
    }
    let _ = writeln!(text, "    chain {} {{", chain_name(chain));
    for rule in first.into_iter().rev().chain(last) {
        let _ = writeln!(text, "        {}", line(rule, rules.ipv6));
    }
    text.push_str("    }\n");
}

fn line(rule: &Rule, ipv6: bool) -> String {
    let mut words: Vec<String> = Vec::new();
    let addresses = rule.matches.iter().any(|m| matches!(m, Match::From(_) | Match::To(_) | Match::NotTo(_)));
    // In a table of both versions a rule is of both unless it says so.
    let family = match rule.family {
        None if rule.chain.is_built_in() && !ipv6 => Some(Family::V4),
        Some(family) if !addresses => Some(family),
        _ => None,
    };
    words.extend(family.map(|f| format!("meta nfproto {}", if f == Family::V4 { "ipv4" } else { "ipv6" })));
    let mut protocol = Protocol::Tcp;
    let ported = |m: &Match| matches!(m, Match::ToPort(_) | Match::NotToPorts(_) | Match::FromPort(_));
    let has_port = rule.matches.iter().any(ported);
    for one in &rule.matches {
        if let Match::Protocol(own) = one {
            protocol = *own;
            if has_port {
                continue;
            }
        }
        words.push(one_match(one, protocol));
    }
    words.push("counter".to_owned());
    words.push(target(rule));
    words.join(" ")
}

fn one_match(one: &Match, protocol: Protocol) -> String {
    let set = |numbers: Vec<String>| match &numbers[..] {
        [number] => number.clone(),
        numbers => format!("{{ {} }}", numbers.join(", ")),
    };
    let text = |numbers: &[u32]| numbers.iter().map(ToString::to_string).collect();
    match one {
        Match::In(interface) => format!("iifname \"{}\"", interface_name(interface)),
        Match::Out(interface) => format!("oifname \"{}\"", interface_name(interface)),
        Match::From(range) => format!("{} saddr {range}", ip(*range)),
        Match::To(range) => format!("{} daddr {range}", ip(*range)),
        Match::NotTo(range) => format!("{} daddr != {range}", ip(*range)),
        Match::Protocol(protocol) => format!("meta l4proto {protocol}"),
        Match::ToPort(port) => format!("{protocol} dport {}", port.text("-")),
        Match::NotToPorts(ports) => {
            format!("{protocol} dport != {}", set(ports.iter().map(ToString::to_string).collect()))
        }
        Match::FromPort(port) => format!("{protocol} sport {port}"),
        Match::User(uid) => format!("meta skuid {uid}"),
        Match::NotUser(uid) => format!("meta skuid != {uid}"),
        Match::Group(gid) => format!("meta skgid {gid}"),
        Match::NotGroups(gids) => format!("meta skgid != {}", set(text(gids))),
        Match::Mark(mark) => format!("meta mark {mark}"),
        Match::NotMark(mark) => format!("meta mark != {mark}"),
        Match::ConnectionMark(mark) => format!("ct mark {mark}"),
        Match::State(State::Established) => "ct state related,established".to_owned(),
        Match::State(State::Invalid) => "ct state invalid".to_owned(),
    }
}

fn target(rule: &Rule) -> String {
    match rule.target {
        Target::Return => "return".to_owned(),
        Target::Accept => "accept".to_owned(),
        Target::Drop => "drop".to_owned(),
        Target::Jump(chain) => format!("jump {}", chain_name(chain)),
        Target::Redirect(port) => format!("redirect to :{port}"),
        Target::Tproxy { port, mark } => {
            let ip = if rule.family == Some(Family::V6) { "ip6" } else { "ip" };
            format!("tproxy {ip} to :{port} meta mark set {mark} accept")
        }
        Target::SetMark(mark) => format!("meta mark set {mark}"),
        Target::SaveMark => "ct mark set meta mark".to_owned(),
        Target::RestoreMark => "meta mark set ct mark".to_owned(),
        Target::Zone(zone) => format!("ct zone set {zone}"),
    }
}

fn ip(range: IpNet) -> &'static str {
    if Family::of(range) == Family::V4 { "ip" } else { "ip6" }
}

/// iptables writes the rest of a name as `+`, nft as `*`.
fn interface_name(name: &str) -> String {
    name.strip_suffix('+').map_or_else(|| name.to_owned(), |start| format!("{start}*"))
}

fn chain_name(chain: Chain) -> &'static str {
    match chain {
        Chain::Prerouting => "prerouting",
        Chain::Output => "output",
        Chain::Inbound => "istio-inbound",
        Chain::Redirect => "istio-redirect",
        Chain::InRedirect => "istio-in-redirect",
        Chain::IstioOutput => "istio-output",
        Chain::OutputDns => "istio-output-dns",
        Chain::Divert => "istio-divert",
        Chain::Tproxy => "istio-tproxy",
        Chain::Drop => "istio-drop",
    }
}

/// Where the kernel calls a chain, with the priority that iptables has for the table.
fn hook(table: Table, chain: Chain) -> String {
    let name = match chain {
        Chain::Prerouting => "prerouting",
        Chain::Output => "output",
        _ => return String::new(),
    };
    let (kind, priority) = match (table, chain) {
        (Table::Raw, _) => ("filter", -300),
        // A packet that gets another mark on its way out is routed anew.
        (Table::Mangle, Chain::Output) => ("route", -150),
        (Table::Mangle, _) => ("filter", -150),
        (Table::Nat, _) => ("nat", -100),
    };
    format!(" type {kind} hook {name} priority {priority}; policy accept;")
}
