//! What the authority signs, and what it does not; `openssl` looks at the certificates.

mod fuzz;

use super::{rotation::Step, *};
use crate::{
    id::Spiffe,
    peer::{Authenticator, Evidence, Proof, Refusal},
};
use rcgen::{CertificateParams, DnType, SanType};
use std::{fs, path::PathBuf, process::Command, sync::Arc};
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, X509Certificate};

const DAY: u64 = 24 * 3600;

/// A directory that goes when the test ends.
struct Dir(PathBuf);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("mainsheet-ca-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&path);
        Self(path)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cart() -> Spiffe {
    "spiffe://cluster.local/ns/shop/sa/cart".parse().expect("an identity")
}

fn root(kind: KeyKind) -> Files {
    self_signed("cluster.local", kind, now(), 3650 * DAY).expect("an authority")
}

/// A request of a new key that asks for these names.
fn request(kind: KeyKind, names: &[&str]) -> String {
    let key = PrivateKey::generate(kind).expect("a key");
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "whatever it says");
    params.subject_alt_names = names.iter().map(|n| SanType::URI((*n).try_into().expect("a URI"))).collect();
    params.serialize_request(&key.pair).expect("a request").pem().expect("PEM")
}

fn issue(files: &Files) -> Issued {
    let authority = Authority::from_files(files, now()).expect("an authority");
    let csr = Csr::check(&request(KeyKind::P256, &[&cart().to_string()]), &cart()).expect("fit");
    authority.issue(&csr, &Names::Workload(cart(), None), now(), DAY).expect("a certificate")
}

