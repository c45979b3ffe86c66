//! Trust domains that count as one: an identity of one of them is the same in each.

use std::sync::Arc;

/// Stands for the mesh's own trust domain, whatever it is.
const OWN: &str = "cluster.local";

/// The principals that one stands for: that in each of the mesh's trust domains where it names one of them.
pub(super) fn of_principal(principal: &Arc<str>, domains: &[Arc<str>]) -> Vec<Arc<str>> {
    let same = || vec![principal.clone()];
    let Some((named, rest)) = principal.split_once('/') else { return same() };
    if named == "*" || !(named == OWN || domains.iter().any(|domain| covers(named, domain))) {
        return same();
    }
    let mut all: Vec<Arc<str>> = Vec::with_capacity(domains.len());
    for domain in domains {
        let own: Arc<str> = match named.starts_with('*') && covers(named, domain) {
            true => principal.clone(),
            false => format!("{domain}/{rest}").into(),
        };
        if !all.contains(&own) {
            all.push(own);
        }
    }
    all
}

/// The trust domains that one stands for: all of the mesh's where it is one of them.
pub(super) fn expanded(named: &Arc<str>, domains: &[Arc<str>]) -> Vec<Arc<str>> {
    if domains.contains(named) { domains.to_vec() } else { vec![named.clone()] }
}

/// Whether a name, which may start with `*`, is that of a trust domain.
fn covers(named: &str, domain: &str) -> bool {
    named.strip_prefix('*').map_or(named == domain, |end| domain.ends_with(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domains() -> Vec<Arc<str>> {
        vec!["new-td".into(), "old-td".into()]
    }

    fn of(principal: &str) -> Vec<String> {
        of_principal(&principal.into(), &domains()).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_identity_is_the_same_in_each_trust_domain_of_the_mesh() {
        assert_eq!(of("old-td/ns/a/sa/b"), ["new-td/ns/a/sa/b", "old-td/ns/a/sa/b"]);
        assert_eq!(of("cluster.local/ns/a/*"), ["new-td/ns/a/*", "old-td/ns/a/*"]);
        assert_eq!(of("*-td/ns/a/sa/b"), ["*-td/ns/a/sa/b"]);
        assert_eq!(of("*old-td/ns/a/sa/b"), ["new-td/ns/a/sa/b", "*old-td/ns/a/sa/b"]);
    }

    #[test]
    fn others_stay_what_they_are() {
        for principal in ["stranger/ns/a/sa/b", "*/ns/a/sa/b", "*", "x"] {
            assert_eq!(of(principal), [principal]);
        }
        assert_eq!(expanded(&"stranger".into(), &domains()), ["stranger".into()]);
        assert_eq!(expanded(&"old-td".into(), &domains()), domains());
    }
}
