//! A caller that is `cart` of `shop` asks for somebody else's identity in every way that there is.

use super::secure::{CART, Plane, bearing, request, with_plane_told};
use crate::{
    ca::{self, KeyKind},
    id::ResourceType,
    pb::{
        envoy::{
            config::core::v3::{Node, data_source::Specifier},
            extensions::transport_sockets::tls::v3::{Secret, secret::Type},
            service::discovery::v3::{
                DiscoveryRequest, DiscoveryResponse,
                aggregated_discovery_service_client::AggregatedDiscoveryServiceClient as Ads,
            },
        },
        google::protobuf::Struct,
        istio::v1::auth::IstioCertificateRequest,
        string,
    },
};
use prost::Message as _;
use rcgen::{CertificateParams, CustomExtension, DnType, KeyPair, SanType};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

const PAYMENTS: &str = "spiffe://cluster.local/ns/shop/sa/payments";

/// Two pods on one node and one on another, and a node's own pod beside the two; a key of somebody else's.
const OBJECTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: cart-1, namespace: shop, labels: {app: cart, version: v1}}
spec: {serviceAccountName: cart, nodeName: a, containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: payments-1, namespace: shop}
spec: {serviceAccountName: payments, nodeName: a, containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: far-1, namespace: shop}
spec: {serviceAccountName: far, nodeName: b, containers: []}
---
apiVersion: v1
kind: Pod
metadata: {name: ztunnel-1, namespace: istio-system}
spec: {serviceAccountName: ztunnel, nodeName: a, containers: []}
---
apiVersion: v1
kind: Secret
metadata: {name: web-cert, namespace: web}
type: kubernetes.io/tls
stringData: {tls.crt: CERTIFICATE, tls.key: KEY}
";

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

/// A request for a certificate of these names, with more of this.
fn asking(names: Vec<SanType>, more: impl FnOnce(&mut CertificateParams)) -> IstioCertificateRequest {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.subject_alt_names = names;
    more(&mut params);
    let csr = params.serialize_request(&key).expect("a request").pem().expect("PEM");
    IstioCertificateRequest { csr, validity_duration: 600, metadata: None }
}

/// Whom a certificate is for.
fn names(chain: &[String]) -> (Vec<String>, String) {
    let der = CertificateDer::from_pem_slice(chain[0].as_bytes()).expect("PEM");
    let (_, certificate) = X509Certificate::from_der(&der).expect("a certificate");
    let names = certificate.subject_alternative_name().expect("one").expect("names").value.general_names.clone();
    let text = |name: GeneralName<'_>| match name {
        GeneralName::URI(uri) => uri.to_owned(),
        other => format!("{other:?}"),
    };
    (names.into_iter().map(text).collect(), certificate.subject().to_string())
}

#[tokio::test]
async fn nobody_is_certified_as_somebody_else_in_whichever_way_he_asks() {
    let options = ["--trusted-node-account", "istio-system/ztunnel"];
    with_plane_told("impostor", OBJECTS, &options, |plane| async move {
        plane.channel(None).await;
        let own = plane.token("shop", "cart", "istio-ca");
        let nothing = |_: &mut CertificateParams| {};
        let refused: Vec<(&str, IstioCertificateRequest)> = vec![
            ("another account", asking(vec![uri(PAYMENTS)], nothing)),
            ("the own identity and another", asking(vec![uri(CART), uri(PAYMENTS)], nothing)),
            ("another and the own", asking(vec![uri(PAYMENTS), uri(CART)], nothing)),
            ("the control plane's", asking(vec![uri("spiffe://cluster.local/ns/istio-system/sa/istiod")], nothing)),
            ("another trust domain", asking(vec![uri("spiffe://other.example/ns/shop/sa/cart")], nothing)),
            ("a longer account", asking(vec![uri(&format!("{CART}-2"))], nothing)),
            ("the own identity in another case", asking(vec![uri("spiffe://CLUSTER.LOCAL/ns/shop/sa/cart")], nothing)),
            ("the own identity with a query", asking(vec![uri(&format!("{CART}?x"))], nothing)),
            (
                "a DNS name",
                asking(
                    vec![uri(CART), SanType::DnsName("istiod.istio-system.svc".try_into().expect("ASCII"))],
                    nothing,
                ),
            ),
            ("an address", asking(vec![uri(CART), SanType::IpAddress([10, 0, 0, 1].into())], nothing)),
            (
                "an e-mail address",
                asking(vec![uri(CART), SanType::Rfc822Name("a@b.example".try_into().expect("ASCII"))], nothing),
            ),
            (
                "names that cannot be read",
                asking(Vec::new(), |params| {
                    params.custom_extensions =
                        vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], vec![0x30, 0x03, 0x86])];
                }),
            ),
            (
                "names twice",
                asking(vec![uri(CART)], |params| {
                    let der =
                        [&[0x30, 2 + PAYMENTS.len() as u8, 0x86, PAYMENTS.len() as u8], PAYMENTS.as_bytes()].concat();
                    params.custom_extensions = vec![CustomExtension::from_oid_content(&[2, 5, 29, 17], der)];
                }),
            ),
        ];
        for (what, request) in refused {
            let status = plane.certificate(Some(&own), request).await.expect_err(what);
            assert!(matches!(status.code(), Code::PermissionDenied | Code::InvalidArgument), "{what}: {status:?}");
        }
        // What else a request says counts for nothing.
        let more = asking(Vec::new(), |params| {
            params.distinguished_name.push(DnType::CommonName, PAYMENTS);
            params.distinguished_name.push(DnType::OrganizationalUnitName, "payments/payments/v1/Kubernetes");
        });
        let chain = plane.certificate(Some(&own), more).await.expect("a certificate");
        assert_eq!(names(&chain), (vec![CART.to_owned()], "OU=cart-1/cart/v1/Kubernetes".to_owned()));
        speaks_for_none_but_its_neighbours(&plane).await;
    })
    .await;
}

