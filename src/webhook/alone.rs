//! A sidecar that is a stock Envoy and nothing else: its bootstrap stands on its command line. Kubelet puts in what only it
//! knows, `$(POD_NAME)` and the like; the files by which Envoy follows its token and the mesh's roots are annotations.

use super::{
    inject::{Facts, PROXY, container_mut, entries},
    probe,
};
use crate::bootstrap::{self, Alone, ControlPlane, Proof, Stats};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

/// The variable by which a template says that the control plane makes the proxy's key: there is no agent that could.
const IDENTITY: (&str, &str) = ("ISTIO_META_IDENTITY", "ads");
/// The annotations that are files of Envoy, and where the template mounts them.
const FILES: [(&str, &str); 2] = [
    ("sidecar.mainsheet.io/token", "/etc/istio/proxy/token.json"),
    ("sidecar.mainsheet.io/roots", "/etc/istio/proxy/roots.json"),
];
const TOKEN: &str = "/var/run/secrets/tokens/istio-token";
const ROOTS: &str = "/var/run/secrets/istio/root-cert.pem";
/// What only an agent does: nobody else answers on the port that these bring queries to.
const OF_AGENTS: [&str; 2] = ["ISTIO_META_DNS_CAPTURE", "ISTIO_META_DNS_AUTO_ALLOCATE"];
/// The pod's address, as kubelet puts it in.
const ADDRESS: &str = "$(INSTANCE_IP)";
/// The most that an argument of a program may hold in Linux.
const LONGEST: usize = 128 << 10;

/// Whether the proxy of a pod has no agent.
pub(super) fn is_alone(pod: &mut Value) -> bool {
    container_mut(pod, PROXY).is_some_and(|proxy| variable(proxy, IDENTITY.0).as_deref() == Some(IDENTITY.1))
}

/// A variable of a container; what kubelet finds out by itself as a reference to it.
fn variable(container: &Value, name: &str) -> Option<String> {
    entries(&container["env"]).iter().rev().find(|entry| entry["name"] == name).and_then(given)
}

fn given(entry: &Value) -> Option<String> {
    match entry["valueFrom"].is_object() {
        true => Some(format!("$({})", entry["name"].as_str()?)),
        false => Some(entry["value"].as_str().unwrap_or_default().to_owned()),
    }
}

/// Gives the proxy its bootstrap.
///
/// # Errors
///
/// When it cannot know whom to trust, or more is told of the pod than a command line holds.
pub(super) fn complete(pod: &mut Value, facts: &Facts, domain: &str) -> Result<(), String> {
    for list in ["initContainers", "containers"] {
        for container in pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let ours =
                matches!(container["name"].as_str(), Some(PROXY | super::inject::INIT | super::inject::VALIDATION));
            if let Some(all) = container.get_mut("env").and_then(Value::as_array_mut).filter(|_| ours) {
                all.retain(|entry| !OF_AGENTS.iter().any(|name| entry["name"] == *name));
            }
        }
    }
    let meta = pod["metadata"].clone();
    let Some(proxy) = container_mut(pod, PROXY) else { return Ok(()) };
    let roots = match variable(proxy, "XDS_ROOT_CA").filter(|file| !file.is_empty()) {
        Some(own) => own,
        None if entries(&proxy["volumeMounts"]).iter().any(|m| m["mountPath"] == "/var/run/secrets/istio") => {
            ROOTS.into()
        }
        None => return Err("nothing says whom Envoy is to trust; name a mounted file of roots in XDS_ROOT_CA".into()),
    };
    let bootstrap = bootstrap(proxy, &meta, facts, domain)?.to_string();
    if bootstrap.len() >= LONGEST {
        return Err(format!(
            "the bootstrap of an Envoy without an agent has {} bytes, more than Linux takes",
            bootstrap.len()
        ));
    }
    let own = [json!("--config-yaml"), bootstrap.into()];
    match proxy.get_mut("args").and_then(Value::as_array_mut) {
        Some(args) => args.extend(own),
        None => proxy["args"] = json!(own),
    }
    let texts = [bootstrap::token_secret(TOKEN), bootstrap::roots_secret(&roots)];
    for ((annotation, _), text) in FILES.iter().zip(texts) {
        pod["metadata"]["annotations"][*annotation] = text.to_string().into();
    }
    Ok(())
}

