//! The ports at which traffic to a workload arrives: those that its services lead to, or those that a Sidecar names.

use super::{
    inbound_cluster::{Beside, InboundCluster, Served},
    reserved, wildcards,
};
use crate::{
    id::ObjectRef,
    model::{IngressListener, Interception, Protocol, Sidecar, WorkloadEndpoint},
    problem::{FieldPath, Problem},
    snapshot::{Families, Target, View},
    translate::cluster::{self, stat},
};
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

/// A port at which traffic arrives.
pub(super) struct Arrival<'a> {
    /// The port that clients dial at the workload's address.
    pub(super) port: u16,
    /// What is spoken.
    pub(super) protocol: Protocol,
    /// The number and the name of the port as its service, or the Sidecar, has them.
    pub(super) shown: (u16, Arc<str>),
    /// The service's host, or what stands for the Sidecar.
    pub(super) host: Arc<str>,
    /// The services that lead there, the oldest first.
    targets: Vec<&'a Target>,
    /// The addresses that are listened at, or that names show.
    pub(super) addresses: Vec<Arc<str>>,
    /// Whether it has a socket of its own, since traffic to it is not captured.
    pub(super) real: bool,
    /// What the Sidecar says of it.
    pub(super) named: Option<&'a IngressListener>,
    /// The object that says so.
    pub(super) source: ObjectRef,
}

/// The ports at which traffic to the view's workload arrives, in order.
pub(super) fn arrivals<'a>(view: &View<'a>, problems: &mut Vec<Problem>) -> Vec<Arrival<'a>> {
    let captured = view.key.face.as_ref().is_none_or(|f| f.interception != Interception::None);
    match &view.key.sidecar {
        Some(sidecar) if !sidecar.ingress.is_empty() => named(view, sidecar, captured, problems),
        // Without capture the workload itself listens at its ports.
        _ if captured => served(view, problems),
        _ => Vec::new(),
    }
}

/// Those that a Sidecar names.
fn named<'a>(view: &View<'a>, sidecar: &'a Sidecar, captured: bool, problems: &mut Vec<Problem>) -> Vec<Arrival<'a>> {
    let mut out: Vec<Arrival<'a>> = Vec::new();
    for (at, listener) in sidecar.ingress.iter().enumerate() {
        let real = !listener.captured.unwrap_or(captured);
        let addresses = match &listener.bind {
            Some(address) => vec![address.clone()],
            None => own_addresses(view),
        };
        let number = listener.port.number;
        let everywhere = listener.bind.is_none() || addresses.first() == wildcards(view).first();
        if let Some(why) = reserved::objection(view, number, everywhere, real) {
            let path = FieldPath::new("spec").field("ingress").index(at).field("port");
            problems.push(Problem::warning(&sidecar.source, path, why));
            continue;
        }
        out.push(Arrival {
            port: number,
            protocol: listener.port.protocol,
            shown: (number, listener.port.name.clone()),
            host: format!("{}.{}", sidecar.source.name, view.key.namespace).into(),
            targets: targets(view).find(|t| t.target == number).into_iter().collect(),
            addresses,
            real,
            named: Some(listener),
            source: sidecar.source.clone(),
        });
    }
    out.sort_by_key(|arrival| arrival.port);
    out
}

/// Those that services lead to.
fn served<'a>(view: &View<'a>, problems: &mut Vec<Problem>) -> Vec<Arrival<'a>> {
    let mut ports: BTreeMap<u16, Arrival<'a>> = BTreeMap::new();
    for target in targets(view) {
        let note = |text| Problem::warning(&target.service.source, FieldPath::new("spec").field("ports"), text);
        if let Some(why) = reserved::objection(view, target.target, true, false) {
            problems.push(note(why));
            continue;
        }
        let arrival = ports.entry(target.target).or_insert_with(|| Arrival {
            port: target.target,
            protocol: target.protocol,
            shown: (target.port, target.service.port(target.port).map(|p| p.name.clone()).unwrap_or_default()),
            host: target.service.host.shared(),
            targets: Vec::new(),
            addresses: wildcards(view),
            real: false,
            named: None,
            source: target.service.source.clone(),
        });
        if arrival.protocol != target.protocol {
            problems.push(note(format!(
                "port {} of the workload is spoken of as {} here and as {} by {}, which is older and wins; let both say \
                 the same",
                target.target,
                target.protocol.as_str(),
                arrival.protocol.as_str(),
                arrival.source,
            )));
        }
        arrival.targets.push(target);
    }
    ports.into_values().collect()
}

fn targets<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Target> {
    view.key.targets.iter().flat_map(|all| all.iter())
}

