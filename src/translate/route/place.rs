//! The places that a VirtualService's rules name, found in the view; and what is wrong with them.

use super::{hash, rule::Place};
use crate::{
    id::Host,
    model::{Destination, Protocol},
    snapshot::View,
};

/// How far one name may stand for another.
const MAX_ALIASES: usize = 8;

/// The place of a destination, for clients that dial `port`; and what is wrong with it: a field, and what to write.
/// At a gateway, whose port says nothing of the service's, the service's only port counts where none is written.
pub(super) fn find(
    view: &View<'_>,
    port: u16,
    gateway: bool,
    destination: &Destination,
) -> (Place, Option<(&'static str, String)>) {
    let host = resolved(view, &destination.host);
    let only = || match &view.service(&host).filter(|_| gateway)?.ports[..] {
        [only] => Some(only.number),
        _ => None,
    };
    let number = destination.port.or_else(only).unwrap_or(port);
    let place = Place {
        hash: hash::of_destination(view, &destination.host, &destination.subset, destination.port),
        host,
        subset: destination.subset.clone(),
        port: number,
    };
    let wanted = Wanted { port: place.port, fate: "requests get 503", ..Wanted::of(&place.host, destination) };
    let wrong = wrong(view, &wanted);
    (place, wrong)
}

/// The host that a name finally stands for (ExternalName).
pub(in crate::translate) fn resolved(view: &View<'_>, host: &Host) -> Host {
    let mut at = host.clone();
    for _ in 0..MAX_ALIASES {
        match view.service(&at).and_then(|s| s.alias_of.as_ref()) {
            Some(target) => at = target.clone(),
            None => break,
        }
    }
    at
}

/// A place that is asked for.
pub(in crate::translate) struct Wanted<'a> {
    /// The host, resolved.
    pub(in crate::translate) host: &'a Host,
    /// The subset; empty for the whole service.
    pub(in crate::translate) subset: &'a str,
    /// The port.
    pub(in crate::translate) port: u16,
    /// Whether the user wrote the port.
    pub(in crate::translate) named: bool,
    /// What happens to what is sent there if it does not exist.
    pub(in crate::translate) fate: &'static str,
}

impl<'a> Wanted<'a> {
    /// What a destination asks for, whose host stands for `host`.
    pub(in crate::translate) fn of(host: &'a Host, destination: &'a Destination) -> Self {
        Self {
            host,
            subset: &destination.subset,
            port: destination.port.unwrap_or_default(),
            named: destination.port.is_some(),
            fate: "connections are closed",
        }
    }
}

/// What is wrong with a place: a field of the destination, and what to write.
pub(in crate::translate) fn wrong(view: &View<'_>, wanted: &Wanted<'_>) -> Option<(&'static str, String)> {
    let Wanted { host, subset, port, named, fate } = *wanted;
    let Some(service) = view.service(host) else {
        let message = format!(
            "no service {host} is known to clients in namespace {}, so {fate}; write the host of a Service or \
             ServiceEntry",
            view.key.namespace
        );
        return Some(("host", message));
    };
    if service.port(port).is_none_or(|p| p.protocol == Protocol::Udp) {
        let ports: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
        let ports = ports.join(", ");
        let message = match named {
            true => format!("{host} has no port {port}, so {fate}; it has {ports}"),
            false => format!(
                "{host} has no port {port}, which counts where no port is written, so {fate}; write port.number: it \
                 has {ports}"
            ),
        };
        return Some(("port", message));
    }
    let rules = view.destination_rules(host, &service.namespace);
    let known = subset.is_empty() || rules.iter().any(|r| r.subset(subset).is_some());
    (!known).then(|| {
        let message = format!("no DestinationRule for {host} has the subset {subset}, so {fate}; add it there");
        ("subset", message)
    })
}
