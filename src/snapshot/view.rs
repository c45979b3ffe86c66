//! What one kind of node may see of a snapshot. Nodes that see the same have equal keys and share one view.
//!
//! This is the only place that knows export lists, label selectors of clients, and which services a proxy serves.

use super::{
    Delta, Entrance, Policies, Snapshot,
    derive::target_port,
    entrance::Door,
    meeting,
    outside::{pod_port, workload_port},
    registry::ByAge,
};
use crate::{
    id::{Host, Kind, Namespace, ObjectRef, Shared},
    model::{
        EgressListener, Endpoint, EndpointSet, Health, IdentitySource, Interception, Labels, Locality, Node,
        NodeSettings, ObjectKey, PeerMtls, Pod, Protocol, ProxyConfig, ProxyHeaders, Registry, Resolution, Role,
        Service, ServicePort, Sidecar, Vip, VirtualService, WorkloadEntry, locality_label, selects,
    },
};
use std::{net::IpAddr, sync::Arc};

/// The label that stands for the node that a pod runs on.
const NODE_LABEL: &str = "kubernetes.io/hostname";

/// Names of secrets, each with the object that names it.
pub type NamedSecrets = Arc<[(Arc<str>, ObjectRef)]>;

/// What of a node decides what it sees. Parts that a kind of resource does not depend on are `None` in the key
/// of that kind, so that nodes which differ only there share it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ViewKey {
    /// What the proxy is for.
    pub role: Role,
    /// The namespace whose configuration it gets.
    pub namespace: Namespace,
    /// The domain that its short names are in.
    pub domain: Arc<str>,
    /// Those of its labels that some rule asks for.
    pub labels: Labels,
    /// The cluster that it is in.
    pub cluster: Arc<str>,
    /// The IP families that it uses.
    pub families: Families,
    /// Where its certificate comes from.
    pub identity: IdentitySource,
    /// Whether its clients learn of the addresses that the mesh gives to hosts: the mesh resolves their names.
    pub resolves: bool,
    /// What it makes of headers elsewhere than in its listeners: clusters and routes depend on it.
    pub headers: KeptHeaders,
    /// Whether it has a listener of its own that workloads ask as a forward proxy: routes depend on it.
    pub forward_proxy: bool,
    /// Whether it takes virtual hosts as resources of their own: routes depend on it.
    pub virtual_hosts: bool,
    /// Whether it holds only what it has used: listeners and routes depend on it, and which clusters it has unasked.
    pub on_demand: bool,
    /// The Sidecar in force: what of the mesh it is to know.
    pub sidecar: Option<Shared<Sidecar>>,
    /// Where it is: endpoints depend on it.
    pub place: Option<Place>,
    /// How it listens and what it calls itself: listeners depend on it.
    pub face: Option<Face>,
    /// Whether its workload takes mutual TLS: its inbound side depends on it.
    pub mtls: Option<Shared<PeerMtls>>,
    /// The policies that are for it: its inbound side depends on them, or its listeners where it is a gateway.
    pub policies: Option<Shared<Policies>>,
    /// What it serves: its inbound side depends on it.
    pub targets: Option<Arc<[Target]>>,
    /// Its addresses, where a Sidecar says where its workload listens: its inbound side depends on them.
    pub ips: Option<Arc<[IpAddr]>>,
    /// What it opens as a gateway: listeners and routes depend on it.
    pub entrance: Option<Shared<Entrance>>,
    /// TLS between networks passes through it: it has clusters for that.
    pub auto_passthrough: bool,
    /// The gateways (`namespace/name`) to whose VirtualServices' destinations alone it has clusters; `None` for all.
    pub sends_by_route: Option<Arc<[Arc<str>]>>,
    /// The secrets that its servers need, each with the Gateway that says so; `None` where it may have no secrets.
    pub secrets: Option<NamedSecrets>,
}

