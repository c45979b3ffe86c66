//! Which clusters a service has for a view, and what decides how each is reached.

use super::outbound_name;
use crate::{
    id::{ObjectRef, Shared},
    model::{
        ClusterDefaults, DestinationRule, IdentitySource, Labels, LoadBalancerKind, MtlsMode, Protocol, Registry,
        Resolution, Role, Service, ServicePort, Subset, TlsMode, TrafficPolicy,
    },
    problem::{FieldPath, Problem},
    snapshot::View,
    translate::tls,
};
use std::sync::Arc;

/// A cluster of a service.
pub(in crate::translate) struct Selected {
    /// Its name.
    pub(in crate::translate) name: Arc<str>,
    /// The port of the service, by its place in the list.
    pub(in crate::translate) port: usize,
    /// The subset and the labels of its endpoints; both are empty for the whole service.
    pub(in crate::translate) subset: Arc<str>,
    /// The labels of its endpoints.
    pub(in crate::translate) labels: Labels,
    /// How it is reached.
    pub(in crate::translate) policy: TrafficPolicy,
    /// The DestinationRules that say so.
    pub(in crate::translate) rules: Vec<ObjectRef>,
    /// How its endpoints are found.
    pub(in crate::translate) discovery: Discovery,
    /// How connections are secured.
    pub(in crate::translate) security: Security,
    /// Whether it is for TLS that passes between networks.
    pub(in crate::translate) between_networks: bool,
}

impl Selected {
    /// The same for TLS that passes between networks: it is secured already.
    fn between_networks(&self, service: &Service) -> Self {
        let policy = TrafficPolicy { tls: None, ..self.policy.clone() };
        Self {
            name: super::between_networks(service.ports[self.port].number, &self.subset, &service.host).into(),
            port: self.port,
            subset: self.subset.clone(),
            labels: self.labels.clone(),
            policy,
            rules: self.rules.clone(),
            discovery: self.discovery,
            security: Security::Plain,
            between_networks: true,
        }
    }
}

/// How the endpoints of a cluster are found.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::translate) enum Discovery {
    /// From the control plane.
    Eds,
    /// By resolving names, each answer an endpoint.
    StrictDns,
    /// By resolving names, one answer at a time.
    LogicalDns,
    /// The address that the client dialled.
    OriginalDst,
    /// By resolving the name that is asked for.
    DynamicDns,
    /// There are none, so that every request is refused.
    Closed,
}

/// How connections of a cluster are secured.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(in crate::translate) enum Security {
    /// Not at all.
    Plain,
    /// With the mesh's identities where the endpoint takes them.
    Auto,
    /// As the policy says.
    Policy,
}

/// The clusters of a service, and what is wrong with the rules for it.
pub(in crate::translate) fn select(view: &View<'_>, service: &Service) -> (Vec<Selected>, Vec<Problem>) {
    if service.resolution == Resolution::Alias {
        return (Vec::new(), Vec::new());
    }
    let (rule, mut problems) = view.destination_rule(&service.host, &service.namespace);
    let of_a_port = 1 + rule.as_ref().map_or(0, |r| r.subsets.len());
    let mut out = Vec::with_capacity(service.ports.len() * of_a_port);
    for (at, port) in service.ports.iter().enumerate().filter(|(_, p)| p.protocol != Protocol::Udp) {
        if !view.sees_port(service, port.number) {
            continue;
        }
        let whole = service.resolution == Resolution::DynamicDns;
        let subsets = rule.iter().filter(|_| !whole).flat_map(|r| &r.subsets).map(Some);
        for subset in std::iter::once(None).chain(subsets) {
            let one = One { view, service, port, rule: rule.as_ref(), subset };
            out.push(one.select(at, &mut problems));
        }
    }
    if view.key.auto_passthrough && !service.external {
        let open = out.iter().filter(|c| c.discovery != Discovery::Closed);
        let between: Vec<_> = open.map(|c| c.between_networks(service)).collect();
        out.extend(between);
    }
    (out, problems)
}

/// One cluster while it is selected.
struct One<'a> {
    view: &'a View<'a>,
    service: &'a Service,
    port: &'a ServicePort,
    rule: Option<&'a Shared<DestinationRule>>,
    subset: Option<&'a Subset>,
}

