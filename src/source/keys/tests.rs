//! Keys are fetched from real servers, which fail in every way.

use super::*;
use crate::{
    id::{Kind, ObjectRef, Shared},
    model::{JwtRule, KeySource, Reach, RequestAuthentication},
    store,
};
use rustls::{ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer};
use std::{
    net::SocketAddr,
    sync::Mutex,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpListener,
};

const KEYS: &str = r#"{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}"#;

/// A server that answers with what it was last told to.
struct Server {
    address: SocketAddr,
    answer: Arc<Mutex<String>>,
}

impl Server {
    async fn start(answer: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = Arc::new(Mutex::new(answer.to_owned()));
        let said = answer.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let said = said.lock().unwrap().clone();
                tokio::spawn(reply(stream, said));
            }
        });
        Self { address, answer }
    }

    fn say(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.to_owned();
    }

    fn url(&self) -> String {
        format!("http://{}/keys", self.address)
    }
}

async fn reply(mut stream: impl tokio::io::AsyncRead + AsyncWrite + Unpin, answer: String) {
    let mut request = [0; 4096];
    let _ = stream.read(&mut request).await;
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

fn ok(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

fn options() -> Options {
    Options {
        refresh: Duration::from_millis(50),
        pause: Duration::from_millis(10),
        longest: Duration::from_millis(40),
        roots: Vec::new(),
        blocked: Vec::new(),
        trusting: false,
    }
}

fn wants(locator: &KeyLocator) -> Change {
    let source = ObjectRef::new(Kind::REQUEST_AUTHENTICATION, "shop", locator.object().name);
    let rule = JwtRule {
        issuer: "one".into(),
        audiences: Vec::new(),
        keys: KeySource::Fetched(locator.clone()),
        headers: Vec::new(),
        params: Vec::new(),
        cookies: Vec::new(),
        forward: false,
        payload_header: "".into(),
        claim_headers: Vec::new(),
        timeout: 500,
        spaced_claims: Vec::new(),
    };
    let policy = RequestAuthentication {
        source: source.clone(),
        created: 0,
        reach: Reach::default(),
        rules: vec![Shared::new(rule)],
    };
    let state = State::Is(Box::new(Object::RequestAuthentication(policy)));
    Change { object: source, state, problems: Vec::new(), raw: None }
}

/// A store with a fetcher beside it.
struct World {
    writer: Writer,
    reader: store::Reader,
}

impl World {
    fn start(options: Options) -> Self {
        let (writer, reader, task) = store::new(Snapshot::default(), store::Options { quiet: None, at_most: None });
        tokio::spawn(task.run());
        tokio::spawn(watch(options, writer.clone(), reader.snapshots.clone(), tokio::sync::watch::Sender::default()));
        Self { writer, reader }
    }

    async fn apply(&self, change: Change) {
        self.writer.apply(vec![change]).await.unwrap();
    }

    fn has(&self, locator: &KeyLocator) -> Option<String> {
        self.reader.snapshots.borrow().key_sets.get(locator).map(|set| set.keys.to_string())
    }

    async fn until(&self, locator: &KeyLocator, keys: Option<&str>) {
        let begin = Instant::now();
        while self.has(locator).as_deref() != keys {
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?} instead of {keys:?}", self.has(locator));
            time::sleep(Duration::from_millis(5)).await;
        }
    }
}

fn keys_at(url: &str) -> KeyLocator {
    KeyLocator::Keys(url.into())
}

#[tokio::test]
async fn keys_are_fetched_while_they_are_wanted_and_again_when_they_change() {
    let server = Server::start(&ok(KEYS)).await;
    let (world, place) = (World::start(options()), keys_at(&server.url()));
    world.apply(wants(&place)).await;
    world.until(&place, Some(KEYS)).await;
    let others = KEYS.replace("c2Vj", "b3Ro");
    server.say(&ok(&others));
    world.until(&place, Some(&others)).await;
    world.apply(Change { state: State::Gone, ..wants(&place) }).await;
    world.until(&place, None).await;
}

#[tokio::test]
async fn what_was_fetched_stays_whatever_comes_after() {
    let server = Server::start(&ok(KEYS)).await;
    let (world, place) = (World::start(options()), keys_at(&server.url()));
    world.apply(wants(&place)).await;
    world.until(&place, Some(KEYS)).await;
    let long = format!("{}{}", KEYS, " ".repeat(parse::MAX_KEY_BYTES));
    let moved = format!("HTTP/1.1 302 Found\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n", server.url());
    for bad in
        ["HTTP/1.1 500 No\r\ncontent-length: 0\r\n\r\n", &ok("{}"), &ok("nonsense"), &ok(&long), &moved, "what?", ""]
    {
        server.say(bad);
        time::sleep(Duration::from_millis(120)).await;
        assert_eq!(world.has(&place).as_deref(), Some(KEYS), "after {:.40}", bad);
    }
}

#[tokio::test]
async fn a_place_that_fails_is_asked_again_and_harms_no_other() {
    let (dead, good) = (Server::start("").await, Server::start(&ok(KEYS)).await);
    let (dead_place, good_place) = (keys_at(&dead.url()), keys_at(&good.url()));
    let world = World::start(options());
    world.apply(wants(&dead_place)).await;
    world.apply(wants(&good_place)).await;
    world.until(&good_place, Some(KEYS)).await;
    assert_eq!(world.has(&dead_place), None);
    dead.say(&ok(KEYS));
    world.until(&dead_place, Some(KEYS)).await;
}

#[tokio::test]
async fn an_issuer_says_where_its_keys_are() {
    let keys = Server::start(&ok(KEYS)).await;
    let issuer = Server::start(&ok(&format!("{{\"jwks_uri\": \"{}\"}}", keys.url()))).await;
    let place = KeyLocator::Discovery(issuer.url().into());
    let world = World::start(options());
    world.apply(wants(&place)).await;
    world.until(&place, Some(KEYS)).await;
}

#[tokio::test]
async fn addresses_that_may_not_be_asked_are_not() {
    let server = Server::start(&ok(KEYS)).await;
    let client = Client::new(&Options { blocked: vec!["127.0.0.0/8".parse().unwrap()], ..options() });
    let refused = client.get(&server.url()).await.unwrap_err();
    assert!(refused.contains("may not be asked"), "{refused}");
}

#[tokio::test]
async fn over_https_a_server_must_have_a_certificate_of_a_trusted_authority() {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = std::env::temp_dir().join(format!("mainsheet-keys-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let file = dir.join("root.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let config = config.with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://localhost:{}/keys", listener.local_addr().unwrap().port());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            if let Ok(stream) = acceptor.accept(stream).await {
                reply(stream, ok(KEYS)).await;
            }
        }
    });
    let trusting = Client::new(&Options { roots: vec![file, dir.join("missing.pem")], ..options() });
    assert_eq!(trusting.get(&url).await.as_deref(), Ok(KEYS));
    let refused = Client::new(&options()).get(&url).await.unwrap_err();
    assert!(refused.starts_with("TLS"), "{refused}");
    let blind = Client::new(&Options { trusting: true, ..options() });
    assert_eq!(blind.get(&url).await.as_deref(), Ok(KEYS), "who wants no proof gets none");
    std::fs::remove_dir_all(&dir).unwrap();
}
