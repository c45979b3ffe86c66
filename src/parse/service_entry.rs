//! ServiceEntries (Istio: `pkg/config/validation/validation.go`, ValidateServiceEntry).

use super::{
    Context, Parsed,
    kubernetes::protocol_named,
    raw::{Meta, meta, typed},
    text::{is_dns_label, wildcard_name},
    value::Findings,
    workload_entry::{address, workload},
};
use crate::{
    api::service_entry as api,
    id::Host,
    model::{
        Distribution, EndpointAddress, ExportTo, Labels, Protocol, Registry, Resolution, Service, ServiceEntry,
        ServicePort, TargetPort, Vip, WorkloadEntry,
    },
    problem::FieldPath,
};
use ipnet::IpNet;
use serde_json::Value;
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// Parses a ServiceEntry.
pub(super) fn service_entry(raw: &Value, _: &Context) -> Parsed<ServiceEntry> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed::<api::ServiceEntry>(&meta.object, &path, &raw["spec"]);
    let Some(spec) = spec else { return (None, problems) };
    let mut found = Findings::new(&meta.object, problems);
    let ports = ports(&mut found, &path.field("ports"), &spec.ports);
    let addresses = addresses(&mut found, &path.field("addresses"), &spec);
    check_hosts(&mut found, &path.field("hosts"), &spec, &ports);
    check_endpoints(&mut found, &path, &spec);
    let may_allocate = meta.labels.get("networking.istio.io/enable-autoallocate-ip");
    let may_allocate = may_allocate.is_none_or(|l| !l.eq_ignore_ascii_case("false"));
    let allocates = may_allocate && spec.resolution != api::Resolution::None && addresses.is_empty();
    check_bytes(&mut found, &path.field("hosts"), &spec, &ports, allocates);
    if !allocates && addresses.is_empty() {
        warn_of_bytes(&mut found, &path.field("ports"), &spec);
    }
    let selector = selector(&mut found, &path.field("workloadSelector"), &spec);
    let common = Common {
        resolution: resolution(spec.resolution),
        addresses,
        ports,
        external: spec.location == api::Location::MeshExternal,
        export_to: found.export_to(&path.field("exportTo"), &spec.export_to, true),
        selector,
        allocates,
        accounts: spec.subject_alt_names.iter().map(|n| Arc::from(n.as_str())).collect(),
    };
    let hosts = spec.hosts.iter().enumerate().filter(|(at, h)| !spec.hosts[..*at].contains(h));
    let services = hosts.map(|(_, host)| common.service(host, &meta, raw)).collect();
    let endpoints = endpoints(&mut found, &path.field("endpoints"), &spec, &meta);
    let selects = spec.workload_selector.is_some();
    found.finish(ServiceEntry { services, endpoints, selects, source: meta.object.clone() })
}

/// What the services of all hosts have in common.
struct Common {
    resolution: Resolution,
    addresses: Vec<Vip>,
    ports: Vec<ServicePort>,
    external: bool,
    export_to: ExportTo,
    selector: Labels,
    allocates: bool,
    accounts: BTreeSet<Arc<str>>,
}

impl Common {
    fn service(&self, host: &str, meta: &Meta, raw: &Value) -> Service {
        let wildcard = host.starts_with('*');
        let strategy = meta.annotations.get("istio.io/connect-strategy");
        Service {
            host: Host::from(host.to_ascii_lowercase()),
            namespace: meta.object.namespace.clone(),
            name: host.into(),
            registry: Registry::External,
            resolution: self.resolution,
            addresses: self.addresses.clone(),
            ports: self.ports.clone(),
            external: self.external,
            export_to: self.export_to.clone(),
            created: meta.created,
            selector: self.selector.clone(),
            labels: meta.labels.clone(),
            node_local: false,
            distribution: Distribution::of(&meta.annotations).unwrap_or_default(),
            publish_not_ready: false,
            accounts: self.accounts.iter().cloned().collect(),
            alias_of: None,
            allocates: self.allocates && (!wildcard || self.resolution == Resolution::DynamicDns),
            allocated: if self.allocates { allocated(raw, host) } else { Vec::new() },
            races: strategy.is_some_and(|s| s.eq_ignore_ascii_case("RACE_FIRST_TCP_CONNECT")),
            source: meta.object.clone(),
            merged: Vec::new(),
        }
    }
}

/// The addresses that the status says a host was given.
fn allocated(raw: &Value, host: &str) -> Vec<IpAddr> {
    let entries = raw["status"]["addresses"].as_array().into_iter().flatten();
    let own = entries.filter(|e| e["host"].as_str() == Some(host));
    let mut ips: Vec<IpAddr> = own.filter_map(|e| e["value"].as_str()?.parse().ok()).collect();
    ips.sort_by_key(IpAddr::is_ipv6);
    ips.dedup_by_key(|ip| ip.is_ipv6());
    ips
}

