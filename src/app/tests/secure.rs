//! The port for callers that prove who they are: what each proof gets, and what it does not.

use crate::{
    app::App,
    ca::{self, Directory, Keeper, KeyKind, PrivateKey},
    config::Discovery,
    id::ResourceType,
    pb::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{
                DiscoveryRequest, DiscoveryResponse,
                aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Ads,
            },
        },
        google::protobuf::Struct,
        istio::v1::auth::{
            IstioCertificateRequest, istio_certificate_service_client::IstioCertificateServiceClient as Certificates,
        },
        string,
    },
    peer::Mint,
};
use clap::Parser as _;
use rcgen::{CertificateParams, SanType};
use std::{fs, future::pending, net::SocketAddr, path::PathBuf, time::Duration};
use tokio::time::timeout;
use tonic::{
    Code, Request, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: Discovery,
}

/// A control plane's directory, and where it serves.
pub(super) struct Plane {
    pub(super) dir: PathBuf,
    secure: SocketAddr,
    plain: SocketAddr,
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Runs a control plane without objects beside a test.
async fn with_plane<F: Future<Output = ()>>(name: &str, test: impl FnOnce(Plane) -> F) {
    with_plane_of(name, "", test).await;
}

/// Runs a control plane of these objects beside a test.
async fn with_plane_of<F: Future<Output = ()>>(name: &str, objects: &str, test: impl FnOnce(Plane) -> F) {
    with_plane_told(name, objects, &[], test).await;
}

/// Runs a control plane of these objects, with these options, beside a test.
pub(super) async fn with_plane_told<F: Future<Output = ()>>(
    name: &str,
    objects: &str,
    options: &[&str],
    test: impl FnOnce(Plane) -> F,
) {
    let dir = std::env::temp_dir().join(format!("mainsheet-secure-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&dir);
    fs::create_dir_all(dir.join("config")).expect("a directory");
    fs::write(dir.join("config/objects.yaml"), objects).expect("a file");
    let (config, ca) = (dir.join("config").display().to_string(), dir.join("ca").display().to_string());
    let words = ["discovery", "--config-dir", &config, "--ca-dir", &ca, "--secure-grpc-addr", "127.0.0.1:0"];
    let more = ["--grpc-addr", "127.0.0.1:0", "--http-addr", "", "--monitoring-addr", ""];
    let line = Line::try_parse_from([&words[..], &more, options].concat()).expect("options");
    let app = App::bind(line.options).await.expect("ports");
    let secure = app.secure_address().expect("a port for TLS");
    let plain = app.addresses()[0].expect("a port without");
    let plane = Plane { dir, secure, plain };
    tokio::select! {
        ended = app.run(async || pending().await) => panic!("{ended:?}"),
        () = test(plane) => {}
    }
}

impl Plane {
    pub(super) fn roots(&self) -> String {
        fs::read_to_string(self.dir.join("ca/root-cert.pem")).expect("the roots")
    }

    pub(super) async fn channel(&self, identity: Option<(&str, &str)>) -> Channel {
        // The authority is made while the ports are there already.
        while !self.dir.join("ca/root-cert.pem").exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(self.roots()))
            .domain_name("istiod.istio-system.svc");
        let tls = match identity {
            Some((chain, key)) => tls.identity(Identity::from_pem(chain, key)),
            None => tls,
        };
        let endpoint = Endpoint::from_shared(format!("https://{}", self.secure)).expect("an address");
        endpoint.tls_config(tls).expect("TLS").connect_lazy()
    }

    /// What signs its tokens.
    pub(super) fn mint(&self) -> Mint {
        Keeper::mint_of(&Directory::new(self.dir.join("ca"))).expect("a mint")
    }

    pub(super) fn token(&self, namespace: &str, account: &str, audience: &str) -> String {
        self.mint().token((namespace, account), audience, ca::now(), 600).expect("a token")
    }

    pub(super) async fn certificate(
        &self,
        token: Option<&str>,
        request: IstioCertificateRequest,
    ) -> Result<Vec<String>, Status> {
        let channel = self.channel(None).await;
        let response = Certificates::new(channel).create_certificate(bearing(token, request)).await?;
        Ok(response.into_inner().cert_chain)
    }
}

pub(super) fn bearing<T>(token: Option<&str>, message: T) -> Request<T> {
    let mut request = Request::new(message);
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().expect("a header");
        request.metadata_mut().insert("authorization", value);
    }
    request
}

pub(super) const CART: &str = "spiffe://cluster.local/ns/shop/sa/cart";

/// A request for an identity, and its key.
pub(super) fn request(uri: &str) -> (IstioCertificateRequest, String) {
    let key = PrivateKey::generate(KeyKind::P256).expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("a URI"))];
    let pair = rcgen::KeyPair::from_pem(key.pem()).expect("the key");
    let csr = params.serialize_request(&pair).expect("a request").pem().expect("PEM");
    (IstioCertificateRequest { csr, validity_duration: 3600, metadata: None }, key.pem().to_owned())
}