/// What a proxy makes of headers elsewhere than in its listeners.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct KeptHeaders {
    /// The names of HTTP/1.1 headers keep their case.
    pub case: bool,
    /// Requests do not say the how manieth attempt they are.
    pub without_attempts: bool,
    /// Requests whose host is rewritten say which it was.
    pub forwarded_host: bool,
}

impl KeptHeaders {
    /// Those of a ProxyConfig.
    pub fn of(headers: Option<&ProxyHeaders>) -> Self {
        Self {
            case: headers.is_some_and(|h| h.preserve_case),
            without_attempts: headers.is_some_and(|h| h.without_attempts),
            forwarded_host: headers.is_some_and(|h| h.forwarded_host),
        }
    }

    /// The part that clusters depend on.
    pub fn of_clusters(self) -> Self {
        Self { case: self.case, ..Self::default() }
    }

    /// The part that routes depend on.
    pub fn of_routes(self) -> Self {
        Self { case: false, ..self }
    }
}

/// The IP families that a proxy uses.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Families {
    /// IPv4 alone.
    V4,
    /// IPv6 alone.
    V6,
    /// Both, with the first address's family preferred (`true`: IPv4).
    Dual(bool),
}

impl Families {
    /// The families of these addresses.
    pub fn of(ips: &[IpAddr]) -> Self {
        match (ips.iter().any(IpAddr::is_ipv4), ips.iter().any(IpAddr::is_ipv6)) {
            (true, true) => Self::Dual(ips[0].is_ipv4()),
            (false, true) => Self::V6,
            _ => Self::V4,
        }
    }

    /// The addresses that stand for every local one, the preferred first.
    pub fn wildcards(self) -> &'static [&'static str] {
        self.choose(&["0.0.0.0"], &["::"], &["0.0.0.0", "::"], &["::", "0.0.0.0"])
    }

    /// The loopback addresses, the preferred first.
    pub fn loopbacks(self) -> &'static [&'static str] {
        self.choose(&["127.0.0.1"], &["::1"], &["127.0.0.1", "::1"], &["::1", "127.0.0.1"])
    }

    /// The addresses that traffic to the own workload comes from, so that it is not captured again.
    pub fn passthrough_sources(self) -> &'static [&'static str] {
        self.choose(&["127.0.0.6"], &["::6"], &["127.0.0.6", "::6"], &["::6", "127.0.0.6"])
    }

    /// Whether an address is of a family that the proxy uses.
    pub fn has(self, ip: IpAddr) -> bool {
        match self {
            Self::V4 => ip.is_ipv4(),
            Self::V6 => ip.is_ipv6(),
            Self::Dual(_) => true,
        }
    }

    fn choose<T>(self, v4: T, v6: T, both4: T, both6: T) -> T {
        match self {
            Self::V4 => v4,
            Self::V6 => v6,
            Self::Dual(true) => both4,
            Self::Dual(false) => both6,
        }
    }
}

/// Where a proxy is.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Place {
    /// Region, zone and sub-zone.
    pub locality: Locality,
    /// The network.
    pub network: Arc<str>,
    /// The node of the cluster that it runs on; empty where no service and no rule asks for it.
    pub cluster_node: Arc<str>,
}

/// How a proxy listens.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Face {
    /// How traffic gets to it.
    pub interception: Interception,
    /// Settings of its own.
    pub settings: NodeSettings,
    /// Its ProxyConfig: its own, or that of the mesh with what its workload's annotation says.
    pub proxy: ProxyConfig,
    /// Its own address, where clients of some service dial it: it has no listener towards itself.
    pub dialled: Option<IpAddr>,
    /// What it calls itself in traces; `None` where there are none.
    pub traced: Option<Traced>,
}

/// What a proxy calls itself in traces.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Traced {
    /// The name of its application (label `service.istio.io/canonical-name`, or `unknown`).
    pub service: Arc<str>,
    /// Its version (label `service.istio.io/canonical-revision`, or `latest`).
    pub revision: Arc<str>,
    /// The mesh that it says it is in.
    pub mesh: Arc<str>,
}

