//! Whether certificates and keys are what they look like: a proxy refuses what it cannot read, and with it all that is
//! sent beside it.

use rcgen::PublicKeyData as _;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject as _};
use x509_parser::prelude::{CertificateRevocationList, FromDer, Pem, X509Certificate};

/// Why a certificate and a key are of no use together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Unfit {
    /// The key cannot be read.
    Key,
    /// The key is not the certificate's.
    Pair,
}

/// The kind of the first block of a PEM text that cannot be read; `None` where all can. Keys are not looked at.
pub(super) fn broken(pem: &[u8]) -> Option<String> {
    for block in Pem::iter_from_buffer(pem) {
        let Ok(block) = block else { return Some("block".to_owned()) };
        let reads = match block.label.as_str() {
            "CERTIFICATE" | "X509 CERTIFICATE" => whole::<X509Certificate<'_>>(&block.contents),
            "X509 CRL" => whole::<CertificateRevocationList<'_>>(&block.contents),
            _ => true,
        };
        if !reads {
            return Some(block.label);
        }
    }
    None
}

fn whole<'a, T: FromDer<'a, x509_parser::error::X509Error>>(der: &'a [u8]) -> bool {
    T::from_der(der).is_ok_and(|(rest, _)| rest.is_empty())
}

/// Whether a key is that of the first certificate of a chain. Keys of kinds that are not known here are left to the
/// proxy.
pub(super) fn fit(chain: &[u8], key: &[u8]) -> Result<(), Unfit> {
    let leaf = Pem::iter_from_buffer(chain).flatten().find(|block| block.label == "CERTIFICATE");
    let Some(leaf) = leaf else { return Ok(()) };
    let Ok((_, certificate)) = X509Certificate::from_der(&leaf.contents) else { return Ok(()) };
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| Unfit::Key)?;
    match rcgen::KeyPair::try_from(&key) {
        Ok(pair) if pair.der_bytes() == &*certificate.public_key().subject_public_key.data => Ok(()),
        Ok(_) => Err(Unfit::Pair),
        // Every form of key is a sequence (X.680); what is none is no key of any kind.
        Err(_) if key.secret_der().first() == Some(&0x30) => Ok(()),
        Err(_) => Err(Unfit::Key),
    }
}
