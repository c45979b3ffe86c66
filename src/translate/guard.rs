//! What stands before a workload: the filters that ask who is there and whether they may come in.
//!
//! Each filter is rendered by itself and kept, so that all chains of a listener and all proxies under the same policies
//! share it.

use super::{
    Renderer, Resource, authorization,
    tokens::{self, Tokens},
};
use crate::{
    id::{ObjectRef, ResourceType, Shared},
    model::{Protocol, Role},
    pb::{
        self,
        envoy::{
            config::listener::v3::{Filter, filter::ConfigType as NetworkConfig},
            extensions::filters::network::http_connection_manager::v3::{HttpFilter, http_filter::ConfigType},
        },
        google::protobuf::Any,
    },
    problem::Problem,
    snapshot::{Policies, View},
};
use prost::{Message, Name};
use std::{collections::BTreeSet, sync::Arc};

/// The filters before a workload, in the order in which requests and connections pass them.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub(super) struct Guard {
    /// Those that requests pass.
    requests: Arc<[Arc<Resource>]>,
    /// Those that connections pass.
    connections: Arc<[Arc<Resource>]>,
    /// The policies that they come from.
    pub(super) sources: BTreeSet<ObjectRef>,
}

/// What is wrong with the policies, as far as these workloads are concerned.
pub(super) fn problems(view: &View<'_>) -> Vec<Problem> {
    let bytes = view.key.targets.iter().flat_map(|all| all.iter());
    let bytes: BTreeSet<u16> =
        bytes.filter(|t| !t.protocol.is_http() && t.protocol != Protocol::Auto).map(|t| t.target).collect();
    let of = |policies: &Shared<Policies>| {
        [authorization::problems(view, policies), authorization::on_bytes(policies, &bytes), tokens::problems(policies)]
            .concat()
    };
    view.key.policies.iter().flat_map(of).collect()
}

impl Guard {
    /// What stands before the workloads of a view, or before what its gateways lead to.
    pub(super) fn of(view: &View<'_>, renderer: &dyn Renderer) -> Self {
        let Some(policies) = &view.key.policies else { return Self::default() };
        let (mut requests, mut connections) = authorization::asking(view, policies, renderer);
        // Gateways choose routes by what tokens say.
        let tokens = Tokens::of(policies, view.key.role == Role::Router);
        requests.extend(tokens.map(|tokens| renderer.get(&tokens)));
        let others = authorization::filters(view, policies, renderer);
        requests.extend(others.0);
        connections.extend(others.1);
        let sources = policies.authorization.iter().map(|policy| &policy.source);
        let sources = sources.chain(policies.tokens.iter().map(|token| &token.source)).cloned().collect();
        Self { requests: requests.into(), connections: connections.into(), sources }
    }

    /// The filters for requests.
    pub(super) fn http(&self) -> impl Iterator<Item = HttpFilter> + '_ {
        self.requests.iter().map(|filter| HttpFilter {
            name: filter.name.to_string(),
            config_type: Some(ConfigType::TypedConfig(config(filter))),
            ..Default::default()
        })
    }

    /// The filters for connections.
    pub(super) fn tcp(&self) -> impl Iterator<Item = Filter> + '_ {
        self.connections.iter().map(|filter| Filter {
            name: filter.name.to_string(),
            config_type: Some(NetworkConfig::TypedConfig(config(filter))),
        })
    }

    /// What the filters are made of.
    pub(super) fn pieces(&self) -> impl Iterator<Item = Arc<Resource>> + '_ {
        self.requests.iter().chain(self.connections.iter()).cloned()
    }
}

/// A filter of this name and configuration, to be put into listeners.
pub(super) fn filter(name: &'static str, message: &impl Name, sources: Vec<ObjectRef>) -> Resource {
    Resource::new(ResourceType::Extension, name, pb::any(message).encode_to_vec(), sources)
}

fn config(filter: &Resource) -> Any {
    Any::decode(filter.body.clone()).expect("it was encoded by `filter`")
}
