//! Requests over HTTP/1.1 to others in the pod: Envoy's admin interface, the application.

use anyhow::{Context as _, Result, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Empty};
use hyper::{
    HeaderMap, Method, StatusCode,
    client::conn::http1,
    header::{HOST, HeaderValue},
};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time,
};

/// The most that is read of an answer, in bytes.
const MOST: usize = 10 << 20;

/// A request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    /// The path, with its query.
    pub(super) path: String,
    pub(super) headers: HeaderMap,
    pub(super) timeout: Duration,
}

/// An answer.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Request {
    /// A GET of a path.
    pub(super) fn get(path: impl Into<String>) -> Self {
        Self { method: Method::GET, path: path.into(), headers: HeaderMap::new(), timeout: Duration::from_secs(3) }
    }

    /// Sends it to an address, over a connection of its own.
    pub(super) async fn send(self, to: SocketAddr) -> Result<Answer> {
        time::timeout(self.timeout, async {
            let stream = TcpStream::connect(to).await.with_context(|| format!("connecting to {to}"))?;
            self.over(stream, &to.to_string()).await
        })
        .await
        .context("there is no answer in time")?
    }

    /// Sends it over a connection; `host` is what it is for where its headers do not say.
    pub(super) async fn over(
        mut self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        host: &str,
    ) -> Result<Answer> {
        if !self.headers.contains_key(HOST) {
            self.headers.insert(HOST, HeaderValue::try_from(host)?);
        }
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let mut request = hyper::Request::builder().method(self.method).uri(self.path).body(Empty::<Bytes>::new())?;
        *request.headers_mut() = self.headers;
        let exchange = async {
            let (head, mut body) = sender.send_request(request).await?.into_parts();
            let mut whole = BytesMut::new();
            while let Some(frame) = body.frame().await {
                if let Some(data) = frame?.data_ref() {
                    whole.extend_from_slice(data);
                }
                if whole.len() > MOST {
                    bail!("the answer is larger than 10 MiB");
                }
            }
            Ok(Answer { status: head.status, headers: head.headers, body: whole.freeze() })
        };
        tokio::pin!(connection, exchange);
        tokio::select! {
            answer = &mut exchange => answer,
            // The answer may be there whole when the connection has ended.
            _ = &mut connection => exchange.await,
        }
    }
}

/// The numbers on Envoy's page of statistics, of names that match a regular expression.
pub(super) async fn stats(admin_port: u16, filter: &str) -> Result<Vec<(String, u64)>> {
    let path = format!("/stats?usedonly&filter={filter}");
    let answer = Request::get(path).send(([127, 0, 0, 1], admin_port).into()).await?;
    if answer.status != StatusCode::OK {
        bail!("Envoy answers {}", answer.status);
    }
    let text = String::from_utf8_lossy(&answer.body);
    let entry =
        |line: &str| line.split_once(": ").and_then(|(name, n)| Some((name.to_owned(), n.trim().parse().ok()?)));
    Ok(text.lines().filter_map(entry).collect())
}
