//! What a sidecar is served that holds only what it has used. It asks for the virtual host of an authority, and for a
//! cluster by its name, when the first request or connection needs it (Envoy's VHDS and ODCDS), and never lets go of
//! them again.
//!
//! A virtual host is served under the name that it is asked for by and for that one authority, whichever domains it has
//! beside: one with a wildcard would hide the hosts below it that were not asked for yet. There is an answer to every
//! authority and to every outbound cluster: Envoy waits long for what it was told that there is not.

use super::{Config, Input, Renderer, Resource, cluster::outbound_name};
use crate::{
    id::{Host, ResourceType},
    pb::{
        self,
        envoy::config::{
            cluster::v3::{
                Cluster,
                cluster::{ClusterDiscoveryType, DiscoveryType},
            },
            endpoint::v3::ClusterLoadAssignment,
            route::v3::{RouteConfiguration, VirtualHost, route::Action},
        },
    },
    snapshot::{FoundKeys, Policies},
};
use imbl::OrdMap;
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// The start of the names of clusters that are fetched.
const OUTBOUND: &str = "outbound|";

/// What one client has asked for, by name.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    clusters: BTreeSet<Arc<str>>,
    hosts: BTreeSet<Arc<str>>,
}

impl Asked {
    /// Notes that these resources are asked for. Returns whether one is new.
    pub fn add<'a>(&mut self, kind: ResourceType, names: impl IntoIterator<Item = &'a str>) -> bool {
        let set = match kind {
            ResourceType::Cluster => &mut self.clusters,
            ResourceType::VirtualHost => &mut self.hosts,
            _ => return false,
        };
        let fetched = |name: &&str| kind == ResourceType::VirtualHost || name.starts_with(OUTBOUND);
        let before = set.len();
        for name in names.into_iter().filter(fetched) {
            if !set.contains(name) {
                set.insert(name.into());
            }
        }
        set.len() > before
    }
}

/// What a part has for those that ask for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Reserve {
    clusters: OrdMap<Arc<str>, Arc<Resource>>,
    /// The virtual host of each domain, by `ROUTES/DOMAIN`.
    hosts: OrdMap<Arc<str>, General>,
    /// The clusters that each route configuration with all its virtual hosts sends copies to.
    copies: OrdMap<Arc<str>, Arc<[Arc<str>]>>,
}

/// A virtual host with all its domains.
#[derive(Clone, Debug)]
struct General {
    host: Arc<Resource>,
    /// The clusters that it sends copies to.
    copies: Arc<[Arc<str>]>,
}

/// A virtual host for one authority.
#[derive(Hash)]
struct Own {
    /// The name that it is asked for by.
    name: Arc<str>,
    authority: String,
    general: Arc<Resource>,
}

impl Input for Own {
    fn render(&self) -> Resource {
        let general = VirtualHost::decode(&*self.general.body).unwrap_or_default();
        // To Envoy a star is a wildcard: whoever asks for one must not hide other hosts by it, and gets 404.
        let domain = match self.authority.contains('*') {
            true => format!("no host, {}, as it was asked for", self.authority),
            false => self.authority.clone(),
        };
        let own = VirtualHost { name: self.name.to_string(), domains: vec![domain], ..general };
        let sources = self.general.sources.to_vec();
        Resource::new(ResourceType::VirtualHost, self.name.clone(), own.encode_to_vec(), sources)
    }
}

impl Reserve {
    /// Takes a resource of the part. Returns whether it is sent to those alone that ask for it.
    pub(super) fn insert(&mut self, resource: &Arc<Resource>) -> bool {
        match resource.kind {
            ResourceType::Cluster if resource.name.starts_with(OUTBOUND) => {
                self.clusters.insert(resource.name.clone(), resource.clone());
                true
            }
            ResourceType::VirtualHost => {
                let message = VirtualHost::decode(&*resource.body).unwrap_or_default();
                let general = General { host: resource.clone(), copies: copies(&message).collect() };
                for domain in domains(resource, &message) {
                    self.hosts.insert(domain, general.clone());
                }
                true
            }
            ResourceType::Route => {
                let whole = RouteConfiguration::decode(&*resource.body).unwrap_or_default();
                let copies: Arc<[Arc<str>]> = whole.virtual_hosts.iter().flat_map(copies).collect();
                if !copies.is_empty() {
                    self.copies.insert(resource.name.clone(), copies);
                }
                false
            }
            _ => false,
        }
    }

    /// Gives up a resource of the part.
    pub(super) fn remove(&mut self, resource: &Resource) {
        match resource.kind {
            ResourceType::Cluster => drop(self.clusters.remove(&resource.name)),
            ResourceType::VirtualHost => {
                let message = VirtualHost::decode(&*resource.body).unwrap_or_default();
                domains(resource, &message).for_each(|domain| drop(self.hosts.remove(&domain)));
            }
            ResourceType::Route => drop(self.copies.remove(&resource.name)),
            _ => {}
        }
    }

