//! One Envoy with many guarded ports: the filters are those that mainsheet makes of each world of policies,
//! and behind them everything is answered. Each world has one port number, at an address for each kind of connection.

use super::token::Token;
use crate::harness::{eventually, run};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use mainsheet::{
    id::ResourceType,
    model::{Mesh, Role},
    parse::{self, Context},
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
    io::{Read, Write},
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
const ADMIN: Ipv4Addr = Ipv4Addr::new(127, 0, 1, 6);

/// The names that the server has, and that clients ask for.
pub(crate) const NAMES: [&str; 2] = ["a.example", "b.example"];

/// The workload that all policies are for.
pub(crate) const POD: &str = "apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server, security.istio.io/tlsMode: istio}}
spec: {serviceAccountName: server, containers: [{name: app, image: example/app}]}
status: {podIP: 10.244.0.10}
";

/// The gateway that all policies are for instead.
const EDGE: &str = "apiVersion: v1
kind: Pod
metadata: {name: server, namespace: shop, labels: {app: server, gateway.networking.k8s.io/gateway-name: server}}
spec: {serviceAccountName: server, containers: [{name: app, image: example/app}]}
status: {podIP: 10.244.0.10}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: server, namespace: shop}
spec:
  selector: {app: server}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ['*']}
---
apiVersion: v1
kind: Service
metadata: {name: bytes, namespace: shop}
spec: {clusterIP: 10.96.0.10, ports: [{name: tcp, port: 9000}]}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: bytes, namespace: shop}
spec: {hosts: ['*'], gateways: [server], tcp: [{route: [{destination: {host: bytes}}]}]}
";

/// The settings of the gateway's mesh, where a world has none of its own: one proxy before it is trusted.
const TRUSTING: &str = "---
apiVersion: v1
kind: ConfigMap
metadata: {name: istio, namespace: istio-system}
data: {mesh: 'defaultConfig: {gatewayTopology: {numTrustedProxies: 1}}'}
";

/// Headers that answers tell of.
const TOLD: [&str; 10] = [
    ":authority",
    "x-sub",
    "x-payload",
    "authorization",
    "x-user",
    ":path",
    "x-told",
    "x-team",
    "x-word",
    "x-permission",
];

/// What a rig is made of.
#[derive(Default)]
pub(crate) struct Setup<'a> {
    /// Worlds of policies: objects as YAML, in which `PORT` stands for the world's port.
    pub(crate) worlds: &'a [String],
    /// The identities that may be proved.
    pub(crate) identities: &'a [&'static str],
    /// Servers of the test's own: the port of the service `authz`, and where it is.
    pub(crate) beside: &'a [(u16, u16)],
    /// The policies are for a gateway, and not for a sidecar.
    pub(crate) gateway: bool,
    /// Switches in the environment.
    pub(crate) switches: &'a [(&'static str, &'static str)],
}

/// What is sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ask {
    /// Lines over TCP instead of a request.
    pub(crate) bytes: bool,
    /// Over HTTP/2 instead of HTTP/1.1.
    pub(crate) h2: bool,
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
    pub(crate) body: Option<String>,
}

