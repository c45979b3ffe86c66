//! How texts and addresses are compared, as Envoy's matchers.

use crate::{
    model::Pattern,
    pb::{
        self,
        envoy::{
            config::{
                core::v3::CidrRange,
                route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier},
            },
            r#type::matcher::v3::{
                ListMatcher, MetadataMatcher, OrMatcher, StringMatcher, ValueMatcher, list_matcher,
                metadata_matcher::{PathSegment, path_segment::Segment},
                string_matcher::MatchPattern,
                value_matcher,
            },
        },
    },
    translate::regex,
};
use ipnet::IpNet;

/// Takes any text that is not empty.
const SOMETHING: &str = ".+";

/// A text that is compared so.
pub(super) fn string(pattern: &Pattern) -> StringMatcher {
    match pattern {
        Pattern::Any => regex(SOMETHING.into()),
        Pattern::Exact(text) => text_matcher(MatchPattern::Exact(text.to_string())),
        Pattern::Prefix(text) => text_matcher(MatchPattern::Prefix(text.to_string())),
        Pattern::Suffix(text) => text_matcher(MatchPattern::Suffix(text.to_string())),
    }
}

/// A text that starts so.
pub(super) fn prefix(text: String) -> StringMatcher {
    text_matcher(MatchPattern::Prefix(text))
}

/// A text that is this.
pub(super) fn exact(text: String) -> StringMatcher {
    text_matcher(MatchPattern::Exact(text))
}

/// A text that a regular expression takes as a whole.
pub(super) fn regex(text: String) -> StringMatcher {
    text_matcher(MatchPattern::SafeRegex(regex::matcher(text)))
}

fn text_matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher { match_pattern: Some(pattern), ..Default::default() }
}

/// A header that is compared so.
pub(super) fn header(name: &str, pattern: &Pattern, ignore_case: bool) -> HeaderMatcher {
    let specifier = match pattern {
        Pattern::Any => HeaderMatchSpecifier::PresentMatch(true),
        pattern => HeaderMatchSpecifier::StringMatch(StringMatcher { ignore_case, ..string(pattern) }),
    };
    HeaderMatcher { name: name.to_owned(), header_match_specifier: Some(specifier), ..Default::default() }
}

/// A text that stands for itself in a regular expression.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if "\\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

/// A range of addresses.
pub(super) fn range(net: &IpNet) -> CidrRange {
    CidrRange { address_prefix: net.addr().to_string(), prefix_len: pb::uint32(net.prefix_len().into()) }
}

/// A value that is a text which is compared so.
pub(super) fn value(pattern: &Pattern) -> ValueMatcher {
    text_value(string(pattern))
}

/// A value that is such a text.
pub(super) fn text_value(matcher: StringMatcher) -> ValueMatcher {
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::StringMatch(matcher)) }
}

/// A list that such a value is in.
pub(super) fn in_list(value: ValueMatcher) -> ValueMatcher {
    let one_of = ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(value))) };
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::ListMatch(Box::new(one_of))) }
}

/// One of these values.
pub(super) fn either(mut values: Vec<ValueMatcher>) -> ValueMatcher {
    if values.len() == 1 {
        return values.remove(0);
    }
    let or = OrMatcher { value_matchers: values };
    ValueMatcher { match_pattern: Some(value_matcher::MatchPattern::OrMatch(or)) }
}

/// What a filter noted at a path.
pub(super) fn noted<'a>(filter: &str, path: impl IntoIterator<Item = &'a str>, value: ValueMatcher) -> MetadataMatcher {
    let segment = |key: &str| PathSegment { segment: Some(Segment::Key(key.to_owned())) };
    MetadataMatcher {
        filter: filter.to_owned(),
        path: path.into_iter().map(segment).collect(),
        value: Some(value),
        ..Default::default()
    }
}
