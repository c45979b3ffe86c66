//! Rules for connections (`tls`, `tcp`): they are checked, and said to have no effect yet.

use super::Parser;
use crate::{api::virtual_service as api, parse::text, problem::FieldPath};
use ipnet::IpNet;
use std::{collections::BTreeMap, net::IpAddr};

/// What conditions for TLS and TCP have in common.
struct Shared<'a> {
    subnets: &'a [String],
    port: i64,
    labels: &'a BTreeMap<String, String>,
    gateways: &'a [String],
}

impl Parser<'_> {
    pub(super) fn connections(&mut self, path: &FieldPath, spec: &api::VirtualService) {
        for (i, rule) in spec.tls.iter().enumerate() {
            self.tls(&path.field("tls").index(i), rule);
        }
        for (i, rule) in spec.tcp.iter().enumerate() {
            self.tcp(&path.field("tcp").index(i), rule);
        }
        for (field, there) in [("tls", !spec.tls.is_empty()), ("tcp", !spec.tcp.is_empty())] {
            if there {
                let message = "has no effect yet: connections go to the service that they were made to";
                self.found.warn(&path.field(field), message);
            }
        }
    }

    fn tls(&mut self, path: &FieldPath, rule: &api::TlsRoute) {
        if rule.r#match.is_empty() {
            self.found.error(&path.field("match"), "is missing; write at least one match with sniHosts");
        }
        for (i, condition) in rule.r#match.iter().enumerate() {
            let at = path.field("match").index(i);
            if condition.sni_hosts.is_empty() {
                self.found.error(&at.field("sniHosts"), "is missing; write the names that clients ask for");
            }
            for (n, name) in condition.sni_hosts.iter().enumerate() {
                self.sni(&at.field("sniHosts").index(n), name);
            }
            self.shared(
                &at,
                &Shared {
                    subnets: &condition.destination_subnets,
                    port: condition.port,
                    labels: &condition.source_labels,
                    gateways: &condition.gateways,
                },
            );
        }
        self.l4_destinations(&path.field("route"), &rule.route);
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

    fn tcp(&mut self, path: &FieldPath, rule: &api::TcpRoute) {
        for (i, condition) in rule.r#match.iter().enumerate() {
            self.shared(
                &path.field("match").index(i),
                &Shared {
                    subnets: &condition.destination_subnets,
                    port: condition.port,
                    labels: &condition.source_labels,
                    gateways: &condition.gateways,
                },
            );
        }
        self.l4_destinations(&path.field("route"), &rule.route);
    }

    fn shared(&mut self, path: &FieldPath, condition: &Shared<'_>) {
        for (i, subnet) in condition.subnets.iter().enumerate() {
            if subnet.parse::<IpNet>().is_err() && subnet.parse::<IpAddr>().is_err() {
                let message = format!("{subnet:?} is not a subnet; write an address or a block as 10.0.0.0/8");
                self.found.error(&path.field("destinationSubnets").index(i), message);
            }
        }
        if condition.port != 0 {
            self.found.port(&path.field("port"), condition.port);
        }
        self.labels(&path.field("sourceLabels"), condition.labels);
        self.gateways(&path.field("gateways"), condition.gateways);
    }

    fn l4_destinations(&mut self, path: &FieldPath, raw: &[api::L4Destination]) {
        if raw.is_empty() {
            self.found.error(path, "is missing; write where connections go");
        }
        for (i, entry) in raw.iter().enumerate() {
            self.destination(&path.index(i).field("destination"), entry.destination.as_ref());
            self.weight(&path.index(i).field("weight"), entry.weight);
        }
        self.check_weights(path, raw.iter().map(|d| d.weight));
    }
}
