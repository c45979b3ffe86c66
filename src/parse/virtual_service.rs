//! VirtualServices. What Istio refuses is an error and refuses the object; what it warns of is a warning.

mod action;
mod condition;
mod connection;
mod header;
mod reach;
mod traffic;

pub(super) use traffic::retries;

use super::{
    Context, Parsed,
    raw::{Meta, meta, typed},
    text,
    value::{Findings, check_label, full_host, is_dns_label},
};
use crate::{
    api::virtual_service as api,
    id::{Host, Namespace},
    model,
    problem::FieldPath,
};
use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The gateway that stands for all sidecars.
const MESH: &str = "mesh";

/// Parses a VirtualService.
pub(super) fn virtual_service(raw: &Value, context: &Context) -> Parsed<model::VirtualService> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let mut part = raw["spec"].clone();
    drop_nulls(&mut part);
    let (spec, problems) = match part.is_null() {
        true => (Some(api::VirtualService::default()), Vec::new()),
        false => typed::<api::VirtualService>(&meta.object, &path, &part),
    };
    let Some(spec) = spec else { return (None, problems) };
    let mut parser = Parser {
        found: Findings::new(&meta.object, problems),
        context,
        namespace: &meta.object.namespace,
        delegate: spec.hosts.is_empty(),
        hosts: Vec::new(),
        mesh: false,
    };
    let rule = parser.rule(&meta, &path, &spec);
    parser.found.finish(rule)
}

/// Takes away fields that are null, as Kubernetes does. The entries of maps of conditions stay: a condition that
/// got lost would match more than was asked for.
fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|_, v| !v.is_null());
            for (key, field) in fields {
                let condition = matches!(key.as_str(), "headers" | "withoutHeaders" | "queryParams");
                match field.as_object_mut().filter(|_| condition) {
                    Some(entries) => entries.values_mut().for_each(drop_nulls),
                    None => drop_nulls(field),
                }
            }
        }
        Value::Array(entries) => entries.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// What parsing one VirtualService needs to know everywhere.
struct Parser<'a> {
    found: Findings<'a>,
    context: &'a Context,
    namespace: &'a Namespace,
    /// It has no hosts: others delegate to it.
    delegate: bool,
    hosts: Vec<Host>,
    /// Sidecars are among those that it is for.
    mesh: bool,
}

