//! What a router opens: the servers of the Gateways that select it, put together port by port, each conflict
//! settled (Istio: `pilot/pkg/model/gateway.go`, mergeGateways).

use super::{Families, Snapshot, Target};
use crate::{
    id::{ObjectRef, Shared},
    model::{Gateway, Labels, NodeSettings, Protocol, Server, ServerHost, ServerTlsMode, selects},
    problem::{FieldPath, Problem},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// A service whose ports are not those of gateways says so by this label.
const NO_TRANSLATION: &str = "experimental.istio.io/disable-gateway-port-translation";

/// All that a router opens.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Entrance {
    /// Its ports, by number and address.
    pub openings: Vec<Opening>,
    /// What of the Gateways has no effect at this router.
    pub problems: Vec<Problem>,
}

/// A port that a router opens at an address.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Opening {
    /// The address, or `unix://` and a path; `None` for every address.
    pub bind: Option<Arc<str>>,
    /// The number that is listened at; 0 at a socket of the file system.
    pub port: u16,
    /// The servers on it, in the order of their filter chains.
    pub servers: Vec<Placed>,
}

impl Opening {
    /// The server that plain connections come to.
    pub fn plain(&self) -> Option<&Placed> {
        self.servers.iter().find(|s| !s.server().is_tls())
    }

    /// Whether the chains of the listener depend on what VirtualServices say.
    pub fn routes_bytes(&self) -> bool {
        self.servers.iter().any(|s| !s.server().is_http())
    }
}

/// A server that has its place.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Placed {
    /// Its Gateway.
    pub gateway: Shared<Gateway>,
    /// Which server of the Gateway.
    pub at: usize,
    /// Its hosts, without those that another server has.
    pub hosts: Vec<ServerHost>,
    /// The route configuration of its requests; empty where it has none.
    pub routes: Arc<str>,
    /// Whether it is served over QUIC too.
    pub quic: bool,
}

impl Placed {
    /// The server.
    pub fn server(&self) -> &Server {
        &self.gateway.servers[self.at]
    }

    /// The names that TLS clients ask for, sorted.
    pub fn names(&self) -> Vec<Arc<str>> {
        let mut names: Vec<_> = self.hosts.iter().map(|h| h.host.shared()).collect();
        names.sort();
        names.dedup();
        names
    }
}

impl Entrance {
    /// The servers whose requests take a route configuration, in order.
    pub fn on_route<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Placed> {
        self.openings.iter().flat_map(|o| &o.servers).filter(move |s| !s.routes.is_empty() && *s.routes == *name)
    }

    /// The Gateways, as `namespace/name`, sorted.
    pub fn gateways(&self) -> Vec<Arc<str>> {
        let servers = self.openings.iter().flat_map(|o| &o.servers);
        let names: BTreeSet<Arc<str>> = servers.map(|s| s.gateway.name()).collect();
        names.into_iter().collect()
    }

    /// The names of the secrets that servers need, each with the first Gateway that says so.
    pub fn secrets(&self) -> BTreeMap<Arc<str>, ObjectRef> {
        let mut all = BTreeMap::new();
        for placed in self.openings.iter().flat_map(|o| &o.servers) {
            for name in placed.server().tls.iter().flat_map(|t| t.secret_names()) {
                all.entry(name).or_insert_with(|| placed.gateway.source.clone());
            }
        }
        all
    }

    /// Whether TLS between networks passes here, to whatever service its name stands for.
    pub fn auto_passthrough(&self) -> bool {
        let modes = self.openings.iter().flat_map(|o| &o.servers).filter_map(|s| s.server().tls.as_ref());
        modes.into_iter().any(|t| t.mode == ServerTlsMode::AutoPassthrough)
    }
}

/// What of a router decides where servers are placed.
pub(super) struct Door<'a> {
    pub(super) labels: &'a Labels,
    pub(super) targets: &'a [Target],
    pub(super) families: Families,
    pub(super) settings: &'a NodeSettings,
}

impl Snapshot {
    /// What a router opens.
    pub(super) fn entrance(&self, door: &Door<'_>) -> Entrance {
        let mut gateways: Vec<_> = self.gateways.values().filter(|g| selects(&g.selector, door.labels)).collect();
        gateways.retain(|g| self.discovers(&g.source.namespace));
        gateways.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let mut merge = Merge { door, quic: self.mesh.features.quic, openings: BTreeMap::new(), problems: Vec::new() };
        for gateway in gateways {
            for at in 0..gateway.servers.len() {
                merge.place(gateway, at);
            }
        }
        let openings = merge.openings.into_values().map(Site::finish).collect();
        Entrance { openings, problems: merge.problems }
    }
}

struct Merge<'a> {
    door: &'a Door<'a>,
    quic: bool,
    openings: BTreeMap<(u16, Option<Arc<str>>), Site>,
    problems: Vec<Problem>,
}

