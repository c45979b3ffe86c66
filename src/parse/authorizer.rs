//! External authorizers among the mesh's `extensionProviders` (Istio: `extensionprovider.go` of the validation, and
//! `pilot/pkg/security/authz/builder/extauthz.go`).
//!
//! What is wrong with one is wrong with that one alone: policies that name it deny, and the rest of the mesh's settings
//! is in force.

use super::{
    raw::typed,
    text,
    value::{Findings, check_host, is_dns_label},
};
use crate::{
    api::extension_provider as api,
    id::{ObjectRef, Shared},
    model::{Authorizer, AuthorizerHttp, AuthorizerProtocol, Authorizers, BodyShown, Pattern},
    problem::{FieldPath, Problem},
};
use serde_json::Value;
use std::sync::Arc;

/// The kinds of authorizers.
const KINDS: [(&str, bool); 2] = [("envoyExtAuthzHttp", true), ("envoyExtAuthzGrpc", false)];
/// How long an authorizer may take where nothing is said, in milliseconds.
const TIMEOUT: u64 = 600_000;
/// The statuses that Envoy knows by name.
const STATUSES: &[u16] = &[
    100, 102, 103, 104, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226, 300, 301, 302, 303, 304, 305, 307, 308, 400,
    401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 421, 422, 423, 424, 425, 426,
    428, 429, 431, 500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511,
];

/// Whether an entry of `extensionProviders` is an authorizer.
pub(super) fn is_authorizer(provider: &Value) -> bool {
    KINDS.iter().any(|(kind, _)| provider.get(kind).is_some())
}

/// Reads the authorizers in a list of providers. One that is broken is there and cannot be used.
pub(super) fn authorizers(object: &ObjectRef, path: &FieldPath, list: &Value) -> (Authorizers, Vec<Problem>) {
    let mut all = Authorizers::new();
    let mut problems = Vec::new();
    for (i, provider) in list.as_array().into_iter().flatten().enumerate() {
        let Some((kind, http)) = KINDS.into_iter().find(|(kind, _)| provider.get(kind).is_some()) else { continue };
        let at = path.index(i);
        let name = provider["name"].as_str().unwrap_or_default();
        let mut found = Findings::new(object, Vec::new());
        check_name(&mut found, &at.field("name"), name);
        let twice = all.contains_key(name);
        if twice {
            found.error(
                &at.field("name"),
                format!("`{name}` is the name of another provider too; write a name of its own"),
            );
        }
        let body = &provider[kind];
        let (raw, said) = match body.is_null() {
            true => (Some(api::Authorizer::default()), Vec::new()),
            false => typed::<api::Authorizer>(object, &at.field(kind), body),
        };
        found.extend(said);
        let mut reader = Reader { found, path: at.field(kind) };
        if !http {
            reader.refuse_fields_of_http(body);
        }
        let authorizer = raw.map(|raw| reader.authorizer(name, &raw, http));
        let (authorizer, said) = reader.found.finish(authorizer);
        problems.extend(said);
        all.insert(name.into(), authorizer.flatten().filter(|_| !twice).map(Shared::new));
    }
    (all, problems)
}

/// The name is part of what Envoy is told to look for.
fn check_name(found: &mut Findings<'_>, path: &FieldPath, name: &str) {
    if name.is_empty() {
        found.error(path, "is missing; write the name that policies call it by");
    } else if !is_dns_label(name) {
        let message = format!("`{name}` must be at most 63 small letters, digits and inner hyphens");
        found.error(path, message);
    }
}

struct Reader<'a> {
    found: Findings<'a>,
    path: FieldPath,
}

