//! Which policies are for a workload: those of its namespace and of the mesh's root that choose it
//! (Istio: `pilot/pkg/model/authorization.go`, `policyattachment.go`).

use super::Snapshot;
use crate::{
    id::{Host, Namespace, ObjectRef, Shared},
    model::{
        AuthorizationPolicy, Authorizer, JwtRule, KeyLocator, KeySet, KeySource, KeysByProxy, Labels, ObjectKey,
        PolicyAction, Reach, RequestAuthentication,
    },
};
use imbl::OrdMap;
use std::{collections::BTreeMap, sync::Arc};

/// The policies that are for a workload.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Policies {
    /// AuthorizationPolicies, the oldest first.
    pub authorization: Vec<Shared<AuthorizationPolicy>>,
    /// The authorizers that they name, each with the host of its service; `None` for one that cannot be asked.
    pub authorizers: BTreeMap<Arc<str>, Option<(Shared<Authorizer>, Host)>>,
    /// Whose tokens are taken, by issuer.
    pub tokens: Vec<TokenRule>,
}

/// Whose tokens are taken, and with which keys.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TokenRule {
    /// The rule.
    pub rule: Shared<JwtRule>,
    /// The keys.
    pub keys: FoundKeys,
    /// The RequestAuthentication that has it.
    pub source: ObjectRef,
    /// Where it stands in that.
    pub at: usize,
}

/// Where the keys of an issuer were found.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum FoundKeys {
    /// In the rule.
    Inline,
    /// They were fetched.
    Fetched(Shared<KeySet>),
    /// The proxy fetches them.
    Through {
        /// Through this cluster.
        cluster: Arc<str>,
        /// From this URL.
        url: Arc<str>,
    },
    /// Nowhere yet.
    Nowhere,
}

impl Snapshot {
    /// The policies that are for a workload.
    pub fn policies(&self, namespace: &Namespace, labels: &Labels) -> Policies {
        let mut authorization: Vec<_> = self
            .scopes(namespace)
            .into_iter()
            .flat_map(|scope| within(&self.authorization_policies, scope))
            .filter(|policy| self.reaches(&policy.reach, labels, policy.namespace() == namespace))
            .cloned()
            .collect();
        authorization.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let named = authorization.iter().filter(|policy| !policy.dry_run).filter_map(|policy| match &policy.action {
            PolicyAction::Custom(name) => Some(name.clone()),
            _ => None,
        });
        let authorizers = named.map(|name| (name.clone(), self.authorizer(&name))).collect();
        Policies { authorization, authorizers, tokens: self.tokens(namespace, labels) }
    }

    /// Whether a policy is for a workload with these labels; `own` says that it is of the policy's namespace.
    fn reaches(&self, reach: &Reach, labels: &Labels, own: bool) -> bool {
        let by_selector = self.mesh.features.selectors_at_gateways;
        (by_selector || reach.names_gateways_of(labels)) && reach.is_for(labels, own)
    }

    /// Whose tokens a workload takes, by issuer; of one issuer first what the workload's own namespace says.
    fn tokens(&self, namespace: &Namespace, labels: &Labels) -> Vec<TokenRule> {
        let scopes = self.scopes(namespace);
        let mut policies: Vec<_> = scopes
            .into_iter()
            .flat_map(|scope| within(&self.request_authentications, scope))
            .filter(|policy| self.reaches(&policy.reach, labels, policy.namespace() == namespace))
            .collect();
        let wide = |p: &RequestAuthentication| (p.namespace() != namespace, p.reach.selector.is_empty());
        policies.sort_by(|a, b| (wide(a), a.rank()).cmp(&(wide(b), b.rank())));
        let mut all: Vec<TokenRule> = Vec::new();
        for policy in policies {
            all.extend(policy.rules.iter().enumerate().map(|(at, rule)| TokenRule {
                rule: rule.clone(),
                keys: self.keys(rule),
                source: policy.source.clone(),
                at,
            }));
        }
        all.sort_by(|a, b| a.rule.issuer.cmp(&b.rule.issuer));
        all
    }

