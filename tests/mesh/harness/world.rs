//! A world: a mainsheet on a directory of files, and pods with workloads and real sidecars.

use super::{
    agent::{self, AgentFiles, AgentPorts},
    bootstrap::{Bootstrap, sidecar_node},
    client::{Client, echo},
    control_plane::{ControlPlane, Ports, free_port, program},
    envoy::Envoy,
    eventually,
    network::{Network, Place},
    pod::Pod,
    process::{Launch, Process, User, command},
    run,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
};

/// A running world. What is in it may be used by several tests at a time, as long as each has objects of its own.
#[derive(Debug)]
pub(crate) struct World {
    dir: PathBuf,
    config: PathBuf,
    control_plane: Mutex<ControlPlane>,
    workloads: BTreeMap<String, Workload>,
    node: Place,
    _network: Option<Network>,
}

/// A pod that runs.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The pod.
    pub(crate) pod: Pod,
    /// Where it runs.
    pub(crate) place: Place,
    envoy: Option<Mutex<Envoy>>,
    agent: Option<Mutex<(Launch, Process)>>,
    files: Option<AgentFiles>,
    _echo: Process,
}

impl Workload {
    /// Its sidecar.
    pub(crate) fn envoy(&self) -> MutexGuard<'_, Envoy> {
        let envoy = self.envoy.as_ref().expect("a pod with a sidecar");
        envoy.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The agent that runs apart from its sidecar: how it is started, and its process.
    pub(crate) fn agent(&self) -> MutexGuard<'_, (Launch, Process)> {
        let agent = self.agent.as_ref().expect("a pod with an agent apart");
        agent.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The files of its agent.
    pub(crate) fn agent_files(&self) -> &AgentFiles {
        self.files.as_ref().expect("a pod with an agent")
    }
}

impl World {
    /// Starts a world with these pods, each with an address and its objects in a file. Every sidecar has its first
    /// configuration when this returns.
    pub(crate) fn new(pods: Vec<Pod>) -> Self {
        Self::with(pods, &[])
    }

    /// The same, with more files that are there from the start.
    pub(crate) fn with(pods: Vec<Pod>, files: &[(&str, &str)]) -> Self {
        let (pods, files) = described(pods, files);
        Self::of_files(pods, files)
    }

    /// The same, whose certificates live as long as this where proxies do not ask for another time.
    pub(crate) fn with_certificates(pods: Vec<Pod>, files: &[(&str, &str)], ttl: &'static str) -> Self {
        let (pods, files) = described(pods, files);
        let (dir, prefix) = run().part();
        let ports = Ports { certificate_ttl: ttl, ..Ports::standard(Network::NODE) };
        Self::start(dir, Some(Network::new(prefix)), ports, pods, files)
    }

    /// A world of these files, which describe the pods and all the rest.
    pub(crate) fn of_files(pods: Vec<Pod>, files: Vec<(String, String)>) -> Self {
        let (dir, prefix) = run().part();
        let network = Network::new(prefix);
        Self::start(dir, Some(network), Ports::standard(Network::NODE), pods, files)
    }

    /// A world without namespaces and capture, for those who may not make them: the pods have addresses of the
    /// loopback device, and a sidecar has listeners that its workload sends to by itself.
    pub(crate) fn on_loopback(pods: Vec<Pod>, files: Vec<(String, String)>) -> Self {
        let (dir, _) = run().part();
        Self::start(dir, None, Ports::free("127.0.0.1"), pods, files)
    }

    fn start(
        dir: PathBuf,
        mut network: Option<Network>,
        ports: Ports,
        pods: Vec<Pod>,
        files: Vec<(String, String)>,
    ) -> Self {
        let config = dir.join("config");
        fs::create_dir_all(&config).expect("the directory of files");
        for (name, text) in files {
            fs::write(config.join(name), text).expect("a file");
        }
        let node = network.as_ref().map_or(Place::Here, Network::node);
        let discovery = format!("{}:{}", ports.address, ports.grpc).parse().expect("an address");
        let mut ports = ports;
        if pods.iter().any(|p| p.identity) {
            ports.secure = Some((if network.is_some() { 15012 } else { free_port() }, dir.join("ca")));
        }
        let secure = ports.secure.clone().map(|(port, ca)| (format!("{}:{port}", ports.address), ca));
        let control_plane = ControlPlane::start(&node, ports, &config, &dir.join("mainsheet.log"));
        let start =
            |pod: Pod| (pod.name.clone(), Workload::start(pod, network.as_mut(), (discovery, secure.as_ref()), &dir));
        let workloads: BTreeMap<String, Workload> = pods.into_iter().map(start).collect();
        for workload in workloads.values().filter(|w| w.envoy.is_some()) {
            workload.envoy().wait_live();
        }
        Self { dir, config, control_plane: Mutex::new(control_plane), workloads, node, _network: network }
    }

