//! The values of a check, and how each kind is written.

use super::{Broken, Read, Reader};
use crate::{
    model::{AccountName, NotedValue, PathPattern, Pattern, RequestPrincipal, Values},
    problem::FieldPath,
};
use ipnet::IpNet;
use std::{net::IpAddr, sync::Arc};

/// The longest template of a path that Envoy takes.
const MAX_TEMPLATE: usize = 256;
/// The longest value that is taken: some become regular expressions, which Envoy takes up to a size.
const MAX_VALUE: usize = 4096;
/// How many service accounts a list may have.
const MAX_ACCOUNTS: usize = 16;

/// The values of a check as they are written, and where.
pub(super) struct Written<'a> {
    pub(super) any: (FieldPath, &'a [String]),
    pub(super) none: (FieldPath, &'a [String]),
}

impl<'a> Written<'a> {
    /// The values of a field and of its negation.
    pub(super) fn fields(path: &FieldPath, name: &str, any: &'a [String], none: &'a [String]) -> Self {
        let first = name[..1].to_ascii_uppercase();
        let not = format!("not{first}{}", &name[1..]);
        Self { any: (path.field(name), any), none: (path.field(&not), none) }
    }
}

impl Reader<'_, '_> {
    /// The values of a check. What cannot be understood is left out where that lets nobody through: a value that is
    /// asked for in ALLOW, a value that is not wanted elsewhere.
    pub(super) fn values<T>(
        &mut self,
        written: &Written<'_>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Read<Values<T>> {
        if written.any.1.is_empty() && written.none.1.is_empty() {
            return Ok(None);
        }
        let (mut any, bad_any) = self.list(&written.any, &read);
        let (none, bad_none) = self.list(&written.none, &read);
        if self.narrow() {
            if bad_none || (bad_any && any.is_empty()) {
                return Err(Broken);
            }
        } else if bad_any {
            any.clear();
        }
        Ok((!any.is_empty() || !none.is_empty()).then_some(Values { any, none }))
    }

    fn list<T>(
        &mut self,
        (path, texts): &(FieldPath, &[String]),
        read: impl Fn(&str) -> Result<T, String>,
    ) -> (Vec<T>, bool) {
        let mut good = Vec::new();
        for (i, text) in texts.iter().enumerate() {
            let value = match text.as_str() {
                "" => Err("is empty; write a value, or leave it out".into()),
                text if text.len() > MAX_VALUE => {
                    Err(format!("is longer than the {MAX_VALUE} letters that are allowed"))
                }
                text => read(text),
            };
            match value {
                Ok(value) => good.push(value),
                Err(why) => self.found.error(&path.index(i), why),
            }
        }
        let bad = good.len() < texts.len();
        (good, bad)
    }

    /// The service accounts of a check, which are few.
    pub(super) fn accounts(&mut self, written: &Written<'_>) -> Read<Values<AccountName>> {
        for (path, texts) in [&written.any, &written.none] {
            if texts.len() > MAX_ACCOUNTS {
                let message =
                    format!("has {} entries, {MAX_ACCOUNTS} are allowed; use namespaces instead", texts.len());
                self.found.error(path, message);
                return self.gone();
            }
        }
        let namespace = self.found.object().namespace.clone();
        self.values(written, |text| account(text, &namespace))
    }
}

fn account(text: &str, own: &crate::id::Namespace) -> Result<AccountName, String> {
    if text.contains('*') {
        return Err(format!("`{text}` has a `*`, which stands for itself here; write the account's name"));
    }
    if text.len() > 320 {
        return Err("is longer than the 320 letters that are allowed".into());
    }
    match text.split('/').collect::<Vec<_>>()[..] {
        [name] => Ok(AccountName { namespace: own.clone(), name: name.into() }),
        [namespace, name] if !namespace.is_empty() && !name.is_empty() => {
            Ok(AccountName { namespace: namespace.into(), name: name.into() })
        }
        _ => Err(format!("`{text}` is not a service account; write ACCOUNT or NAMESPACE/ACCOUNT")),
    }
}

/// A text, with a `*` at one end or alone.
pub(super) fn pattern(text: &str) -> Pattern {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if text == "*" => Pattern::Any,
        (Some(end), _) => Pattern::Suffix(end.into()),
        (None, Some(start)) => Pattern::Prefix(start.into()),
        (None, None) => Pattern::Exact(text.into()),
    }
}

