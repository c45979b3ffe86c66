//! The agent beside a stock Envoy: it has the workload's key, which leaves the pod never, and gets certificates for it;
//! it writes Envoy's bootstrap and runs it; and it answers for the pod where Envoy cannot.
//!
//! The way through: [`Pod`] is what the environment says; [`certificate`] or [`files`] keep the newest certificate,
//! which [`secrets`] serves to Envoy; [`envoy`] runs that until it ends, or until it was drained because it is told to.

mod certificate;
mod connect;
mod dns;
mod drain;
mod envoy;
mod files;
mod health;
mod metrics;
mod names;
mod node;
mod output;
mod pod;
mod probe;
mod proxy_config;
mod ready;
mod request;
mod scrape;
mod secrets;
mod status;
#[cfg(test)]
mod tests;

use crate::{
    bootstrap::{self, Beside, ControlPlane, Proof},
    ca::Svid,
    config::{self, AgentRole},
    xds::Local,
};
use anyhow::{Context as _, Result, anyhow, bail};
use certificate::Signing;
use connect::Target;
use envoy::Envoy;
use metrics::Metrics;
use pod::Pod;
use probe::Probers;
use ready::Ready;
use scrape::Scraper;
use serde_json::Value;
use status::{Order, Status};
use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    pin::Pin,
    process::ExitCode,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time,
};

/// How long Envoy's start waits for the certificate. One that starts without it tries again and again.
const PATIENCE: Duration = Duration::from_secs(2);

/// The workload's certificate, and until when it is valid, in seconds since 1970.
#[derive(Debug)]
struct Certified {
    svid: Svid,
    expires: u64,
}

/// The newest certificate; nothing until there is one.
type Newest = watch::Receiver<Option<Arc<Certified>>>;
/// The newest names of the mesh; nothing until there are some.
type Names = watch::Receiver<Option<Arc<dns::Table>>>;
/// Something that runs as long as the agent.
type Task = Pin<Box<dyn Future<Output = Result<()>> + Send>>;

/// Runs the agent until Envoy ends, or until `stop` returns and Envoy is drained; at once when it returns again.
///
/// # Errors
///
/// When it cannot start or cannot go on; the text says why.
pub async fn run(
    options: config::Agent,
    environment: Vec<(String, String)>,
    mut stop: impl AsyncFnMut(),
) -> Result<ExitCode> {
    let agent = Agent::new(options, environment)?;
    let (newest, mut tasks) = agent.secrets().await?;
    let (table, naming) = agent.serve_names(newest.clone()).await?;
    tasks.extend(naming);
    let (orders, mut ordered) = mpsc::channel(1);
    let ready = agent.ready(table);
    tasks.extend(agent.check_health(&newest, &ready)?);
    tasks.extend(agent.serve_status(orders, ready).await?);
    let config = agent.write_bootstrap()?;
    let mut running = futures_util::future::select_all(tasks);
    if agent.options.envoy.disable_envoy {
        tracing::info!(bootstrap = %config.display(), "running without an Envoy of its own");
        loop {
            tokio::select! {
                () = stop() => return Ok(ExitCode::SUCCESS),
                (ended, ..) = &mut running => return Err(early(ended)),
                Some(order) = ordered.recv() => match order {
                    Order::Quit => return Ok(ExitCode::SUCCESS),
                    Order::Drain => agent.drain().begin().await,
                }
            }
        }
    }
    tokio::select! {
        () = stop() => return Ok(ExitCode::SUCCESS),
        (ended, ..) = &mut running => return Err(early(ended)),
        () = first(newest) => {}
    }
    let mut envoy = Envoy::start(&agent.envoy_command(&config)?)?;
    let drain = agent.drain();
    let mut life = std::pin::pin!(drain.after(&mut stop, &mut ordered));
    tokio::select! {
        code = envoy.ended() => return code,
        (ended, ..) = &mut running => return Err(early(ended)),
        () = &mut life => {}
    }
    // What Envoy needs is served until it has ended.
    tokio::select! {
        code = envoy.end() => code,
        (ended, ..) = &mut running => Err(early(ended)),
    }
}