impl Parser<'_> {
    fn rule(&mut self, meta: &Meta, path: &FieldPath, spec: &api::VirtualService) -> model::VirtualService {
        let gateways = self.gateways(&path.field("gateways"), &spec.gateways);
        self.mesh = gateways.is_empty() || gateways.iter().any(|g| &**g == MESH);
        self.hosts = self.hosts(&path.field("hosts"), &spec.hosts);
        if self.delegate {
            self.check_delegate(path, spec);
        }
        if spec.http.is_empty() && spec.tls.is_empty() && spec.tcp.is_empty() {
            self.found.error(path, "has no rules; write at least one under http, tls or tcp");
        }
        let at = path.field("http");
        let http = spec.http.iter().enumerate().map(|(i, rule)| self.http(&at.index(i), rule)).collect();
        let at_tls = path.field("tls");
        let tls: Vec<_> = spec.tls.iter().enumerate().map(|(i, rule)| self.tls(&at_tls.index(i), rule)).collect();
        let at_tcp = path.field("tcp");
        let tcp: Vec<_> = spec.tcp.iter().enumerate().map(|(i, rule)| self.tcp(&at_tcp.index(i), rule)).collect();
        let connections = reach::unreachable_connections(&at_tls, &tls).into_iter();
        let connections = connections.chain(reach::unreachable_connections(&at_tcp, &tcp));
        for (path, message) in reach::unreachable(&at, &spec.http).into_iter().chain(connections) {
            self.found.warn(&path, message);
        }
        model::VirtualService {
            source: meta.object.clone(),
            created: meta.created,
            hosts: std::mem::take(&mut self.hosts),
            gateways: if gateways.is_empty() { vec![MESH.into()] } else { gateways },
            export_to: self.found.export_to(&path.field("exportTo"), &spec.export_to, true),
            http,
            tls,
            tcp,
        }
    }

    /// What a VirtualService without hosts must not have.
    fn check_delegate(&mut self, path: &FieldPath, spec: &api::VirtualService) {
        for (field, wrong) in
            [("gateways", !spec.gateways.is_empty()), ("tls", !spec.tls.is_empty()), ("tcp", !spec.tcp.is_empty())]
        {
            if wrong {
                let message = "must be left out where there are no hosts: such a VirtualService is only what others \
                               delegate to. Name the hosts it is for, or leave this out";
                self.found.error(&path.field(field), message);
            }
        }
    }

    fn hosts(&mut self, path: &FieldPath, hosts: &[String]) -> Vec<Host> {
        let mut all: Vec<Host> = Vec::new();
        for (i, text) in hosts.iter().enumerate() {
            let at = path.index(i);
            let Some(host) = self.host(&at, text) else { continue };
            if &*host == "*" && self.mesh {
                let message = "`*` cannot be the host of a VirtualService for sidecars; name the hosts, or bind it to \
                               gateways alone";
                self.found.error(&at, message);
            }
            if let Some(other) = all.iter().find(|h| h.overlaps(&host)) {
                let message = format!("{text} is already covered by {other}; leave one of them out");
                // Hosts one below the other are served as Istio does: by the more specific first.
                match *other == host {
                    true => self.found.error(&at, message),
                    false => self.found.warn(&at, message),
                }
            }
            all.push(host);
        }
        all
    }

    /// A host in full, or a problem.
    fn host(&mut self, path: &FieldPath, text: &str) -> Option<Host> {
        if text.parse::<IpAddr>().is_ok() {
            return Some(text.into());
        }
        match text::wildcard_name(text) {
            Ok(()) => Some(full_host(text.trim_end_matches('.'), self.namespace, self.context)),
            Err(why) => {
                self.found.error(path, why);
                None
            }
        }
    }

    /// Gateways as `namespace/name`.
    fn gateways(&mut self, path: &FieldPath, names: &[String]) -> Vec<Arc<str>> {
        names.iter().enumerate().filter_map(|(i, name)| self.gateway(&path.index(i), name)).collect()
    }

    fn gateway(&mut self, path: &FieldPath, name: &str) -> Option<Arc<str>> {
        if name == MESH {
            return Some(MESH.into());
        }
        let (namespace, gateway) = match name.split_once('/') {
            Some((".", gateway)) => (&**self.namespace, gateway),
            Some(both) => both,
            None if !name.contains('.') => (&**self.namespace, name),
            None => {
                // The older form: name.namespace, perhaps with the rest of a service's name.
                let mut parts = name.split('.');
                let (gateway, namespace) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                self.found
                    .warn(path, format!("{name} is an old form of a gateway's name; write {namespace}/{gateway}"));
                (namespace, gateway)
            }
        };
        if is_dns_label(namespace) && is_dns_label(gateway) {
            return Some(format!("{namespace}/{gateway}").into());
        }
        let message = format!("{name:?} is not the name of a gateway; write NAMESPACE/NAME, NAME or mesh");
        self.found.error(path, message);
        None
    }

    /// The labels that a client must have.
    fn labels(&mut self, path: &FieldPath, labels: &BTreeMap<String, String>) -> model::Labels {
        for (key, value) in labels {
            if let Err(why) = check_label(key, value) {
                self.found.error(&path.key(key), format!("{why}, so no client has it"));
            }
        }
        labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect()
    }

    /// Takes the value out of a result; what is wrong with it refuses the object.
    fn take<T>(&mut self, path: &FieldPath, result: Result<T, String>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(why) => {
                self.found.error(path, why);
                None
            }
        }
    }
}

/// A text that is there, or `None` for the empty one, which means that nothing is said.
fn said(text: &str) -> Option<Arc<str>> {
    (!text.is_empty()).then(|| text.into())
}

#[cfg(test)]
mod tests;
