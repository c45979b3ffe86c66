//! What AuthorizationPolicies mean, straight from their documentation: no more than an evaluator of their YAML, that
//! knows nothing of how mainsheet reads or translates them.

use serde_json::Value;
use std::{collections::BTreeMap, net::IpAddr};

/// What is known of a request or connection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Facts {
    /// Bytes, and no request.
    pub(crate) bytes: bool,
    /// The identity of the peer, without the scheme.
    pub(crate) principal: Option<String>,
    pub(crate) ip: Option<IpAddr>,
    pub(crate) remote_ip: Option<IpAddr>,
    pub(crate) destination: Option<IpAddr>,
    pub(crate) port: u16,
    pub(crate) sni: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) host: String,
    pub(crate) headers: BTreeMap<String, String>,
    /// The claims of a valid token.
    pub(crate) claims: Option<Value>,
    /// The trust domains that count as one.
    pub(crate) trust_domains: Vec<&'static str>,
}

/// What becomes of a field: it holds, it does not, or it has no meaning for bytes.
#[derive(Clone, Copy, PartialEq)]
enum Held {
    Yes,
    No,
    Meaningless,
}

/// Whether the policies let it through.
pub(crate) fn allowed(policies: &[Value], facts: &Facts) -> bool {
    let of = |action: &'static str| {
        policies.iter().filter(move |p| p["spec"]["action"].as_str().unwrap_or("ALLOW") == action)
    };
    let takes = |policy: &Value, narrow: bool| {
        policy["spec"]["rules"].as_array().into_iter().flatten().any(|r| rule(r, facts, narrow))
    };
    if of("DENY").any(|p| takes(p, false)) {
        return false;
    }
    of("ALLOW").next().is_none() || of("ALLOW").any(|p| takes(p, true))
}

/// Of an ALLOW rule (`narrow`), one field without a meaning makes the whole rule take nothing; of a DENY rule it is left out.
fn rule(rule: &Value, facts: &Facts, narrow: bool) -> bool {
    let mut nothing = false;
    let mut list = |entries: Option<Vec<Vec<Held>>>| {
        let entries = entries.unwrap_or_else(|| vec![Vec::new()]);
        nothing |= narrow && entries.iter().flatten().any(|held| *held == Held::Meaningless);
        entries.iter().any(|fields| fields.iter().all(|held| *held != Held::No))
    };
    let each = |key: &str, inner: &str| {
        let entries = rule[key].as_array()?;
        Some(entries.iter().map(|entry| fields(&entry[inner], facts)).collect())
    };
    let from = list(each("from", "source"));
    let to = list(each("to", "operation"));
    let when = rule["when"].as_array().map(|all| vec![all.iter().map(|c| condition(c, facts)).collect()]);
    let when = list(when);
    from && to && when && !nothing
}

fn fields(entry: &Value, facts: &Facts) -> Vec<Held> {
    let entry = entry.as_object().into_iter().flatten();
    entry
        .map(|(name, values)| {
            let (positive, negated) = match name.strip_prefix("not") {
                Some(rest) => (format!("{}{}", rest[..1].to_lowercase(), &rest[1..]), true),
                None => (name.clone(), false),
            };
            one_of(&positive, values, facts, negated)
        })
        .collect()
}

fn condition(condition: &Value, facts: &Facts) -> Held {
    let key = condition["key"].as_str().unwrap_or_default();
    let mut held = Held::Yes;
    for (field, negated) in [("values", false), ("notValues", true)] {
        if condition[field].is_array() {
            match one_of(key, &condition[field], facts, negated) {
                Held::Yes => {}
                other => held = other,
            }
        }
    }
    held
}

fn one_of(name: &str, values: &Value, facts: &Facts, negated: bool) -> Held {
    let requests = ["requestPrincipals", "hosts", "methods", "paths"].contains(&name) || name.starts_with("request.");
    if requests && facts.bytes {
        return Held::Meaningless;
    }
    let values: Vec<&str> = values.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let any = values.iter().any(|value| holds(name, value, facts));
    if any != negated { Held::Yes } else { Held::No }
}

