//! Services.

use super::{labels, text};
use crate::{
    id::{Host, ObjectRef},
    model::{Distribution, ExportTo, Labels, Protocol, Registry, Resolution, Service, ServicePort, TargetPort, Vip},
    parse::{
        Context, Parsed,
        raw::{Meta, meta, typed},
    },
    problem::{FieldPath, Problem},
};
use k8s_openapi::{api::core::v1, apimachinery::pkg::util::intstr::IntOrString};
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

/// Reads a Service (Istio: `pkg/kube/…/conversion.go`, ConvertService).
pub(in crate::parse) fn service(raw: &Value, context: &Context) -> Parsed<Service> {
    let meta = meta(raw);
    let id = meta.object.clone();
    let (typed, mut problems) = typed::<v1::Service>(&id, &FieldPath::default(), raw);
    let Some(spec) = typed.map(|s| s.spec.unwrap_or_default()) else { return (None, problems) };
    let path = FieldPath::new("spec");
    let ports = ports(&id, &path.field("ports"), spec.ports.as_deref().unwrap_or_default(), &mut problems);
    let alias_of = alias(&id, &path, &spec, &mut problems);
    let headless = spec.cluster_ip.as_deref() == Some("None");
    let service = Service {
        host: Host::from(format!("{}.{}.svc.{}", id.name, id.namespace, context.domain)),
        namespace: id.namespace.clone(),
        name: id.name.clone(),
        registry: Registry::Kubernetes,
        resolution: match (alias_of.is_some(), headless) {
            (true, _) => Resolution::Alias,
            (_, true) => Resolution::Passthrough,
            _ => Resolution::ClientSide,
        },
        addresses: addresses(&id, &path, &spec, &mut problems),
        ports,
        external: alias_of.is_some(),
        export_to: export_to(&meta),
        created: meta.created,
        selector: labels(spec.selector.as_ref()),
        node_local: spec.internal_traffic_policy.as_deref() == Some("Local"),
        distribution: distribution(&meta.annotations, spec.traffic_distribution.as_deref()),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        accounts: accounts(&meta.annotations),
        alias_of,
        allocates: false,
        allocated: Vec::new(),
        races: false,
        labels: meta.labels,
        source: id,
        merged: Vec::new(),
    };
    (Some(service), problems)
}

fn alias(id: &ObjectRef, path: &FieldPath, spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) -> Option<Host> {
    if spec.type_.as_deref() != Some("ExternalName") {
        return None;
    }
    let name = text(spec.external_name.as_ref()).trim_end_matches('.').to_lowercase();
    if name.is_empty() {
        let message = "is empty, but the Service is of type ExternalName; write the host that it stands for";
        problems.push(Problem::error(id, path.field("externalName"), message));
        return None;
    }
    Some(Host::from(name))
}

fn ports(id: &ObjectRef, path: &FieldPath, ports: &[v1::ServicePort], problems: &mut Vec<Problem>) -> Vec<ServicePort> {
    let mut out: Vec<ServicePort> = Vec::new();
    for (i, port) in ports.iter().enumerate() {
        let path = path.index(i);
        let Some(number) = u16::try_from(port.port).ok().filter(|n| *n > 0) else {
            problems.push(Problem::error(
                id,
                path.field("port"),
                format!("{} is not a port; write a number from 1 to 65535", port.port),
            ));
            continue;
        };
        let udp = port.protocol.as_deref() == Some("UDP");
        if out.iter().any(|p| p.number == number && (p.protocol == Protocol::Udp) == udp) {
            problems.push(Problem::error(
                id,
                path.field("port"),
                format!("{number} is there twice; the first is served"),
            ));
            continue;
        }
        let name = text(port.name.as_ref());
        let target = match &port.target_port {
            None | Some(IntOrString::Int(0)) => TargetPort::Number(number),
            Some(IntOrString::String(name)) => match name.parse() {
                Ok(number) => TargetPort::Number(number),
                Err(_) => TargetPort::Name(name.as_str().into()),
            },
            Some(IntOrString::Int(target)) => {
                match u16::try_from(*target) {
                    Ok(target) => TargetPort::Number(target),
                    Err(_) => {
                        problems.push(Problem::error(id, path.field("targetPort"), format!("{target} is not a port; write a number from 1 to 65535, or the name of a container's port")));
                        continue;
                    }
                }
            }
        };
        let protocol = protocol(number, udp, &name, port.app_protocol.as_deref());
        out.push(ServicePort { name, number, protocol, target });
    }
    out
}

