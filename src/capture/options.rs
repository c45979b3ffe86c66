//! What the settings mean. All that is wrong is said at once, each with the place it was written in and what to write.

use super::{
    OUTBOUND_MARK,
    rule::PortRange,
    settings::{Names, Setting, Settings},
};
use ipnet::{IpNet, Ipv4Net};
use std::{collections::BTreeSet, net::IpAddr, path::PathBuf, time::Duration};

/// The user and group of the proxy, where nothing says otherwise.
const PROXY_USER: u32 = 1337;
/// A rule holds no more matches than this.
const MOST_GROUPS: usize = 64;
/// A name of a network interface is no longer (IFNAMSIZ, with a zero at its end).
const LONGEST_INTERFACE: usize = 15;

/// How inbound connections are captured.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// The destination is rewritten; Envoy asks the kernel for the original, and the workload sees Envoy's address.
    Redirect,
    /// Nothing is rewritten; the workload sees the client's address.
    Tproxy,
}

/// Ports whose inbound connections are captured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ports {
    /// All but these.
    AllBut(Vec<PortRange>),
    /// These. None at all where there are none.
    Only(Vec<PortRange>),
}

/// Address ranges to which outbound connections are captured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ranges {
    /// All.
    All,
    /// These.
    Only(Vec<IpNet>),
}

/// Groups whose outbound connections are captured.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Groups {
    /// All but these.
    AllBut(Vec<u32>),
    /// These.
    Only(Vec<u32>),
}

/// The two kinds of iptables.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Variant {
    /// On the tables of old.
    Legacy,
    /// On nftables.
    Nft,
}

/// What is asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own")]
pub struct Options {
    /// The port that outbound connections are brought to.
    pub proxy_port: u16,
    /// The port that inbound connections are brought to.
    pub inbound_port: u16,
    /// The port that is left alone.
    pub tunnel_port: u16,
    /// The users whose traffic is the proxy's own.
    pub uids: Vec<u32>,
    /// The groups whose traffic is the proxy's own.
    pub gids: Vec<u32>,
    /// How inbound connections are captured.
    pub mode: Mode,
    /// The mark of packets that TPROXY brings to Envoy.
    pub mark: u32,
    /// The routing table for marked packets.
    pub route_table: u32,
    /// The ports whose inbound connections are captured.
    pub inbound: Ports,
    /// The groups whose outbound connections are captured.
    pub groups: Groups,
    /// The ports to which outbound connections are captured, wherever they go.
    pub outbound_ports: Vec<PortRange>,
    /// The ports to which outbound connections are not captured.
    pub outbound_exclude_ports: Vec<PortRange>,
    /// The ranges to which outbound connections are captured.
    pub ranges: Ranges,
    /// The ranges to which outbound connections are not captured.
    pub exclude_ranges: Vec<IpNet>,
    /// Interfaces whose inbound traffic is outbound.
    pub reroute_interfaces: Vec<String>,
    /// Interfaces whose traffic is not captured.
    pub exclude_interfaces: Vec<String>,
    /// What of the loopback range is the workload's own.
    pub loopback: Ipv4Net,
    /// Bring DNS queries to the agent.
    pub redirect_dns: bool,
    /// Bring all of them to it, whatever server they are for.
    pub capture_all_dns: bool,
    /// Drop packets that belong to no connection.
    pub drop_invalid: bool,
    /// Capture IPv6 also where the pod has IPv4 addresses.
    pub dual_stack: bool,
    /// Print, and do nothing.
    pub dry_run: bool,
    /// Leave the rules as they are.
    pub skip_rule_apply: bool,
    /// See whether a connection is captured.
    pub run_validation: bool,
    /// Remove all rules.
    pub cleanup_only: bool,
    /// Use nft.
    pub native_nftables: bool,
    /// Use this kind of iptables.
    pub variant: Option<Variant>,
    /// The network namespace to work in, if another than the process's own.
    pub network_namespace: Option<PathBuf>,
    /// Use the network namespace as the lock.
    pub cni_mode: bool,
    /// The port that the validation connects to.
    pub probe_port: u16,
    /// How long the validation waits.
    pub probe_timeout: Duration,
}

impl Options {
    /// Reads settings.
    ///
    /// # Errors
    ///
    /// All that is wrong with them, a line for each.
    pub fn read(settings: &Settings, names: &Names) -> Result<Self, Vec<String>> {
        let mut reader = Reader { settings, names, wrong: Vec::new() };
        let options = reader.options();
        if reader.wrong.is_empty() { Ok(options) } else { Err(reader.wrong) }
    }

    /// Whether some inbound connections are captured.
    pub fn captures_inbound(&self) -> bool {
        self.inbound != Ports::Only(Vec::new())
    }
}