impl One<'_> {
    fn select(&self, at: usize, problems: &mut Vec<Problem>) -> Selected {
        let policy = policy(self.rule.map(|r| &**r), self.subset, self.port.number, &self.view.snapshot.mesh.clusters);
        let discovery = self.discovery(&policy);
        let security = self.security(&policy, discovery, problems);
        let subset = self.subset.map(|s| s.name.clone()).unwrap_or_default();
        Selected {
            name: outbound_name(self.port.number, &subset, &self.service.host).into(),
            port: at,
            subset,
            labels: self.subset.map(|s| s.labels.clone()).unwrap_or_default(),
            policy,
            rules: self.rule.iter().flat_map(|r| r.sources()).cloned().collect(),
            discovery: if security.is_some() { discovery } else { Discovery::Closed },
            security: security.unwrap_or(Security::Plain),
            between_networks: false,
        }
    }

    fn discovery(&self, policy: &TrafficPolicy) -> Discovery {
        let dials = policy.load_balancer.as_ref().is_some_and(|l| l.kind == LoadBalancerKind::Passthrough);
        match self.service.resolution {
            Resolution::DynamicDns => Discovery::DynamicDns,
            _ if dials => Discovery::OriginalDst,
            Resolution::Passthrough if self.view.key.role == Role::Sidecar => Discovery::OriginalDst,
            Resolution::Dns if self.service.races && self.has_one_name() => Discovery::LogicalDns,
            Resolution::Dns => Discovery::StrictDns,
            Resolution::DnsRoundRobin => Discovery::LogicalDns,
            _ => Discovery::Eds,
        }
    }

    /// How connections are secured; `None` where what the rule asks for cannot be done, so that nothing may be sent.
    fn security(&self, policy: &TrafficPolicy, discovery: Discovery, problems: &mut Vec<Problem>) -> Option<Security> {
        let identity = self.view.key.identity != IdentitySource::None;
        let Some(tls) = &policy.tls else {
            let auto = identity && self.view.snapshot.mesh.auto_mtls && self.servers_may_take_mtls(discovery);
            return Some(if auto { Security::Auto } else { Security::Plain });
        };
        let selected = self.rule.is_some_and(|r| r.selector.is_some());
        match tls.mode {
            TlsMode::Disable => Some(Security::Plain),
            TlsMode::IstioMutual if !identity => {
                self.say(problems, "mode", format!(
                    "is ISTIO_MUTUAL, but proxies of {} have no certificate of the mesh, so requests to {} are refused there; run Istio's agent beside them or write another mode",
                    self.view.key.namespace, self.service.host
                ));
                None
            }
            TlsMode::Simple | TlsMode::Mutual
                if !tls.credential.is_empty()
                    && !tls.credential.starts_with("configmap://")
                    && self.view.key.role == Role::Sidecar
                    && !selected =>
            {
                self.say(problems, "credentialName", format!(
                    "names a secret, which sidecars get only by a rule with a workloadSelector, so requests to {} are refused there; add a workloadSelector or name files",
                    self.service.host
                ));
                None
            }
            _ => Some(Security::Policy),
        }
    }

    /// Whether one name stands for all endpoints of the port.
    fn has_one_name(&self) -> bool {
        let set = self.view.endpoints(self.service);
        set.is_some_and(|set| set.endpoints.iter().filter(|e| e.port_name == self.port.name).count() == 1)
    }

    fn say(&self, problems: &mut Vec<Problem>, field: &str, why: String) {
        let Some(rule) = self.rule else { return };
        let path = FieldPath::new("spec").field("trafficPolicy").field("tls").field(field);
        problems.push(Problem::warning(&rule.source, path, why));
    }

    /// Whether the endpoints may take mutual TLS. A client that dials an address itself cannot tell whether that
    /// one does, so there all of them must.
    fn servers_may_take_mtls(&self, discovery: Discovery) -> bool {
        let namespace = &self.service.namespace;
        let off = self.view.snapshot.namespace_mtls(namespace) == MtlsMode::Disable;
        if self.service.external || off || discovery == Discovery::DynamicDns {
            return false;
        }
        if discovery != Discovery::OriginalDst {
            return true;
        }
        let Some(set) = self.view.endpoints(self.service) else { return false };
        let mut on_port = set.endpoints.iter().filter(|e| e.port_name == self.port.name).peekable();
        on_port.peek().is_some() && on_port.all(|e| e.tls)
    }
}

/// How one port of a service or subset is reached. What the mesh says fills what the rule leaves out for the
/// whole service; a subset overrides both.
pub(in crate::translate) fn policy(
    rule: Option<&DestinationRule>,
    subset: Option<&Subset>,
    port: u16,
    mesh: &ClusterDefaults,
) -> TrafficPolicy {
    let mut whole = rule.map(|r| r.policy.for_port(port).clone()).unwrap_or_default();
    whole.ports = Vec::new();
    whole.connection_pool = whole.connection_pool.or_else(|| mesh.connection_pool.clone());
    whole.outlier_detection = whole.outlier_detection.or_else(|| mesh.outlier_detection.clone());
    match subset.and_then(|s| s.policy.as_ref()) {
        Some(own) => whole.overridden(own, port),
        None => whole,
    }
}

/// The identities that the endpoints of a service may have.
pub(super) fn accounts(view: &View<'_>, service: &Service) -> Vec<Arc<str>> {
    let ends = view.endpoints(service).map_or(&[][..], |set| &set.accounts);
    let mesh = &view.snapshot.mesh;
    let mut all: Vec<_> = service.accounts.iter().chain(ends).flat_map(|account| tls::aliases(mesh, account)).collect();
    all.sort();
    all.dedup();
    all
}

/// Whether a service is one of a ServiceEntry.
pub(super) fn is_entry(service: &Service) -> bool {
    service.registry == Registry::External
}
