//! The words of a rule: where it stands, what it matches, and what becomes of the packet.

use ipnet::IpNet;
use std::fmt;

/// A table of the packet filter. In the order in which they are set: the one that captures comes last.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Table {
    /// Before connections are tracked.
    Raw,
    /// Marks.
    Mangle,
    /// Destinations.
    Nat,
}

impl Table {
    /// All, in the order in which they are set.
    pub const ALL: [Self; 3] = [Self::Raw, Self::Mangle, Self::Nat];

    /// What tools call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Mangle => "mangle",
            Self::Nat => "nat",
        }
    }
}

/// A chain. The kernel has the first two; the others are ours.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Chain {
    /// What comes in.
    Prerouting,
    /// What goes out.
    Output,
    /// What comes in and may be captured.
    Inbound,
    /// Captures what goes out.
    Redirect,
    /// Captures what comes in.
    InRedirect,
    /// What goes out and may be captured.
    IstioOutput,
    /// DNS queries.
    OutputDns,
    /// Marks what belongs to a connection that was captured.
    Divert,
    /// Captures what comes in, and leaves its destination as it is.
    Tproxy,
    /// Drops.
    Drop,
}

impl Chain {
    /// Whether the kernel has it.
    pub fn is_built_in(self) -> bool {
        matches!(self, Self::Prerouting | Self::Output)
    }

    /// What iptables calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Prerouting => "PREROUTING",
            Self::Output => "OUTPUT",
            Self::Inbound => "ISTIO_INBOUND",
            Self::Redirect => "ISTIO_REDIRECT",
            Self::InRedirect => "ISTIO_IN_REDIRECT",
            Self::IstioOutput => "ISTIO_OUTPUT",
            Self::OutputDns => "ISTIO_OUTPUT_DNS",
            Self::Divert => "ISTIO_DIVERT",
            Self::Tproxy => "ISTIO_TPROXY",
            Self::Drop => "ISTIO_DROP",
        }
    }
}

/// A version of IP.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// That of a range.
    pub fn of(range: IpNet) -> Self {
        if range.addr().is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

/// One port, or those from one to another.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// Reads `80` and `8000:8010`.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (first, last) = text.split_once(':').unwrap_or((text, text));
        let range = Self { first: first.parse().ok()?, last: last.parse().ok()? };
        (range.first > 0 && range.first <= range.last).then_some(range)
    }

    /// As text, with `between` in a range of more than one.
    pub(super) fn text(self, between: &str) -> String {
        if self.first == self.last { self.first.to_string() } else { format!("{}{between}{}", self.first, self.last) }
    }
}

impl From<u16> for PortRange {
    fn from(port: u16) -> Self {
        Self { first: port, last: port }
    }
}

/// A protocol on top of IP.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Self::Tcp { "tcp" } else { "udp" })
    }
}

/// What the kernel knows of a packet's connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// It has one.
    Established,
    /// It can have none.
    Invalid,
}

/// What a packet must have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Match {
    /// It came in by this interface.
    In(String),
    /// It goes out by this interface.
    Out(String),
    /// Its source is in this range.
    From(IpNet),
    /// Its destination is in this range.
    To(IpNet),
    /// Its destination is not in this range.
    NotTo(IpNet),
    /// It is of this protocol.
    Protocol(Protocol),
    /// It goes to one of these ports; after its protocol.
    ToPort(PortRange),
    /// It goes to none of these ports; after its protocol.
    NotToPorts(Vec<u16>),
    /// It comes from this port; after its protocol.
    FromPort(u16),
    /// It was sent by this user.
    User(u32),
    /// It was not sent by this user.
    NotUser(u32),
    /// It was sent by this group.
    Group(u32),
    /// It was sent by none of these groups.
    NotGroups(Vec<u32>),
    /// It has this mark.
    Mark(u32),
    /// It has another mark, or none.
    NotMark(u32),
    /// Its connection has this mark.
    ConnectionMark(u32),
    /// Its connection is in this state.
    State(State),
}

/// What becomes of a packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    /// Back to the chain it came from.
    Return,
    /// No more of this table.
    Accept,
    /// It is lost.
    Drop,
    /// On to another chain.
    Jump(Chain),
    /// To this port of this machine.
    Redirect(u16),
    /// To the socket that listens on this port, as it is, with a mark.
    Tproxy {
        /// The port.
        port: u16,
        /// The mark.
        mark: u32,
    },
    /// It has this mark from now on.
    SetMark(u32),
    /// Its connection has its mark from now on.
    SaveMark,
    /// It has its connection's mark from now on.
    RestoreMark,
    /// Its connection is one of this zone.
    Zone(u16),
}

/// A rule.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// The table.
    pub table: Table,
    /// The chain.
    pub chain: Chain,
    /// The version of IP, where it is of one alone.
    pub family: Option<Family>,
    /// Whether it stands before the rules that are there already.
    pub first: bool,
    /// All of what a packet must have.
    pub matches: Vec<Match>,
    /// What becomes of it then.
    pub target: Target,
}
