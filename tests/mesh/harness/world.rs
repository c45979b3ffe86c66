//! A world: a mainsheet on a directory of files, and pods with workloads and real sidecars.

use super::{
    bootstrap::{Bootstrap, sidecar_node},
    client::{Client, echo},
    control_plane::{ControlPlane, Ports},
    envoy::Envoy,
    eventually,
    network::{Network, Place},
    pod::Pod,
    process::{Process, command},
    run,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
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
    network: Network,
}

/// A pod that runs.
#[derive(Debug)]
pub(crate) struct Workload {
    /// The pod.
    pub(crate) pod: Pod,
    /// Where it runs.
    pub(crate) place: Place,
    envoy: Option<Mutex<Envoy>>,
    _echo: Process,
}

impl Workload {
    /// Its sidecar.
    pub(crate) fn envoy(&self) -> MutexGuard<'_, Envoy> {
        let envoy = self.envoy.as_ref().expect("a pod with a sidecar");
        envoy.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl World {
    /// Starts a world with these pods. Every sidecar has its first configuration when this returns.
    pub(crate) fn new(pods: Vec<Pod>) -> Self {
        Self::with(pods, &[])
    }

    /// The same, with files that are there from the start.
    pub(crate) fn with(pods: Vec<Pod>, files: &[(&str, &str)]) -> Self {
        let (dir, prefix) = run().part();
        let config = dir.join("config");
        fs::create_dir_all(&config).expect("the directory of files");
        let pods = addressed(pods);
        fs::write(config.join("pods.yaml"), manifest(pods.iter().flat_map(Pod::objects))).expect("a file");
        for (name, text) in files {
            fs::write(config.join(name), text).expect("a file");
        }
        let mut network = Network::new(prefix);
        let ports = Ports::standard(Network::NODE);
        let control_plane = ControlPlane::start(&network.node(), ports, &config, &dir.join("mainsheet.log"));
        let start = |pod: Pod| (pod.name.clone(), Workload::start(pod, &mut network, &dir));
        let workloads: BTreeMap<String, Workload> = pods.into_iter().map(start).collect();
        for workload in workloads.values().filter(|w| w.envoy.is_some()) {
            workload.envoy().wait_live();
        }
        Self { dir, config, control_plane: Mutex::new(control_plane), workloads, network }
    }

    /// The directory of its files.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The place of the node, from which pods are reached without a sidecar.
    pub(crate) fn node(&self) -> Place {
        self.network.node()
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

    /// Deletes a file of objects.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.config.join(name)).expect("a file");
    }

    /// Waits until the configuration of a pod's sidecar is as `check` wants it.
    pub(crate) fn wait_until(&self, pod: &str, what: &str, check: impl Fn(&str) -> bool) {
        eventually(&format!("the sidecar of {pod} {what}"), || {
            let dump = self.workload(pod).envoy().config_dump();
            if check(&dump) { Ok(()) } else { Err(format!("rejected: {:?}", self.workload(pod).envoy().rejected())) }
        });
    }

    /// Waits until the sidecar of a pod has a text in its configuration.
    pub(crate) fn wait_config(&self, pod: &str, text: &str) {
        self.wait_until(pod, &format!("has {text}"), |dump| dump.contains(text));
    }

    /// A program of the echo kind in a place, with these words of its command line.
    pub(crate) fn run_echo(&self, place: &Place, name: &str, words: &[&str]) -> Process {
        let mut command = command(place, echo(), false);
        command.args(words);
        Process::start(command, self.dir.join(format!("{name}.log")))
    }
}

impl Workload {
    fn start(pod: Pod, network: &mut Network, dir: &Path) -> Self {
        let place = network.add_pod(&pod.name, &pod.ip, pod.sidecar);
        let mut echo = command(&place, echo(), false);
        let label = |key| pod.labels.get(key).cloned().unwrap_or_default();
        echo.arg("serve").args(["--name", &label("app"), "--version", &label("version")]);
        echo.args(pod.http.iter().map(|port| format!("--http=0.0.0.0:{port}")));
        echo.args(pod.tcp.iter().map(|port| format!("--tcp=0.0.0.0:{port}")));
        echo.args(pod.calls.iter().map(|call| format!("--calls={call}")));
        let log = dir.join(format!("{}-echo.log", pod.name));
        let _echo = Process::start(echo, log);
        let envoy = pod.sidecar.then(|| {
            let bootstrap = Bootstrap {
                node: sidecar_node(&pod.name, &pod.namespace, &pod.ip, &pod.labels),
                discovery: (Network::NODE.parse::<std::net::Ipv4Addr>().expect("an address"), 15010).into(),
                admin: ([127, 0, 0, 1], 15000).into(),
                delta: pod.delta,
            };
            Mutex::new(Envoy::start(&place, &bootstrap, dir, &pod.name))
        });
        Self { pod, place, envoy, _echo }
    }
}

/// Gives each pod its address: 10.244.1.1 for the first.
fn addressed(mut pods: Vec<Pod>) -> Vec<Pod> {
    for (pod, number) in pods.iter_mut().zip(1..) {
        pod.ip = format!("10.244.1.{number}");
    }
    pods
}

/// Objects as one file, each once.
fn manifest(objects: impl Iterator<Item = Value>) -> String {
    let unique: BTreeSet<String> = objects.map(|o| o.to_string()).collect();
    unique.into_iter().map(|o| format!("---\n{o}\n")).collect()
}
