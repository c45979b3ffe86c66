//! The rules that options and a pod's network call for.
//!
//! In the kernel's own chains stand nothing but jumps to ours, so that what was set can be found and removed again
//! without knowing the options that it was set by.

use super::{
    DNS_PORT, LOOPBACK_V6, OUTBOUND_MARK, PASSTHROUGH_V4, PASSTHROUGH_V6,
    options::{Groups, Mode, Options, Ports, Ranges},
    rule::{
        Chain::{
            self, Divert, Drop, InRedirect, Inbound, IstioOutput, Output, OutputDns, Prerouting, Redirect, Tproxy,
        },
        Family, Match, PortRange,
        Protocol::{self, Tcp, Udp},
        Rule, State,
        Table::{self, Mangle, Nat, Raw},
        Target,
    },
};
use ipnet::IpNet;
use std::net::IpAddr;

/// The port of DNS.
const DNS: u16 = 53;
/// Connections of the agent with the servers of DNS.
const ZONE_UPSTREAM: u16 = 1;
/// Connections of the workload with the agent, which look the same but for who holds them.
const ZONE_DOWNSTREAM: u16 = 2;

/// What the rules depend on beside the options.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Network {
    /// Whether IPv6 is captured.
    pub ipv6: bool,
    /// The servers of `/etc/resolv.conf`.
    pub nameservers: Vec<IpAddr>,
}

/// All rules.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleSet {
    /// The rules, in their order.
    pub rules: Vec<Rule>,
    /// Whether there are rules of IPv6.
    pub ipv6: bool,
    /// Whether marked packets need a route to this machine.
    pub marked_route: bool,
    /// What is asked for and cannot be.
    pub warnings: Vec<String>,
}

impl RuleSet {
    /// Those that options and a network call for.
    pub fn of(options: &Options, network: &Network) -> Self {
        let dns = options.redirect_dns && (options.capture_all_dns || !network.nameservers.is_empty());
        let mut builder = Builder { options, network, dns, rules: Vec::new() };
        builder.inbound();
        builder.outbound();
        if builder.tproxy() {
            builder.marks_of_output();
        }
        let warning = "DNS is not captured: /etc/resolv.conf names no server; add --capture-all-dns";
        let rules = builder.rules;
        let marked_route = options.captures_inbound() && options.mode == Mode::Tproxy;
        let warnings = if options.redirect_dns && !dns { vec![warning.to_owned()] } else { Vec::new() };
        Self { rules, ipv6: network.ipv6, marked_route, warnings }
    }

    /// The rules of one version of IP in one table.
    pub fn of_table(&self, table: Table, family: Family) -> impl Iterator<Item = &Rule> {
        self.rules.iter().filter(move |r| r.table == table && r.family.is_none_or(|f| f == family))
    }
}

struct Builder<'a> {
    options: &'a Options,
    network: &'a Network,
    dns: bool,
    rules: Vec<Rule>,
}

