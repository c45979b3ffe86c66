//! Tokens that mainsheet signs itself, where no cluster does: each stands for a service account.

use super::{Issuer, Keys};
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;
use std::{fmt, sync::RwLock};

/// Who the tokens say has signed them.
const ISSUER: &str = "mainsheet";

/// Why a key or a token cannot be made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// The key's text is not one.
    #[error("is not a P-256 private key in PKCS#8, base64")]
    Key,
    /// The system gives no randomness, or the library fails.
    #[error("signing failed")]
    Signing,
}

/// Signs tokens.
pub struct Mint {
    key: EcdsaKeyPair,
    id: String,
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mint").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Mint {
    /// A new key, as text to be kept.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn generate() -> Result<String, TokenError> {
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new());
        Ok(URL_SAFE_NO_PAD.encode(key.map_err(|_| TokenError::Signing)?.as_ref()))
    }

    /// The mint whose key was kept as this text.
    ///
    /// # Errors
    ///
    /// When the text is not a key.
    pub fn open(text: &str) -> Result<Self, TokenError> {
        let der = URL_SAFE_NO_PAD.decode(text.trim()).map_err(|_| TokenError::Key)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &der).map_err(|_| TokenError::Key)?;
        let id = format!("{:016x}", crate::id::fingerprint_bytes(key.public_key().as_ref()));
        Ok(Self { key, id })
    }

    /// What those who check its tokens must know.
    pub fn issuer(&self, audiences: &[String]) -> Issuer {
        Issuer {
            name: ISSUER.to_owned(),
            audiences: audiences.to_vec(),
            keys: RwLock::new(Keys::p256(&self.id, self.key.public_key().as_ref())),
        }
    }

    /// A token for a service account, from `now` for `ttl` seconds.
    ///
    /// # Errors
    ///
    /// When signing fails.
    pub fn token(&self, whose: (&str, &str), audience: &str, now: u64, ttl: u64) -> Result<String, TokenError> {
        self.sign(&claims(whose, audience, now, ttl))
    }

    /// A token of one pod of a service account, from `now` for `ttl` seconds.
    ///
    /// # Errors
    ///
    /// When signing fails.
    pub fn token_of_pod(
        &self,
        whose: (&str, &str),
        pod: &str,
        audience: &str,
        (now, ttl): (u64, u64),
    ) -> Result<String, TokenError> {
        let mut claims = claims(whose, audience, now, ttl);
        claims["kubernetes.io"] = json!({"namespace": whose.0, "pod": {"name": pod}});
        self.sign(&claims)
    }

    fn sign(&self, claims: &serde_json::Value) -> Result<String, TokenError> {
        self.sign_parts(&json!({"alg": "ES256", "typ": "JWT", "kid": self.id}), claims)
    }

    /// A token of any header and claims.
    pub(crate) fn sign_parts(
        &self,
        header: &serde_json::Value,
        claims: &serde_json::Value,
    ) -> Result<String, TokenError> {
        let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), signed.as_bytes()).map_err(|_| TokenError::Signing)?;
        Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref())))
    }
}

fn claims((namespace, account): (&str, &str), audience: &str, now: u64, ttl: u64) -> serde_json::Value {
    json!({
        "iss": ISSUER,
        "sub": format!("system:serviceaccount:{namespace}:{account}"),
        "aud": [audience],
        "iat": now,
        "nbf": now,
        "exp": now.saturating_add(ttl),
    })
}
