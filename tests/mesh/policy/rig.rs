//! One Envoy with many guarded ports: the filters are those that mainsheet makes of each world of policies,
//! and behind them everything is answered. Each world has one port number, at an address for each kind of connection.

use super::token::Token;
use crate::harness::{eventually, run};
use mainsheet::{
    id::ResourceType,
    model::Role,
    parse::Context,
    plan::{Listing, Proxy, World},
    translate::{Config, Direct},
};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType};
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, ServerName},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket},
    time,
};
use tokio_rustls::TlsConnector;

const PLAIN_HTTP: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 1);
const TLS_HTTP: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 2);
const PLAIN_TCP: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 3);
const TLS_TCP: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 4);
/// Whoever has a port here has it at the others: two Envoys could share one of them, and either would answer.
const HELD: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 5);

/// The names that the server has, and that clients ask for.
pub(crate) const NAMES: [&str; 2] = ["a.example", "b.example"];

/// The workload that all policies are for.
const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: server, containers: [{name: app, image: example/app}]}
status: {podIP: 10.244.0.10}
";

/// Headers that answers tell of.
const TOLD: [&str; 5] = ["x-sub", "x-payload", "authorization", "x-user", ":path"];

/// What is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// Lines over TCP instead of a request.
    pub(crate) bytes: bool,
    /// Who the client proves to be, without the scheme; without one there is no TLS.
    pub(crate) identity: Option<&'static str>,
    /// The name that a TLS client asks for.
    pub(crate) sni: Option<&'static str>,
    /// The last part of the client's address.
    pub(crate) from: u8,
    pub(crate) method: Option<&'static str>,
    pub(crate) path: Option<String>,
    pub(crate) host: Option<&'static str>,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) token: Option<Token>,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    /// The status; of connections 200 where they got through and 0 where not.
    pub(crate) status: u16,
    /// The headers that the workload would have seen.
    pub(crate) seen: BTreeMap<String, String>,
}

/// The Envoy and what is beside it.
pub(crate) struct Rig {
    envoy: Child,
    ports: Vec<u16>,
    _held: Vec<std::net::TcpListener>,
    clients: BTreeMap<&'static str, TlsConnector>,
    runtime: tokio::runtime::Runtime,
}

impl Drop for Rig {
    fn drop(&mut self) {
        let _ = self.envoy.kill();
        let _ = self.envoy.wait();
    }
}

