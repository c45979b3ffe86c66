//! WorkloadEntries and WorkloadGroups (Istio: `pkg/config/validation/validation.go`, ValidateWorkloadEntry).

use super::{
    Context, Parsed,
    raw::{Meta, meta, typed},
    text::{dns_name, header_name, is_dns_label, label_key, label_value},
    value::{Findings, UNIX, is_socket},
};
use crate::{
    api::workload_entry as api,
    model::{EndpointAddress, Labels, Locality, WorkloadEntry, locality_label},
    problem::FieldPath,
};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Parses a WorkloadEntry.
pub(super) fn workload_entry(raw: &Value, _: &Context) -> Parsed<WorkloadEntry> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed::<api::WorkloadEntry>(&meta.object, &path, &raw["spec"]);
    let Some(mut spec) = spec else { return (None, problems) };
    let mut found = Findings::new(&meta.object, problems);
    // Labels of the object come before those of its spec.
    spec.labels.extend(meta.labels.iter().map(|(k, v)| (k.to_string(), v.to_string())));
    let address = address(&mut found, &path, &spec, true);
    let workload = workload(&mut found, &path, &spec, address, None);
    let workload = WorkloadEntry { name: name(&meta, &workload.labels), healthy: healthy(raw, &meta), ..workload };
    found.finish(workload)
}

/// What the workload is called: after its group, or as its label says, or as the object.
fn name(meta: &Meta, labels: &Labels) -> Arc<str> {
    let group = meta.annotations.get("istio.io/autoRegistrationGroup");
    group.or_else(|| labels.get("service.istio.io/workload-name")).unwrap_or(&meta.object.name).clone()
}

/// Whether it serves: one whose health is looked after does not until somebody says so.
fn healthy(raw: &Value, meta: &Meta) -> bool {
    let checked = meta.annotations.get("proxy.istio.io/health-checks-enabled");
    let checked = checked.is_some_and(|c| matches!(&**c, "1" | "t" | "T" | "true" | "TRUE" | "True"));
    let conditions = raw["status"]["conditions"].as_array().into_iter().flatten();
    !checked || conditions.filter(|c| c["type"] == "Healthy").any(|c| c["status"] == "True")
}

/// Reads where a workload is. `named` says whether it may be a DNS name.
pub(super) fn address(
    found: &mut Findings<'_>,
    path: &FieldPath,
    spec: &api::WorkloadEntry,
    named: bool,
) -> Option<EndpointAddress> {
    let path = path.field("address");
    let text = spec.address.as_str();
    if let Some(socket) = text.strip_prefix(UNIX) {
        if !is_socket(socket) {
            found
                .error(&path, format!("`{text}` is not a socket; write unix:// and an absolute path, or @ and a name"));
        }
        return Some(EndpointAddress::Unix(socket.into()));
    }
    match text.parse() {
        _ if text.is_empty() && spec.network.is_empty() => {
            found.error(&path, "is missing; write an IP address, a DNS name or unix:///PATH, or name a network");
            None
        }
        _ if text.is_empty() => {
            let network = &spec.network;
            found.warn(
                &path,
                format!("is missing, so the workload is reached only by the gateway of network {network}"),
            );
            None
        }
        Ok(ip) => Some(EndpointAddress::Ip(ip)),
        Err(_) if !named => {
            found.error(&path, format!("`{text}` is not an IP address; write one, or use resolution DNS for names"));
            None
        }
        Err(_) => {
            if let Err(why) = dns_name(text) {
                found.error(&path, format!("{why}; write an IP address, a DNS name or unix:///PATH"));
            }
            Some(EndpointAddress::Host(text.to_ascii_lowercase().into()))
        }
    }
}

/// Reads a workload that is at an address. `ports` are the names of the service's ports, where these are known.
pub(super) fn workload(
    found: &mut Findings<'_>,
    path: &FieldPath,
    spec: &api::WorkloadEntry,
    address: Option<EndpointAddress>,
    ports: Option<&BTreeSet<&str>>,
) -> WorkloadEntry {
    if matches!(address, Some(EndpointAddress::Unix(_))) {
        if !spec.ports.is_empty() {
            found.error(&path.field("ports"), "has ports beside a socket, which has none; leave them out");
        }
        if ports.is_some_and(|p| p.len() != 1) {
            found.error(&path.field("address"), "is a socket, which serves one port; give the ServiceEntry one port");
        }
    }
    let labels = labels(found, &path.field("labels"), &spec.labels);
    let locality = match spec.locality.is_empty() {
        false => Locality::parse(&spec.locality),
        true => locality_label(&labels).unwrap_or_default(),
    };
    let network = match labels.get("topology.istio.io/network") {
        Some(label) if spec.network.is_empty() => label.clone(),
        _ => spec.network.as_str().into(),
    };
    let object = found.object().clone();
    WorkloadEntry {
        namespace: object.namespace.clone(),
        name: object.name.clone(),
        address,
        ports: named_ports(found, &path.field("ports"), &spec.ports, ports),
        labels,
        account: spec.service_account.as_str().into(),
        network,
        locality,
        weight: spec.weight.max(1),
        healthy: true,
        source: object,
    }
}