/// What `openssl verify` says of a chain against its roots.
fn openssl_verifies(dir: &Dir, issued: &Issued) {
    fs::create_dir_all(&dir.0).expect("a directory");
    let file = |name: &str, text: &str| {
        fs::write(dir.0.join(name), text).expect("a file");
        dir.0.join(name)
    };
    let (leaf, rest) = issued.chain.split_first().expect("a certificate");
    let (leaf, rest) = (file("leaf.pem", leaf), file("rest.pem", &rest.concat()));
    let roots = file("roots.pem", &issued.roots);
    for purpose in ["sslclient", "sslserver"] {
        let mut command = Command::new("openssl");
        command.args(["verify", "-x509_strict", "-purpose", purpose, "-CAfile"]).arg(&roots);
        if fs::metadata(&rest).expect("a file").len() > 0 {
            command.arg("-untrusted").arg(&rest);
        }
        let output = command.arg(&leaf).output().expect("openssl, which must be installed");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn openssl_verifies_what_authorities_of_every_kind_of_key_sign() {
    for (name, kind) in [("p256", KeyKind::P256), ("p384", KeyKind::P384), ("rsa", KeyKind::Rsa2048)] {
        openssl_verifies(&Dir::new(name), &issue(&root(kind)));
    }
}

#[test]
fn openssl_verifies_what_an_intermediate_signs() {
    let authority = Authority::from_files(&root(KeyKind::P256), now()).expect("an authority");
    let files = authority.intermediate("east", KeyKind::P384, now(), DAY).expect("files");
    let issued = issue(&files);
    assert_eq!(issued.chain.len(), 2);
    openssl_verifies(&Dir::new("intermediate"), &issued);
}

#[test]
fn a_certificate_says_who_the_workload_is_and_nothing_of_what_was_asked_for() {
    let issued = issue(&root(KeyKind::P256));
    let der = authority::certificates("leaf", &issued.chain[0]).expect("PEM").remove(0);
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    assert_eq!(certificate.subject().to_string(), "");
    let san = certificate.subject_alternative_name().expect("one").expect("names");
    assert!(san.critical);
    assert_eq!(san.value.general_names, [GeneralName::URI("spiffe://cluster.local/ns/shop/sa/cart")]);
    assert!(!certificate.is_ca());
    let usage = certificate.key_usage().expect("one").expect("usages").value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = certificate.extended_key_usage().expect("one").expect("usages").value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    assert!(certificate.raw_serial().len() >= 16);
    let (from, to) = (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
    assert!((DAY as i64..DAY as i64 + 130).contains(&(to - from)), "{from} {to}");
    let again = issue(&root(KeyKind::P256));
    assert_ne!(again.chain, issued.chain);
    let has = |ext: &x509_parser::extensions::X509Extension<'_>| {
        matches!(ext.parsed_extension(), ParsedExtension::AuthorityKeyIdentifier(_))
    };
    assert!(certificate.extensions().iter().any(has));
}

#[test]
fn no_certificate_outlives_its_authority() {
    let files = self_signed("td", KeyKind::P256, now(), 100).expect("an authority");
    let authority = Authority::from_files(&files, now()).expect("an authority");
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let issued = authority.issue(&key.pair, &Names::Workload(cart(), None), now(), DAY).expect("a certificate");
    assert_eq!(issued.expires, authority.expires());
}

#[test]
fn somebody_elses_identity_is_refused_in_whichever_way_it_is_asked_for() {
    let own = cart().to_string();
    for names in [
        &["spiffe://cluster.local/ns/shop/sa/other"][..],
        &["spiffe://cluster.local/ns/istio-system/sa/cart"],
        &["spiffe://other/ns/shop/sa/cart"],
        &[&own, "spiffe://cluster.local/ns/istio-system/sa/istiod"],
        &["spiffe://cluster.local/ns/shop/sa/cart/"],
        &["SPIFFE://cluster.local/ns/shop/sa/cart"],
    ] {
        assert_eq!(Csr::check(&request(KeyKind::P256, names), &cart()).map(|_| ()), Err(Unfit::Identity), "{names:?}");
    }
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    for name in [
        SanType::DnsName("istiod.istio-system.svc".try_into().expect("a name")),
        SanType::IpAddress([127, 0, 0, 1].into()),
    ] {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![name];
        let pem = params.serialize_request(&key.pair).expect("a request").pem().expect("PEM");
        assert_eq!(Csr::check(&pem, &cart()).map(|_| ()), Err(Unfit::Identity));
    }
    assert!(Csr::check(&request(KeyKind::P384, &[]), &cart()).is_ok(), "who asks for no name gets the own one");
}

#[test]
fn requests_that_are_not_sound_are_refused() {
    let good = request(KeyKind::P256, &[]);
    let body: String = good.lines().filter(|l| !l.starts_with('-')).collect();
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let pem = |der: &[u8]| {
        format!("-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n", STANDARD.encode(der))
    };
    let mut der = STANDARD.decode(body).expect("base64");
    let check = |text: &str| Csr::check(text, &cart()).map(|_| ());
    assert_eq!(check(&pem(&der)), Ok(()));
    for (text, why) in [
        (String::new(), Unfit::Malformed),
        ("-----BEGIN CERTIFICATE REQUEST-----\n".into(), Unfit::Malformed),
        (good.replace("REQUEST", "NOTHING"), Unfit::Malformed),
        (pem(&der[..der.len() - 1]), Unfit::Malformed),
        (pem(&[&der[..], &[0]].concat()), Unfit::Malformed),
        (format!("{good}{}", " ".repeat(17 << 10)), Unfit::TooLarge),
    ] {
        assert_eq!(check(&text), Err(why), "{text}");
    }
    let last = der.len() - 1;
    der[last] ^= 1;
    assert!(matches!(check(&pem(&der)), Err(Unfit::Signature | Unfit::Malformed)));
    // A key of 1024 bits, made with openssl, signed well.
    let weak = Command::new("openssl")
        .args(["req", "-new", "-newkey", "rsa:1024", "-nodes", "-keyout", "/dev/null", "-subj", "/CN=a"])
        .output()
        .expect("openssl, which must be installed");
    assert_eq!(check(&String::from_utf8_lossy(&weak.stdout)), Err(Unfit::Key));
}

#[test]
fn keys_are_read_in_each_form_that_openssl_writes() {
    let run = |args: &[&str]| {
        let output = Command::new("openssl").args(args).output().expect("openssl, which must be installed");
        assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("PEM")
    };
    let sec1 = run(&["ecparam", "-name", "prime256v1", "-genkey"]);
    let p384 = run(&["ecparam", "-name", "secp384r1", "-genkey", "-noout"]);
    let pkcs8 = run(&["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]);
    let pkcs1 = run(&["genrsa", "-traditional", "2048"]);
    assert!(sec1.contains("EC PRIVATE KEY") && pkcs8.contains("BEGIN PRIVATE") && pkcs1.contains("BEGIN RSA PRIVATE"));
    for pem in [sec1, p384, pkcs8, pkcs1] {
        assert!(PrivateKey::from_pem("a", &pem).is_ok(), "{}", pem.lines().next().unwrap_or_default());
    }
    assert!(PrivateKey::from_pem("a", "nothing").is_err());
}

#[test]
fn an_authority_that_does_not_hold_together_is_told_why() {
    let (good, other) = (root(KeyKind::P256), root(KeyKind::P256));
    let with = |name: &str, text: &str| {
        let mut files = good.clone();
        files.insert(name.into(), text.into());
        Authority::from_files(&files, now()).map(|_| ()).map_err(|e| e.to_string())
    };
    let has = |result: Result<(), String>, text: &str| {
        let why = result.expect_err("it is broken");
        assert!(why.contains(text), "{why}");
        assert!(!why.contains("BEGIN"), "{why}");
    };
    has(with("ca-key.pem", &other["ca-key.pem"]), "not the certificate of the private key");
    has(with("root-cert.pem", &other["root-cert.pem"]), "does not lead to one of the roots");
    has(with("ca-cert.pem", "x"), "holds no certificate");
    has(with("ca-key.pem", "x"), "holds no private key");
    let mut files = good.clone();
    files.remove("ca-key.pem");
    assert!(matches!(Authority::from_files(&files, now()), Err(Error::Missing("ca-key.pem"))));
    assert!(Authority::from_files(&good, now() + 3651 * DAY).is_err(), "it has expired");
}

#[test]
fn the_layout_of_a_tls_secret_is_read_too() {
    let authority = Authority::from_files(&root(KeyKind::P256), now()).expect("an authority");
    let files = authority.intermediate("east", KeyKind::P256, now(), DAY).expect("files");
    let names = [("ca-cert.pem", "tls.crt"), ("ca-key.pem", "tls.key"), ("root-cert.pem", "ca.crt")];
    let files: Files = names.iter().map(|(from, to)| ((*to).to_owned(), files[*from].clone())).collect();
    openssl_verifies(&Dir::new("tls-secret"), &issue(&files));
}

#[test]
fn an_authority_is_made_once_and_found_again() {
    let dir = Dir::new("kept");
    let options = || Ok(Options { trust_domain: "td".into(), key: KeyKind::P256, root_ttl: DAY });
    let open = || Keeper::open(Arc::new(Directory::new(&dir.0)), options).expect("an authority");
    let first = open().authority().borrow().roots().to_owned();
    assert_eq!(open().authority().borrow().roots(), first);
    let mode = |path: &str| {
        use std::os::unix::fs::PermissionsExt as _;
        fs::metadata(dir.0.join(path)).expect("a file").permissions().mode() & 0o777
    };
    assert_eq!((mode("ca-key.pem"), mode("")), (0o600, 0o700));
    fs::write(dir.0.join("..data/ca-key.pem"), "").expect("a file");
    assert!(Keeper::open(Arc::new(Directory::new(&dir.0)), options).is_err(), "a broken one is not replaced");
}

#[test]
fn a_save_that_is_cut_short_leaves_what_was_and_the_next_clears_up_after_it() {
    let dir = Dir::new("cut-short");
    let storage = Directory::new(&dir.0);
    let (old, new) = (root(KeyKind::P256), root(KeyKind::P256));
    storage.save(&old).expect("saved");
    let current = fs::read_link(dir.0.join("..data")).expect("a link");
    // As far as it came: a directory with some files, all of them, a link that is not in its place yet.
    for (number, files) in [("7", 1), ("8", new.len())] {
        let left = dir.0.join(format!("..{number}"));
        fs::create_dir_all(&left).expect("a directory");
        for (name, text) in new.iter().take(files) {
            fs::write(left.join(name), text).expect("a file");
        }
        assert_eq!(storage.load().expect("files"), old);
    }
    std::os::unix::fs::symlink("..8", dir.0.join("..8.link")).expect("a link");
    assert_eq!(storage.load().expect("files"), old);
    // The link in its place, and what is there of the old is all that is missing.
    fs::rename(dir.0.join("..8.link"), dir.0.join("..data")).expect("a link");
    assert_eq!(storage.load().expect("files"), new);

    storage.save(&old).expect("saved");
    assert_eq!(storage.load().expect("files"), old);
    let left =
        fs::read_dir(&dir.0).expect("a directory").flatten().map(|e| e.file_name().to_string_lossy().into_owned());
    let left: Vec<String> = left.filter(|name| name.starts_with("..") && name != "..data").collect();
    assert_eq!(left.len(), 1, "{left:?}, once {current:?}");
}

#[test]
fn each_step_of_a_rotation_leaves_all_trusting_what_is_signed() {
    let old = root(KeyKind::P256);
    let issued_before = issue(&old);
    let step = |now| Step { organization: "td", key: KeyKind::P256, root_ttl: 3650 * DAY, overlap: DAY, now };
    let verified = |by: &str, files: &Files, issued: &Issued| {
        openssl_verifies(&Dir::new(by), &Issued { roots: files["root-cert.pem"].clone(), ..issued.clone() });
    };
    let at = now();
    let announced = Rotation::advance(&old, &step(at)).expect("announced");
    assert_eq!(Rotation::of(&announced).phase, Phase::Announced);
    verified("announced", &announced, &issued_before);
    assert!(Rotation::advance(&announced, &step(at + 10)).is_err(), "not all may have learnt of it");

    let switched = Rotation::advance(&announced, &step(at + DAY)).expect("switched");
    let issued_after = issue(&switched);
    for files in [&announced, &switched] {
        verified("old", files, &issued_before);
        verified("new", files, &issued_after);
    }
    assert!(Rotation::advance(&switched, &step(at + DAY + 10)).is_err(), "certificates of the old root are about");

    let settled = Rotation::advance(&switched, &step(at + 2 * DAY)).expect("settled");
    assert_eq!(Rotation::of(&settled), Rotation { phase: Phase::Settled, since: 0 });
    verified("settled", &settled, &issued_after);
    assert!(!settled["root-cert.pem"].contains(&old["root-cert.pem"]));
    assert!(!settled.keys().any(|name| name.contains("next") || name.contains("old")));
}

#[test]
fn certificates_prove_identities_of_the_trust_domain_alone() {
    let authority = Authority::from_files(&root(KeyKind::P256), now()).expect("an authority");
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let der = |names: Names| {
        let issued = authority.issue(&key.pair, &names, now(), DAY).expect("a certificate");
        authority::certificates("leaf", &issued.chain[0]).expect("PEM").remove(0)
    };
    let all = Authenticator::new(Box::new(|| vec!["cluster.local".into()]), Vec::new());
    let prove = |der: &[u8], now| all.authenticate(Evidence { certificate: Some(der), token: None }, now);
    let own = prove(&der(Names::Workload(cart(), None)), now()).expect("a caller");
    assert_eq!((own.identity, own.proof), (cart(), Proof::Certificate));
    let foreign = "spiffe://other/ns/shop/sa/cart".parse().expect("an identity");
    assert_eq!(prove(&der(Names::Workload(foreign, None)), now()), Err(Refusal::TrustDomain));
    assert_eq!(prove(&der(Names::Server(vec!["istiod.istio-system.svc".into()])), now()), Err(Refusal::Certificate));
    assert_eq!(prove(&der(Names::Workload(cart(), None)), now() + 2 * DAY), Err(Refusal::Expired));
    assert_eq!(prove(b"nothing", now()), Err(Refusal::Certificate));
}

#[tokio::test]
async fn overload_is_turned_away_at_once_and_too_long_a_time_is_refused() {
    let dir = Dir::new("overload");
    let options = || Ok(Options { trust_domain: "td".into(), key: KeyKind::P256, root_ttl: DAY });
    let keeper = Keeper::open(Arc::new(Directory::new(&dir.0)), options).expect("an authority");
    let limits = Limits { default_ttl: 60, max_ttl: 3600, workers: 1, queue: 0 };
    let signer = Signer::new(keeper.authority(), limits);
    let csr = request(KeyKind::P256, &[]);
    let check = |csr: String| move || Csr::check(&csr, &cart()).map(|csr| (csr, Names::Workload(cart(), None)));
    assert_eq!(signer.sign(check(csr.clone()), 0, now()).await, Err(Refused::Busy));
    assert_eq!(signer.metrics().overloads(), 1);
    let signer = Signer::new(keeper.authority(), Limits { queue: 1, ..limits });
    assert_eq!(signer.sign(check(csr.clone()), 3601, now()).await, Err(Refused::Ttl(3600)));
    let at = now();
    assert_eq!(signer.sign(check(csr), 0, at).await.expect("a certificate").expires, at + 60);
    assert_eq!(signer.sign(check("x".into()), 0, at).await, Err(Refused::Unfit(Unfit::Malformed)));
    assert_eq!((signer.metrics().issued(), signer.metrics().requests()), (1, 3));
}

#[test]
fn keys_print_nothing_of_themselves() {
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let svid = Svid { chain: "chain".into(), key: key.pem().into(), roots: "roots".into(), crls: String::new() };
    assert_eq!((format!("{key:?}"), format!("{svid:?}")), ("PrivateKey".into(), "Svid".into()));
}

#[test]
fn the_control_plane_has_the_names_that_agents_ask_for() {
    let names = serving::dns_names("istio-system", "canary", &["mesh.example".into(), String::new()]);
    assert_eq!(
        names,
        [
            "istio-pilot.istio-system.svc",
            "istiod-canary.istio-system.svc",
            "istiod-remote.istio-system.svc",
            "istiod.istio-system.svc",
            "mesh.example"
        ]
    );
    assert_eq!(serving::dns_names("m", "default", &[]).len(), 3);
}
