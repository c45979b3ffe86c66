//! Which policies are for a workload: those of its namespace and of the mesh's root that choose it
//! (Istio: `pilot/pkg/model/authorization.go`, `policyattachment.go`).

use super::Snapshot;
use crate::{
    id::{Host, Namespace, Shared},
    model::{AuthorizationPolicy, Authorizer, Labels, ObjectKey, PolicyAction},
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
}

impl Snapshot {
    /// The policies that are for a workload.
    pub fn policies(&self, namespace: &Namespace, labels: &Labels) -> Policies {
        let mut authorization: Vec<_> = self
            .scopes(namespace)
            .into_iter()
            .flat_map(|scope| within(&self.authorization_policies, scope))
            .filter(|policy| policy.reach.is_for(labels, policy.namespace() == namespace))
            .cloned()
            .collect();
        authorization.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let named = authorization.iter().filter(|policy| !policy.dry_run).filter_map(|policy| match &policy.action {
            PolicyAction::Custom(name) => Some(name.clone()),
            _ => None,
        });
        let authorizers = named.map(|name| (name.clone(), self.authorizer(&name))).collect();
        Policies { authorization, authorizers }
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

    /// Whether one of the mesh's authorizers may be a service of this host.
    pub(super) fn is_authorizer(&self, host: &Host) -> bool {
        self.mesh.authorizers.values().flatten().any(|authorizer| authorizer.host == *host)
    }

    /// The namespaces whose policies may be for workloads of a namespace.
    fn scopes<'a>(&'a self, namespace: &'a Namespace) -> Vec<&'a Namespace> {
        let root = &self.mesh.root_namespace;
        if root == namespace { vec![root] } else { vec![root, namespace] }
    }
}

/// The objects of a namespace.
fn within<'a, T>(all: &'a OrdMap<ObjectKey, T>, namespace: &'a Namespace) -> impl Iterator<Item = &'a T> + use<'a, T> {
    let from = ObjectKey { namespace: namespace.clone(), name: "".into() };
    all.range(from..).take_while(move |(key, _)| key.namespace == *namespace).map(|(_, object)| object)
}
