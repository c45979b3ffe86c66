//! Inbound filter chains: for each port of the workload, which kinds of connections are taken and how.
//!
//! Mesh traffic is told by the application protocols that its clients offer in the TLS handshake: those of Istio.

use crate::{
    id::{ObjectRef, Shared},
    model::Protocol,
    translate::{
        access_log::AccessLog,
        connection_manager::{Manager, Routes, Settings},
        filter_chain::{Chain, Filters, Match, PLAINTEXT_HTTP, TlsEnd, Transport},
        guard::Guard,
        mutual_tls::MutualTls,
        network_filter::{BLACK_HOLE, Tcp},
        termination::Termination,
    },
};
use std::sync::Arc;

/// The cluster that sends a connection to the port of the workload that it came for.
pub(super) const INBOUND_PASSTHROUGH: &str = "InboundPassthroughCluster";

const MESH: &[&str] = &["istio", "istio-peer-exchange", "istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MESH_HTTP: &[&str] = &["istio-http/1.0", "istio-http/1.1", "istio-h2"];
const MESH_TCP: &[&str] = &["istio-peer-exchange", "istio"];

/// Whether a port takes mutual TLS.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) enum Mode {
    /// It takes nothing: mutual TLS alone is asked for, and the proxy has no certificate.
    Closed,
    /// It does not: the proxy has no certificate, or was told so.
    Disable,
    /// It takes mutual TLS and plaintext.
    Permissive,
    /// It takes mutual TLS alone.
    Strict,
}

/// A port of the workload.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct InboundPort {
    /// The port of the workload, where a service leads to it.
    pub(super) target: Option<u16>,
    /// The port whose connections are taken; `None` for all that no other chain takes.
    pub(super) at: Option<u16>,
    /// The address in names.
    pub(super) address: Arc<str>,
    /// The service's port.
    pub(super) port: u16,
    /// The service's host; empty where there is none.
    pub(super) host: Arc<str>,
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// Whether it takes mutual TLS.
    pub(super) mode: Mode,
    /// TLS of the workload's own that ends here, where it takes no mutual TLS.
    pub(super) own_tls: Option<Termination>,
    /// What its bytes are called in statistics, where that is not the cluster.
    pub(super) stat_name: Option<Arc<str>>,
    /// The Sidecar that says so.
    pub(super) rule: Option<ObjectRef>,
}

/// What the chains of one proxy have in common.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(super) struct Common {
    /// What the mesh and the proxy set.
    pub(super) settings: Shared<Settings>,
    /// Mutual TLS, where it is ended.
    pub(super) tls: MutualTls,
    /// What stands before the workload.
    pub(super) guard: Guard,
    /// Idle time of connections, in milliseconds.
    pub(super) idle_timeout: Option<u64>,
    /// Where connections are logged.
    pub(super) log: Option<AccessLog>,
}

/// One row of the table below: transport, application protocols, whether it holds requests, whether TLS ends here.
type Row = (Transport, &'static [&'static str], bool, bool);

/// The chains of a port (Istio: `listener_inbound.go` and `filterchain_options.go`).
fn rows(mode: Mode, protocol: Protocol) -> Vec<Row> {
    use Transport::{Plaintext, Tls};
    let auto = protocol == Protocol::Auto;
    match (mode, protocol.is_http()) {
        (Mode::Closed, _) => Vec::new(),
        (Mode::Permissive, _) if auto => vec![
            (Tls, MESH_HTTP, true, true),
            (Plaintext, PLAINTEXT_HTTP, true, false),
            (Tls, MESH_TCP, false, true),
            (Plaintext, &[], false, false),
            (Tls, &[], false, false),
        ],
        (Mode::Permissive, true) => vec![(Tls, MESH, true, true), (Plaintext, &[], true, false)],
        (Mode::Permissive, false) => {
            vec![(Tls, MESH, false, true), (Tls, &[], false, false), (Plaintext, &[], false, false)]
        }
        (Mode::Strict, _) if auto => vec![(Tls, MESH_HTTP, true, true), (Tls, &[], false, true)],
        (Mode::Strict, http) => vec![(Tls, &[], http, true)],
        (Mode::Disable, _) if auto => vec![(Plaintext, PLAINTEXT_HTTP, true, false), (Plaintext, &[], false, false)],
        (Mode::Disable, http) => vec![(Plaintext, &[], http, false)],
    }
}

impl InboundPort {
    /// A port that no service leads to, or all of them.
    pub(super) fn passthrough(at: Option<u16>, mode: Mode) -> Self {
        Self {
            target: None,
            at,
            address: "".into(),
            port: 0,
            host: "".into(),
            protocol: Protocol::Auto,
            mode,
            own_tls: None,
            stat_name: None,
            rule: None,
        }
    }

