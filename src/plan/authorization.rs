//! The rules that hold for a workload, as people read them: whose tokens are taken, and which requests are asked about,
//! noted, denied and allowed, in the order in which the proxy looks at them.

use crate::{
    model::{
        AuthorizationPolicy, KeySource, NotedValue, OperationCheck, PathPattern, Pattern, PolicyAction, PolicyRule,
        RequestPrincipal, SourceCheck, Values,
    },
    snapshot::{FoundKeys, Policies, TokenRule},
};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The titles of the columns.
const TITLES: [&str; 5] = ["ACTION", "POLICY", "RULE", "FROM", "TO"];

/// The rules that hold for a workload.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rules {
    rows: Vec<[String; 5]>,
    /// Whether what no rule takes is denied.
    closed: bool,
}

impl Rules {
    /// Those of these policies.
    pub fn of(policies: &Policies) -> Self {
        let mut rows: Vec<[String; 5]> = Vec::new();
        let custom = |p: &&AuthorizationPolicy| matches!(p.action, PolicyAction::Custom(_));
        let all = || policies.authorization.iter().map(|p| &**p);
        rows.extend(all().filter(custom).flat_map(of_policy));
        rows.extend(policies.tokens.iter().map(of_token));
        for action in [PolicyAction::Audit, PolicyAction::Deny, PolicyAction::Allow] {
            rows.extend(all().filter(|p| p.action == action).flat_map(of_policy));
        }
        Self { rows, closed: all().any(|p| p.action == PolicyAction::Allow && !p.dry_run) }
    }

    /// As a table, with a line about what no rule takes.
    pub fn to_text(&self) -> String {
        let titles = TITLES.map(str::to_owned);
        let lines: Vec<&[String; 5]> = std::iter::once(&titles).chain(&self.rows).collect();
        let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..TITLES.len()).map(width).collect();
        let mut out = String::new();
        for line in lines {
            let mut text = String::new();
            for (cell, width) in line.iter().zip(&widths) {
                let _ = write!(text, "{cell:width$}  ");
            }
            out.push_str(text.trim_end());
            out.push('\n');
        }
        out.push_str(match self.closed {
            true => "Everything else is denied.\n",
            false => "Everything else is allowed.\n",
        });
        out
    }

    /// The same as JSON.
    pub fn to_json(&self) -> Value {
        let names = TITLES.map(str::to_lowercase);
        let row = |row: &[String; 5]| {
            Value::Object(names.iter().cloned().zip(row.iter().map(|cell| cell.as_str().into())).collect())
        };
        json!({ "rules": self.rows.iter().map(row).collect::<Vec<_>>(), "otherwise": if self.closed { "DENY" } else { "ALLOW" } })
    }
}

fn of_token(token: &TokenRule) -> [String; 5] {
    let keys = match (&token.keys, &token.rule.keys) {
        (FoundKeys::Inline, _) => "keys in the policy".to_owned(),
        (FoundKeys::Fetched(set), _) => format!("keys of {}", set.locator.url()),
        (FoundKeys::Through { url, .. }, _) => format!("keys that the proxy fetches from {url}"),
        (FoundKeys::Nowhere, KeySource::Fetched(locator)) => format!("no keys yet, from {}", locator.url()),
        (FoundKeys::Nowhere, _) => "no keys".to_owned(),
    };
    let who = match token.rule.issuer.is_empty() {
        true => "tokens of anybody".to_owned(),
        false => format!("tokens of {}", token.rule.issuer),
    };
    let to = match token.rule.audiences.is_empty() {
        true => keys,
        false => format!("{keys}; for {}", token.rule.audiences.join(", ")),
    };
    let policy = format!("{}/{}", token.source.namespace, token.source.name);
    ["TOKENS".into(), policy, token.at.to_string(), who, to]
}

fn of_policy(policy: &AuthorizationPolicy) -> Vec<[String; 5]> {
    let action = match &policy.action {
        PolicyAction::Custom(name) => format!("CUSTOM {name}"),
        action => action.word().to_owned(),
    };
    let action = if policy.dry_run { format!("{action} (dry run)") } else { action };
    let name = format!("{}/{}", policy.source.namespace, policy.source.name);
    let row = |rule: &PolicyRule| {
        let from = either(rule.sources.iter().map(|list| list.iter().map(source).collect()));
        let to = either(rule.operations.iter().map(|list| list.iter().map(operation).collect()));
        [action.clone(), name.clone(), rule.at.to_string(), from, to]
    };
    match policy.rules.is_empty() {
        true => vec![[action.clone(), name.clone(), "-".into(), "nobody".into(), "nothing".into()]],
        false => policy.rules.iter().map(row).collect(),
    }
}

