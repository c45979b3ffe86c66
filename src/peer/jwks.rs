//! The public keys of those who sign tokens (RFC 7517).

use super::Refusal;
use aws_lc_rs::signature::{self, RsaPublicKeyComponents, UnparsedPublicKey};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Deserialize;

/// How tokens are signed. What is not here is not taken, `none` and shared secrets least of all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Es256,
    Es384,
}

impl Algorithm {
    pub(super) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "ES256" => Self::Es256,
            "ES384" => Self::Es384,
            _ => return None,
        })
    }
}

/// The public keys of one who signs tokens.
#[derive(Clone, Debug, Default)]
pub struct Keys(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    public: Public,
}

#[derive(Clone, Debug)]
enum Public {
    Rsa { n: Vec<u8>, e: Vec<u8> },
    P256(Vec<u8>),
    P384(Vec<u8>),
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    kty: String,
    #[serde(default)]
    kid: Option<String>,
    #[serde(default, rename = "use")]
    used: Option<String>,
    #[serde(default)]
    crv: String,
    #[serde(default)]
    n: String,
    #[serde(default)]
    e: String,
    #[serde(default)]
    x: String,
    #[serde(default)]
    y: String,
}

impl Keys {
    /// The keys of a set as JSON. Entries of other kinds are left out.
    ///
    /// # Errors
    ///
    /// When the text is not a set of keys, or no key in it can be used.
    pub fn parse(json: &str) -> Result<Self, String> {
        let set: Set = serde_json::from_str(json).map_err(|e| format!("is not a set of keys (JWKS): {e}"))?;
        let keys: Vec<Key> = set.keys.iter().filter_map(Entry::key).collect();
        match keys.is_empty() {
            true => Err("has no key for signatures with RSA, P-256 or P-384".into()),
            false => Ok(Self(keys)),
        }
    }

    /// The one key on P-256 whose point is this, uncompressed.
    pub fn p256(id: &str, point: &[u8]) -> Self {
        Self(vec![Key { id: Some(id.to_owned()), public: Public::P256(point.to_vec()) }])
    }

    /// Whether one of the keys made a signature. A token that names its key is checked against that one alone.
    pub(super) fn verify(
        &self,
        algorithm: Algorithm,
        id: Option<&str>,
        signed: &[u8],
        signature: &[u8],
    ) -> Result<(), Refusal> {
        let named = |key: &&Key| match (id, &key.id) {
            (Some(wanted), Some(has)) => wanted == has,
            _ => true,
        };
        let mut refusal = Refusal::Key;
        for key in self.0.iter().filter(named) {
            match key.public.verify(algorithm, signed, signature) {
                Some(true) => return Ok(()),
                Some(false) => refusal = Refusal::Signature,
                None => {}
            }
        }
        Err(refusal)
    }
}

impl Entry {
    fn key(&self) -> Option<Key> {
        let bytes = |text: &str| URL_SAFE_NO_PAD.decode(text).ok().filter(|b| !b.is_empty());
        if self.used.as_deref().is_some_and(|u| u != "sig") {
            return None;
        }
        let point = || Some([&[4][..], &bytes(&self.x)?, &bytes(&self.y)?].concat());
        let public = match (self.kty.as_str(), self.crv.as_str()) {
            ("RSA", _) => Public::Rsa { n: bytes(&self.n)?, e: bytes(&self.e)? },
            ("EC", "P-256") => Public::P256(point()?),
            ("EC", "P-384") => Public::P384(point()?),
            _ => return None,
        };
        Some(Key { id: self.kid.clone(), public })
    }
}

impl Public {
    /// Whether the key made the signature; `None` where it is not one for the algorithm.
    fn verify(&self, algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> Option<bool> {
        let rsa = match algorithm {
            Algorithm::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Es256 | Algorithm::Es384 => None,
        };
        Some(match (self, algorithm) {
            (Self::Rsa { n, e }, _) => RsaPublicKeyComponents { n, e }.verify(rsa?, signed, signature).is_ok(),
            (Self::P256(point), Algorithm::Es256) => {
                UnparsedPublicKey::new(&signature::ECDSA_P256_SHA256_FIXED, point).verify(signed, signature).is_ok()
            }
            (Self::P384(point), Algorithm::Es384) => {
                UnparsedPublicKey::new(&signature::ECDSA_P384_SHA384_FIXED, point).verify(signed, signature).is_ok()
            }
            _ => return None,
        })
    }
}
