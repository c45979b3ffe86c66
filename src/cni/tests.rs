//! Which pods are captured and how, which are broken, and what the installer makes of a directory.

use super::*;
use crate::capture::{Mode, Names, Options, Ranges};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A pod as injection leaves it, for nodes with the plugin.
fn injected(annotations: Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": "a", "namespace": "shop", "uid": "u-1-2", "annotations": {"sidecar.istio.io/status": "{}"}},
        "spec": {
            "initContainers": [{"name": "istio-validation"}],
            "containers": [{"name": "app"}, {"name": "istio-proxy", "args": ["proxy", "sidecar"]}],
        },
    });
    for (key, value) in annotations.as_object().expect("annotations") {
        pod["metadata"]["annotations"][key] = value.clone();
    }
    pod
}

fn pod(value: Value) -> Pod {
    serde_json::from_value(value).expect("a pod")
}

fn options(value: Value) -> Result<Options, Vec<String>> {
    match decide(&pod(value), false) {
        Decision::Capture(settings) => Options::read(&settings, &Names::default()),
        Decision::Leave(why) => panic!("left: {why}"),
    }
}

fn left(value: Value) -> &'static str {
    match decide(&pod(value), false) {
        Decision::Leave(why) => why,
        Decision::Capture(settings) => panic!("{settings:?}"),
    }
}

#[test]
fn an_injected_pod_is_captured_as_by_the_init_container() {
    let options = options(injected(json!({}))).expect("good");
    assert_eq!((options.mode, &options.uids[..], &options.gids[..]), (Mode::Redirect, &[1337][..], &[1337][..]));
    assert_eq!(options.ranges, Ranges::All);
    let ports = |ports: &[u16]| ports.iter().map(|p| (*p).into()).collect::<Vec<_>>();
    assert_eq!(options.inbound, crate::capture::Ports::AllBut(ports(&[15020, 15021, 15090])));
    assert_eq!(options.outbound_exclude_ports, ports(&[15020]));
    assert!(options.cni_mode && !options.redirect_dns && !options.native_nftables);
    // A native sidecar is an init container.
    let mut native = injected(json!({}));
    native["spec"]["initContainers"] = json!([{"name": "istio-validation"}, {"name": "istio-proxy"}]);
    native["spec"]["containers"] = json!([{"name": "app"}]);
    assert!(matches!(decide(&pod(native), true), Decision::Capture(_)));
}

#[test]
fn a_pod_with_users_of_its_own_is_captured_by_nft() {
    for (own, by_nft) in [(json!(false), true), (json!(true), false), (Value::Null, false)] {
        let mut value = injected(json!({}));
        value["spec"]["hostUsers"] = own;
        assert_eq!(options(value).expect("good").native_nftables, by_nft);
    }
}

#[test]
fn annotations_and_the_proxys_settings_count() {
    let mut value = injected(json!({
        "sidecar.istio.io/interceptionMode": "TPROXY",
        "traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0/8",
        "traffic.sidecar.istio.io/excludeOutboundIPRanges": "10.1.0.0/16",
        "traffic.sidecar.istio.io/includeInboundPorts": "*",
        "traffic.sidecar.istio.io/excludeInboundPorts": "9000, 15021",
        "traffic.sidecar.istio.io/includeOutboundPorts": "5432",
        "traffic.sidecar.istio.io/excludeOutboundPorts": "25",
        "traffic.sidecar.istio.io/excludeInterfaces": "net1",
        "traffic.sidecar.istio.io/kubevirtInterfaces": "old0",
        "istio.io/reroute-virtual-interfaces": "new0",
    }));
    value["spec"]["containers"][1]["securityContext"] = json!({"runAsUser": 7, "runAsGroup": 8});
    value["spec"]["containers"][1]["env"] = json!([
        {"name": "ISTIO_META_DNS_CAPTURE", "value": "true"},
        {"name": "ISTIO_DUAL_STACK", "value": "true"},
        {"name": "INVALID_DROP", "value": "true"},
    ]);
    let options = options(value).expect("good");
    assert_eq!((options.mode, &options.uids[..], &options.gids[..]), (Mode::Tproxy, &[7][..], &[8][..]));
    assert_eq!(options.ranges, Ranges::Only(vec!["10.0.0.0/8".parse().expect("a range")]));
    assert_eq!(options.exclude_ranges, ["10.1.0.0/16".parse().expect("a range")]);
    let ports = |ports: &[u16]| ports.iter().map(|p| (*p).into()).collect::<Vec<_>>();
    assert_eq!(options.inbound, crate::capture::Ports::AllBut(ports(&[9000, 15021, 15020, 15090])));
    assert_eq!((options.outbound_ports, options.outbound_exclude_ports), (ports(&[5432]), ports(&[25])));
    assert_eq!((options.exclude_interfaces, options.reroute_interfaces), (vec!["net1".into()], vec!["new0".into()]));
    assert!(options.redirect_dns && options.capture_all_dns && options.dual_stack && options.drop_invalid);
}

