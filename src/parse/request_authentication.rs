//! RequestAuthentications (Istio: `pkg/config/validation/validation.go`, ValidateRequestAuthentication).
//!
//! A rule that is wrong somewhere fails closed: tokens of its issuer are not taken, and those of others are as before.

use super::{
    Context, Parsed,
    jwks::{has_private_key, jwks},
    raw::{meta, typed, typed_spec},
    reach::{part, reach},
    text,
    value::{Findings, shared},
};
use crate::{
    api::request_authentication as api,
    id::Shared,
    model::{JwtRule, KeyLocator, KeySource, RequestAuthentication},
    problem::FieldPath,
};
use serde_json::Value;
use std::sync::Arc;

/// How long fetching keys may take where nothing is said, in milliseconds.
const TIMEOUT: u64 = 5_000;
/// Claims whose texts are always lists.
const SPACED: [&str; 2] = ["permission", "scope"];
/// Where an issuer says where its keys are.
const DISCOVERY: &str = "/.well-known/openid-configuration";

/// Reads a RequestAuthentication.
pub(super) fn request_authentication(raw: &Value, _: &Context) -> Parsed<RequestAuthentication> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed_spec::<api::RequestAuthentication>(&meta.object, raw);
    let mut found = Findings::new(&meta.object, problems);
    let spec = spec.unwrap_or_default();
    let targets = [spec.target_ref.as_ref(), spec.target_refs.as_ref()];
    let reach = reach(&mut found, &path, spec.selector.as_ref(), targets);
    let at = path.field("jwtRules");
    let rules = part::<Vec<Value>>(&mut found, &at, spec.jwt_rules.as_ref()).unwrap_or_default().unwrap_or_default();
    let rules = rules.iter().enumerate().filter_map(|(i, raw)| rule(&mut found, &at.index(i), raw)).map(Shared::new);
    let rules = rules.collect();
    found.keep(RequestAuthentication { source: meta.object.clone(), created: meta.created, reach, rules })
}

fn rule(found: &mut Findings<'_>, path: &FieldPath, raw: &Value) -> Option<JwtRule> {
    let (read, problems) = typed::<api::JwtRule>(found.object(), path, raw);
    found.extend(problems);
    // Of a rule that is none at all the issuer alone is taken, whose tokens are then refused.
    let broken = read.is_none();
    let lost = || raw["issuer"].as_str().map(|issuer| api::JwtRule { issuer: issuer.into(), ..Default::default() });
    let read = read.or_else(lost)?;
    let mut reader = Reader { found, path };
    let audiences = reader.texts("audiences", &read.audiences);
    // Without those that were meant, tokens for anybody would be taken.
    let for_nobody = audiences.is_empty() && !read.audiences.is_empty();
    let keys = if broken || for_nobody { KeySource::Missing } else { reader.keys(&read) };
    let mut spaced_claims: Vec<Arc<str>> = shared(&SPACED);
    spaced_claims.extend(read.space_delimited_claims.iter().filter(|c| !c.is_empty()).map(|c| Arc::from(c.as_str())));
    spaced_claims.sort();
    spaced_claims.dedup();
    let at = |name| path.field(name);
    let timeout = reader.found.positive_duration(&at("timeout"), read.timeout.as_ref());
    Some(JwtRule {
        issuer: read.issuer.as_str().into(),
        audiences,
        keys,
        headers: reader.headers(&read),
        params: reader.texts("fromParams", &read.from_params),
        cookies: reader.texts("fromCookies", &read.from_cookies),
        forward: read.forward_original_token,
        payload_header: reader.header("outputPayloadToHeader", &read.output_payload_to_header),
        claim_headers: reader.claims(&read),
        timeout: timeout.unwrap_or(TIMEOUT),
        spaced_claims,
    })
}

struct Reader<'a, 'b> {
    found: &'a mut Findings<'b>,
    path: &'a FieldPath,
}

