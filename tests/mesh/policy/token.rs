//! Tokens that tests sign.

use aws_lc_rs::hmac;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

/// The secret that tokens are signed with.
const SECRET: &[u8] = b"a secret of tests that is long enough";

/// The set of keys that has it.
pub(crate) fn keys() -> String {
    json!({ "keys": [{ "kty": "oct", "alg": "HS256", "kid": "k", "k": URL_SAFE_NO_PAD.encode(SECRET) }] }).to_string()
}

/// A RequestAuthentication with these rules.
pub(crate) fn rules(rules: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: RequestAuthentication\nmetadata: {{name: tokens, namespace: shop}}\n\
         spec:\n  jwtRules:\n{rules}"
    )
}

/// A RequestAuthentication for the tokens of `iss`.
pub(crate) fn authentication(more: &str) -> String {
    rules(&format!("  - issuer: iss\n    jwks: '{}'\n    forwardOriginalToken: true\n{more}", keys()))
}

/// A token: what it says, and how it is signed.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Token {
    pub(crate) header: Value,
    pub(crate) claims: Value,
    /// What it is signed with; empty for not at all.
    pub(crate) secret: Vec<u8>,
}

impl Token {
    /// A good token with these claims beside its issuer.
    pub(crate) fn of(claims: Value) -> Self {
        let mut all = json!({ "iss": "iss", "sub": "alice", "exp": 4_000_000_000_u64 });
        for (key, value) in claims.as_object().into_iter().flatten() {
            all[key] = value.clone();
        }
        Self { header: json!({ "alg": "HS256", "kid": "k" }), claims: all, secret: SECRET.to_vec() }
    }

    /// As it is sent.
    pub(crate) fn sign(&self) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(&self.header), part(&self.claims));
        if self.secret.is_empty() {
            return format!("{signed}.");
        }
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag.as_ref()))
    }
}