/// Asks something of the agent, or of the Envoy, that listens on a port of this pod: the status and the body of its answer.
///
/// # Errors
///
/// When nobody answers.
pub async fn ask(port: u16, method: &str, path: &str) -> Result<(u16, bytes::Bytes)> {
    let method = method.to_ascii_uppercase().parse().with_context(|| format!("{method}: write GET or POST"))?;
    let request = request::Request { method, ..request::Request::get(path) };
    let answer = request.send((Ipv4Addr::LOCALHOST, port).into()).await?;
    Ok((answer.status.as_u16(), answer.body))
}

fn early(ended: Result<()>) -> anyhow::Error {
    ended.err().unwrap_or_else(|| anyhow!("a part of the agent has stopped"))
}

async fn first(mut newest: Newest) {
    if time::timeout(PATIENCE, newest.wait_for(Option::is_some)).await.is_err() {
        tracing::warn!("Envoy starts without a certificate, which is not there yet");
    }
}

/// What an agent is made of.
struct Agent {
    options: config::Agent,
    pod: Pod,
    metrics: Arc<Metrics>,
    /// Whether Envoy is being drained.
    ending: Arc<AtomicBool>,
}

impl Agent {
    fn new(options: config::Agent, environment: Vec<(String, String)>) -> Result<Self> {
        let pod = Pod::new(&options, environment)?;
        Ok(Self { options, pod, metrics: Arc::default(), ending: Arc::default() })
    }

    /// Where the control plane is: host and port, with the name in its certificate.
    fn discovery(&self) -> Result<(String, u16, String)> {
        let proxy = &self.pod.proxy;
        let given = self.options.discovery.discovery_address.as_deref().or_else(|| proxy.text("discoveryAddress"));
        let address = given.unwrap_or("istiod.istio-system.svc:15012");
        let (host, port) = host_and_port(address).with_context(|| format!("--discovery-address {address}"))?;
        let name = self.options.discovery.server_name.clone().filter(|name| !name.is_empty());
        // An address is in no certificate of a control plane, and a tunnel's end is not its name.
        let elsewhere = host.contains("localhost") || host.parse::<std::net::IpAddr>().is_ok();
        let usual = if elsewhere { "istiod.istio-system.svc".to_owned() } else { host.clone() };
        Ok((host, port, name.unwrap_or(usual)))
    }

    /// The newest certificate, and what keeps it.
    fn certificates(&self) -> Result<(Newest, Vec<Task>)> {
        let (sender, newest) = watch::channel(None);
        let identity = &self.options.identity;
        let mut tasks: Vec<Task> = Vec::new();
        match files::Mounted::of(identity, &self.pod) {
            Some(mounted) => tasks.push(Box::pin(mounted.keep(sender, self.metrics.clone()))),
            None => {
                let (host, port, name) = self.discovery()?;
                let discovery = format!("{host}:{port}");
                let address = identity.ca_address.clone().filter(|a| !a.is_empty()).unwrap_or(discovery);
                let signing = Signing::new(identity, &self.pod, address, name)?;
                tasks.push(Box::pin(signing.keep(sender, self.metrics.clone())));
            }
        }
        if let Some(dir) = &identity.output_certs {
            fs::create_dir_all(dir).with_context(|| format!("--output-certs {}", dir.display()))?;
            tasks.push(Box::pin(output::keep(dir.clone(), newest.clone())));
        }
        Ok((newest, tasks))
    }

    /// The socket on which Envoy gets secrets.
    fn socket(&self) -> PathBuf {
        let given = &self.options.identity.sds_socket;
        match self.pod.variable("WORKLOAD_IDENTITY_SOCKET_FILE") {
            Some(name) => given.with_file_name(name),
            None => given.clone(),
        }
    }

    /// The newest certificate, and what keeps it and serves it to Envoy.
    async fn secrets(&self) -> Result<(Newest, Vec<Task>)> {
        let socket = self.socket();
        let shown = || format!("--sds-socket {}", socket.display());
        let Some(listener) = secrets::bind(&socket).await.with_context(shown)? else {
            tracing::info!(socket = %socket.display(), "somebody else serves secrets here, whose are used");
            // Nobody waits for a certificate that none will send.
            let (_, newest) = watch::channel(None);
            return Ok((newest, vec![Box::pin(std::future::pending())]));
        };
        let (newest, mut tasks) = self.certificates()?;
        let (secrets, asked, keeping) = secrets::secrets(newest.clone(), self.options.identity.revoked());
        tasks.push(Box::pin(secrets::serve(listener, Local::new(secrets, asked))));
        tasks.push(Box::pin(keeping));
        Ok((newest, tasks))
    }