/// A port of a service that a proxy's workload serves.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// The service.
    pub service: Shared<Service>,
    /// The number of the service's port.
    pub port: u16,
    /// The port of the workload.
    pub target: u16,
    /// What is spoken on it.
    pub protocol: Protocol,
}

/// A snapshot as nodes with one key see it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// The snapshot.
    pub snapshot: &'a Snapshot,
    /// Who looks.
    pub key: &'a ViewKey,
    /// The listener for what the workload sends that is looked at alone; `None` for all.
    pub listener: Option<&'a EgressListener>,
}

impl<'a> View<'a> {
    /// All that nodes with this key see.
    pub fn new(snapshot: &'a Snapshot, key: &'a ViewKey) -> Self {
        Self { snapshot, key, listener: None }
    }
}

impl Snapshot {
    /// The whole key of a node: what it sees, where it is, how it listens, and what it serves.
    pub fn view_key(&self, node: &Node) -> ViewKey {
        let pod = self.pod_of(node);
        let labels = pod.map_or(&node.labels, |p| &p.labels);
        let asked = |key: &Arc<str>| self.index.client_labels.contains_key(key);
        let label = |key: &str, or: &str| labels.get(key).cloned().unwrap_or_else(|| or.into());
        let families = Families::of(&node.ips);
        let targets = self.targets(node, pod);
        let entrance = (node.role == Role::Router).then(|| {
            let door = Door { labels, targets: &targets, families, settings: &node.settings };
            Shared::new(self.entrance(&door))
        });
        let proxy = self.proxy_config(node);
        let sidecar = (node.role == Role::Sidecar).then(|| self.sidecar(&node.namespace, labels)).flatten();
        ViewKey {
            role: node.role,
            namespace: node.namespace.clone(),
            domain: node.domain.clone(),
            labels: labels.iter().filter(|(k, _)| asked(k)).map(|(k, v)| (k.clone(), v.clone())).collect(),
            cluster: node.cluster.clone(),
            families,
            identity: node.identity,
            resolves: node.settings.dns_capture,
            virtual_hosts: node.virtual_hosts,
            on_demand: node.virtual_hosts && node.settings.on_demand && node.role == Role::Sidecar,
            headers: KeptHeaders::of(proxy.headers.as_ref()),
            forward_proxy: node.role == Role::Sidecar && node.settings.http_proxy_port != 0,
            ips: sidecar.as_ref().filter(|s| !s.ingress.is_empty()).map(|_| node.ips.as_slice().into()),
            sidecar,
            place: Some(Place {
                locality: self.locality_of_node(node, pod),
                network: node.network.clone(),
                cluster_node: if self.tells_nodes_apart() { node.cluster_node.clone() } else { "".into() },
            }),
            face: Some(Face {
                interception: node.interception,
                settings: node.settings.clone(),
                proxy: proxy.clone(),
                dialled: node.ips.first().filter(|ip| self.index.dialled.contains_key(*ip)).copied(),
                traced: self.mesh.tracing.then(|| Traced {
                    service: label("service.istio.io/canonical-name", "unknown"),
                    revision: label("service.istio.io/canonical-revision", "latest"),
                    mesh: node.mesh.clone(),
                }),
            }),
            mtls: Some(Shared::new(self.peer_mtls(&node.namespace, labels))),
            policies: Some(Shared::new(self.policies(&node.namespace, labels))),
            targets: Some(targets).filter(|_| node.role == Role::Sidecar),
            auto_passthrough: entrance.as_ref().is_some_and(|e| e.auto_passthrough()),
            sends_by_route: entrance
                .as_ref()
                .filter(|_| self.mesh.features.gateway_clusters_by_route)
                .map(|e| e.gateways().into()),
            secrets: node.proven.then(|| entrance.iter().flat_map(|e| e.secrets()).collect()),
            entrance,
        }
    }

