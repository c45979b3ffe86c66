//! Ingresses and IngressClasses.

use crate::{
    id::Host,
    model::{BackendPort, Ingress, IngressClass, IngressPath, IngressTls, StringMatch},
    parse::{
        Context, Parsed,
        raw::{meta, typed},
        text,
        value::Findings,
    },
    problem::FieldPath,
};
use k8s_openapi::api::networking::v1;
use serde_json::Value;
use std::net::IpAddr;

/// The annotation that was there before IngressClasses.
const CLASS: &str = "kubernetes.io/ingress.class";

/// Reads an IngressClass.
pub(in crate::parse) fn ingress_class(raw: &Value, _: &Context) -> Parsed<IngressClass> {
    let meta = meta(raw);
    let (class, problems) = typed::<v1::IngressClass>(&meta.object, &FieldPath::default(), raw);
    let controller = class.and_then(|c| c.spec).and_then(|s| s.controller).unwrap_or_default();
    (Some(IngressClass { name: meta.object.name.clone(), controller: controller.into() }), problems)
}

/// Reads an Ingress.
pub(in crate::parse) fn ingress(raw: &Value, _: &Context) -> Parsed<Ingress> {
    let meta = meta(raw);
    let (ingress, problems) = typed::<v1::Ingress>(&meta.object, &FieldPath::default(), raw);
    let Some(ingress) = ingress else { return (None, problems) };
    let mut reader = Reader { found: Findings::new(&meta.object, problems) };
    let spec = ingress.spec.unwrap_or_default();
    let path = FieldPath::new("spec");
    if spec.default_backend.is_some() {
        let message = "has no effect, in Istio as here; write a rule without host for path / instead";
        reader.found.warn(&path.field("defaultBackend"), message);
    } else if spec.rules.is_none() {
        reader.found.error(&path.field("rules"), "is missing; write at least one rule, with a host and its paths");
    }
    let tls = spec.tls.into_iter().flatten().enumerate();
    let tls = tls.filter_map(|(at, entry)| reader.tls(&path.field("tls").index(at), at, entry)).collect();
    let rules = spec.rules.into_iter().flatten().enumerate();
    let paths = rules.flat_map(|(at, rule)| reader.rule(&path.field("rules").index(at), rule)).collect();
    reader.found.finish(Ingress {
        source: meta.object.clone(),
        created: meta.created,
        annotated: meta.annotations.get(CLASS).cloned(),
        class: spec.ingress_class_name.map(Into::into),
        tls,
        paths,
    })
}

struct Reader<'a> {
    found: Findings<'a>,
}