#[test]
fn a_bad_annotation_is_named() {
    let wrong = options(injected(json!({"traffic.sidecar.istio.io/excludeInboundPorts": "http"}))).expect_err("bad");
    assert!(wrong[0].starts_with("the annotation traffic.sidecar.istio.io/excludeInboundPorts: "), "{wrong:?}");
}

#[test]
fn other_pods_are_left_alone() {
    let change = |path: &str, value: Value| {
        let mut pod = injected(json!({}));
        *pod.pointer_mut(path).expect("a place") = value;
        left(pod)
    };
    assert_eq!(left(json!({})), "it has no specification");
    assert_eq!(
        change("/spec/initContainers/0/name", json!("istio-init")),
        "its container istio-init captures its traffic"
    );
    assert_eq!(change("/spec/containers/1/name", json!("other")), "it has no container istio-proxy");
    assert_eq!(change("/spec/containers/1/args", json!(["proxy", "router"])), "its proxy is no sidecar");
    assert_eq!(change("/spec/containers/1/args", json!(["agent", "router"])), "its proxy is no sidecar");
    assert_eq!(change("/metadata/annotations", json!({})), "nothing was injected into it");
    assert_eq!(left(injected(json!({"sidecar.istio.io/inject": "false"}))), "injection is off for it");
    assert_eq!(left(injected(json!({"sidecar.istio.io/interceptionMode": "NONE"}))), "its interception mode is NONE");
    let mut host = injected(json!({}));
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(left(host), "its network is the node's");
    let mut without = injected(json!({}));
    without["spec"]["containers"][1]["env"] = json!([{"name": "DISABLE_ENVOY", "value": "true"}]);
    assert_eq!(left(without), "its proxy runs no Envoy");
    // The label goes before the annotation.
    let mut labelled = injected(json!({"sidecar.istio.io/inject": "false"}));
    labelled["metadata"]["labels"] = json!({"sidecar.istio.io/inject": "true"});
    assert!(matches!(decide(&pod(labelled), false), Decision::Capture(_)));
}

fn repair(proc: &Path) -> Repair {
    Repair {
        mend: Mend::Rules,
        node: "n".into(),
        annotation: "sidecar.istio.io/status".into(),
        container: "istio-validation".into(),
        exit_code: 126,
        message: String::new(),
        label: ("k".into(), "v".into()),
        labels: String::new(),
        fields: String::new(),
        native_nftables: false,
        proc: proc.to_owned(),
    }
}

#[test]
fn a_pod_is_broken_when_its_validation_failed_and_has_not_succeeded_since() {
    let ended = |code: i32| json!({"terminated": {"exitCode": code, "reason": "x"}});
    let is_broken = |state: Value, last: Value| {
        let mut value = injected(json!({}));
        value["status"] = json!({"initContainerStatuses": [{
            "name": "istio-validation", "state": state, "lastState": last, "image": "", "imageID": "",
            "ready": false, "restartCount": 1}]});
        broken(&pod(value), &repair(Path::new("/")))
    };
    let waiting = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert!(is_broken(waiting.clone(), ended(126)));
    assert!(is_broken(ended(126), json!({})));
    assert!(!is_broken(ended(0), ended(126)));
    assert!(!is_broken(waiting.clone(), ended(1)));
    assert!(!is_broken(waiting, json!({})));
    let mut value = injected(json!({}));
    value["status"] = json!({"initContainerStatuses": [{
        "name": "other", "lastState": ended(126), "image": "", "imageID": "", "ready": false, "restartCount": 1}]});
    assert!(!broken(&pod(value), &repair(Path::new("/"))));
}