struct Reader<'a> {
    settings: &'a Settings,
    names: &'a Names,
    wrong: Vec<String>,
}

impl Reader<'_> {
    fn options(&mut self) -> Options {
        let default_uid = self.names.user(&self.settings.get("ENVOY_USER").value).unwrap_or(PROXY_USER);
        let mut uids = self.owners("proxy-uid", Names::user);
        if uids.is_empty() {
            uids.push(default_uid);
        }
        let mut gids = self.owners("proxy-gid", Names::group);
        if gids.is_empty() {
            gids.clone_from(&uids);
        }
        Options {
            proxy_port: self.port("envoy-port"),
            inbound_port: self.port("inbound-capture-port"),
            tunnel_port: self.port("inbound-tunnel-port"),
            uids,
            gids,
            mode: self.mode(),
            mark: self.mark(),
            route_table: self.route_table(),
            inbound: self.inbound(),
            groups: self.groups(),
            outbound_ports: self.ports("istio-outbound-ports"),
            outbound_exclude_ports: self.ports("istio-local-outbound-ports-exclude"),
            ranges: match self.settings.get("istio-service-cidr").value.trim() {
                "*" => Ranges::All,
                _ => Ranges::Only(self.ranges("istio-service-cidr")),
            },
            exclude_ranges: self.ranges("istio-service-exclude-cidr"),
            reroute_interfaces: self.interfaces("kube-virt-interfaces"),
            exclude_interfaces: self.interfaces("istio-exclude-interfaces"),
            loopback: self.loopback(),
            redirect_dns: self.switch("redirect-dns"),
            capture_all_dns: self.switch("capture-all-dns"),
            drop_invalid: self.switch("drop-invalid"),
            dual_stack: self.switch("dual-stack"),
            dry_run: self.switch("dry-run"),
            skip_rule_apply: self.switch("skip-rule-apply"),
            run_validation: self.switch("run-validation"),
            cleanup_only: self.switch("cleanup-only"),
            native_nftables: self.switch("native-nftables"),
            variant: self.variant(),
            network_namespace: Some(self.settings.get("network-namespace").value)
                .filter(|p| !p.is_empty())
                .map(Into::into),
            cni_mode: self.switch("cni-mode"),
            probe_port: self.port("iptables-probe-port"),
            probe_timeout: self.duration("probe-timeout"),
        }
        .with_accepted(self)
    }

    fn say(&mut self, setting: &Setting, instead: &str) {
        self.wrong.push(format!("{}: {:?} is no value for it; write {instead}", setting.from, setting.value));
    }

    fn list(&self, name: &str) -> (Setting, Vec<String>) {
        let setting = self.settings.get(name);
        let words = setting.value.split(',').map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect();
        (setting, words)
    }

    fn switch(&mut self, name: &str) -> bool {
        let setting = self.settings.get(name);
        match setting.value.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => return true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => {}
            _ => self.say(&setting, "true or false"),
        }
        false
    }

    fn port(&mut self, name: &str) -> u16 {
        let setting = self.settings.get(name);
        match setting.value.parse() {
            Ok(port) if port > 0 => port,
            _ => {
                self.say(&setting, "a port from 1 to 65535");
                0
            }
        }
    }

    fn ports(&mut self, name: &str) -> Vec<PortRange> {
        let (setting, words) = self.list(name);
        let ranges: Option<Vec<_>> = words.iter().map(|word| PortRange::read(word)).collect();
        ranges.unwrap_or_else(|| {
            let star = if name == "istio-inbound-ports" { ", or * alone" } else { "" };
            self.say(&setting, &format!("ports from 1 to 65535 with commas between them, such as 80,443{star}"));
            Vec::new()
        })
    }

    fn inbound(&mut self) -> Ports {
        let exclude = self.ports("istio-local-exclude-ports");
        match self.settings.get("istio-inbound-ports").value.trim() {
            "*" => Ports::AllBut(exclude),
            _ => Ports::Only(self.ports("istio-inbound-ports")),
        }
    }

    fn ranges(&mut self, name: &str) -> Vec<IpNet> {
        let (setting, words) = self.list(name);
        let mut ranges = Vec::new();
        for word in &words {
            if let Ok(range) = word.parse::<IpNet>() {
                ranges.push(range.trunc());
                continue;
            }
            let instead = match (word.as_str(), word.parse::<IpAddr>()) {
                ("*", _) if name == "istio-service-cidr" => "* alone, or ranges without *".to_owned(),
                ("*", _) => "ranges; all ranges are left out by an empty --istio-service-cidr".to_owned(),
                (_, Ok(address)) => format!("{}, with the length of the range", IpNet::from(address)),
                _ => "ranges such as 10.0.0.0/8,fd00::/8".to_owned(),
            };
            self.wrong.push(format!("{}: {word:?} is no address range; write {instead}", setting.from));
        }
        ranges
    }

    fn interfaces(&mut self, name: &str) -> Vec<String> {
        let (setting, words) = self.list(name);
        let odd = |c: char| !(c.is_ascii_alphanumeric() || "+-_.:@".contains(c));
        if words.iter().any(|w| w.len() > LONGEST_INTERFACE || w.contains(odd)) {
            self.say(&setting, "names of network interfaces with commas between them, such as eth1,net+");
        }
        words
    }

    fn owners(&mut self, name: &str, number: fn(&Names, &str) -> Option<u32>) -> Vec<u32> {
        let (setting, words) = self.list(name);
        let mut owners = Vec::new();
        for word in words {
            match word.parse().ok().or_else(|| number(self.names, &word)) {
                Some(owner) => owners.push(owner),
                None => self.wrong.push(format!("{}: there is no {word:?} here; write its number", setting.from)),
            }
        }
        owners
    }

    fn groups(&mut self) -> Groups {
        const INCLUDE: &str = "ISTIO_OUTBOUND_OWNER_GROUPS";
        if self.settings.get(INCLUDE).value.trim() == "*" {
            return Groups::AllBut(self.owners("ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", Names::group));
        }
        let groups = self.owners(INCLUDE, Names::group);
        let different: BTreeSet<_> = groups.iter().collect();
        if different.len() > MOST_GROUPS {
            let from = self.settings.get(INCLUDE).from;
            self.wrong.push(format!(
                "{from}: {} groups are more than a rule can hold; write at most {MOST_GROUPS}, or * and those to leave \
                 out in ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
                different.len()
            ));
        }
        Groups::Only(groups)
    }

    fn mode(&mut self) -> Mode {
        let setting = self.settings.get("istio-inbound-interception-mode");
        match setting.value.as_str() {
            "TPROXY" => return Mode::Tproxy,
            "" | "REDIRECT" => {}
            _ => self.say(&setting, "REDIRECT or TPROXY"),
        }
        Mode::Redirect
    }

    fn mark(&mut self) -> u32 {
        let setting = self.settings.get("istio-inbound-tproxy-mark");
        let text = setting.value.as_str();
        let mark = text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok());
        mark.filter(|m| *m != 0 && *m != OUTBOUND_MARK).unwrap_or_else(|| {
            self.say(&setting, &format!("a number above 0, such as 1337; {OUTBOUND_MARK} is in use"));
            0
        })
    }

    fn route_table(&mut self) -> u32 {
        let setting = self.settings.get("istio-inbound-tproxy-route-table");
        // 253 to 255 are the tables that all traffic is routed by.
        match setting.value.parse() {
            Ok(table @ (1..=252 | 256..)) => table,
            _ => {
                self.say(&setting, "a number above 0 that is not 253, 254 or 255, such as 133");
                0
            }
        }
    }

    fn loopback(&mut self) -> Ipv4Net {
        let setting = self.settings.get("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR");
        let range = setting.value.parse().ok().filter(|r: &Ipv4Net| r.addr().is_loopback() && r.prefix_len() >= 8);
        range.map_or_else(
            || {
                self.say(&setting, "a range within 127.0.0.0/8, such as 127.0.0.1/32");
                Ipv4Net::default()
            },
            |range| range.trunc(),
        )
    }

    fn variant(&mut self) -> Option<Variant> {
        let setting = self.settings.get("force-iptables-binary");
        match setting.value.as_str() {
            "" => {}
            "legacy" => return Some(Variant::Legacy),
            "nft" => return Some(Variant::Nft),
            _ => self.say(&setting, "legacy or nft"),
        }
        None
    }

    fn duration(&mut self, name: &str) -> Duration {
        let setting = self.settings.get(name);
        duration(&setting.value).filter(|d| !d.is_zero()).unwrap_or_else(|| {
            self.say(&setting, "a time such as 5s, 500ms or 1m30s");
            Duration::ZERO
        })
    }
}

impl Options {
    /// Reads the switches that change nothing, so that a bad value of theirs is said too.
    fn with_accepted(self, reader: &mut Reader<'_>) -> Self {
        for name in ["reconcile", "force-apply"] {
            reader.switch(name);
        }
        self
    }
}

/// Reads a duration as Go writes it.
fn duration(text: &str) -> Option<Duration> {
    const UNITS: [(&str, f64); 7] =
        [("ns", 1e-9), ("us", 1e-6), ("µs", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
    let mut rest = text;
    let mut sum = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let letters = &rest[digits..];
        let end = letters.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(letters.len());
        let (_, unit) = UNITS.iter().find(|(name, _)| *name == &letters[..end])?;
        sum += number * unit;
        rest = &letters[end..];
    }
    Duration::try_from_secs_f64(sum).ok().filter(|_| !text.is_empty())
}