    /// Answers for the names of the mesh, where the pod's questions come here; and tells which there are.
    async fn serve_names(&self, newest: Newest) -> Result<(Option<Names>, Vec<Task>)> {
        let pod = &self.pod;
        if !pod.is_on("ISTIO_META_DNS_CAPTURE") {
            return Ok((None, Vec::new()));
        }
        let given = &self.options.dns;
        let file = &given.resolv_conf;
        let resolvers = dns::Resolvers::read(file, given.dns_forward_timeout, given.dns_forward_parallel);
        let resolvers = resolvers.with_context(|| format!("--resolv-conf {}", file.display()))?;
        let sockets = dns::bind(&given.dns_proxy_addr, &resolvers).await;
        let sockets = sockets.with_context(|| format!("--dns-proxy-addr {}", given.dns_proxy_addr))?;
        let following = names::Following {
            target: self.target()?,
            newest,
            node: node::node(pod),
            place: dns::Place::new(&pod.namespace, &pod.domain, &resolvers.search),
        };
        let (sender, table) = watch::channel(None);
        let server = dns::Server::new(table.clone(), resolvers, self.metrics.clone());
        let serving = sockets.into_iter().map(|(udp, tcp)| -> Task { Box::pin(server.clone().serve(udp, tcp)) });
        let mut tasks: Vec<Task> = serving.collect();
        tasks.push(Box::pin(following.keep(sender)));
        Ok((Some(table), tasks))
    }

    /// The control plane, for streams of the agent's own.
    fn target(&self) -> Result<Target> {
        let (host, port, server_name) = self.discovery()?;
        let xds = self.options.discovery.xds_root_cert.clone();
        let roots = xds.unwrap_or_else(|| self.options.identity.root_cert.clone());
        Ok(Target { host, port, server_name, roots })
    }

    /// Whether Envoy is ready, and what else has to be there.
    fn ready(&self, table: Option<Names>) -> Arc<Ready> {
        let conditions = table
            .into_iter()
            .map(|table| -> ready::Condition { ("the table of names", Box::new(move || table.borrow().is_some())) });
        let (ending, metrics) = (self.ending.clone(), self.metrics.clone());
        Arc::new(Ready::new(self.pod.admin_port(), ending, conditions.collect(), metrics))
    }

    /// Asks the workload how it is, and tells the control plane, where the settings say how to ask.
    fn check_health(&self, newest: &Newest, ready: &Arc<Ready>) -> Result<Option<Task>> {
        let Some(settings) = self.pod.proxy.object("readinessProbe") else { return Ok(None) };
        let envoy = (!self.options.envoy.disable_envoy).then(|| ready.clone());
        let check = health::Check::new(settings.clone().into(), self.probed(), envoy)?;
        let (newest, node) = (newest.clone(), node::node(&self.pod));
        Ok(Some(Box::pin(check.keep(health::Telling { target: self.target()?, newest, node }))))
    }

