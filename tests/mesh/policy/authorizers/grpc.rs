//! Authorizers of the tests' own that are asked by gRPC, in as much of Envoy's protocol as they look at.

use super::http::{Asked, Told};
use std::{
    collections::HashMap,
    convert::Infallible,
    net::TcpListener,
    sync::{Arc, Mutex},
    task::{self, Poll},
    thread,
    time::Duration,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

/// What is asked.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CheckRequest {
    #[prost(message, tag = "1")]
    pub(crate) attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Attributes {
    #[prost(message, tag = "1")]
    pub(crate) source: Option<Peer>,
    #[prost(message, tag = "4")]
    pub(crate) request: Option<About>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Peer {
    #[prost(string, tag = "4")]
    pub(crate) principal: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct About {
    #[prost(message, tag = "2")]
    pub(crate) http: Option<Http>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Http {
    #[prost(string, tag = "2")]
    pub(crate) method: String,
    #[prost(map = "string, string", tag = "3")]
    pub(crate) headers: HashMap<String, String>,
    #[prost(string, tag = "4")]
    pub(crate) path: String,
    #[prost(string, tag = "5")]
    pub(crate) host: String,
    #[prost(string, tag = "11")]
    pub(crate) body: String,
    #[prost(bytes = "vec", tag = "12")]
    pub(crate) raw_body: Vec<u8>,
}

/// What is answered.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct CheckResponse {
    #[prost(message, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(message, tag = "2")]
    pub(crate) denied: Option<Denied>,
    #[prost(message, tag = "3")]
    pub(crate) ok: Option<Allowed>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Status {
    #[prost(int32, tag = "1")]
    pub(crate) code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Denied {
    /// The status, in a message like that of gRPC.
    #[prost(message, tag = "1")]
    pub(crate) status: Option<Status>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) headers: Vec<HeaderOption>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Allowed {
    #[prost(message, repeated, tag = "2")]
    pub(crate) headers: Vec<HeaderOption>,
    #[prost(string, repeated, tag = "5")]
    pub(crate) removed: Vec<String>,
    #[prost(message, repeated, tag = "6")]
    pub(crate) to_client: Vec<HeaderOption>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct HeaderOption {
    #[prost(message, tag = "1")]
    header: Option<Header>,
    /// 2: in the place of what was there.
    #[prost(int32, tag = "3")]
    action: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// A header in the place of what was there.
pub(crate) fn header(key: &str, value: &str) -> HeaderOption {
    HeaderOption { header: Some(Header { key: key.to_owned(), value: value.to_owned() }), action: 2 }
}

impl CheckResponse {
    /// Lets it through, with these headers for the workload.
    pub(crate) fn allowed(headers: Vec<HeaderOption>) -> Self {
        let ok = Allowed { headers, removed: vec!["x-secret".to_owned()], to_client: vec![header("x-checked", "yes")] };
        Self { status: Some(Status { code: 0 }), denied: None, ok: Some(ok) }
    }

    /// Refuses it with this status, for this reason.
    pub(crate) fn denied(status: i32, why: &str) -> Self {
        let denied = Denied { status: Some(Status { code: status }), headers: vec![header("x-why", why)] };
        Self { status: Some(Status { code: 7 }), denied: Some(denied), ok: None }
    }
}

/// How a request is decided.
type Decide = Arc<dyn Fn(CheckRequest) -> BoxFuture<CheckResponse, Infallible> + Send + Sync>;

#[derive(Clone)]
struct Authorization(Decide);

impl NamedService for Authorization {
    const NAME: &'static str = "envoy.service.auth.v3.Authorization";
}

impl UnaryService<CheckRequest> for Authorization {
    type Response = CheckResponse;
    type Future = BoxFuture<tonic::Response<CheckResponse>, tonic::Status>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let answer = (self.0)(request.into_inner());
        Box::pin(async { Ok(tonic::Response::new(answer.await.unwrap_or_default())) })
    }
}

impl Service<http::Request<Body>> for Authorization {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let own = self.clone();
        Box::pin(async {
            let mut grpc = Grpc::new(ProstCodec::<CheckResponse, CheckRequest>::default());
            Ok(grpc.unary(own, request).await)
        })
    }
}

/// Serves an authorizer for as long as the tests run, and returns its port.
pub(crate) fn serve(decide: Decide) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let served = Server::builder().add_service(Authorization(decide));
            served.serve_with_incoming(TcpListenerStream::new(listener)).await
        })
    });
    port
}

/// One that lets requests through that say `please`, and connections of `ns/web/sa/front`.
pub(crate) fn over_grpc() -> Asked {
    let told = Arc::new(Mutex::new(Vec::new()));
    let notes = told.clone();
    let port = serve(Arc::new(move |request: CheckRequest| -> BoxFuture<CheckResponse, Infallible> {
        let attributes = request.attributes.unwrap_or_default();
        let Some(http) = attributes.request.and_then(|about| about.http) else {
            let front = attributes.source.is_some_and(|peer| peer.principal.ends_with("ns/web/sa/front"));
            let answer = if front { CheckResponse::allowed(Vec::new()) } else { CheckResponse::denied(403, "nobody") };
            return Box::pin(async { Ok(answer) });
        };
        let word = http.headers.get("x-word").cloned().unwrap_or_default();
        let body =
            if http.raw_body.is_empty() { http.body.into_bytes() } else { [b"raw:", &http.raw_body[..]].concat() };
        let line = format!("{} {}", http.method, http.path);
        notes.lock().expect("the notes").push(Told { line, headers: http.headers.into_iter().collect(), body });
        Box::pin(async move {
            if word == "slow" {
                tokio::time::sleep(Duration::from_secs(2)).await;
            }
            Ok(match word.as_str() {
                "please" | "slow" => CheckResponse::allowed(vec![header("x-user", "alice")]),
                _ => CheckResponse::denied(402, "unpaid"),
            })
        })
    }));
    Asked::new(port, told)
}
