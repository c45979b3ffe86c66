//! How broken policies fail closed, and how values are read.

use super::*;
use crate::model::{PathPattern, Pattern};
use serde_json::json;

fn read(spec: Value) -> (AuthorizationPolicy, Vec<String>) {
    let metadata = json!({"name": "p", "namespace": "shop"});
    let raw = json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": metadata, "spec": spec});
    let (policy, problems) = authorization_policy(&raw, &Context::default());
    (policy.expect("a policy always stands"), problems.iter().map(ToString::to_string).collect())
}

fn rule(action: &str, rule: Value) -> (Option<PolicyRule>, Vec<String>) {
    let (mut policy, problems) = read(json!({"action": action, "rules": [rule]}));
    (policy.rules.pop(), problems)
}

fn paths(rule: &PolicyRule) -> Vec<usize> {
    rule.operations.iter().map(Vec::len).collect()
}

#[test]
fn what_of_allow_cannot_be_understood_allows_nobody() {
    let good = json!({"operation": {"paths": ["/a"]}});
    for bad in [
        json!({"source": {"ipBlocks": ["nonsense"]}}),
        json!({"source": {"notIpBlocks": ["nonsense"]}}),
        json!({"source": {"principals": [""]}}),
        json!({"source": {}}),
        json!({}),
        json!(null),
        json!({"source": {"principal": ["a"]}}),
        json!({"source": {"principals": "a"}}),
    ] {
        let (read, problems) = rule("ALLOW", json!({"from": [bad], "to": [good]}));
        assert_eq!((read, problems.is_empty()), (None, false), "{bad}");
    }
}

#[test]
fn what_of_deny_cannot_be_understood_is_not_asked_for() {
    for bad in [
        json!({"source": {"ipBlocks": ["nonsense", "10.0.0.1"]}}),
        json!({"source": {"notIpBlocks": ["nonsense"]}}),
        json!({"source": {}}),
        json!(null),
    ] {
        let (read, problems) = rule("DENY", json!({"from": [bad], "to": [{"operation": {"ports": ["80"]}}]}));
        let read = read.expect("a rule");
        assert_eq!((read.sources, paths_are(&read.operations), problems.len()), (vec![vec![]], 1, 1), "{bad}");
    }
    let (read, _) = rule("DENY", json!({"from": "nonsense"}));
    assert_eq!(read.expect("a rule").sources, [vec![]]);
    let (policy, _) = self::read(json!({"action": "DENY", "rules": 5}));
    assert_eq!(policy.rules.len(), 1);
}

fn paths_are(operations: &[Vec<OperationCheck>]) -> usize {
    operations.iter().map(Vec::len).sum()
}

#[test]
fn a_bad_value_spoils_no_good_one_where_that_lets_nobody_through() {
    let source = |any: &[&str], none: &[&str]| json!({"from": [{"source": {"ipBlocks": any, "notIpBlocks": none}}]});
    let values = |action, any: &[&str], none: &[&str]| {
        let (read, problems) = rule(action, source(any, none));
        assert_eq!(problems.iter().filter(|p| p.starts_with("error")).count(), 1, "{problems:?}");
        match &read.expect("a rule").sources[0][..] {
            [SourceCheck::Ip(values)] => (values.any.len(), values.none.len()),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(values("ALLOW", &["x", "10.0.0.1"], &[]), (1, 0));
    assert_eq!(values("DENY", &["10.0.0.1"], &["x", "10.0.0.2"]), (1, 1));
    assert_eq!(values("DENY", &["10.0.0.1", "x"], &["10.0.0.2"]), (0, 1));
}

#[test]
fn an_action_that_is_none_allows_nothing() {
    let (policy, problems) = read(json!({"action": "allow", "rules": [{}]}));
    assert_eq!((policy.action, policy.rules.len(), problems.len()), (PolicyAction::Allow, 0, 1));
    let (policy, problems) = read(json!(5));
    assert_eq!((policy.action, policy.rules.len(), problems.len()), (PolicyAction::Allow, 0, 1));
    let (policy, _) = read(json!({"action": "CUSTOM", "rules": [{}]}));
    assert_eq!((policy.action, policy.rules.len()), (PolicyAction::Deny, 1), "nobody can be asked");
}

#[test]
fn paths_are_texts_or_templates() {
    let text = |p| Ok(PathPattern::Text(p));
    assert_eq!(values::path("/a*"), text(Pattern::Prefix("/a".into())));
    assert_eq!(values::path("*"), text(Pattern::Any));
    assert_eq!(values::path("/a/{*}/b/{**}"), Ok(PathPattern::Template("/a/*/b/**".into())));
    for good in ["/{*}/", "/{**}/z", "/a*/{*}", "/%2f/{*}", "/*/{*}"] {
        assert!(values::path(good).is_ok(), "{good}");
    }
    for bad in ["{*}", "/a{*}", "/{**}/{*}", "/{**}/*", "//{*}", "/a b/{*}", "/{x}", "/é/{*}"] {
        assert!(values::path(bad).is_err(), "{bad}");
    }
    assert!(values::path(&format!("/{}/{{*}}", "x".repeat(256))).is_err());
}

#[test]
fn a_token_is_about_a_subject_of_an_issuer() {
    let read = |text| {
        let of = values::request_principal(text);
        (of.issuer, of.subject)
    };
    let exact = |t: &str| Pattern::Exact(t.into());
    assert_eq!(read("*"), (Pattern::Any, Pattern::Any));
    assert_eq!(read("https://a/b/sub"), (exact("https://a/b"), exact("sub")));
    assert_eq!(read("https://a/*"), (exact("https://a"), Pattern::Any));
    assert_eq!(read("*/sub"), (Pattern::Any, exact("sub")));
    assert_eq!(read("*.a/sub"), (Pattern::Suffix(".a".into()), exact("sub")));
    assert_eq!(read("a/s*"), (exact("a"), Pattern::Prefix("s".into())));
}

#[test]
fn conditions_have_keys_that_are_known() {
    let one = |key: &str, value: &str| rule("ALLOW", json!({"when": [{"key": key, "values": [value]}]})).0.is_some();
    for (key, value) in [
        ("source.ip", "10.0.0.0/8"),
        ("request.headers[x-a]", "*"),
        ("request.auth.claims[a][b]", "x"),
        ("experimental.envoy.filters.http.x[k]", "[v]"),
        ("connection.sni", "*.a"),
        ("destination.port", "80"),
    ] {
        assert!(one(key, value), "{key}");
    }
    for (key, value) in [
        ("source.ip", "10.0.0.0/33"),
        ("request.headers", "x"),
        ("request.headers[]", "x"),
        ("request.headers[a b]", "x"),
        ("request.auth.claims[a][]", "x"),
        ("destination.labels[a]", "x"),
        ("destination.port", "65536"),
        ("", "x"),
        ("source.trustDomain", "a*b"),
    ] {
        assert!(!one(key, value), "{key}");
    }
    assert_eq!(paths(&rule("DENY", json!({"when": [{"key": "nonsense", "values": ["x"]}]})).0.expect("a rule")), [0]);
}