/// What is spoken on a port: `appProtocol` says, or the port's name up to the first `-`, or a few well-known
/// numbers (Istio: `pkg/config/kube/conversion.go`).
pub(in crate::parse) fn protocol(number: u16, udp: bool, name: &str, app: Option<&str>) -> Protocol {
    if udp {
        return Protocol::Udp;
    }
    let spoken = match app {
        Some("kubernetes.io/h2c") => Protocol::Http2,
        Some("kubernetes.io/ws") => Protocol::Http,
        Some("kubernetes.io/wss") => Protocol::Https,
        Some(app) => protocol_named(app),
        None => protocol_of_port_name(name),
    };
    match (spoken, number) {
        (Protocol::Auto, 25 | 53 | 3306 | 27017) => Protocol::Tcp,
        (spoken, _) => spoken,
    }
}

fn protocol_of_port_name(name: &str) -> Protocol {
    let lower = name.to_lowercase();
    match lower.starts_with("grpc-web") {
        true => Protocol::GrpcWeb,
        false => protocol_named(lower.split('-').next().unwrap_or_default()),
    }
}

/// The protocol of this name; `Auto` for names that are none.
pub(in crate::parse) fn protocol_named(name: &str) -> Protocol {
    match name.to_lowercase().as_str() {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "grpc" => Protocol::Grpc,
        "grpc-web" => Protocol::GrpcWeb,
        "http" => Protocol::Http,
        "http_proxy" => Protocol::HttpProxy,
        "http2" => Protocol::Http2,
        "https" => Protocol::Https,
        "tls" => Protocol::Tls,
        "mongo" => Protocol::Mongo,
        "redis" => Protocol::Redis,
        "mysql" => Protocol::MySql,
        _ => Protocol::Auto,
    }
}

fn addresses(id: &ObjectRef, path: &FieldPath, spec: &v1::ServiceSpec, problems: &mut Vec<Problem>) -> Vec<Vip> {
    let all = spec.cluster_ips.iter().flatten().enumerate().map(|(i, ip)| (path.field("clusterIPs").index(i), ip));
    let first = spec.cluster_ip.iter().map(|ip| (path.field("clusterIP"), ip));
    let mut out = Vec::new();
    for (path, ip) in first.chain(all).filter(|(_, ip)| !ip.is_empty() && *ip != "None") {
        match ip.parse::<IpAddr>() {
            Ok(ip) if out.contains(&Vip::Ip(ip)) => {}
            Ok(ip) => out.push(Vip::Ip(ip)),
            Err(_) => problems.push(Problem::error(
                id,
                path,
                format!("{ip} is not an IP address; write one, or None for a headless Service"),
            )),
        }
    }
    out
}

fn export_to(meta: &Meta) -> ExportTo {
    let Some(list) = meta.annotations.get("networking.istio.io/exportTo") else { return ExportTo::Unset };
    let entries = list.split(',').map(str::trim).filter(|e| !e.is_empty());
    crate::parse::export_to(entries)
}

/// Istio's older annotation counts where the field is not set.
fn distribution(annotations: &Labels, field: Option<&str>) -> Distribution {
    field.and_then(Distribution::named).or_else(|| Distribution::of(annotations)).unwrap_or_default()
}

/// Identities that annotations add to those of the endpoints.
fn accounts(annotations: &Labels) -> Vec<Arc<str>> {
    let list = annotations.get("alpha.istio.io/canonical-serviceaccounts").map(|l| &**l).unwrap_or_default();
    let mut accounts: Vec<Arc<str>> = list.split(',').map(str::trim).filter(|a| !a.is_empty()).map(Arc::from).collect();
    accounts.sort();
    accounts.dedup();
    accounts
}