/// Lists of checks of which one must hold.
fn either(lists: impl Iterator<Item = Vec<String>>) -> String {
    let all: Vec<String> =
        lists.map(|checks| if checks.is_empty() { "anything".into() } else { checks.join(" and ") }).collect();
    all.join(" or ")
}

fn source(check: &SourceCheck) -> String {
    match check {
        SourceCheck::Principal(v) => said("principal", v, ToString::to_string),
        SourceCheck::RequestPrincipal(v) => {
            said("token of", v, |p: &RequestPrincipal| format!("{}/{}", pattern(&p.issuer), pattern(&p.subject)))
        }
        SourceCheck::ServiceAccount(v) => said("account", v, |a| format!("{}/{}", a.namespace, a.name)),
        SourceCheck::TrustDomain(v) => said("trust domain", v, ToString::to_string),
        SourceCheck::Namespace(v) => said("namespace", v, ToString::to_string),
        SourceCheck::RemoteIp(v) => said("remote address", v, ToString::to_string),
        SourceCheck::Ip(v) => said("address", v, ToString::to_string),
        SourceCheck::Header(name, v) => said(&format!("header {name}"), v, pattern),
        SourceCheck::Audience(v) => said("audience", v, pattern),
        SourceCheck::Presenter(v) => said("presenter", v, pattern),
        SourceCheck::Claim(path, v) => said(&format!("claim {}", path.join(".")), v, pattern),
    }
}

fn operation(check: &OperationCheck) -> String {
    match check {
        OperationCheck::Host(v) => said("host", v, pattern),
        OperationCheck::Method(v) => said("method", v, pattern),
        OperationCheck::Path(v) => said("path", v, |p| match p {
            PathPattern::Text(text) => pattern(text),
            PathPattern::Template(template) => format!("template {template}"),
        }),
        OperationCheck::Port(v) => said("port", v, ToString::to_string),
        OperationCheck::Ip(v) => said("own address", v, ToString::to_string),
        OperationCheck::Sni(v) => said("TLS name", v, pattern),
        OperationCheck::Noted(filter, key, v) => {
            said(&format!("{key} noted by {filter}"), v, |n: &NotedValue| pattern(&n.pattern))
        }
    }
}

/// A check in words.
fn said<T>(what: &str, values: &Values<T>, word: impl Fn(&T) -> String) -> String {
    let list = |of: &[T]| of.iter().map(&word).collect::<Vec<_>>().join("|");
    match (values.any.is_empty(), values.none.is_empty()) {
        (false, true) => format!("{what} {}", list(&values.any)),
        (true, _) => format!("{what} not {}", list(&values.none)),
        (false, false) => format!("{what} {} and not {}", list(&values.any), list(&values.none)),
    }
}

fn pattern(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Any => "*".into(),
        Pattern::Exact(text) => text.to_string(),
        Pattern::Prefix(text) => format!("{text}*"),
        Pattern::Suffix(text) => format!("*{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{parse, snapshot::Snapshot};

    #[test]
    fn the_rules_of_a_workload_are_a_table() {
        let objects = [
            json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": "allow", "namespace": "shop"},
                "spec": {"rules": [{"from": [{"source": {"namespaces": ["web"], "notPrincipals": ["*/sa/x"]}}],
                    "to": [{"operation": {"methods": ["GET"], "paths": ["/a/{*}", "/b*"]}}, {"operation": {"ports": ["80"]}}]}]}}),
            json!({"apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
                "metadata": {"name": "deny", "namespace": "istio-system", "annotations": {"istio.io/dry-run": "true"}},
                "spec": {"action": "DENY", "rules": [{}]}}),
            json!({"apiVersion": "security.istio.io/v1", "kind": "RequestAuthentication",
                "metadata": {"name": "tokens", "namespace": "shop"},
                "spec": {"jwtRules": [{"issuer": "https://issuer.example"}]}}),
        ];
        let world = Snapshot::default().apply(objects.iter().map(|o| parse::object(o, &parse::Context::default())));
        let rules = Rules::of(&world.policies(&"shop".into(), &Default::default()));
        let text = rules.to_text();
        let lines: Vec<&str> = text.lines().collect();
        let starts = [
            "ACTION",
            "TOKENS          shop/tokens",
            "DENY (dry run)  istio-system/deny",
            "ALLOW           shop/allow",
        ];
        for (line, start) in lines.iter().zip(starts) {
            assert!(line.starts_with(start), "{line}");
        }
        assert!(
            lines[3]
                .ends_with("principal not */sa/x and namespace web  method GET and path template /a/*|/b* or port 80"),
            "{}",
            lines[3]
        );
        assert_eq!(lines[4], "Everything else is denied.");
        assert_eq!(rules.to_json()["otherwise"], "DENY");
    }
}
