//! What happens where several services want the same address and port (Istio: `listener.go`,
//! buildSidecarOutboundListener). Services come from the oldest, so that a new one never takes what works.

use super::connection;
use crate::{id::ObjectRef, model::Protocol, problem::Problem, translate::filter_chain::Chain};
use std::sync::Arc;

/// What one port of a service wants of an address.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// The addresses; the first one says which listener it is.
    pub(super) addresses: Vec<Arc<str>>,
    /// What the service speaks on the port.
    pub(super) protocol: Protocol,
    /// What the listener speaks when it is for this port alone.
    pub(super) speaks: Protocol,
    /// Chains for bytes.
    pub(super) tcp: Vec<Chain>,
    /// What is wrong with the rules that say where connections go.
    pub(super) problems: Vec<Problem>,
    /// The chain for requests.
    pub(super) http: Option<Chain>,
    /// The service's object.
    pub(super) service: ObjectRef,
}

/// A listener as the services so far want it.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Its addresses.
    pub(super) addresses: Vec<Arc<str>>,
    /// What it speaks: `Auto` where requests and bytes are told apart.
    speaks: Protocol,
    /// Its chains.
    pub(super) chains: Vec<Chain>,
    /// The objects of the services that have a part in it, from the oldest, and of the rules for them.
    pub(super) services: Vec<ObjectRef>,
}

/// How a service fared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It has what it wants.
    Served,
    /// What it wants is taken.
    Refused,
    /// It took the place of those that were there before.
    Replaced,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Class {
    Http,
    Tcp,
    Auto,
}

fn class(protocol: Protocol) -> Class {
    match protocol {
        Protocol::Auto => Class::Auto,
        p if p.is_http() => Class::Http,
        _ => Class::Tcp,
    }
}

impl Entry {
    /// A listener for one service alone.
    pub(super) fn new(wanted: Wanted) -> Self {
        let mut entry =
            Self { addresses: wanted.addresses, speaks: wanted.speaks, chains: Vec::new(), services: Vec::new() };
        entry.note(wanted.service, &wanted.tcp);
        entry.chains.extend(wanted.tcp.into_iter().chain(wanted.http));
        entry
    }

    /// Whether it takes requests, to whichever service: all of a port share its routes.
    pub(super) fn takes_requests(&self) -> bool {
        class(self.speaks) != Class::Tcp
    }

    /// Adds what a younger service wants.
    pub(super) fn add(&mut self, wanted: Wanted) -> Outcome {
        let (here, there) = (class(self.speaks), class(wanted.protocol));
        if there == Class::Http && self.takes_requests() {
            return Outcome::Served;
        }
        if !can_share(self.speaks, wanted.protocol) {
            return Outcome::Refused;
        }
        match (here, there) {
            (Class::Http, Class::Auto) => {
                *self = Self::new(wanted);
                return Outcome::Replaced;
            }
            (Class::Auto, Class::Auto) => return self.merge(wanted.tcp, wanted.service),
            (Class::Tcp, Class::Tcp) | (Class::Auto, _) => {}
            _ => self.speaks = Protocol::Auto,
        }
        self.merge(wanted.tcp.into_iter().chain(wanted.http).collect(), wanted.service)
    }

    /// Adds chains in what is left to them of the connections that they take.
    fn merge(&mut self, chains: Vec<Chain>, service: ObjectRef) -> Outcome {
        let (mut free, mut whole) = (Vec::new(), true);
        for chain in chains {
            let left = chain.takes.beyond(self.chains.iter().map(|c| &c.takes));
            whole &= left == [chain.takes.clone()];
            free.extend(left.into_iter().map(|takes| Chain { takes, ..chain.clone() }));
        }
        if !free.is_empty() {
            self.note(service, &free);
        }
        self.chains.extend(free);
        if whole { Outcome::Served } else { Outcome::Refused }
    }

    /// Notes the objects that chains come from.
    fn note(&mut self, service: ObjectRef, chains: &[Chain]) {
        for object in std::iter::once(&service).chain(connection::rules(chains)) {
            if !self.services.contains(object) {
                self.services.push(object.clone());
            }
        }
    }
}

