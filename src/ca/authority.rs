//! What signs: a certificate that may, its key, what leads from it to the roots, and the roots that all trust.

use super::{
    Error, Files,
    key::{KeyKind, PrivateKey},
};
use crate::id::Spiffe;
use aws_lc_rs::rand;
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem::PemObject};
use std::{fmt, time::Duration};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

/// How long before it is made a certificate is valid already, in seconds, for clocks that are behind.
pub(super) const SKEW: u64 = 120;
/// The file of what was revoked.
const CRLS: &str = "ca-crl.pem";
/// `subjectAltName`.
const SAN: &[u64] = &[2, 5, 29, 17];

/// What signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// The certificates from the signing one up to below the root, as PEM.
    chain: Vec<String>,
    /// The signing certificate.
    certificate: CertificateDer<'static>,
    roots: String,
    /// What was revoked, as PEM.
    crls: String,
    /// Until when the signing certificate is valid, in seconds since 1970.
    expires: u64,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("chain", &self.chain.len()).field("expires", &self.expires).finish()
    }
}

/// Whom a certificate is for.
#[derive(Clone, Debug)]
pub enum Names {
    /// A workload. What telemetry calls it is in the subject, where it is given: `WORKLOAD/APP/VERSION/CLUSTER`.
    Workload(Spiffe, Option<String>),
    /// A server of these DNS names.
    Server(Vec<String>),
}

/// A certificate that was made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Issued {
    /// The certificate, and those that lead from it to the roots, each as PEM.
    pub chain: Vec<String>,
    /// The roots, as PEM.
    pub roots: String,
    /// What was revoked, as PEM.
    pub crls: String,
    /// Until when it is valid, in seconds since 1970.
    pub expires: u64,
}

impl Authority {
    /// The authority that files hold, checked: the key is the certificate's, which may sign, holds at `now`, and is one
    /// of the roots or leads to one.
    ///
    /// # Errors
    ///
    /// What is missing or wrong.
    pub fn from_files(files: &Files, now: u64) -> Result<Self, Error> {
        let layout = ["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"];
        let [certificate, key, roots, chain] = match files.contains_key("tls.crt") && !files.contains_key("ca-cert.pem")
        {
            true => ["tls.crt", "tls.key", "ca.crt", "tls.crt"],
            false => layout,
        };
        let text = |name: &'static str| files.get(name).map(String::as_str).ok_or(Error::Missing(name));
        let all = certificates(certificate, text(certificate)?)?;
        let own = all.first().cloned().ok_or(Error::Unusable(certificate, "holds no certificate"))?;
        let pair = PrivateKey::from_pem(key, text(key)?)?.pair;
        let trusted = certificates(roots, text(roots)?)?;
        let further = files.get(chain).map_or(Ok(Vec::new()), |t| certificates(chain, t))?;
        let expires = check(certificate, &own, &pair, now)?;
        let path = path(&own, &further, &trusted).ok_or(Error::Unusable(chain, "does not lead to one of the roots"))?;
        Ok(Self {
            issuer: Issuer::from_ca_cert_der(&own, pair)?,
            chain: path.iter().map(|der| pem(der)).collect(),
            certificate: own,
            roots: trusted.iter().map(|der| pem(der)).collect(),
            crls: files.get(CRLS).map_or(Ok(String::new()), |text| lists(text).map(|_| text.clone()))?,
            expires,
        })
    }

    /// The roots, as PEM.
    pub fn roots(&self) -> &str {
        &self.roots
    }