/// What came of it.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Answer {
    /// The status; of connections 200 where they got through and 0 where not.
    pub(crate) status: u16,
    /// The headers that the workload would have seen.
    pub(crate) seen: BTreeMap<String, String>,
    /// The headers of the answer itself.
    pub(crate) headers: BTreeMap<String, String>,
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
    /// A rig of sidecars. A server of the test's own is at both ports of the service `authz`: 8000 for HTTP/1.1, 9000
    /// for gRPC.
    pub(crate) fn new(worlds: &[String], identities: &[&'static str], beside: Option<u16>) -> Self {
        let beside: Vec<(u16, u16)> = beside.into_iter().flat_map(|port| [(8000, port), (9000, port)]).collect();
        Self::of(&Setup { worlds, identities, beside: &beside, ..Setup::default() })
    }

    pub(crate) fn of(setup: &Setup<'_>) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
        let authority = Authority::new();
        let echo = runtime.block_on(lines());
        let (dir, _) = run().part();
        let held: Vec<_> =
            setup.worlds.iter().map(|_| std::net::TcpListener::bind((HELD, 0)).expect("a port")).collect();
        let ports: Vec<u16> = held.iter().map(|port| port.local_addr().expect("an address").port()).collect();
        let mut listeners = Vec::new();
        for (world, port) in setup.worlds.iter().zip(&ports) {
            let file = dir.join(format!("{port}.yaml"));
            let place = if setup.gateway { EDGE } else { POD };
            let settings = if setup.gateway && !world.contains("kind: ConfigMap") { TRUSTING } else { "" };
            let world = world.replace("PORT", &port.to_string());
            fs::write(&file, format!("{place}{settings}{world}")).expect("a file");
            listeners.extend(authority.listeners(&translated(&file, setup), *port));
        }
        let cluster = |name: &str, port: u16| {
            json!({ "name": name, "type": "STATIC", "loadAssignment": { "clusterName": name, "endpoints": [{
                "lbEndpoints": [{ "endpoint": { "address": address(Ipv4Addr::LOCALHOST, port) } }] }] } })
        };
        let mut clusters = vec![cluster("echo", echo)];
        for (port, at) in setup.beside {
            let mut beside = cluster(&format!("outbound|{port}||authz.shop.svc.cluster.local"), *at);
            if *port == 9000 {
                beside["typedExtensionProtocolOptions"] = json!({
                    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                        "explicitHttpConfig": { "http2ProtocolOptions": {} } } });
            }
            clusters.push(beside);
        }
        let config = json!({ "admin": { "address": address(ADMIN, ports[0]) },
            "staticResources": { "listeners": listeners, "clusters": clusters } });
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
        let clients = setup.identities.iter().map(|name| (*name, authority.client(name))).collect();
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

    /// How often something was counted: all of Envoy's counters whose names match this.
    pub(crate) fn counted(&self, what: &str) -> u64 {
        let mut stream = std::net::TcpStream::connect((ADMIN, self.ports[0])).expect("Envoy's admin interface");
        let head = format!("GET /stats?filter={what} HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).expect("a connection");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("counters");
        text.lines()
            .filter_map(|line| line.rsplit_once(": ")?.1.parse::<u64>().ok().filter(|_| line.contains("rbac")))
            .sum()
    }

    /// What a world answers.
    pub(crate) fn ask(&self, world: usize, ask: &Ask) -> Answer {
        self.runtime.block_on(async {
            let sent = time::timeout(Duration::from_secs(20), self.send(self.ports[world], ask));
            sent.await.unwrap_or_else(|_| panic!("no answer to {ask:?}"))
        })
    }

    /// Whether a world answers these headers with 200, which are sent over HTTP/2 as they are.
    pub(crate) fn frames(&self, world: usize, headers: &[(&str, &str)]) -> bool {
        let mut stream = std::net::TcpStream::connect((PLAIN_HTTP, self.ports[world])).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
        let text = |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
        let block: Vec<u8> = headers.iter().flat_map(|(k, v)| [vec![0], text(k), text(v)].concat()).collect();
        let length = u32::try_from(block.len()).expect("short").to_be_bytes();
        // No settings; then the headers, which end the request.
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        let frame = [&length[1..], &[1, 5, 0, 0, 0, 1]].concat();
        let all = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &settings[..], &frame[..], &block[..]].concat();
        stream.write_all(&all).expect("a connection");
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).is_err() {
                return false;
            }
            let mut body = vec![0; u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize];
            if stream.read_exact(&mut body).is_err() {
                return false;
            }
            match head[3] {
                // 200 is the eighth of the headers that need not be spelled.
                1 => return body.first() == Some(&0x88),
                3 | 7 => return false,
                _ => {}
            }
        }
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

/// A request over HTTP/2.
async fn over_http2(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, ask: &Ask) -> Answer {
    let refused = Answer { status: 0, seen: BTreeMap::new(), headers: BTreeMap::new() };
    let (host, path) = (ask.host.unwrap_or(NAMES[0]), ask.path.as_deref().unwrap_or("/"));
    let mut request = hyper::Request::builder().method(ask.method.unwrap_or("GET")).uri(format!("http://{host}{path}"));
    for (name, value) in &ask.headers {
        request = request.header(name, value);
    }
    if let Some(token) = &ask.token {
        request = request.header("authorization", format!("Bearer {}", token.sign()));
    }
    let request = request.body(String::new()).expect("a request");
    let Ok((mut sender, connection)) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await else {
        return refused;
    };
    let running = tokio::spawn(connection);
    let answer = match sender.send_request(request).await {
        Ok(answer) => {
            let text = |value: &hyper::header::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
            let headers = answer.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect();
            Answer::of(answer.status().as_u16(), headers)
        }
        Err(_) => refused,
    };
    running.abort();
    answer
}

