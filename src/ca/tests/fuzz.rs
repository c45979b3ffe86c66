//! What strangers send and files hold, changed at random: requests for certificates, tokens, keys, certificates and sets
//! of keys. Nothing may stop the process, and what a signature covers may not be changed.
//!
//! `FUZZ_INPUTS` (2,000 where it is not set) of each kind are tried; `FUZZ_SEED` begins elsewhere.

use super::{DAY, cart, issue, request, root};
use crate::{
    ca::{Authority, Csr, Files, KeyKind, Names, PrivateKey, authority, now},
    dice::{Dice, tries},
    peer::{Authenticator, Caller, Evidence, Keys, Mint, Refusal},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};
use std::{process::Command, sync::Arc};
use x509_parser::{
    certification_request::X509CertificationRequest,
    prelude::{FromDer, X509Certificate},
};

/// A value of ASN.1: what holds others, or bytes.
#[derive(Clone, Debug)]
enum Asn {
    Tree(u8, Vec<Asn>),
    Leaf(u8, Vec<u8>),
}

impl Asn {
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&tag, rest) = bytes.split_first()?;
        let (&first, rest) = rest.split_first()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
                (digits.iter().fold(0, |n, digit| n << 8 | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        // What is wrapped in strings is looked into as well: extensions and keys are.
        let inside = match tag {
            0x04 => content,
            0x03 => content.strip_prefix(&[0]).unwrap_or_default(),
            _ if tag & 0x20 != 0 => content,
            _ => return Some((Self::Leaf(tag, content.to_vec()), rest)),
        };
        let whole = tag & 0x20 != 0;
        match Self::all(inside).filter(|all| whole || !all.is_empty()) {
            Some(all) if whole => Some((Self::Tree(tag, all), rest)),
            _ => Some((Self::Leaf(tag, content.to_vec()), rest)),
        }
    }

    fn all(mut bytes: &[u8]) -> Option<Vec<Self>> {
        let mut all = Vec::new();
        while !bytes.is_empty() {
            let (one, rest) = Self::read(bytes)?;
            all.push(one);
            bytes = rest;
        }
        Some(all)
    }

    fn write(&self) -> Vec<u8> {
        match self {
            Self::Tree(tag, all) => authority::der(*tag, &all.iter().flat_map(Self::write).collect::<Vec<_>>()),
            Self::Leaf(tag, content) => authority::der(*tag, content),
        }
    }

    /// Changes one thing somewhere in it.
    fn change(&mut self, dice: &mut Dice) {
        match self {
            Self::Tree(_, all) if !all.is_empty() && dice.below(5) != 0 => {
                let at = dice.below(all.len());
                match dice.below(9) {
                    0 => drop(all.remove(at)),
                    1 => all.push(all[at].clone()),
                    2 => all.swap(0, at),
                    3 => all.insert(at, Self::Leaf(*dice.one_of(&[0x02, 0x05, 0x0c, 0x86, 0xa0]), vec![0])),
                    _ => all[at].change(dice),
                }
            }
            Self::Tree(tag, _) => *tag = *dice.one_of(&[0x30, 0x31, 0xa0, 0xa3, 0x24]),
            Self::Leaf(tag, content) => match dice.below(7) {
                0 => *tag = *dice.one_of(&[0x01, 0x02, 0x03, 0x04, 0x05, 0x06, 0x0c, 0x16, 0x17, 0x18, 0x82, 0x86]),
                1 => content.clear(),
                2 => content.extend(content.clone()),
                3 => content.resize(dice.below(300), *dice.one_of(&[0, 0xff, b'a'])),
                _ if content.is_empty() => content.push(0),
                _ => {
                    let at = dice.below(content.len());
                    content[at] ^= 1 << dice.below(8);
                }
            },
        }
    }
}

/// Something like these bytes: another tree, or the same with a bit that fell over or the end torn off.
fn like(der: &[u8], dice: &mut Dice) -> Vec<u8> {
    if dice.below(4) > 0
        && let Some((mut tree, _)) = Asn::read(der)
    {
        (0..=dice.below(3)).for_each(|_| tree.change(dice));
        return tree.write();
    }
    let mut bytes = der.to_vec();
    match dice.below(4) {
        0 => bytes.truncate(dice.below(der.len())),
        1 => bytes.extend([0; 3]),
        _ => {
            let at = dice.below(bytes.len());
            bytes[at] ^= 1 << dice.below(8);
        }
    }
    bytes
}

