//! The client: commands come in as lines of JSON, and each is answered by one line.
//!
//! `{"op":"http", …}` sends and answers with all replies; `{"op":"start", …}` keeps sending until
//! `{"op":"stop"}`, which answers with the replies so far; `{"op":"tcp", …}` sends a line, or nothing where that is
//! empty, and tells the answer;
//! `{"op":"dns", …}` asks for the addresses of a name.

use crate::{
    Failure, resolve,
    secure::{Shown, Stream},
};
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Request, Response,
    body::{Bytes, Incoming},
    client::conn::{http1, http2},
    header::HOST,
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::{
    io::{BufRead, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    sync::mpsc,
    task::{JoinHandle, JoinSet},
};

#[derive(Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
enum Order {
    Http(Http),
    Start(Http),
    Stop,
    Tcp { to: String, line: String, tls: Option<Shown> },
    Dns { to: String, name: String, v6: bool },
}

/// A request, and how often it is sent.
#[derive(Clone, Deserialize)]
pub(crate) struct Http {
    #[serde(default = "get")]
    method: String,
    url: String,
    #[serde(default)]
    headers: Vec<(String, String)>,
    #[serde(default)]
    body: String,
    #[serde(default = "one_time")]
    count: u64,
    /// How many are under way at a time, each with a connection of its own.
    #[serde(default = "one_time")]
    workers: u64,
    #[serde(default = "ten_seconds")]
    timeout_ms: u64,
    /// The pause after each request.
    #[serde(default)]
    pause_ms: u64,
    #[serde(default)]
    http2: bool,
    /// A connection for each request.
    #[serde(default)]
    fresh: bool,
    /// Of what is answered with 200 nothing else is told.
    #[serde(default)]
    brief: bool,
    /// TLS of the client's own.
    #[serde(default)]
    tls: Option<Shown>,
}

fn get() -> String {
    "GET".to_owned()
}
fn one_time() -> u64 {
    1
}
fn ten_seconds() -> u64 {
    10_000
}

/// What came back: a status, or an error and no status.
#[derive(Default, Serialize)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Map<String, Value>,
    pub(crate) body: String,
    pub(crate) error: Option<String>,
    ms: u64,
}

impl Http {
    /// One GET.
    pub(crate) fn get(url: String, headers: Vec<(String, String)>) -> Self {
        Self {
            method: get(),
            url,
            headers,
            body: String::new(),
            count: 1,
            workers: 1,
            timeout_ms: ten_seconds(),
            pause_ms: 0,
            http2: false,
            fresh: true,
            brief: false,
            tls: None,
        }
    }
}

/// Carries out orders until there are no more.
pub(crate) async fn run() -> Result<(), Failure> {
    let (sender, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        std::io::stdin().lock().lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
    });
    let mut running: Option<(Arc<AtomicU64>, JoinHandle<Vec<Reply>>)> = None;
    while let Some(line) = lines.recv().await {
        let answer = match serde_json::from_str(&line)? {
            Order::Http(http) => serde_json::to_string(&many(&http, Arc::new(AtomicU64::new(http.count))).await)?,
            Order::Start(http) => {
                let left = Arc::new(AtomicU64::new(u64::MAX));
                let counter = left.clone();
                running = Some((left, tokio::spawn(async move { many(&http, counter).await })));
                "[]".to_owned()
            }
            Order::Stop => match running.take() {
                Some((left, task)) => {
                    left.store(0, Ordering::Relaxed);
                    serde_json::to_string(&task.await?)?
                }
                None => "[]".to_owned(),
            },
            Order::Tcp { to, line, tls } => serde_json::to_string(&[tcp(&to, &line, tls.as_ref()).await])?,
            Order::Dns { to, name, v6 } => serde_json::to_string(&[match resolve::ask(&to, &name, v6).await {
                Ok(body) => Reply { status: 200, body, ..Reply::default() },
                Err(error) => Reply { error: Some(error.to_string()), ..Reply::default() },
            }])?,
        };
        let mut out = std::io::stdout().lock();
        writeln!(out, "{answer}")?;
        out.flush()?;
    }
    Ok(())
}

/// Sends one request over a connection of its own.
pub(crate) async fn one(http: &Http) -> Reply {
    many(http, Arc::new(AtomicU64::new(1))).await.pop().unwrap_or_default()
}

/// Sends while `left` can be counted down.
async fn many(http: &Http, left: Arc<AtomicU64>) -> Vec<Reply> {
    let mut workers = JoinSet::new();
    for _ in 0..http.workers {
        workers.spawn(work(http.clone(), left.clone()));
    }
    workers.join_all().await.into_iter().flatten().collect()
}