fn resolution(resolution: api::Resolution) -> Resolution {
    match resolution {
        api::Resolution::None => Resolution::Passthrough,
        api::Resolution::Static => Resolution::ClientSide,
        api::Resolution::Dns => Resolution::Dns,
        api::Resolution::DnsRoundRobin => Resolution::DnsRoundRobin,
        api::Resolution::DynamicDns => Resolution::DynamicDns,
    }
}

fn ports(found: &mut Findings<'_>, path: &FieldPath, ports: &[api::ServicePort]) -> Vec<ServicePort> {
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let mut out = Vec::new();
    for (at, port) in ports.iter().enumerate() {
        let path = path.index(at);
        if !is_dns_label(&port.name) {
            found.error(
                &path.field("name"),
                format!("`{}` is not the name of a port; write letters, digits and inner hyphens", port.name),
            );
        } else if !names.insert(port.name.as_str()) {
            found.error(
                &path.field("name"),
                format!("`{}` is the name of an earlier port too; give each its own", port.name),
            );
        }
        let protocol = protocol_named(&port.protocol);
        if protocol == Protocol::Auto && !port.protocol.is_empty() {
            found.error(&path.field("protocol"), format!("`{}` is not a protocol; write HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS, or leave it out to have it detected", port.protocol));
        }
        let Some(number) = found.port(&path.field("number"), port.number) else { continue };
        if !numbers.insert(number) {
            found.error(&path.field("number"), format!("{number} is there twice; a port has one name and protocol"));
            continue;
        }
        let target = match port.target_port {
            0 => number,
            target => found.port(&path.field("targetPort"), target).unwrap_or(number),
        };
        let name = port.name.as_str().into();
        out.push(ServicePort { name, number, protocol, target: TargetPort::Number(target) });
    }
    out
}

fn addresses(found: &mut Findings<'_>, path: &FieldPath, spec: &api::ServiceEntry) -> Vec<Vip> {
    let mut out = Vec::new();
    let blocks = matches!(spec.resolution, api::Resolution::None | api::Resolution::Static);
    for (at, text) in spec.addresses.iter().enumerate() {
        let vip = match text.contains('/') {
            true => text.parse::<IpNet>().ok().map(|net| match net.prefix_len() == net.max_prefix_len() {
                true => Vip::Ip(net.addr()),
                false => Vip::Block(net.trunc()),
            }),
            false => text.parse().ok().map(Vip::Ip),
        };
        match vip {
            None => found.error(&path.index(at), format!("`{text}` is not an address; write an IP address, or a block such as 192.0.2.0/24")),
            Some(_) if text.contains('/') && !blocks => found.error(&path.index(at), format!("`{text}` is a block of addresses, which only resolution NONE and STATIC take; write single addresses")),
            Some(vip) if !out.contains(&vip) => out.push(vip),
            Some(_) => {}
        }
    }
    if !out.is_empty() && spec.resolution == api::Resolution::DynamicDns {
        found.error(
            path,
            "have no effect with resolution DYNAMIC_DNS, where the name that is asked for says it all; leave them out",
        );
    }
    out
}

fn check_hosts(found: &mut Findings<'_>, path: &FieldPath, spec: &api::ServiceEntry, ports: &[ServicePort]) {
    use api::Resolution::{Dns, DnsRoundRobin, DynamicDns};
    if spec.hosts.is_empty() {
        found.error(path, "are missing; name at least one host");
    }
    let by_name = matches!(spec.resolution, Dns | DnsRoundRobin) && spec.endpoints.as_ref().is_none_or(Vec::is_empty);
    let told_by_name = spec.addresses.is_empty() || spec.addresses.iter().any(|a| a.contains('/'));
    for (at, host) in spec.hosts.iter().enumerate() {
        let path = path.index(at);
        let partial = host.starts_with('*') && !host.starts_with("*.");
        let wrong = if host == "*" {
            Err("stands for every host there is, which no ServiceEntry can; write *. and a domain".to_owned())
        } else {
            wildcard_name(host)
        };
        match wrong {
            Err(why) => found.error(&path, why),
            Ok(()) if spec.hosts[..at].contains(host) => found.warn(&path, "is there twice; the first counts"),
            Ok(()) if by_name && host.starts_with('*') => {
                found.error(&path, format!("`{host}` is no name that DNS could resolve; write endpoints, or use resolution NONE or DYNAMIC_DNS"));
            }
            Ok(()) if spec.resolution == DynamicDns && !host.starts_with('*') => {
                found.error(
                    &path,
                    format!("`{host}` is a single name; resolution DYNAMIC_DNS is for wildcards, use DNS"),
                );
            }
            Ok(()) if partial && told_by_name && ports.iter().any(|p| p.protocol.is_tls()) => {
                found.error(&path, format!("`{host}` cannot be told from other names in TLS, where only whole labels may be wildcards; write *. and a domain"));
            }
            Ok(()) if partial && spec.resolution != DynamicDns => {
                found.warn(
                    &path,
                    format!(
                        "`{host}` is a wildcard for a part of a label, which few features know; write *. and a domain"
                    ),
                );
            }
            Ok(()) => {}
        }
    }
}

