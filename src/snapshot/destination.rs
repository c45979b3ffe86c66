//! Which DestinationRule says how a client reaches a host.

use super::{View, meeting};
use crate::{
    id::{Host, Namespace, Shared},
    model::{DestinationRule, ExportTo, ObjectKey, Role, selects},
    problem::{FieldPath, Problem},
};
use imbl::OrdSet;
use std::sync::Arc;

impl<'a> View<'a> {
    /// The DestinationRules in force for a host, as Istio finds them: the most specific ones of the client's
    /// namespace, else of the service's, else of the root namespace. Within one level the oldest comes first.
    /// Clients in the root namespace find there at first only what is not exported, so that its rules for
    /// everybody do not hide those of the services.
    pub fn destination_rules(&self, host: &Host, of: &Namespace) -> Vec<&'a Shared<DestinationRule>> {
        let root = &self.snapshot.mesh.root_namespace;
        let client = &self.key.namespace;
        let mut levels = [(client, client == root), (of, false), (root, false)].into_iter();
        let found = levels.find_map(|(level, private)| {
            meeting::above(&self.snapshot.index.destination_rules, host).find_map(|(_, rules)| {
                let found: Vec<_> = rules
                    .iter()
                    .filter(|r| {
                        r.namespace() == level && self.sees_destination_rule(r) && (!private || self.is_private(r))
                    })
                    .collect();
                (!found.is_empty()).then_some(found)
            })
        });
        found.unwrap_or_default()
    }

    /// The one rule that says how the view's nodes reach a host, and what of the others for it has no effect.
    ///
    /// A rule that selects the client comes before those for all clients. Of these, rules with one audience are
    /// merged, the oldest first; among several audiences the last group counts, as Istio has it.
    pub fn destination_rule(&self, host: &Host, of: &Namespace) -> (Option<Shared<DestinationRule>>, Vec<Problem>) {
        self.joined(self.destination_rules(host, of))
    }

    /// The one rule that says what a workload of a host takes: rules that select clients say nothing of that.
    pub fn inbound_rule(&self, host: &Host, of: &Namespace) -> Option<Shared<DestinationRule>> {
        let mut rules = self.destination_rules(host, of);
        rules.retain(|r| r.selector.is_none());
        self.joined(rules).0
    }

    fn joined(&self, rules: Vec<&'a Shared<DestinationRule>>) -> (Option<Shared<DestinationRule>>, Vec<Problem>) {
        let chosen = match rules.iter().find(|r| r.selector.is_some()) {
            Some(selecting) => *selecting,
            None => match last_audience(&rules) {
                Some(rule) => rule,
                None => return (None, Vec::new()),
            },
        };
        let mut problems = Vec::new();
        let mut merged = chosen.clone();
        for rule in rules.into_iter().filter(|r| r.source != chosen.source) {
            let spec = FieldPath::new("spec");
            if rule.selector != chosen.selector || rule.export_to != chosen.export_to {
                if rule.selector.is_some() == chosen.selector.is_some() {
                    let why = format!(
                        "is the host of {} too, which has another exportTo or workloadSelector and counts instead for clients in {}; give both the same, and they are merged",
                        chosen.source, self.key.namespace
                    );
                    problems.push(Problem::warning(&rule.source, spec.field("host"), why));
                }
                continue;
            }
            let (both, twice) = merged.merge(rule);
            problems.extend(twice.into_iter().map(|subset| {
                let why = format!(
                    "has {subset}, which {} has already and which counts as it is there; give it another name",
                    merged.source
                );
                Problem::warning(&rule.source, spec.field("subsets"), why)
            }));
            merged = Shared::new(both);
        }
        (Some(merged), problems)
    }

    /// Whether a rule is for the view's nodes. One with a selector is for its own namespace alone.
    pub fn sees_destination_rule(&self, rule: &DestinationRule) -> bool {
        let own = rule.namespace() == &self.key.namespace;
        if !self.snapshot.discovers(rule.namespace()) {
            return false;
        }
        match &rule.selector {
            Some(selector) => own && selects(selector, &self.key.labels),
            None => {
                let default = &self.snapshot.mesh.destination_rule_export_to;
                rule.export_to.visible(rule.namespace(), &self.key.namespace, default)
            }
        }
    }

    /// The credentials that the rules for the view's nodes name, each with one of the rules.
    pub fn rule_credentials(&self) -> impl Iterator<Item = (&'a Arc<str>, &'a Shared<DestinationRule>)> {
        let (view, snapshot) = (*self, self.snapshot);
        snapshot.index.credentials.iter().filter_map(move |(name, keys)| Some((name, view.first_seen(keys)?)))
    }

    /// A rule for the view's nodes that names a credential.
    pub fn rule_with_credential(&self, name: &str) -> Option<&'a Shared<DestinationRule>> {
        self.first_seen(self.snapshot.index.credentials.get(name)?)
    }

    fn first_seen(&self, keys: &OrdSet<ObjectKey>) -> Option<&'a Shared<DestinationRule>> {
        let rules = keys.iter().filter_map(|key| self.snapshot.destination_rules.get(key));
        // Sidecars get secrets by rules that select them alone.
        let may = |r: &&Shared<DestinationRule>| self.key.role == Role::Router || r.selector.is_some();
        rules.filter(may).find(|r| self.sees_destination_rule(r))
    }

    /// Whether a rule is for its own namespace alone.
    fn is_private(&self, rule: &DestinationRule) -> bool {
        let export = match &rule.export_to {
            ExportTo::Unset => &self.snapshot.mesh.destination_rule_export_to,
            own => own,
        };
        rule.selector.is_some() || matches!(export, ExportTo::Some { own: true, namespaces } if namespaces.is_empty())
    }
}

/// The rule from which the last group of one audience starts.
fn last_audience<'a>(rules: &[&'a Shared<DestinationRule>]) -> Option<&'a Shared<DestinationRule>> {
    let is_new = |at: usize| rules[..at].iter().all(|earlier| earlier.export_to != rules[at].export_to);
    (0..rules.len()).rev().find(|at| is_new(*at)).map(|at| rules[at])
}
