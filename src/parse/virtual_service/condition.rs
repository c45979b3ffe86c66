//! The conditions of rules for HTTP.

use super::Parser;
use crate::{
    api::virtual_service as api,
    model::{HttpMatch, StringMatch},
    parse::{regex, text, value::is_dns_label},
    problem::FieldPath,
};
use std::{collections::BTreeMap, sync::Arc};

/// The prefix of names that stand for a claim of the request's token.
const CLAIM: &str = "@request.auth.claims";

impl Parser<'_> {
    pub(super) fn condition(&mut self, path: &FieldPath, raw: &api::HttpMatch) -> HttpMatch {
        if !raw.source_namespace.is_empty() && !is_dns_label(&raw.source_namespace) {
            let message = format!("{:?} is not the name of a namespace, so no client is in it", raw.source_namespace);
            self.found.error(&path.field("sourceNamespace"), message);
        }
        HttpMatch {
            name: raw.name.as_str().into(),
            uri: self.comparison(&path.field("uri"), raw.uri.as_ref(), true),
            ignore_uri_case: raw.ignore_uri_case,
            scheme: self.comparison(&path.field("scheme"), raw.scheme.as_ref(), false),
            method: self.comparison(&path.field("method"), raw.method.as_ref(), false),
            authority: self.comparison(&path.field("authority"), raw.authority.as_ref(), false),
            headers: self.headers_compared(&path.field("headers"), &raw.headers, false),
            without_headers: self.headers_compared(&path.field("withoutHeaders"), &raw.without_headers, true),
            query_params: self.parameters(&path.field("queryParams"), &raw.query_params),
            port: match raw.port {
                0 => None,
                number => self.found.port(&path.field("port"), number),
            },
            source_labels: self.labels(&path.field("sourceLabels"), &raw.source_labels),
            source_namespace: raw.source_namespace.as_str().into(),
            gateways: self.gateways(&path.field("gateways"), &raw.gateways),
            stat_prefix: raw.stat_prefix.as_str().into(),
        }
    }

    /// How a text is compared; `None` where nothing is said, or anything that is there will do. `empty` says
    /// whether an empty prefix is allowed.
    pub(super) fn comparison(
        &mut self,
        path: &FieldPath,
        raw: Option<&api::StringMatch>,
        empty: bool,
    ) -> Option<StringMatch> {
        let raw = raw?;
        let (exact, prefix, pattern) = (raw.exact.as_deref(), raw.prefix.as_deref(), raw.regex.as_deref());
        if [exact, prefix, pattern].iter().flatten().count() > 1 {
            self.found.error(path, "has several of exact, prefix and regex; write one of them");
            return None;
        }
        if let Some(text) = exact {
            return Some(StringMatch::Exact(text.into()));
        }
        if let Some(text) = prefix {
            if text.is_empty() && !empty {
                self.found.error(&path.field("prefix"), "is empty; write the prefix, or {} for any value");
            }
            return Some(StringMatch::Prefix(text.into()));
        }
        let pattern = pattern?;
        self.take(&path.field("regex"), regex::check(pattern));
        Some(StringMatch::Regex(pattern.into()))
    }

    /// A comparison where `regex: "*"`, which is no regular expression, stands for being there.
    fn presence(&mut self, path: &FieldPath, raw: Option<&api::StringMatch>) -> Option<StringMatch> {
        match raw {
            Some(api::StringMatch { exact: None, prefix: None, regex: Some(any) }) if any == "*" => None,
            _ => self.comparison(path, raw, false),
        }
    }

    fn headers_compared(
        &mut self,
        path: &FieldPath,
        raw: &BTreeMap<String, Option<api::StringMatch>>,
        without: bool,
    ) -> Vec<(Arc<str>, Option<StringMatch>)> {
        let mut all = Vec::new();
        for (name, comparison) in raw {
            let at = path.key(name);
            self.name_compared(&at, name);
            if comparison.is_none() && !without {
                self.found.error(&at, "is null; write {} for a header that must be there, whatever its value");
            }
            all.push((name.as_str().into(), self.presence(&at, comparison.as_ref())));
        }
        all
    }

    /// The name of a header, of a pseudo header, or of a claim.
    fn name_compared(&mut self, path: &FieldPath, name: &str) {
        if is_claim(name) {
            if self.mesh && !self.delegate {
                let message = "asks for a claim of a token, which only gateways can; bind the VirtualService to gateways \
                               alone, or use an AuthorizationPolicy";
                self.found.error(path, message);
            }
            return;
        }
        if !matches!(name, ":method" | ":scheme" | ":authority" | ":path" | ":status") {
            self.take(path, text::header_name(name));
        }
    }

    fn parameters(
        &mut self,
        path: &FieldPath,
        raw: &BTreeMap<String, Option<api::StringMatch>>,
    ) -> Vec<(Arc<str>, Option<StringMatch>)> {
        let mut all = Vec::new();
        for (name, comparison) in raw {
            let at = path.key(name);
            if name.is_empty() {
                self.found.error(&at, "is the name of no query parameter; write one");
            }
            all.push((name.as_str().into(), self.presence(&at, comparison.as_ref())));
        }
        all
    }
}

/// Whether a header's name stands for a claim: `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`.
fn is_claim(name: &str) -> bool {
    let Some(prefix) = name.get(..CLAIM.len()).filter(|p| p.eq_ignore_ascii_case(CLAIM)) else { return false };
    let rest = &name[prefix.len()..];
    (rest.starts_with('.') && rest.len() > 1) || (rest.starts_with('[') && rest.ends_with(']') && rest.len() > 2)
}
