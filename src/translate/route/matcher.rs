//! Which requests a route takes: a VirtualService's conditions as Envoy's matchers.

use crate::{
    model::{HttpMatch, StringMatch},
    pb::{
        self,
        envoy::{
            config::route::v3::{
                HeaderMatcher, QueryParameterMatcher, RouteMatch, header_matcher::HeaderMatchSpecifier,
                query_parameter_matcher::QueryParameterMatchSpecifier, route_match::PathSpecifier,
            },
            r#type::matcher::v3::{
                ListMatcher, MetadataMatcher, OrMatcher, RegexMatcher, StringMatcher, ValueMatcher, list_matcher,
                metadata_matcher::{PathSegment, path_segment::Segment},
                string_matcher::MatchPattern,
                value_matcher,
            },
        },
    },
    translate::regex,
};
use std::sync::Arc;

/// The prefix of header names that stand for a claim of the request's token.
const CLAIMS: &str = "@request.auth.claims";

type Named = (Arc<str>, Option<StringMatch>);

/// Takes every request.
pub(super) fn any() -> RouteMatch {
    RouteMatch { path_specifier: Some(PathSpecifier::Prefix("/".into())), ..Default::default() }
}

/// Takes the requests that meet a condition.
pub(super) fn of(condition: &HttpMatch) -> RouteMatch {
    let (claims, headers): (Vec<_>, Vec<_>) =
        condition.headers.iter().map(|h| (h, false)).chain(condition.without_headers.iter().map(|h| (h, true))).fold(
            (Vec::new(), Vec::new()),
            |(mut claims, mut headers), (named, without)| {
                match claim(&named.0) {
                    Some(path) => claims.push(metadata(path, named.1.as_ref(), without)),
                    None => headers.push(header(named, without)),
                }
                (claims, headers)
            },
        );
    let mut headers = headers;
    headers.sort_by(|a, b| a.name.cmp(&b.name));
    let pseudo = [(":method", &condition.method), (":authority", &condition.authority), (":scheme", &condition.scheme)];
    for (name, comparison) in pseudo {
        headers.extend(comparison.as_ref().map(|c| header(&(name.into(), Some(c.clone())), false)));
    }
    RouteMatch {
        path_specifier: Some(path(condition.uri.as_ref())),
        case_sensitive: pb::boolean(!condition.ignore_uri_case),
        headers,
        query_parameters: condition.query_params.iter().map(parameter).collect(),
        dynamic_metadata: claims,
        ..Default::default()
    }
}

/// Whether a condition takes every request that gets to it.
pub(super) fn is_catch_all(condition: &HttpMatch) -> bool {
    let path = match &condition.uri {
        None => true,
        Some(StringMatch::Prefix(prefix)) => &**prefix == "/",
        Some(StringMatch::Regex(regex)) => &**regex == ".*",
        Some(StringMatch::Exact(_) | StringMatch::Segments(_)) => false,
    };
    let pseudo = [&condition.method, &condition.authority, &condition.scheme];
    path && pseudo.iter().all(|c| c.is_none())
        && condition.headers.is_empty()
        && condition.without_headers.is_empty()
        && condition.query_params.is_empty()
}

/// Whether a route takes every request that gets to it.
pub(super) fn takes_all(route: &RouteMatch) -> bool {
    let path = match &route.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    path && route.headers.is_empty() && route.query_parameters.is_empty() && route.dynamic_metadata.is_empty()
}

/// What a trace calls the path.
pub(super) fn operation(condition: Option<&HttpMatch>) -> String {
    match condition.and_then(|c| c.uri.as_ref()) {
        None | Some(StringMatch::Segments(_)) => "/*".to_owned(),
        Some(StringMatch::Prefix(prefix)) => format!("{prefix}*"),
        Some(StringMatch::Exact(text) | StringMatch::Regex(text)) => text.to_string(),
    }
}

/// How a text is compared.
pub(super) fn string(comparison: &StringMatch) -> StringMatcher {
    let pattern = match comparison {
        StringMatch::Exact(text) => MatchPattern::Exact(text.to_string()),
        // Only paths have segments.
        StringMatch::Prefix(text) | StringMatch::Segments(text) => MatchPattern::Prefix(text.to_string()),
        StringMatch::Regex(text) => MatchPattern::SafeRegex(regex(text)),
    };
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

/// A regular expression.
pub(super) fn regex(text: &str) -> RegexMatcher {
    regex::matcher(text)
}

fn path(uri: Option<&StringMatch>) -> PathSpecifier {
    match uri {
        None => PathSpecifier::Prefix("/".into()),
        Some(StringMatch::Exact(text)) => PathSpecifier::Path(text.to_string()),
        Some(StringMatch::Prefix(text)) => PathSpecifier::Prefix(text.to_string()),
        Some(StringMatch::Segments(text)) => PathSpecifier::PathSeparatedPrefix(text.to_string()),
        Some(StringMatch::Regex(text)) => PathSpecifier::SafeRegex(regex(text)),
    }
}

fn header((name, comparison): &Named, without: bool) -> HeaderMatcher {
    HeaderMatcher {
        name: name.to_string(),
        invert_match: without,
        // An absent header differs from every value, so that it is not there meets the condition.
        treat_missing_header_as_empty: without && comparison.is_some(),
        header_match_specifier: Some(match comparison {
            None => HeaderMatchSpecifier::PresentMatch(true),
            Some(comparison) => HeaderMatchSpecifier::StringMatch(string(comparison)),
        }),
    }
}

fn parameter((name, comparison): &Named) -> QueryParameterMatcher {
    QueryParameterMatcher {
        name: name.to_string(),
        query_parameter_match_specifier: Some(match comparison {
            None => QueryParameterMatchSpecifier::PresentMatch(true),
            Some(comparison) => QueryParameterMatchSpecifier::StringMatch(string(comparison)),
        }),
    }
}

/// The path of the claim that a header's name stands for: `@request.auth.claims.a.b` or `…claims[a][b]`.
fn claim(name: &str) -> Option<Vec<String>> {
    let rest = name.get(..CLAIMS.len()).filter(|p| p.eq_ignore_ascii_case(CLAIMS)).map(|p| &name[p.len()..])?;
    let parts = match rest.strip_prefix('[').and_then(|r| r.strip_suffix(']')) {
        Some(inside) => inside.split("][").map(str::to_owned).collect(),
        None => rest.strip_prefix('.')?.split('.').map(str::to_owned).collect(),
    };
    Some(parts)
}

/// A claim is where the JWT filter left it, as a text or within a list.
fn metadata(claim: Vec<String>, comparison: Option<&StringMatch>, without: bool) -> MetadataMatcher {
    let value = |pattern| ValueMatcher { match_pattern: Some(pattern) };
    let any = match comparison {
        None => value(value_matcher::MatchPattern::PresentMatch(true)),
        Some(comparison) => value(value_matcher::MatchPattern::StringMatch(string(comparison))),
    };
    let one_of = ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(any.clone()))) };
    let either =
        OrMatcher { value_matchers: vec![value(value_matcher::MatchPattern::ListMatch(Box::new(one_of))), any] };
    let path = std::iter::once("payload".to_owned()).chain(claim);
    MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".into(),
        path: path.map(|key| PathSegment { segment: Some(Segment::Key(key)) }).collect(),
        value: Some(value(value_matcher::MatchPattern::OrMatch(either))),
        invert: without,
    }
}