/// A directory that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("mainsheet-cni-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        for part in ["net.d", "bin", "account"] {
            fs::create_dir_all(dir.join(part)).expect("a directory");
        }
        fs::write(dir.join("account/token"), "t1\n").expect("a file");
        fs::write(dir.join("account/ca.crt"), "ROOT").expect("a file");
        fs::write(dir.join("program"), "#!/bin/sh\n").expect("a file");
        Self(dir)
    }

    fn installation(&self) -> Installation {
        Installation {
            networks: self.0.join("net.d"),
            network: None,
            chained: true,
            network_mode: 0o600,
            program: self.0.join("program"),
            plugins: self.0.join("bin"),
            agent: self.0.join("run"),
            kubeconfig_mode: 0o600,
            server: "https://10.96.0.1:443".into(),
            account: self.0.join("account"),
            root: None,
            skip_verification: false,
            settings: json!({"exclude_namespaces": ["kube-system"], "pod_namespace": "istio-system"}),
        }
    }

    fn write(&self, file: &str, value: &Value) {
        fs::write(self.0.join("net.d").join(file), value.to_string()).expect("a file");
    }

    fn read(&self, file: &str) -> Value {
        serde_json::from_slice(&fs::read(self.0.join("net.d").join(file)).expect(file)).expect("JSON")
    }

    fn names(&self, dir: &str) -> Vec<String> {
        let entries = fs::read_dir(self.0.join(dir)).expect("a directory");
        let mut names: Vec<_> =
            entries.map(|e| e.expect("an entry").file_name().into_string().expect("text")).collect();
        names.sort();
        names
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn network() -> Value {
    json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "bridge", "mtu": 1400}, {"type": "portmap"}]})
}

#[test]
fn the_plugin_comes_last_in_the_first_network_and_is_put_back_when_it_is_overwritten() {
    let scratch = Scratch::new("chain");
    let installation = scratch.installation();
    assert!(matches!(installation.install().expect("good"), Installed::Waiting(_)));
    scratch.write("05-broken.conflist", &json!("no network"));
    scratch.write("10-pods.conflist", &network());
    scratch.write("20-other.conflist", &network());
    let file = scratch.0.join("net.d/10-pods.conflist");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("rights");
    let done = |written: &[&'static str]| Installed::Done { file: file.clone(), written: written.to_vec() };
    assert_eq!(installation.install().expect("good"), done(&["the network's configuration"]));
    let plugins = scratch.read("10-pods.conflist")["plugins"].clone();
    assert_eq!(plugins[0], json!({"type": "bridge", "mtu": 1400}));
    assert_eq!(
        plugins[2],
        json!({"type": PLUGIN, "cni_agent_run_dir": scratch.0.join("run"), "exclude_namespaces": ["kube-system"],
               "pod_namespace": "istio-system"})
    );
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o644, "its rights stay");
    assert_eq!(scratch.read("20-other.conflist"), network());
    assert_eq!(installation.install().expect("good"), done(&[]), "what is in place is not written");
    scratch.write("10-pods.conflist", &network());
    assert_eq!(installation.install().expect("good"), done(&["the network's configuration"]));
    // Somebody has put another plugin after it, or another version of it has written other settings.
    let mut other = scratch.read("10-pods.conflist");
    other["plugins"].as_array_mut().expect("a list").push(json!({"type": "tuning"}));
    other["plugins"][2]["pod_namespace"] = json!("old");
    scratch.write("10-pods.conflist", &other);
    installation.install().expect("good");
    let types: Vec<Value> = scratch.read("10-pods.conflist")["plugins"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|p| p["type"].clone())
        .collect();
    assert_eq!(types, ["bridge", "portmap", "tuning", PLUGIN]);
    assert_eq!(
        scratch.names("net.d"),
        ["05-broken.conflist", "10-pods.conflist", "20-other.conflist"],
        "nothing is left over"
    );
    assert_eq!(scratch.names("bin"), [PLUGIN]);
}

#[test]
fn a_token_that_changes_is_brought_to_the_plugin() {
    let scratch = Scratch::new("token");
    let installation = scratch.installation();
    scratch.write("10-pods.conflist", &network());
    let Installed::Done { written, .. } = installation.install().expect("good") else { panic!("a network is there") };
    assert_eq!(written, ["the program", "the kubeconfig", "the network's configuration"]);
    let file = scratch.0.join("run").join(KUBECONFIG);
    assert_eq!(fs::metadata(&file).expect("a file").permissions().mode() & 0o777, 0o600);
    fs::write(scratch.0.join("account/token"), "t2").expect("a file");
    let Installed::Done { written, .. } = installation.install().expect("good") else { panic!("a network is there") };
    assert_eq!(written, ["the kubeconfig"]);
    let kubeconfig: Value = serde_json::from_slice(&fs::read(&file).expect("a file")).expect("JSON");
    assert_eq!(kubeconfig["users"][0]["user"]["token"], "t2");
    assert_eq!(kubeconfig["clusters"][0]["cluster"]["certificate-authority-data"], "Uk9PVA==");
    assert_eq!(kubeconfig["clusters"][0]["cluster"]["server"], "https://10.96.0.1:443");
}