    /// The address of the workload for those who ask how it is.
    fn probed(&self) -> IpAddr {
        let own = self.pod.ips[0];
        match (self.pod.is_on("REWRITE_PROBE_LEGACY_LOCALHOST_DESTINATION"), own) {
            (false, _) => own,
            (true, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (true, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        }
    }

    /// Serves the agent's own port, where it has one.
    async fn serve_status(&self, orders: mpsc::Sender<Order>, ready: Arc<Ready>) -> Result<Option<Task>> {
        let Some(port) = self.pod.agent_port() else { return Ok(None) };
        let pod = &self.pod;
        let everywhere: IpAddr = if pod.ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let listener = TcpListener::bind((everywhere, port)).await;
        let listener = listener.with_context(|| format!("the agent's port, statusPort {port}"))?;
        let merged = pod.variable("PILOT_AGENT_MERGE_ENVOY_STATS") != Some("false");
        let annotations = pod.variable("ISTIO_PROMETHEUS_ANNOTATIONS");
        let annotations = annotations.filter(|_| self.options.role == AgentRole::Sidecar);
        let envoy = merged.then_some(pod.prometheus_port());
        let status = Status {
            ready,
            scraper: Scraper::new(envoy, annotations, port, self.metrics.clone())?,
            probers: Probers::new(pod.variable("ISTIO_KUBE_APP_PROBERS"), self.probed(), port)?,
            orders,
            metrics_on_loopback: pod.is_on("METRICS_LOCALHOST_ACCESS_ONLY"),
        };
        Ok(Some(Box::pin(status::serve(listener, status))))
    }

    /// Writes Envoy's bootstrap, and tells where.
    fn write_bootstrap(&self) -> Result<PathBuf> {
        let pod = &self.pod;
        if let Some(own) = pod.proxy.text("customConfigFile").filter(|file| !file.is_empty()) {
            return Ok(own.into());
        }
        let dir = self.options.envoy.config_path.clone();
        let dir = dir.unwrap_or_else(|| pod.proxy.text("configPath").unwrap_or("/etc/istio/proxy").into());
        fs::create_dir_all(&dir).with_context(|| format!("--config-path {}", dir.display()))?;
        let file = dir.join("envoy-rev.json");
        let text = serde_json::to_string_pretty(&self.bootstrap()?)?;
        output::replace(&file, &text, 0o644).with_context(|| file.display().to_string())?;
        Ok(file)
    }

    fn bootstrap(&self) -> Result<Value> {
        let pod = &self.pod;
        let (host, port, server_name) = self.discovery()?;
        let roots = self.options.discovery.xds_root_cert.as_ref().map(|file| file.to_string_lossy());
        let proof = Proof::Certificate { roots: roots.as_deref() };
        let control_plane = ControlPlane { host: &host, port, server_name: &server_name, proof };
        let mut bootstrap = bootstrap::bootstrap(&node::node(pod), &control_plane, pod.admin_port());
        let socket = self.socket();
        let beside = Beside {
            socket: &socket.to_string_lossy(),
            agent_port: pod.agent_port(),
            status_port: pod.status_port(),
            prometheus_port: pod.prometheus_port(),
            admin_port: pod.admin_port(),
            metrics_on_loopback: pod.is_on("METRICS_LOCALHOST_ACCESS_ONLY"),
            ipv4: pod.ipv4(),
            runtime: pod.proxy.object("runtimeValues").cloned().unwrap_or_default(),
            stats: pod.stats(self.options.envoy.exit_on_zero_active_connections),
        };
        beside.complete(&mut bootstrap);
        Ok(bootstrap)
    }

    fn envoy_command(&self, config: &Path) -> Result<envoy::Command> {
        let given = &self.options.envoy;
        let pod = &self.pod;
        let program = given.envoy.clone();
        let program = program.unwrap_or_else(|| pod.proxy.text("binaryPath").unwrap_or("envoy").into());
        let overrides = match pod.variable("ISTIO_BOOTSTRAP_OVERRIDE") {
            Some(file) => Some(fs::read_to_string(file).with_context(|| format!("ISTIO_BOOTSTRAP_OVERRIDE {file}"))?),
            None => None,
        };
        Ok(envoy::Command {
            program,
            config: config.to_owned(),
            overrides,
            drain: pod.proxy.duration("drainDuration").unwrap_or(Duration::from_secs(45)),
            ipv4: pod.ipv4(),
            level: given.proxy_log_level.clone(),
            levels: given.proxy_component_log_level.clone(),
            concurrency: given.concurrency.or_else(|| pod.concurrency()),
        })
    }

    fn drain(&self) -> drain::Drain {
        let given = &self.options.envoy;
        drain::Drain {
            admin_port: self.pod.admin_port(),
            inbound_only: self.options.role == AgentRole::Sidecar,
            time: self.pod.proxy.duration("terminationDrainDuration").unwrap_or(Duration::from_secs(5)),
            until_unused: given.exit_on_zero_active_connections.then_some(given.minimum_drain_duration),
            ending: self.ending.clone(),
            own_ports: vec![self.pod.status_port(), self.pod.prometheus_port()],
        }
    }
}

/// The parts of `HOST:PORT`.
fn host_and_port(text: &str) -> Result<(String, u16)> {
    let Some((host, port)) = text.rsplit_once(':') else { bail!("write HOST:PORT") };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), port.parse().context("write HOST:PORT")?))
}
