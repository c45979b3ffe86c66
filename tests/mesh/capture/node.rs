//! The agent of a node, as a process on directories that stand for the node's.

use super::{
    api::Api,
    bench::{Bench, SERVICE, WORKLOAD, compare},
    plugin::injected,
};
use crate::harness::{Launch, Place, Process, User, eventually, free_port, program, run};
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

const SET: &str = "/apis/apps/v1/namespaces/istio-system/daemonsets/mainsheet-cni-node";

/// A node without an agent.
struct Node {
    dir: PathBuf,
    api: Api,
    port: u16,
}

impl Node {
    fn new() -> Self {
        let dir = run().part().0;
        for part in ["net.d", "bin", "account", "proc"] {
            fs::create_dir_all(dir.join(part)).expect("a directory");
        }
        fs::write(dir.join("account/token"), "t1").expect("a file");
        fs::write(dir.join("account/ca.crt"), "ROOT").expect("a file");
        let api = Api::serve();
        fs::write(dir.join("kubeconfig"), api.kubeconfig()).expect("a file");
        Self { dir, api, port: free_port() }
    }

    fn start(&self, words: &[&str]) -> Process {
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut all: Vec<String> = ["cni", "install", "--mounted-cni-net-dir"].map(str::to_owned).to_vec();
        all.extend([path("net.d"), "--cni-bin-dir".into(), path("bin"), "--cni-agent-run-dir".into(), path("run")]);
        all.extend(["--service-account".into(), path("account"), "--host-proc".into(), path("proc")]);
        all.extend(["--health-port".into(), self.port.to_string()]);
        all.extend(words.iter().map(|w| (*w).to_owned()));
        let variables = [
            ("KUBECONFIG", path("kubeconfig")),
            ("KUBERNETES_SERVICE_HOST", "10.96.0.1".into()),
            ("KUBERNETES_SERVICE_PORT", "443".into()),
        ];
        let launch = Launch {
            place: Place::Here,
            user: User::Own,
            program: program(),
            words: all,
            variables: variables.map(|(name, value)| (name.to_owned(), value)).to_vec(),
            log: self.dir.join("log"),
        };
        launch.start()
    }

    fn readiness(&self) -> String {
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return "nobody".into() };
        let mut text = String::new();
        let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
        let _ = asked.and_then(|()| stream.read_to_string(&mut text).map(|_| ()));
        text.split("\r\n\r\n").last().unwrap_or_default().to_owned()
    }

    fn is_ready(&self) {
        eventually("the agent is ready", || match self.readiness() {
            text if text == "ok" => Ok(()),
            other => Err(format!("{other}: {}", fs::read_to_string(self.dir.join("log")).unwrap_or_default())),
        });
    }

    fn put_network(&self) {
        let network = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge"}]});
        fs::write(self.network(), network.to_string()).expect("a file");
    }

    fn network(&self) -> PathBuf {
        self.dir.join("net.d/10-pods.conflist")
    }
}

fn types(file: &Path) -> Vec<String> {
    let network: Value = serde_json::from_slice(&fs::read(file).unwrap_or_default()).unwrap_or_default();
    let plugins = network["plugins"].as_array().cloned().unwrap_or_default();
    plugins.iter().map(|p| p["type"].as_str().unwrap_or_default().to_owned()).collect()
}

fn in_place(node: &Node) {
    eventually("the plugin is in the network's configuration", || match types(&node.network()) {
        types if types == ["bridge", "mainsheet-cni"] => Ok(()),
        types => Err(format!("{types:?}")),
    });
}

#[test]
fn an_agent_waits_for_the_network_puts_back_what_is_overwritten_and_leaves_nothing_when_it_is_removed() {
    let node = Node::new();
    let mut agent = node.start(&[]);
    eventually("the agent answers", || match node.readiness() {
        text if text.contains("not in place") => Ok(()),
        other => Err(other),
    });
    node.put_network();
    node.is_ready();
    in_place(&node);
    for _ in 0..3 {
        node.put_network();
        in_place(&node);
    }
    fs::remove_file(node.dir.join("bin/mainsheet-cni")).expect("the plugin");
    eventually("the program is put back", || {
        fs::metadata(node.dir.join("bin/mainsheet-cni")).map(drop).map_err(|e| e.to_string())
    });
    fs::write(node.dir.join("account/token"), "t2").expect("a file");
    eventually("the new token is there", || {
        let text = fs::read_to_string(node.dir.join("run/mainsheet-cni-kubeconfig")).map_err(|e| e.to_string())?;
        text.contains("\"t2\"").then_some(()).ok_or(text)
    });
    // The DaemonSet is gone, so nobody follows.
    assert!(agent.terminate().success(), "{}", agent.last_output());
    assert_eq!(types(&node.network()), ["bridge"]);
    assert!(!node.dir.join("bin/mainsheet-cni").exists() && !node.dir.join("run/mainsheet-cni-kubeconfig").exists());
}

#[test]
fn the_plugin_stays_where_another_agent_follows() {
    let node = Node::new();
    node.put_network();
    let set = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "mainsheet-cni-node"}});
    node.api.put(SET, set);
    let mut agent = node.start(&[]);
    node.is_ready();
    in_place(&node);
    assert!(agent.terminate().success(), "{}", agent.last_output());
    assert_eq!(types(&node.network()), ["bridge", "mainsheet-cni"]);
    assert!(node.dir.join("bin/mainsheet-cni").exists());
}

#[test]
fn a_pod_that_came_before_the_plugin_is_captured() {
    let (node, bench) = (Node::new(), Bench::new());
    node.put_network();
    let mut pod = injected(&json!({}));
    pod["metadata"]["uid"] = json!("0c2f-77");
    let ended = json!({"terminated": {"exitCode": 126, "reason": "Error"}});
    pod["status"] = json!({"initContainerStatuses": [{
        "name": "istio-validation", "lastState": ended, "image": "", "imageID": "", "ready": false, "restartCount": 1}]});
    node.api.put(
        "/api/v1/pods",
        json!({"kind": "PodList", "apiVersion": "v1", "metadata": {"resourceVersion": "1"}, "items": [pod]}),
    );
    let process = node.dir.join("proc/77");
    fs::create_dir_all(process.join("ns")).expect("a directory");
    fs::write(process.join("cgroup"), "0::/kubepods/pod0c2f-77/c1\n").expect("a file");
    symlink(format!("/run/netns/{}", bench.pod), process.join("ns/net")).expect("a link");
    let _agent = node.start(&["--repair-repair-pods=true", "--repair-node-name", "n1"]);
    eventually("the pod is captured", || match bench.ask(WORKLOAD, &format!("{SERVICE}:80")) {
        text if text == format!("out {SERVICE}:80") => Ok(()),
        other => Err(format!("{other}: {}", fs::read_to_string(node.dir.join("log")).unwrap_or_default())),
    });
    compare("its inbound side", &[(bench.ask_of_world("10.9.0.2:80"), "in 10.9.0.2:80".to_owned())]);
}
