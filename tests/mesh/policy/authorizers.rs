//! External authorizers are asked where a rule says so, and decide; where they cannot be asked, nobody gets through.

use super::{
    refusals::{path, policy},
    rig::{Ask, Rig},
};
use std::{
    collections::HashMap,
    convert::Infallible,
    future::{Ready, ready},
    io::{Read, Write},
    net::TcpListener,
    task::{self, Poll},
    thread,
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::{Grpc, NamedService, UnaryService},
    transport::Server,
};
use tonic_prost::ProstCodec;

/// The service that the authorizers are.
const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: authz, namespace: shop}\n\
                       spec: {clusterIP: 10.96.0.30, ports: [{name: http, port: 8000}, {name: grpc, port: 9000}]}\n";

/// An authorizer over HTTP that lets through whoever says `please`, and tells the workload who it is.
fn over_http() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            thread::spawn(move || {
                let mut bytes = [0; 8192];
                while let Ok(count @ 1..) = stream.read(&mut bytes) {
                    let text = String::from_utf8_lossy(&bytes[..count]).to_lowercase();
                    let good = text.contains("x-word: please")
                        && text.starts_with("get /check/")
                        && !text.contains("x-hidden");
                    let answer = match good {
                        true => "HTTP/1.1 200 OK\r\nx-user: alice\r\ncontent-length: 0\r\n\r\n",
                        false => "HTTP/1.1 418 No\r\ncontent-length: 0\r\n\r\n",
                    };
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn over_http_an_authorizer_is_asked_where_a_rule_takes_the_request() {
    let mesh = |more: &str| {
        let provider = format!(
            "service: authz.shop.svc.cluster.local, port: 8000, timeout: 5s, pathPrefix: /check, \
             includeRequestHeadersInCheck: [x-word], headersToUpstreamOnAllow: [x-user]{more}"
        );
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data: {{mesh: '{{extensionProviders: [{{name: ask, envoyExtAuthzHttp: {{{provider}}}}}]}}'}}\n{SERVICE}"
        )
    };
    let ask = policy(
        "ask",
        "  action: CUSTOM\n  provider: {name: ask}\n  rules: [{to: [{operation: {paths: [/asked, /denied]}}]}]\n",
    );
    let deny = policy("deny", "  action: DENY\n  rules: [{to: [{operation: {paths: [/denied]}}]}]\n");
    let living = [format!("{}{ask}{deny}", mesh("")), format!("{}{ask}", mesh(""))];
    let living = Rig::new(&living, &[], Some(over_http()));
    let word = |path: &str, word: &str| Ask {
        path: Some(path.to_owned()),
        headers: vec![("x-word".into(), word.into()), ("x-hidden".into(), "yes".into())],
        ..Ask::default()
    };
    assert_eq!(living.ask(0, &path("/free")).status, 200, "nobody is asked");
    assert_eq!(living.ask(0, &word("/asked", "now")).status, 418, "the authorizer says no, in its words");
    let answer = living.ask(0, &word("/asked", "please"));
    assert_eq!((answer.status, answer.seen.get("x-user").map(String::as_str)), (200, Some("alice")));
    assert_eq!(living.ask(0, &word("/denied", "please")).status, 403, "others deny what it allows");
    let bytes = Ask { bytes: true, ..Ask::default() };
    assert_eq!(living.ask(0, &bytes).status, 0, "a connection has no path, which it is denied for");
    assert_eq!(living.ask(1, &bytes).status, 200, "who is asked over HTTP is not asked about bytes");

    // Nobody listens at port 1.
    let dead = ["", ", statusOnError: \"503\"", ", failOpen: true"].map(|more| format!("{}{ask}{deny}", mesh(more)));
    let dead = Rig::new(&dead, &[], Some(1));
    let statuses: Vec<u16> = (0..3).map(|world| dead.ask(world, &word("/asked", "please")).status).collect();
    assert_eq!(statuses, [403, 503, 200]);
    assert_eq!(dead.ask(0, &path("/free")).status, 200);
}

/// What is sent to an authorizer over gRPC, as far as it is looked at.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckRequest {
    #[prost(message, tag = "1")]
    attributes: Option<Attributes>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Attributes {
    #[prost(message, tag = "1")]
    source: Option<Peer>,
    #[prost(message, tag = "4")]
    request: Option<About>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Peer {
    #[prost(string, tag = "4")]
    principal: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct About {
    #[prost(message, tag = "2")]
    http: Option<Http>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Http {
    #[prost(map = "string, string", tag = "3")]
    headers: HashMap<String, String>,
}

/// What an authorizer answers, as far as it does here: its `google.rpc.Status`.
#[derive(Clone, PartialEq, prost::Message)]
struct CheckResponse {
    #[prost(message, tag = "1")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(int32, tag = "1")]
    code: i32,
}

/// An authorizer over gRPC: it lets through requests that say `please`, and connections of `ns/web/sa/front`.
#[derive(Clone)]
struct OverGrpc;

impl NamedService for OverGrpc {
    const NAME: &'static str = "envoy.service.auth.v3.Authorization";
}

impl UnaryService<CheckRequest> for OverGrpc {
    type Response = CheckResponse;
    type Future = Ready<Result<tonic::Response<CheckResponse>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<CheckRequest>) -> Self::Future {
        let attributes = request.into_inner().attributes.unwrap_or_default();
        let good = match attributes.request.and_then(|about| about.http) {
            Some(http) => http.headers.get("x-word").is_some_and(|word| word == "please"),
            None => attributes.source.is_some_and(|peer| peer.principal.ends_with("ns/web/sa/front")),
        };
        let status = Status { code: if good { 0 } else { 7 } };
        ready(Ok(tonic::Response::new(CheckResponse { status: Some(status) })))
    }
}

impl Service<http::Request<Body>> for OverGrpc {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut task::Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(async {
            let mut grpc = Grpc::new(ProstCodec::<CheckResponse, CheckRequest>::default());
            Ok(grpc.unary(Self, request).await)
        })
    }
}

/// Serves it for as long as the tests run.
fn over_grpc() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a thread");
        runtime.block_on(async {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let served = Server::builder().add_service(OverGrpc);
            served.serve_with_incoming(TcpListenerStream::new(listener)).await
        })
    });
    port
}

