//! The control plane as a whole, on sockets of the loopback device.

mod impostor;
mod issuer;
mod secure;

use super::*;
use crate::{
    id::ResourceType,
    pb::envoy::{
        config::core::v3::Node,
        service::discovery::v3::{
            DeltaDiscoveryRequest, DeltaDiscoveryResponse, aggregated_discovery_service_client as ads,
        },
    },
};
use clap::Parser;
use std::{fs, path::PathBuf, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::{Notify, mpsc},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Streaming, transport::Endpoint};

#[derive(Debug, Parser)]
struct Line {
    #[command(flatten)]
    options: Discovery,
}

fn options(words: &[&str]) -> Discovery {
    Line::parse_from([&["discovery"], words].concat()).options
}

fn local(dir: &std::path::Path) -> Discovery {
    let dir = dir.display().to_string();
    let ports = ["--grpc-addr=127.0.0.1:0", "--http-addr=127.0.0.1:0", "--monitoring-addr=127.0.0.1:0"];
    options(&[&["--config-dir", &dir], &ports[..]].concat())
}

fn directory(name: &str) -> PathBuf {
    let dir = std::env::temp_dir().join(format!("mainsheet-app-{}-{name}", std::process::id()));
    fs::create_dir_all(&dir).unwrap();
    dir
}

fn service(name: &str, port: u16) -> String {
    format!(
        "apiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{clusterIP: 10.96.0.1, ports: [{{name: http, port: {port}}}]}}\n"
    )
}

/// The status of a GET.
async fn status(address: SocketAddr, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").as_bytes()).await.ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.ok()?;
    text.split(' ').nth(1).map(str::to_owned)
}

/// A stream that has subscribed to all clusters; as long as the sender lives it goes on.
async fn clusters(address: SocketAddr) -> (mpsc::Sender<DeltaDiscoveryRequest>, Streaming<DeltaDiscoveryResponse>) {
    let channel = Endpoint::try_from(format!("http://{address}")).unwrap().connect().await.unwrap();
    let (requests, stream) = mpsc::channel(4);
    let id = "sidecar~10.244.0.1~a.shop~shop.svc.cluster.local".to_owned();
    let first = DeltaDiscoveryRequest {
        node: Some(Node { id, ..Node::default() }),
        type_url: ResourceType::Cluster.type_url().to_owned(),
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(first).await.unwrap();
    let mut client = ads::AggregatedDiscoveryServiceClient::new(channel);
    let responses = client.delta_aggregated_resources(ReceiverStream::new(stream)).await.unwrap();
    (requests, responses.into_inner())
}

fn names(response: &DeltaDiscoveryResponse) -> Vec<&str> {
    response.resources.iter().map(|r| r.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_a_file_is_pushed_and_streams_end_with_the_process() {
    let dir = directory("pushed");
    fs::write(dir.join("a.yaml"), service("a", 80)).unwrap();
    let app = App::bind(local(&dir)).await.unwrap();
    let [grpc, http, monitoring] = app.addresses().map(Option::unwrap);
    let stop = Arc::new(Notify::new());
    let stopped = stop.clone();
    let running = tokio::spawn(app.run(async move || stopped.notified().await));

    // The port is there from the start, but nobody is answered before there is a world.
    let (requests, mut responses) = clusters(grpc).await;
    let first = responses.message().await.unwrap().unwrap();
    assert!(names(&first).contains(&"outbound|80||a.shop.svc.cluster.local"), "{:?}", names(&first));
    assert_eq!(status(http, "/ready").await.as_deref(), Some("200"));
    assert_eq!(status(monitoring, "/metrics").await.as_deref(), Some("200"));
    let ack = DeltaDiscoveryRequest {
        type_url: first.type_url.clone(),
        response_nonce: first.nonce.clone(),
        ..DeltaDiscoveryRequest::default()
    };
    requests.send(ack).await.unwrap();

    fs::write(dir.join("b.yaml"), service("b", 90)).unwrap();
    let second = time::timeout(Duration::from_secs(8), responses.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(names(&second), ["outbound|90||b.shop.svc.cluster.local"], "what changed and nothing else");

    stop.notify_one();
    assert_eq!(responses.message().await.map(|m| m.is_none()).map_err(|s| s.code()), Ok(true), "ends without an error");
    time::timeout(Duration::from_secs(8), running).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(grpc).await.is_err() && TcpStream::connect(http).await.is_err());
    fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn what_cannot_be_had_is_told_with_its_flag() {
    let dir = directory("flags");
    let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut busy = local(&dir);
    busy.listen.http_addr = taken.local_addr().unwrap().to_string().parse().unwrap();
    let mut missing = local(&dir);
    missing.input.config_dirs.push(dir.join("nowhere"));
    let mut unset = local(&dir);
    unset.input.mesh_config = Some(dir.join("mesh"));
    for (options, flag) in [(busy, "--http-addr 127.0.0.1"), (missing, "--config-dir"), (unset, "--mesh-config")] {
        let error = format!("{:#}", App::bind(options).await.unwrap_err());
        assert!(error.starts_with(flag) && error.contains("os error"), "{error}");
    }
    fs::remove_dir_all(dir).unwrap();
}

#[tokio::test]
async fn a_port_with_an_empty_address_is_off() {
    let dir = directory("off");
    let mut options = local(&dir);
    options.listen.grpc_addr = "".parse().unwrap();
    let app = App::bind(options).await.unwrap();
    assert!(app.addresses()[0].is_none() && app.addresses()[1].is_some());
    let stop = Notify::new();
    stop.notify_one();
    app.run(async || stop.notified().await).await.unwrap();
    fs::remove_dir_all(dir).unwrap();
}