/// A node's account asks in others' names.
async fn speaks_for_none_but_its_neighbours(plane: &Plane) {
    let of = |namespace: &str, account: &str, pod: &str| {
        plane.mint().token_of_pod((namespace, account), pod, "istio-ca", (ca::now(), 600)).expect("a token")
    };
    let node = of("istio-system", "ztunnel", "ztunnel-1");
    let ask = async |token: &str, other: &str, csr: &str| {
        let fields = [("ImpersonatedIdentity".to_owned(), string(other))];
        let request = IstioCertificateRequest { metadata: Some(Struct { fields: fields.into() }), ..request(csr).0 };
        plane.certificate(Some(token), request).await.map(|chain| names(&chain).0).map_err(|status| status.code())
    };
    assert_eq!(ask(&node, PAYMENTS, PAYMENTS).await, Ok(vec![PAYMENTS.to_owned()]));
    assert_eq!(ask(&node, PAYMENTS, CART).await, Err(Code::PermissionDenied), "the request names another");
    let without_pod = plane.token("istio-system", "ztunnel", "istio-ca");
    let far = "spiffe://cluster.local/ns/shop/sa/far";
    for (what, token, other) in [
        ("somebody on another node", &node, far),
        ("somebody who is nowhere", &node, "spiffe://cluster.local/ns/shop/sa/none"),
        ("the same of another trust domain", &node, "spiffe://other.example/ns/shop/sa/payments"),
        ("no identity", &node, "payments"),
        ("without a proof of the pod", &without_pod, PAYMENTS),
        ("of a pod that is not its own", &of("istio-system", "ztunnel", "payments-1"), PAYMENTS),
        ("of an account that is no node's", &of("shop", "cart", "cart-1"), PAYMENTS),
    ] {
        assert_eq!(ask(token, other, other).await, Err(Code::Unauthenticated), "{what}");
    }
}

/// A stream.
struct Watching {
    requests: mpsc::Sender<DiscoveryRequest>,
    responses: Streaming<DiscoveryResponse>,
}

fn node(id: &str, metadata: &[(&str, &str)]) -> Node {
    let fields: BTreeMap<_, _> = metadata.iter().map(|(k, v)| ((*k).to_owned(), string(*v))).collect();
    Node { id: id.to_owned(), metadata: Some(Struct { fields }), ..Default::default() }
}

fn cart() -> Node {
    let metadata = [("NAMESPACE", "shop"), ("SERVICE_ACCOUNT", "cart"), ("IDENTITY", "ads")];
    node("sidecar~10.0.0.1~cart-1.shop~shop.svc.cluster.local", &metadata)
}

fn asks(node: Option<Node>, names: &[&str]) -> DiscoveryRequest {
    DiscoveryRequest {
        node,
        type_url: ResourceType::Secret.type_url().to_owned(),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        ..Default::default()
    }
}

impl Watching {
    async fn open(plane: &Plane, token: &str, first: DiscoveryRequest) -> Result<Self, Status> {
        let (requests, receiver) = mpsc::channel(8);
        requests.send(first).await.expect("a place");
        let channel = plane.channel(None).await;
        let mut client = Ads::new(channel);
        let stream = client.stream_aggregated_resources(bearing(Some(token), ReceiverStream::new(receiver)));
        Ok(Self { requests, responses: stream.await?.into_inner() })
    }

