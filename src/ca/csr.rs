//! Requests for certificates (PKCS#10). Of one only the key is taken; what it asks for must be what its caller proved.

use super::PrivateKey;
use crate::id::Spiffe;
use rcgen::{PublicKeyData, SignatureAlgorithm, SubjectPublicKeyInfo};
use rustls::pki_types::{CertificateSigningRequestDer, pem::PemObject};
use std::fmt;
use x509_parser::{
    certification_request::X509CertificationRequest,
    cri_attributes::ParsedCriAttribute,
    oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME,
    prelude::{FromDer, GeneralName, ParsedExtension},
    public_key::PublicKey,
};

/// The largest request, in bytes of PEM.
const MAX: usize = 16 << 10;
/// The fewest and the most bits of an RSA key.
const RSA: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Why a request is not fit to be signed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Unfit {
    /// It is too large.
    TooLarge,
    /// It is not a request.
    Malformed,
    /// Whoever made it has not the key.
    Signature,
    /// The key is weak or of a kind that is not taken.
    Key,
    /// It asks for another identity than its caller's.
    Identity,
}

impl Unfit {
    /// All of them.
    pub const ALL: [Unfit; 5] = [Self::TooLarge, Self::Malformed, Self::Signature, Self::Key, Self::Identity];

    /// The word for it in metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::Malformed => "malformed",
            Self::Signature => "signature",
            Self::Key => "key",
            Self::Identity => "identity",
        }
    }
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TooLarge => "the request is larger than 16 KiB",
            Self::Malformed => "the request is not one in PEM (PKCS#10)",
            Self::Signature => "the request is not signed with its own key",
            Self::Key => "the key is not RSA of 2048 to 8192 bits or ECDSA on P-256, P-384 or P-521",
            Self::Identity => "the request asks for another identity than the caller has",
        })
    }
}

/// A request that was found fit.
#[derive(Debug)]
pub struct Csr {
    key: SubjectPublicKeyInfo,
}

impl PublicKeyData for Csr {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

impl Csr {
    /// What a key that is made here would ask for.
    ///
    /// # Errors
    ///
    /// When the key is of a kind that is not taken.
    pub(super) fn of(key: &PrivateKey) -> Result<Self, Unfit> {
        let der = key.pair.subject_public_key_info();
        Ok(Self { key: SubjectPublicKeyInfo::from_der(&der).map_err(|_| Unfit::Key)? })
    }

    /// Checks a request of a caller.
    ///
    /// # Errors
    ///
    /// Why it is not fit.
    pub fn check(pem: &str, caller: &Spiffe) -> Result<Self, Unfit> {
        if pem.len() > MAX {
            return Err(Unfit::TooLarge);
        }
        let der = CertificateSigningRequestDer::from_pem_slice(pem.as_bytes()).map_err(|_| Unfit::Malformed)?;
        let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| Unfit::Malformed)?;
        if !rest.is_empty() {
            return Err(Unfit::Malformed);
        }
        let key = &request.certification_request_info.subject_pki;
        let strong = match key.parsed() {
            Ok(PublicKey::RSA(rsa)) => RSA.contains(&rsa.key_size()),
            Ok(PublicKey::EC(point)) => matches!(point.key_size(), 256 | 384 | 521 | 528),
            _ => false,
        };
        if !strong {
            return Err(Unfit::Key);
        }
        request.verify_signature().map_err(|_| Unfit::Signature)?;
        let own = caller.to_string();
        let is_own = |name: &GeneralName<'_>| matches!(name, GeneralName::URI(uri) if *uri == own);
        for attribute in request.certification_request_info.iter_attributes() {
            let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else { continue };
            for extension in asked.extensions.iter().filter(|e| e.oid == OID_X509_EXT_SUBJECT_ALT_NAME) {
                // Names that cannot be read may be anybody's.
                match extension.parsed_extension() {
                    ParsedExtension::SubjectAlternativeName(names) if names.general_names.iter().all(is_own) => {}
                    _ => return Err(Unfit::Identity),
                }
            }
        }
        Ok(Self { key: SubjectPublicKeyInfo::from_der(key.raw).map_err(|_| Unfit::Key)? })
    }
}
