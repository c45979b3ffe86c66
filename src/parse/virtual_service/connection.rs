//! Rules for connections (`tls`, `tcp`).

use super::Parser;
use crate::{
    api::virtual_service as api,
    model::{ConnectionMatch, ConnectionRule, Destination},
    parse::text,
    problem::FieldPath,
};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::IpAddr};

/// What conditions for TLS and TCP have in common.
struct Shared<'a> {
    subnets: &'a [String],
    port: i64,
    labels: &'a BTreeMap<String, String>,
    namespace: &'a str,
    gateways: &'a [String],
}

impl Parser<'_> {
    pub(super) fn tls(&mut self, path: &FieldPath, rule: &api::TlsRoute) -> ConnectionRule {
        if rule.r#match.is_empty() {
            self.found.error(&path.field("match"), "is missing; write at least one match with sniHosts");
        }
        let matches = rule.r#match.iter().enumerate().map(|(i, condition)| {
            let at = path.field("match").index(i);
            if condition.sni_hosts.is_empty() {
                self.found.error(&at.field("sniHosts"), "is missing; write the names that clients ask for");
            }
            for (n, name) in condition.sni_hosts.iter().enumerate() {
                self.sni(&at.field("sniHosts").index(n), name);
            }
            let shared = Shared {
                subnets: &condition.destination_subnets,
                port: condition.port,
                labels: &condition.source_labels,
                namespace: &condition.source_namespace,
                gateways: &condition.gateways,
            };
            let names = condition.sni_hosts.iter().map(|name| name.to_ascii_lowercase().into()).collect();
            ConnectionMatch { names, ..self.shared(&at, &shared) }
        });
        let matches = matches.collect();
        ConnectionRule { matches, destinations: self.l4_destinations(&path.field("route"), &rule.route) }
    }

    fn sni(&mut self, path: &FieldPath, name: &str) {
        if name.parse::<IpAddr>().is_ok() {
            self.found.warn(path, format!("{name} is an address, and few clients ask for one by SNI; write a name"));
            return;
        }
        if let Err(why) = text::wildcard_name(name) {
            // Names that gateways with AUTO_PASSTHROUGH make for clusters have underscores.
            if self.mesh || !name.starts_with("outbound_") {
                self.found.error(path, why);
            }
            return;
        }
        let host = crate::id::Host::from(name.to_ascii_lowercase());
        if !self.hosts.iter().any(|h| h.covers(&host)) {
            self.found
                .error(path, format!("{name} is not among the hosts of this VirtualService; add it to spec.hosts"));
        }
    }

    pub(super) fn tcp(&mut self, path: &FieldPath, rule: &api::TcpRoute) -> ConnectionRule {
        let matches = rule.r#match.iter().enumerate().map(|(i, condition)| {
            let at = path.field("match").index(i);
            if !condition.source_subnet.is_empty() {
                let message = "has no effect, in Istio either; write sourceLabels or sourceNamespace";
                self.found.warn(&at.field("sourceSubnet"), message);
            }
            let shared = Shared {
                subnets: &condition.destination_subnets,
                port: condition.port,
                labels: &condition.source_labels,
                namespace: &condition.source_namespace,
                gateways: &condition.gateways,
            };
            self.shared(&at, &shared)
        });
        let matches = matches.collect();
        ConnectionRule { matches, destinations: self.l4_destinations(&path.field("route"), &rule.route) }
    }

    fn shared(&mut self, path: &FieldPath, condition: &Shared<'_>) -> ConnectionMatch {
        let mut subnets = Vec::new();
        for (i, subnet) in condition.subnets.iter().enumerate() {
            match subnet.parse::<IpNet>().or_else(|_| subnet.parse::<IpAddr>().map(IpNet::from)) {
                Ok(net) => subnets.push(net.trunc()),
                Err(_) => {
                    let message = format!("{subnet:?} is not a subnet; write an address or a block as 10.0.0.0/8");
                    self.found.error(&path.field("destinationSubnets").index(i), message);
                }
            }
        }
        ConnectionMatch {
            names: Vec::new(),
            subnets,
            port: match condition.port {
                0 => None,
                port => self.found.port(&path.field("port"), port),
            },
            source_labels: self.labels(&path.field("sourceLabels"), condition.labels),
            source_namespace: condition.namespace.into(),
            gateways: self.gateways(&path.field("gateways"), condition.gateways),
        }
    }

    fn l4_destinations(&mut self, path: &FieldPath, raw: &[api::L4Destination]) -> Vec<Destination> {
        if raw.is_empty() {
            self.found.error(path, "is missing; write where connections go");
        }
        let mut all = Vec::new();
        for (i, entry) in raw.iter().enumerate() {
            let destination = self.destination(&path.index(i).field("destination"), entry.destination.as_ref());
            let weight = self.weight(&path.index(i).field("weight"), entry.weight);
            all.extend(destination.map(|d| Destination { weight, ..d }));
        }
        self.check_weights(path, raw.iter().map(|d| d.weight));
        all
    }
}
