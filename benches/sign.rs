//! What a certificate costs beside the signature in it: `cargo bench --bench sign`.
//!
//! One thread signs; the bare operations are those of the same library, in the same run. A certificate is worth its
//! signature where the ratio is near one; a request costs a verification as well, because it is signed itself.

#[path = "mesh/meter.rs"]
#[allow(dead_code, reason = "only the processor's time is of use here")]
mod meter;

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256,
        RsaKeyPair, UnparsedPublicKey,
    },
};
use mainsheet::{
    ca::{Authority, Csr, KeyKind, Names, PrivateKey, now, self_signed},
    id::Spiffe,
};
use meter::cpu_seconds;
use rustls::pki_types::{PrivateKeyDer, pem::PemObject};
use std::hint::black_box;

/// How many seconds of the processor each operation is repeated for; what counts is the fastest of the rounds, which
/// others disturbed least.
const ROUND: f64 = 0.3;
const ROUNDS: usize = 7;
/// Reading the processor's time costs as much as an operation or two.
const BATCH: u32 = 50;
const DAY: u64 = 24 * 3600;

/// How often an operation can be done in a second of the processor.
fn rate(mut operation: impl FnMut()) -> f64 {
    let round = |_| {
        let (begin, mut count) = (cpu_seconds(), 0u32);
        loop {
            (0..BATCH).for_each(|_| operation());
            count += BATCH;
            let took = cpu_seconds() - begin;
            if took >= ROUND {
                return f64::from(count) / took;
            }
        }
    };
    (0..ROUNDS).map(round).fold(0.0, f64::max)
}

/// How often a key signs as many bytes as a certificate has, and its signature is verified.
fn bare(kind: KeyKind, pem: &str) -> (f64, f64) {
    let (message, random) = ([7u8; 400], SystemRandom::new());
    let der = PrivateKeyDer::from_pem_slice(pem.as_bytes()).expect("a key");
    let signs = match kind {
        KeyKind::P256 => {
            let key =
                EcdsaKeyPair::from_private_key_der(&ECDSA_P256_SHA256_ASN1_SIGNING, der.secret_der()).expect("a key");
            rate(|| _ = black_box(key.sign(&random, black_box(&message)).expect("a signature")))
        }
        _ => {
            let key = RsaKeyPair::from_der(der.secret_der()).or_else(|_| RsaKeyPair::from_pkcs8(der.secret_der()));
            let key = key.expect("a key");
            let mut signature = vec![0; key.public_modulus_len()];
            rate(|| key.sign(&RSA_PKCS1_SHA256, &random, black_box(&message), &mut signature).expect("a signature"))
        }
    };
    (signs, verifies(&message))
}

/// How often a signature on P-256 is verified: that of a workload's request.
fn verifies(message: &[u8]) -> f64 {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).expect("a key");
    let signature = key.sign(&SystemRandom::new(), message).expect("a signature");
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.public_key().as_ref());
    rate(|| public.verify(black_box(message), signature.as_ref()).expect("the signature"))
}

fn main() {
    assert!(cpu_seconds() > 0.0, "the kernel tells the processor's time (/proc/thread-self/schedstat)");
    let identity = Spiffe::new("cluster.local", "shop", "cart").expect("an identity");
    let request = PrivateKey::generate(KeyKind::P256).and_then(|key| key.request(&identity)).expect("a request");
    println!("one thread, a second of the processor; the workload's key is on P-256\n");
    println!(
        "{:10} {:>12} {:>14} {:>7} {:>14} {:>17} {:>7}",
        "authority", "signatures", "certificates", "ratio", "verifications", "whole requests", "ratio"
    );
    for (name, kind) in [("P-256", KeyKind::P256), ("RSA 2048", KeyKind::Rsa2048)] {
        let files = self_signed("cluster.local", kind, now(), 3650 * DAY).expect("an authority");
        let authority = Authority::from_files(&files, now()).expect("an authority");
        let (signs, verifies) = bare(kind, &files["ca-key.pem"]);
        let csr = Csr::check(&request, &identity).expect("fit");
        let names = Names::Workload(identity.clone(), Some("cart-v1/cart/v1/Kubernetes".into()));
        let at = now();
        let issues = rate(|| drop(black_box(authority.issue(&csr, &names, at, DAY).expect("a certificate"))));
        let whole = rate(|| {
            let csr = Csr::check(black_box(&request), &identity).expect("fit");
            drop(black_box(authority.issue(&csr, &names, at, DAY).expect("a certificate")));
        });
        // What both signatures of a request take by themselves.
        let bound = 1.0 / (1.0 / signs + 1.0 / verifies);
        println!(
            "{name:10} {signs:>12.0} {issues:>14.0} {:>7.2} {verifies:>14.0} {whole:>17.0} {:>7.2}",
            issues / signs,
            whole / bound
        );
    }
}