    /// The name of the cluster behind the port.
    pub(super) fn cluster(&self) -> Arc<str> {
        match self.target {
            None => INBOUND_PASSTHROUGH.into(),
            Some(target) => format!("inbound|{target}||").into(),
        }
    }

    /// The chains of the port.
    pub(super) fn chains(&self, common: &Common) -> Vec<Chain> {
        if self.mode == Mode::Closed {
            let takes = Match { port: self.at, ..Match::default() };
            return vec![Chain {
                name: self.name(false),
                short_handshake: false,
                ..Chain::tcp(takes, Tcp::to(BLACK_HOLE))
            }];
        }
        let rows = match &self.own_tls {
            Some(_) => vec![(Transport::Tls, &[] as &[_], self.protocol.is_http(), true)],
            None => rows(self.mode, self.protocol),
        };
        rows.into_iter().map(|row| self.chain(common, row)).collect()
    }

    fn chain(&self, common: &Common, (transport, protocols, requests, ends_tls): Row) -> Chain {
        Chain {
            name: self.name(requests),
            takes: Match { port: self.at, transport: Some(transport), protocols, ..Match::default() },
            filters: if requests { Filters::Http(self.manager(common)) } else { Filters::Tcp(self.tcp(common)) },
            tls: ends_tls.then(|| match &self.own_tls {
                Some(own) => TlsEnd::Server(own.clone()),
                None => TlsEnd::Mesh(common.tls.clone()),
            }),
            short_handshake: false,
            rule: self.rule.clone(),
        }
    }

    fn name(&self, requests: bool) -> Arc<str> {
        match (self.target, requests) {
            (Some(target), _) => format!("{}_{target}", self.address).into(),
            (None, true) => "virtualInbound-catchall-http".into(),
            (None, false) => "virtualInbound".into(),
        }
    }

    fn tcp(&self, common: &Common) -> Tcp {
        Tcp {
            idle_timeout: common.idle_timeout,
            log: common.log.clone(),
            guard: common.guard.clone(),
            mongo: self.protocol == Protocol::Mongo,
            stat_prefix: self.stat_name.clone().unwrap_or_else(|| self.cluster()),
            ..Tcp::to(self.cluster())
        }
    }

    fn manager(&self, common: &Common) -> Manager {
        Manager {
            settings: common.settings.clone(),
            stat_prefix: match self.target {
                None => self.cluster(),
                Some(target) => format!("inbound_{}_{target}", self.address).into(),
            },
            routes: Routes::Inbound {
                cluster: self.cluster(),
                host: self.host.clone(),
                port: self.port,
                // A stream of gRPC may have been read in part when it is reset.
                retry: !matches!(self.protocol, Protocol::Grpc | Protocol::GrpcWeb),
                http2: self.protocol.is_http2(),
            },
            grpc_web: self.protocol == Protocol::GrpcWeb,
            dynamic: Vec::new(),
            guard: common.guard.clone(),
            absolute_urls: false,
        }
    }
}

/// Connections to the listener itself, which would come back to it for ever.
pub(super) fn black_hole(port: u16) -> Chain {
    let takes = Match { port: Some(port), ..Match::default() };
    Chain { name: "virtualInbound-blackhole".into(), short_handshake: false, ..Chain::tcp(takes, Tcp::to(BLACK_HOLE)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const PROTOCOLS: [Protocol; 4] = [Protocol::Auto, Protocol::Http, Protocol::Grpc, Protocol::Tcp];

    #[test]
    fn without_mutual_tls_no_chain_ends_tls_or_asks_for_it() {
        for protocol in PROTOCOLS {
            assert!(rows(Mode::Disable, protocol).iter().all(|r| r.0 == Transport::Plaintext && !r.3), "{protocol:?}");
        }
    }

    #[test]
    fn strict_ports_take_nothing_that_is_not_mutual_tls() {
        for protocol in PROTOCOLS {
            assert!(rows(Mode::Strict, protocol).iter().all(|r| r.0 == Transport::Tls && r.3), "{protocol:?}");
        }
    }

    #[test]
    fn no_two_chains_of_a_port_take_the_same_connections() {
        for mode in [Mode::Closed, Mode::Disable, Mode::Permissive, Mode::Strict] {
            for protocol in PROTOCOLS {
                let rows = rows(mode, protocol);
                let distinct: BTreeSet<_> = rows.iter().map(|r| (r.0 == Transport::Tls, r.1)).collect();
                assert_eq!(distinct.len(), rows.len(), "{mode:?} {protocol:?}");
            }
        }
    }
}
