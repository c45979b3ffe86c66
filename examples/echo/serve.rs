//! The server: every answer says who gave it and what it was asked. The query of a request steers the answer:
//! `status=503`, `delay=250` (milliseconds), `key=K` (counts requests), `fail=2` (the first two of the key get
//! the status, later ones 200). `/_count?key=K` tells the count. Whoever asks by gRPC whether it is well is told so.

use crate::{Failure, Serve, secure, send};
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{CONNECTION, CONTENT_TYPE, HOST, HeaderValue, UPGRADE},
    service::service_fn,
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

/// How long a client may say nothing before it is greeted.
const SILENCE: Duration = Duration::from_millis(300);
/// Where gRPC asks whether somebody is well, and a message of the answer that it is: its length, and `status: SERVING`.
const HEALTH: &str = "/grpc.health.v1.Health/Check";
const SERVING: &[u8] = &[0, 0, 0, 0, 2, 8, 1];

type Body = BoxBody<Bytes, Infallible>;

/// What all connections share.
struct State {
    options: Serve,
    seen: Mutex<BTreeMap<String, u64>>,
}

/// Serves until it is killed.
pub(crate) async fn run(options: Serve) -> Result<(), Failure> {
    let (http, tcp) = (options.http.clone(), options.tcp.clone());
    let state = Arc::new(State { options, seen: Mutex::default() });
    let mut tasks = JoinSet::new();
    for address in http {
        tasks.spawn(serve_http(TcpListener::bind(address).await?, state.clone()));
    }
    for address in tcp {
        tasks.spawn(serve_lines(TcpListener::bind(address).await?, state.clone()));
    }
    for (given, any) in state.options.tls.iter().map(|t| (t, false)).chain(state.options.any.iter().map(|t| (t, true)))
    {
        let (address, base) = given.split_once('=').ok_or("write ADDRESS=BASE")?;
        let listener = TcpListener::bind(address).await?;
        tasks.spawn(serve_tls(listener, state.clone(), secure::acceptor(base)?, any));
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

async fn serve_http(listener: TcpListener, state: Arc<State>) -> Result<(), Failure> {
    let port = listener.local_addr()?.port();
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        tokio::spawn(requests(stream, state.clone(), port, peer));
    }
}

/// Answers the requests of one connection.
async fn requests(stream: impl secure::Stream + 'static, state: Arc<State>, port: u16, peer: SocketAddr) {
    let answer = service_fn(move |request| answer(request, state.clone(), port, peer));
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection_with_upgrades(TokioIo::new(stream), answer).await;
}

async fn serve_tls(listener: TcpListener, state: Arc<State>, tls: TlsAcceptor, any: bool) -> Result<(), Failure> {
    let port = listener.local_addr()?.port();
    loop {
        let (stream, peer) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let (state, tls) = (state.clone(), tls.clone());
        tokio::spawn(async move {
            match if any { spoken(&stream).await } else { Spoken::Tls } {
                Spoken::Tls => {
                    if let Ok(stream) = tls.accept(stream).await {
                        requests(stream, state, port, peer).await;
                    }
                }
                Spoken::Http => requests(stream, state, port, peer).await,
                Spoken::Lines => drop(lines(stream, state).await),
                Spoken::Nothing => drop(greeted(stream, state).await),
            }
        });
    }
}

/// What a client begins with.
enum Spoken {
    Tls,
    Http,
    Lines,
    Nothing,
}

async fn spoken(stream: &TcpStream) -> Spoken {
    let mut first = [0; 4];
    match timeout(SILENCE, stream.peek(&mut first)).await {
        Err(_) => Spoken::Nothing,
        Ok(_) if first[0] == 0x16 => Spoken::Tls,
        Ok(_) if &first == b"GET " || &first == b"PRI " => Spoken::Http,
        Ok(_) => Spoken::Lines,
    }
}

/// Says something first, as servers of mail and databases do.
async fn greeted(mut stream: TcpStream, state: Arc<State>) -> std::io::Result<()> {
    stream.write_all(format!("{} is ready\n", state.options.name).as_bytes()).await?;
    lines(stream, state).await
}

async fn serve_lines(listener: TcpListener, state: Arc<State>) -> Result<(), Failure> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(lines(stream, state.clone()));
    }
}

async fn lines(stream: impl AsyncRead + AsyncWrite, state: Arc<State>) -> std::io::Result<()> {
    let (read, mut write) = tokio::io::split(stream);
    let mut lines = BufReader::new(read).lines();
    while let Some(line) = lines.next_line().await? {
        let Serve { name, version, .. } = &state.options;
        write.write_all(format!("{name} {version} heard {line}\n").as_bytes()).await?;
    }
    Ok(())
}

