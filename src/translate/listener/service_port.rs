//! Where one port of a service is listened for, and the chains that it wants there.

use super::{collision::Wanted, connection, loopbacks, outbound::listener_name, wildcards};
use crate::{
    id::Shared,
    model::{EndpointAddress, Health, Interception, Protocol, Registry, Resolution, Service, ServicePort, Vip},
    snapshot::View,
    translate::{
        connection_manager::{Manager, Routes, Settings},
        dynamic_dns::Cache,
        filter_chain::{Chain, Match},
        guard::Guard,
    },
};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// What listeners on one port have in common.
pub(super) struct Site<'a> {
    /// Who looks.
    pub(super) view: &'a View<'a>,
    /// The port.
    pub(super) port: u16,
    /// The addresses that stand for every local one.
    pub(super) wildcards: Vec<Arc<str>>,
    /// The addresses of all listeners here, where they are not the services' own.
    pub(super) fixed: Option<Vec<Arc<str>>>,
    /// Whether listeners have sockets of their own: traffic to them is not captured.
    pub(super) real: bool,
    /// Whether the port is one that a Sidecar names, whatever ports services have.
    pub(super) own_port: bool,
    /// Whether some service on the port is asked by gRPC-Web.
    pub(super) grpc_web: bool,
    /// The names of hosts on the port that are resolved when they are asked for.
    pub(super) dynamic: Vec<Cache>,
    settings: Shared<Settings>,
}

/// An address, or a block of addresses, of a service.
struct Place {
    addresses: Vec<Arc<str>>,
    block: Option<IpNet>,
}

impl<'a> Site<'a> {
    /// The site of a port.
    pub(super) fn new(view: &'a View<'a>, port: u16) -> Self {
        let captured = view.key.face.as_ref().is_none_or(|f| f.interception != Interception::None);
        let listener = view.listener;
        let apart = listener.is_some_and(|l| l.captured == Some(false) || l.is_unix());
        let real = !captured || apart;
        let bind = listener.and_then(|l| l.bind.clone()).map(|bind| vec![bind]);
        Self {
            view,
            port,
            wildcards: wildcards(view),
            fixed: bind.or_else(|| real.then(|| loopbacks(view))),
            real,
            own_port: listener.is_some_and(|l| l.port.is_some()),
            grpc_web: false,
            dynamic: Vec::new(),
            settings: Settings::of(view),
        }
    }

    /// What a port of a service wants, by address.
    pub(super) fn wanted(&self, service: &Shared<Service>, port: &ServicePort) -> Vec<Wanted> {
        match port.protocol {
            _ if service.resolution == Resolution::Alias => Vec::new(),
            Protocol::Udp => Vec::new(),
            protocol if protocol.is_http() => vec![self.requests(service, protocol)],
            _ => self.places(service, port).into_iter().map(|place| self.bytes(service, port, place)).collect(),
        }
    }

    /// The addresses at which there are requests.
    pub(super) fn for_requests(&self) -> &[Arc<str>] {
        self.fixed.as_ref().unwrap_or(&self.wildcards)
    }

    /// Requests are told apart by their host, so all services share the wildcard address.
    fn requests(&self, service: &Service, protocol: Protocol) -> Wanted {
        let addresses = self.for_requests();
        let detects = self.is_wildcard(addresses) && protocol != Protocol::HttpProxy;
        let takes = if detects { Match::detected_http() } else { Match::default() };
        Wanted {
            http: Some(self.http_chain(takes, addresses, self.shared_routes(addresses))),
            addresses: addresses.to_vec(),
            protocol,
            speaks: if detects { Protocol::Auto } else { protocol },
            tcp: Vec::new(),
            problems: Vec::new(),
            service: service.source.clone(),
        }
    }

    /// The name of the routes that all services of a listener share: its port, or its socket.
    fn shared_routes(&self, addresses: &[Arc<str>]) -> String {
        match (self.port, addresses.first()) {
            (0, Some(socket)) => socket.to_string(),
            _ => self.port.to_string(),
        }
    }