#[test]
fn over_grpc_an_authorizer_is_asked_about_requests_and_connections() {
    const FRONT: &str = "cluster.local/ns/web/sa/front";
    const BACK: &str = "cluster.local/ns/ops/sa/back";
    let world = |more: &str| {
        let provider = format!("service: authz.shop.svc.cluster.local, port: 9000, timeout: 5s{more}");
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data: {{mesh: '{{extensionProviders: [{{name: ask, envoyExtAuthzGrpc: {{{provider}}}}}]}}'}}\n{SERVICE}{}",
            policy(
                "ask",
                "  action: CUSTOM\n  provider: {name: ask}\n  rules:\n  - to: [{operation: {notPaths: [/free]}}]\n\
                 \x20   from: [{source: {ipBlocks: [127.0.0.9]}}]\n"
            )
        )
    };
    let living = Rig::new(&[world("")], &[FRONT, BACK], Some(over_grpc()));
    let asked = |word: &str| Ask { from: 9, headers: vec![("x-word".into(), word.into())], ..path("/asked") };
    let bytes = |identity, from| Ask { bytes: true, identity, from, ..Ask::default() };
    assert_eq!(living.ask(0, &asked("please")).status, 200);
    assert_eq!(living.ask(0, &asked("now")).status, 403);
    assert_eq!(living.ask(0, &Ask { from: 9, ..path("/free") }).status, 200, "nobody is asked about this path");
    assert_eq!(living.ask(0, &path("/asked")).status, 200, "nobody is asked about this client");
    assert_eq!(living.ask(0, &bytes(Some(FRONT), 9)).status, 200);
    assert_eq!(living.ask(0, &bytes(Some(BACK), 9)).status, 0);
    assert_eq!(living.ask(0, &bytes(None, 9)).status, 0);
    assert_eq!(living.ask(0, &bytes(Some(BACK), 2)).status, 200, "nobody is asked about this client");

    let dead = Rig::new(&[world(""), world(", failOpen: true")], &[], Some(1));
    assert_eq!([0, 1].map(|world| dead.ask(world, &asked("please")).status), [403, 200]);
    assert_eq!([0, 1].map(|world| dead.ask(world, &bytes(None, 9)).status), [0, 200]);
}
