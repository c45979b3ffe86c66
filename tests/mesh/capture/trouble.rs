//! What is said where the rules cannot be set, or are not there.

use super::bench::{ALL, BACKENDS, Bench, PROXY, shell};
use crate::harness::{MARK, program, run};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Output},
};

/// Runs `mainsheet iptables` in the pod by way of other programs.
fn by(bench: &Bench, through: &[&str], words: &[&str]) -> Output {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", bench.pod)).args(through).arg(program()).arg("iptables").args(words);
    command.env(MARK, run().dir()).output().expect("nsenter")
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn validation_passes_with_the_rules_and_ends_with_126_without() {
    let bench = Bench::new();
    // Envoy is not there yet when a pod is looked at, so its ports are free.
    let (_, prefix) = run().part();
    let pod = format!("{prefix}bare");
    shell(&format!(
        "ip netns add {pod}; ip -n {pod} link set lo up; ip -n {pod} link add eth0 type veth peer name eth1
         ip -n {pod} addr add 10.9.9.2/24 dev eth0; ip -n {pod} addr add fd99::2/64 dev eth0 nodad"
    ));
    let bare = Bench { pod, world: bench.world.clone() };
    let proxy = ["setpriv", "--reuid=1337", "--regid=1337", "--clear-groups"];
    assert_eq!(PROXY, (1337, 1337));
    let validate = ["--run-validation", "--skip-rule-apply", "--probe-timeout", "1s"];
    let output = by(&bare, &proxy, &validate);
    assert_eq!(output.status.code(), Some(126), "{output:?}");
    assert!(said(&output).contains("the traffic of this pod is not captured"), "{output:?}");
    for backend in BACKENDS {
        bare.capture(&[ALL, backend]);
        let output = by(&bare, &proxy, &validate);
        assert!(output.status.success(), "{backend:?} {output:?}");
    }
    shell(&format!("ip -n {} -4 addr flush dev eth0", bare.pod));
    assert_eq!(by(&bare, &proxy, &validate).status.code(), Some(126));
    bare.capture(&[ALL]);
    assert!(by(&bare, &proxy, &validate).status.success());
}

#[test]
fn a_missing_capability_is_named() {
    let bench = Bench::new();
    let through = ["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"];
    for words in [&["--self-check"][..], ALL, &[ALL, &["--native-nftables"]].concat()] {
        let output = by(&bench, &through, words);
        assert!(!output.status.success(), "{output:?}");
        let text = said(&output);
        assert!(text.contains("the capability NET_ADMIN: add NET_ADMIN and NET_RAW to"), "{text}");
    }
}

#[test]
fn the_capability_that_only_the_older_iptables_need_is_asked_for_with_them_alone() {
    let bench = Bench::new();
    let through = ["setpriv", "--bounding-set=-net_raw", "--inh-caps=-net_raw"];
    let check = |backend: &[&str]| by(&bench, &through, &[&["--self-check"], backend].concat());
    let output = check(BACKENDS[0]);
    assert!(!output.status.success() && said(&output).contains("missing the capability NET_RAW: add"), "{output:?}");
    assert!(check(BACKENDS[1]).status.success() && check(BACKENDS[2]).status.success());
}

#[test]
fn a_missing_kernel_module_is_named() {
    let bench = Bench::new();
    let dir = run().part().0;
    // A kernel that does not know who owns a packet.
    let script = "#!/bin/sh\ninput=$(cat)\ncase $input in *'-m owner'*) echo 'Couldn'\\''t load match owner' >&2; exit 2;; esac\n\
        printf '%s\\n' \"$input\" | exec /usr/sbin/iptables-nft-restore \"$@\"\n";
    let file = dir.join("iptables-nft-restore");
    fs::write(&file, script).expect("a script");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).expect("its rights");
    let path = format!("PATH={}:/usr/sbin:/usr/bin:/bin", dir.display());
    let before = bench.state();
    let output = by(&bench, &["env", &path], &[ALL, &["--force-iptables-binary=nft"]].concat());
    assert!(!output.status.success(), "{output:?}");
    let text = said(&output);
    assert!(text.contains("the kernel module xt_owner (or built in): modprobe xt_owner on the node"), "{text}");
    assert!(text.contains("Couldn't load match owner"), "{text}");
    assert!(!text.contains("xt_REDIRECT"), "{text}");
    assert_eq!(bench.state(), before, "nothing is set by half");
}

#[test]
fn the_self_check_lists_what_is_there() {
    let bench = Bench::new();
    let before = bench.state();
    let words =
        [ALL, &["--self-check", "--redirect-dns", "--capture-all-dns", "-m", "TPROXY", "--dual-stack"]].concat();
    for backend in BACKENDS {
        let output = bench.iptables(&[&words, backend].concat());
        assert!(output.status.success(), "{}", said(&output));
        assert!(said(&output).lines().all(|l| l.starts_with("ok ")), "{}", said(&output));
    }
    let output = bench.iptables(&words);
    for module in ["xt_owner", "xt_REDIRECT", "xt_TPROXY", "xt_CT", "xt_multiport", "xt_conntrack", "xt_connmark"] {
        assert!(said(&output).contains(module), "{module}: {}", said(&output));
    }
    assert_eq!(bench.state(), before);
}

#[test]
fn a_bad_flag_is_named_and_nothing_is_done() {
    let bench = Bench::new();
    let before = bench.state();
    let output = bench.iptables(&["-b", "http", "-x", "*"]);
    assert_eq!(output.status.code(), Some(64));
    let text = said(&output);
    assert!(text.contains("--istio-inbound-ports: \"http\" is no value for it; write ports"), "{text}");
    assert!(text.contains("--istio-service-exclude-cidr: \"*\" is no address range"), "{text}");
    assert_eq!(bench.iptables(&["--no-such-flag"]).status.code(), Some(64));
    assert_eq!(bench.state(), before);
}

#[test]
fn a_namespace_can_be_named_instead_of_entered() {
    let bench = Bench::new();
    let namespace = format!("/run/netns/{}", bench.pod);
    let command = |words: &[&str]| Command::new(program()).arg("iptables").args(words).output().expect("mainsheet");
    let output = command(&[ALL, &["--network-namespace", &namespace, "--cni-mode"]].concat());
    assert!(output.status.success(), "{output:?}");
    assert!(bench.rules().len() > 10);
    let output = command(&["--cleanup-only", "--network-namespace", "/run/netns/none-of-this-name"]);
    assert!(!output.status.success());
    assert!(said(&output).contains("entering the network namespace /run/netns/none-of-this-name"), "{output:?}");
}
