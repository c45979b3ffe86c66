//! On OpenShift each namespace has numbers of users and groups of its own, beyond which its pods may not run (reference:
//! `pkg/kube/inject/openshift.go` of Istio). A sidecar takes the last of each, which applications are not given.

use super::inject::{INIT, PROXY, VALIDATION, container_mut, entries};
use serde_json::Value;
use std::collections::BTreeMap;

const USERS: &str = "openshift.io/sa.scc.uid-range";
const GROUPS: &str = "openshift.io/sa.scc.supplemental-groups";

/// The user and the group of sidecars, where a namespace does not say, or says what nobody can read.
pub(super) const USUAL: (i64, i64) = (1337, 1337);

/// The user and the group of the sidecars of each namespace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Users(BTreeMap<String, (i64, i64)>);

impl Users {
    /// Takes a namespace's annotations; says whether anything is new.
    pub(super) fn insert(&mut self, namespace: &str, annotations: &BTreeMap<String, String>) -> bool {
        let ids = of(annotations);
        self.0.insert(namespace.to_owned(), ids) != Some(ids)
    }

    pub(super) fn remove(&mut self, namespace: &str) {
        self.0.remove(namespace);
    }

    /// The user and the group of the sidecars of a namespace.
    pub(super) fn of(&self, namespace: &str) -> (i64, i64) {
        self.0.get(namespace).copied().unwrap_or(USUAL)
    }
}

fn of(annotations: &BTreeMap<String, String>) -> (i64, i64) {
    let users = annotations.get(USERS);
    let user = users.and_then(|range| last(range));
    // All of the list must be right for its first entry to count.
    let groups = annotations.get(GROUPS).or(users).map(|list| list.split(',').map(last).collect::<Option<Vec<_>>>());
    let group = groups.flatten().and_then(|all| all.first().copied());
    (user.unwrap_or(USUAL.0), group.unwrap_or(USUAL.1))
}

/// The last number of `FIRST/COUNT` or `FIRST-LAST`.
fn last(range: &str) -> Option<i64> {
    let number = |text: &str| {
        let digits = text.trim_start();
        let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
        digits[..end].parse::<u32>().ok()
    };
    match range.split_once('/') {
        Some((first, count)) => Some(number(first)?.checked_add(number(count)?)?.checked_sub(1)?.into()),
        None => {
            let (first, last) = range.split_once('-')?;
            number(first)?;
            Some(number(last)?.into())
        }
    }
}

/// OpenShift gives all containers of a pod the same user before injection sees it. As the sidecar's own that would be nobody's
/// wish, and the application's traffic would pass for the sidecar's.
pub(super) fn forget_user(pod: &mut Value) {
    let user = |container: &Value| container["securityContext"]["runAsUser"].as_i64();
    let mut application = None;
    for container in ["containers", "initContainers"].into_iter().flat_map(|list| entries(&pod["spec"][list])) {
        if ![PROXY, INIT, VALIDATION].iter().any(|name| container["name"] == *name) {
            application = user(container).or(application);
        }
    }
    let Some(proxy) = container_mut(pod, PROXY) else { return };
    if user(proxy).unwrap_or(0) == application.unwrap_or(0)
        && let Some(context) = proxy.get_mut("securityContext").and_then(Value::as_object_mut)
    {
        context.remove("runAsUser");
        context.remove("runAsGroup");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sidecars_take_the_last_number_of_each_range() {
        let ids = |users: &str, groups: &str| {
            let all = [(USERS, users), (GROUPS, groups)].into_iter().filter(|(_, text)| *text != "none");
            of(&all.map(|(name, text)| (name.to_owned(), text.to_owned())).collect())
        };
        for (users, groups, is) in [
            ("none", "none", (1337, 1337)),
            ("1000/10000", "none", (10999, 10999)),
            ("1000620000/10000", "1000620000/10000", (1000629999, 1000629999)),
            ("1-5", "7/3,20-30", (5, 9)),
            ("1-5", "7/3,more", (5, 1337)),
            ("1-5", "", (5, 1337)),
            ("many", "1-5", (1337, 5)),
            ("4294967295/2", "none", (1337, 1337)),
            ("0/0", "none", (1337, 1337)),
            ("5", "none", (1337, 1337)),
        ] {
            assert_eq!(ids(users, groups), is, "{users} {groups}");
        }
    }
}
