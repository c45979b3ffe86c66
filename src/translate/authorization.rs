//! AuthorizationPolicies as Envoy's filters for role-based access (Istio: `pilot/pkg/security/authz/builder`).
//!
//! Of each action there is one filter: first those who ask somebody else, then AUDIT, DENY and ALLOW.

mod external;
mod matcher;
mod permission;
mod principal;
mod trust_domain;

use super::{Input, Renderer, Resource, guard};
use crate::{
    id::Shared,
    model::{
        AuthorizationPolicy, Authorizer, AuthorizerProtocol, OperationCheck, PolicyAction, PolicyRule, SourceCheck,
    },
    pb::envoy::{
        config::rbac::v3::{
            Permission, Policy, Principal, Rbac, permission as allowed, principal as who, rbac::Action,
        },
        extensions::filters::{http::rbac::v3::Rbac as HttpRbac, network::rbac::v3::Rbac as NetworkRbac},
    },
    problem::{FieldPath, Problem},
    snapshot::{Policies, View},
};
use external::{Asking, Denying, Noting};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The filters for requests, and those for connections.
pub(super) type Filters = (Vec<Arc<Resource>>, Vec<Arc<Resource>>);

/// The filters of the policies that ask somebody else, which come before tokens are looked at.
pub(super) fn asking(view: &View<'_>, policies: &Policies, renderer: &dyn Renderer) -> Filters {
    external_filters(policies, clear(view, policies), &trust_domains(view), renderer)
}

/// Whether it is clear who is to be asked: one authorizer, or each of several for its own rules, in the order of their
/// names.
fn clear(view: &View<'_>, policies: &Policies) -> bool {
    policies.authorizers.len() == 1 || view.snapshot.mesh.features.several_authorizers
}

fn trust_domains(view: &View<'_>) -> Arc<[Arc<str>]> {
    view.snapshot.mesh.trust_domains().cloned().collect()
}

/// The filters of the other policies.
pub(super) fn filters(view: &View<'_>, policies: &Policies, renderer: &dyn Renderer) -> Filters {
    let trust_domains = trust_domains(view);
    let mut all = Filters::default();
    for action in [PolicyAction::Audit, PolicyAction::Deny, PolicyAction::Allow] {
        let of_action = policies.authorization.iter().filter(|p| p.action == action);
        let (dry_run, enforced): (Vec<_>, Vec<_>) = of_action.cloned().partition(|p| p.dry_run);
        if dry_run.is_empty() && enforced.is_empty() {
            continue;
        }
        let rbac = |over| RoleBased {
            over,
            action: action.clone(),
            enforced: enforced.clone(),
            dry_run: dry_run.clone(),
            trust_domains: trust_domains.clone(),
        };
        all.0.push(renderer.get(&rbac(Over::Requests)));
        all.1.push(renderer.get(&rbac(Over::Connections)));
    }
    all
}

/// The filters of the policies that ask somebody else. Where they name several, all that they take is denied unless the
/// mesh's operator says that it is `clear` which of them is to be asked first.
fn external_filters(
    policies: &Policies,
    clear: bool,
    trust_domains: &Arc<[Arc<str>]>,
    renderer: &dyn Renderer,
) -> Filters {
    let mut all = Filters::default();
    for (name, authorizer) in &policies.authorizers {
        let own = |p: &&Shared<AuthorizationPolicy>| !p.dry_run && p.action == PolicyAction::Custom(name.clone());
        let enforced: Vec<_> = policies.authorization.iter().filter(own).cloned().collect();
        if enforced.is_empty() {
            continue;
        }
        let rbac = |over| RoleBased {
            over,
            action: PolicyAction::Custom(name.clone()),
            enforced: enforced.clone(),
            dry_run: Vec::new(),
            trust_domains: trust_domains.clone(),
        };
        for (over, to) in [(Over::Requests, &mut all.0), (Over::Connections, &mut all.1)] {
            let (authorizer, host) = match authorizer.as_ref().filter(|_| clear) {
                Some((authorizer, _)) if over == Over::Connections && !asks_of_connections(authorizer) => continue,
                Some((authorizer, host)) => (authorizer.clone(), host.clone()),
                None => {
                    to.push(renderer.get(&Denying(rbac(over))));
                    continue;
                }
            };
            let sources = enforced.iter().map(|policy| policy.source.clone()).collect();
            to.push(renderer.get(&Noting(rbac(over))));
            to.push(renderer.get(&Asking { over, authorizer, host, sources }));
        }
    }
    all
}

/// Whether an authorizer can be asked about connections.
fn asks_of_connections(authorizer: &Authorizer) -> bool {
    authorizer.protocol == AuthorizerProtocol::Grpc
}

