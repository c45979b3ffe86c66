//! Secrets: certificates with their keys, and authorities. A key never shows.

use crate::id::{Namespace, ObjectRef};
use std::{fmt, sync::Arc};

/// A Secret, as far as proxies use it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Secret {
    /// The object.
    pub source: ObjectRef,
    /// A certificate and its key (`tls.crt` and `tls.key`, or `cert` and `key`).
    pub certificate: Option<KeyPair>,
    /// Authorities (`ca.crt` or `cacert`); empty for none.
    pub authorities: Arc<[u8]>,
    /// What the authorities have taken back (`ca.crl` or `crl`); empty for none.
    pub crl: Arc<[u8]>,
}

impl Secret {
    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.source.namespace
    }
}

/// A certificate and its key.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KeyPair {
    /// The certificate and those between it and its authority.
    pub chain: Arc<[u8]>,
    /// The key.
    pub key: PrivateKey,
    /// What the authority last said of the certificate (`tls.ocsp-staple`); empty for nothing.
    pub staple: Arc<[u8]>,
}

/// A private key, which nothing prints.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PrivateKey(Arc<[u8]>);

impl PrivateKey {
    /// The key of these bytes.
    pub fn new(bytes: impl Into<Arc<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The key itself, for the proxy that may have it.
    pub fn reveal(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_does_not_show() {
        let pair = KeyPair { chain: Arc::from(*b"chain"), key: PrivateKey::new(*b"hush"), staple: Arc::default() };
        let text = format!("{pair:?} {pair:#?}");
        assert!(text.contains("[redacted]") && !text.contains("hush") && !text.contains("104, 117"), "{text}");
        assert_eq!(pair.key.reveal(), b"hush");
    }
}