impl Reader<'_, '_> {
    fn keys(&mut self, rule: &api::JwtRule) -> KeySource {
        let at = |name| self.path.field(name);
        if !rule.jwks.is_empty() {
            if !rule.jwks_uri.is_empty() {
                self.found.warn(&at("jwksUri"), "has no effect beside jwks, which has the keys; leave one of them out");
            }
            return match jwks(&rule.jwks) {
                Ok(set) => {
                    if has_private_key(&set) {
                        let message = "has a key that is not public, which every proxy gets that the policy is for; \
                                       write the public part alone";
                        self.found.warn(&at("jwks"), message);
                    }
                    KeySource::Inline(rule.jwks.as_str().into())
                }
                Err(why) => {
                    self.found.error(&at("jwks"), format!("{why}; until then no token of the issuer is taken"));
                    KeySource::Missing
                }
            };
        }
        if !rule.jwks_uri.is_empty() {
            return match url(&rule.jwks_uri) {
                Ok(()) => KeySource::Fetched(KeyLocator::Keys(rule.jwks_uri.as_str().into())),
                Err(why) => {
                    self.found.error(&at("jwksUri"), format!("{why}; until then no token of the issuer is taken"));
                    KeySource::Missing
                }
            };
        }
        if rule.issuer.is_empty() {
            self.found.error(self.path, "needs an issuer, or jwks or jwksUri for the keys of whoever makes tokens");
            return KeySource::Missing;
        }
        let discovery = format!("{}{DISCOVERY}", rule.issuer.trim_end_matches('/'));
        match url(&discovery) {
            Ok(()) => KeySource::Fetched(KeyLocator::Discovery(discovery.as_str().into())),
            Err(_) => {
                let message = "is no URL that could say where its keys are, so no token of it is taken; write jwks or \
                               jwksUri";
                self.found.warn(&at("issuer"), message);
                KeySource::Missing
            }
        }
    }

    /// Texts none of which may be empty; those that are, are left out.
    fn texts(&mut self, field: &str, list: &[String]) -> Vec<Arc<str>> {
        let at = self.path.field(field);
        for (i, _) in list.iter().enumerate().filter(|(_, text)| text.is_empty()) {
            self.found.error(&at.index(i), "is empty; write a name, or leave it out");
        }
        list.iter().filter(|text| !text.is_empty()).map(|text| text.as_str().into()).collect()
    }

    fn headers(&mut self, rule: &api::JwtRule) -> Vec<(Arc<str>, Arc<str>)> {
        let at = self.path.field("fromHeaders");
        let mut all = Vec::new();
        for (i, header) in rule.from_headers.iter().enumerate() {
            let header = header.clone().unwrap_or_default();
            match text::header_name(&header.name).and_then(|()| text::line(&header.prefix)) {
                Ok(()) => all.push((header.name.as_str().into(), header.prefix.as_str().into())),
                Err(why) => self.found.error(&at.index(i).field("name"), why),
            }
        }
        all
    }

    fn header(&mut self, field: &str, name: &str) -> Arc<str> {
        match text::header_name(name) {
            _ if name.is_empty() => "".into(),
            Ok(()) => name.into(),
            Err(why) => {
                self.found.error(&self.path.field(field), why);
                "".into()
            }
        }
    }

    fn claims(&mut self, rule: &api::JwtRule) -> Vec<(Arc<str>, Arc<str>)> {
        let at = self.path.field("outputClaimToHeaders");
        let mut all = Vec::new();
        for (i, pair) in rule.output_claim_to_headers.iter().enumerate() {
            let pair = pair.clone().unwrap_or_default();
            if let Err(why) = text::header_name(&pair.header) {
                self.found.error(&at.index(i).field("header"), why);
            } else if pair.claim.is_empty() {
                self.found.error(&at.index(i).field("claim"), "is missing; write the name of a claim");
            } else {
                all.push((pair.header.as_str().into(), pair.claim.as_str().into()));
            }
        }
        all
    }
}

/// Whether a text is a URL that can be fetched.
fn url(text: &str) -> Result<(), String> {
    let wrong = || format!("`{text}` is not a URL; write one such as https://issuer.example/keys");
    let (scheme, rest) = text.split_once("://").ok_or_else(wrong)?;
    if !matches!(scheme, "http" | "https") {
        return Err(format!("`{text}` does not start with http:// or https://"));
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (host, port) = match rest[..end].rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (&rest[..end], None),
    };
    let bracketed = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good_host = match bracketed {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => super::value::check_host(host).is_ok() && !host.contains('*'),
    };
    let good_port = port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0));
    let printable = text.chars().all(|c| c.is_ascii_graphic());
    if good_host && good_port && printable { Ok(()) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked() {
        for good in ["http://a", "https://a.b:8443/c?d=e", "http://127.0.0.1:9/x", "http://[::1]:80/", "https://a_b.c/"]
        {
            assert_eq!(url(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "a.b/c",
            "ftp://a",
            "http://",
            "http://a:0/",
            "http://a:x/",
            "http://u:p@a/",
            "http://a b/",
            "http://*.a/",
        ] {
            assert!(url(bad).is_err(), "{bad}");
        }
    }
}