    /// What is said of a node's proxy.
    fn proxy_config(&self, node: &Node) -> ProxyConfig {
        let whole = node.settings.proxy_config.clone();
        whole.unwrap_or_else(|| node.settings.annotated.over(&self.mesh.proxy_config))
    }

    /// Whether it counts for anything on which node of the cluster a client runs.
    pub(super) fn tells_nodes_apart(&self) -> bool {
        let mesh = &self.mesh.clusters;
        let lists = [mesh.locality.as_ref().map(|l| &l.priority), mesh.zone_aware.as_ref().map(|z| &z.priority)];
        !self.index.node_bound.is_empty()
            || self.index.client_labels.contains_key(NODE_LABEL)
            || lists.into_iter().flatten().flatten().any(|key| &**key == NODE_LABEL)
    }

    /// Whether a node's key may differ between two snapshots that differ by `delta`.
    pub fn may_change_key(delta: &Delta, node: &Node) -> bool {
        delta.whole
            || delta.clients
            || delta.authorizers
            || delta.keys
            || (delta.gateways && node.role == Role::Router)
            || delta.namespaces.contains(&node.namespace)
            || [&delta.peers, &delta.policies]
                .into_iter()
                .any(|scopes| scopes.contains(&None) || scopes.contains(&Some(node.namespace.clone())))
            || delta.pods.contains(&pod_key(node))
            || node.ips.iter().any(|ip| delta.addresses.contains(ip))
    }

    /// The pod that a node runs in, where it is known.
    pub fn pod_of(&self, node: &Node) -> Option<&Arc<Pod>> {
        self.pods.get(&pod_key(node)).or_else(|| node.ips.first().and_then(|ip| self.pod_by_ip(&node.namespace, *ip)))
    }

    fn locality_of_node(&self, node: &Node, pod: Option<&Arc<Pod>>) -> Locality {
        pod.map(|p| self.locality_of(p))
            .filter(|l| !l.is_empty())
            .or_else(|| locality_label(&node.labels))
            .unwrap_or_else(|| node.locality.clone())
    }

    /// The ports that a node's workload serves, those of the oldest service first.
    fn targets(&self, node: &Node, pod: Option<&Arc<Pod>>) -> Arc<[Target]> {
        let mut served = self.served_in_kubernetes(node, pod);
        served.extend(self.served_outside(node, pod));
        served.sort_by(|(a, _), (b, _)| (a.created, &a.host).cmp(&(b.created, &b.host)));
        let mut targets: Vec<Target> = Vec::new();
        let counts = |s: &Service| s.resolution != Resolution::Alias && self.discovers(&s.namespace);
        for (service, port_of) in served.into_iter().filter(|(s, _)| counts(s)) {
            let start = targets.len();
            for port in &service.ports {
                let Some(target) = port_of.number(port) else { continue };
                let target = Target { service: service.clone(), port: port.number, target, protocol: port.protocol };
                let same = |t: &Target| (t.target, t.protocol) == (target.target, target.protocol);
                if !targets[start..].iter().any(same) {
                    targets.push(target);
                }
            }
        }
        targets.into()
    }

