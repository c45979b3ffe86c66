//! Gateways (Istio: `pkg/config/validation/validation.go`, ValidateGateway).

mod tls;

pub(super) use tls::server_tls;

use super::{
    Context, Parsed,
    raw::{meta, typed},
    text,
    value::{Findings, UNIX, is_dns_label, is_socket},
};
use crate::{
    api::gateway as api,
    id::{Host, Namespace},
    model::{Gateway, Protocol, Server, ServerHost},
    problem::FieldPath,
};
use serde_json::Value;
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// Reads a Gateway.
pub(super) fn gateway(raw: &Value, _: &Context) -> Parsed<Gateway> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed::<api::Gateway>(&meta.object, &path, &raw["spec"]);
    let Some(spec) = spec else { return (None, problems) };
    let mut found = Findings::new(&meta.object, problems);
    if !is_dns_label(&meta.object.name) {
        let name = FieldPath::new("metadata.name");
        found.error(&name, format!("`{}` is not a DNS label; use letters, digits and inner hyphens", meta.object.name));
    }
    let at = path.field("servers");
    if spec.servers.is_empty() {
        found.error(&at, "is empty; write at least one server, with a port and its hosts");
    }
    let mut reader = Reader { found, own: &meta.object.namespace, port_names: BTreeSet::new(), names: BTreeSet::new() };
    let servers = spec.servers.iter().enumerate();
    let servers = servers.filter_map(|(i, s)| reader.server(&at.index(i), s)).collect();
    let labels = spec.selector.unwrap_or_default();
    let selector = reader.found.labels(&path.field("selector"), &labels);
    let gateway = Gateway { source: meta.object.clone(), created: meta.created, selector, servers };
    reader.found.finish(gateway)
}

/// What reading the servers of one Gateway needs to know everywhere.
struct Reader<'a> {
    found: Findings<'a>,
    own: &'a Namespace,
    port_names: BTreeSet<String>,
    names: BTreeSet<String>,
}