    /// The roots.
    ///
    /// # Errors
    ///
    /// Never: they have been read before.
    pub fn trusted(&self) -> Result<Vec<CertificateDer<'static>>, Error> {
        certificates("root-cert.pem", &self.roots)
    }

    /// What was revoked.
    ///
    /// # Errors
    ///
    /// Never: it has been read before.
    pub fn revoked(&self) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
        lists(&self.crls)
    }

    /// The signing certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Until when it can sign, in seconds since 1970.
    pub fn expires(&self) -> u64 {
        self.expires
    }

    /// A certificate of a key, from `now` for `ttl` seconds, or for as long as the authority's own.
    ///
    /// # Errors
    ///
    /// When the library fails.
    pub fn issue(&self, key: &impl PublicKeyData, names: &Names, now: u64, ttl: u64) -> Result<Issued, Error> {
        let expires = now.saturating_add(ttl).min(self.expires);
        let mut params = params(now, expires)?;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let san = match names {
            Names::Workload(identity, subject) => {
                if let Some(subject) = subject {
                    params.distinguished_name.push(DnType::OrganizationalUnitName, subject.as_str());
                }
                der(0x86, identity.to_string().as_bytes())
            }
            Names::Server(hosts) => hosts.iter().flat_map(|host| der(0x82, host.as_bytes())).collect(),
        };
        let mut san = CustomExtension::from_oid_content(SAN, der(0x30, &san));
        san.set_criticality(true);
        params.custom_extensions = vec![san];
        let certificate = params.signed_by(key, &self.issuer)?;
        let chain = std::iter::once(pem(certificate.der())).chain(self.chain.iter().cloned()).collect();
        Ok(Issued { chain, roots: self.roots.clone(), crls: self.crls.clone(), expires })
    }

    /// An authority below this one, from `now` for `ttl` seconds: the files of it.
    ///
    /// # Errors
    ///
    /// When the library fails.
    pub fn intermediate(&self, name: &str, kind: KeyKind, now: u64, ttl: u64) -> Result<Files, Error> {
        let key = PrivateKey::generate(kind)?;
        let mut params = authority_params(name, now, now.saturating_add(ttl).min(self.expires), Some(0))?;
        params.use_authority_key_identifier_extension = true;
        let own = pem(params.signed_by(&key.pair, &self.issuer)?.der());
        let chain = std::iter::once(&own).chain(&self.chain).map(String::as_str).collect();
        Ok(files(own, key.pem().to_owned(), chain, self.roots.clone()))
    }
}

/// A new authority that is its own root: the files of it.
///
/// # Errors
///
/// When the library fails.
pub fn self_signed(organization: &str, kind: KeyKind, now: u64, ttl: u64) -> Result<Files, Error> {
    let key = PrivateKey::generate(kind)?;
    let params = authority_params(organization, now, now.saturating_add(ttl), None)?;
    let own = pem(params.self_signed(&key.pair)?.der());
    Ok(files(own.clone(), key.pem().to_owned(), String::new(), own))
}

fn files(certificate: String, key: String, chain: String, roots: String) -> Files {
    let entries =
        [("ca-cert.pem", certificate), ("ca-key.pem", key), ("cert-chain.pem", chain), ("root-cert.pem", roots)];
    entries.map(|(name, text)| (name.to_owned(), text)).into()
}