    fn keys(&self, rule: &JwtRule) -> FoundKeys {
        let locator = match &rule.keys {
            KeySource::Inline(_) => return FoundKeys::Inline,
            KeySource::Missing => return FoundKeys::Nowhere,
            KeySource::Fetched(locator) => locator,
        };
        let by_proxy = match locator {
            KeyLocator::Keys(url) if self.mesh.features.keys_by_proxy != KeysByProxy::Never => self.through(url),
            _ => None,
        };
        let always = self.mesh.features.keys_by_proxy == KeysByProxy::Always;
        let fetched = || self.key_sets.get(locator).filter(|_| !always).cloned().map(FoundKeys::Fetched);
        by_proxy.or_else(fetched).unwrap_or(FoundKeys::Nowhere)
    }

    /// The cluster through which a proxy fetches a URL, where its host is a service.
    fn through(&self, url: &Arc<str>) -> Option<FoundKeys> {
        let (host, port) = host_and_port(url)?;
        match self.services_of(host) {
            [] => None,
            [service] => {
                let cluster = format!("outbound|{port}||{}", service.host).into();
                Some(FoundKeys::Through { cluster, url: url.clone() })
            }
            _ => None,
        }
    }

    /// The keys that the control plane is to fetch, with how long that may take.
    pub fn wanted_keys(&self) -> BTreeMap<KeyLocator, u64> {
        let mut all = BTreeMap::new();
        for rule in self.request_authentications.values().flat_map(|policy| &policy.rules) {
            let by_proxy = matches!(self.keys(rule), FoundKeys::Through { .. });
            if let KeySource::Fetched(locator) = &rule.keys
                && !by_proxy
                && self.mesh.features.keys_by_proxy != KeysByProxy::Always
            {
                let timeout = all.entry(locator.clone()).or_insert(rule.timeout);
                *timeout = rule.timeout.max(*timeout);
            }
        }
        all
    }

    /// An authorizer and the host of its service, which must be one alone where it does not say of which namespace.
    fn authorizer(&self, name: &str) -> Option<(Shared<Authorizer>, Host)> {
        let authorizer = self.mesh.authorizers.get(name)?.as_ref()?;
        let services = self.services_of(&authorizer.host);
        let mut of_namespace =
            services.iter().filter(|s| authorizer.namespace.as_ref().is_none_or(|name| s.namespace == *name));
        let service = of_namespace.next().filter(|s| of_namespace.all(|other| other.namespace == s.namespace))?;
        Some((authorizer.clone(), service.host.clone()))
    }

    /// Whether one of the mesh's authorizers may be a service of this host, or keys may be fetched from it.
    pub(super) fn is_authorizer(&self, host: &Host) -> bool {
        self.mesh.authorizers.values().flatten().any(|authorizer| authorizer.host == *host)
            || (self.mesh.features.keys_by_proxy != KeysByProxy::Never && !self.request_authentications.is_empty())
    }

    /// The namespaces whose policies may be for workloads of a namespace.
    fn scopes<'a>(&'a self, namespace: &'a Namespace) -> Vec<&'a Namespace> {
        let root = &self.mesh.root_namespace;
        let mut scopes = if root == namespace { vec![root] } else { vec![root, namespace] };
        scopes.retain(|scope| self.discovers(scope));
        scopes
    }
}

/// The host and the port of a URL.
fn host_and_port(url: &str) -> Option<(&str, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = &rest[..rest.find(['/', '?', '#']).unwrap_or(rest.len())];
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => Some((host, port.parse().ok()?)),
        _ => Some((authority, if scheme == "https" { 443 } else { 80 })),
    }
}

/// The objects of a namespace.
fn within<'a, T>(all: &'a OrdMap<ObjectKey, T>, namespace: &'a Namespace) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let from = ObjectKey { namespace: namespace.clone(), name: "".into() };
    all.range(from..).take_while(move |(key, _)| key.namespace == *namespace).map(|(_, object)| object)
}