/// What of the policies has no meaning at ports that take bytes, and what comes of it.
pub(super) fn on_bytes(policies: &Policies, ports: &BTreeSet<u16>) -> Vec<Problem> {
    let rules = policies.authorization.iter().flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)));
    rules.filter_map(|(policy, rule)| rule_on_bytes(policies, policy, rule, ports)).collect()
}

fn rule_on_bytes(
    policies: &Policies,
    policy: &AuthorizationPolicy,
    rule: &PolicyRule,
    ports: &BTreeSet<u16>,
) -> Option<Problem> {
    let met: Vec<String> = ports.iter().filter(|port| may_be_at(rule, **port)).map(u16::to_string).collect();
    let (met, at) = (met.join(", "), FieldPath::new("spec.rules").index(rule.at));
    if met.is_empty() {
        return None;
    }
    if let PolicyAction::Custom(name) = &policy.action
        && !policy.dry_run
        && let Some(Some((authorizer, _))) = policies.authorizers.get(name)
        && !asks_of_connections(authorizer)
    {
        let message = format!(
            "`{name}` is asked over HTTP, so nobody is asked about the connections to port {met} of the workload, which \
             get through; let it be asked by gRPC, or deny those connections by another policy"
        );
        return Some(Problem::warning(&policy.source, at, message));
    }
    let of_requests = rule.sources.iter().flatten().any(SourceCheck::needs_requests)
        || rule.operations.iter().flatten().any(OperationCheck::needs_requests);
    let effect = match policy.action {
        PolicyAction::Allow => "it allows no connection there",
        _ => "it takes connections there without asking for that",
    };
    let message = format!(
        "asks for what only requests have, which port {met} of the workload does not take, so {effect}; name the ports \
         that it is for in to.operation.ports"
    );
    of_requests.then(|| Problem::warning(&policy.source, at, message))
}

/// Whether a rule may take what comes to a port.
fn may_be_at(rule: &PolicyRule, port: u16) -> bool {
    let of_port = |check: &OperationCheck| match check {
        OperationCheck::Port(values) => {
            (values.any.is_empty() || values.any.contains(&port)) && !values.none.contains(&port)
        }
        _ => true,
    };
    rule.operations.iter().any(|list| list.iter().all(of_port))
}

/// What is wrong with the policies that ask somebody else.
pub(super) fn problems(view: &View<'_>, policies: &Policies) -> Vec<Problem> {
    let clear = clear(view, policies);
    let mut all = Vec::new();
    for policy in &policies.authorization {
        let PolicyAction::Custom(name) = &policy.action else { continue };
        let at = FieldPath::new("spec.provider.name");
        if policy.dry_run {
            let message = "cannot be tried out: an authorizer is either asked or not; the policy has no effect";
            all.push(Problem::warning(&policy.source, FieldPath::new("metadata.annotations"), message));
        } else if policies.authorizers.get(name).is_none_or(Option::is_none) {
            let message = format!(
                "there is no authorizer `{name}` that can be asked, so all that the rules take is denied; name one of \
                 the mesh's extensionProviders whose service exists"
            );
            all.push(Problem::error(&policy.source, at, message));
        } else if !clear {
            let message = format!(
                "other policies for the same workload ask another than `{name}`, so all that their rules take is \
                 denied; let all name the same, or set PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS"
            );
            all.push(Problem::error(&policy.source, at, message));
        }
    }
    all
}

/// What a filter looks at.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) enum Over {
    /// Requests.
    Requests,
    /// Connections, of which much is not known.
    Connections,
}

/// The filter of one action.
#[derive(Hash)]
struct RoleBased {
    over: Over,
    action: PolicyAction,
    enforced: Vec<Shared<AuthorizationPolicy>>,
    dry_run: Vec<Shared<AuthorizationPolicy>>,
    trust_domains: Arc<[Arc<str>]>,
}

impl Input for RoleBased {
    fn render(&self) -> Resource {
        let action = match self.action {
            PolicyAction::Allow => Action::Allow,
            PolicyAction::Audit => Action::Log,
            PolicyAction::Deny | PolicyAction::Custom(_) => Action::Deny,
        };
        let maker = self.maker();
        let rules = |of: &[Shared<AuthorizationPolicy>]| {
            (!of.is_empty()).then(|| Rbac { action: action.into(), policies: maker.policies(of), ..Default::default() })
        };
        let shadow_rules = rules(&self.dry_run);
        let shadow_rules_stat_prefix = match (&shadow_rules, action) {
            (None, _) | (_, Action::Allow) => "istio_dry_run_allow_",
            (_, Action::Deny) => "istio_dry_run_deny_",
            (_, Action::Log) => "",
        };
        filter(self.over, rules(&self.enforced), shadow_rules, shadow_rules_stat_prefix, self.sources())
    }
}