    /// Everything in it, each thing once.
    pub(super) fn all(&self, kind: ResourceType) -> Vec<&Arc<Resource>> {
        match kind {
            ResourceType::Cluster => self.clusters.values().collect(),
            ResourceType::VirtualHost => {
                let by_name: BTreeMap<_, _> = self.hosts.values().map(|g| (&g.host.name, &g.host)).collect();
                by_name.into_values().collect()
            }
            _ => Vec::new(),
        }
    }

    /// The virtual host for requests whose authority is the second part of `name`, under the routes that are the first,
    /// and the clusters that it sends copies to.
    fn host(&self, name: &Arc<str>, renderer: &dyn Renderer) -> Option<(Arc<Resource>, &[Arc<str>])> {
        let (routes, authority) = name.rsplit_once('/')?;
        let authority = authority.to_ascii_lowercase();
        let host = Host::from(without_port(&authority));
        let General { host: general, copies } =
            host.candidates().find_map(|domain| self.hosts.get(format!("{routes}/{domain}").as_str()))?;
        let own = Own { name: name.clone(), authority, general: general.clone() };
        Some((renderer.get(&own), copies))
    }
}

impl Config {
    /// Whether the client is to be sent some of it only when it asks.
    pub fn is_on_demand(&self) -> bool {
        self.parts().iter().any(|part| part.key.on_demand)
    }

    /// What of it a client is sent that has asked for this: that, and what nobody asks for.
    #[must_use]
    pub fn answering(&self, asked: &Asked, renderer: &dyn Renderer) -> Self {
        let reserves = || self.parts().iter().map(|part| &part.reserve);
        let mut answers = Vec::new();
        let mut clusters = asked.clusters.clone();
        // What filters and copies of requests go to, Envoy does not fetch.
        let policies = self.parts().iter().filter_map(|part| part.key.policies.as_ref());
        clusters.extend(policies.flat_map(|policies| asked_by_filters(policies)));
        clusters.extend(reserves().flat_map(|r| r.copies.values()).flat_map(|copies| copies.iter().cloned()));
        for name in &asked.hosts {
            let Some((host, copies)) = reserves().find_map(|r| r.host(name, renderer)) else { continue };
            answers.push(host);
            clusters.extend(copies.iter().cloned());
        }
        answers.extend(clusters.into_iter().map(|name| {
            let known = reserves().find_map(|r| r.clusters.get(&name).cloned());
            known.unwrap_or_else(|| renderer.get(&Closed { name }))
        }));
        self.beside(answers)
    }
}

/// The clusters that filters ask about requests, or for keys.
fn asked_by_filters(policies: &Policies) -> impl Iterator<Item = Arc<str>> {
    let authorizers = policies.authorizers.values().flatten();
    let asked = authorizers.map(|(authorizer, host)| outbound_name(authorizer.port, "", host).into());
    asked.chain(policies.tokens.iter().filter_map(|token| match &token.keys {
        FoundKeys::Through { cluster, .. } => Some(cluster.clone()),
        _ => None,
    }))
}

/// The domains of a virtual host, by `ROUTES/DOMAIN`.
fn domains(host: &Resource, message: &VirtualHost) -> impl Iterator<Item = Arc<str>> {
    let routes = host.name.rsplit_once('/').map_or("", |(routes, _)| routes);
    message.domains.iter().map(move |domain| format!("{routes}/{}", domain.to_ascii_lowercase()).into())
}

/// The clusters that copies of requests are sent to.
fn copies(host: &VirtualHost) -> impl Iterator<Item = Arc<str>> {
    let of_routes = host.routes.iter().flat_map(|route| match &route.action {
        Some(Action::Route(action)) => &action.request_mirror_policies[..],
        _ => &[],
    });
    let all = of_routes.chain(&host.request_mirror_policies).map(|mirror| &*mirror.cluster);
    all.filter(|name| name.starts_with(OUTBOUND)).map(Arc::from)
}

/// An authority without its port.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port))
            if port.bytes().all(|b| b.is_ascii_digit()) && (!host.contains(':') || host.ends_with(']')) =>
        {
            host
        }
        _ => authority,
    }
}

/// A cluster that there is not: one without endpoints.
#[derive(Hash)]
struct Closed {
    name: Arc<str>,
}

impl Input for Closed {
    fn render(&self) -> Resource {
        let name = self.name.to_string();
        let cluster = Cluster {
            cluster_discovery_type: Some(ClusterDiscoveryType::Type(DiscoveryType::Static.into())),
            connect_timeout: Some(pb::millis(1000)),
            load_assignment: Some(ClusterLoadAssignment { cluster_name: name.clone(), ..Default::default() }),
            name,
            ..Default::default()
        };
        Resource::new(ResourceType::Cluster, self.name.clone(), cluster.encode_to_vec(), Vec::new())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_told_from_addresses() {
        let cases =
            [("a", "a"), ("a:80", "a"), ("[::1]:80", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1"), ("a:b", "a:b")];
        for (authority, host) in cases {
            assert_eq!(without_port(authority), host);
        }
    }
}