/// A range of addresses, or one of them.
pub(super) fn block(text: &str) -> Result<IpNet, String> {
    let block = text.parse::<IpNet>().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    block
        .map_err(|_| format!("`{text}` is not an address or a range of them; write one such as 10.1.2.3 or 10.0.0.0/8"))
}

/// A port as a text.
pub(super) fn port(text: &str) -> Result<u16, String> {
    match text.chars().all(|c| c.is_ascii_digit()).then(|| text.parse()) {
        Some(Ok(port)) => Ok(port),
        _ => Err(format!("`{text}` is not a port; write a number up to 65535")),
    }
}

/// A trust domain, with a `*` at one end or alone.
pub(super) fn trust_domain(text: &str) -> Result<Arc<str>, String> {
    let stars = text.matches('*').count();
    if stars > 1 || (stars == 1 && !text.starts_with('*') && !text.ends_with('*')) {
        return Err(format!("`{text}` has a `*` that is not at one end; write it there, or the whole trust domain"));
    }
    match text.contains('/') {
        true => Err(format!("`{text}` has a `/`, which no trust domain has")),
        false => Ok(text.into()),
    }
}

/// Who a token is about: `ISSUER/SUBJECT`, of which the issuer may have a `/` too.
pub(super) fn request_principal(text: &str) -> RequestPrincipal {
    let exact = |text: &str| Pattern::Exact(text.into());
    let or_any = |text: &str| if text == "*" { Pattern::Any } else { pattern(text) };
    let (issuer, subject) = match text.rsplit_once('/') {
        _ if text == "*" => (Pattern::Any, Pattern::Any),
        Some((issuer, subject)) if text.starts_with('*') => (or_any(issuer), exact(subject)),
        Some((issuer, subject)) if text.ends_with('*') => (exact(issuer), or_any(subject)),
        Some((issuer, subject)) => (exact(issuer), exact(subject)),
        None if text.starts_with('*') => (Pattern::Any, pattern(text)),
        None if text.ends_with('*') => (pattern(text), Pattern::Any),
        None => (exact(text), exact("")),
    };
    RequestPrincipal { issuer, subject }
}

/// A path: a text with a `*` at one end, or a template.
pub(super) fn path(text: &str) -> Result<PathPattern, String> {
    if !text.contains("{*}") && !text.contains("{**}") {
        let strange = text.contains(['{', '}']);
        return match strange {
            true => Err(format!("`{text}` has a brace; {{*}} stands for one part of a path, {{**}} for any number")),
            false => Ok(PathPattern::Text(pattern(text))),
        };
    }
    let wrong = |why: String| Err(format!("`{text}` is not a template of a path: {why}"));
    let Some(rest) = text.strip_prefix('/') else { return wrong("it must start with /".into()) };
    let parts: Vec<&str> = rest.strip_suffix('/').unwrap_or(rest).split('/').collect();
    let mut many = false;
    for part in &parts {
        let literal = |c: char| c.is_ascii_alphanumeric() || "-._~%!$&'()+,;:@=*".contains(c);
        match *part {
            "{*}" | "{**}" | "*" | "**" if many => return wrong("{**} must be the last of its placeholders".into()),
            "{**}" | "**" => many = true,
            "{*}" => {}
            "" => return wrong("it has a part without letters".into()),
            part if part.contains(['{', '}']) => {
                return wrong(format!("`{part}` is a part of its own, or has no braces"));
            }
            part if !part.chars().all(literal) => return wrong(format!("`{part}` has letters that no path has")),
            _ => {}
        }
    }
    let template = text.replace("{**}", "**").replace("{*}", "*");
    match template.len() > MAX_TEMPLATE {
        true => wrong(format!("it is longer than {MAX_TEMPLATE} letters")),
        false => Ok(PathPattern::Template(template.into())),
    }
}

/// What a filter noted: a text, or `[TEXT]` for a text in a list.
pub(super) fn noted(text: &str) -> NotedValue {
    match text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        Some(inside) => NotedValue { listed: true, pattern: pattern(inside.trim_matches(['[', ']'])) },
        None => NotedValue { listed: false, pattern: pattern(text) },
    }
}
