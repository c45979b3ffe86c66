//! Certificates as an attacker would have them made, or find them: signed by whom and for whom one likes, with the
//! authority's own key where a test holds that.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams, SanType,
};
use std::{
    fs,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

const HOUR: i64 = 3600;

/// One who signs.
pub(crate) struct Signer {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    /// What leads from it to its root.
    above: String,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Signer")
    }
}

impl Signer {
    /// The authority that a directory holds.
    pub(crate) fn of(dir: &Path) -> Self {
        let [pem, key] = ["ca-cert.pem", "ca-key.pem"].map(|name| fs::read_to_string(dir.join(name)).expect(name));
        let above = fs::read_to_string(dir.join("cert-chain.pem")).unwrap_or_default();
        let key = KeyPair::from_pem(&key).expect("a key");
        Self { issuer: Issuer::from_ca_cert_pem(&pem, key).expect("an authority"), pem, above }
    }

    /// One that nobody knows, of this name.
    pub(crate) fn unknown(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, name);
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem, above: String::new() }
    }

    /// A workload that signs as if its certificate were an authority's.
    pub(crate) fn workload(&self, identity: &str) -> Self {
        let asked = Asked::of(identity);
        let (key, params) = (KeyPair::generate().expect("a key"), asked.params());
        let pem = params.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Self { above: format!("{pem}{}", self.above), issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key as the files `NAME.pem` and `NAME.key`, of which this is the path up to the dot.
    pub(crate) fn sign(&self, asked: &Asked, base: PathBuf) -> Shown {
        let key = KeyPair::generate().expect("a key");
        let pem = asked.params().signed_by(&key, &self.issuer).expect("a certificate").pem();
        Shown::write(base, &format!("{pem}{}", self.above), &key.serialize_pem())
    }

    /// What the authority says when it revokes a certificate.
    pub(crate) fn revoke(&self, shown: &Shown) -> String {
        let chain = fs::read_to_string(shown.chain()).expect("a file");
        let (_, pem) = x509_parser::pem::parse_x509_pem(chain.as_bytes()).expect("PEM");
        let serial = pem.parse_x509().expect("a certificate").raw_serial().to_vec();
        let now = SystemTime::now();
        let revoked = RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now.into(),
            next_update: (now + Duration::from_secs(3600)).into(),
            crl_number: 1u64.into(),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).expect("a list").pem().expect("PEM")
    }

    /// The authority's own certificate, with the key of somebody who has it not.
    pub(crate) fn own(&self, base: PathBuf) -> Shown {
        Shown::write(base, &self.pem, &KeyPair::generate().expect("a key").serialize_pem())
    }
}

/// What a certificate is to say.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    names: Vec<SanType>,
    /// From when it holds and until when, in seconds from now.
    holds: (i64, i64),
    usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Asked {
    /// As the mesh makes it for an identity.
    pub(crate) fn of(identity: &str) -> Self {
        let names = vec![SanType::URI(identity.try_into().expect("ASCII"))];
        let usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        Self { names, holds: (-120, HOUR), usages }
    }

    /// Of a DNS name instead.
    pub(crate) fn dns(name: &str) -> Self {
        Self { names: vec![SanType::DnsName(name.try_into().expect("ASCII"))], ..Self::of("spiffe://x") }
    }

    /// Of nobody.
    pub(crate) fn nobody() -> Self {
        Self { names: Vec::new(), ..Self::of("spiffe://x") }
    }

    /// That ended a while ago.
    pub(crate) fn expired(self) -> Self {
        Self { holds: (-2 * HOUR, -HOUR), ..self }
    }

    /// That begins in a while.
    pub(crate) fn early(self) -> Self {
        Self { holds: (HOUR, 2 * HOUR), ..self }
    }

    /// That is for servers alone.
    pub(crate) fn for_servers(self) -> Self {
        Self { usages: vec![ExtendedKeyUsagePurpose::ServerAuth], ..self }
    }

    /// That is for clients alone.
    pub(crate) fn for_clients(self) -> Self {
        Self { usages: vec![ExtendedKeyUsagePurpose::ClientAuth], ..self }
    }

    fn params(&self) -> CertificateParams {
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        let now = SystemTime::now();
        let at = |seconds: i64| match u64::try_from(seconds) {
            Ok(later) => now + Duration::from_secs(later),
            Err(_) => now - Duration::from_secs(seconds.unsigned_abs()),
        };
        (params.not_before, params.not_after) = (at(self.holds.0).into(), at(self.holds.1).into());
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationalUnitName, "tests");
        params.subject_alt_names.clone_from(&self.names);
        params.extended_key_usages.clone_from(&self.usages);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params
    }
}

/// A certificate and a key as files.
#[derive(Clone, Debug)]
pub(crate) struct Shown {
    /// The path of both, up to the dot.
    pub(crate) base: PathBuf,
}

impl Shown {
    fn write(base: PathBuf, chain: &str, key: &str) -> Self {
        let shown = Self { base };
        fs::write(shown.chain(), chain).expect("a file");
        fs::write(shown.key(), key).expect("a file");
        shown
    }

    /// This certificate with a key that is not its own.
    pub(crate) fn without_its_key(&self) -> Self {
        let chain = fs::read_to_string(self.chain()).expect("a file");
        let base = PathBuf::from(format!("{}-stolen", self.base.display()));
        Self::write(base, &chain, &KeyPair::generate().expect("a key").serialize_pem())
    }

    /// The file of the certificates.
    pub(crate) fn chain(&self) -> String {
        format!("{}.pem", self.base.display())
    }

    /// The file of the key.
    pub(crate) fn key(&self) -> String {
        format!("{}.key", self.base.display())
    }
}
