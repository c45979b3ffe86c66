//! Probes of real servers: with requests, over TLS, with gRPC.

use super::*;
use crate::{
    ca::{KeyKind, self_signed},
    pb::grpc::health::v1::{HealthCheckResponse, health_server as server},
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request as Asked, Response, Status, transport::Server};

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// What the probe of a description finds.
async fn probed(description: Value) -> (u16, String) {
    let text = json!({ "/app-health/app/livez": description }).to_string();
    let probers = Probers::new(Some(&text), HERE, 15020).expect("probers");
    let mut headers = HeaderMap::new();
    headers.insert(HOST, HeaderValue::from_static("10.0.0.1:15020"));
    headers.insert("user-agent", HeaderValue::from_static("kube-probe/1.34"));
    let (status, body) = probers.probe("/app-health/app/livez", &headers).await;
    (status.as_u16(), String::from_utf8_lossy(&body).into_owned())
}

/// The health of `up`, of which nobody knows more than its name.
struct Health;

#[tonic::async_trait]
impl server::Health for Health {
    async fn check(&self, asked: Asked<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let status = match asked.into_inner().service.as_str() {
            "" | "up" => ServingStatus::Serving,
            "down" => ServingStatus::NotServing,
            _ => return Err(Status::not_found("no such service")),
        };
        Ok(Response::new(HealthCheckResponse { status: status.into() }))
    }
}

#[tokio::test]
async fn a_service_of_grpc_is_asked_whether_it_serves() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let serving = Server::builder().add_service(server::HealthServer::new(Health));
    tokio::spawn(serving.serve_with_incoming(TcpListenerStream::new(listener)));
    for (grpc, status, said) in [
        (json!({ "port": port }), 200, ""),
        (json!({ "port": port.to_string(), "service": "up" }), 200, ""),
        (json!({ "port": port, "service": "down" }), 500, "NOT_SERVING"),
        (json!({ "port": port, "service": "other" }), 500, "no such service"),
        (json!({ "port": 70_000 }), 500, "no port"),
    ] {
        let (got, text) = probed(json!({ "grpc": grpc })).await;
        assert!(got == status && text.contains(said), "{grpc}: {got} {text}");
    }
    let dead = { TcpListener::bind("127.0.0.1:0").await.expect("a port").local_addr().expect("an address").port() };
    assert_eq!(probed(json!({ "grpc": { "port": dead } })).await.0, 500);
}

/// A server that says each request again, as the body of its answer; `/away` leads elsewhere, `/round` to itself.
async fn answer(mut stream: impl tokio::io::AsyncRead + AsyncWrite + Unpin) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let text = String::from_utf8_lossy(&request).into_owned();
    let head = match text.split(' ').nth(1).unwrap_or_default() {
        "/away" => "302 Found\r\nlocation: http://other.example/x".to_owned(),
        "/round" => "302 Found\r\nlocation: /round".to_owned(),
        "/once" => "301 Moved Permanently\r\nlocation: /there?x=1".to_owned(),
        "/slow" => {
            time::sleep(Duration::from_secs(5)).await;
            "200 OK".to_owned()
        }
        "/ill" => "503 Service Unavailable".to_owned(),
        _ => "200 OK".to_owned(),
    };
    let answer = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{text}", text.len());
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

async fn serve(tls: Option<TlsAcceptor>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            match tls.clone() {
                None => drop(tokio::spawn(answer(stream))),
                Some(tls) => drop(tokio::spawn(async move {
                    if let Ok(stream) = tls.accept(stream).await {
                        answer(stream).await;
                    }
                })),
            }
        }
    });
    port
}

#[tokio::test]
async fn a_server_of_https_may_have_any_certificate() {
    let files = self_signed("anybody", KeyKind::P256, crate::ca::now(), 60).expect("a certificate");
    let chain = vec![CertificateDer::from_pem_slice(files["ca-cert.pem"].as_bytes()).expect("PEM")];
    let key = PrivateKeyDer::from_pem_slice(files["ca-key.pem"].as_bytes()).expect("PEM");
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("a server");
    let port = serve(Some(TlsAcceptor::from(Arc::new(config)))).await;
    let (status, said) = probed(json!({ "httpGet": { "path": "/live", "port": port, "scheme": "HTTPS" } })).await;
    assert!(status == 200 && said.starts_with("GET /live "), "{status} {said}");
    assert_eq!(
        probed(json!({ "httpGet": { "path": "/live", "port": port } })).await.0,
        500,
        "it is not asked in the clear"
    );
    let plain = serve(None).await;
    assert_eq!(probed(json!({ "httpGet": { "port": plain, "scheme": "HTTPS" } })).await.0, 500);
}

#[tokio::test]
async fn requests_are_sent_as_kubelet_would_and_answers_judged_as_it_judges_them() {
    let port = serve(None).await;
    let get = |path: &str| json!({ "httpGet": { "path": path, "port": port }, "timeoutSeconds": 1 });
    let (status, said) = probed(get("live?x=1")).await;
    assert!(status == 200 && said.starts_with("GET /live?x=1 HTTP/1.1\r\n"), "{said}");
    assert!(said.contains(&format!("host: 10.0.0.1:{port}\r\n")) && said.contains("kube-probe"), "{said}");
    let named = json!({ "httpGet": { "port": port, "httpHeaders": [{ "name": "Host", "value": "app.example" }] } });
    assert!(probed(named).await.1.contains("host: app.example\r\n"));
    assert!(probed(get("/once")).await.1.starts_with("GET /there?x=1 "), "redirections of its own are followed");
    for (path, status) in [("/ill", 503), ("/away", 200), ("/round", 500), ("/slow", 500)] {
        assert_eq!(probed(get(path)).await.0, status, "{path}");
    }
    assert_eq!(probed(json!({ "tcpSocket": { "port": port } })).await.0, 200);
    assert_eq!(probed(json!({})).await.0, 500);
}