impl RoleBased {
    fn maker(&self) -> Maker<'_> {
        Maker { over: self.over, narrow: self.action == PolicyAction::Allow, trust_domains: &self.trust_domains }
    }

    fn sources(&self) -> Vec<crate::id::ObjectRef> {
        self.enforced.iter().chain(&self.dry_run).map(|policy| policy.source.clone()).collect()
    }
}

/// A filter with these rules.
fn filter(
    over: Over,
    rules: Option<Rbac>,
    shadow_rules: Option<Rbac>,
    shadow_prefix: &str,
    sources: Vec<crate::id::ObjectRef>,
) -> Resource {
    let shadow_rules_stat_prefix = shadow_prefix.to_owned();
    match over {
        Over::Requests => {
            let message = HttpRbac { rules, shadow_rules, shadow_rules_stat_prefix, ..Default::default() };
            guard::filter("envoy.filters.http.rbac", &message, sources)
        }
        Over::Connections => {
            let stat_prefix = "tcp.".to_owned();
            let message =
                NetworkRbac { rules, shadow_rules, shadow_rules_stat_prefix, stat_prefix, ..Default::default() };
            guard::filter("envoy.filters.network.rbac", &message, sources)
        }
    }
}

/// Makes Envoy's policies of rules.
struct Maker<'a> {
    over: Over,
    /// What connections do not have is not there, rather than not asked for: the rule allows.
    narrow: bool,
    trust_domains: &'a [Arc<str>],
}

impl Maker<'_> {
    /// Envoy's policies by name. A policy without rules takes nothing, and is there to be seen.
    fn policies(&self, of: &[Shared<AuthorizationPolicy>]) -> BTreeMap<String, Policy> {
        let mut all = BTreeMap::new();
        for policy in of {
            let name = |at: usize| rule_name(policy, at);
            if policy.rules.is_empty() {
                all.insert(name(0), nothing());
            }
            all.extend(policy.rules.iter().filter_map(|rule| Some((name(rule.at), self.policy(rule)?))));
        }
        all
    }

    /// Envoy's policy for a rule; `None` where connections can never meet it.
    fn policy(&self, rule: &PolicyRule) -> Option<Policy> {
        let bytes = self.over == Over::Connections;
        let request_source = |check: &SourceCheck| bytes && check.needs_requests();
        let request_operation = |check: &OperationCheck| bytes && check.needs_requests();
        if self.narrow
            && (rule.sources.iter().flatten().any(request_source)
                || rule.operations.iter().flatten().any(request_operation))
        {
            return None;
        }
        let principals = rule.sources.iter().map(|list| {
            let asked = list.iter().filter(|check| !request_source(check));
            let mut ids: Vec<Principal> = asked.flat_map(|check| self.principals(check)).collect();
            if ids.is_empty() {
                ids.push(principal::of(who::Identifier::Any(true)));
            }
            principal::all(ids)
        });
        let permissions = rule.operations.iter().map(|list| {
            let asked = list.iter().filter(|check| !request_operation(check));
            let mut rules: Vec<Permission> = asked.flat_map(permission::of_check).collect();
            if rules.is_empty() {
                rules.push(permission::of(allowed::Rule::Any(true)));
            }
            permission::all(rules)
        });
        Some(Policy { permissions: permissions.collect(), principals: principals.collect(), ..Default::default() })
    }

    fn principals(&self, check: &SourceCheck) -> Vec<Principal> {
        principal::of_check(check, self.trust_domains)
    }
}

/// What a rule is called in Envoy. The filter that asks an authorizer looks for the name that was noted.
fn rule_name(policy: &AuthorizationPolicy, at: usize) -> String {
    let name = format!("ns[{}]-policy[{}]-rule[{at}]", policy.source.namespace, policy.source.name);
    match &policy.action {
        PolicyAction::Custom(provider) => format!("{}-{provider}-{name}", external::RULE),
        _ => name,
    }
}

/// Takes nothing.
fn nothing() -> Policy {
    let everything = permission::of(allowed::Rule::Any(true));
    let everyone = principal::of(who::Identifier::Any(true));
    Policy {
        permissions: vec![permission::of(allowed::Rule::NotRule(Box::new(everything)))],
        principals: vec![principal::of(who::Identifier::NotId(Box::new(everyone)))],
        ..Default::default()
    }
}
