//! A `mainsheet agent` in a pod, as injection would start it.

use super::{
    control_plane::program,
    network::Place,
    pod::Pod,
    process::{Launch, User},
    run,
};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

/// The files of an agent: all of them are in a directory that the proxy's user may write to.
#[derive(Clone, Debug)]
pub(crate) struct AgentFiles {
    dir: PathBuf,
}

impl AgentFiles {
    /// The bootstrap that it writes.
    pub(crate) fn bootstrap(&self) -> PathBuf {
        self.dir.join("envoy-rev.json")
    }

    /// A file beside it.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// The ports of a pod that would be the same in every pod, if each had a network of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AgentPorts {
    pub(crate) admin: u16,
    pub(crate) agent: u16,
    pub(crate) status: u16,
    pub(crate) prometheus: u16,
}

impl AgentPorts {
    /// Those that every pod has.
    pub(crate) const STANDARD: Self = Self { admin: 15000, agent: 15020, status: 15021, prometheus: 15090 };
}

/// A token of a pod's service account, and the roots of the mesh, as files that anybody may read.
pub(crate) fn proof(pod: &Pod, ca: &Path, dir: &Path) -> [PathBuf; 2] {
    let file = |what: &str| dir.join(format!("{}-{what}", pod.name));
    let mut command = Command::new(program());
    command.args(["token", "create", "--sa", &pod.account, "--namespace", &pod.namespace]).arg("--ca-dir").arg(ca);
    let output = command.output().expect("mainsheet");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    let [token, roots] = [file("token"), file("roots.pem")];
    fs::write(&token, String::from_utf8_lossy(&output.stdout).trim()).expect("a token");
    // The authority's own directory is for nobody else.
    fs::copy(ca.join("root-cert.pem"), &roots).expect("the roots");
    fs::set_permissions(&roots, fs::Permissions::from_mode(0o644)).expect("a file");
    [token, roots]
}

/// How the agent of a pod is started, and where its files are.
pub(crate) fn agent(
    pod: &Pod,
    place: &Place,
    (discovery, ca): (&str, &Path),
    ports: AgentPorts,
    dir: &Path,
) -> (Launch, AgentFiles) {
    let [token, roots] = proof(pod, ca, dir);
    let files = AgentFiles { dir: dir.join(format!("{}-agent", pod.name)) };
    fs::create_dir_all(&files.dir).expect("a directory");
    fs::set_permissions(&files.dir, fs::Permissions::from_mode(0o777)).expect("a directory");
    let quoted = |(key, value): (&String, &String)| format!("{key}=\"{value}\"\n");
    fs::write(files.file("labels"), pod.labels.iter().map(quoted).collect::<String>()).expect("a file");
    // The tests look at more numbers than users do.
    fs::write(files.file("annotations"), "sidecar.istio.io/statsInclusionRegexps=\".*\"\n").expect("a file");
    let settings = json!({
        "discoveryAddress": discovery, "concurrency": 1, "proxyAdminPort": ports.admin, "statusPort": ports.agent,
        "terminationDrainDuration": "1s",
    });
    let mode = if *place == Place::Here || !pod.captured { "NONE" } else { "REDIRECT" };
    let (status, prometheus) = (ports.status.to_string(), ports.prometheus.to_string());
    let envoy = run().envoy().display().to_string();
    let variables = [
        ("POD_NAME", &*pod.name),
        ("POD_NAMESPACE", &*pod.namespace),
        ("SERVICE_ACCOUNT", &*pod.account),
        ("INSTANCE_IP", &*pod.ip),
        ("PROXY_CONFIG", &settings.to_string()),
        ("ENVOY", &envoy),
        ("ENVOY_STATUS_PORT", &status),
        ("ENVOY_PROMETHEUS_PORT", &prometheus),
        ("ISTIO_META_WORKLOAD_NAME", &*pod.name),
        ("ISTIO_META_INTERCEPTION_MODE", mode),
    ];
    let own = |(name, value): (&str, &str)| (name.to_owned(), value.to_owned());
    let path = |path: &Path| path.display().to_string();
    let words = ["agent".to_owned(), "--token-file".into(), path(&token), "--root-cert".into(), path(&roots)];
    let more = ["--sds-socket".to_owned(), path(&files.file("socket")), "--config-path".into(), path(&files.dir)];
    let info = ["--pod-info".to_owned(), path(&files.dir)];
    let launch = Launch {
        place: place.clone(),
        user: User::Proxy,
        program: run().program(&program()),
        words: words.into_iter().chain(more).chain(info).chain(pod.words.iter().cloned()).collect(),
        variables: variables.into_iter().map(own).chain(pod.variables.iter().cloned()).collect(),
        log: dir.join(format!("{}-agent.log", pod.name)),
    };
    (launch, files)
}