async fn answer(
    request: Request<Incoming>,
    state: Arc<State>,
    port: u16,
    peer: SocketAddr,
) -> Result<Response<Body>, Infallible> {
    if request.uri().path() == HEALTH {
        return Ok(well());
    }
    if request.headers().contains_key(UPGRADE) {
        return Ok(upgraded(request, state));
    }
    let (head, body) = request.into_parts();
    let query = query(head.uri.query().unwrap_or_default());
    let number = |key: &str| query.get(key).and_then(|v| v.parse::<u64>().ok());
    let seen = state.count(query.get("key"), head.uri.path() != "/_count");
    if let Some(delay) = number("delay") {
        tokio::time::sleep(Duration::from_millis(delay)).await;
    }
    let status = match number("fail") {
        Some(fail) if seen > fail => StatusCode::OK,
        _ => number("status").and_then(|s| StatusCode::from_u16(s as u16).ok()).unwrap_or(StatusCode::OK),
    };
    let host = head.uri.host().or_else(|| head.headers.get(HOST).and_then(|h| h.to_str().ok()));
    let asked = match head.uri.path() {
        "/_count" => Map::new(),
        _ => state.ask(&head.headers).await,
    };
    let text = json!({
        "name": state.options.name,
        "version": state.options.version,
        "protocol": format!("{:?}", head.version),
        "method": head.method.as_str(),
        "path": head.uri.path_and_query().map_or("", |p| p.as_str()),
        "host": host,
        "headers": send::headers(&head.headers),
        "body": body.collect().await.map(|b| String::from_utf8_lossy(&b.to_bytes()).into_owned()).unwrap_or_default(),
        "port": port,
        "peer": peer.to_string(),
        "seen": seen,
        "asked": asked,
    });
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .header("x-served-by", format!("{}-{}", state.options.name, state.options.version))
        .body(Full::new(Bytes::from(text.to_string())).boxed());
    Ok(response.expect("a fixed set of valid headers"))
}

/// The answer of gRPC that it is well.
fn well() -> Response<Body> {
    let status = HeaderMap::from_iter([("grpc-status".parse().expect("a name"), HeaderValue::from_static("0"))]);
    let body = Full::new(Bytes::from_static(SERVING)).with_trailers(async { Some(Ok(status)) });
    let response = Response::builder().header(CONTENT_TYPE, "application/grpc");
    response.body(body.boxed()).expect("a fixed set of valid headers")
}

/// Goes on with lines of text, whatever it is that the client asks to go on with.
fn upgraded(mut request: Request<Incoming>, state: Arc<State>) -> Response<Body> {
    let protocol = request.headers()[UPGRADE].clone();
    let connection = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        if let Ok(connection) = connection.await {
            let _ = lines(TokioIo::new(connection), state).await;
        }
    });
    let response = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(CONNECTION, "upgrade");
    response.header(UPGRADE, protocol).body(Full::default().boxed()).expect("a fixed set of valid headers")
}

impl State {
    /// How many requests of this key there were, this one among them where it counts.
    fn count(&self, key: Option<&String>, counts: bool) -> u64 {
        let Some(key) = key else { return 0 };
        let mut seen = self.seen.lock().expect("nobody panics while counting");
        let seen = seen.entry(key.clone()).or_default();
        *seen += u64::from(counts);
        *seen
    }

    /// Asks the services that this workload needs for its own answer, and passes on who the user is.
    async fn ask(&self, headers: &hyper::HeaderMap) -> Map<String, Value> {
        let mut answers = Map::new();
        for call in &self.options.calls {
            let Some((name, rest)) = call.split_once('=') else { continue };
            let mut sent = vec![("host".to_owned(), name.to_owned())];
            for passed in ["end-user", "x-request-id", "traceparent"] {
                if let Some(value) = headers.get(passed).and_then(|v| v.to_str().ok()) {
                    sent.push((passed.to_owned(), value.to_owned()));
                }
            }
            let reply = send::one(&send::Http::get(format!("http://{rest}"), sent)).await;
            let body = serde_json::from_str(&reply.body).unwrap_or(Value::String(reply.body));
            answers.insert(name.to_owned(), json!({ "status": reply.status, "error": reply.error, "answer": body }));
        }
        answers
    }
}

fn query(text: &str) -> BTreeMap<String, String> {
    text.split('&').filter_map(|pair| pair.split_once('=')).map(|(k, v)| (k.to_owned(), v.to_owned())).collect()
}