    /// The Kubernetes services that a node's workload serves. A WorkloadEntry at its address says what it is before a
    /// pod does.
    fn served_in_kubernetes<'a>(&'a self, node: &'a Node, pod: Option<&'a Arc<Pod>>) -> Vec<Served<'a>> {
        let namespace = &node.namespace;
        let kubernetes = |s: &&Shared<Service>| s.registry == Registry::Kubernetes;
        if let Some(workload) = node.ips.first().and_then(|ip| self.workload_at(namespace, *ip)) {
            let services = self.selecting(namespace, &workload.labels).filter(kubernetes);
            let services = services.filter(|s| s.resolution == Resolution::ClientSide);
            return services.map(|s| (s, Ports::Outside(workload))).collect();
        }
        let labels = pod.map_or(&node.labels, |p| &p.labels);
        let named = pod.map_or(&node.ports, |p| &p.ports);
        let mut services: Vec<_> = self.selecting(namespace, labels).filter(kubernetes).collect();
        if services.is_empty() {
            services = node.ips.iter().flat_map(|ip| self.listing(namespace, *ip)).collect();
        }
        services.into_iter().map(|s| (s, Ports::Pod(named))).collect()
    }

    /// The hosts of ServiceEntries that a node's workload serves.
    fn served_outside<'a>(&'a self, node: &'a Node, pod: Option<&'a Arc<Pod>>) -> Vec<Served<'a>> {
        let namespace = &node.namespace;
        let external = |s: &&Shared<Service>| s.registry == Registry::External;
        let mut served: Vec<Served<'a>> = Vec::new();
        if let Some(pod) = pod.filter(|p| p.ready && !p.terminating) {
            let services = self.selecting(namespace, &pod.labels).filter(external);
            served.extend(services.map(|s| (s, Ports::NamedPod(&pod.ports))));
        }
        for ip in &node.ips {
            if let Some(workload) = self.workload_at(namespace, *ip).filter(|w| w.healthy) {
                let services = self.selecting(namespace, &workload.labels).filter(external);
                served.extend(services.map(|s| (s, Ports::Outside(workload))));
            }
            for (entry, endpoint) in self.entries_at(namespace, *ip) {
                let services = self.index.defined.get(&entry.source).into_iter().flat_map(|all| all.iter());
                served.extend(services.map(|s| (s, Ports::Outside(endpoint))));
            }
        }
        served
    }

    /// The services of a namespace without a selector whose slices list an address.
    fn listing(&self, namespace: &Namespace, ip: IpAddr) -> impl Iterator<Item = &Shared<Service>> {
        let slices = self.index.slices_by_ip.get(&ip).into_iter().flatten().filter_map(|id| self.slices.get(id));
        slices
            .filter(move |slice| slice.namespace == *namespace)
            .map(|slice| ObjectRef::new(Kind::SERVICE, slice.namespace.clone(), slice.service.clone()))
            .filter_map(|id| self.index.defined.get(&id))
            .flat_map(|all| all.iter())
            .filter(|s| s.selector.is_empty())
    }
}

/// The pod that a node says it runs in.
fn pod_key(node: &Node) -> ObjectKey {
    ObjectKey { namespace: node.namespace.clone(), name: node.pod.clone() }
}

/// A service that a workload serves, and how its ports are found there.
type Served<'a> = (&'a Shared<Service>, Ports<'a>);

