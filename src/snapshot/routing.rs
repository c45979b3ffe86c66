//! Which VirtualServices a view's nodes follow, and what each of them depends on.

use super::{View, meeting};
use crate::{
    id::{Host, Shared},
    model::{ExportTo, ObjectKey, Resolution, Service, VirtualService},
};
use std::collections::BTreeSet;

/// What sorts the VirtualServices that a client sees: those for its namespace alone, then those for named
/// namespaces, then those for all; within each the oldest first, then by name and namespace.
pub type Precedence<'a> = (u8, (i64, &'a str, &'a str));

impl<'a> View<'a> {
    /// The VirtualServices for a host in sidecars: those that name it; where there are none, the first of those
    /// that name the nearest wildcard above it.
    pub fn virtual_services(&self, host: &Host) -> Vec<&'a Shared<VirtualService>> {
        for (name, rules) in meeting::above(&self.snapshot.index.virtual_services, host) {
            let mut seen = self.seen(rules);
            if !seen.is_empty() {
                seen.truncate(if name == host { seen.len() } else { 1 });
                return seen;
            }
        }
        Vec::new()
    }

    /// The VirtualServices for sidecars that name exactly this host, in order of precedence.
    pub fn naming(&self, host: &str) -> Vec<&'a Shared<VirtualService>> {
        self.snapshot.index.virtual_services.get(host).map_or_else(Vec::new, |rules| self.seen(rules))
    }

    /// Those of the rules for one host that are for sidecars here, in order of precedence.
    fn seen(&self, rules: &'a [Shared<VirtualService>]) -> Vec<&'a Shared<VirtualService>> {
        let mut seen: Vec<_> = rules.iter().filter(|r| self.sees_virtual_service(r)).collect();
        seen.sort_by_key(|r| self.precedence(r));
        seen
    }

    /// The wildcards that VirtualServices name and that have a host in common with this one, without itself.
    pub fn named_wildcards(&self, host: &Host) -> Vec<&'a Host> {
        let all = meeting::overlapping(&self.snapshot.index.virtual_services, host).map(|(other, _)| other);
        all.filter(|other| other.is_wildcard() && *other != host).collect()
    }

    /// The VirtualServices that may say where connections to a host go: all that have a host in common with it, in
    /// order of precedence.
    pub fn virtual_services_over(&self, host: &Host) -> Vec<&'a Shared<VirtualService>> {
        let mut found: Vec<_> = meeting::overlapping(&self.snapshot.index.virtual_services, host)
            .flat_map(|(_, rules)| rules.iter())
            .filter(|rule| rule.connections().next().is_some() && self.sees_virtual_service(rule))
            .collect();
        found.sort_by_key(|rule| self.precedence(rule));
        found.dedup_by_key(|rule| &rule.source);
        found
    }

    /// Every VirtualService for sidecars that the view's nodes see.
    pub fn all_virtual_services(&self) -> impl Iterator<Item = &'a Shared<VirtualService>> {
        let view = *self;
        self.snapshot.virtual_services.values().filter(move |rule| view.sees_virtual_service(rule))
    }

    /// What sorts the VirtualServices that the view's nodes see.
    pub fn precedence<'r>(&self, rule: &'r VirtualService) -> Precedence<'r> {
        let export_to = match &rule.export_to {
            ExportTo::Unset => &self.snapshot.mesh.virtual_service_export_to,
            own => own,
        };
        let scope = match export_to {
            ExportTo::Some { own: true, .. } if *rule.namespace() == self.key.namespace => 0,
            ExportTo::Some { .. } => 1,
            _ => 2,
        };
        (scope, rule.rank())
    }

    /// Whether a rule is for the view's nodes, as sidecars. One without hosts is only what others delegate to.
    pub fn sees_virtual_service(&self, rule: &VirtualService) -> bool {
        self.exported_for_mesh(rule) && self.imports_rule(rule)
    }

    /// Whether a rule is for sidecars and exported to the view's namespace.
    pub(super) fn exported_for_mesh(&self, rule: &VirtualService) -> bool {
        let default = &self.snapshot.mesh.virtual_service_export_to;
        !rule.hosts.is_empty()
            && self.snapshot.discovers(rule.namespace())
            && rule.gateways.iter().any(|g| &**g == "mesh")
            && rule.export_to.visible(rule.namespace(), &self.key.namespace, default)
    }

    /// The VirtualServices bound to a gateway that the view's nodes see, in order of precedence. One without hosts
    /// is only what others delegate to.
    pub fn at_gateway(&self, gateway: &str) -> Vec<&'a Shared<VirtualService>> {
        let snapshot = self.snapshot;
        let default = &snapshot.mesh.virtual_service_export_to;
        let keys = snapshot.index.bound.get(gateway).into_iter().flatten();
        let rules = keys.filter_map(|key| snapshot.virtual_services.get(key));
        let sees = |r: &&Shared<VirtualService>| {
            !r.hosts.is_empty()
                && snapshot.discovers(r.namespace())
                && r.export_to.visible(r.namespace(), &self.key.namespace, default)
        };
        let mut seen: Vec<_> = rules.filter(sees).collect();
        seen.sort_by_key(|r| self.precedence(r));
        seen
    }

    /// The VirtualService that another one delegates to, where it is there, without hosts, and seen in the
    /// namespace of the one that delegates.
    pub fn delegate(&self, of: &VirtualService, to: &ObjectKey) -> Option<&'a Shared<VirtualService>> {
        let default = &self.snapshot.mesh.virtual_service_export_to;
        let rule = self.snapshot.virtual_services.get(to)?;
        let seen = rule.export_to.visible(rule.namespace(), of.namespace(), default);
        (rule.hosts.is_empty() && seen && self.snapshot.discovers(rule.namespace())).then_some(rule)
    }

    /// The VirtualServices that delegate to one.
    pub fn delegating(&self, to: &VirtualService) -> impl Iterator<Item = &'a Shared<VirtualService>> {
        let snapshot = self.snapshot;
        let keys = snapshot.index.delegating.get(&ObjectKey::from(&to.source)).into_iter().flatten();
        keys.filter_map(|key| snapshot.virtual_services.get(key))
    }

    /// The VirtualServices that send to a host, or a copy, themselves or by a delegate.
    pub fn routing_to(&self, host: &Host) -> Vec<&'a Shared<VirtualService>> {
        let snapshot = self.snapshot;
        let keys = snapshot.index.routed.get(host).into_iter().flatten();
        let direct = keys.filter_map(|key| snapshot.virtual_services.get(key));
        direct.flat_map(|rule| std::iter::once(rule).chain(self.delegating(rule))).collect()
    }

    /// The hosts at or below a pattern that VirtualServices send to.
    pub fn routed_hosts(&self, pattern: &Host) -> Vec<&'a Host> {
        match pattern.is_wildcard() {
            true => self.snapshot.index.routed.keys().filter(|h| pattern.covers(h)).collect(),
            false => self.snapshot.index.routed.get_key_value(pattern).map(|(host, _)| host).into_iter().collect(),
        }
    }

    /// The services that stand for another one (ExternalName), directly or by way of one another, by host.
    pub fn aliases(&self, host: &Host) -> Vec<&'a Shared<Service>> {
        let (mut found, mut todo) = (BTreeSet::new(), vec![host]);
        while let Some(target) = todo.pop() {
            for alias in self.snapshot.index.aliases.get(target).into_iter().flatten() {
                if alias != host && found.insert(alias) {
                    todo.push(alias);
                }
            }
        }
        let services = found.into_iter().filter_map(|h| self.service(h));
        services.filter(|s| s.resolution == Resolution::Alias).collect()
    }
}