/// Bytes do not say which host they are for. Only where each host is given an address can they be told apart.
fn check_bytes(
    found: &mut Findings<'_>,
    path: &FieldPath,
    spec: &api::ServiceEntry,
    ports: &[ServicePort],
    allocates: bool,
) {
    let dns = matches!(spec.resolution, api::Resolution::Dns | api::Resolution::DnsRoundRobin);
    if spec.hosts.len() < 2 || spec.resolution == api::Resolution::None {
        return;
    }
    match ports.iter().find(|p| !p.protocol.is_http() && !p.protocol.is_tls()) {
        Some(port) if allocates => {
            let why = "which only clients tell apart whose names the mesh resolves; write a ServiceEntry for each host";
            found.warn(path, format!("are several on port {}, {why}", port.name));
        }
        Some(port) => {
            let why = "which nothing tells apart; write a ServiceEntry for each host";
            found.error(path, format!("are several on port {}, {why}", port.name));
        }
        None if dns && !spec.addresses.is_empty() && ports.iter().any(|p| p.protocol.is_tcp()) => {
            let why = "are several at the same addresses; on TCP ports only the first is reached";
            found.warn(path, format!("{why}, so write a ServiceEntry for each"));
        }
        None => {}
    }
}

fn warn_of_bytes(found: &mut Findings<'_>, path: &FieldPath, spec: &api::ServiceEntry) {
    for (at, port) in spec.ports.iter().enumerate().filter(|(_, p)| matches!(p.protocol.as_str(), "" | "TCP")) {
        let why = "takes all connections to the port that no other service claims, since the entry has no addresses; write addresses";
        found.warn(&path.index(at), format!("{} {why}", port.name));
    }
}

fn check_endpoints(found: &mut Findings<'_>, path: &FieldPath, spec: &api::ServiceEntry) {
    use api::Resolution::{DnsRoundRobin, DynamicDns, None as Unresolved};
    let ends = path.field("endpoints");
    let count = spec.endpoints.as_ref().map_or(0, Vec::len);
    if spec.endpoints.is_some() && spec.workload_selector.is_some() {
        found.error(&ends, "are there beside a workloadSelector; write one of the two");
    }
    match spec.resolution {
        Unresolved if count > 0 => {
            found
                .error(&ends, "have no effect with resolution NONE, where clients dial the address; use STATIC or DNS");
        }
        Unresolved if spec.workload_selector.is_some() => found.warn(
            &path.field("workloadSelector"),
            "has little effect with resolution NONE, where clients dial the address; use STATIC",
        ),
        DnsRoundRobin if count > 1 => {
            found.error(&ends, format!("are {count}, but resolution DNS_ROUND_ROBIN takes at most one; use DNS"));
        }
        DynamicDns if count > 0 => {
            found.error(&ends, "have no effect with resolution DYNAMIC_DNS, where the name that is asked for says it all; leave them out");
        }
        DynamicDns => {
            let known = [Protocol::Http, Protocol::Tls, Protocol::Grpc, Protocol::Http2];
            for (at, port) in spec.ports.iter().enumerate() {
                if !known.contains(&protocol_named(&port.protocol)) {
                    let why = "does not carry the name of the host; with resolution DYNAMIC_DNS write HTTP, HTTP2, GRPC or TLS";
                    found.error(&path.field("ports").index(at).field("protocol"), format!("`{}` {why}", port.protocol));
                }
            }
        }
        _ => {}
    }
}

fn selector(found: &mut Findings<'_>, path: &FieldPath, spec: &api::ServiceEntry) -> Labels {
    let Some(selector) = &spec.workload_selector else { return Labels::new() };
    let path = path.field("labels");
    if selector.labels.is_empty() {
        found.warn(&path, "are missing, so every workload of the namespace is an endpoint; name a label");
    }
    found.labels(&path, &selector.labels)
}

fn endpoints(found: &mut Findings<'_>, path: &FieldPath, spec: &api::ServiceEntry, meta: &Meta) -> Vec<WorkloadEntry> {
    let names: BTreeSet<&str> = spec.ports.iter().map(|p| p.name.as_str()).collect();
    let named = matches!(spec.resolution, api::Resolution::Dns | api::Resolution::DnsRoundRobin);
    let mut out = Vec::with_capacity(spec.endpoints.as_ref().map_or(0, Vec::len));
    for (at, endpoint) in spec.endpoints.iter().flatten().enumerate() {
        let path = path.index(at);
        let address = address(found, &path, endpoint, named);
        if named && matches!(address, Some(EndpointAddress::Unix(_))) {
            found.error(&path.field("address"), "is a socket, which DNS does not resolve; use resolution STATIC");
        }
        let workload = workload(found, &path, endpoint, address, Some(&names));
        out.push(WorkloadEntry { name: format!("{}-{at}", meta.object.name).into(), ..workload });
    }
    out
}
