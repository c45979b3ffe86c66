//! A real mainsheet on a cluster, run as its users run it, and proxies that speak to it.

use super::{
    Server, directory,
    server::{free_port, spawn},
};
use mainsheet::{
    id::ResourceType,
    pb::{
        envoy::{
            config::core::v3::Node,
            service::discovery::v3::{
                DeltaDiscoveryRequest, DeltaDiscoveryResponse, aggregated_discovery_service_client as ads,
            },
        },
        google::{
            protobuf::{Struct, Value, value::Kind},
            rpc::Status as RpcStatus,
        },
    },
};
use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint},
};

/// A running mainsheet.
pub(crate) struct Plane {
    dir: PathBuf,
    words: Vec<OsString>,
    process: Child,
    started: Instant,
    grpc: u16,
    secure: u16,
    http: u16,
    monitoring: u16,
    webhooks: u16,
}

/// A proxy's stream of one type; as long as it lives, it goes on.
pub(crate) struct Proxy {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    responses: Streaming<DeltaDiscoveryResponse>,
}

impl Plane {
    /// Starts one that signs no certificates.
    pub(crate) fn start(server: &Server) -> Self {
        Self::launch(server, directory(), &["--ca-server=false"])
    }

    /// Starts one that signs certificates, and serves over TLS; with these words beside the usual ones.
    pub(crate) fn with_authority(server: &Server, words: &[&str]) -> Self {
        let dir = directory();
        let ca = dir.join("ca").display().to_string();
        Self::launch(server, dir, &[&["--ca-dir", &ca], words].concat())
    }

    /// Starts one of several, as the bearer of the token of its name, with these words beside the usual ones. Its
    /// authority is the cluster's.
    pub(crate) fn replica(server: &Server, name: &str, words: &[&str]) -> Self {
        let kubeconfig = server.kubeconfig_of(name);
        Self::launch_at(&kubeconfig, directory(), &[&["--pod-name", name, "--lease-duration", "4s"], words].concat())
    }

    fn launch(server: &Server, dir: PathBuf, words: &[&str]) -> Self {
        Self::launch_at(&server.kubeconfig(), dir, words)
    }

    fn launch_at(kubeconfig: &Path, dir: PathBuf, words: &[&str]) -> Self {
        let [grpc, secure, http, monitoring, webhooks] = std::array::from_fn(|_| free_port());
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut all: Vec<OsString> = vec!["discovery".into(), "--kubeconfig".into(), kubeconfig.into()];
        let listen =
            [("grpc", grpc), ("secure-grpc", secure), ("http", http), ("monitoring", monitoring), ("https", webhooks)];
        all.extend(listen.map(|(name, port)| format!("--{name}-addr={}", at(port)).into()));
        all.extend(words.iter().map(Into::into));
        let process = run(&all, &dir);
        Self { dir, words: all, process, started: Instant::now(), grpc, secure, http, monitoring, webhooks }
    }

    /// Kills it, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.process.kill().expect("a process to kill");
        self.process.wait().expect("its end");
        self.process = run(&self.words, &self.dir);
        self.started = Instant::now();
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let done = Command::new("kill").args([signal, &self.process.id().to_string()]).status().expect("kill");
        assert!(done.success());
    }

    /// Its files that are open.
    pub(crate) fn open_files(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.process.id())).expect("a process").count()
    }

    /// The port at which the API server calls it.
    pub(crate) fn webhooks(&self) -> u16 {
        self.webhooks
    }

    /// The directory of its authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("ca")
    }

    /// The port at which it serves over TLS.
    pub(crate) fn secure_port(&self) -> u16 {
        self.secure
    }

    /// The address at which it serves proxies over plaintext.
    pub(crate) fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// A GET of a page: the status, and what it says.
    pub(crate) fn get(&self, monitoring: bool, path: &str) -> (String, String) {
        let port = if monitoring { self.monitoring } else { self.http };
        let url = format!("http://127.0.0.1:{port}{path}");
        let out = Command::new("curl").args(["-sS", "--max-time", "5", "-w", "\n%{http_code}", &url]).output();
        let out = String::from_utf8_lossy(&out.expect("curl").stdout).into_owned();
        let (text, status) = out.rsplit_once('\n').unwrap_or(("", "000"));
        (status.to_owned(), text.to_owned())
    }

    /// Waits until it is ready; how long that took since it was started.
    pub(crate) async fn ready(&self) -> Duration {
        self.ready_within(super::SOON).await
    }

    /// Waits so long until it is ready; how long that took since it was started.
    pub(crate) async fn ready_within(&self, longest: Duration) -> Duration {
        super::within(longest, "mainsheet is ready", async || match self.get(false, "/ready") {
            (status, _) if status == "200" => Ok(()),
            (status, text) => Err(format!("{status} {text}; see {}", self.dir.display())),
        })
        .await;
        self.started.elapsed()
    }

    /// A metric, by its name and labels.
    pub(crate) fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.get(true, "/metrics");
        let line = text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().expect("a number")
    }

    /// The most memory that it had, in MiB.
    pub(crate) fn most(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).expect("a process");
        let most = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("its memory");
        most.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") >> 10
    }

    /// Its memory in MiB, and the seconds of processors that it has used.
    pub(crate) fn cost(&self) -> (u64, f64) {
        let id = self.process.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).expect("a process");
        let memory = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("its memory");
        let memory: u64 = memory.trim().trim_end_matches(" kB").parse().expect("a number");
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).expect("a process");
        let fields: Vec<&str> = stat.rsplit_once(") ").expect("fields").1.split(' ').collect();
        let ticks: f64 = fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number");
        (memory >> 10, ticks / 100.0)
    }

    /// A proxy that asks for clusters over plaintext.
    pub(crate) async fn proxy(&self) -> Proxy {
        let channel = Endpoint::try_from(self.address()).expect("an address");
        let channel = super::eventually("a connection", async || channel.connect().await).await;
        Proxy::open(channel, None).await.expect("a stream")
    }

    /// A connection over TLS.
    pub(crate) async fn secure(&self) -> Channel {
        let file = self.dir.join("ca/root-cert.pem");
        let read = async || fs::read_to_string(&file);
        let roots = super::eventually("the authority's roots", read).await;
        self.secure_with(&roots).await
    }

    /// A connection over TLS, where these roots are trusted.
    pub(crate) async fn secure_with(&self, roots: &str) -> Channel {
        super::eventually("a connection over TLS", async || {
            let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(roots));
            let tls = tls.domain_name("istiod.istio-system.svc");
            let endpoint = Endpoint::try_from(format!("https://127.0.0.1:{}", self.secure)).expect("an address");
            endpoint.tls_config(tls).expect("TLS").connect().await.map_err(|e| format!("{e:?}"))
        })
        .await
    }
}

