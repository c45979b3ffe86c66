//! A real mainsheet, run as its users run it.

use super::{
    client::{Client, Reply},
    eventually,
    network::Place,
    process::{Process, User, command},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

/// The address of its pages, which the machine itself may look at whoever it is.
pub(crate) const PAGES: &str = "127.0.0.1";

/// Where mainsheet listens.
#[derive(Clone, Debug)]
pub(crate) struct Ports {
    /// The address of the ports for proxies.
    pub(crate) address: String,
    /// xDS.
    pub(crate) grpc: u16,
    /// Readiness and debugging.
    pub(crate) http: u16,
    /// Metrics.
    pub(crate) monitoring: u16,
    /// xDS and certificates over TLS, where that is served, and the directory of the certificate authority.
    pub(crate) secure: Option<(u16, PathBuf)>,
    /// How long certificates of workloads are valid.
    pub(crate) certificate_ttl: &'static str,
}

impl Ports {
    /// The ports that istiod has.
    pub(crate) fn standard(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            grpc: 15010,
            http: 8080,
            monitoring: 15014,
            secure: None,
            certificate_ttl: "1h",
        }
    }

    /// Ports that nothing listens on.
    pub(crate) fn free(address: &str) -> Self {
        Self {
            address: address.to_owned(),
            grpc: free_port(),
            http: free_port(),
            monitoring: free_port(),
            secure: None,
            certificate_ttl: "1h",
        }
    }
}

/// A port of the loopback device that nothing listens on.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").port()
}

/// Variables of an environment, with their values.
pub(crate) type Environment = BTreeMap<String, String>;

/// A running mainsheet.
#[derive(Debug)]
pub(crate) struct ControlPlane {
    place: Place,
    ports: Ports,
    config: PathBuf,
    log: PathBuf,
    environment: Environment,
    process: Process,
    client: Client,
}

impl ControlPlane {
    /// Starts mainsheet on a directory of files, and waits until it is ready.
    pub(crate) fn start(place: &Place, ports: Ports, config: &Path, log: &Path) -> Self {
        Self::start_with(place, ports, config, log, Environment::new())
    }

    /// The same with these variables in its environment.
    pub(crate) fn start_with(place: &Place, ports: Ports, config: &Path, log: &Path, environment: Environment) -> Self {
        let process = launch(place, &ports, config, log, &environment);
        let client = Client::new(place);
        let (place, config, log) = (place.clone(), config.to_owned(), log.to_owned());
        let mut control_plane = Self { place, ports, config, log, environment, process, client };
        control_plane.wait_ready();
        control_plane
    }

    /// Where it listens.
    pub(crate) fn ports(&self) -> &Ports {
        &self.ports
    }

    /// Kills it.
    pub(crate) fn kill(&mut self) {
        self.process.kill();
    }

    /// Asks it to end, and tells how it ended.
    pub(crate) fn terminate(&mut self) -> std::process::ExitStatus {
        self.process.terminate()
    }

    /// Starts it again after it ended.
    pub(crate) fn restart(&mut self) {
        self.process = launch(&self.place, &self.ports, &self.config, &self.log, &self.environment);
        self.wait_ready();
    }

    /// A GET of a path on the HTTP port.
    pub(crate) fn http(&mut self, path: &str) -> Reply {
        let url = format!("http://{PAGES}:{}{path}", self.ports.http);
        self.client.get(&url)
    }

    /// `/debug/syncz`: what each proxy was sent and has acknowledged.
    pub(crate) fn syncz(&mut self) -> Value {
        self.http("/debug/syncz").echo()
    }

    /// The values of all metrics whose line starts with `name`.
    pub(crate) fn metrics(&mut self, name: &str) -> Vec<(String, f64)> {
        let url = format!("http://{PAGES}:{}/metrics", self.ports.monitoring);
        let body = self.client.get(&url).body;
        let lines = body.lines().filter(|l| l.starts_with(name));
        lines.filter_map(|l| l.rsplit_once(' ')).map(|(k, v)| (k.to_owned(), v.parse().unwrap_or(0.0))).collect()
    }

    /// The last that it wrote to its log.
    pub(crate) fn last_output(&self) -> String {
        self.process.last_output()
    }

    fn wait_ready(&mut self) {
        eventually("mainsheet is ready", || {
            self.process.expect_running();
            let reply = self.http("/ready");
            if reply.status == 200 { Ok(()) } else { Err(reply.brief()) }
        });
    }
}

fn launch(place: &Place, ports: &Ports, config: &Path, log: &Path, environment: &Environment) -> Process {
    let mut command = command(place, &program(), User::Own);
    command.envs(environment);
    let at = |port: u16| format!("{}:{port}", ports.address);
    command.arg("discovery").arg("--config-dir").arg(config);
    command.args(["--grpc-addr", &at(ports.grpc)]);
    command.args(["--http-addr", &format!("{PAGES}:{}", ports.http)]);
    command.args(["--monitoring-addr", &format!("{PAGES}:{}", ports.monitoring)]);
    if let Some((port, dir)) = &ports.secure {
        command.args(["--secure-grpc-addr", &at(*port), "--workload-cert-ttl", ports.certificate_ttl]);
        command.arg("--ca-dir").arg(dir);
    }
    Process::start(command, log.to_owned())
}

/// The binary that is tested: the one that `MAINSHEET` names, the one built with the tests, or the one beside a
/// demo.
pub(crate) fn program() -> PathBuf {
    let named = std::env::var_os("MAINSHEET").map(PathBuf::from);
    named.or_else(|| option_env!("CARGO_BIN_EXE_mainsheet").map(PathBuf::from)).unwrap_or_else(|| {
        let own = std::env::current_exe().expect("the path of this program");
        own.parent().and_then(Path::parent).expect("the directory of binaries").join("mainsheet")
    })
}
