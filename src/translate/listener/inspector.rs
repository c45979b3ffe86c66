//! Listener filters: what is found out about a connection before a filter chain is chosen.

use crate::{
    pb::{
        self,
        envoy::{
            config::listener::v3::{
                ListenerFilter, ListenerFilterChainMatchPredicate as Predicate,
                listener_filter::ConfigType,
                listener_filter_chain_match_predicate::{MatchSet, Rule},
            },
            extensions::filters::listener::{
                http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst, original_src::v3::OriginalSrc,
                proxy_protocol::v3::ProxyProtocol, tls_inspector::v3::TlsInspector,
            },
            r#type::v3::Int32Range,
        },
    },
    translate::filter_chain::{Chain, PLAINTEXT_HTTP, Transport},
};
use prost::Name;
use std::collections::BTreeMap;

/// The mark of packets that the proxy sends itself, by which the capture rules leave them alone.
const OWN_MARK: u32 = 1337;

/// Finds the name that a TLS client asks for, and its application protocols.
pub(super) fn tls() -> ListenerFilter {
    filter(
        "envoy.filters.listener.tls_inspector",
        &TlsInspector { initial_read_buffer_size: pb::uint32(512), ..Default::default() },
    )
}

/// Finds out whether a connection holds HTTP.
pub(super) fn http() -> ListenerFilter {
    filter("envoy.filters.listener.http_inspector", &HttpInspector {})
}

/// Takes the PROXY protocol's header off, by which a balancer before the proxy tells the client's address.
pub(super) fn proxy_protocol() -> ListenerFilter {
    filter("envoy.filters.listener.proxy_protocol", &ProxyProtocol::default())
}

/// Finds where a captured connection was going.
pub(super) fn original_destination() -> ListenerFilter {
    filter("envoy.filters.listener.original_dst", &OriginalDst {})
}

/// Keeps the client's address towards the workload.
pub(super) fn original_source() -> ListenerFilter {
    filter("envoy.filters.listener.original_src", &OriginalSrc { mark: OWN_MARK, ..Default::default() })
}

/// The inspectors that the chains of an inbound listener need. A port whose chains need none is left alone, since
/// to inspect is to wait for the client to speak first.
pub(super) fn by_port(chains: &[Chain]) -> Vec<ListenerFilter> {
    let mut tls_ports: BTreeMap<u16, bool> = BTreeMap::new();
    let mut http_ports: BTreeMap<u16, bool> = BTreeMap::new();
    for chain in chains {
        let port = chain.takes.port.unwrap_or(0);
        *tls_ports.entry(port).or_default() |= chain.takes.transport == Some(Transport::Tls);
        *http_ports.entry(port).or_default() |= chain.takes.protocols == PLAINTEXT_HTTP;
    }
    let which = |ports: &BTreeMap<u16, bool>, on: bool| -> Vec<u16> {
        ports.iter().filter(|(_, needs)| **needs == on).map(|(port, _)| *port).collect()
    };
    let mut filters = Vec::new();
    if tls_ports.values().any(|needs| *needs) {
        let disabled = match tls_ports.get(&0) {
            Some(true) => any_of(&which(&tls_ports, false)),
            _ => any_of(&which(&tls_ports, true)).map(not),
        };
        filters.push(ListenerFilter { filter_disabled: disabled, ..tls() });
    }
    if http_ports.values().any(|needs| *needs) {
        filters.push(ListenerFilter { filter_disabled: any_of(&which(&http_ports, false)), ..http() });
    }
    filters
}

fn any_of(ports: &[u16]) -> Option<Predicate> {
    let one = |port: &u16| {
        let start = i32::from(*port);
        Predicate { rule: Some(Rule::DestinationPortRange(Int32Range { start, end: start + 1 })) }
    };
    match ports {
        [] => None,
        [only] => Some(one(only)),
        many => {
            let rules = many.iter().map(one).collect();
            Some(Predicate { rule: Some(Rule::OrMatch(MatchSet { rules })) })
        }
    }
}

fn not(predicate: Predicate) -> Predicate {
    Predicate { rule: Some(Rule::NotMatch(Box::new(predicate))) }
}

fn filter(name: &str, config: &impl Name) -> ListenerFilter {
    ListenerFilter {
        name: name.into(),
        config_type: Some(ConfigType::TypedConfig(pb::any(config))),
        ..Default::default()
    }
}
