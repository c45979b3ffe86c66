//! What of the mesh the Sidecar of a proxy lets in.

use super::{Snapshot, View};
use crate::{
    id::{Host, Namespace, Shared},
    model::{
        Destination, EgressListener, HttpAction, Labels, ObjectKey, OutboundPolicy, Service, Sidecar, VirtualService,
        selects,
    },
};

/// What a proxy without a Sidecar has, or with one that says nothing of it.
static EVERYTHING: EgressListener = EgressListener { port: None, bind: None, captured: None, hosts: Vec::new() };

impl Snapshot {
    /// Whether a namespace is looked at: objects of others are as good as not there (`discoverySelectors`).
    pub fn discovers(&self, namespace: &Namespace) -> bool {
        let selectors = &self.mesh.discovery_selectors;
        let labels = || self.namespaces.get(namespace).map(|n| &n.labels);
        selectors.is_empty() || selectors.iter().any(|s| s.selects(labels().unwrap_or(&Labels::new())))
    }

    /// The Sidecar in force for a workload: of its namespace the oldest that selects it, else the oldest for all; else
    /// the oldest one of the root namespace that is for all.
    pub(super) fn sidecar(&self, namespace: &Namespace, labels: &Labels) -> Option<Shared<Sidecar>> {
        let of = |namespace: &Namespace| {
            let from = ObjectKey { namespace: namespace.clone(), name: "".into() };
            let namespace = namespace.clone();
            self.sidecars.range(from..).take_while(move |(key, _)| key.namespace == namespace).map(|(_, s)| s)
        };
        let of = |namespace: &Namespace| of(namespace).filter(|s| self.discovers(&s.source.namespace));
        let own = of(namespace).filter(|s| selects(&s.selector, labels)).min_by_key(|s| s.rank());
        let root = || of(&self.mesh.root_namespace).filter(|s| s.selector.is_empty()).min_by_key(|s| s.rank());
        own.or_else(root).cloned()
    }
}

impl<'a> View<'a> {
    /// The listeners for what the workload sends.
    pub fn egress(&self) -> &'a [EgressListener] {
        match &self.key.sidecar {
            Some(sidecar) if !sidecar.egress.is_empty() => &sidecar.egress,
            _ => std::slice::from_ref(&EVERYTHING),
        }
    }

    /// The view of one of the listeners: its services and VirtualServices alone.
    pub fn within(self, listener: &'a EgressListener) -> Self {
        Self { listener: Some(listener), ..self }
    }

    /// The view of the listener that requests to a port come to: the first for the port, or for all.
    pub fn on_port(self, port: u16) -> Option<Self> {
        let governs = |l: &&EgressListener| l.port.as_ref().is_none_or(|own| own.number == port);
        self.egress().iter().find(governs).map(|listener| self.within(listener))
    }

    /// What happens to traffic that no service is known for, and where it goes if it is let through.
    pub fn outbound_policy(&self) -> (OutboundPolicy, Option<&'a Destination>) {
        match self.key.sidecar.as_ref().and_then(|s| s.outbound.as_ref()) {
            Some((policy, proxy)) => (*policy, proxy.as_ref()),
            None => (self.snapshot.mesh.outbound_policy, None),
        }
    }

    /// Whether a service that is exported to the view's namespace is let in by the listener that is looked at.
    pub(super) fn imports(&self, service: &Service) -> bool {
        let lets = |l: &EgressListener| l.imports_service(&self.key.namespace, &service.namespace, &service.host);
        self.listener.is_none_or(lets)
    }

    /// Whether a VirtualService that is exported to the view's namespace is let in: by the listener that is looked at,
    /// or by any.
    pub(super) fn imports_rule(&self, rule: &VirtualService) -> bool {
        let lets = |l: &EgressListener| l.imports_rule(&self.key.namespace, rule.namespace(), &rule.hosts);
        match self.listener {
            Some(listener) => lets(listener),
            None => self.egress().iter().any(lets),
        }
    }

    /// Whether the view's nodes know a port of a service: a listener lets it in, or a VirtualService that a listener
    /// lets in sends there.
    pub fn sees_port(&self, service: &Service, port: u16) -> bool {
        let lets = |l: &EgressListener| {
            l.takes(port) && l.imports_service(&self.key.namespace, &service.namespace, &service.host)
        };
        self.key.sidecar.is_none() || self.egress().iter().any(lets) || self.sent_to(service, port)
    }

    /// Whether the view's nodes know a service at all.
    pub(super) fn in_scope(&self, service: &Service) -> bool {
        self.key.sidecar.is_none()
            || service.ports.is_empty()
            || service.ports.iter().any(|p| self.sees_port(service, p.number))
    }

    fn sent_to(&self, service: &Service, port: u16) -> bool {
        let rules = self.snapshot.index.routed.get(&service.host).into_iter().flatten();
        rules.filter_map(|key| self.snapshot.virtual_services.get(key)).any(|rule| {
            let sends = |l: &EgressListener| {
                l.takes(port) && (l.port.as_ref().is_some_and(|p| p.number != 0) || sends(rule, &service.host, port))
            };
            std::iter::once(rule).chain(self.delegating(rule)).any(|root| {
                let lets = |l: &&EgressListener| l.imports_rule(&self.key.namespace, root.namespace(), &root.hosts);
                self.exported_for_mesh(root) && self.egress().iter().filter(lets).any(sends)
            })
        })
    }
}

/// Whether a VirtualService sends to a port of a host. A destination without a port may mean any.
fn sends(rule: &VirtualService, host: &Host, port: u16) -> bool {
    let http = rule.http.iter().flat_map(|r| {
        let routed = match &r.action {
            HttpAction::Route(destinations) => destinations.as_slice(),
            _ => &[],
        };
        routed.iter().chain(r.mirrors.iter().map(|m| &m.destination))
    });
    let mut all = http.chain(rule.connections().flat_map(|r| &r.destinations));
    all.any(|d| d.host == *host && d.port.is_none_or(|own| own == port))
}