async fn work(http: Http, left: Arc<AtomicU64>) -> Vec<Reply> {
    let mut replies = Vec::new();
    let mut connection = None;
    while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1)).is_ok() {
        let begin = Instant::now();
        let limit = Duration::from_millis(http.timeout_ms);
        let mut reply = match tokio::time::timeout(limit, exchange(&http, &mut connection)).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(error)) => failed(chain(&*error)),
            Err(_) => failed("no answer in time".to_owned()),
        };
        reply.ms = begin.elapsed().as_millis() as u64;
        if http.fresh || reply.error.is_some() {
            connection = None;
        }
        if http.brief && reply.status == 200 {
            (reply.headers, reply.body) = Default::default();
        }
        replies.push(reply);
        if http.pause_ms > 0 {
            tokio::time::sleep(Duration::from_millis(http.pause_ms)).await;
        }
    }
    replies
}

fn failed(error: String) -> Reply {
    Reply { error: Some(error), ..Reply::default() }
}

fn chain(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |e| e.source()).map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// A connection that requests are sent on.
enum Connection {
    One(http1::SendRequest<Full<Bytes>>),
    Two(http2::SendRequest<Full<Bytes>>),
}

impl Connection {
    async fn open(http: &Http, uri: &hyper::Uri) -> Result<Self, Failure> {
        let host = uri.host().ok_or("a URL without an address")?;
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(80))).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &http.tls {
            Some(tls) => tls.connect(stream).await?,
            None => Box::new(stream),
        };
        let stream = TokioIo::new(stream);
        Ok(match http.http2 {
            true => {
                let (sender, connection) = http2::handshake(TokioExecutor::new(), stream).await?;
                tokio::spawn(connection);
                Self::Two(sender)
            }
            false => {
                let (sender, connection) = http1::handshake(stream).await?;
                tokio::spawn(connection);
                Self::One(sender)
            }
        })
    }

    /// Whether the next request can go out: the server may have closed the connection since the last one.
    async fn is_ready(&mut self) -> bool {
        match self {
            Self::One(sender) => sender.ready().await.is_ok(),
            Self::Two(sender) => sender.ready().await.is_ok(),
        }
    }

    async fn send(&mut self, request: Request<Full<Bytes>>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::One(sender) => sender.send_request(request).await,
            Self::Two(sender) => sender.send_request(request).await,
        }
    }
}

async fn exchange(http: &Http, connection: &mut Option<Connection>) -> Result<Reply, Failure> {
    let uri: hyper::Uri = http.url.parse()?;
    let authority = uri.authority().ok_or("a URL without an address")?.to_string();
    let mut kept = connection.take();
    if let Some(open) = &mut kept
        && !open.is_ready().await
    {
        kept = None;
    }
    let mut open = match kept {
        Some(open) => open,
        None => Connection::open(http, &uri).await?,
    };
    let response = match open.send(request(http, &uri, &authority)?).await {
        Ok(response) => response,
        // The server had closed the connection before the request was written, so it is sent again.
        Err(error) if error.is_canceled() => {
            open = Connection::open(http, &uri).await?;
            open.send(request(http, &uri, &authority)?).await?
        }
        Err(error) => return Err(error.into()),
    };
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    *connection = Some(open);
    Ok(Reply {
        status: head.status.as_u16(),
        headers: headers(&head.headers),
        body: String::from_utf8_lossy(&body).into_owned(),
        error: None,
        ms: 0,
    })
}

fn request(http: &Http, uri: &hyper::Uri, authority: &str) -> Result<Request<Full<Bytes>>, Failure> {
    let host = http.headers.iter().find(|(k, _)| k.eq_ignore_ascii_case("host")).map_or(authority, |(_, v)| v);
    let path = uri.path_and_query().map_or("/", |p| p.as_str());
    let mut request = Request::builder().method(http.method.as_str());
    request = match http.http2 {
        true => request.uri(format!("http://{host}{path}")),
        false => request.uri(path).header(HOST, host),
    };
    for (key, value) in http.headers.iter().filter(|(k, _)| !k.eq_ignore_ascii_case("host")) {
        request = request.header(key, value);
    }
    Ok(request.body(Full::new(Bytes::from(http.body.clone())))?)
}

async fn tcp(to: &str, line: &str, tls: Option<&Shown>) -> Reply {
    let talk = async {
        let stream = TcpStream::connect(to).await?;
        stream.set_nodelay(true)?;
        let mut stream: Box<dyn Stream> = match tls {
            Some(tls) => tls.connect(stream).await?,
            None => Box::new(stream),
        };
        if !line.is_empty() {
            stream.write_all(format!("{line}\n").as_bytes()).await?;
            stream.flush().await?;
        }
        let answer = BufReader::new(stream).lines().next_line().await?;
        answer.ok_or_else(|| Failure::from("closed without an answer"))
    };
    match tokio::time::timeout(Duration::from_secs(10), talk).await {
        Ok(Ok(body)) => Reply { body, ..Reply::default() },
        Ok(Err(error)) => failed(chain(&*error)),
        Err(_) => failed("no answer in time".to_owned()),
    }
}

/// Headers as JSON; a name with several values has them with commas between.
pub(crate) fn headers(map: &HeaderMap) -> Map<String, Value> {
    let join = |name| map.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect::<Vec<_>>();
    map.keys().map(|name| (name.to_string(), join(name).join(",").into())).collect()
}
