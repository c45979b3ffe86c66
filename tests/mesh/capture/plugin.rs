//! The CNI plugin, called as a container runtime calls it, on the network namespace of a pod.

use super::{
    api::Api,
    bench::{Bench, POD, PROXY, SERVICE, USERS, WORKLOAD, compare},
};
use crate::harness::{MARK, program, run};
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    os::unix::fs::symlink,
    path::PathBuf,
    process::{Command, Stdio},
    thread,
};

/// A node with the plugin in place.
struct Node {
    bench: Bench,
    api: Api,
    dir: PathBuf,
}

impl Node {
    fn new() -> Self {
        Self::of(Bench::new())
    }

    fn of(bench: Bench) -> Self {
        let api = Api::serve();
        let dir = run().part().0;
        // A runtime knows the plugin by its name.
        symlink(program(), dir.join("mainsheet-cni")).expect("a link");
        fs::write(dir.join("mainsheet-cni-kubeconfig"), api.kubeconfig()).expect("a file");
        Self { bench, api, dir }
    }

    /// Calls the plugin for a pod. Answers what it wrote, and whether all was well.
    fn call(&self, command: &str, pod: &str, settings: Value) -> (Value, bool) {
        let mut configuration = json!({
            "cniVersion": "1.0.0", "name": "pods", "type": "mainsheet-cni", "cni_agent_run_dir": self.dir,
            "exclude_namespaces": ["kube-system"], "pod_namespace": "istio-system",
            "prevResult": {"cniVersion": "1.0.0", "ips": [{"address": "10.9.0.2/24"}], "dns": {}},
        });
        let configured = configuration.as_object_mut().expect("a map");
        for (key, value) in settings.as_object().expect("settings") {
            match value {
                Value::Null => drop(configured.remove(key)),
                value => drop(configured.insert(key.clone(), value.clone())),
            }
        }
        let mut child = Command::new(self.dir.join("mainsheet-cni"))
            .env_clear()
            .env(MARK, run().dir())
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .envs([
                ("CNI_COMMAND", command),
                ("CNI_CONTAINERID", "c1"),
                // Multus has a name of its own for what it adds to a network.
                ("CNI_IFNAME", if configuration["prevResult"].is_null() { "net1" } else { "eth0" }),
                ("CNI_PATH", "/opt/cni/bin"),
            ])
            .env("CNI_NETNS", format!("/run/netns/{}", self.bench.pod))
            .env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=shop;K8S_POD_NAME={pod};K8S_POD_UID=u1"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the plugin");
        child.stdin.take().expect("a pipe").write_all(configuration.to_string().as_bytes()).expect("it reads");
        let output = child.wait_with_output().expect("the plugin");
        (serde_json::from_slice(&output.stdout).unwrap_or(Value::Null), output.status.success())
    }
}

/// A pod as injection leaves it.
pub(super) fn injected(annotations: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "shop", "annotations": {"sidecar.istio.io/status": "{}"}},
        "spec": {"containers": [
            {"name": "app"},
            {"name": "istio-proxy", "args": ["proxy", "sidecar"], "securityContext": {"runAsUser": 1337, "runAsGroup": 1337}},
        ]},
    });
    for (key, value) in annotations.as_object().expect("annotations") {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    pod
}

#[test]
fn a_pod_is_captured_when_its_network_is_made_and_checked_and_gone_afterwards() {
    let node = Node::new();
    node.api.put_pod("a", injected(&json!({"traffic.sidecar.istio.io/excludeInboundPorts": "81"})));
    for native in [false, true] {
        let settings = json!({"native_nftables": native});
        let (answer, good) = node.call("CHECK", "a", settings.clone());
        assert!(!good && answer["code"] == 101, "{answer}");
        let (answer, good) = node.call("ADD", "a", settings.clone());
        assert!(good, "{answer}");
        assert_eq!(answer["ips"][0]["address"], "10.9.0.2/24", "the result of the plugins before is passed on");
        let cells = [
            (node.bench.ask(WORKLOAD, &format!("{SERVICE}:80")), format!("out {SERVICE}:80")),
            (node.bench.ask(PROXY, &format!("{SERVICE}:80")), "world".to_owned()),
            (node.bench.ask_of_world(&format!("{POD}:80")), format!("in {POD}:80")),
            (node.bench.ask_of_world(&format!("{POD}:81")), "app".to_owned()),
        ];
        compare(&format!("native {native}"), &cells);
        assert_eq!(node.call("CHECK", "a", settings.clone()), (Value::Null, true));
        // A runtime that is told to do it again, after a failure further on, does no harm.
        let before = node.bench.state();
        assert!(node.call("ADD", "a", settings.clone()).1);
        super::bench::same(&node.bench.state(), &before, "again");
        for command in ["DEL", "GC"] {
            assert_eq!(node.call(command, "a", settings.clone()), (Value::Null, true));
        }
        node.bench.capture(&[&["--cleanup"]]);
    }
    let (answer, good) = node.call("STATUS", "a", json!({"cniVersion": "1.1.0"}));
    assert!(good, "{answer}");
}