#[tokio::test]
async fn whoever_proves_an_identity_gets_a_certificate_of_it_and_nobody_elses() {
    with_plane("certificates", |plane| async move {
        plane.channel(None).await;
        let own = plane.token("shop", "cart", "istio-ca");
        let ask = |uri: &str| request(uri).0;
        let chain = plane.certificate(Some(&own), ask(CART)).await.expect("a certificate");
        assert_eq!((chain.len(), chain.last().expect("roots")), (2, &plane.roots()));

        let forged = format!("{}x", &own[..own.len() - 1]);
        let foreign_audience = plane.token("shop", "cart", "vault");
        let other_key = {
            let mint = crate::peer::Mint::open(&crate::peer::Mint::generate().expect("a key")).expect("the key");
            mint.token(("shop", "cart"), "istio-ca", ca::now(), 600).expect("a token")
        };
        for (what, token) in [
            ("nothing", None),
            ("rubbish", Some("x.y.z")),
            ("a changed signature", Some(&*forged)),
            ("a token for others", Some(&*foreign_audience)),
            ("a token of another key", Some(&*other_key)),
            ("an empty token", Some("")),
        ] {
            let refused = plane.certificate(token, ask(CART)).await.expect_err(what);
            assert_eq!(
                (refused.code(), refused.message()),
                (Code::Unauthenticated, "request authenticate failure"),
                "{what}"
            );
        }
        for uri in [
            "spiffe://cluster.local/ns/shop/sa/payments",
            "spiffe://cluster.local/ns/istio-system/sa/istiod",
            "spiffe://other/ns/shop/sa/cart",
        ] {
            let refused = plane.certificate(Some(&own), ask(uri)).await.expect_err(uri);
            assert_eq!(refused.code(), Code::PermissionDenied, "{uri}");
        }
        for name in ["spiffe://cluster.local/ns/shop/sa/payments", CART, "payments", ""] {
            let fields = [("ImpersonatedIdentity".to_owned(), string(name))];
            let impersonating =
                IstioCertificateRequest { metadata: Some(Struct { fields: fields.into() }), ..ask(CART) };
            let refused = plane.certificate(Some(&own), impersonating).await.expect_err("impersonation");
            assert_eq!(refused.code(), Code::Unauthenticated, "{name}");
        }
        let for_ever = IstioCertificateRequest { validity_duration: 1 << 40, ..ask(CART) };
        let refused = plane.certificate(Some(&own), for_ever).await.expect_err("a time that is too long");
        assert_eq!(refused.code(), Code::InvalidArgument);
    })
    .await;
}