    /// The directory of its certificate authority.
    pub(crate) fn authority(&self) -> PathBuf {
        self.dir.join("ca")
    }

    /// Takes the next step of a rotation of its authority's root, if the last has been in force for so long.
    pub(crate) fn rotate(&self, overlap: &str) -> Result<(), String> {
        let mut command = std::process::Command::new(program());
        command.args(["ca", "rotate", "--overlap", overlap, "--ca-dir"]).arg(self.authority());
        let output = command.output().expect("mainsheet");
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// The directory of its files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The place of the node, from which pods are reached without a sidecar.
    pub(crate) fn node(&self) -> Place {
        self.node.clone()
    }

    /// Its control plane.
    pub(crate) fn control_plane(&self) -> MutexGuard<'_, ControlPlane> {
        self.control_plane.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// A pod by its name.
    pub(crate) fn workload(&self, pod: &str) -> &Workload {
        self.workloads.get(pod).unwrap_or_else(|| panic!("there is no pod {pod}"))
    }

    /// Its pods.
    pub(crate) fn workloads(&self) -> impl Iterator<Item = &Workload> {
        self.workloads.values()
    }

    /// A new client in a pod.
    pub(crate) fn client(&self, pod: &str) -> Client {
        Client::new(&self.workload(pod).place)
    }

    /// Writes a file of objects, at once and whole.
    pub(crate) fn apply(&self, name: &str, text: &str) {
        let draft = self.dir.join(format!("{name}.draft"));
        fs::write(&draft, text).expect("a file");
        fs::rename(draft, self.config.join(name)).expect("a file");
    }

    /// A file of objects, to be edited.
    pub(crate) fn file(&self, name: &str) -> String {
        fs::read_to_string(self.config.join(name)).expect("a file")
    }

    /// Deletes a file of objects.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.config.join(name)).expect("a file");
    }

    /// Waits until the configuration of a pod's sidecar is as `check` wants it.
    pub(crate) fn wait_until(&self, pod: &str, what: &str, check: impl Fn(&str) -> bool) {
        eventually(&format!("the sidecar of {pod} {what}"), || {
            let mut envoy = self.workload(pod).envoy();
            if check(&envoy.config_dump()) {
                return Ok(());
            }
            let rejected = envoy.rejected();
            assert!(rejected.is_empty(), "the sidecar of {pod} refuses what it was served: {rejected:#?}");
            Err("it has not, and has refused nothing".to_owned())
        });
    }

    /// Waits until the sidecar of a pod has a text in its configuration.
    pub(crate) fn wait_config(&self, pod: &str, text: &str) {
        self.wait_until(pod, &format!("has {text}"), |dump| dump.contains(text));
    }

    /// A program of the echo kind in a place, with these words of its command line.
    pub(crate) fn run_echo(&self, place: &Place, name: &str, words: &[&str]) -> Process {
        let mut command = command(place, echo(), User::Own);
        command.args(words);
        Process::start(command, self.dir.join(format!("{name}.log")))
    }
}

impl Workload {
    fn start(
        pod: Pod,
        network: Option<&mut Network>,
        (discovery, secure): (SocketAddr, Option<&(String, PathBuf)>),
        dir: &Path,
    ) -> Self {
        let captured = network.is_some();
        let place = network.map_or(Place::Here, |n| n.add_pod(&pod.name, &pod.ip, pod.sidecar && pod.captured));
        let bind = if captured { "0.0.0.0" } else { &pod.ip };
        let mut echo = command(&place, echo(), User::Own);
        let label = |key| pod.labels.get(key).cloned().unwrap_or_default();
        echo.arg("serve").args(["--name", &label("app"), "--version", &label("version")]);
        echo.args(pod.http.iter().map(|port| format!("--http={bind}:{port}")));
        echo.args(pod.tcp.iter().map(|port| format!("--tcp={bind}:{port}")));
        echo.args(pod.calls.iter().map(|call| format!("--calls={call}")));
        let log = dir.join(format!("{}-echo.log", pod.name));
        let _echo = Process::start(echo, log);
        let mut running = Self { pod, place, envoy: None, agent: None, files: None, _echo };
        if running.pod.sidecar {
            match secure.filter(|_| running.pod.agent) {
                Some((at, ca)) => running.start_agent((at, ca), captured, dir),
                None => running.start_envoy((discovery, secure), captured, dir),
            }
        }
        running
    }

