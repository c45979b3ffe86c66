//! Whether a pod's traffic is captured, and how.

use crate::capture::Settings;
use k8s_openapi::api::core::v1::{Container, Pod};
use std::collections::BTreeMap;

const INIT: &str = "istio-init";
const PROXY: &str = "istio-proxy";
const STATUS: &str = "sidecar.istio.io/status";
const INJECT: &str = "sidecar.istio.io/inject";
const MODE: &str = "sidecar.istio.io/interceptionMode";
const REROUTE: &str = "istio.io/reroute-virtual-interfaces";
const TRAFFIC: &str = "traffic.sidecar.istio.io/";
/// Ports of the proxy itself, which are reached without it.
const OWN_PORTS: [&str; 3] = ["15020", "15021", "15090"];

/// What becomes of a pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Its traffic is left as it is, for this reason.
    Leave(&'static str),
    /// Its traffic is captured.
    Capture(Box<Settings>),
}

/// Decides about a pod by its specification alone.
pub fn decide(pod: &Pod, native_nftables: bool) -> Decision {
    let Some(spec) = &pod.spec else { return Decision::Leave("it has no specification") };
    let containers = || spec.init_containers.iter().flatten().chain(&spec.containers);
    if spec.host_network == Some(true) {
        return Decision::Leave("its network is the node's");
    }
    if containers().any(|c| c.name == INIT) {
        return Decision::Leave("its container istio-init captures its traffic");
    }
    let Some(proxy) = containers().find(|c| c.name == PROXY) else {
        return Decision::Leave("it has no container istio-proxy");
    };
    let environment = environment(proxy);
    if environment.get("DISABLE_ENVOY").is_some_and(|v| is_true(v)) {
        return Decision::Leave("its proxy runs no Envoy");
    }
    if let [first, kind, ..] = &proxy.args.as_deref().unwrap_or_default()
        && matches!(first.as_str(), "proxy" | "agent")
        && kind != "sidecar"
    {
        return Decision::Leave("its proxy is no sidecar");
    }
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let label = pod.metadata.labels.as_ref().and_then(|l| l.get(INJECT));
    if label.or_else(|| annotations.get(INJECT)).is_some_and(|v| is_false(v)) {
        return Decision::Leave("injection is off for it");
    }
    if !annotations.contains_key(STATUS) {
        return Decision::Leave("nothing was injected into it");
    }
    if annotations.get(MODE).is_some_and(|mode| mode == "NONE") {
        return Decision::Leave("its interception mode is NONE");
    }
    // A pod with users of its own: the kernel takes rules of iptables that name a user from such users alone, those of nft
    // from the node as well, and understands them as the pod does.
    let native_nftables = native_nftables || spec.host_users == Some(false);
    Decision::Capture(Box::new(settings(proxy, &environment, &annotations, native_nftables)))
}

fn settings(
    proxy: &Container,
    environment: &BTreeMap<&str, &str>,
    annotations: &BTreeMap<String, String>,
    native_nftables: bool,
) -> Settings {
    let mut settings = Settings::default();
    let own = "the CNI plugin";
    let user = |id: Option<i64>| id.filter(|id| *id != 0).unwrap_or(1337).to_string();
    let context = proxy.security_context.as_ref();
    settings.set("proxy-uid", user(context.and_then(|c| c.run_as_user)), own);
    settings.set("proxy-gid", user(context.and_then(|c| c.run_as_group)), own);
    settings.set("cni-mode", "true", own);
    settings.set("native-nftables", native_nftables.to_string(), own);
    let annotated = [
        (MODE.to_owned(), "istio-inbound-interception-mode", "REDIRECT"),
        (format!("{TRAFFIC}includeOutboundIPRanges"), "istio-service-cidr", "*"),
        (format!("{TRAFFIC}excludeOutboundIPRanges"), "istio-service-exclude-cidr", ""),
        (format!("{TRAFFIC}includeInboundPorts"), "istio-inbound-ports", "*"),
        (format!("{TRAFFIC}includeOutboundPorts"), "istio-outbound-ports", ""),
        (format!("{TRAFFIC}excludeOutboundPorts"), "istio-local-outbound-ports-exclude", "15020"),
        (format!("{TRAFFIC}excludeInterfaces"), "istio-exclude-interfaces", ""),
        (format!("{TRAFFIC}kubevirtInterfaces"), "kube-virt-interfaces", ""),
        // Of two annotations for one thing the newer counts.
        (REROUTE.to_owned(), "kube-virt-interfaces", ""),
    ];
    for (annotation, name, default) in annotated {
        match annotations.get(&annotation) {
            Some(value) => settings.set(name, value.as_str(), format!("the annotation {annotation}")),
            None if annotation == REROUTE => {}
            None => settings.set(name, default, own),
        }
    }
    let annotation = format!("{TRAFFIC}excludeInboundPorts");
    let written = annotations.get(&annotation).map_or("", String::as_str);
    let mut ports: Vec<&str> = Vec::new();
    for port in written.split(',').map(str::trim).chain(OWN_PORTS).filter(|p| !p.is_empty()) {
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    settings.set("istio-local-exclude-ports", ports.join(","), format!("the annotation {annotation}"));
    let switches = [
        ("ISTIO_META_DNS_CAPTURE", &["redirect-dns", "capture-all-dns"][..]),
        ("ISTIO_DUAL_STACK", &["dual-stack"]),
        ("INVALID_DROP", &["drop-invalid"]),
    ];
    for (variable, names) in switches {
        if let Some(value) = environment.get(variable).filter(|v| !v.is_empty()) {
            names.iter().for_each(|n| settings.set(n, *value, format!("the variable {variable} of istio-proxy")));
        }
    }
    settings
}

fn environment(proxy: &Container) -> BTreeMap<&str, &str> {
    let pairs = proxy.env.iter().flatten().map(|e| (e.name.as_str(), e.value.as_deref().unwrap_or_default()));
    pairs.collect()
}

fn is_true(value: &str) -> bool {
    matches!(value, "1" | "t" | "T" | "true" | "TRUE" | "True")
}

fn is_false(value: &str) -> bool {
    matches!(value, "0" | "f" | "F" | "false" | "FALSE" | "False")
}