impl Reader<'_> {
    fn server(&mut self, path: &FieldPath, server: &api::Server) -> Option<Server> {
        let hosts = self.hosts(&path.field("hosts"), &server.hosts);
        let at = path.field("port");
        let Some(port) = &server.port else {
            self.found.error(&at, "is missing; write its number, name and protocol");
            return None;
        };
        if !server.default_endpoint.is_empty() {
            let message = "has no effect, in Istio as here; send traffic by a VirtualService";
            self.found.warn(&path.field("defaultEndpoint"), message);
        }
        if !server.name.is_empty() && !self.names.insert(server.name.clone()) {
            let message = format!("`{}` is also the name of another server, so statistics mix; use two", server.name);
            self.found.warn(&path.field("name"), message);
        }
        let bind = self.bind(&path.field("bind"), &server.bind);
        let protocol = self.protocol(&at.field("protocol"), &port.protocol);
        self.port_name(&at.field("name"), &port.name);
        if port.target_port > 0 {
            self.found.error(&at.field("targetPort"), "has no effect at gateways; set it in the Service before them");
        }
        let socket = bind.as_ref().is_some_and(|b| b.starts_with(UNIX));
        let number = match socket {
            true if port.number == 0 => Some(0),
            true => {
                self.found.error(&at.field("number"), "has no meaning at a socket of the file system; write 0");
                None
            }
            false => self.found.port(&at.field("number"), port.number),
        };
        let tls_path = path.field("tls");
        let (redirect, tls) = match (&server.tls, protocol) {
            (None, Some(p)) if p.is_tls() => {
                let message = format!("is missing; a server of {} needs a mode, such as SIMPLE", port.protocol);
                self.found.error(&tls_path, message);
                (false, None)
            }
            (Some(tls), Some(p)) if !p.is_tls() => (self.plain(&tls_path, tls, p), None),
            (Some(tls), Some(_)) => {
                if tls.https_redirect {
                    let message = "has no effect at a server that ends TLS; set it at the one for HTTP";
                    self.found.warn(&tls_path.field("httpsRedirect"), message);
                }
                (tls.https_redirect, Some(server_tls(&mut self.found, &tls_path, tls)))
            }
            _ => (false, None),
        };
        Some(Server {
            name: server.name.as_str().into(),
            port: number?,
            port_name: port.name.as_str().into(),
            protocol: protocol?,
            bind,
            hosts,
            redirect,
            tls,
        })
    }

    /// TLS where clients come without it: only that they are sent to HTTPS.
    fn plain(&mut self, path: &FieldPath, tls: &api::ServerTls, protocol: Protocol) -> bool {
        let mode = tls::mode(&mut self.found, &path.field("mode"), &tls.mode);
        let files = [&tls.ca_certificates, &tls.private_key, &tls.server_certificate];
        let ends = !matches!(
            mode,
            Some(crate::model::ServerTlsMode::Passthrough | crate::model::ServerTlsMode::AutoPassthrough) | None
        );
        if !protocol.is_http() {
            self.found.error(path, "does not fit the port's protocol; write HTTPS or TLS, or leave tls out");
        } else if ends || files.iter().any(|f| !f.is_empty()) {
            let message = "ends TLS, which clients of HTTP do not speak; write protocol HTTPS, or only httpsRedirect";
            self.found.error(path, message);
        }
        tls.https_redirect
    }

    fn protocol(&mut self, path: &FieldPath, text: &str) -> Option<Protocol> {
        let protocol = match text.to_ascii_uppercase().as_str() {
            "HTTP" => Protocol::Http,
            "HTTP2" => Protocol::Http2,
            "GRPC" => Protocol::Grpc,
            "GRPC-WEB" => Protocol::GrpcWeb,
            "HTTPS" => Protocol::Https,
            "TLS" => Protocol::Tls,
            "TCP" => Protocol::Tcp,
            "MONGO" => Protocol::Mongo,
            "REDIS" => Protocol::Redis,
            "MYSQL" => Protocol::MySql,
            _ => {
                let known = "HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP, MONGO, REDIS or MYSQL";
                self.found.error(path, format!("`{text}` is not a protocol of gateways; write {known}"));
                return None;
            }
        };
        Some(protocol)
    }

    fn port_name(&mut self, path: &FieldPath, name: &str) {
        if name.is_empty() {
            self.found.error(path, "is missing; every port needs a name of its own");
        } else if !self.port_names.insert(name.to_owned()) {
            self.found.error(path, format!("`{name}` is also the name of another port; use two"));
        }
    }

    fn bind(&mut self, path: &FieldPath, text: &str) -> Option<Arc<str>> {
        match (text.parse::<IpAddr>(), text.strip_prefix(UNIX)) {
            (Ok(ip), _) => return Some(ip.to_string().into()),
            (_, Some(file)) if is_socket(file) => return Some(text.into()),
            (_, Some(_)) => {
                self.found
                    .error(path, format!("`{text}` is no socket; write unix:// and an absolute path, or @ and a name"));
            }
            _ if text.is_empty() => {}
            _ => self.found.error(path, format!("`{text}` is not an IP address; write one, or leave bind out")),
        }
        None
    }

    /// The hosts of a server; `*/*` is the same as `*`.
    fn hosts(&mut self, path: &FieldPath, hosts: &[String]) -> Vec<ServerHost> {
        if hosts.is_empty() {
            self.found.error(path, "is empty; write at least one host, or `*` for all");
        }
        let mut all = Vec::new();
        for (i, text) in hosts.iter().enumerate() {
            let Some(host) = self.host(&path.index(i), text) else { continue };
            if !all.contains(&host) {
                all.push(host);
            }
        }
        all
    }

    fn host(&mut self, path: &FieldPath, text: &str) -> Option<ServerHost> {
        let (namespace, name) = match text.split_once('/') {
            None | Some(("*", _)) => (None, text.split_once('/').map_or(text, |(_, name)| name)),
            Some((".", name)) => (Some(self.own.clone()), name),
            Some((namespace, name)) if is_dns_label(namespace) => (Some(Namespace::from(namespace)), name),
            Some((namespace, _)) => {
                let message = format!("`{namespace}` is not a namespace; write `*/`, `./` or its name before the host");
                self.found.error(path, message);
                return None;
            }
        };
        if name.parse::<IpAddr>().is_err()
            && let Err(why) = text::wildcard_name(name)
        {
            self.found.error(path, why);
            return None;
        }
        Some(ServerHost { namespace, host: Host::from(name.to_ascii_lowercase()) })
    }
}

#[cfg(test)]
mod tests;