fn named_ports(
    found: &mut Findings<'_>,
    path: &FieldPath,
    ports: &BTreeMap<String, u32>,
    known: Option<&BTreeSet<&str>>,
) -> Vec<(Arc<str>, u16)> {
    let mut out = Vec::new();
    for (name, number) in ports {
        let path = path.key(name);
        if !is_dns_label(name) {
            found.error(&path, "is not the name of a port; write letters, digits and inner hyphens");
        } else if known.is_some_and(|k| !k.contains(name.as_str())) {
            found.error(&path, "is no port of the ServiceEntry; write the name of one of spec.ports");
        }
        out.extend(found.port(&path, *number).map(|port| (name.as_str().into(), port)));
    }
    out
}

/// Reads labels that a workload has.
fn labels(found: &mut Findings<'_>, path: &FieldPath, labels: &BTreeMap<String, String>) -> Labels {
    for (key, value) in labels {
        if !label_key(key) {
            found.error(
                &path.key(key),
                "is not the key of a label; write PREFIX/NAME of letters, digits, `-`, `_` and `.`",
            );
        }
        if !label_value(value) {
            found.error(
                &path.key(key),
                format!("`{value}` is not the value of a label; write letters, digits, `-`, `_` and `.`"),
            );
        }
    }
    labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect()
}

/// Checks a WorkloadGroup. It has no effect by itself: WorkloadEntries are made of it when workloads register.
pub(super) fn workload_group(raw: &Value, _: &Context) -> Parsed<()> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed::<api::WorkloadGroup>(&meta.object, &path, &raw["spec"]);
    let Some(spec) = spec else { return (None, problems) };
    let mut found = Findings::new(&meta.object, problems);
    if let Some(metadata) = &spec.metadata {
        labels(&mut found, &path.field("metadata").field("labels"), &metadata.labels);
    }
    match &spec.template {
        None => found.error(&path.field("template"), "is missing; say there what the group's workloads are like"),
        Some(template) => {
            let path = path.field("template");
            let at = Some(&template.address).filter(|a| !a.is_empty());
            let at = at.and_then(|_| address(&mut found, &path, template, true));
            workload(&mut found, &path, template, at, None);
        }
    }
    if let Some(probe) = &spec.probe {
        check_probe(&mut found, &path.field("probe"), probe);
    }
    found.finish(())
}

fn check_probe(found: &mut Findings<'_>, path: &FieldPath, probe: &api::ReadinessProbe) {
    let numbers = [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ];
    for (name, number) in numbers.into_iter().filter(|(_, n)| *n < 0) {
        found.error(&path.field(name), format!("{number} is negative; write 0 or more"));
    }
    let (http, tcp, exec, grpc) = (&probe.http_get, &probe.tcp_socket, &probe.exec, &probe.grpc);
    let ways = [http.is_some(), tcp.is_some(), exec.is_some(), grpc.is_some()];
    if ways.into_iter().filter(|w| *w).count() != 1 {
        found.error(path, "must probe in one way; write one of httpGet, tcpSocket, exec and grpc");
    }
    if let Some(http) = http {
        let path = path.field("httpGet");
        found.port(&path.field("port"), http.port);
        if !matches!(http.scheme.as_str(), "" | "HTTP" | "HTTPS") {
            found.error(&path.field("scheme"), format!("`{}` is not a scheme; write HTTP or HTTPS", http.scheme));
        }
        for (at, header) in http.http_headers.iter().enumerate() {
            if let Err(why) = header_name(&header.name) {
                found.error(&path.field("httpHeaders").index(at).field("name"), why);
            }
        }
    }
    if let Some(tcp) = tcp {
        found.port(&path.field("tcpSocket").field("port"), tcp.port);
    }
    if let Some(grpc) = grpc {
        found.port(&path.field("grpc").field("port"), grpc.port);
    }
    if exec.as_ref().is_some_and(|e| e.command.is_empty()) {
        found.error(&path.field("exec").field("command"), "is missing; write the command and its arguments");
    }
}