impl Rig {
    /// Worlds of policies: objects as YAML, in which `PORT` stands for the world's port and `BESIDE` for that of a
    /// server of the test's own. `identities` may be proved.
    pub(crate) fn new(worlds: &[String], identities: &[&'static str], beside: Option<u16>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
        let authority = Authority::new();
        let echo = runtime.block_on(lines());
        let (dir, _) = run().part();
        let held: Vec<_> = worlds.iter().map(|_| std::net::TcpListener::bind((HELD, 0)).expect("a port")).collect();
        let ports: Vec<u16> = held.iter().map(|port| port.local_addr().expect("an address").port()).collect();
        let mut listeners = Vec::new();
        for (world, port) in worlds.iter().zip(&ports) {
            let file = dir.join(format!("{port}.yaml"));
            fs::write(&file, format!("{POD}{}", world.replace("PORT", &port.to_string()))).expect("a file");
            listeners.extend(authority.listeners(&translated(&file), *port));
        }
        let cluster = |name: &str, port: u16| {
            json!({ "name": name, "type": "STATIC", "loadAssignment": { "clusterName": name, "endpoints": [{
                "lbEndpoints": [{ "endpoint": { "address": address(Ipv4Addr::LOCALHOST, port) } }] }] } })
        };
        let mut clusters = vec![cluster("echo", echo)];
        if let Some(port) = beside {
            clusters.push(cluster("outbound|8000||authz.shop.svc.cluster.local", port));
            let mut grpc = cluster("outbound|9000||authz.shop.svc.cluster.local", port);
            grpc["typedExtensionProtocolOptions"] = json!({ "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicitHttpConfig": { "http2ProtocolOptions": {} } } });
            clusters.push(grpc);
        }
        let config = json!({ "staticResources": { "listeners": listeners, "clusters": clusters } });
        let path = dir.join("rig.json");
        fs::write(&path, config.to_string()).expect("a file");
        let log = dir.join("rig.log");
        let envoy = Command::new(run().envoy())
            .args(["--log-level", "warn", "--concurrency", "1", "--use-dynamic-base-id", "--log-path"])
            .arg(&log)
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("Envoy runs");
        let clients = identities.iter().map(|name| (*name, authority.client(name))).collect();
        let mut rig = Self { envoy, ports, _held: held, clients, runtime };
        eventually("Envoy serves", || {
            let ended = rig.envoy.try_wait().expect("a child");
            assert!(ended.is_none(), "{}", fs::read_to_string(&log).unwrap_or_default());
            match std::net::TcpStream::connect((PLAIN_HTTP, rig.ports[rig.ports.len() - 1])) {
                Ok(_) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        });
        rig
    }

    /// The port of a world.
    pub(crate) fn port(&self, world: usize) -> u16 {
        self.ports[world]
    }

    /// What a world answers.
    pub(crate) fn ask(&self, world: usize, ask: &Ask) -> Answer {
        self.runtime.block_on(async {
            let sent = time::timeout(Duration::from_secs(20), self.send(self.ports[world], ask));
            sent.await.unwrap_or_else(|_| panic!("no answer to {ask:?}"))
        })
    }

    async fn send(&self, port: u16, ask: &Ask) -> Answer {
        let host = match (ask.bytes, ask.identity.is_some()) {
            (false, false) => PLAIN_HTTP,
            (false, true) => TLS_HTTP,
            (true, false) => PLAIN_TCP,
            (true, true) => TLS_TCP,
        };
        let socket = TcpSocket::new_v4().expect("a socket");
        socket.bind(SocketAddr::new(IpAddr::from([127, 0, 0, ask.from.max(1)]), 0)).expect("an address");
        let stream = socket.connect((host, port).into()).await.expect("a connection");
        // The handshake's end and what is sent after it are two writes, of which the second would wait.
        stream.set_nodelay(true).expect("a socket");
        match ask.identity {
            None => exchange(stream, ask).await,
            Some(identity) => {
                let name = ServerName::try_from(ask.sni.unwrap_or(NAMES[0])).expect("a name");
                let connector = self.clients.get(identity).expect("an identity of the rig");
                exchange(connector.connect(name, stream).await.expect("TLS"), ask).await
            }
        }
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite, ask: &Ask) -> Answer {
    let (read, mut write) = tokio::io::split(stream);
    let refused = Answer { status: 0, seen: BTreeMap::new() };
    if ask.bytes {
        let _ = write.write_all(b"hello\n").await;
        let mut line = String::new();
        let got = BufReader::new(read).read_line(&mut line).await;
        return if got.is_ok() && line == "hello\n" { Answer { status: 200, ..refused } } else { refused };
    }
    let (method, path, host) =
        (ask.method.unwrap_or("GET"), ask.path.as_deref().unwrap_or("/"), ask.host.unwrap_or(NAMES[0]));
    let mut text = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: 0\r\n");
    for (name, value) in &ask.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(token) = &ask.token {
        text.push_str(&format!("authorization: Bearer {}\r\n", token.sign()));
    }
    text.push_str("\r\n");
    let _ = write.write_all(text.as_bytes()).await;
    // To the end of the head: a connection that is refused is kept open a while, so that its end takes a second.
    let (mut text, mut read) = (String::new(), BufReader::new(read));
    while !text.ends_with("\r\n\r\n") {
        match read.read_line(&mut text).await {
            Ok(1..) => {}
            _ => break,
        }
    }
    let mut head = text.split("\r\n");
    let status = head.next().and_then(|line| line.split(' ').nth(1)).and_then(|s| s.parse().ok()).unwrap_or(0);
    let seen = head.filter_map(|line| line.split_once(": "));
    let seen = seen.filter_map(|(k, v)| Some((k.strip_prefix("seen-")?.to_owned(), v.to_owned())));
    Answer { status, seen: seen.filter(|(_, v)| v != "-").collect() }
}

/// What becomes of a file for the workload: the plaintext chains of its inbound listener.
fn translated(file: &Path) -> [Value; 2] {
    let world = World::load(&[file.to_owned()], None, &Context::default()).expect("a world");
    let proxy = Proxy::Pod { name: "server.shop".into(), role: Role::Sidecar };
    let node = proxy.resolve(&world.snapshot).expect("the workload");
    let config = Config::of(&world.snapshot, &node, &Direct);
    let listing = Listing::of(&config, &[ResourceType::Listener]);
    let mut listeners = listing.resources(ResourceType::Listener).iter();
    let inbound = listeners.find(|l| l["name"] == "virtualInbound").expect("an inbound listener");
    ["virtualInbound-catchall-http", "virtualInbound"].map(|name| {
        let mut chains = inbound["filterChains"].as_array().into_iter().flatten();
        let plain =
            |chain: &&Value| chain["name"] == name && chain["filterChainMatch"]["transportProtocol"] == "raw_buffer";
        chains.find(plain).expect("a plaintext chain").clone()
    })
}

fn address(ip: Ipv4Addr, port: u16) -> Value {
    json!({ "socketAddress": { "address": ip.to_string(), "portValue": port } })
}

/// A server that says each line again.
async fn lines() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await
            });
        }
    });
    port
}

