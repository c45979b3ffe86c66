//! What can be set, by which names, and what is set when nothing is written.

use std::collections::BTreeMap;

/// How a flag is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// With a value.
    Text,
    /// Alone, or with `=true` or `=false`.
    Switch,
    /// Not on the command line: by its environment variable alone.
    Variable,
}

/// One thing that can be set. Names, short forms and defaults are those of istio-iptables.
#[derive(Debug)]
pub struct Flag {
    /// Its name, after `--`.
    pub name: &'static str,
    /// Its short form, after `-`.
    pub short: Option<char>,
    /// How it is written.
    pub kind: Kind,
    /// What it is when it is not written.
    pub default: &'static str,
    /// The environment variables that are read for it; of several that are set the last counts.
    pub variables: &'static [&'static str],
    /// What it is for.
    pub help: &'static str,
}

/// Everything that can be set.
pub const FLAGS: &[Flag] = &[
    text("envoy-port", 'p', "15001", &[], "The port of Envoy that outbound connections are brought to"),
    text(
        "inbound-capture-port",
        'z',
        "15006",
        &["INBOUND_CAPTURE_PORT"],
        "The port that inbound connections are brought to",
    ),
    text(
        "inbound-tunnel-port",
        'e',
        "15008",
        &["INBOUND_TUNNEL_PORT"],
        "The port of tunnels between proxies, which is left alone",
    ),
    text(
        "proxy-uid",
        'u',
        "",
        &["PROXY_UID"],
        "The users whose traffic is the proxy's own [default: that of ENVOY_USER, or 1337]",
    ),
    text("proxy-gid", 'g', "", &["PROXY_GID"], "The groups whose traffic is the proxy's own [default: as --proxy-uid]"),
    text(
        "istio-inbound-interception-mode",
        'm',
        "",
        &["ISTIO_INBOUND_INTERCEPTION_MODE"],
        "How inbound connections are captured: REDIRECT or TPROXY [default: REDIRECT]",
    ),
    text(
        "istio-inbound-ports",
        'b',
        "",
        &["ISTIO_INBOUND_PORTS"],
        "Ports whose inbound connections are captured, comma-separated; * is all, nothing is none",
    ),
    text(
        "istio-local-exclude-ports",
        'd',
        "",
        &["ISTIO_LOCAL_EXCLUDE_PORTS"],
        "Ports whose inbound connections are not captured, where * are",
    ),
    text(
        "istio-exclude-interfaces",
        'c',
        "",
        &["ISTIO_EXCLUDE_INTERFACES"],
        "Network interfaces whose traffic is not captured in either direction",
    ),
    text(
        "istio-service-cidr",
        'i',
        "",
        &["ISTIO_SERVICE_CIDR"],
        "Address ranges to which outbound connections are captured; * is all, nothing is none",
    ),
    text(
        "istio-service-exclude-cidr",
        'x',
        "",
        &["ISTIO_SERVICE_EXCLUDE_CIDR"],
        "Address ranges to which outbound connections are not captured",
    ),
    text(
        "istio-outbound-ports",
        'q',
        "",
        &["ISTIO_OUTBOUND_PORTS"],
        "Ports to which outbound connections are captured beside those to the ranges",
    ),
    text(
        "istio-local-outbound-ports-exclude",
        'o',
        "",
        &["ISTIO_LOCAL_OUTBOUND_PORTS_EXCLUDE"],
        "Ports to which outbound connections are not captured",
    ),
    text(
        "kube-virt-interfaces",
        'k',
        "",
        &["KUBE_VIRT_INTERFACES"],
        "Interfaces of virtual machines: what comes in by them is treated as outbound",
    ),
    text(
        "istio-inbound-tproxy-mark",
        't',
        "1337",
        &["ISTIO_INBOUND_TPROXY_MARK"],
        "The mark of packets that TPROXY brings to Envoy",
    ),
    text(
        "istio-inbound-tproxy-route-table",
        'r',
        "133",
        &["ISTIO_INBOUND_TPROXY_ROUTE_TABLE"],
        "The routing table for marked packets",
    ),
    Flag { short: Some('n'), ..switch("dry-run", &["DRY_RUN"], "Print what would be done, and do nothing") },
    Flag {
        short: None,
        ..text(
            "iptables-probe-port",
            ' ',
            "15002",
            &["IPTABLES_PROBE_PORT"],
            "The port that --run-validation connects to",
        )
    },
    Flag { short: None, ..text("probe-timeout", ' ', "5s", &["PROBE_TIMEOUT"], "How long --run-validation waits") },
    switch("skip-rule-apply", &["SKIP_RULE_APPLY"], "Leave the rules as they are"),
    switch(
        "run-validation",
        &["RUN_VALIDATION"],
        "See whether a connection of this process is captured; exit code 126 if it is not",
    ),
    switch("redirect-dns", &["REDIRECT_DNS", "ISTIO_META_DNS_CAPTURE"], "Bring DNS queries to the agent"),
    switch(
        "drop-invalid",
        &["DROP_INVALID", "INVALID_DROP"],
        "Drop packets that belong to no connection, rather than have the kernel reset it",
    ),
    switch("dual-stack", &["DUAL_STACK", "ISTIO_DUAL_STACK"], "Capture IPv6 also where the pod has IPv4 addresses"),
    switch(
        "capture-all-dns",
        &["CAPTURE_ALL_DNS"],
        "Bring DNS queries to any server to the agent, not only those to servers of /etc/resolv.conf",
    ),
    Flag {
        short: None,
        ..text("network-namespace", ' ', "", &["NETWORK_NAMESPACE"], "The file of the network namespace to work in")
    },
    switch(
        "cni-mode",
        &["CNI_MODE"],
        "The programs are the node's and the network namespace is a pod's: use a lock of its own",
    ),
    switch("reconcile", &["RECONCILE"], "Accepted; rules that are already there are always replaced"),
    switch("cleanup-only", &["CLEANUP_ONLY"], "Remove all rules, and set none"),
    switch("force-apply", &["FORCE_APPLY"], "Accepted; rules are always applied"),
    switch("native-nftables", &["NATIVE_NFTABLES"], "Use nft, not iptables"),
    Flag {
        short: None,
        ..text(
            "force-iptables-binary",
            ' ',
            "",
            &["FORCE_IPTABLES_BINARY"],
            "Use iptables-legacy or iptables-nft: legacy or nft",
        )
    },
    variable("ISTIO_OUTBOUND_OWNER_GROUPS", "*", "Groups whose outbound connections are captured"),
    variable(
        "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE",
        "",
        "Groups whose outbound connections are not captured, where * are",
    ),
    variable("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", "127.0.0.1/32", "What of the loopback range is the workload's own"),
    variable("ENVOY_USER", "istio-proxy", "The user that the proxy runs as, where --proxy-uid is not given"),
];

