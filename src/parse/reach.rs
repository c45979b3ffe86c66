//! The proxies that a policy is for: `selector`, `targetRef`, `targetRefs`.
//!
//! What is wrong here widens the reach, so that a workload never loses a policy by a slip of the pen.

use super::{raw::typed, value::Findings};
use crate::{
    api::{authorization_policy::TargetRef, destination_rule::LabelSelector},
    model::{Labels, Reach},
    problem::FieldPath,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::sync::Arc;

/// The kinds that a policy may be for, with their groups.
const TARGETS: [(&str, &str); 4] = [
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

/// A part of an object that is read by itself; `Err` where it is not what belongs there.
pub(super) fn part<T: DeserializeOwned>(
    found: &mut Findings<'_>,
    path: &FieldPath,
    raw: Option<&Value>,
) -> Result<Option<T>, ()> {
    let Some(raw) = raw.filter(|v| !v.is_null()) else { return Ok(None) };
    let (value, problems) = typed(found.object(), path, raw);
    found.extend(problems);
    value.ok_or(()).map(Some)
}

/// Reads the proxies that a policy is for.
pub(super) fn reach(
    found: &mut Findings<'_>,
    path: &FieldPath,
    selector: Option<&Value>,
    targets: [Option<&Value>; 2],
) -> Reach {
    let at = path.field("selector");
    let chosen = part::<LabelSelector>(found, &at, selector).unwrap_or_default();
    let labels = chosen.as_ref().map(|s| labels(found, &at.field("matchLabels"), s)).unwrap_or_default();
    let mut refs: Vec<(FieldPath, TargetRef)> = Vec::new();
    let at = path.field("targetRef");
    let one = part::<TargetRef>(found, &at, targets[0]).unwrap_or_default();
    refs.extend(one.map(|target| (at, target)));
    let at = path.field("targetRefs");
    let many = part::<Vec<TargetRef>>(found, &at, targets[1]).unwrap_or_default().unwrap_or_default();
    let given = [chosen.is_some(), !refs.is_empty(), !many.is_empty()].into_iter().filter(|given| *given).count();
    if given > 1 {
        found.error(path, "has several of selector, targetRef and targetRefs; write one of them");
    }
    refs.extend(many.into_iter().enumerate().map(|(i, target)| (at.index(i), target)));
    if refs.is_empty() {
        return Reach { selector: labels, gateways: None };
    }
    let gateways: Vec<Arc<str>> = refs.iter().filter_map(|(at, target)| gateway(found, at, target)).collect();
    match chosen.is_some() {
        true => Reach { selector: labels, gateways: None },
        false => Reach { selector: Labels::new(), gateways: Some(gateways) },
    }
}

/// The labels of the workloads that a policy is for.
pub(super) fn selected(found: &mut Findings<'_>, path: &FieldPath, selector: &LabelSelector) -> Labels {
    if selector.match_labels.is_empty() {
        found.warn(path, "is empty, so the policy is for the whole namespace; name a label or leave the selector out");
    }
    found.labels(path, &selector.match_labels)
}

/// The same; what cannot be a label is not asked for.
fn labels(found: &mut Findings<'_>, path: &FieldPath, selector: &LabelSelector) -> Labels {
    let labels = selected(found, path, selector);
    let can_be = |(key, value): &(&Arc<str>, &Arc<str>)| !key.is_empty() && !key.contains('*') && !value.contains('*');
    labels.iter().filter(can_be).map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// The gateway that a target is.
fn gateway(found: &mut Findings<'_>, path: &FieldPath, target: &TargetRef) -> Option<Arc<str>> {
    let group = if target.group == "core" { "" } else { &target.group };
    if target.name.is_empty() {
        found.error(&path.field("name"), "is missing; write the name of the object that the policy is for");
    }
    if !target.namespace.is_empty() {
        let message = "must not be set: a policy is for objects of its own namespace; put the policy there";
        found.error(&path.field("namespace"), message);
    }
    if !TARGETS.contains(&(group, &target.kind)) {
        let message = format!(
            "a policy cannot be for {} of `{}`; write Gateway of gateway.networking.k8s.io, or use a selector",
            if target.kind.is_empty() { "no kind" } else { &target.kind },
            target.group
        );
        found.error(&path.field("kind"), message);
        return None;
    }
    if target.kind != "Gateway" {
        let message = format!("{} is for waypoints, which are not served, so the policy has no effect", target.kind);
        found.warn(&path.field("kind"), message);
        return None;
    }
    Some(target.name.as_str().into())
}