    /// Starts an Envoy that nobody is beside.
    fn start_envoy(
        &mut self,
        (discovery, secure): (SocketAddr, Option<&(String, PathBuf)>),
        captured: bool,
        dir: &Path,
    ) {
        let pod = &self.pod;
        let mut node = sidecar_node(&pod.name, &pod.namespace, &pod.ip, &pod.labels);
        node["metadata"]["SERVICE_ACCOUNT"] = pod.account.as_str().into();
        if !captured || !pod.captured {
            node["metadata"]["INTERCEPTION_MODE"] = "NONE".into();
        }
        if pod.on_demand {
            node["metadata"]["ON_DEMAND"] = "true".into();
        }
        if pod.router {
            let id = node["id"].as_str().unwrap_or_default().replacen("sidecar", "router", 1);
            node["id"] = id.into();
        }
        let admin: SocketAddr = ([127, 0, 0, 1], if captured { 15000 } else { free_port() }).into();
        let whole = secure.filter(|_| pod.identity).map(|(at, ca)| with_token(pod, at, ca, admin.port(), dir));
        let bootstrap = Bootstrap { node, discovery, admin, delta: pod.delta, compressed: pod.compressed, whole };
        self.envoy = Some(Mutex::new(Envoy::start(&self.place, &bootstrap, dir, &pod.name)));
    }

    /// Starts an agent, and an Envoy where that does not.
    fn start_agent(&mut self, plane: (&str, &Path), captured: bool, dir: &Path) {
        let [admin, agent, status, prometheus] = [(); 4].map(|()| if captured { 0 } else { free_port() });
        let ports = if captured { AgentPorts::STANDARD } else { AgentPorts { admin, agent, status, prometheus } };
        let (launch, files) = agent::agent(&self.pod, &self.place, plane, ports, dir);
        let admin = ([127, 0, 0, 1], ports.admin).into();
        let envoy = match self.pod.apart {
            false => Envoy::launched(launch, admin),
            true => {
                let process = launch.start();
                self.agent = Some(Mutex::new((launch, process)));
                let bootstrap = files.bootstrap();
                eventually("the bootstrap is there", || bootstrap.exists().then_some(()).ok_or("it is not".to_owned()));
                Envoy::of_file(&self.place, &bootstrap, admin, dir.join(format!("{}.log", self.pod.name)))
            }
        };
        (self.envoy, self.files) = (Some(Mutex::new(envoy)), Some(files));
    }
}

/// The bootstrap that mainsheet writes for a sidecar which proves who it is by a token.
fn with_token(pod: &Pod, discovery: &str, ca: &Path, admin: u16, dir: &Path) -> Value {
    let file = |what: &str| dir.join(format!("{}-{what}", pod.name));
    let run = |words: &[&str], paths: &[(&str, &Path)]| {
        let mut command = std::process::Command::new(program());
        command.args(words);
        for (flag, path) in paths {
            command.arg(flag).arg(path);
        }
        let output = command.output().expect("mainsheet");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    let [token, roots] = agent::proof(pod, ca, dir);
    let proxy = format!("{}.{}", pod.name, pod.namespace);
    let admin = admin.to_string();
    let words = ["bootstrap", "--proxy", &proxy, "--discovery-address", discovery, "--admin-port", &admin];
    let more = ["--server-name", "istiod.istio-system.svc", "--write-secrets", "-o", "json"];
    let [secret, roots_secret] = [file("token-sds.json"), file("roots-sds.json")];
    let config = dir.join("config");
    let given: [(&str, &Path); 3] = [("-f", &config), ("--root-cert", &roots), ("--token", &token)];
    let paths = given.into_iter().chain([("--token-secret", &*secret), ("--roots-secret", &*roots_secret)]);
    let paths: Vec<(&str, &Path)> = paths.collect();
    let kind = ["--proxy-type", if pod.router { "router" } else { "sidecar" }];
    let mut bootstrap: Value =
        serde_json::from_str(&run(&[&words[..], &more, &kind].concat(), &paths)).expect("a bootstrap");
    // As the injector writes it.
    if let Some(network) = pod.labels.get("topology.istio.io/network") {
        bootstrap["node"]["metadata"]["NETWORK"] = network.as_str().into();
    }
    bootstrap
}

/// Pods with their addresses, and the files that describe them.
fn described(pods: Vec<Pod>, files: &[(&str, &str)]) -> (Vec<Pod>, Vec<(String, String)>) {
    let pods = addressed(pods);
    let objects = manifest(pods.iter().flat_map(Pod::objects));
    let files = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned()));
    let files = files.chain([("pods.yaml".to_owned(), objects)]).collect();
    (pods, files)
}

/// Gives each pod that has none an address: 10.244.1.1 for the first.
fn addressed(mut pods: Vec<Pod>) -> Vec<Pod> {
    for (pod, number) in pods.iter_mut().zip(1..) {
        if pod.ip.is_empty() {
            pod.ip = format!("10.244.1.{number}");
        }
    }
    pods
}

/// Objects as one file, each once.
fn manifest(objects: impl Iterator<Item = Value>) -> String {
    let unique: BTreeSet<String> = objects.map(|o| o.to_string()).collect();
    unique.into_iter().map(|o| format!("---\n{o}\n")).collect()
}