/// Whether a field holds for one of its values.
fn holds(name: &str, value: &str, facts: &Facts) -> bool {
    let principal = facts.principal.as_deref();
    let parts: Vec<&str> = principal.unwrap_or_default().split('/').collect();
    match name {
        "principals" | "source.principal" => principal.is_some_and(|p| same_identity(value, p, facts)),
        "namespaces" | "source.namespace" => parts.get(2).is_some_and(|ns| glob(value, ns)),
        "serviceAccounts" | "source.serviceAccount" => {
            let (namespace, account) = value.split_once('/').unwrap_or(("shop", value));
            parts.get(2) == Some(&namespace) && parts.get(4) == Some(&account)
        }
        "trustDomains" | "source.trustDomain" => {
            let own = |d: &str| facts.trust_domains.contains(&d);
            principal.is_some() && (matches(value, parts[0]) || (own(value) && own(parts[0])))
        }
        "ipBlocks" | "source.ip" => within(value, facts.ip),
        "remoteIpBlocks" | "remote.ip" => within(value, facts.remote_ip),
        "destination.ip" => within(value, facts.destination),
        "ports" | "destination.port" => value.parse() == Ok(facts.port),
        "connection.sni" => facts.sni.as_deref().is_some_and(|sni| matches(value, sni)),
        "hosts" => matches(&value.to_lowercase(), &facts.host.to_lowercase()),
        "methods" => matches(value, &facts.method),
        "paths" => path(value, facts.path.split(['?', '#']).next().unwrap_or_default()),
        "requestPrincipals" | "request.auth.principal" => facts.claims.as_ref().is_some_and(|claims| {
            let text = |name: &str| claims[name].as_str().unwrap_or_default().to_owned();
            !text("iss").is_empty()
                && !text("sub").is_empty()
                && matches(value, &format!("{}/{}", text("iss"), text("sub")))
        }),
        "request.auth.audiences" => claim(facts, &["aud"], value),
        "request.auth.presenter" => claim(facts, &["azp"], value),
        _ => {
            let inside = name.split_once('[').map_or("", |(_, inside)| inside.trim_end_matches(']'));
            match name.starts_with("request.auth.claims") {
                true => claim(facts, &inside.split("][").collect::<Vec<_>>(), value),
                false => facts.headers.get(inside).is_some_and(|held| matches(value, held)),
            }
        }
    }
}

/// Exact, `*` at one end, or `*` for anything that is there.
fn matches(pattern: &str, text: &str) -> bool {
    match (pattern, pattern.strip_prefix('*'), pattern.strip_suffix('*')) {
        ("*", ..) => true,
        (_, Some(end), _) => text.ends_with(end),
        (_, None, Some(start)) => text.starts_with(start),
        (exact, ..) => exact == text,
    }
}

/// `*` anywhere.
fn glob(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, rest)) => text
            .strip_prefix(start)
            .is_some_and(|text| (0..=text.len()).any(|at| text.is_char_boundary(at) && glob(rest, &text[at..]))),
    }
}

/// Identities of trust domains that count as one are the same.
fn same_identity(pattern: &str, principal: &str, facts: &Facts) -> bool {
    let own = |d: &str| d == "cluster.local" || facts.trust_domains.contains(&d);
    match (pattern.split_once('/'), principal.split_once('/')) {
        (Some((wanted, rest)), Some((has, path))) if own(wanted) && facts.trust_domains.contains(&has) => {
            matches(rest, path)
        }
        _ => matches(pattern, principal),
    }
}

fn within(block: &str, ip: Option<IpAddr>) -> bool {
    let block: ipnet::IpNet = block.parse().or_else(|_| block.parse::<IpAddr>().map(Into::into)).expect("a range");
    ip.is_some_and(|ip| block.contains(&ip))
}

/// A text, or a template of parts.
fn path(pattern: &str, path: &str) -> bool {
    if !pattern.contains("{*}") && !pattern.contains("{**}") {
        return matches(pattern, path);
    }
    let (pattern, path): (Vec<&str>, Vec<&str>) = (pattern.split('/').collect(), path.split('/').collect());
    parts(&pattern, &path)
}

fn parts(pattern: &[&str], path: &[&str]) -> bool {
    match (pattern, path) {
        ([], []) => true,
        // It stands between slashes, where nothing may be.
        (["{**}", rest @ ..], _) => (1..=path.len()).any(|at| parts(rest, &path[at..])),
        (["{*}", rest @ ..], [part, more @ ..]) => !part.is_empty() && parts(rest, more),
        ([literal, rest @ ..], [part, more @ ..]) => literal == part && parts(rest, more),
        _ => false,
    }
}

/// A claim is a text, or a list with one.
fn claim(facts: &Facts, path: &[&str], pattern: &str) -> bool {
    let Some(claims) = &facts.claims else { return false };
    let found = path.iter().fold(claims, |value, name| &value[*name]);
    match found {
        Value::String(text) => !text.is_empty() && matches(pattern, text),
        Value::Array(list) => list.iter().filter_map(Value::as_str).any(|text| matches(pattern, text)),
        _ => false,
    }
}
