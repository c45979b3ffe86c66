//! The places that a VirtualService's rules name, found in the view; and what is wrong with them.

use super::{hash, rule::Place};
use crate::{
    id::Host,
    model::{Destination, Protocol, Service},
    snapshot::View,
};

/// How far one name may stand for another.
const MAX_ALIASES: usize = 8;

/// The place of a destination, for clients that dial `port`; and what is wrong with it: a field, and what to write.
pub(super) fn find(view: &View<'_>, port: u16, destination: &Destination) -> (Place, Option<(&'static str, String)>) {
    let host = resolved(view, &destination.host);
    let number = destination.port.unwrap_or(port);
    let place = Place {
        hash: hash::of_destination(view, &destination.host, &destination.subset, destination.port),
        host,
        subset: destination.subset.clone(),
        port: number,
    };
    let wrong = wrong(view, &place, destination);
    (place, wrong)
}

/// The host that a name finally stands for (ExternalName).
fn resolved(view: &View<'_>, host: &Host) -> Host {
    let mut at = host.clone();
    for _ in 0..MAX_ALIASES {
        match view.service(&at).and_then(|s| s.alias_of.as_ref()) {
            Some(target) => at = target.clone(),
            None => break,
        }
    }
    at
}

fn wrong(view: &View<'_>, place: &Place, destination: &Destination) -> Option<(&'static str, String)> {
    let Some(service) = view.service(&place.host) else {
        let message = format!(
            "no service {} is known to clients in namespace {}, so their requests get 503; write the host of a \
             Service or ServiceEntry",
            place.host, view.key.namespace
        );
        return Some(("host", message));
    };
    if service.port(place.port).is_none_or(|p| p.protocol == Protocol::Udp) {
        return Some(("port", no_port(service, place.port, destination.port.is_some())));
    }
    let rules = view.destination_rules(&place.host, &service.namespace);
    let known = place.subset.is_empty() || rules.iter().any(|r| r.subset(&place.subset).is_some());
    (!known).then(|| {
        let message = format!(
            "no DestinationRule for {} has the subset {}, so requests get 503; add it there",
            place.host, place.subset
        );
        ("subset", message)
    })
}

fn no_port(service: &Service, port: u16, named: bool) -> String {
    let ports: Vec<String> = service.ports.iter().map(|p| p.number.to_string()).collect();
    let ports = ports.join(", ");
    match named {
        true => format!("{} has no port {port}, so requests get 503; it has {ports}", service.host),
        false => format!(
            "{} has no port {port}, to which requests that were sent to port {port} go where no port is written, so \
             they get 503; write port.number: it has {ports}",
            service.host
        ),
    }
}
