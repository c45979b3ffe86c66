//! Filter chains: which connections a listener treats alike, and how.

use super::{
    connection_manager::Manager, mutual_tls::MutualTls, network_filter::Tcp, provenance, termination::Termination,
};
use crate::{
    id::ObjectRef,
    pb::{
        self,
        envoy::config::{
            core::v3::{CidrRange, TransportSocket},
            listener::v3::{FilterChain, FilterChainMatch},
        },
    },
};
use ipnet::IpNet;
use std::sync::Arc;

/// What plaintext HTTP is detected as.
pub(super) const PLAINTEXT_HTTP: &[&str] = &["http/1.1", "h2c"];
/// How long a client may take for its TLS handshake, in milliseconds.
const HANDSHAKE: u64 = 15_000;

/// A filter chain.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Chain {
    /// Its name; empty for none.
    pub(super) name: Arc<str>,
    /// The connections that it takes.
    pub(super) takes: Match,
    /// What is done with them.
    pub(super) filters: Filters,
    /// TLS that is ended here.
    pub(super) tls: Option<TlsEnd>,
    /// Whether clients are given little time for a TLS handshake.
    pub(super) short_handshake: bool,
    /// The VirtualService or Sidecar that says what is done with its connections.
    pub(super) rule: Option<ObjectRef>,
}

/// TLS that a chain ends.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum TlsEnd {
    /// That between workloads.
    Mesh(MutualTls),
    /// That of a server which a Gateway or a Sidecar names.
    Server(Termination),
}

impl TlsEnd {
    fn render(&self) -> TransportSocket {
        match self {
            Self::Mesh(tls) => tls.render(),
            Self::Server(tls) => tls.render(),
        }
    }
}

/// What is done with a connection.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) enum Filters {
    /// It is passed on.
    Tcp(Tcp),
    /// It holds requests.
    Http(Manager),
}

/// The connections that a chain takes; what is empty matches all. Ranges and names are sorted, so that two
/// matches which Envoy takes for the same are equal.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Match {
    /// To this port.
    pub(super) port: Option<u16>,
    /// To these addresses.
    pub(super) prefixes: Vec<IpNet>,
    /// To these names, as the TLS client says.
    pub(super) server_names: Vec<Arc<str>>,
    /// In plaintext or over TLS.
    pub(super) transport: Option<Transport>,
    /// With one of these application protocols.
    pub(super) protocols: &'static [&'static str],
}

/// How a connection is secured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Transport {
    /// Not at all.
    Plaintext,
    /// With TLS.
    Tls,
}

impl Match {
    /// Plaintext HTTP that is told from other traffic by its first bytes.
    pub(super) fn detected_http() -> Self {
        Self { transport: Some(Transport::Plaintext), protocols: PLAINTEXT_HTTP, ..Self::default() }
    }

    /// What of this match no earlier one takes: a proxy refuses two chains that take the same connections. The parts
    /// are told apart by their ranges.
    pub(super) fn beyond<'a>(&self, earlier: impl Iterator<Item = &'a Match> + Clone) -> Vec<Match> {
        let rest = |m: &Match| (m.port, m.transport, m.protocols);
        let rivals = earlier.filter(|m| rest(m) == rest(self));
        let names = some(self.server_names.iter().cloned());
        let mut parts: Vec<Part> = Vec::new();
        for name in names {
            let named = |m: &&Match| some(m.server_names.iter().cloned()).contains(&name);
            let taken: Vec<_> = rivals.clone().filter(named).flat_map(|m| some(m.prefixes.iter().copied())).collect();
            let mut free = some(self.prefixes.iter().copied());
            free.retain(|prefix| !taken.contains(prefix));
            match parts.iter_mut().find(|(prefixes, _)| *prefixes == free) {
                _ if free.is_empty() => {}
                Some((_, names)) => names.push(name),
                None => parts.push((free, vec![name])),
            }
        }
        let part = |(prefixes, names): Part| Match {
            prefixes: prefixes.into_iter().flatten().collect(),
            server_names: names.into_iter().flatten().collect(),
            ..self.clone()
        };
        parts.into_iter().map(part).collect()
    }

    /// Whether all connections match.
    pub(super) fn is_all(&self) -> bool {
        *self == Self::default()
    }

    fn render(&self) -> FilterChainMatch {
        let range = |net: &IpNet| CidrRange {
            address_prefix: net.addr().to_string(),
            prefix_len: pb::uint32(net.prefix_len().into()),
        };
        FilterChainMatch {
            destination_port: self.port.and_then(|port| pb::uint32(port.into())),
            prefix_ranges: self.prefixes.iter().map(range).collect(),
            server_names: self.server_names.iter().map(ToString::to_string).collect(),
            transport_protocol: match self.transport {
                None => String::new(),
                Some(Transport::Plaintext) => "raw_buffer".into(),
                Some(Transport::Tls) => "tls".into(),
            },
            application_protocols: self.protocols.iter().map(ToString::to_string).collect(),
            ..Default::default()
        }
    }
}

