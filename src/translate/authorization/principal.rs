//! Of whom a request comes, as Envoy's principals.

use super::{
    matcher::{either, exact, header, in_list, noted, prefix, quoted, range, regex, string, text_value, value},
    trust_domain,
};
use crate::{
    model::{AccountName, Pattern, RequestPrincipal, SourceCheck, Values},
    pb::envoy::{
        config::rbac::v3::{
            Principal,
            principal::{Authenticated, Identifier, Set},
        },
        r#type::matcher::v3::{MetadataMatcher, StringMatcher},
    },
};
use std::{collections::BTreeSet, sync::Arc};

/// The filter that looks at tokens notes there what they say.
const TOKENS: &str = "envoy.filters.http.jwt_authn";
/// The key under which it does.
const PAYLOAD: &str = "payload";
/// How identities start.
const SCHEME: &str = "spiffe://";

/// A principal of this kind.
pub(super) fn of(identifier: Identifier) -> Principal {
    Principal { identifier: Some(identifier) }
}

/// All of these.
pub(super) fn all(ids: Vec<Principal>) -> Principal {
    of(Identifier::AndIds(Set { ids }))
}

/// What must hold so that a check does.
pub(super) fn of_check(check: &SourceCheck, domains: &[Arc<str>]) -> Vec<Principal> {
    match check {
        SourceCheck::Principal(values) => {
            let values = mapped(values, |v| trust_domain::of_principal(v, domains));
            each(&values, |v| peer(identity(v)))
        }
        SourceCheck::TrustDomain(values) => {
            let values = mapped(values, |v| trust_domain::expanded(v, domains));
            each(&values, |v| peer(of_domain(v)))
        }
        SourceCheck::ServiceAccount(values) => each(values, |v| peer(account(v))),
        SourceCheck::Namespace(values) => each(values, |v| peer(namespace(v))),
        SourceCheck::Ip(values) => each(values, |v| of(Identifier::DirectRemoteIp(range(v)))),
        SourceCheck::RemoteIp(values) => each(values, |v| of(Identifier::RemoteIp(range(v)))),
        SourceCheck::Header(name, values) => each(values, |v| of(Identifier::Header(header(name, v, false)))),
        SourceCheck::RequestPrincipal(values) => together(values, |list| {
            let mut ids: Vec<_> = list.iter().map(about).collect();
            if ids.len() == 1 { ids.remove(0) } else { of(Identifier::OrIds(Set { ids })) }
        }),
        SourceCheck::Audience(values) => together(values, |list| claim(&["aud".into()], list)),
        SourceCheck::Presenter(values) => together(values, |list| claim(&["azp".into()], list)),
        SourceCheck::Claim(path, values) => together(values, |list| claim(path, list)),
    }
}

/// The values after each became others, each of which is there once.
fn mapped<T: Ord + Clone>(values: &Values<T>, map: impl Fn(&T) -> Vec<T>) -> Values<T> {
    let all = |list: &[T]| {
        let mut seen = BTreeSet::new();
        list.iter().flat_map(&map).filter(|value| seen.insert(value.clone())).collect()
    };
    Values { any: all(&values.any), none: all(&values.none) }
}

/// One of the values, and none of those that are not wanted, each compared by itself.
fn each<T>(values: &Values<T>, one: impl Fn(&T) -> Principal) -> Vec<Principal> {
    together(values, |list| of(Identifier::OrIds(Set { ids: list.iter().map(&one).collect() })))
}

/// The same with all values of a list compared at once.
fn together<T>(values: &Values<T>, list: impl Fn(&[T]) -> Principal) -> Vec<Principal> {
    let side = |of: &[T]| (!of.is_empty()).then(|| list(of));
    let none = side(&values.none).map(|id| of(Identifier::NotId(Box::new(id))));
    side(&values.any).into_iter().chain(none).collect()
}

/// The identity that the peer proved.
fn peer(name: StringMatcher) -> Principal {
    of(Identifier::Authenticated(Authenticated { principal_name: Some(name) }))
}

fn identity(text: &Arc<str>) -> StringMatcher {
    match (text.strip_prefix('*'), text.strip_suffix('*')) {
        _ if **text == *"*" => string(&Pattern::Any),
        (Some(end), _) => regex(format!("{SCHEME}.*{}", quoted(end))),
        (None, Some(start)) => prefix(format!("{SCHEME}{start}")),
        (None, None) => exact(format!("{SCHEME}{text}")),
    }
}

fn of_domain(text: &Arc<str>) -> StringMatcher {
    match text.split_once('*') {
        _ if **text == *"*" => prefix(SCHEME.into()),
        None => prefix(format!("{SCHEME}{text}/")),
        Some((start, end)) => regex(format!("{SCHEME}{}[^/]*{}/.*", quoted(start), quoted(end))),
    }
}

fn account(name: &AccountName) -> StringMatcher {
    regex(format!("{SCHEME}.+/ns/{}/(.+/|)sa/{}(/.+)?", quoted(&name.namespace), quoted(&name.name)))
}

fn namespace(text: &Arc<str>) -> StringMatcher {
    let parts: Vec<String> = text.split('*').map(quoted).collect();
    regex(format!(".*/ns/{}/.*", parts.join(".*")))
}

/// Whom the request's token is about.
fn about(principal: &RequestPrincipal) -> Principal {
    let claim = |name: &str, pattern: &Pattern| by_token(noted(TOKENS, [PAYLOAD, name], text_value(string(pattern))));
    all(vec![claim("iss", &principal.issuer), claim("sub", &principal.subject)])
}

/// A claim of the request's token is one of these, or a list that has one of them.
fn claim(path: &[Arc<str>], list: &[Pattern]) -> Principal {
    let one = either(list.iter().map(value).collect());
    let path = std::iter::once(PAYLOAD).chain(path.iter().map(|name| &**name));
    by_token(noted(TOKENS, path, either(vec![in_list(one.clone()), one])))
}

/// What was noted of the request's token.
#[allow(deprecated, reason = "the field that Istio's proxies have; the newer one also names whose notes are meant")]
fn by_token(what: MetadataMatcher) -> Principal {
    of(Identifier::Metadata(what))
}