const fn text(
    name: &'static str,
    short: char,
    default: &'static str,
    variables: &'static [&'static str],
    help: &'static str,
) -> Flag {
    Flag { name, short: Some(short), kind: Kind::Text, default, variables, help }
}

const fn switch(name: &'static str, variables: &'static [&'static str], help: &'static str) -> Flag {
    Flag { name, short: None, kind: Kind::Switch, default: "false", variables, help }
}

const fn variable(name: &'static str, default: &'static str, help: &'static str) -> Flag {
    Flag { name, short: None, kind: Kind::Variable, default, variables: &[], help }
}

/// A value, and where it was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Setting {
    /// As written.
    pub value: String,
    /// What a message calls the place: `--proxy-uid`, `the environment variable PROXY_UID`.
    pub from: String,
}

/// What is written, by the names of [`FLAGS`].
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Settings(BTreeMap<&'static str, Setting>);

impl Settings {
    /// What an environment sets. A variable that is empty counts for text (an empty list is a list), not for switches.
    pub fn of_environment(read: impl Fn(&str) -> Option<String>) -> Self {
        let mut settings = Self::default();
        for flag in FLAGS {
            let names = if flag.kind == Kind::Variable { std::slice::from_ref(&flag.name) } else { flag.variables };
            for name in names {
                if let Some(value) = read(name).filter(|v| flag.kind != Kind::Switch || !v.is_empty()) {
                    settings.set(flag.name, value, format!("the environment variable {name}"));
                }
            }
        }
        settings
    }

    /// Sets one, by its name, over what was set before. A name that nothing has is not set.
    pub fn set(&mut self, name: &str, value: impl Into<String>, from: impl Into<String>) {
        if let Some(flag) = FLAGS.iter().find(|f| f.name == name) {
            self.0.insert(flag.name, Setting { value: value.into(), from: from.into() });
        }
    }

    /// What is set, or else the default.
    pub fn get(&self, name: &str) -> Setting {
        let default = || FLAGS.iter().find(|f| f.name == name).map_or("", |f| f.default).to_owned();
        self.0.get(name).cloned().unwrap_or_else(|| Setting { value: default(), from: format!("--{name}") })
    }
}

/// The users and groups that names stand for.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Names {
    users: BTreeMap<String, u32>,
    groups: BTreeMap<String, u32>,
}

impl Names {
    /// Out of the texts of `/etc/passwd` and `/etc/group`.
    pub fn read(passwd: &str, group: &str) -> Self {
        let table = |text: &str| {
            let entry = |line: &str| {
                let mut fields = line.split(':');
                Some((fields.next()?.to_owned(), fields.nth(1)?.parse().ok()?))
            };
            text.lines().filter_map(entry).collect()
        };
        Self { users: table(passwd), groups: table(group) }
    }

    /// The number of a user.
    pub fn user(&self, name: &str) -> Option<u32> {
        self.users.get(name).copied()
    }

    /// The number of a group.
    pub fn group(&self, name: &str) -> Option<u32> {
        self.groups.get(name).copied()
    }
}