impl Answer {
    fn of(status: u16, headers: BTreeMap<String, String>) -> Self {
        let seen = headers.iter().filter_map(|(k, v)| Some((k.strip_prefix("seen-")?.to_owned(), v.clone())));
        Self { status, seen: seen.filter(|(_, v)| v != "-").collect(), headers }
    }
}

async fn exchange(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, ask: &Ask) -> Answer {
    if ask.h2 {
        return over_http2(stream, ask).await;
    }
    let (read, mut write) = tokio::io::split(stream);
    let refused = Answer { status: 0, seen: BTreeMap::new(), headers: BTreeMap::new() };
    if ask.bytes {
        let _ = write.write_all(b"hello\n").await;
        let mut line = String::new();
        let got = BufReader::new(read).read_line(&mut line).await;
        return if got.is_ok() && line == "hello\n" { Answer { status: 200, ..refused } } else { refused };
    }
    let (method, path, host) =
        (ask.method.unwrap_or("GET"), ask.path.as_deref().unwrap_or("/"), ask.host.unwrap_or(NAMES[0]));
    let body = ask.body.as_deref().unwrap_or_default();
    let length = body.len();
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {length}\r\n");
    for (name, value) in &ask.headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if let Some(token) = &ask.token {
        text.push_str(&format!("authorization: Bearer {}\r\n", token.sign()));
    }
    text.push_str("\r\n");
    text.push_str(body);
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
    let headers: BTreeMap<String, String> =
        head.filter_map(|line| line.split_once(": ")).map(|(k, v)| (k.to_owned(), v.to_owned())).collect();
    Answer::of(status, headers)
}

/// What becomes of a file for the workload: the plaintext chains of its inbound listener, or those of the gateway's
/// listeners.
pub(crate) fn translated(file: &Path, setup: &Setup<'_>) -> [Value; 2] {
    let mut mesh = Mesh::default();
    assert_eq!(parse::environment(&mut mesh, setup.switches.iter().copied()), Vec::<String>::new());
    let context = Context { mesh: Arc::new(mesh), ..Context::default() };
    let world = World::load(&[file.to_owned()], None, &context).expect("a world");
    let role = if setup.gateway { Role::Router } else { Role::Sidecar };
    let proxy = Proxy::Pod { name: "server.shop".into(), role };
    let node = proxy.resolve(&world.snapshot).expect("the workload");
    let config = Config::of(&world.snapshot, &node, &Direct);
    let listing = Listing::of(&config, &[ResourceType::Listener]);
    let chain = |listener: &str, plain: &dyn Fn(&Value) -> bool| {
        let mut listeners = listing.resources(ResourceType::Listener).iter();
        let listener = listeners.find(|l| l["name"] == listener).unwrap_or_else(|| panic!("no listener {listener}"));
        let mut chains = listener["filterChains"].as_array().into_iter().flatten();
        chains.find(|chain| plain(chain)).expect("a plaintext chain").clone()
    };
    match setup.gateway {
        true => ["0.0.0.0_8080", "0.0.0.0_9000"].map(|name| chain(name, &|_| true)),
        false => ["virtualInbound-catchall-http", "virtualInbound"].map(|name| {
            chain("virtualInbound", &|chain| {
                chain["name"] == name && chain["filterChainMatch"]["transportProtocol"] == "raw_buffer"
            })
        }),
    }
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
    for field in ["tracing", "accessLog", "rds"] {
        manager.as_object_mut().map(|m| m.remove(field));
    }
    let told: Vec<Value> = TOLD
        .iter()
        .map(|name| json!({ "header": { "key": format!("seen-{}", name.trim_start_matches(':')), "value": format!("%REQ({name})%") } }))
        .collect();
    let answer = |user: Option<&str>| {
        let mut headers = told.clone();
        let matches: Vec<Value> =
            user.iter().map(|user| json!({ "name": "x-user", "stringMatch": { "exact": user } })).collect();
        headers.extend(user.map(|user| json!({ "header": { "key": "routed", "value": user } })));
        json!({ "match": { "prefix": "/", "headers": matches }, "directResponse": { "status": 200 },
            "responseHeadersToAdd": headers })
    };
    let routes = [answer(Some("alice")), answer(None)];
    manager["routeConfig"] = json!({ "virtualHosts": [{ "name": "all", "domains": ["*"], "routes": routes }] });
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
