//! etcd and an API server, on ports of the loopback device.

use super::{Objects, directory};
use kube::Client;
use mainsheet::source::kubernetes;
use rcgen::KeyPair;
use std::{
    collections::BTreeSet,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};
use tokio::time;

/// Words on its command line by which an API server notes who changes what; [`Server::writes`] reads it.
pub(crate) const AUDITED: &[&str] =
    &[concat!("--audit-policy-file=", env!("CARGO_MANIFEST_DIR"), "/tests/cluster/audit.yaml"), "--audit-log-path=-"];

/// Tokens and their bearers: some with all rights, one with none.
const TOKENS: &str = "admin,admin,admin,system:masters\n\
                      first,first,first,system:masters\n\
                      second,second,second,system:masters\n\
                      reader,reader,reader\n";

/// A running API server, and etcd behind it.
pub(crate) struct Server {
    dir: PathBuf,
    ports: Ports,
    etcd: Child,
    api: Child,
    client: Client,
    words: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
struct Ports {
    etcd: u16,
    peer: u16,
    api: u16,
}

impl Server {
    /// Starts both, the API server with these words on its command line, and waits until objects of the mesh's kinds can
    /// be written.
    pub(crate) async fn start_with(words: &'static [&'static str]) -> Self {
        let dir = directory();
        let ports = Ports { etcd: free_port(), peer: free_port(), api: free_port() };
        let key = KeyPair::generate().expect("a key");
        fs::write(dir.join("accounts.key"), key.serialize_pem()).expect("a file");
        fs::write(dir.join("accounts.pub"), key.public_key_pem()).expect("a file");
        fs::write(dir.join("tokens.csv"), TOKENS).expect("a file");
        let etcd = spawn(etcd(&dir, ports), &dir.join("etcd.log"));
        let api = spawn(api(&dir, ports, words), &dir.join("api.log"));
        fs::write(dir.join("kubeconfig"), kubeconfig(&dir, ports)).expect("a file");
        // It is written after the certificate, which is whole then.
        let key = dir.join("pki/apiserver.key");
        let started = Instant::now();
        while !key.is_file() {
            assert!(started.elapsed() < Duration::from_secs(60), "no certificate; see {}", dir.display());
            time::sleep(Duration::from_millis(20)).await;
        }
        let client = kubernetes::connect(Some(&dir.join("kubeconfig"))).await.expect("a client");
        let server = Self { dir, ports, etcd, api, client, words };
        server.wait_ready().await;
        server.objects().define_all().await;
        server
    }

    /// The file that leads to it.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    /// A file that leads to it as the bearer of a token.
    pub(crate) fn kubeconfig_of(&self, token: &str) -> PathBuf {
        let text = fs::read_to_string(self.kubeconfig()).expect("a file");
        let mut config: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        config["users"][0]["user"] = serde_json::json!({ "token": token });
        let file = self.dir.join(format!("{}.kubeconfig", token.chars().take(8).collect::<String>()));
        fs::write(&file, config.to_string()).expect("a file");
        file
    }

    /// Where its files are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What was written, by whom, as an API server of [`AUDITED`] has noted.
    pub(crate) fn writes(&self) -> Vec<serde_json::Value> {
        let text = fs::read(self.dir.join("api.log")).expect("a log");
        let text = String::from_utf8_lossy(&text);
        text.lines()
            .filter(|l| l.starts_with("{\"kind\":\"Event\""))
            .filter_map(|l| serde_json::from_str(l).ok())
            .collect()
    }

    /// A client with all rights.
    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// Its objects.
    pub(crate) fn objects(&self) -> Objects {
        Objects::new(self.client.clone())
    }

    /// Kills the API server.
    pub(crate) fn kill(&mut self) {
        self.api.kill().expect("a process to kill");
        self.api.wait().expect("its end");
    }

    /// Kills etcd, and starts it again after a while.
    pub(crate) async fn restart_etcd(&mut self, after: Duration) {
        self.etcd.kill().expect("a process to kill");
        self.etcd.wait().expect("its end");
        time::sleep(after).await;
        self.etcd = spawn(etcd(&self.dir, self.ports), &self.dir.join("etcd.log"));
    }

    /// Starts it again.
    pub(crate) async fn restart(&mut self) {
        self.start_again();
        self.wait_ready().await;
    }

    /// Starts it again, and waits for nothing.
    pub(crate) fn start_again(&mut self) {
        self.api = spawn(api(&self.dir, self.ports, self.words), &self.dir.join("api.log"));
    }