#[test]
fn a_pod_with_users_of_its_own_is_captured_as_they_are_called_there() {
    let node = Node::of(Bench::with_users());
    let there = |id: u32| (USERS + id, USERS + id);
    let mut pod = injected(&json!({}));
    node.api.put_pod("shared", pod.clone());
    pod["spec"]["hostUsers"] = false.into();
    node.api.put_pod("own", pod);
    let before = node.bench.state();
    // By iptables it cannot be done, and then it must not start.
    let (answer, good) = node.call("ADD", "shared", json!({}));
    assert!(!good && answer["code"] == 100, "{answer}");
    super::bench::same(&node.bench.state(), &before, "nothing is captured");
    let (answer, good) = node.call("ADD", "own", json!({}));
    assert!(good, "{answer}");
    let cells = [
        (node.bench.ask(there(WORKLOAD.0), &format!("{SERVICE}:80")), format!("out {SERVICE}:80")),
        (node.bench.ask(there(PROXY.0), &format!("{SERVICE}:80")), "world".to_owned()),
        (node.bench.ask(there(0), &format!("{SERVICE}:80")), format!("out {SERVICE}:80")),
        (node.bench.ask_of_world(&format!("{POD}:80")), format!("in {POD}:80")),
    ];
    compare("users", &cells);
    assert_eq!(node.call("CHECK", "own", json!({})), (Value::Null, true));
}

#[test]
fn multus_calls_the_plugin_by_itself_when_the_pod_has_its_network() {
    let node = Node::new();
    node.api.put_pod("a", injected(&json!({"k8s.v1.cni.cncf.io/networks": "default/mainsheet-cni"})));
    // What the plugin's own file says, which has nothing before it.
    let own = json!({"cniVersion": "0.3.1", "name": "mainsheet-cni", "prevResult": null});
    let (answer, good) = node.call("ADD", "a", own.clone());
    assert!(good && answer == json!({"cniVersion": "0.3.1"}), "{answer}");
    let cells = [
        (node.bench.ask(WORKLOAD, &format!("{SERVICE}:80")), format!("out {SERVICE}:80")),
        (node.bench.ask(PROXY, &format!("{SERVICE}:80")), "world".to_owned()),
        (node.bench.ask_of_world(&format!("{POD}:80")), format!("in {POD}:80")),
    ];
    compare("multus", &cells);
    for command in ["CHECK", "DEL"] {
        assert_eq!(node.call(command, "a", own.clone()), (Value::Null, true));
    }
}

#[test]
fn other_pods_start_as_they_are() {
    let node = Node::new();
    let before = node.bench.state();
    let mut plain = injected(&json!({}));
    plain["metadata"]["annotations"] = json!({});
    node.api.put_pod("plain", plain);
    assert!(node.call("ADD", "plain", json!({})).1);
    assert_eq!(node.api.requests(), 1);
    // Nobody is asked about pods of these namespaces, so they start also when nobody answers.
    assert!(node.call("ADD", "none", json!({"exclude_namespaces": ["shop"]})).1);
    assert!(node.call("ADD", "mainsheet-cni-node-x7k2p", json!({"pod_namespace": "shop"})).1);
    assert_eq!(node.api.requests(), 1);
    super::bench::same(&node.bench.state(), &before, "nothing is captured");
}

#[test]
fn a_pod_that_cannot_be_captured_does_not_start() {
    let node = Node::new();
    node.api.put_pod("a", injected(&json!({"traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.1"})));
    let (answer, good) = node.call("ADD", "a", json!({}));
    let said = "pod shop/a: the annotation traffic.sidecar.istio.io/includeOutboundIPRanges: \"10.0.0.1\" is no address \
                range; write 10.0.0.1/32, with the length of the range";
    assert!(!good && answer["code"] == 7 && answer["msg"] == said, "{answer}");
}

#[test]
fn a_pod_that_the_api_server_knows_a_little_late_is_captured() {
    let node = Node::new();
    let api = node.api.clone();
    let later = thread::spawn(move || {
        thread::sleep(std::time::Duration::from_millis(1500));
        api.put_pod("a", injected(&json!({})));
    });
    assert!(node.call("ADD", "a", json!({})).1);
    later.join().expect("a thread");
    assert!(node.api.requests() > 1);
    compare("late", &[(node.bench.ask(WORKLOAD, &format!("{SERVICE}:80")), format!("out {SERVICE}:80"))]);
}
