//! Who is at fault for a refused response: Envoy names resources in its words, not in a field.

use super::message::Rejection;
use crate::translate::Resource;
use std::{collections::BTreeSet, sync::Arc};

/// The resources of a refused response that are at fault: those that the client's words name, or the only one,
/// unless the response has others.
pub(super) fn culprits(sent: &[Arc<Resource>], has_others: bool, message: &str) -> Vec<Arc<Resource>> {
    match sent {
        [only] if !has_others => vec![only.clone()],
        many => many.iter().filter(|r| mentions(message, &r.name)).cloned().collect(),
    }
}

/// The refusal as it is shown.
pub(super) fn rejection(nonce: &str, message: &str, culprits: &[Arc<Resource>]) -> Rejection {
    let objects: BTreeSet<_> = culprits.iter().flat_map(|r| r.origins()).collect();
    Rejection {
        nonce: nonce.to_owned(),
        message: message.into(),
        resources: culprits.iter().map(|r| r.name.clone()).collect(),
        objects: objects.into_iter().cloned().collect(),
    }
}

/// Whether a text has a name as a word of its own: `80` is not named by `port 8080` nor by `10.0.0.80:80`.
fn mentions(text: &str, name: &str) -> bool {
    let part = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '|' | '*' | '/');
    text.match_indices(name).any(|(at, _)| {
        let before = text[..at].chars().next_back();
        let mut after = text[at + name.len()..].chars();
        let next = after.next();
        // A dot or colon goes on a name only where more of it follows: it may as well end the sentence.
        let goes_on = matches!(next, Some('.' | ':')) && after.next().is_some_and(part);
        !name.is_empty()
            && !before.is_some_and(|c| part(c) || matches!(c, '.' | ':'))
            && !next.is_some_and(part)
            && !goes_on
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_word_of_its_own() {
        assert!(mentions("Only unique values for domains are permitted in route 80", "80"));
        assert!(mentions("Duplicate entry in route 80.", "80"));
        assert!(mentions(
            "Error adding/updating cluster(s) outbound|80||a: bad, outbound|80||b: bad",
            "outbound|80||b"
        ));
        assert!(!mentions("cannot bind '10.0.0.80:80': in use", "80"));
        assert!(!mentions("port 8080", "80"));
        assert!(!mentions("cluster outbound|80||a.b: bad", "outbound|80||a"));
    }
}
