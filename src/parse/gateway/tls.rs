//! TLS at the servers of a Gateway.

use super::{Findings, text};
use crate::parse::value::shared;
use crate::{
    api::gateway as api,
    model::{Certificates, ServerTls, ServerTlsMode, TlsVersion},
    problem::FieldPath,
};
use std::sync::Arc;

/// The ciphers that Envoy knows by these names (Istio: `pkg/config/security`, ValidCipherSuites).
const CIPHERS: &[&str] = &[
    "AES128-GCM-SHA256",
    "AES128-SHA",
    "AES256-GCM-SHA384",
    "AES256-SHA",
    "DES-CBC3-SHA",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-PSK-AES128-CBC-SHA",
    "ECDHE-PSK-AES256-CBC-SHA",
    "ECDHE-PSK-CHACHA20-POLY1305",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-SHA",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "PSK-AES128-CBC-SHA",
    "PSK-AES256-CBC-SHA",
];
/// The curves that Envoy knows.
const CURVES: &[&str] = &["X25519", "P-256", "P-384", "P-521", "P-224", "X25519MLKEM768"];

/// Reads TLS at a server that clients speak TLS to.
pub(in crate::parse) fn server_tls(found: &mut Findings<'_>, path: &FieldPath, tls: &api::ServerTls) -> ServerTls {
    let mode = mode(found, &path.field("mode"), &tls.mode).unwrap_or(ServerTlsMode::Passthrough);
    let insecure = tls.insecure_skip_verify.unwrap_or(false);
    check(found, path, tls, mode);
    let crl = if mode == ServerTlsMode::Simple { "" } else { &tls.ca_crl };
    ServerTls {
        mode,
        certificates: certificates(tls, mode),
        authorities: match tls.ca_cert_credential_name.as_str() {
            "" => tls.ca_certificates.as_str().into(),
            name => name.into(),
        },
        crl: crl.into(),
        subject_alt_names: shared(&tls.subject_alt_names),
        spki: hashes(found, &path.field("verifyCertificateSpki"), &tls.verify_certificate_spki, is_base64_digest),
        hashes: hashes(found, &path.field("verifyCertificateHash"), &tls.verify_certificate_hash, is_hex_digest),
        min_version: version(found, &path.field("minProtocolVersion"), &tls.min_protocol_version),
        max_version: version(found, &path.field("maxProtocolVersion"), &tls.max_protocol_version),
        ciphers: known(found, &path.field("cipherSuites"), &tls.cipher_suites, CIPHERS),
        curves: known(found, &path.field("ecdhCurves"), &tls.ecdh_curves, CURVES),
        insecure,
    }
}

/// How TLS is ended; passed through where nothing is said.
pub(super) fn mode(found: &mut Findings<'_>, path: &FieldPath, text: &str) -> Option<ServerTlsMode> {
    Some(match text {
        "" | "PASSTHROUGH" => ServerTlsMode::Passthrough,
        "SIMPLE" => ServerTlsMode::Simple,
        "MUTUAL" => ServerTlsMode::Mutual,
        "AUTO_PASSTHROUGH" => ServerTlsMode::AutoPassthrough,
        "ISTIO_MUTUAL" => ServerTlsMode::IstioMutual,
        "OPTIONAL_MUTUAL" => ServerTlsMode::OptionalMutual,
        other => {
            let known = "PASSTHROUGH, SIMPLE, MUTUAL, OPTIONAL_MUTUAL, ISTIO_MUTUAL or AUTO_PASSTHROUGH";
            found.error(path, format!("`{other}` is not a mode; write {known}"));
            return None;
        }
    })
}

fn certificates(tls: &api::ServerTls, mode: ServerTlsMode) -> Certificates {
    let ends = matches!(mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual);
    let pair = |chain: &String, key: &String| (Arc::from(chain.as_str()), Arc::from(key.as_str()));
    match tls {
        _ if !ends => Certificates::None,
        tls if !tls.credential_names.is_empty() => Certificates::Secrets(shared(&tls.credential_names)),
        tls if !tls.credential_name.is_empty() => Certificates::Secrets(vec![tls.credential_name.as_str().into()]),
        tls if !tls.tls_certificates.is_empty() => {
            let files = tls.tls_certificates.iter();
            Certificates::Files(files.map(|c| pair(&c.server_certificate, &c.private_key)).collect())
        }
        tls => Certificates::Files(vec![pair(&tls.server_certificate, &tls.private_key)]),
    }
}