/// Ranges of addresses, and the names that are taken at them; `None` for any.
type Part = (Vec<Option<IpNet>>, Vec<Option<Arc<str>>>);

/// The values, or what stands for any where there is none.
fn some<T>(values: impl Iterator<Item = T>) -> Vec<Option<T>> {
    let mut all: Vec<_> = values.map(Some).collect();
    if all.is_empty() {
        all.push(None);
    }
    all
}

impl Chain {
    /// A chain without a name that passes connections on.
    pub(super) fn tcp(takes: Match, tcp: Tcp) -> Self {
        Self { name: "".into(), takes, filters: Filters::Tcp(tcp), tls: None, short_handshake: true, rule: None }
    }

    /// A chain without a name whose connections hold requests.
    pub(super) fn http(takes: Match, manager: Manager) -> Self {
        Self { name: "".into(), takes, filters: Filters::Http(manager), tls: None, short_handshake: true, rule: None }
    }

    /// The chain as Envoy takes it.
    pub(super) fn render(&self) -> FilterChain {
        FilterChain {
            name: self.name.to_string(),
            filter_chain_match: (!self.takes.is_all()).then(|| self.takes.render()),
            filters: match &self.filters {
                Filters::Tcp(tcp) => tcp.filters(),
                Filters::Http(manager) => vec![manager.filter()],
            },
            transport_socket: self.tls.as_ref().map(TlsEnd::render),
            transport_socket_connect_timeout: self.short_handshake.then(|| pb::millis(HANDSHAKE)),
            metadata: self.rule.as_ref().map(provenance::of),
            ..Default::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn takes(names: &[&str], prefixes: &[&str]) -> Match {
        Match {
            server_names: names.iter().map(|n| Arc::from(*n)).collect(),
            prefixes: prefixes.iter().map(|p| p.parse().expect("a range")).collect(),
            ..Match::default()
        }
    }

    #[test]
    fn a_match_gives_way_in_what_an_earlier_one_takes_and_keeps_the_rest() {
        let earlier = [takes(&["a", "b"], &["10.0.0.0/8"]), takes(&["c"], &[])];
        let beyond = |m: Match| m.beyond(earlier.iter());
        assert_eq!(beyond(takes(&["a"], &["10.0.0.0/8"])), []);
        assert_eq!(beyond(takes(&["a"], &[])), [takes(&["a"], &[])]);
        assert_eq!(beyond(takes(&["c", "d"], &[])), [takes(&["d"], &[])]);
        let wide = takes(&["a", "c"], &["10.0.0.0/8", "192.0.2.0/24"]);
        assert_eq!(beyond(wide), [takes(&["a"], &["192.0.2.0/24"]), takes(&["c"], &["10.0.0.0/8", "192.0.2.0/24"])]);
        assert_eq!(beyond(Match::default()), [Match::default()]);
    }
}