#[tokio::test]
async fn a_certificate_of_the_mesh_proves_its_identity_and_one_of_others_does_not() {
    with_plane("mutual", |plane| async move {
        plane.channel(None).await;
        let token = plane.token("shop", "cart", "istio-ca");
        let (asked, key) = request(CART);
        let chain = plane.certificate(Some(&token), asked).await.expect("a certificate");
        let renew = async |chain: &str, key: &str, uri: &str| {
            let channel = plane.channel(Some((chain, key))).await;
            Certificates::new(channel).create_certificate(request(uri).0).await.map(|_| ())
        };
        renew(&chain[0], &key, CART).await.expect("a certificate for a certificate");
        let other = renew(&chain[0], &key, "spiffe://cluster.local/ns/shop/sa/other").await;
        assert_eq!(other.expect_err("another identity").code(), Code::PermissionDenied);

        // Another authority says the same of another key.
        let files = ca::self_signed("cluster.local", KeyKind::P256, ca::now(), 3600).expect("an authority");
        let foreign = ca::Authority::from_files(&files, ca::now()).expect("an authority");
        let pair = rcgen::KeyPair::generate().expect("a key");
        let names = ca::Names::Workload(CART.parse().expect("an identity"), None);
        let issued = foreign.issue(&pair, &names, ca::now(), 600).expect("a certificate");
        let refused = renew(&issued.chain[0], &pair.serialize_pem(), CART).await;
        assert!(refused.is_err(), "the handshake itself fails");
    })
    .await;
}