/// Servers of MySQL and MongoDB may speak first, so connections to them cannot be inspected.
fn can_share(a: Protocol, b: Protocol) -> bool {
    let speaks_first = |p| matches!(p, Protocol::Mongo | Protocol::MySql);
    a == b || !(speaks_first(a) || speaks_first(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        id::Kind,
        translate::{
            filter_chain::{Filters, Match},
            network_filter::Tcp,
        },
    };

    fn tcp(takes: Match, cluster: &str) -> Chain {
        Chain::tcp(takes, Tcp::to(cluster))
    }

    /// What a service named after its protocol wants. Its chain for requests is told by its match alone.
    fn wanted(protocol: Protocol, detects: bool) -> Wanted {
        let name = protocol.as_str();
        let http = if detects { Match::detected_http() } else { Match::default() };
        let (is_http, is_tcp) = (protocol.is_http(), protocol.is_tcp());
        Wanted {
            addresses: vec!["0.0.0.0".into()],
            protocol,
            speaks: if is_http && detects { Protocol::Auto } else { protocol },
            tcp: (!is_http).then(|| tcp(Match::default(), name)).into_iter().collect(),
            problems: Vec::new(),
            http: (!is_tcp).then(|| tcp(http, &format!("{name} requests"))),
            service: ObjectRef::new(Kind::SERVICE, "shop", name),
        }
    }

    fn clusters(entry: &Entry) -> Vec<&str> {
        let of = entry.chains.iter().map(|chain| match &chain.filters {
            Filters::Tcp(tcp) => &*tcp.clusters[0].0,
            Filters::Http(_) => unreachable!("these tests make none"),
        });
        of.collect()
    }

    fn meet(first: Protocol, second: Protocol, detects: bool) -> (Outcome, Entry) {
        let mut entry = Entry::new(wanted(first, detects));
        let outcome = entry.add(wanted(second, detects));
        (outcome, entry)
    }

    #[test]
    fn requests_to_several_services_share_a_chain() {
        let (outcome, entry) = meet(Protocol::Http, Protocol::Grpc, true);
        assert_eq!((outcome, clusters(&entry)), (Outcome::Served, vec!["HTTP requests"]));
        let (outcome, entry) = meet(Protocol::Auto, Protocol::Http, true);
        assert_eq!(outcome, Outcome::Served);
        assert_eq!(clusters(&entry), ["UnsupportedProtocol", "UnsupportedProtocol requests"]);
    }

    #[test]
    fn requests_and_bytes_share_a_listener_in_either_order() {
        let (outcome, entry) = meet(Protocol::Tcp, Protocol::Http, true);
        assert_eq!((outcome, clusters(&entry)), (Outcome::Served, vec!["TCP", "HTTP requests"]));
        assert_eq!(entry.speaks, Protocol::Auto);
        let (outcome, entry) = meet(Protocol::Http, Protocol::Tcp, true);
        assert_eq!((outcome, clusters(&entry)), (Outcome::Served, vec!["HTTP requests", "TCP"]));
    }

    #[test]
    fn of_two_that_cannot_be_told_apart_the_older_wins() {
        let (outcome, entry) = meet(Protocol::Tcp, Protocol::Redis, true);
        assert_eq!((outcome, clusters(&entry)), (Outcome::Refused, vec!["TCP"]));
        assert_eq!(entry.services.len(), 1);
        let (outcome, entry) = meet(Protocol::Http, Protocol::Tcp, false);
        assert_eq!((outcome, clusters(&entry)), (Outcome::Refused, vec!["HTTP requests"]));
        let (outcome, _) = meet(Protocol::Auto, Protocol::Auto, true);
        assert_eq!(outcome, Outcome::Refused);
    }

    #[test]
    fn names_tell_tls_services_apart() {
        let named = |host: &str| Match { server_names: vec![host.into()], ..Match::default() };
        let tls = |host| Wanted { tcp: vec![tcp(named(host), host)], ..wanted(Protocol::Tls, true) };
        let mut entry = Entry::new(tls("a.example"));
        assert_eq!(entry.add(tls("b.example")), Outcome::Served);
        assert_eq!(entry.add(tls("a.example")), Outcome::Refused);
        assert_eq!(clusters(&entry), ["a.example", "b.example"]);
    }

    #[test]
    fn nothing_shares_a_port_with_servers_that_speak_first() {
        for other in [Protocol::Tcp, Protocol::Http, Protocol::Auto, Protocol::MySql] {
            assert_eq!(meet(Protocol::Mongo, other, true).0, Outcome::Refused, "{other:?}");
        }
        assert_eq!(meet(Protocol::Http, Protocol::MySql, true).0, Outcome::Refused);
    }

    #[test]
    fn without_detection_a_port_that_may_be_anything_takes_the_place_of_requests() {
        let (outcome, entry) = meet(Protocol::Http, Protocol::Auto, false);
        assert_eq!((outcome, &*entry.services[0].name), (Outcome::Replaced, "UnsupportedProtocol"));
    }
}