    /// The secrets that come within a time, by name: whom a certificate is for, or what else there is.
    async fn secrets(&mut self, within: Duration) -> Result<BTreeMap<String, String>, Status> {
        let mut all = BTreeMap::new();
        let begin = Instant::now();
        while let Ok(next) = timeout(within.saturating_sub(begin.elapsed()), self.responses.message()).await {
            let Some(response) = next? else { break };
            for resource in &response.resources {
                let secret = Secret::decode(&*resource.value).expect("a secret");
                let what = match secret.r#type {
                    Some(Type::TlsCertificate(certificate)) => {
                        let chain = certificate.certificate_chain.and_then(|c| c.specifier);
                        let Some(Specifier::InlineBytes(pem)) = chain else { panic!("{}", secret.name) };
                        names(&[String::from_utf8_lossy(&pem).into_owned()]).0.concat()
                    }
                    Some(Type::ValidationContext(_)) => "roots".to_owned(),
                    _ => "else".to_owned(),
                };
                all.insert(secret.name, what);
            }
        }
        Ok(all)
    }
}

#[tokio::test]
async fn nobody_is_served_somebody_elses_secrets_in_whichever_way_he_asks() {
    let key = ca::PrivateKey::generate(KeyKind::P256).expect("a key");
    let objects = OBJECTS.replace("KEY", &format!("{:?}", key.pem())).replace("CERTIFICATE", "x");
    Box::pin(with_plane_told("impostor-secrets", &objects, &[], |plane| async move {
        plane.channel(None).await;
        let token = plane.token("shop", "cart", "istio-ca");
        let of_pod =
            plane.mint().token_of_pod(("shop", "cart"), "cart-2", "istio-ca", (ca::now(), 600)).expect("a token");
        let id =
            |pod: &str, namespace: &str| format!("sidecar~10.0.0.1~{pod}.{namespace}~{namespace}.svc.cluster.local");
        let ads = ("IDENTITY", "ads");
        let (web, payments) = (("NAMESPACE", "web"), ("SERVICE_ACCOUNT", "payments"));
        for (what, token, node) in [
            ("a node of another namespace", &token, node(&id("cart-1", "web"), &[ads])),
            ("a node that says so", &token, node(&id("cart-1", "shop"), &[ads, web])),
            ("another account", &token, node(&id("cart-1", "shop"), &[ads, ("NAMESPACE", "shop"), payments])),
            ("another account of another namespace", &token, node(&id("cart-1", "web"), &[ads, web, payments])),
            ("the control plane", &token, node(&id("istiod", "istio-system"), &[ads, ("NAMESPACE", "istio-system")])),
            ("another pod than the token's", &of_pod, node(&id("cart-1", "shop"), &[ads, ("NAMESPACE", "shop")])),
        ] {
            let opened = Watching::open(&plane, token, asks(Some(node), &["default"])).await;
            let code = match opened {
                Ok(mut stream) => stream.secrets(Duration::from_secs(3)).await.expect_err(what).code(),
                Err(status) => status.code(),
            };
            assert_eq!(code, Code::Unauthenticated, "{what}");
        }

        let others = [
            PAYMENTS,
            CART,
            "payments",
            "default/payments",
            "kubernetes://web-cert",
            "kubernetes://web/web-cert",
            "kubernetes-gateway://web/web-cert",
            "file-cert:/etc/passwd~/etc/shadow",
        ];
        let names: Vec<&str> = others.into_iter().chain(["default", "ROOTCA"]).collect();
        let mut stream = Watching::open(&plane, &token, asks(Some(cart()), &names)).await.expect("a stream");
        let got = stream.secrets(Duration::from_secs(2)).await.expect("secrets");
        let right = [("ROOTCA", "roots"), ("default", CART)];
        assert_eq!(got, right.map(|(name, what)| (name.to_owned(), what.to_owned())).into());

        // Who says later that it is another is served what it was served.
        let other = node(&id("payments-1", "shop"), &[ads, ("NAMESPACE", "shop"), payments]);
        stream.requests.send(asks(Some(other), &["default", PAYMENTS])).await.expect("a place");
        let got = stream.secrets(Duration::from_secs(1)).await.expect("secrets");
        assert!(got.keys().all(|name| name == "default"), "{got:?}");
    }))
    .await;
}

#[tokio::test]
async fn a_stream_ends_with_its_proof_and_after_its_longest_time() {
    with_plane_told("ages", OBJECTS, &["--max-stream-age", "3s"], |plane| async move {
        plane.channel(None).await;
        let lasts = async |ttl: u64| {
            let token = plane.mint().token(("shop", "cart"), "istio-ca", ca::now(), ttl).expect("a token");
            let begin = Instant::now();
            let mut stream = Watching::open(&plane, &token, asks(Some(cart()), &["default"])).await.expect("a stream");
            stream.secrets(Duration::from_secs(10)).await.expect("an end in peace");
            begin.elapsed().as_secs_f64()
        };
        let (short, long) = (lasts(1).await, lasts(600).await);
        assert!(short < 2.5, "with its token: {short} s");
        assert!((2.5..4.0).contains(&long), "after its longest time: {long} s");
    })
    .await;
}