#[tokio::test]
async fn a_certificate_that_was_revoked_proves_nothing_any_more_and_proxies_are_told() {
    with_plane("revoked", |plane| async move {
        plane.channel(None).await;
        let token = plane.token("shop", "cart", "istio-ca");
        let certified = async || {
            let (asked, key) = request(CART);
            (plane.certificate(Some(&token), asked).await.expect("a certificate"), key)
        };
        let [(revoked, its_key), (other, other_key)] = [certified().await, certified().await];
        let renew = async |chain: &str, key: &str| {
            let channel = plane.channel(Some((chain, key))).await;
            Certificates::new(channel).create_certificate(request(CART).0).await.map(|_| ())
        };
        renew(&revoked[0], &its_key).await.expect("a certificate for a certificate");
        let data = plane.dir.join("ca/..data");
        let list = revocation(&data, &revoked[0]);
        fs::write(data.join("ca-crl.pem"), &list).expect("a file");
        let begin = std::time::Instant::now();
        while renew(&revoked[0], &its_key).await.is_ok() {
            assert!(begin.elapsed() < Duration::from_secs(20), "it still proves something");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        renew(&other[0], &other_key).await.expect("another certificate of the same workload");
        let served = secrets(plane.channel(None).await, Some(&token), "shop").await.expect("secrets");
        let lists = |resource: &crate::pb::google::protobuf::Any| {
            String::from_utf8_lossy(&resource.value).contains(list.trim())
        };
        assert_eq!(served.resources.iter().filter(|resource| lists(resource)).count(), 1);
    })
    .await;
}

/// What the authority in a directory says when it revokes a certificate.
fn revocation(ca: &std::path::Path, certificate: &str) -> String {
    let [own, key] = ["ca-cert.pem", "ca-key.pem"].map(|name| fs::read_to_string(ca.join(name)).expect(name));
    let issuer = rcgen::Issuer::from_ca_cert_pem(&own, rcgen::KeyPair::from_pem(&key).expect("a key"));
    let (_, pem) = x509_parser::pem::parse_x509_pem(certificate.as_bytes()).expect("PEM");
    let serial = pem.parse_x509().expect("a certificate").raw_serial().to_vec();
    let now = std::time::SystemTime::now();
    let params = rcgen::CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + Duration::from_secs(3600)).into(),
        crl_number: 1u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![rcgen::RevokedCertParams {
            serial_number: serial.into(),
            revocation_time: now.into(),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    params.signed_by(&issuer.expect("an authority")).expect("a list").pem().expect("PEM")
}

/// The first response to a subscription to secrets, or why there is none.
async fn secrets(channel: Channel, token: Option<&str>, namespace: &str) -> Result<DiscoveryResponse, Status> {
    let metadata = [("NAMESPACE", namespace), ("SERVICE_ACCOUNT", "cart"), ("IDENTITY", "ads")];
    let fields = metadata.map(|(k, v)| (k.to_owned(), string(v))).into();
    let id = format!("sidecar~10.0.0.1~cart-1.{namespace}~{namespace}.svc.cluster.local");
    let node = Node { id, metadata: Some(Struct { fields }), ..Default::default() };
    let first = DiscoveryRequest {
        node: Some(node),
        type_url: ResourceType::Secret.type_url().to_owned(),
        resource_names: vec!["default".to_owned(), "ROOTCA".to_owned()],
        ..Default::default()
    };
    let requests = tokio_stream::StreamExt::chain(tokio_stream::iter([first]), tokio_stream::pending());
    let stream = Ads::new(channel).stream_aggregated_resources(bearing(token, requests)).await?;
    let mut stream: Streaming<DiscoveryResponse> = stream.into_inner();
    loop {
        let next = timeout(Duration::from_secs(3), stream.message()).await;
        let response = next.map_err(|_| Status::deadline_exceeded("nothing came"))??;
        match response {
            Some(response) if response.resources.len() == 2 => return Ok(response),
            Some(_) => {}
            None => return Err(Status::aborted("the stream ended")),
        }
    }
}

#[tokio::test]
async fn secrets_are_for_the_proved_identity_over_tls_alone() {
    with_plane("secrets", |plane| async move {
        let secure = plane.channel(None).await;
        let token = plane.token("shop", "cart", "istio-ca");
        let served = secrets(secure.clone(), Some(&token), "shop").await.expect("secrets");
        let text = String::from_utf8_lossy(&served.resources[0].value).into_owned()
            + &String::from_utf8_lossy(&served.resources[1].value);
        assert!(text.contains("BEGIN PRIVATE KEY") && text.contains(&plane.roots()));

        let elsewhere = secrets(secure.clone(), Some(&token), "web").await.expect_err("another namespace");
        assert_eq!(elsewhere.code(), Code::Unauthenticated);
        let other = plane.token("shop", "other", "istio-ca");
        let other = secrets(secure.clone(), Some(&other), "shop").await.expect_err("another account");
        assert_eq!(other.code(), Code::Unauthenticated);
        let nobody = secrets(secure, None, "shop").await.expect_err("nobody");
        assert_eq!(nobody.code(), Code::Unauthenticated);

        let plain = Endpoint::from_shared(format!("http://{}", plane.plain)).expect("an address").connect_lazy();
        let plain = secrets(plain, Some(&token), "shop").await.expect_err("without TLS");
        assert_eq!(plain.code(), Code::DeadlineExceeded, "there are none");
    })
    .await;
}

#[tokio::test]
async fn tls_before_1_2_is_refused() {
    with_plane("versions", |plane| async move {
        plane.channel(None).await;
        let roots = plane.dir.join("ca/root-cert.pem");
        let shakes = async |version: &str| {
            let mut openssl = tokio::process::Command::new("openssl");
            openssl
                .args(["s_client", "-connect", &plane.secure.to_string(), version, "-alpn", "h2", "-CAfile"])
                .arg(&roots);
            openssl.args(["-verify_return_error", "-verify_hostname", "istiod.istio-system.svc"]);
            // What openssl itself no longer offers must not be what is tested.
            openssl.args(["-cipher", "ALL:@SECLEVEL=0"]).stdin(std::process::Stdio::null());
            openssl.output().await.expect("openssl, which must be installed").status.success()
        };
        for (version, right) in [("-tls1", false), ("-tls1_1", false), ("-tls1_2", true), ("-tls1_3", true)] {
            assert_eq!(shakes(version).await, right, "{version}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_authority_is_of_the_trust_domain_that_the_files_name() {
    let settings = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                    data: {mesh: 'trustDomain: east.example'}\n";
    with_plane_of("trust-domain", settings, |plane| async move {
        plane.channel(None).await;
        let (_, pem) = x509_parser::pem::parse_x509_pem(plane.roots().as_bytes()).expect("PEM");
        let root = pem.parse_x509().expect("a certificate");
        let organizations: Vec<_> = root.subject().iter_organization().map(|o| o.as_str()).collect();
        assert_eq!(organizations, [Ok("east.example")]);
    })
    .await;
}