fn pem(label: &str, der: &[u8], dice: &mut Dice) -> String {
    let body = STANDARD.encode(der);
    let lines: Vec<&str> = body.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    let text = format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"));
    match dice.below(12) {
        0 => text.replacen("-----", "----", 1),
        1 => format!("{text}{text}"),
        2 => text.replace('\n', "\r\n"),
        3 => format!("# {text}"),
        4 => text.replacen('\n', "\n=\n", 2),
        _ => text,
    }
}

/// The bytes of the first thing in a PEM file.
fn bytes(pem: &str) -> Vec<u8> {
    let body: String =
        pem.lines().skip_while(|l| !l.starts_with("-----BEGIN")).skip(1).take_while(|l| !l.starts_with('-')).collect();
    STANDARD.decode(body).expect("base64")
}

#[test]
fn requests_changed_at_random_are_refused_unless_all_that_is_signed_is_as_it_was() {
    let rsa = Command::new("openssl")
        .args(["req", "-new", "-newkey", "rsa:2048", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=a/O=b"])
        .output()
        .expect("openssl, which must be installed");
    let own = cart().to_string();
    let seeds: Vec<Vec<u8>> = [
        request(KeyKind::P256, &[&own]),
        request(KeyKind::P256, &[]),
        request(KeyKind::P384, &[&own]),
        String::from_utf8(rsa.stdout).expect("PEM"),
    ]
    .iter()
    .map(|pem| bytes(pem))
    .collect();
    let signed = |der: &[u8]| {
        X509CertificationRequest::from_der(der).map(|(_, r)| r.certification_request_info.raw.to_vec()).ok()
    };
    let mut taken = 0;
    tries(1, |dice| {
        let seed = dice.one_of(&seeds);
        let der = like(seed, dice);
        if Csr::check(&pem("CERTIFICATE REQUEST", &der, dice), &cart()).is_ok() {
            assert_eq!(signed(&der), signed(seed), "what is signed was changed");
            taken += 1;
        }
    });
    println!("{taken} were as good as before");
}

/// What tokens and sets of keys may say.
const TEXTS: [&str; 8] = ["", "none", "HS256", "ES384", "a:b", "system:serviceaccount:istio-system:istiod", "\0", "é"];
const NAMES: [&str; 6] = ["crit", "kid", "alg", "aud", "sub", "x"];

fn another(value: &mut Value, dice: &mut Dice) {
    dice.change(value, &NAMES, &TEXTS);
}

#[test]
fn tokens_changed_at_random_prove_nothing_and_signed_ones_only_what_they_say() {
    let mint = Mint::open(&Mint::generate().expect("a key")).expect("the key");
    let issuers = vec![Arc::new(mint.issuer(&["istio-ca".into()]))];
    let all = Authenticator::new(Box::new(|| vec!["cluster.local".into()]), issuers);
    let prove = |token: &str| -> Result<Caller, Refusal> {
        all.authenticate(Evidence { certificate: None, token: Some(token) }, now())
    };
    let good = mint.token_of_pod(("shop", "cart"), "cart-1", "istio-ca", (now(), DAY)).expect("a token");
    assert_eq!(prove(&good).expect("a caller").identity, cart());
    let parts: Vec<&str> = good.split('.').collect();
    let part =
        |text: &str| -> Value { serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64")).expect("JSON") };
    let [header, claims] = [part(parts[0]), part(parts[1])];
    let mut proved = 0;
    tries(1, |dice| {
        let (mut header, mut claims) = (header.clone(), claims.clone());
        (0..=dice.below(2)).for_each(|_| another(if dice.below(3) == 0 { &mut header } else { &mut claims }, dice));
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        // The signature of what was there before is none of what is there now.
        let forged = format!("{}.{}.{}", encode(&header), encode(&claims), parts[2]);
        assert!(forged == good || prove(&forged).is_err(), "{forged}");
        let signed = mint.sign_parts(&header, &claims).expect("a token");
        if let Ok(caller) = prove(&signed) {
            let Caller { identity, .. } = caller;
            let said = format!("system:serviceaccount:{}:{}", identity.namespace, identity.account);
            assert_eq!(claims["sub"], said, "{claims}");
            assert!(claims["aud"] == "istio-ca" || claims["aud"].to_string().contains("\"istio-ca\""), "{claims}");
            assert_eq!(header["alg"], "ES256", "{header}");
            proved += 1;
        }
        let mut torn = good.clone().into_bytes();
        let at = dice.below(torn.len());
        torn[at] = *dice.one_of(b"A.=+/-_ \0z");
        let torn = String::from_utf8_lossy(&torn).into_owned();
        assert!(torn == good || prove(&torn).is_err(), "{torn}");
    });
    println!("{proved} that were signed anew proved what they said");
}

#[test]
fn authorities_changed_at_random_are_refused_unless_they_hold_together() {
    let first = Authority::from_files(&root(KeyKind::P256), now()).expect("an authority");
    let seeds: [Files; 2] =
        [root(KeyKind::P256), first.intermediate("east", KeyKind::P384, now(), DAY).expect("files")];
    let mut taken = 0;
    tries(4, |dice| {
        let mut files = dice.one_of(&seeds).clone();
        let name = dice.one_of(&["ca-cert.pem", "ca-key.pem", "root-cert.pem", "cert-chain.pem"]);
        if files[*name].is_empty() {
            return;
        }
        let label = if *name == "ca-key.pem" { "PRIVATE KEY" } else { "CERTIFICATE" };
        let der = like(&bytes(&files[*name]), dice);
        files.insert((*name).to_owned(), pem(label, &der, dice));
        let _ = PrivateKey::from_pem("a", &files["ca-key.pem"]);
        let Ok(authority) = Authority::from_files(&files, now()) else { return };
        // One that is taken signs what its own certificate verifies.
        let key = PrivateKey::generate(KeyKind::P256).expect("a key");
        let issued = authority.issue(&key.pair, &Names::Workload(cart(), None), now(), DAY).expect("a certificate");
        let (_, by) = X509Certificate::from_der(authority.certificate()).expect("a certificate");
        let own = bytes(&issued.chain[0]);
        let (_, own) = X509Certificate::from_der(&own).expect("a certificate");
        assert!(own.verify_signature(Some(by.public_key())).is_ok());
        taken += 1;
    });
    println!("{taken} held together");
}

#[test]
fn certificates_and_sets_of_keys_changed_at_random_stop_nothing() {
    let leaf = bytes(&issue(&root(KeyKind::P256)).chain[0]);
    let all = Authenticator::new(Box::new(|| vec!["cluster.local".into()]), Vec::new());
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let numbers = URL_SAFE_NO_PAD.encode([3; 32]);
    let set = json!({"keys": [
        {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "a", "n": numbers, "e": "AQAB"},
        {"kty": "EC", "crv": "P-256", "kid": "b", "x": numbers, "y": numbers},
    ]});
    let token =
        format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(r#"{"alg":"RS256"}"#), URL_SAFE_NO_PAD.encode("{}"), numbers);
    tries(1, |dice| {
        let der = like(&leaf, dice);
        // The handshake has checked the signature before; what comes here may say anything all the same.
        if let Ok(caller) = all.authenticate(Evidence { certificate: Some(&der), token: None }, now()) {
            assert_eq!(&*caller.identity.trust_domain, "cluster.local");
        }
        assert!(key.validity("a", &pem("CERTIFICATE", &der, dice)).is_err(), "it is no certificate of the key");
        let mut set = set.clone();
        (0..=dice.below(3)).for_each(|_| another(&mut set, dice));
        if let Ok(keys) = Keys::parse(&set.to_string()) {
            let issuer = Mint::open(&Mint::generate().expect("a key")).expect("the key").issuer(&[]);
            issuer.replace(keys);
            let all = Authenticator::new(Box::new(|| vec!["cluster.local".into()]), vec![Arc::new(issuer)]);
            assert!(all.authenticate(Evidence { certificate: None, token: Some(&token) }, now()).is_err());
        }
    });
}
