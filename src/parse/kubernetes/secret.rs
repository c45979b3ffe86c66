//! Secrets: certificates, keys and authorities. No value of one is ever in a problem.

mod x509;

use crate::{
    model::{KeyPair, PrivateKey, Secret},
    parse::{
        Context, Parsed,
        raw::{Meta, meta},
        text::base64,
    },
    problem::{FieldPath, Problem},
};
use serde_json::Value;
use std::sync::Arc;
use x509::Unfit;

/// Kinds that hold no certificate for proxies.
const OTHER_TYPES: &[&str] = &["helm.sh/release.v1", "kubernetes.io/service-account-token"];

/// Reads a Secret. One without a certificate is empty: most are not for proxies.
pub(in crate::parse) fn secret(raw: &Value, _: &Context) -> Parsed<Secret> {
    let mut reader = Reader { raw, meta: meta(raw), problems: Vec::new() };
    let source = reader.meta.object.clone();
    if OTHER_TYPES.contains(&raw["type"].as_str().unwrap_or_default()) {
        let none = Secret { source, certificate: None, authorities: Arc::default(), crl: Arc::default() };
        return (Some(none), Vec::new());
    }
    let secret = Secret {
        source,
        certificate: reader.certificate(),
        authorities: reader.pem(&["cacert", "ca.crt"], "CERTIFICATE").unwrap_or_default(),
        crl: reader.pem(&["crl", "ca.crl"], "X509 CRL").unwrap_or_default(),
    };
    (Some(secret), reader.problems)
}

struct Reader<'a> {
    raw: &'a Value,
    meta: Meta,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    /// A certificate and its key, in Istio's older form or in Kubernetes'.
    fn certificate(&mut self) -> Option<KeyPair> {
        let generic = self.has("cert") && self.has("key");
        let (chain, key) = if generic { ("cert", "key") } else { ("tls.crt", "tls.key") };
        let names = (chain, key);
        let (chain, key) = (self.pem(&[chain], "CERTIFICATE"), self.pem(&[key], "PRIVATE KEY"));
        let staple = self.value("tls.ocsp-staple").map(Arc::from).unwrap_or_default();
        let (chain, key) = (chain?, key?);
        match x509::fit(&chain, &key) {
            Ok(()) => Some(KeyPair { chain, key: PrivateKey::new(key), staple }),
            Err(Unfit::Key) => {
                self.warn(
                    self.field(names.1),
                    names.1,
                    "holds no key that can be read, so no proxy gets it; write PKCS#8",
                );
                None
            }
            Err(Unfit::Pair) => {
                let why =
                    format!("is not the key of the certificate in {}, so no proxy gets either; renew both", names.0);
                self.warn(self.field(names.1), names.1, &why);
                None
            }
        }
    }

    fn has(&self, entry: &str) -> bool {
        ["data", "stringData"].iter().any(|f| self.raw[*f][entry].as_str().is_some_and(|v| !v.is_empty()))
    }

    /// An entry's bytes. What is in `stringData` goes before what is in `data`.
    fn value(&mut self, entry: &str) -> Option<Vec<u8>> {
        if let Some(text) = self.raw["stringData"][entry].as_str() {
            return (!text.is_empty()).then(|| text.as_bytes().to_vec());
        }
        let text = self.raw["data"][entry].as_str().filter(|t| !t.is_empty())?;
        // Kubernetes takes lines in base64, which YAML often has.
        let text: String = text.split_ascii_whitespace().collect();
        match base64(&text) {
            Ok(bytes) => Some(bytes),
            Err(_) => {
                self.warn("data", entry, "is not base64, so no proxy gets it; encode it, or use stringData");
                None
            }
        }
    }

    /// The first of these entries that is there, if it is PEM with something of this kind. Anything else would
    /// be refused by the proxy together with all that is sent beside it.
    fn pem(&mut self, entries: &[&str], kind: &str) -> Option<Arc<[u8]>> {
        let entry = entries.iter().find(|e| self.has(e))?;
        let bytes = self.value(entry)?;
        let why = match is_pem(&bytes, kind) {
            false => format!("is not PEM with a {kind}, so no proxy gets it; write -----BEGIN … in it"),
            true => match x509::broken(&bytes) {
                None => return Some(bytes.into()),
                Some(which) => format!("has a {which} that cannot be read, so no proxy gets it; encode it anew"),
            },
        };
        self.warn(self.field(entry), entry, &why);
        None
    }

    fn field(&self, entry: &str) -> &'static str {
        if self.raw["stringData"][entry].is_string() { "stringData" } else { "data" }
    }

    fn warn(&mut self, field: &str, entry: &str, why: &str) {
        self.problems.push(Problem::warning(&self.meta.object, FieldPath::new(field).key(entry), why));
    }
}

