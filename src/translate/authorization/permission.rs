//! What is asked for, as Envoy's permissions.

use super::matcher::{either, header, in_list, noted, range, string, value};
use crate::{
    model::{NotedValue, OperationCheck, PathPattern, Values},
    pb::{
        self,
        envoy::{
            config::{
                core::v3::TypedExtensionConfig,
                rbac::v3::{
                    Permission,
                    permission::{Rule, Set},
                },
            },
            extensions::path::r#match::uri_template::v3::UriTemplateMatchConfig,
            r#type::matcher::v3::{PathMatcher, path_matcher},
        },
    },
};

/// A permission of this kind.
pub(super) fn of(rule: Rule) -> Permission {
    Permission { rule: Some(rule) }
}

/// All of these.
pub(super) fn all(rules: Vec<Permission>) -> Permission {
    of(Rule::AndRules(Set { rules }))
}

/// What must hold so that a check does.
pub(super) fn of_check(check: &OperationCheck) -> Vec<Permission> {
    match check {
        OperationCheck::Host(values) => sides(values, |v| Rule::Header(header(":authority", v, true))),
        OperationCheck::Method(values) => sides(values, |v| Rule::Header(header(":method", v, false))),
        OperationCheck::Path(values) => sides(values, path),
        OperationCheck::Port(values) => sides(values, |v| Rule::DestinationPort((*v).into())),
        OperationCheck::Ip(values) => sides(values, |v| Rule::DestinationIp(range(v))),
        OperationCheck::Sni(values) => sides(values, |v| Rule::RequestedServerName(string(v))),
        OperationCheck::Noted(filter, key, values) => {
            let side = |list: &[NotedValue]| (!list.is_empty()).then(|| by_filter(filter, key, list));
            let none = side(&values.none).map(|rule| of(Rule::NotRule(Box::new(rule))));
            side(&values.any).into_iter().chain(none).collect()
        }
    }
}

fn sides<T>(values: &Values<T>, rule: impl Fn(&T) -> Rule) -> Vec<Permission> {
    let one_of = |list: &[T]| {
        let rules: Vec<_> = list.iter().map(|v| of(rule(v))).collect();
        (!rules.is_empty()).then(|| of(Rule::OrRules(Set { rules })))
    };
    let none = one_of(&values.none).map(|rule| of(Rule::NotRule(Box::new(rule))));
    one_of(&values.any).into_iter().chain(none).collect()
}

fn path(pattern: &PathPattern) -> Rule {
    match pattern {
        PathPattern::Text(text) => Rule::UrlPath(PathMatcher { rule: Some(path_matcher::Rule::Path(string(text))) }),
        PathPattern::Template(template) => {
            let config = UriTemplateMatchConfig { path_template: template.to_string() };
            Rule::UriTemplate(TypedExtensionConfig {
                name: "uri-template".into(),
                typed_config: Some(pb::any(&config)),
            })
        }
    }
}

/// What a filter noted is one of these.
#[allow(deprecated, reason = "the field that Istio's proxies have; the newer one also names whose notes are meant")]
fn by_filter(filter: &str, key: &str, list: &[NotedValue]) -> Permission {
    let one = |noted: &NotedValue| match noted.listed {
        true => in_list(value(&noted.pattern)),
        false => value(&noted.pattern),
    };
    of(Rule::Metadata(noted(filter, [key], either(list.iter().map(one).collect()))))
}