fn bootstrap(proxy: &Value, meta: &Value, facts: &Facts, domain: &str) -> Result<Value, String> {
    let none = Map::new();
    let config = facts.config.as_object().unwrap_or(&none);
    let text = |name: &str| variable(proxy, name).filter(|text| !text.is_empty());
    let port = |name: &str, usual: u16| text(name).and_then(|port| port.parse().ok()).unwrap_or(usual);
    let number = |name: &str| config.get(name).and_then(Value::as_u64).and_then(|port| u16::try_from(port).ok());
    let address = config.get("discoveryAddress").and_then(Value::as_str).filter(|address| !address.is_empty());
    let address = address.unwrap_or("istiod.istio-system.svc:15012");
    let (host, discovery_port) = address
        .rsplit_once(':')
        .and_then(|(host, port)| Some((host.trim_matches(['[', ']']), port.parse().ok()?)))
        .ok_or_else(|| format!("the discoveryAddress is {address:?}; write HOST:PORT"))?;
    // An address is in no certificate of a control plane, and a tunnel's end is not its name.
    let elsewhere = host.contains("localhost") || host.parse::<IpAddr>().is_ok();
    let usual = if elsewhere { "istiod.istio-system.svc" } else { host };
    let server_name = text("ISTIOD_SAN").unwrap_or_else(|| usual.to_owned());
    let [secret, roots] = [FILES[0].1, FILES[1].1];
    let proof = Proof::Token { roots, secret };
    let control_plane = ControlPlane { host, port: discovery_port, server_name: &server_name, proof };
    let admin_port = number("proxyAdminPort").unwrap_or(15000);
    let (status_port, prometheus_port) = (port("ENVOY_STATUS_PORT", 15021), port("ENVOY_PROMETHEUS_PORT", 15090));
    let probers = text(probe::VARIABLE).and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    let annotation = |name: &str| meta["annotations"][name].as_str().map(str::to_owned);
    let mut node = node(proxy, meta, facts, domain);
    node["metadata"]["ENVOY_STATUS_PORT"] = status_port.into();
    node["metadata"]["ENVOY_PROMETHEUS_PORT"] = prometheus_port.into();
    let mut bootstrap = bootstrap::bootstrap(&node, &control_plane, admin_port);
    Alone {
        address: ADDRESS,
        probe_port: u16::try_from(facts.agent_port).ok().filter(|port| *port != 0),
        status_port,
        prometheus_port,
        admin_port,
        metrics_on_loopback: matches!(text("METRICS_LOCALHOST_ACCESS_ONLY").as_deref(), Some("true" | "1")),
        probers: &probers,
        runtime: config.get("runtimeValues").and_then(Value::as_object).unwrap_or(&none),
        stats: Stats::of(config, annotation, ADDRESS),
    }
    .complete(&mut bootstrap);
    Ok(bootstrap)
}

/// What the proxy says of itself: what an agent would, from the same variables.
fn node(proxy: &Value, meta: &Value, facts: &Facts, domain: &str) -> Value {
    let none = Map::new();
    let labels = meta["labels"].as_object().unwrap_or(&none);
    let label = |key: &str| labels.get(key).and_then(Value::as_str);
    let text =
        |name: &str, usual: &str| variable(proxy, name).filter(|t| !t.is_empty()).unwrap_or_else(|| usual.into());
    let workload = text("ISTIO_META_WORKLOAD_NAME", "");
    let workload = Some(workload.as_str()).filter(|name| !name.is_empty());
    let config = facts.config.as_object().unwrap_or(&none);
    let mut metadata = json!({
        "NAME": "$(POD_NAME)",
        "NAMESPACE": "$(POD_NAMESPACE)",
        "SERVICE_ACCOUNT": "$(SERVICE_ACCOUNT)",
        "CLUSTER_ID": "Kubernetes",
        "INSTANCE_IPS": text("INSTANCE_IPS", ADDRESS),
        "LABELS": labels,
        "PROXY_CONFIG": config,
    });
    for entry in entries(&proxy["env"]) {
        let (Some(name), Some(value)) = (entry["name"].as_str(), given(entry)) else { continue };
        if let Some(key) = name.strip_prefix("ISTIO_META_") {
            metadata[key] = value.into();
        } else if let Some((key, value)) = name.strip_prefix("ISTIO_METAJSON_").zip(serde_json::from_str(&value).ok()) {
            metadata[if key == "LABELS" { "STATIC_LABELS" } else { key }] = value;
        }
    }
    let mut node = json!({
        "id": format!("sidecar~{ADDRESS}~$(POD_NAME).$(POD_NAMESPACE)~$(POD_NAMESPACE).svc.{domain}"),
        "cluster": bootstrap::service_cluster(config, label, workload, "$(POD_NAMESPACE)"),
        "metadata": metadata,
    });
    if let Some(locality) = bootstrap::locality(label) {
        node["locality"] = locality;
    }
    node
}