    /// Stops the API server where it stands, so that it answers nobody and connections stay open; or lets it go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { "-STOP" } else { "-CONT" };
        let done = Command::new("kill").args([signal, &self.api.id().to_string()]).status().expect("kill");
        assert!(done.success());
    }

    /// Makes etcd forget all history.
    pub(crate) fn compact(&self) {
        self.try_compact().expect("etcd that answers");
    }

    /// Makes etcd forget all history, if it answers.
    pub(crate) fn try_compact(&self) -> Result<(), String> {
        let etcd = |path: &str, body: String| {
            let url = format!("http://127.0.0.1:{}{path}", self.ports.etcd);
            let command = ["-sS", "--max-time", "5", "-X", "POST", "-d", &body, &url];
            let out = Command::new("curl").args(command).output().expect("curl");
            let said = || String::from_utf8_lossy(&out.stderr).into_owned();
            serde_json::from_slice::<serde_json::Value>(&out.stdout).map_err(|_| said())
        };
        let now = etcd("/v3/kv/range", r#"{"key": "AA=="}"#.into())?;
        let revision = now["header"]["revision"].as_str().ok_or_else(|| now.to_string())?;
        let done = etcd("/v3/kv/compaction", format!(r#"{{"revision": "{revision}", "physical": true}}"#))?;
        if done["header"].is_object() { Ok(()) } else { Err(done.to_string()) }
    }

    /// Waits until it answers that it is ready.
    pub(crate) async fn wait_ready(&self) {
        let started = Instant::now();
        loop {
            let request = hyper::Request::get("/readyz").body(Vec::new()).expect("a request");
            match self.client.request_text(request).await {
                Ok(text) if text == "ok" => return,
                answer if started.elapsed() > Duration::from_secs(120) => {
                    panic!("not ready: {answer:?}; see {}", self.dir.display())
                }
                _ => time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        for child in [&mut self.api, &mut self.etcd] {
            let _ = child.kill();
            let _ = child.wait();
        }
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// The directory of the cluster's programs.
fn programs() -> PathBuf {
    let cache = std::env::var_os("CACHE").map(PathBuf::from).unwrap_or_else(|| {
        let home = std::env::var_os("HOME").expect("a home");
        Path::new(&home).join(".cache/mainsheet-cluster")
    });
    let programs = std::env::var_os("K8S_BIN").map_or_else(|| cache.join("bin"), PathBuf::from);
    for name in ["etcd", "kube-apiserver"] {
        let missing = "is missing: `make cluster-tools` builds it, which takes some minutes the first time";
        assert!(programs.join(name).is_file(), "{} {missing}", programs.join(name).display());
    }
    programs
}

fn etcd(dir: &Path, ports: Ports) -> Command {
    let mut command = Command::new(programs().join("etcd"));
    let (client, peer) = (format!("http://127.0.0.1:{}", ports.etcd), format!("http://127.0.0.1:{}", ports.peer));
    command.arg("--data-dir").arg(dir.join("etcd")).args(["--unsafe-no-fsync", "--log-level", "error"]);
    command.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    command.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    command.args(["--initial-cluster", &format!("default={peer}")]);
    command
}

fn api(dir: &Path, ports: Ports, words: &[&str]) -> Command {
    let mut command = Command::new(programs().join("kube-apiserver"));
    let file = |name: &str| dir.join(name).display().to_string();
    command.args([
        format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd),
        "--etcd-compaction-interval=0".into(),
        "--bind-address=127.0.0.1".into(),
        "--advertise-address=127.0.0.1".into(),
        "--endpoint-reconciler-type=none".into(),
        format!("--secure-port={}", ports.api),
        format!("--cert-dir={}", file("pki")),
        format!("--token-auth-file={}", file("tokens.csv")),
        "--authorization-mode=RBAC".into(),
        // There is nobody who would make the accounts that pods are to have.
        "--disable-admission-plugins=ServiceAccount".into(),
        "--allow-privileged=true".into(),
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local".into(),
        format!("--service-account-key-file={}", file("accounts.pub")),
        format!("--service-account-signing-key-file={}", file("accounts.key")),
        // The addresses of the golden cases are in it, and its first, which is taken, is not among them.
        "--service-cluster-ip-range=10.0.0.0/8".into(),
        "--v=0".into(),
    ]);
    command.args(words);
    command
}

fn kubeconfig(dir: &Path, ports: Ports) -> String {
    let (server, pki) = (format!("https://127.0.0.1:{}", ports.api), dir.join("pki/apiserver.crt"));
    let cluster = serde_json::json!({"server": server, "certificate-authority": pki});
    serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "admin", "user": {"token": "admin"}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "admin"}}],
    })
    .to_string()
}

/// A port of the loopback device that nothing listens on, and that no other test was given.
pub(crate) fn free_port() -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        if GIVEN.lock().expect("no test fails while it holds this").insert(port) {
            return port;
        }
    }
}

/// Starts a program that ends with this process, whatever ends that.
pub(crate) fn spawn(command: Command, log: &Path) -> Child {
    let file = File::options().create(true).append(true).open(log).expect("a log file");
    let mut bound = Command::new("setpriv");
    bound.args(["--pdeathsig", "KILL"]).arg(command.get_program()).args(command.get_args());
    bound.stdin(Stdio::null()).stdout(file.try_clone().expect("a log file")).stderr(file);
    // The kernel ends it with the thread that started it, so that thread must last.
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        tell.send(bound.spawn()).expect("someone who waits");
        loop {
            thread::park();
        }
    });
    told.recv().expect("a thread that starts it").unwrap_or_else(|e| panic!("{command:?}: {e}"))
}
