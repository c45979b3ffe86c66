//! Identities of workloads: `spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT`.

use super::Namespace;
use std::{fmt, str::FromStr, sync::Arc};

/// The identity of a workload.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Spiffe {
    /// Whose identities these are.
    pub trust_domain: Arc<str>,
    /// The workload's namespace.
    pub namespace: Namespace,
    /// The workload's service account.
    pub account: Arc<str>,
}

/// What is not an identity of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write an identity as spiffe://TRUST-DOMAIN/ns/NAMESPACE/sa/SERVICE-ACCOUNT")]
pub struct NotSpiffe;

impl Spiffe {
    /// The identity of these parts.
    ///
    /// # Errors
    ///
    /// When a part is empty or has a character that would make it another identity.
    pub fn new(trust_domain: &str, namespace: &str, account: &str) -> Result<Self, NotSpiffe> {
        let domain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_.".contains(c);
        let name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let is = |text: &str, good: &dyn Fn(char) -> bool| {
            !text.is_empty() && text.len() <= 253 && text.chars().all(good) && !matches!(text, "." | "..")
        };
        match is(trust_domain, &domain) && is(namespace, &name) && is(account, &name) {
            true => {
                Ok(Self { trust_domain: trust_domain.into(), namespace: namespace.into(), account: account.into() })
            }
            false => Err(NotSpiffe),
        }
    }
}

impl FromStr for Spiffe {
    type Err = NotSpiffe;

    fn from_str(text: &str) -> Result<Self, NotSpiffe> {
        let parts: Vec<&str> = text.strip_prefix("spiffe://").ok_or(NotSpiffe)?.split('/').collect();
        match parts[..] {
            [domain, "ns", namespace, "sa", account] => Self::new(domain, namespace, account),
            _ => Err(NotSpiffe),
        }
    }
}

impl fmt::Display for Spiffe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}/ns/{}/sa/{}", self.trust_domain, self.namespace, self.account)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_is_read_as_it_is_written() {
        let text = "spiffe://cluster.local/ns/shop/sa/cart";
        assert_eq!(text.parse::<Spiffe>().expect("an identity").to_string(), text);
    }

    #[test]
    fn what_only_looks_like_an_identity_is_refused() {
        for text in [
            "",
            "spiffe://",
            "spiffe://td/ns/a/sa/",
            "spiffe://td/ns//sa/b",
            "spiffe:///ns/a/sa/b",
            "spiffe://td/ns/a/sa/b/",
            "spiffe://td/ns/a/sa/b/sa/c",
            "spiffe://td/sa/b/ns/a",
            "spiffe://TD/ns/a/sa/b",
            "SPIFFE://td/ns/a/sa/b",
            "spiffe://td:80/ns/a/sa/b",
            "spiffe://u@td/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b?x",
            "spiffe://td/ns/a/sa/%62",
            "spiffe://td/ns/../sa/b",
            "https://td/ns/a/sa/b",
            " spiffe://td/ns/a/sa/b",
            "spiffe://td/ns/a/sa/b\n",
            "spiffe://td/ns/a\0/sa/b",
        ] {
            assert_eq!(text.parse::<Spiffe>(), Err(NotSpiffe), "{text:?}");
        }
    }
}