impl Arrival<'_> {
    fn subject(&self, target: Option<u16>) -> stat::Subject<'_> {
        let first = self.targets.first().map(|t| &t.service);
        stat::Subject {
            host: first.map_or(&*self.host, |service| &*service.host),
            kubernetes: first.and_then(|service| stat::in_kubernetes(service)),
            port: (self.shown.0, &self.shown.1),
            subset: "",
            target,
        }
    }

    /// What the mesh's pattern makes of its bytes in statistics; `None` for the cluster's name.
    pub(super) fn stat_of_bytes(&self, view: &View<'_>) -> Option<Arc<str>> {
        let pattern = &view.snapshot.mesh.clusters.inbound_stat_name;
        (!pattern.is_empty()).then(|| stat::expanded(pattern, &self.subject(None)).into())
    }

    /// The cluster that leads to the workload.
    pub(super) fn cluster(&self, view: &View<'_>) -> InboundCluster {
        let mesh = &view.snapshot.mesh;
        let mut services: Vec<Served> = Vec::new();
        // A service that has another number for the port is not the one that statistics show.
        let shown = |t: &&&Target| self.named.is_some() || t.port == self.shown.0;
        for service in self.targets.iter().filter(shown).map(|t| &t.service) {
            if services.iter().all(|s| *s.host != *service.host) {
                services.push(Served {
                    host: service.host.shared(),
                    name: service.name.clone(),
                    namespace: service.namespace.shared(),
                });
            }
        }
        let first = self.targets.first().map(|t| &t.service);
        let rule = first.and_then(|service| view.inbound_rule(&service.host, &service.namespace));
        let mut policy = cluster::policy(rule.as_deref(), None, self.shown.0, &mesh.clusters);
        let sidecar = view.key.sidecar.as_ref();
        let limits = self.named.and_then(|n| n.pool.as_ref()).or_else(|| sidecar?.inbound_pool.as_ref());
        if let Some(limits) = limits {
            policy.connection_pool = Some(limits.clone());
        }
        let loopback = WorkloadEndpoint::Loopback(true, self.port);
        let default = (mesh.inbound_to_loopback && self.named.is_none()).then_some(&loopback);
        let endpoint = self.named.and_then(|n| n.endpoint.as_ref()).or(default).map(|to| beside(view, to));
        let on_loopback = matches!(&endpoint, Some(Beside::Ip(ip, _)) if ip.is_loopback());
        let name = format!("inbound|{}||", self.port);
        let mut sources: Vec<ObjectRef> = Vec::new();
        for target in &self.targets {
            if !sources.contains(&target.service.source) {
                sources.push(target.service.source.clone());
            }
        }
        let rules = rule.iter().flat_map(|r| r.sources()).cloned();
        let limits = sidecar.filter(|_| self.named.is_some() || limits.is_some()).map(|s| s.source.clone());
        InboundCluster {
            stat_name: stat::name(&mesh.clusters.inbound_stat_name, &name, &self.subject(Some(self.port))),
            name: name.into(),
            sources: sources.into_iter().chain(rules).chain(limits).collect(),
            protocol: self.protocol,
            endpoint,
            rule: rule.filter(|r| r.policy != Default::default()).map(|r| r.source.clone()),
            policy,
            connect_timeout: mesh.connect_timeout,
            keep_case: view.key.headers.case,
            mesh: mesh.clusters.clone(),
            from: if on_loopback { &[] } else { own_sources(view) },
            services,
        }
    }
}

/// The addresses that connections to the workload come from, by which the capture rules leave them alone.
pub(super) fn own_sources(view: &View<'_>) -> &'static [&'static str] {
    let sources = view.key.families.passthrough_sources();
    let count = if view.snapshot.mesh.features.dual_stack { sources.len() } else { 1 };
    &sources[..count]
}

/// Where a workload listens.
fn beside(view: &View<'_>, endpoint: &WorkloadEndpoint) -> Beside {
    let loopback = |v4: bool| -> IpAddr {
        match v4 {
            true => Ipv4Addr::LOCALHOST.into(),
            false => Ipv6Addr::LOCALHOST.into(),
        }
    };
    match endpoint {
        WorkloadEndpoint::Unix(path) => Beside::Unix(path.clone()),
        WorkloadEndpoint::Loopback(v4, port) => {
            let v4 = match view.key.families {
                Families::V4 => true,
                Families::V6 => false,
                Families::Dual(_) => *v4,
            };
            Beside::Ip(loopback(v4), *port)
        }
        WorkloadEndpoint::Own(v4, port) => {
            let own = view.key.ips.iter().flat_map(|ips| ips.iter()).find(|ip| ip.is_ipv4() == *v4);
            Beside::Ip(own.copied().unwrap_or_else(|| loopback(*v4)), *port)
        }
    }
}

/// The address that others reach the workload by, or every one.
fn own_addresses(view: &View<'_>) -> Vec<Arc<str>> {
    let link_local = |ip: &IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let reachable = |ip: &&IpAddr| !(ip.is_loopback() || ip.is_unspecified() || ip.is_multicast() || link_local(ip));
    match view.key.ips.iter().flat_map(|ips| ips.iter()).find(reachable) {
        Some(ip) => vec![ip.to_string().into()],
        None => wildcards(view),
    }
}