/// Whether a text is PEM that has a block of this kind, and nothing broken.
fn is_pem(bytes: &[u8], kind: &str) -> bool {
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    let (mut open, mut body, mut found): (Option<&str>, String, bool) = (None, String::new(), false);
    for line in text.lines().map(str::trim) {
        let marked = |start| line.strip_prefix(start).and_then(|l: &str| l.strip_suffix("-----"));
        match (open, marked("-----BEGIN "), marked("-----END ")) {
            (None, Some(label), _) => open = Some(label),
            (Some(label), None, Some(end)) if label == end => {
                // A header, as old forms of encrypted keys have, is not base64: Envoy has no password for it either.
                if !base64(&body).is_ok_and(|b| !b.is_empty()) {
                    return false;
                }
                found |= label.ends_with(kind);
                (open, body) = (None, String::new());
            }
            (Some(_), None, None) => body.push_str(line),
            (None, None, None) => {}
            _ => return false,
        }
    }
    found && open.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const PEM: &str = include_str!("../../../testdata/certs/cert.pem");
    const KEY: &str = include_str!("../../../testdata/certs/key.pem");
    const OTHER: &str = include_str!("../../../testdata/key-forms/rsa-pkcs8.crt");

    fn read(data: Value) -> (Secret, Vec<String>) {
        let raw = json!({"kind": "Secret", "metadata": {"name": "s", "namespace": "n"}, "stringData": data});
        let (secret, problems) = secret(&raw, &Context::default());
        (secret.expect("a secret"), problems.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn both_forms_are_read() {
        for data in [json!({"tls.crt": PEM, "tls.key": KEY}), json!({"cert": PEM, "key": KEY})] {
            let (secret, problems) = read(data);
            let pair = secret.certificate.expect("a certificate");
            assert_eq!((&*pair.chain, pair.key.reveal()), (PEM.as_bytes(), KEY.as_bytes()));
            assert_eq!(problems, [""; 0]);
        }
        let (secret, _) = read(json!({"cacert": PEM}));
        assert_eq!((secret.certificate, &*secret.authorities), (None, PEM.as_bytes()));
    }

    #[test]
    fn what_is_no_key_is_told_without_being_told() {
        let (secret, problems) = read(json!({"tls.crt": PEM, "tls.key": "hush"}));
        assert_eq!(secret.certificate, None);
        assert!(problems[0].contains("tls.key") && !problems[0].contains("hush"), "{problems:?}");
    }

    #[test]
    fn what_only_looks_like_a_certificate_or_key_is_not_served() {
        let block = |kind: &str| format!("-----BEGIN {kind}-----\nAAEC\n-----END {kind}-----\n");
        let (certificate, key) = (block("CERTIFICATE"), block("PRIVATE KEY"));
        for (data, what) in [
            (json!({"tls.crt": certificate, "tls.key": KEY}), "tls.crt"),
            (json!({"tls.crt": PEM.to_owned() + &certificate, "tls.key": KEY}), "tls.crt"),
            (json!({"tls.crt": PEM, "tls.key": key}), "tls.key"),
            (json!({"cacert": certificate}), "cacert"),
            (json!({"cacert": PEM, "crl": block("X509 CRL")}), "crl"),
        ] {
            let (secret, problems) = read(data);
            assert_eq!(secret.certificate, None);
            assert!(problems.len() == 1 && problems[0].contains(what), "{what}: {problems:?}");
        }
    }

    #[test]
    fn a_key_that_is_not_the_certificates_is_told() {
        let (secret, problems) = read(json!({"tls.crt": OTHER, "tls.key": KEY}));
        assert_eq!(secret.certificate, None);
        assert!(problems[0].contains("tls.key") && problems[0].contains("is not the key"), "{problems:?}");
    }

    #[test]
    fn keys_of_every_form_that_openssl_writes_are_read() {
        // The same key of P-256 in the older form, and an RSA key, whose forms differ most.
        for name in ["ec-sec1", "rsa-pkcs1", "rsa-pkcs8"] {
            let file = |what: &str| {
                let path = format!("{}/testdata/key-forms/{name}.{what}", env!("CARGO_MANIFEST_DIR"));
                std::fs::read_to_string(path).expect("a file")
            };
            let (secret, problems) = read(json!({"tls.crt": file("crt"), "tls.key": file("key")}));
            assert!(secret.certificate.is_some() && problems.is_empty(), "{name}: {problems:?}");
        }
    }

    #[test]
    fn other_secrets_are_left_alone() {
        let (secret, problems) = read(json!({"password": "hush"}));
        assert_eq!((secret.certificate, problems), (None, Vec::new()));
    }
}
