//! Tokens of an issuer that has its keys somewhere else: they are found, fetched, and fetched again.

use super::secure::{CART, request, with_plane_told};
use crate::ca;
use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tonic::Code;

/// One who signs tokens.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn new() -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("a key"))
    }

    fn keys(&self) -> Value {
        let (x, y) = self.0.public_key().as_ref()[1..].split_at(32);
        let [x, y] = [x, y].map(|half| URL_SAFE_NO_PAD.encode(half));
        json!({ "keys": [{ "kty": "EC", "crv": "P-256", "use": "sig", "x": x, "y": y }] })
    }

    fn token(&self, name: &str, audience: &str) -> String {
        let claims =
            json!({ "iss": name, "sub": "system:serviceaccount:shop:cart", "aud": audience, "exp": ca::now() + 600 });
        let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", part(json!({ "alg": "ES256" })), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), signed.as_bytes()).expect("a signature");
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// A place that says where its keys are, and what they are; nothing while there are none.
async fn place(keys: Arc<Mutex<Option<Value>>>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 2048];
            let length = stream.read(&mut request).await.unwrap_or_default();
            let asked = String::from_utf8_lossy(&request[..length]).into_owned();
            let known = keys.lock().expect("nobody panics").clone();
            let body = match asked.split(' ').nth(1).unwrap_or_default() {
                "/.well-known/openid-configuration" => Some(json!({ "jwks_uri": format!("http://{at}/certs") })),
                "/certs" => known,
                _ => None,
            };
            let answer = match body.map(|body| body.to_string()) {
                Some(text) => format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()),
                None => "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_owned(),
            };
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    at
}

#[tokio::test]
async fn tokens_of_an_issuer_that_says_itself_where_its_keys_are_are_taken_once_they_are_there() {
    let keys = Arc::new(Mutex::new(None));
    let at = place(keys.clone()).await;
    let [discovered, named] = [format!("http://{at}"), "https://named.example".to_owned()];
    let rule = json!({ "issuer": named, "jwksUri": format!("http://{at}/certs"), "audiences": ["mesh"] }).to_string();
    let options = ["--token-issuer", &discovered, "--jwt-rule", &rule, "--jwks-refresh-interval", "1s"];
    let (discovered, named) = (&discovered, &named);
    with_plane_told("issuer", "", &options, |plane| async move {
        plane.channel(None).await;
        let ask =
            async |token: &str| plane.certificate(Some(token), request(CART).0).await.map(drop).map_err(|s| s.code());
        let soon = async |token: &str| {
            let begin = Instant::now();
            while ask(token).await.is_err() {
                assert!(begin.elapsed() < Duration::from_secs(20), "the token is not taken");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let (first, second) = (Issuer::new(), Issuer::new());
        let refused = Err(Code::Unauthenticated);
        assert_eq!(ask(&first.token(discovered, "istio-ca")).await, refused, "its keys are not there yet");

        keys.lock().expect("nobody panics").replace(first.keys());
        soon(&first.token(discovered, "istio-ca")).await;
        soon(&first.token(named, "mesh")).await;
        assert_eq!(ask(&first.token(named, "istio-ca")).await, refused, "the rule names other audiences");
        assert_eq!(ask(&first.token("https://other.example", "istio-ca")).await, refused);
        assert_eq!(ask(&second.token(discovered, "istio-ca")).await, refused);

        keys.lock().expect("nobody panics").replace(second.keys());
        soon(&second.token(discovered, "istio-ca")).await;
        assert_eq!(ask(&first.token(discovered, "istio-ca")).await, refused, "its key is no longer one");

        // A place that is dead leaves the keys that there were.
        keys.lock().expect("nobody panics").take();
        tokio::time::sleep(Duration::from_millis(1500)).await;
        assert_eq!(ask(&second.token(discovered, "istio-ca")).await, Ok(()));
    })
    .await;
}
