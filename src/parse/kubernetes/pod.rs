//! Pods.

use super::{labels, text};
use crate::{
    model::Pod,
    parse::{
        Context, Parsed,
        raw::{meta, typed},
    },
    problem::{FieldPath, Problem},
};
use k8s_openapi::{api::core::v1, apimachinery::pkg::apis::meta::v1::OwnerReference};
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

/// Reads a Pod. One without an address yet is read too: it serves nothing.
pub(in crate::parse) fn pod(raw: &Value, _: &Context) -> Parsed<Pod> {
    let meta = meta(raw);
    let id = meta.object;
    let (typed, mut problems) = typed::<v1::Pod>(&id, &FieldPath::default(), raw);
    let Some(pod) = typed else { return (None, problems) };
    let spec = pod.spec.unwrap_or_default();
    let status = pod.status.unwrap_or_default();
    let ips = addresses(&status, |path, message| problems.push(Problem::error(&id, path, message)));
    let over = matches!(status.phase.as_deref(), Some("Failed" | "Succeeded"));
    let hostname = text(spec.hostname.as_ref());
    let subdomain = text(spec.subdomain.as_ref());
    let pod = Pod {
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        ips: if over { Vec::new() } else { ips },
        labels: labels(pod.metadata.labels.as_ref()),
        account: spec.service_account_name.as_deref().filter(|a| !a.is_empty()).unwrap_or("default").into(),
        node: text(spec.node_name.as_ref()),
        workload: workload(
            &id.name,
            pod.metadata.owner_references.as_deref().unwrap_or_default(),
            pod.metadata.labels.as_ref(),
        ),
        ready: ready(&status),
        terminating: meta.deleting,
        ports: ports(&spec),
        hostname: if hostname.is_empty() && !subdomain.is_empty() { id.name.clone() } else { hostname },
        subdomain,
        host_network: spec.host_network.unwrap_or(false),
        source: id,
    };
    (Some(pod), problems)
}

fn addresses(status: &v1::PodStatus, mut problem: impl FnMut(FieldPath, String)) -> Vec<IpAddr> {
    let path = FieldPath::new("status");
    let listed =
        status.pod_ips.iter().flatten().enumerate().map(|(i, p)| (path.field("podIPs").index(i).field("ip"), &p.ip));
    let primary = status.pod_ip.iter().map(|ip| (path.field("podIP"), ip));
    let mut ips: Vec<IpAddr> = Vec::new();
    for (path, ip) in primary.chain(listed) {
        match ip.parse() {
            Ok(ip) if ips.contains(&ip) => {}
            Ok(ip) => ips.push(ip),
            Err(_) => problem(path, format!("{ip} is not an IP address")),
        }
    }
    ips
}

/// Whether the pod says that it is ready. One that says nothing of it is taken at its best: files rarely have a status.
fn ready(status: &v1::PodStatus) -> bool {
    let condition = status.conditions.iter().flatten().find(|c| c.type_ == "Ready");
    condition.is_none_or(|c| c.status == "True")
}

/// The name of what made the pod: a ReplicaSet of a Deployment loses its hash
/// (Istio: `pkg/kube/inject/…`, GetDeployMetaFromPod).
fn workload(
    name: &Arc<str>,
    owners: &[OwnerReference],
    labels: Option<&std::collections::BTreeMap<String, String>>,
) -> Arc<str> {
    let Some(owner) = owners.iter().find(|o| o.controller == Some(true)) else { return name.clone() };
    let hash = labels.and_then(|l| l.get("pod-template-hash"));
    match (owner.kind.as_str(), hash) {
        ("ReplicaSet", Some(hash)) => owner.name.strip_suffix(&format!("-{hash}")).unwrap_or(&owner.name).into(),
        ("Job", _) => cron_job(&owner.name).into(),
        _ => owner.name.as_str().into(),
    }
}

/// A Job of a CronJob is named after it and the minute it was made in.
fn cron_job(job: &str) -> &str {
    match job.rsplit_once('-') {
        Some((name, minute)) if minute.len() >= 8 && minute.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => job,
    }
}

/// Named TCP ports of the containers, and of init containers that go on running.
fn ports(spec: &v1::PodSpec) -> Vec<(Arc<str>, u16)> {
    let sidecars = spec.init_containers.iter().flatten().filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let ports = spec.containers.iter().chain(sidecars).flat_map(|c| c.ports.iter().flatten());
    ports
        .filter(|p| p.protocol.as_deref().unwrap_or("TCP") == "TCP")
        .filter_map(|p| Some((p.name.as_deref()?.into(), u16::try_from(p.container_port).ok()?)))
        .collect()
}