fn params(now: u64, expires: u64) -> Result<CertificateParams, Error> {
    let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    let mut serial = [0u8; 16];
    rand::fill(&mut serial).map_err(|_| Error::Library(rcgen::Error::RingUnspecified))?;
    // Serial numbers are positive.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    let mut params = CertificateParams::default();
    params.not_before = at(now.saturating_sub(SKEW));
    params.not_after = at(expires);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

fn authority_params(name: &str, now: u64, expires: u64, depth: Option<u8>) -> Result<CertificateParams, Error> {
    let mut params = params(now, expires)?;
    params.distinguished_name.push(DnType::OrganizationName, name);
    params.is_ca = IsCa::Ca(depth.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

/// A value of ASN.1 in DER.
pub(super) fn der(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    if length < 0x80 {
        out.push(length as u8);
    } else {
        let bytes: Vec<u8> = length.to_be_bytes().into_iter().skip_while(|b| *b == 0).collect();
        out.push(0x80 | bytes.len() as u8);
        out.extend(bytes);
    }
    out.extend(content);
    out
}

/// The certificates of a PEM file.
pub(super) fn certificates(file: &'static str, pem: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let broken = || Error::Unusable(file, "is not certificates in PEM");
    let all = all.map_err(|_| broken())?;
    match all.iter().all(|der| parsed(der).is_some()) {
        true => Ok(all),
        false => Err(broken()),
    }
}

/// The revocation lists of a PEM file.
///
/// # Errors
///
/// When the text is none, or has something else in it.
pub fn lists(pem: &str) -> Result<Vec<CertificateRevocationListDer<'static>>, Error> {
    let broken = || Error::Unusable(CRLS, "is not revocation lists in PEM");
    let all: Result<Vec<_>, _> = CertificateRevocationListDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|_| broken())?;
    let whole = |der: &[u8]| CertificateRevocationList::from_der(der).is_ok_and(|(rest, _)| rest.is_empty());
    match all.iter().all(|der| whole(der)) && (pem.trim().is_empty() || !all.is_empty()) {
        true => Ok(all),
        false => Err(broken()),
    }
}

fn parsed(der: &[u8]) -> Option<X509Certificate<'_>> {
    X509Certificate::from_der(der).ok().filter(|(rest, _)| rest.is_empty()).map(|(_, certificate)| certificate)
}

/// Whether a certificate may sign with a key at `now`; and until when.
fn check(file: &'static str, der: &[u8], pair: &KeyPair, now: u64) -> Result<u64, Error> {
    let wrong = |why| Err(Error::Unusable(file, why));
    let Some(certificate) = parsed(der) else { return wrong("is not a certificate") };
    if certificate.public_key().subject_public_key.data.as_ref() != pair.public_key_raw() {
        return wrong("is not the certificate of the private key beside it");
    }
    if !certificate.is_ca() || certificate.key_usage().ok().flatten().is_some_and(|u| !u.value.key_cert_sign()) {
        return wrong("is not an authority's: it must be CA:TRUE and may sign certificates");
    }
    let seconds = |at: i64| u64::try_from(at).unwrap_or(0);
    let validity = certificate.validity();
    if seconds(validity.not_before.timestamp()) > now + SKEW {
        return wrong("is not valid yet");
    }
    match seconds(validity.not_after.timestamp()) {
        expires if expires > now => Ok(expires),
        _ => wrong("has expired"),
    }
}

/// The certificates from `own` up to below a root; none where it is a root itself, `None` where no root is reached.
fn path(
    own: &CertificateDer<'static>,
    further: &[CertificateDer<'static>],
    roots: &[CertificateDer<'static>],
) -> Option<Vec<CertificateDer<'static>>> {
    let mut path = Vec::new();
    let mut at = own.clone();
    // Every step takes another certificate.
    for _ in 0..=further.len() + 1 {
        if roots.contains(&at) {
            return Some(path);
        }
        path.push(at.clone());
        if roots.iter().any(|root| signed(&at, root)) {
            return Some(path);
        }
        at = further.iter().find(|c| !path.contains(c) && signed(&at, c))?.clone();
    }
    None
}

/// Whether one certificate is signed by another.
fn signed(der: &[u8], by: &[u8]) -> bool {
    let (Some(certificate), Some(by)) = (parsed(der), parsed(by)) else { return false };
    certificate.issuer() == by.subject() && certificate.verify_signature(Some(by.public_key())).is_ok()
}

/// A certificate as PEM.
pub(super) fn pem(der: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let text = STANDARD.encode(der);
    let lines: String =
        text.as_bytes().chunks(64).flat_map(|l| [String::from_utf8_lossy(l).into_owned(), "\n".to_owned()]).collect();
    format!("-----BEGIN CERTIFICATE-----\n{lines}-----END CERTIFICATE-----\n")
}