impl Builder<'_> {
    fn tproxy(&self) -> bool {
        self.options.mode == Mode::Tproxy && self.options.captures_inbound()
    }

    /// A rule at the end of a chain. Of one version of IP where it matches addresses of one, else of both.
    fn add(&mut self, table: Table, chain: Chain, matches: Vec<Match>, target: Target) {
        let family = matches.iter().find_map(|m| match m {
            Match::From(range) | Match::To(range) | Match::NotTo(range) => Some(Family::of(*range)),
            _ => None,
        });
        if family != Some(Family::V6) || self.network.ipv6 {
            self.rules.push(Rule { table, chain, family, first: false, matches, target });
        }
    }

    /// The same rule for both versions of IP, each with its own range.
    fn add_both(
        &mut self,
        (table, chain): (Table, Chain),
        (v4, v6): (IpNet, &str),
        matches: impl Fn(IpNet) -> Vec<Match>,
        target: Target,
    ) {
        self.add(table, chain, matches(v4), target);
        self.add(table, chain, matches(constant(v6)), target);
    }

    fn loopback(&self) -> (IpNet, &'static str) {
        (IpNet::V4(self.options.loopback), LOOPBACK_V6)
    }

    fn inbound(&mut self) {
        let options = self.options;
        if options.drop_invalid {
            self.add(Mangle, Prerouting, vec![Match::State(State::Invalid)], Target::Jump(Drop));
            if self.tproxy() {
                self.leave_interfaces((Mangle, Drop), Match::In);
            }
            self.add(Mangle, Drop, vec![], Target::Drop);
        }
        self.add(Nat, Redirect, vec![tcp()], Target::Redirect(options.proxy_port));
        self.add(Nat, InRedirect, vec![tcp()], Target::Redirect(options.inbound_port));
        if !options.captures_inbound() {
            return;
        }
        let table = if self.tproxy() { Mangle } else { Nat };
        self.add(table, Prerouting, vec![tcp()], Target::Jump(Inbound));
        self.leave_interfaces((table, Inbound), Match::In);
        if self.tproxy() {
            self.tproxy_chains();
        } else {
            for interface in &options.reroute_interfaces {
                self.add(Nat, Inbound, vec![Match::In(interface.clone())], Target::Return);
            }
            self.add(Nat, Inbound, to_port(Tcp, options.tunnel_port.into()), Target::Return);
        }
        match &options.inbound {
            Ports::AllBut(ports) => {
                for port in ports {
                    self.add(table, Inbound, to_port(Tcp, *port), Target::Return);
                }
                self.capture_inbound(&[tcp()]);
            }
            Ports::Only(ports) => ports.iter().for_each(|port| self.capture_inbound(&to_port(Tcp, *port))),
        }
    }

    /// Nothing of the interfaces that are left out comes further than here.
    fn leave_interfaces(&mut self, (table, chain): (Table, Chain), side: fn(String) -> Match) {
        for interface in &self.options.exclude_interfaces {
            self.add(table, chain, vec![side(interface.clone())], Target::Return);
        }
    }

    fn capture_inbound(&mut self, matches: &[Match]) {
        if !self.tproxy() {
            return self.add(Nat, Inbound, matches.to_vec(), Target::Jump(InRedirect));
        }
        // What belongs to a connection that Envoy has goes to its socket; only what begins one is captured.
        let known = matches.iter().cloned().chain([Match::State(State::Established)]).collect();
        self.add(Mangle, Inbound, known, Target::Jump(Divert));
        self.add(Mangle, Inbound, matches.to_vec(), Target::Jump(Tproxy));
    }

    fn tproxy_chains(&mut self) {
        let (mark, port) = (self.options.mark, self.options.inbound_port);
        let lo = || Match::In("lo".to_owned());
        // Envoy connects to the workload with the client's address and the mark. The connection keeps the mark, so
        // that the workload's answers, which go to the client's address, can be brought back to Envoy.
        self.add(Mangle, Inbound, vec![tcp(), Match::Mark(mark)], Target::SaveMark);
        self.add(Mangle, Inbound, vec![tcp(), Match::Mark(mark)], Target::Return);
        let passthrough = (constant(PASSTHROUGH_V4), PASSTHROUGH_V6);
        let from = |range| vec![tcp(), Match::From(range), lo()];
        self.add_both((Mangle, Inbound), passthrough, from, Target::Return);
        // What the workload sends to its own address stays with it.
        self.add(Mangle, Inbound, vec![tcp(), lo(), Match::NotMark(OUTBOUND_MARK)], Target::Return);
        self.add(Mangle, Divert, vec![], Target::SetMark(mark));
        self.add(Mangle, Divert, vec![], Target::Accept);
        let others = |range| vec![Match::NotTo(range), tcp()];
        self.add_both((Mangle, Tproxy), self.loopback(), others, Target::Tproxy { port, mark });
    }

    fn outbound(&mut self) {
        let options = self.options;
        self.add(Nat, Output, vec![], Target::Jump(IstioOutput));
        self.leave_interfaces((Nat, IstioOutput), Match::Out);
        for port in &options.outbound_exclude_ports {
            self.add(Nat, IstioOutput, to_port(Tcp, *port), Target::Return);
            self.add(Nat, IstioOutput, to_port(Udp, *port), Target::Return);
        }
        let passthrough = (constant(PASSTHROUGH_V4), PASSTHROUGH_V6);
        let from = |range| vec![Match::Out("lo".to_owned()), Match::From(range)];
        self.add_both((Nat, IstioOutput), passthrough, from, Target::Return);
        for uid in &options.uids {
            let ports = if self.dns { vec![DNS, options.tunnel_port] } else { vec![options.tunnel_port] };
            self.owner(Match::User(*uid), Match::NotUser(*uid), &ports);
        }
        for gid in &options.gids {
            self.owner(Match::Group(*gid), Match::NotGroups(vec![*gid]), &[options.tunnel_port]);
        }
        match &options.groups {
            Groups::AllBut(groups) => {
                groups.iter().for_each(|gid| self.add(Nat, IstioOutput, vec![Match::Group(*gid)], Target::Return));
            }
            Groups::Only(groups) if groups.is_empty() => self.add(Nat, IstioOutput, vec![], Target::Return),
            Groups::Only(groups) => {
                self.add(Nat, IstioOutput, vec![Match::NotGroups(groups.clone())], Target::Return);
            }
        }
        if self.dns {
            self.names();
        }
        self.add_both((Nat, IstioOutput), self.loopback(), |range| vec![Match::To(range)], Target::Return);
        self.ranges();
    }

    /// What the proxy sends, and what others send over the loopback device.
    fn owner(&mut self, proxy: Match, others: Match, left: &[u16]) {
        let lo = || Match::Out("lo".to_owned());
        // The proxy calls its own workload by the address of a Service: in by the front door.
        let own = |range| vec![lo(), Match::NotTo(range), tcp(), Match::NotToPorts(left.to_vec()), proxy.clone()];
        self.add_both((Nat, IstioOutput), self.loopback(), own, Target::Jump(InRedirect));
        let loopback = |range: &IpNet| range.addr().is_loopback();
        if !matches!(&self.options.ranges, Ranges::Only(ranges) if ranges.iter().any(loopback)) {
            self.keep_to_itself(others);
        }
        self.add(Nat, IstioOutput, vec![proxy], Target::Return);
    }

    /// What programs of the workload send each other is theirs.
    fn keep_to_itself(&mut self, others: Match) {
        let mut matches = vec![Match::Out("lo".to_owned())];
        if self.dns {
            // A server of DNS may be on this machine, and what is for it is captured further down.
            matches.extend([tcp(), Match::NotToPorts(vec![DNS])]);
        }
        matches.push(others);
        self.add(Nat, IstioOutput, matches, Target::Return);
    }

    fn names(&mut self) {
        let servers: Vec<Option<IpNet>> = match self.options.capture_all_dns {
            true => vec![None],
            false => self.network.nameservers.iter().map(|s| Some(IpNet::from(*s))).collect(),
        };
        let family = |f: Family| move |s: &&Option<IpNet>| s.is_none_or(|range| Family::of(range) == f);
        self.add(Raw, Output, vec![], Target::Jump(OutputDns));
        for f in [Family::V4, Family::V6] {
            if servers.iter().any(|s| family(f)(&s)) {
                self.jump_of(f, (Nat, IstioOutput), OutputDns);
                self.jump_of(f, (Raw, Prerouting), Inbound);
            }
        }
        let with = |address: fn(IpNet) -> Match, server: &Option<IpNet>, rest: Vec<Match>| {
            server.map(address).into_iter().chain(rest).collect::<Vec<_>>()
        };
        for protocol in [Tcp, Udp] {
            for server in &servers {
                let matches = with(Match::To, server, to_port(protocol, DNS.into()));
                self.add(Nat, OutputDns, matches, Target::Redirect(DNS_PORT));
            }
        }
        let users = self.options.uids.iter().map(|uid| Match::User(*uid));
        for proxy in users.chain(self.options.gids.iter().map(|gid| Match::Group(*gid))) {
            let mut upstream = to_port(Udp, DNS.into());
            upstream.push(proxy.clone());
            self.add(Raw, OutputDns, upstream, Target::Zone(ZONE_UPSTREAM));
            let downstream = vec![Match::Protocol(Udp), Match::FromPort(DNS_PORT), proxy];
            self.add(Raw, OutputDns, downstream, Target::Zone(ZONE_DOWNSTREAM));
        }
        for server in &servers {
            let asked = with(Match::To, server, to_port(Udp, DNS.into()));
            self.add(Raw, OutputDns, asked, Target::Zone(ZONE_DOWNSTREAM));
            let answered = with(Match::From, server, vec![Match::Protocol(Udp), Match::FromPort(DNS)]);
            self.add(Raw, Inbound, answered, Target::Zone(ZONE_UPSTREAM));
        }
    }

    /// A jump for one version of IP.
    fn jump_of(&mut self, family: Family, (table, chain): (Table, Chain), to: Chain) {
        if family == Family::V4 || self.network.ipv6 {
            let family = Some(family);
            self.rules.push(Rule { table, chain, family, first: false, matches: vec![], target: Target::Jump(to) });
        }
    }

    fn ranges(&mut self) {
        let options = self.options;
        for range in &options.exclude_ranges {
            self.add(Nat, IstioOutput, vec![Match::To(*range)], Target::Return);
        }
        for port in &options.outbound_ports {
            self.add(Nat, IstioOutput, to_port(Tcp, *port), Target::Jump(Redirect));
        }
        let ranges = match &options.ranges {
            Ranges::All => vec![None],
            Ranges::Only(ranges) => ranges.iter().copied().map(Some).collect(),
        };
        for range in ranges {
            let to = range.map(Match::To);
            self.add(Nat, IstioOutput, to.clone().into_iter().collect(), Target::Jump(Redirect));
            for interface in &options.reroute_interfaces {
                let matches = [Match::In(interface.clone())].into_iter().chain(to.clone()).collect();
                let before = self.rules.len();
                self.add(Nat, Prerouting, matches, Target::Jump(Redirect));
                self.rules[before..].iter_mut().for_each(|rule| rule.first = true);
            }
        }
    }

    fn marks_of_output(&mut self) {
        let mark = self.options.mark;
        let lo = || Match::Out("lo".to_owned());
        self.add(Mangle, Output, vec![tcp()], Target::Jump(IstioOutput));
        self.leave_interfaces((Mangle, IstioOutput), Match::Out);
        self.add(Mangle, IstioOutput, vec![tcp(), lo(), Match::Mark(mark)], Target::Return);
        let users = self.options.uids.iter().map(|uid| Match::User(*uid));
        for proxy in users.chain(self.options.gids.iter().map(|gid| Match::Group(*gid))) {
            // What Envoy sends to the workload by the pod's own address passes Envoy's inbound side first.
            let own = |range| vec![Match::NotTo(range), tcp(), lo(), proxy.clone()];
            self.add_both((Mangle, IstioOutput), self.loopback(), own, Target::SetMark(OUTBOUND_MARK));
        }
        self.add(Mangle, IstioOutput, vec![tcp(), Match::ConnectionMark(mark)], Target::RestoreMark);
    }
}

fn tcp() -> Match {
    Match::Protocol(Tcp)
}

fn to_port(protocol: Protocol, port: PortRange) -> Vec<Match> {
    vec![Match::Protocol(protocol), Match::ToPort(port)]
}

fn constant(range: &str) -> IpNet {
    range.parse().expect("a range that is written here")
}