/// A port while servers are placed on it.
struct Site {
    opening: Opening,
    /// The names that TLS clients may ask for, and the Gateway that has each.
    names: BTreeMap<Arc<str>, ObjectRef>,
}

impl Site {
    /// The servers of one protocol follow one another, as Istio has them.
    fn finish(self) -> Opening {
        let mut opening = self.opening;
        let order: Vec<Protocol> = opening.servers.iter().map(|s| s.server().protocol).collect();
        let first = |s: &Placed| order.iter().position(|p| *p == s.server().protocol);
        opening.servers.sort_by_key(first);
        opening
    }
}

impl Merge<'_> {
    fn place(&mut self, gateway: &Shared<Gateway>, at: usize) {
        let server = &gateway.servers[at];
        let port = self.resolved(server.port);
        let path = FieldPath::new("spec.servers").index(at);
        if let Some(why) = self.objection(port) {
            self.problems.push(Problem::warning(&gateway.source, path.field("port"), why));
            return;
        }
        // An address that stands for every one is as good as none.
        let everywhere = |address: &Arc<str>| self.door.families.wildcards().first().is_some_and(|w| **w == **address);
        let bind = server.bind.clone().filter(|address| !everywhere(address));
        let site = self
            .openings
            .entry((port, bind.clone()))
            .or_insert_with(|| Site { opening: Opening { bind, port, servers: Vec::new() }, names: BTreeMap::new() });
        if let Some((winner, why)) = conflict(site, server) {
            let why = format!("{why} with the server of {winner}, which comes first and stays; use another port");
            self.problems.push(Problem::warning(&gateway.source, path.field("port"), why));
            return;
        }
        let mut hosts = server.hosts.clone();
        if server.is_tls() {
            hosts.retain(|host| match site.names.get(&*host.host) {
                None => true,
                Some(winner) => {
                    let which = server.hosts.iter().position(|h| h == host).unwrap_or_default();
                    let why = format!(
                        "TLS clients that ask for {} on port {} come to {winner}, which comes first; leave the host \
                         out here or there",
                        host.host, server.port
                    );
                    self.problems.push(Problem::warning(&gateway.source, path.field("hosts").index(which), why));
                    false
                }
            });
            site.names.extend(hosts.iter().map(|h| (h.host.shared(), gateway.source.clone())));
        }
        if !hosts.is_empty() {
            let udp = |t: &Target| t.port == server.port && t.protocol == Protocol::Udp;
            let quic = self.quic && server.is_tls() && server.is_http() && self.door.targets.iter().any(udp);
            let routes = routes_name(gateway, server, port).into();
            site.opening.servers.push(Placed { gateway: gateway.clone(), at, hosts, routes, quic });
        }
    }

    /// The port that the Service before the router leads to; the number itself where none does.
    fn resolved(&self, number: u16) -> u16 {
        let of = self.door.targets.iter().filter(|t| !t.service.labels.contains_key(NO_TRANSLATION));
        of.into_iter().find(|t| t.port == number).map_or(number, |t| t.target)
    }

    /// Why a router cannot open a port.
    fn objection(&self, port: u16) -> Option<String> {
        let settings = self.door.settings;
        if settings.unprivileged && (1..1024).contains(&port) {
            return Some(format!(
                "opens port {port}, which a gateway without privileges may not; let the Service before it lead to a \
                 port above 1023"
            ));
        }
        [settings.status_port, settings.prometheus_port]
            .contains(&port)
            .then(|| format!("opens port {port}, at which the gateway tells of its own state; use another one"))
    }
}

/// The server that stands in the way of another on the same port, and why.
fn conflict<'a>(site: &'a Site, server: &Server) -> Option<(&'a ObjectRef, &'static str)> {
    let plain = site.opening.plain();
    if let Some(there) = plain {
        let both = there.server().protocol.is_http() && server.protocol.is_http();
        let why = if server.is_tls() { "mixes TLS" } else { "mixes protocols" };
        return (!both).then_some((&there.gateway.source, why));
    }
    // Plain connections beside TLS are what no name is asked for, which only names tell apart.
    let all = site.names.get("*")?;
    (!server.is_tls()).then_some((all, "cannot be told apart"))
}

/// Istio: `gatewayRDSRouteName`.
fn routes_name(gateway: &Gateway, server: &Server, port: u16) -> String {
    let bind = server.bind.as_ref().map(|address| format!(".{address}")).unwrap_or_default();
    let (source, name) = (&gateway.source, &server.port_name);
    match server.protocol {
        p if p.is_http() => format!("http.{port}{bind}"),
        Protocol::Https if !server.passes_through() => {
            format!("https.{}.{name}.{}.{}{bind}", server.port, source.name, source.namespace)
        }
        _ => String::new(),
    }
}