fn run(words: &[OsString], dir: &Path) -> Child {
    // Another build, where its cost is what matters.
    let program = env::var_os("MAINSHEET").unwrap_or_else(|| env!("CARGO_BIN_EXE_mainsheet").into());
    let mut command = Command::new(program);
    command.args(words);
    spawn(command, &dir.join("log"))
}

impl Drop for Plane {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl Proxy {
    /// Subscribes to all clusters, with a token or without.
    pub(crate) async fn open(channel: Channel, token: Option<&str>) -> Result<Self, Status> {
        Self::open_as(channel, token, "sidecar~10.1.0.1~client.shop~shop.svc.cluster.local", &[]).await
    }

    /// Subscribes to all clusters, as this node with this metadata.
    pub(crate) async fn open_as(
        channel: Channel,
        token: Option<&str>,
        id: &str,
        metadata: &[(&str, &str)],
    ) -> Result<Self, Status> {
        let (requests, stream) = mpsc::channel(4);
        let value = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
        let fields = metadata.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
        let metadata = Some(Struct { fields });
        let first = DeltaDiscoveryRequest {
            node: Some(Node { id: id.to_owned(), metadata, ..Node::default() }),
            type_url: ResourceType::Cluster.type_url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        requests.send(first).await.expect("room for a request");
        let mut request = Request::new(ReceiverStream::new(stream));
        if let Some(token) = token {
            let bearer = format!("Bearer {token}").parse().expect("text");
            request.metadata_mut().insert("authorization", bearer);
        }
        let mut client = ads::AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(1 << 30);
        let responses = client.delta_aggregated_resources(request).await?.into_inner();
        Ok(Self { requests, responses })
    }

    /// Says that its workload is well, or what ails it.
    pub(crate) async fn says(&self, health: Result<(), &str>) {
        let ails = |why: &str| RpcStatus { code: 500, message: why.to_owned(), ..RpcStatus::default() };
        let report = DeltaDiscoveryRequest {
            type_url: "type.googleapis.com/istio.v1.HealthInformation".into(),
            error_detail: health.err().map(ails),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(report).await.expect("a stream");
    }

    /// Takes what comes next, and refuses it with these words.
    pub(crate) async fn refuse(&mut self, words: &str) {
        let response = self.responses.message().await.expect("a stream").expect("a response");
        let refusal = DeltaDiscoveryRequest {
            type_url: response.type_url,
            response_nonce: response.nonce,
            error_detail: Some(RpcStatus { code: 3, message: words.to_owned(), ..RpcStatus::default() }),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(refusal).await.expect("a stream");
    }

    /// The names of what comes next, and of what goes; it is acknowledged.
    pub(crate) async fn next(&mut self) -> Result<(Vec<String>, Vec<String>), Status> {
        let next = time::timeout(super::SOON, self.responses.message()).await;
        let response = next.map_err(|_| Status::deadline_exceeded("nothing came"))??;
        let response = response.ok_or_else(|| Status::aborted("the stream ended"))?;
        let ack = DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..DeltaDiscoveryRequest::default()
        };
        self.requests.send(ack).await.map_err(|_| Status::aborted("the stream ended"))?;
        Ok((response.resources.iter().map(|r| r.name.clone()).collect(), response.removed_resources))
    }
}