impl Reader<'_> {
    fn tls(&mut self, path: &FieldPath, at: usize, entry: v1::IngressTLS) -> Option<IngressTls> {
        let names = entry.hosts.unwrap_or_default();
        let hosts = names.iter().enumerate();
        let mut hosts: Vec<Host> = hosts.filter_map(|(i, h)| self.host(&path.field("hosts").index(i), h)).collect();
        if names.is_empty() {
            hosts.push("*".into());
        }
        match entry.secret_name.filter(|s| !s.is_empty()) {
            Some(secret) => Some(IngressTls { at, hosts, secret: secret.into() }),
            None => {
                let message = "is missing, so these hosts are not served over TLS; name the Secret of a certificate";
                self.found.warn(&path.field("secretName"), message);
                None
            }
        }
    }

    fn rule(&mut self, path: &FieldPath, rule: v1::IngressRule) -> Vec<IngressPath> {
        let host = match rule.host.as_deref() {
            None | Some("") => Some("*".into()),
            Some(host) => self.host(&path.field("host"), host),
        };
        let path = path.field("http");
        let paths = rule.http.map(|http| http.paths).unwrap_or_default();
        if paths.is_empty() {
            self.found.warn(&path, "has no paths, so the rule has no effect; write at least one, with its backend");
        }
        let read = paths.into_iter().enumerate().map(|(at, entry)| {
            let path = path.field("paths").index(at);
            self.path(&path, host.clone().unwrap_or_else(|| "*".into()), entry)
        });
        read.flatten().collect()
    }

    fn path(&mut self, path: &FieldPath, host: Host, entry: v1::HTTPIngressPath) -> Option<IngressPath> {
        let text = entry.path.unwrap_or_default();
        let at = path.field("path");
        let (uri, length) = match entry.path_type.as_str() {
            "Exact" => self.absolute(&at, &text).map(|t| (Some(StringMatch::Exact(t.into())), Some(t.len())))?,
            "Prefix" => self.absolute(&at, &text).map(|t| (Some(segments(t)), Some(t.len())))?,
            "ImplementationSpecific" | "" => self.loose(&at, &text)?,
            other => {
                let known = "Exact, Prefix or ImplementationSpecific";
                self.found.error(&path.field("pathType"), format!("`{other}` is not a type of path; write {known}"));
                return None;
            }
        };
        let (service, port) = self.backend(&path.field("backend"), entry.backend)?;
        Some(IngressPath { at: path.clone(), host, uri, length, service: service.into(), port })
    }

    /// A path as Istio understands one of no type: it may end with a wildcard.
    fn loose(&mut self, path: &FieldPath, text: &str) -> Option<(Option<StringMatch>, Option<usize>)> {
        if matches!(text, "" | "*" | "/*" | ".*") {
            return Some((None, None));
        }
        match text.strip_suffix(".*").or_else(|| text.strip_suffix("/*")) {
            Some("") => Some((None, None)),
            Some(start) => self.absolute(path, start).map(|t| (Some(segments(t)), Some(t.len()))),
            None => self.absolute(path, text).map(|t| (Some(StringMatch::Exact(t.into())), Some(t.len()))),
        }
    }

    fn absolute<'t>(&mut self, path: &FieldPath, text: &'t str) -> Option<&'t str> {
        let why = match text {
            "" => "is missing; write the path, as /".to_owned(),
            t if !t.starts_with('/') => format!("`{text}` does not start with a slash; write it as requests have it"),
            t if t.contains(['?', '#']) => format!("`{text}` has a ? or #, which no path has; write what is before it"),
            t if t.contains("//") => format!("`{text}` has two slashes in a row; write one"),
            t => return Some(t),
        };
        self.found.error(path, why);
        None
    }

    fn backend(&mut self, path: &FieldPath, backend: v1::IngressBackend) -> Option<(String, BackendPort)> {
        let at = path.field("service");
        let Some(service) = backend.service else {
            match backend.resource {
                Some(_) => {
                    let message = "is not served, so the path is left out; name a Service";
                    self.found.warn(&path.field("resource"), message);
                }
                None => self.found.error(&at, "is missing; name the Service that requests go to, and its port"),
            }
            return None;
        };
        if service.name.is_empty() {
            self.found.error(&at.field("name"), "is missing; write the name of a Service of the same namespace");
        }
        let port = service.port.unwrap_or_default();
        let at = at.field("port");
        let port = match (port.number.filter(|n| *n != 0), port.name.filter(|n| !n.is_empty())) {
            (Some(number), None) => BackendPort::Number(self.found.port(&at.field("number"), number)?),
            (None, Some(name)) => BackendPort::Name(name.into()),
            _ => {
                self.found.error(&at, "needs one of number and name, and not both");
                return None;
            }
        };
        Some((service.name, port))
    }

    fn host(&mut self, path: &FieldPath, text: &str) -> Option<Host> {
        let why = match text::wildcard_name(text) {
            _ if text.parse::<IpAddr>().is_ok() => format!("`{text}` is an address; write a name, or leave host out"),
            Err(why) => why,
            Ok(()) => return Some(Host::from(text.to_ascii_lowercase())),
        };
        self.found.error(path, why);
        None
    }
}

/// Paths at or below one: `/a` is for `/a` and `/a/b`, and not for `/ab`.
fn segments(text: &str) -> StringMatch {
    match text.trim_end_matches('/') {
        "" => StringMatch::Prefix("/".into()),
        text => StringMatch::Segments(text.into()),
    }
}