    /// Bytes are told apart by address, and TLS by the name that the client asks for where there is no address.
    fn bytes(&self, service: &Service, port: &ServicePort, place: Place) -> Wanted {
        let wildcard = self.is_wildcard(&place.addresses);
        let by_name = port.protocol.is_tls() && wildcard;
        let takes = Match {
            prefixes: place.block.into_iter().collect(),
            server_names: by_name.then(|| service.host.shared()).into_iter().collect(),
            ..Match::default()
        };
        let routes = match wildcard {
            true => self.shared_routes(&place.addresses),
            false => format!("{}:{}", service.host, self.port),
        };
        let http = || self.http_chain(Match::detected_http(), &place.addresses, routes);
        let (tcp, problems) = connection::chains(self, service, port, takes);
        Wanted {
            protocol: port.protocol,
            speaks: port.protocol,
            tcp,
            problems,
            http: (port.protocol == Protocol::Auto).then(http),
            service: service.source.clone(),
            addresses: place.addresses,
        }
    }

    fn http_chain(&self, takes: Match, addresses: &[Arc<str>], routes: String) -> Chain {
        let manager = Manager {
            settings: self.settings.clone(),
            stat_prefix: format!("outbound_{}", listener_name(addresses, self.port)).into(),
            routes: Routes::Named(routes.into()),
            grpc_web: self.grpc_web,
            dynamic: self.dynamic.clone(),
            guard: Guard::default(),
            absolute_urls: false,
        };
        Chain::http(takes, manager)
    }

    fn is_wildcard(&self, addresses: &[Arc<str>]) -> bool {
        addresses.first() == self.wildcards.first()
    }

    /// Where bytes to a service arrive.
    fn places(&self, service: &Service, port: &ServicePort) -> Vec<Place> {
        let at = |addresses: Vec<Arc<str>>| Place { addresses, block: None };
        if let Some(fixed) = &self.fixed {
            return vec![at(fixed.clone())];
        }
        let addresses = self.view.addresses(service);
        if addresses.is_empty() {
            return match service.resolution {
                Resolution::Passthrough if !self.own_port => self.instances(service, port),
                _ => vec![at(self.wildcards.clone())],
            };
        }
        let text = |ip: &IpAddr| Arc::from(ip.to_string());
        // Addresses that the mesh gave are of one host, too.
        if service.registry == Registry::Kubernetes || service.addresses.is_empty() {
            let all: Vec<IpAddr> = addresses.iter().filter_map(address).collect();
            let own: Vec<_> = all.iter().filter(|ip| self.view.key.families.has(**ip)).map(text).collect();
            let chosen = if own.is_empty() { all.iter().take(1).map(text).collect() } else { own };
            return vec![at(chosen)];
        }
        let place = |vip: &Vip| match (address(vip), vip) {
            (Some(ip), _) => at(vec![text(&ip)]),
            (None, Vip::Block(block)) => Place { addresses: self.wildcards.clone(), block: Some(block.trunc()) },
            (None, Vip::Ip(ip)) => at(vec![text(ip)]),
        };
        addresses.iter().map(place).collect()
    }

    /// The addresses of the endpoints of a service that clients reach one by one, without the proxy's own.
    fn instances(&self, service: &Service, port: &ServicePort) -> Vec<Place> {
        let own = self.view.key.face.as_ref().and_then(|f| f.dialled);
        let endpoints = self.view.endpoints(service).map_or(&[][..], |set| &set.endpoints[..]);
        let mut instances = endpoints.iter().filter(|e| e.port_name == port.name).peekable();
        if instances.peek().is_none() && service.registry == Registry::External && service.selector.is_empty() {
            return vec![Place { addresses: self.wildcards.clone(), block: None }];
        }
        let mut places: BTreeMap<IpAddr, Place> = BTreeMap::new();
        for endpoint in instances.filter(|e| e.health != Health::Terminating) {
            let EndpointAddress::Ip(ip) = endpoint.address else { continue };
            if Some(ip) != own {
                let addresses = [ip].iter().chain(&endpoint.more_addresses).map(|ip| ip.to_string().into()).collect();
                places.insert(ip, Place { addresses, block: None });
            }
        }
        places.into_values().collect()
    }
}

/// A single address, also where it is written as a block.
fn address(vip: &Vip) -> Option<IpAddr> {
    match vip {
        Vip::Ip(ip) => Some(*ip),
        Vip::Block(block) => (block.prefix_len() == block.max_prefix_len()).then(|| block.addr()),
    }
}
