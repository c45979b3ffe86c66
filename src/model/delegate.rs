//! VirtualServices that leave some of their rules to others.

use super::{HeaderChanges, HttpAction, HttpMatch, HttpRule, ObjectKey, StringMatch, VirtualService};
use std::{collections::BTreeMap, sync::Arc};

type Named = Vec<(Arc<str>, Option<StringMatch>)>;

/// Why a rule is left out where it is delegated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Undelegated {
    /// The VirtualService is not there, has hosts, or is not seen from the one that delegates.
    Missing {
        /// The rule that delegates.
        rule: usize,
        /// To which.
        to: ObjectKey,
    },
    /// A rule asks for what the rule that delegates excludes.
    Conflict {
        /// The rule that delegates.
        rule: usize,
        /// To which.
        to: ObjectKey,
        /// The rule of the other VirtualService.
        theirs: usize,
    },
}

impl VirtualService {
    /// This VirtualService with the rules of those that it delegates to in their place, and what had to be left out.
    pub fn with_delegates<'a>(
        &self,
        find: impl Fn(&ObjectKey) -> Option<&'a VirtualService>,
    ) -> (VirtualService, Vec<Undelegated>) {
        let (mut http, mut left_out) = (Vec::new(), Vec::new());
        for (at, rule) in self.http.iter().enumerate() {
            let HttpAction::Delegate(to) = &rule.action else {
                http.push(rule.clone());
                continue;
            };
            let Some(other) = find(to) else {
                left_out.push(Undelegated::Missing { rule: at, to: to.clone() });
                continue;
            };
            for (theirs, leaf) in other.http.iter().enumerate() {
                match delegated(rule, leaf) {
                    Some(rule) => http.push(rule),
                    None => left_out.push(Undelegated::Conflict { rule: at, to: to.clone(), theirs }),
                }
            }
        }
        (VirtualService { http, ..self.clone() }, left_out)
    }
}

/// A delegate's rule within the rule that delegates to it; what it does not say is said by the latter.
fn delegated(root: &HttpRule, leaf: &HttpRule) -> Option<HttpRule> {
    let own = |leaf: &HeaderChanges| *leaf != HeaderChanges::default();
    Some(HttpRule {
        name: joined(&root.name, &leaf.name),
        matches: conditions(&root.matches, &leaf.matches)?,
        action: leaf.action.clone(),
        rewrite: leaf.rewrite.clone().or_else(|| root.rewrite.clone()),
        timeout: leaf.timeout.or(root.timeout),
        retries: leaf.retries.clone().or_else(|| root.retries.clone()),
        fault: leaf.fault.clone().or_else(|| root.fault.clone()),
        mirrors: if leaf.mirrors.is_empty() { root.mirrors.clone() } else { leaf.mirrors.clone() },
        cors: leaf.cors.clone().or_else(|| root.cors.clone()),
        headers: if own(&leaf.headers) { leaf.headers.clone() } else { root.headers.clone() },
    })
}

fn joined(root: &Arc<str>, leaf: &Arc<str>) -> Arc<str> {
    match (root.is_empty(), leaf.is_empty()) {
        (true, _) => leaf.clone(),
        (_, true) => root.clone(),
        _ => format!("{root}-{leaf}").into(),
    }
}

/// The conditions that meet one of the root's and one of the leaf's; `None` where one of the leaf's fits none.
fn conditions(root: &[HttpMatch], leaf: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    if root.is_empty() || leaf.is_empty() {
        return Some(if root.is_empty() { leaf.to_vec() } else { root.to_vec() });
    }
    let mut all = Vec::new();
    for leaf in leaf {
        let before = all.len();
        all.extend(root.iter().filter(|root| fits(root, leaf)).map(|root| both(root, leaf)));
        if all.len() == before {
            return None;
        }
    }
    Some(all)
}

/// Whether the leaf's condition can be met where the root's is.
fn fits(root: &HttpMatch, leaf: &HttpMatch) -> bool {
    let comparisons = [
        (&root.uri, &leaf.uri),
        (&root.scheme, &leaf.scheme),
        (&root.method, &leaf.method),
        (&root.authority, &leaf.authority),
    ];
    let named = [
        (&root.headers, &leaf.headers),
        (&root.without_headers, &leaf.without_headers),
        (&root.query_params, &leaf.query_params),
    ];
    let gateways =
        root.gateways.is_empty() || leaf.gateways.is_empty() || leaf.gateways.iter().all(|g| root.gateways.contains(g));
    comparisons.iter().all(|(root, leaf)| within(root.as_ref(), leaf.as_ref()))
        && named.iter().all(|(root, leaf)| named_within(root, leaf))
        && root.ignore_uri_case == leaf.ignore_uri_case
        && (root.port.is_none() || leaf.port.is_none() || root.port == leaf.port)
        && (root.source_namespace.is_empty() || root.source_namespace == leaf.source_namespace)
        && leaf.source_labels.iter().all(|(k, v)| root.source_labels.get(k).is_none_or(|r| r == v))
        && gateways
}

fn named_within(root: &Named, leaf: &Named) -> bool {
    leaf.iter().all(|(name, comparison)| {
        let root = root.iter().find(|(n, _)| n == name).and_then(|(_, c)| c.as_ref());
        within(root, comparison.as_ref())
    })
}

/// Whether what the leaf asks for lies within what the root asks for.
fn within(root: Option<&StringMatch>, leaf: Option<&StringMatch>) -> bool {
    use StringMatch::{Exact, Prefix, Regex, Segments};
    match (root, leaf) {
        (None, _) | (_, None) => true,
        (Some(Exact(root)), Some(Exact(leaf))) => root == leaf,
        (Some(Prefix(root)), Some(Prefix(leaf) | Exact(leaf))) => leaf.starts_with(&**root),
        (Some(Segments(root)), Some(Segments(leaf) | Exact(leaf))) => {
            leaf.strip_prefix(&**root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        }
        (Some(Prefix(root)), Some(Segments(leaf))) => leaf.starts_with(&**root),
        (Some(Exact(_) | Segments(_)), Some(_)) | (Some(Regex(_)), _) | (_, Some(Regex(_))) => false,
    }
}

/// Both conditions in one: the leaf's, with what only the root says.
fn both(root: &HttpMatch, leaf: &HttpMatch) -> HttpMatch {
    let or = |leaf: &Arc<str>, root: &Arc<str>| if leaf.is_empty() { root.clone() } else { leaf.clone() };
    HttpMatch {
        name: joined(&root.name, &leaf.name),
        uri: leaf.uri.clone().or_else(|| root.uri.clone()),
        ignore_uri_case: leaf.ignore_uri_case,
        scheme: leaf.scheme.clone().or_else(|| root.scheme.clone()),
        method: leaf.method.clone().or_else(|| root.method.clone()),
        authority: leaf.authority.clone().or_else(|| root.authority.clone()),
        headers: union(&root.headers, &leaf.headers),
        without_headers: union(&root.without_headers, &leaf.without_headers),
        query_params: union(&root.query_params, &leaf.query_params),
        port: leaf.port.or(root.port),
        source_labels: root.source_labels.with(&leaf.source_labels),
        source_namespace: or(&leaf.source_namespace, &root.source_namespace),
        gateways: if leaf.gateways.is_empty() { root.gateways.clone() } else { leaf.gateways.clone() },
        stat_prefix: or(&leaf.stat_prefix, &root.stat_prefix),
    }
}

fn union(root: &Named, leaf: &Named) -> Named {
    let all: BTreeMap<_, _> = root.iter().chain(leaf).cloned().collect();
    all.into_iter().collect()
}