/// The fields that hold certificates, in the order in which Istio names them, and whether each is set.
fn sources(tls: &api::ServerTls) -> [(&'static str, bool); 6] {
    [
        ("serverCertificate", !tls.server_certificate.is_empty()),
        ("privateKey", !tls.private_key.is_empty()),
        ("caCertificates", !tls.ca_certificates.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
    ]
}

/// What does not fit together.
fn check(found: &mut Findings<'_>, path: &FieldPath, tls: &api::ServerTls, mode: ServerTlsMode) {
    let old = |v: &str| matches!(v, "TLSV1_0" | "TLSV1_1");
    if old(&tls.min_protocol_version) && tls.cipher_suites.is_empty() {
        let message = "needs cipherSuites that the old version knows: the default ones are of TLS 1.2; name them";
        found.warn(&path.field("minProtocolVersion"), message);
    }
    for (i, _) in tls.tls_certificates.iter().enumerate().filter(|(_, c)| !c.ca_certificates.is_empty()) {
        let message = "has no effect, in Istio as here; write tls.caCertificates, which is for all certificates";
        found.warn(&path.field("tlsCertificates").index(i).field("caCertificates"), message);
    }
    let set = sources(tls).into_iter().filter(|(_, set)| *set);
    match mode {
        ServerTlsMode::IstioMutual => {
            for (field, _) in set {
                let message = "has no place in ISTIO_MUTUAL, which uses the mesh's certificates; leave it out";
                found.error(&path.field(field), message);
            }
        }
        ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough => {
            for (field, _) in set.chain([("caCrl", !tls.ca_crl.is_empty())].into_iter().filter(|(_, s)| *s)) {
                found.warn(&path.field(field), "has no effect where TLS is passed through; leave it out");
            }
        }
        ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual => {
            check_sources(found, path, tls, mode);
        }
    }
}

fn check_sources(found: &mut Findings<'_>, path: &FieldPath, tls: &api::ServerTls, mode: ServerTlsMode) {
    let files = !tls.server_certificate.is_empty() && !tls.private_key.is_empty();
    let secrets = [!tls.credential_name.is_empty(), !tls.credential_names.is_empty()];
    let count = [files, secrets[0], secrets[1], !tls.tls_certificates.is_empty()].iter().filter(|s| **s).count();
    if count > 1 {
        let one = "credentialName, credentialNames, tlsCertificates, and serverCertificate with privateKey";
        found.error(path, format!("has certificates from several places; write one of {one}"));
    }
    if !tls.ca_crl.is_empty() && mode == ServerTlsMode::Simple {
        found.error(&path.field("caCrl"), "has no effect in SIMPLE, where no client shows a certificate; leave it out");
    }
    if !tls.ca_crl.is_empty() && secrets[0] {
        found.error(&path.field("caCrl"), "cannot stand beside credentialName; put it into the secret as ca.crl");
    }
    if secrets.contains(&true) {
        return;
    }
    if mode != ServerTlsMode::Simple && tls.ca_certificates.is_empty() {
        let message = "is missing; to check clients, name the file of their authorities, or a credentialName";
        found.error(&path.field("caCertificates"), message);
    }
    if tls.tls_certificates.is_empty() {
        let pair = [("serverCertificate", &tls.server_certificate), ("privateKey", &tls.private_key)];
        missing(found, path, &pair);
        return;
    }
    let at = path.field("tlsCertificates");
    if tls.tls_certificates.len() > 2 {
        found.warn(&at, "has more than two certificates; one for RSA and one for ECDSA are of use");
    }
    for (i, c) in tls.tls_certificates.iter().enumerate() {
        missing(found, &at.index(i), &[("serverCertificate", &c.server_certificate), ("privateKey", &c.private_key)]);
    }
}

fn missing(found: &mut Findings<'_>, path: &FieldPath, files: &[(&str, &String)]) {
    for (field, _) in files.iter().filter(|(_, file)| file.is_empty()) {
        let message = "is missing; to end TLS here, name certificate and key, as files or as a credentialName";
        found.error(&path.field(field), message);
    }
}

fn version(found: &mut Findings<'_>, path: &FieldPath, text: &str) -> TlsVersion {
    match text {
        "" | "TLS_AUTO" => TlsVersion::Auto,
        "TLSV1_0" => TlsVersion::V1_0,
        "TLSV1_1" => TlsVersion::V1_1,
        "TLSV1_2" => TlsVersion::V1_2,
        "TLSV1_3" => TlsVersion::V1_3,
        other => {
            let known = "TLSV1_0, TLSV1_1, TLSV1_2, TLSV1_3 or TLS_AUTO";
            found.error(path, format!("`{other}` is not a version; write {known}"));
            TlsVersion::Auto
        }
    }
}

/// Those of a list that Envoy knows, each once; the others are left out with a word.
fn known(found: &mut Findings<'_>, path: &FieldPath, list: &[String], all: &[&str]) -> Vec<Arc<str>> {
    let mut out: Vec<Arc<str>> = Vec::new();
    for (i, name) in list.iter().enumerate() {
        if !all.contains(&name.as_str()) {
            found.warn(
                &path.index(i),
                format!("`{name}` is not known and is left out; write one of {}", all.join(", ")),
            );
        } else if out.iter().any(|o| **o == **name) {
            found.warn(&path.index(i), format!("`{name}` is there twice; leave one out"));
        } else {
            out.push(name.as_str().into());
        }
    }
    out
}

fn hashes(found: &mut Findings<'_>, path: &FieldPath, list: &[String], good: fn(&str) -> bool) -> Vec<Arc<str>> {
    for (i, hash) in list.iter().enumerate().filter(|(_, h)| !good(h)) {
        found.error(&path.index(i), format!("`{hash}` is not a SHA-256 hash in the form that is asked for here"));
    }
    shared(list)
}

/// A SHA-256 in base64: 44 letters.
fn is_base64_digest(text: &str) -> bool {
    text.len() == 44 && text::base64(text).is_ok_and(|bytes| bytes.len() == 32)
}

/// A SHA-256 in hex, with or without colons.
fn is_hex_digest(text: &str) -> bool {
    match text.contains(':') {
        true => text.len() == 95 && text.split(':').all(|b| b.len() == 2 && b.chars().all(|c| c.is_ascii_hexdigit())),
        false => text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit()),
    }
}
