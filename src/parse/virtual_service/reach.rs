//! Which rules no request or connection can reach, because an earlier one takes all of theirs.

use crate::{api::virtual_service as api, model::ConnectionRule, problem::FieldPath};

/// The rules and conditions that no request reaches, and what to do about each.
pub(super) fn unreachable(path: &FieldPath, rules: &[api::HttpRoute]) -> Vec<(FieldPath, String)> {
    let mut out = Vec::new();
    let mut catch_all = None;
    let mut seen: Vec<(usize, api::HttpMatch)> = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        if let Some(earlier) = catch_all {
            let message = format!("is never reached: {} before it takes every request", title(rules, earlier));
            out.push((path.index(i), format!("{message}; move it up, or leave it out")));
            continue;
        }
        if rule.r#match.is_empty() {
            catch_all = Some(i);
        }
        for (n, condition) in rule.r#match.iter().enumerate() {
            let condition = api::HttpMatch { name: String::new(), ..condition.clone() };
            let at = path.index(i).field("match").index(n);
            let covering = seen.iter().find(|(_, earlier)| covers(earlier, &condition));
            if let Some((earlier, _)) = covering {
                let message =
                    format!("is never reached: a match of {} before it takes its requests", title(rules, *earlier));
                out.push((at, format!("{message}; move it up, or leave it out")));
            }
            seen.push((i, condition));
        }
    }
    out
}

/// Whether all that `later` matches is matched by `earlier`: the same condition, or one that differs only in a
/// prefix of the path.
fn covers(earlier: &api::HttpMatch, later: &api::HttpMatch) -> bool {
    let uri = |m: &api::HttpMatch| m.uri.clone().unwrap_or_default();
    let path = uri(later).prefix.or(uri(later).exact);
    match (uri(earlier).prefix, path) {
        (Some(prefix), Some(path)) if path.starts_with(&prefix) => {
            *earlier == api::HttpMatch { uri: earlier.uri.clone(), ..later.clone() }
        }
        _ => earlier == later,
    }
}

fn title(rules: &[api::HttpRoute], at: usize) -> String {
    match rules[at].name.as_str() {
        "" => format!("http[{at}]"),
        name => format!("http[{at}] ({name})"),
    }
}

/// The rules for connections, and conditions of them, that no connection reaches, and what to do about each.
pub(super) fn unreachable_connections(path: &FieldPath, rules: &[ConnectionRule]) -> Vec<(FieldPath, String)> {
    let mut out = Vec::new();
    let catch_all = rules.iter().position(|rule| rule.matches.is_empty());
    for (i, rule) in rules.iter().enumerate() {
        if let Some(earlier) = catch_all.filter(|earlier| *earlier < i) {
            let message = format!("is never reached: entry {earlier} before it takes every connection");
            out.push((path.index(i), format!("{message}; move it up, or leave it out")));
            continue;
        }
        for (n, condition) in rule.matches.iter().enumerate() {
            let same_rule = rule.matches[..n].contains(condition).then_some(i);
            let earlier = rules[..i].iter().position(|r| r.matches.contains(condition)).or(same_rule);
            if let Some(earlier) = earlier {
                let message = format!("is never reached: entry {earlier} has the same match");
                out.push((path.index(i).field("match").index(n), format!("{message}; leave it out")));
            }
        }
    }
    out
}