impl Reader<'_> {
    fn refuse_fields_of_http(&mut self, body: &Value) {
        let fields = body.as_object().into_iter().flatten().map(|(name, _)| name.as_str());
        for name in fields.filter(|name| !api::OF_GRPC.contains(name)) {
            let message = "is for envoyExtAuthzHttp alone, and has no effect here";
            self.found.warn(&self.path.field(name), message);
        }
    }

    fn authorizer(&mut self, name: &str, raw: &api::Authorizer, http: bool) -> Authorizer {
        let (namespace, host) =
            raw.service.split_once('/').map_or((None, &*raw.service), |(ns, host)| (Some(ns), host));
        let at = self.path.field("service");
        if let Err(why) = check_host(host) {
            self.found.error(&at, why);
        } else if host.contains('*') {
            self.found.error(&at, format!("`{host}` stands for many hosts; write the name of one service"));
        }
        if let Some(namespace) = namespace.filter(|name| !is_dns_label(name)) {
            self.found.error(&at, format!("`{namespace}` is not a namespace; write NAMESPACE/HOST"));
        }
        let timeout = self.found.duration(&self.path.field("timeout"), raw.timeout.as_ref());
        Authorizer {
            name: name.into(),
            host: host.to_ascii_lowercase().into(),
            namespace: namespace.map(Into::into),
            port: self.found.port(&self.path.field("port"), raw.port).unwrap_or_default(),
            timeout: timeout.unwrap_or(TIMEOUT),
            fail_open: raw.fail_open,
            status_on_error: self.status(raw.status_on_error.as_deref()),
            clear_route_cache: raw.clear_route_cache,
            body: raw.include_request_body_in_check.as_ref().map(|body| self.body(body)),
            protocol: match http {
                true => AuthorizerProtocol::Http(self.http(raw)),
                false => AuthorizerProtocol::Grpc,
            },
        }
    }

    fn status(&mut self, text: Option<&str>) -> Option<u16> {
        let text = text.filter(|t| !t.is_empty())?;
        let status = text.parse().ok().filter(|status| STATUSES.contains(status));
        if status.is_none() {
            let message = format!("`{text}` is not a status that Envoy knows; write one such as 403 or 503");
            self.found.error(&self.path.field("statusOnError"), message);
        }
        status
    }

    fn body(&mut self, raw: &api::Body) -> BodyShown {
        let at = self.path.field("includeRequestBodyInCheck").field("maxRequestBytes");
        let max = self.found.count(&at, raw.max_request_bytes);
        if max.is_none() && raw.max_request_bytes >= 0 {
            self.found.error(&at, "is missing; write how many bytes of a body are shown at most");
        }
        BodyShown { max: max.unwrap_or_default(), partial: raw.allow_partial_message, as_bytes: raw.pack_as_bytes }
    }

    fn http(&mut self, raw: &api::Authorizer) -> AuthorizerHttp {
        let at = self.path.field("pathPrefix");
        if !raw.path_prefix.is_empty() && !raw.path_prefix.starts_with('/') {
            self.found.error(&at, format!("`{}` does not start with /", raw.path_prefix));
        } else if let Err(why) = text::line(&raw.path_prefix) {
            self.found.error(&at, why);
        }
        let (name, sees) = match raw.include_request_headers_in_check.is_empty() {
            true => ("includeHeadersInCheck", &raw.include_headers_in_check),
            false => ("includeRequestHeadersInCheck", &raw.include_request_headers_in_check),
        };
        AuthorizerHttp {
            path_prefix: raw.path_prefix.as_str().into(),
            sees: self.headers(name, sees),
            is_sent: self.sent(raw),
            to_workload: self.headers("headersToUpstreamOnAllow", &raw.headers_to_upstream_on_allow),
            to_allowed: self.headers("headersToDownstreamOnAllow", &raw.headers_to_downstream_on_allow),
            to_denied: self.headers("headersToDownstreamOnDeny", &raw.headers_to_downstream_on_deny),
        }
    }

    fn sent(&mut self, raw: &api::Authorizer) -> Vec<(Arc<str>, Arc<str>)> {
        let at = self.path.field("includeAdditionalHeadersInCheck");
        let mut all = Vec::new();
        for (name, value) in &raw.include_additional_headers_in_check {
            match text::header_name(name).and_then(|()| text::line(value)) {
                Ok(()) => all.push((name.as_str().into(), value.as_str().into())),
                Err(why) => self.found.error(&at.key(name), why),
            }
        }
        all
    }

    /// Names of headers, with a `*` at one end.
    fn headers(&mut self, field: &str, list: &[String]) -> Vec<Pattern> {
        let at = self.path.field(field);
        let mut all = Vec::new();
        for (i, text) in list.iter().enumerate() {
            match (text.as_str(), text.strip_prefix('*'), text.strip_suffix('*')) {
                ("", ..) => self.found.error(&at.index(i), "is empty; write the name of a header"),
                ("*", ..) => {
                    self.found.error(&at.index(i), "`*` alone is not taken; write a part of the name beside it")
                }
                (_, Some(end), _) => all.push(Pattern::Suffix(end.into())),
                (_, None, Some(start)) => all.push(Pattern::Prefix(start.into())),
                (whole, ..) => all.push(Pattern::Exact(whole.into())),
            }
        }
        all
    }
}
