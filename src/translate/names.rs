//! Names: what agents answer for that resolve the names of the mesh for their workloads (NDS). A proxy has one table; each
//! host's part of it is made by itself, so that one that changes is the only one to be made again.

use super::{
    Built, Input, Renderer, Resource,
    part::{Affected, Unit},
};
use crate::{
    id::{Host, ObjectRef, ResourceType, ServiceKey},
    model::{EndpointAddress, Registry, Service, Vip},
    pb::istio::networking::nds::v1::{NameTable, name_table::NameInfo},
    snapshot::{Delta, View},
};
use prost::Message;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

/// The name of the one table.
const TABLE: &str = "names";
/// The domain of services of several clusters, whose short names are those of the cluster's own.
const CLUSTER_SET: &str = ".clusterset.local";

pub(super) fn units(view: &View<'_>) -> BTreeSet<Unit> {
    view.key.resolves.then_some(Unit::Fixed).into_iter().collect()
}

/// Whether a service differs, or endpoints of one whose name stands for them.
pub(super) fn affected(old: &View<'_>, new: &View<'_>, delta: &Delta) -> Affected {
    let dials = |view: &View<'_>, host: &Host| view.service(host).is_some_and(|s| s.dials_endpoints());
    let named = |key: &ServiceKey| dials(old, &key.host) || dials(new, &key.host);
    // What VirtualServices send to, a Sidecar lets in.
    let imported = new.key.sidecar.is_some() && !delta.virtual_services.is_empty();
    let differs = imported || !delta.services.is_empty() || delta.endpoints.keys().any(named);
    Affected::Units((new.key.resolves && differs).then_some(Unit::Fixed).into_iter().collect())
}

pub(super) fn build(view: &View<'_>, renderer: &dyn Renderer) -> Built {
    if !view.key.resolves {
        return Built::default();
    }
    let named = view.services().filter_map(|service| Named::of(view, service));
    let named: Vec<Arc<Resource>> = named.map(|named| renderer.get(&named)).collect();
    // Messages one after the other are one message with the entries of all.
    let body: Vec<u8> = named.iter().flat_map(|n| n.body.iter().copied()).collect();
    let sources: BTreeSet<ObjectRef> = named.iter().flat_map(|n| n.sources.iter().cloned()).collect();
    let whole = Resource::new(ResourceType::Names, TABLE, body, sources.into_iter().collect());
    Built { resources: vec![Arc::new(Resource { pieces: named.into(), ..whole })], ..Built::default() }
}

/// What the names of one service mean.
#[derive(Hash)]
struct Named {
    host: Host,
    /// Its addresses.
    ips: Vec<IpAddr>,
    /// Its pods that have names of their own: `HOSTNAME.SUBDOMAIN`, and their addresses.
    pods: BTreeMap<String, Vec<IpAddr>>,
    registry: Registry,
    /// The name and namespace of a service whose short names are the cluster's.
    short: Option<(Arc<str>, Arc<str>)>,
    sources: Vec<ObjectRef>,
}

impl Named {
    /// Those of a service; nothing where it has no address.
    fn of(view: &View<'_>, service: &Service) -> Option<Self> {
        let of_family = |ip: &IpAddr| view.key.families.has(*ip);
        let address = |vip: &Vip| match vip {
            Vip::Ip(ip) => Some(*ip).filter(of_family),
            Vip::Block(_) => None,
        };
        let mut ips: Vec<IpAddr> = view.addresses(service).iter().filter_map(address).collect();
        let mut pods = BTreeMap::new();
        if ips.is_empty() && service.dials_endpoints() && !service.ports.is_empty() {
            (ips, pods) = dialled(view, service, of_family);
        }
        let short = service.registry == Registry::Kubernetes && !service.host.ends_with(CLUSTER_SET);
        (!ips.is_empty()).then(|| Self {
            host: service.host.clone(),
            ips,
            pods,
            registry: service.registry,
            short: short.then(|| (service.name.clone(), Arc::from(&*service.namespace))),
            sources: service.sources().cloned().collect(),
        })
    }

    fn info(&self, ips: &[IpAddr], short: Option<&str>) -> NameInfo {
        NameInfo {
            ips: ips.iter().map(ToString::to_string).collect(),
            registry: if self.registry == Registry::Kubernetes { "Kubernetes" } else { "External" }.into(),
            shortname: short.unwrap_or_default().to_owned(),
            namespace: self.short.as_ref().map_or("", |(_, namespace)| namespace).to_owned(),
        }
    }
}

/// The addresses of a service's endpoints, and of those that have names of their own.
fn dialled(
    view: &View<'_>,
    service: &Service,
    of_family: impl Fn(&IpAddr) -> bool,
) -> (Vec<IpAddr>, BTreeMap<String, Vec<IpAddr>>) {
    let own = view.key.place.as_ref().map(|p| p.network.clone()).unwrap_or_default();
    let near = |network: &str| network.is_empty() || own.is_empty() || *network == *own;
    let (mut all, mut pods): (BTreeSet<IpAddr>, BTreeMap<String, Vec<IpAddr>>) = Default::default();
    let set = view.endpoints(service);
    for endpoint in set.into_iter().flat_map(|set| &set.endpoints) {
        let EndpointAddress::Ip(first) = endpoint.address else { continue };
        let known = service.publish_not_ready || endpoint.health.serves();
        // It is there once for every port.
        if !known || !near(&endpoint.network) || !all.insert(first) {
            continue;
        }
        if !endpoint.subdomain.is_empty() && !endpoint.hostname.is_empty() {
            let name = format!("{}.{}", endpoint.hostname, endpoint.subdomain);
            let ips = std::iter::once(first).chain(endpoint.more_addresses.iter().copied()).filter(&of_family);
            pods.entry(name).or_default().extend(ips);
        }
        all.extend(&endpoint.more_addresses);
    }
    (all.into_iter().filter(of_family).collect(), pods)
}

impl Input for Named {
    fn render(&self) -> Resource {
        let short = self.short.as_ref().map(|(name, _)| &**name);
        let domain = self.host.split_once('.').map_or("", |(_, domain)| domain);
        let pods = self.pods.iter().map(|(name, ips)| (format!("{name}.{domain}"), self.info(ips, Some(name))));
        let own = [(self.host.to_string(), self.info(&self.ips, short))];
        let table = NameTable { table: own.into_iter().chain(pods).collect() };
        Resource::new(ResourceType::Names, self.host.to_string(), table.encode_to_vec(), self.sources.clone())
    }
}