#[test]
fn a_lone_plugin_becomes_a_list() {
    let scratch = Scratch::new("lone");
    let installation = scratch.installation();
    scratch.write("10-pods.conf", &json!({"cniVersion": "0.4.0", "name": "pods", "type": "bridge"}));
    installation.install().expect("good");
    assert_eq!(scratch.names("net.d"), ["10-pods.conflist"]);
    let list = scratch.read("10-pods.conflist");
    assert_eq!((&list["cniVersion"], &list["name"]), (&json!("0.4.0"), &json!("pods")));
    assert_eq!(list["plugins"][0], json!({"name": "pods", "type": "bridge"}));
    assert_eq!(list["plugins"][1]["type"], PLUGIN);
    // By its old name it is found as well.
    let named = Installation { network: Some("10-pods.conf".into()), ..installation };
    assert!(matches!(named.install().expect("good"), Installed::Done { written, .. } if written.is_empty()));
}

#[test]
fn a_plugin_with_a_file_of_its_own_leaves_the_others_alone() {
    let scratch = Scratch::new("alone");
    let installation = Installation { chained: false, ..scratch.installation() };
    scratch.write("10-pods.conflist", &network());
    installation.install().expect("good");
    assert_eq!(scratch.read("10-pods.conflist"), network());
    let own = scratch.read("YYY-mainsheet-cni.conf");
    assert_eq!((&own["type"], &own["name"]), (&json!(PLUGIN), &json!(PLUGIN)));
    installation.remove().expect("good");
    assert_eq!(scratch.names("net.d"), ["10-pods.conflist"]);
}

#[test]
fn removal_leaves_what_others_have_written() {
    let scratch = Scratch::new("remove");
    let installation = scratch.installation();
    scratch.write("10-pods.conflist", &network());
    installation.install().expect("good");
    installation.remove().expect("good");
    assert_eq!(scratch.read("10-pods.conflist"), network());
    assert!(scratch.names("bin").is_empty() && scratch.names("run").is_empty());
    installation.remove().expect("nothing is there any more");
}

#[test]
fn the_network_namespace_of_a_pod_is_that_of_its_oldest_process() {
    let scratch = Scratch::new("proc");
    for (process, group) in
        [("12", "/kubepods/podother"), ("30", "/kubepods/podu-1-2/x"), ("7", "/"), ("200", "/podu-1-2/y")]
    {
        fs::create_dir_all(scratch.0.join(process)).expect("a directory");
        fs::write(scratch.0.join(process).join("cgroup"), format!("0::{group}\n")).expect("a file");
    }
    let found = repair::namespace(&scratch.0, "u-1-2").expect("found");
    assert_eq!(found, scratch.0.join("30/ns/net"));
    fs::write(scratch.0.join("12/cgroup"), "0::/kubepods-podu_1_2.slice\n").expect("a file");
    assert_eq!(repair::namespace(&scratch.0, "u-1-2").expect("found"), scratch.0.join("12/ns/net"));
    assert!(repair::namespace(&scratch.0, "elsewhere").is_err());
    assert!(repair::namespace(&scratch.0, "").is_err());
}

#[test]
fn calls_that_need_nobody_are_answered_by_the_protocol() {
    let call = |command: &str, input: &str| {
        let read = |name: &str| (name == "CNI_COMMAND").then(|| command.to_owned());
        let (answer, good) = plugin(read, input);
        (serde_json::from_str::<Value>(&answer).unwrap_or(Value::Null), good)
    };
    let (answer, good) = call("VERSION", r#"{"cniVersion": "1.0.0"}"#);
    assert!(good && answer["cniVersion"] == "1.0.0");
    assert_eq!(answer["supportedVersions"][6], "1.1.0");
    for command in ["DEL", "GC"] {
        assert_eq!(call(command, r#"{"cniVersion": "1.1.0"}"#), (Value::Null, true));
    }
    // What is no pod of Kubernetes is passed on as it came.
    let result = json!({"cniVersion": "1.0.0", "ips": [{"address": "10.0.0.2/24"}]});
    let input = json!({"cniVersion": "1.0.0", "prevResult": result}).to_string();
    assert_eq!(call("ADD", &input), (result, true));
    assert_eq!(call("ADD", r#"{"cniVersion": "1.0.0"}"#), (json!({"cniVersion": "1.0.0"}), true));
    let codes = [
        ("ADD", "{", 6),
        ("ADD", r#"{"cniVersion": "9.0.0"}"#, 1),
        ("STATUS", r#"{"cniVersion": "1.1.0", "cni_agent_run_dir": "/nowhere"}"#, 50),
        ("", r#"{"cniVersion": "1.1.0"}"#, 4),
    ];
    for (command, input, code) in codes {
        let (answer, good) = call(command, input);
        assert!(!good && answer["code"] == code, "{command} {input}: {answer}");
    }
}