/// The authority of the test's certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "tests");
        let pem = params.self_signed(&key).expect("a certificate").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    fn signed(&self, names: Vec<SanType>) -> (String, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("names");
        params.subject_alt_names = names;
        (params.signed_by(&key, &self.issuer).expect("a certificate").pem(), key)
    }

    /// A client that proves this identity.
    fn client(&self, identity: &str) -> TlsConnector {
        use rustls::pki_types::{CertificateDer, pem::PemObject};
        let uri = SanType::URI(format!("spiffe://{identity}").try_into().expect("ASCII"));
        let (pem, key) = self.signed(vec![uri]);
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.pem.as_bytes()).expect("PEM")).expect("a certificate");
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![CertificateDer::from_pem_slice(pem.as_bytes()).expect("PEM")], key)
            .expect("a client");
        TlsConnector::from(Arc::new(config))
    }

    /// The guarded listeners of a world.
    fn listeners(&self, [http, bytes]: &[Value; 2], port: u16) -> Vec<Value> {
        let names = NAMES.map(|name| SanType::DnsName(name.try_into().expect("ASCII")));
        let (certificate, key) = self.signed(names.to_vec());
        let socket = json!({ "name": "envoy.transport_sockets.tls", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
            "requireClientCertificate": true,
            "commonTlsContext": {
                "tlsCertificates": [{ "certificateChain": { "inlineString": certificate },
                    "privateKey": { "inlineString": key.serialize_pem() } }],
                "validationContext": { "trustedCa": { "inlineString": self.pem } },
            } } });
        let inspector = json!({ "name": "envoy.filters.listener.tls_inspector", "typedConfig": {
            "@type": "type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector" } });
        let (http, bytes) = (answering(http), echoing(bytes));
        let kinds =
            [(PLAIN_HTTP, &http, false), (TLS_HTTP, &http, true), (PLAIN_TCP, &bytes, false), (TLS_TCP, &bytes, true)];
        kinds
            .into_iter()
            .map(|(ip, filters, tls)| {
                let mut chain = json!({ "filters": filters });
                if tls {
                    chain["transportSocket"] = socket.clone();
                }
                json!({ "name": format!("{ip}:{port}"), "address": address(ip, port), "filterChains": [chain],
                    "listenerFilters": if tls { vec![inspector.clone()] } else { Vec::new() } })
            })
            .collect()
    }
}

/// The filters of a chain for requests, behind which all are answered, and told what the workload would have seen.
fn answering(chain: &Value) -> Value {
    let mut filters = chain["filters"].clone();
    let last = filters.as_array_mut().and_then(|all| all.last_mut()).expect("a connection manager");
    let manager = &mut last["typedConfig"];
    for field in ["tracing", "accessLog"] {
        manager.as_object_mut().map(|m| m.remove(field));
    }
    let told: Vec<Value> = TOLD
        .iter()
        .map(|name| json!({ "header": { "key": format!("seen-{}", name.trim_start_matches(':')), "value": format!("%REQ({name})%") } }))
        .collect();
    manager["routeConfig"] = json!({ "virtualHosts": [{ "name": "all", "domains": ["*"], "routes": [{
        "match": { "prefix": "/" }, "directResponse": { "status": 200 }, "responseHeadersToAdd": told }] }] });
    filters
}

/// The filters of a chain for connections, behind which all is said again.
fn echoing(chain: &Value) -> Value {
    let mut filters = chain["filters"].clone();
    let last = filters.as_array_mut().and_then(|all| all.last_mut()).expect("a proxy");
    last["typedConfig"]["cluster"] = "echo".into();
    last["typedConfig"].as_object_mut().map(|m| m.remove("accessLog"));
    filters
}