/// How the ports of a service are found at a workload.
enum Ports<'a> {
    /// As those of a pod.
    Pod(&'a [(Arc<str>, u16)]),
    /// As those of a pod that a ServiceEntry selects.
    NamedPod(&'a [(Arc<str>, u16)]),
    /// As those of a workload that is no pod.
    Outside(&'a WorkloadEntry),
}

impl Ports<'_> {
    fn number(&self, port: &ServicePort) -> Option<u16> {
        match self {
            Self::Pod(named) => target_port(&port.target, named),
            Self::NamedPod(named) => pod_port(port, named),
            Self::Outside(workload) => workload_port(port, workload),
        }
    }
}

impl<'a> View<'a> {
    /// The service of this host that the view's nodes see: the own namespace's first, then a Kubernetes Service,
    /// then the oldest (Istio: `sidecar.go`, same hostname in several namespaces).
    pub fn service(&self, host: &str) -> Option<&'a Shared<Service>> {
        let visible = self.snapshot.services_of(host).iter().filter(|s| self.sees_service(s) && self.in_scope(s));
        visible.min_by_key(|s| (s.namespace != self.key.namespace, s.registry != Registry::Kubernetes))
    }

    /// Whether the view's nodes have clusters for a host: a gateway may have them for what it sends to alone.
    pub fn sends_to(&self, host: &Host) -> bool {
        let Some(gateways) = &self.key.sends_by_route else { return true };
        let bound = |rule: &VirtualService| rule.gateways.iter().any(|g| gateways.contains(g));
        self.routing_to(host).into_iter().any(|rule| bound(rule))
    }

    /// The service of this host that the listener which is looked at lets in.
    pub fn imported(&self, host: &Host) -> Option<&'a Shared<Service>> {
        let visible = self.snapshot.services_of(host).iter().filter(|s| self.sees_service(s) && self.imports(s));
        visible.min_by_key(|s| (s.namespace != self.key.namespace, s.registry != Registry::Kubernetes))
    }

    /// Every service that the listener which is looked at lets in, the oldest first.
    pub fn imported_services(&self) -> Vec<&'a Shared<Service>> {
        let mut services: Vec<_> = self.snapshot.index.services.keys().filter_map(|host| self.imported(host)).collect();
        services.sort_by(|a, b| ByAge::order(a).cmp(&ByAge::order(b)));
        services
    }

    /// Every service that the view's nodes see, by host.
    pub fn services(&self) -> impl Iterator<Item = &'a Shared<Service>> + use<'a> {
        let view = *self;
        self.snapshot.index.services.keys().filter_map(move |host| view.service(host))
    }

    /// The services that the listener which is looked at lets in and whose hosts have a name in common with this one:
    /// that of this name, those of wildcards above it, and for a wildcard those below it.
    pub fn overlapping(&self, host: &Host) -> Vec<&'a Shared<Service>> {
        let meeting = meeting::overlapping(&self.snapshot.index.services, host);
        meeting.filter_map(|(other, _)| self.imported(other)).collect()
    }

    /// The services that the listener which is looked at lets in and that have a port of this number, the oldest first.
    pub fn services_on(&self, port: u16) -> Vec<&'a Shared<Service>> {
        let imported = |s: &&Shared<Service>| self.imported(&s.host) == Some(*s);
        self.snapshot.index.services_on(port).filter(imported).collect()
    }

    /// Every port number that some service has, in order.
    pub fn snapshot_ports(&self) -> impl Iterator<Item = u16> + use<'a> {
        self.snapshot.index.port_numbers()
    }

    /// Every port number that some service has, and those of the listeners that a Sidecar names; 0 for sockets of the
    /// file system.
    pub fn ports(&self) -> impl Iterator<Item = u16> + 'a {
        let own = self.egress().iter().filter_map(|l| l.port.as_ref()).map(|p| p.number);
        self.snapshot.index.port_numbers().chain(own)
    }

    /// The addresses at which the view's clients reach a service: its own, or those that the mesh gave it.
    pub fn addresses(&self, service: &Service) -> Vec<Vip> {
        match service.addresses.is_empty() && self.key.resolves {
            true => service.allocated.iter().filter(|ip| self.key.families.has(**ip)).map(|ip| Vip::Ip(*ip)).collect(),
            false => service.addresses.clone(),
        }
    }

    /// The endpoints of a service.
    pub fn endpoints(&self, service: &Service) -> Option<&'a Shared<EndpointSet>> {
        self.snapshot.endpoints(&service.key())
    }

    /// Whether the view's nodes see a service.
    pub fn sees_service(&self, service: &Service) -> bool {
        let default = &self.snapshot.mesh.service_export_to;
        self.snapshot.discovers(&service.namespace)
            && service.export_to.visible(&service.namespace, &self.key.namespace, default)
    }

    /// Whether labels that a rule asks of its client are those of the view's nodes.
    pub fn is_client(&self, labels: &Labels, namespace: &str) -> bool {
        selects(labels, &self.key.labels) && (namespace.is_empty() || namespace == &*self.key.namespace)
    }

    /// Whether a client gets an endpoint at all: those that go away, and those of other nodes where the service
    /// is for its own node alone, are left out.
    pub fn gets_endpoint(&self, service: &Service, endpoint: &Endpoint) -> bool {
        let own_node = || self.key.place.as_ref().is_some_and(|p| p.cluster_node == endpoint.node);
        !matches!(endpoint.health, Health::Terminating | Health::Draining) && (!service.node_local || own_node())
    }
}
