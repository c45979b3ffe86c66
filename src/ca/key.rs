//! Private keys. They print nothing of themselves.

use super::Error;
use crate::id::Spiffe;
use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_RSA_SHA256,
    RsaKeySize, SanType, SignatureAlgorithm, string::Ia5String,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use std::{fmt, ops::Range, str::FromStr};
use x509_parser::prelude::{FromDer as _, X509Certificate};

/// The kinds of keys that are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum KeyKind {
    /// ECDSA on P-256.
    #[default]
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 4096 bits.
    Rsa4096,
}

impl FromStr for KeyKind {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.to_ascii_lowercase().as_str() {
            "p256" | "p-256" => Ok(Self::P256),
            "p384" | "p-384" => Ok(Self::P384),
            "rsa2048" | "rsa-2048" => Ok(Self::Rsa2048),
            "rsa4096" | "rsa-4096" => Ok(Self::Rsa4096),
            _ => Err("write p256, p384, rsa2048 or rsa4096"),
        }
    }
}

/// A private key.
pub struct PrivateKey {
    pub(super) pair: KeyPair,
    pem: String,
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey")
    }
}

impl PrivateKey {
    /// A new key.
    ///
    /// # Errors
    ///
    /// When the system gives no randomness.
    pub fn generate(kind: KeyKind) -> Result<Self, Error> {
        let pair = match kind {
            KeyKind::P256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
            KeyKind::P384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?,
            KeyKind::Rsa2048 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
            KeyKind::Rsa4096 => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
        };
        let pem = pair.serialize_pem();
        Ok(Self { pair, pem })
    }

    /// The key of a PEM file: PKCS#8, PKCS#1 or SEC1.
    ///
    /// # Errors
    ///
    /// When there is none, or it is of a kind that is not taken.
    pub fn from_pem(file: &'static str, pem: &str) -> Result<Self, Error> {
        const KINDS: [&SignatureAlgorithm; 3] = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_RSA_SHA256];
        let unusable = Error::Unusable(file, "holds no private key: write PKCS#8, PKCS#1 or SEC1 in PEM, unencrypted");
        let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| unusable)?;
        let pair = KINDS.iter().find_map(|kind| KeyPair::from_der_and_sign_algo(&der, kind).ok());
        let unknown = Error::Unusable(file, "holds a key that is neither RSA nor ECDSA on P-256 or P-384");
        Ok(Self { pair: pair.ok_or(unknown)?, pem: pem.to_owned() })
    }

    /// A request for a certificate of an identity with this key, as PEM (PKCS#10).
    ///
    /// # Errors
    ///
    /// When the library fails.
    pub fn request(&self, identity: &Spiffe) -> Result<String, Error> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names = vec![SanType::URI(Ia5String::try_from(identity.to_string())?)];
        Ok(params.serialize_request(&self.pair)?.pem()?)
    }

    /// When a certificate, the first of a PEM file, holds, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When it is no certificate, or not this key's.
    pub fn validity(&self, file: &'static str, pem: &str) -> Result<Range<u64>, Error> {
        let broken = || Error::Unusable(file, "holds no certificate in PEM");
        let der = CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|_| broken())?;
        let (_, certificate) = X509Certificate::from_der(&der).map_err(|_| broken())?;
        if certificate.public_key().subject_public_key.data.as_ref() != self.pair.public_key_raw() {
            return Err(Error::Unusable(file, "is not the certificate of the private key beside it"));
        }
        let at = |seconds: i64| u64::try_from(seconds).unwrap_or(0);
        Ok(at(certificate.validity().not_before.timestamp())..at(certificate.validity().not_after.timestamp()))
    }

    /// The key as PEM: for storage, and for nothing that people look at.
    pub fn pem(&self) -> &str {
        &self.pem
    }
}
