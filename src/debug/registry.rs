//! What the control plane knows of services and endpoints, in the shapes of istiod's debug pages.

use crate::{
    id::ServiceKey,
    model::{
        Distribution, Endpoint, EndpointAddress, EndpointSet, ExportTo, Health, Labels, OutboundPolicy,
        PathNormalization, Registry, Resolution, Service, Vip,
    },
    snapshot::Snapshot,
};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeSet,
    io::{self, Write},
    iter,
    sync::Arc,
};

/// What a page shows. That of a large world is made while it is written, so that it is nowhere as a whole.
#[derive(Debug)]
pub(super) enum Content {
    /// This.
    Tree(Value),
    /// `/debug/configz`: the objects of Istio's own kinds.
    Objects(Arc<Snapshot>),
    /// `/debug/registryz`: every service (Istio: `pilot/pkg/model/service.go`, Service).
    Services(Arc<Snapshot>),
    /// `/debug/endpointz`: endpoints by host, namespace and shard (Istio: `pilot/pkg/model/endpointshards.go`).
    Endpoints(Arc<Snapshot>),
}

impl Content {
    /// Writes it as JSON.
    ///
    /// # Errors
    ///
    /// When it cannot be written there.
    pub(super) fn write(&self, mut to: impl Write, pretty: bool) -> io::Result<()> {
        if !pretty {
            return serde_json::to_writer(to, self).map_err(Into::into);
        }
        serde_json::to_writer_pretty(&mut to, self)?;
        to.write_all(b"\n")
    }

    /// All of it, in a line.
    pub(super) fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        self.write(&mut text, false).expect("memory takes what is written, and JSON has texts as keys here");
        text
    }
}

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Tree(value) => value.serialize(to),
            Self::Objects(world) => to.collect_seq(objects(world)),
            Self::Services(world) => to.collect_seq(world.services().map(|s| service(world, s))),
            Self::Endpoints(world) => to.collect_map(endpoints(world)),
        }
    }
}

fn service(snapshot: &Snapshot, service: &Service) -> Value {
    let addresses: Vec<String> = service.addresses.iter().map(vip).collect();
    let mut attributes = json!({
        "ServiceRegistry": registry(service.registry),
        "Name": &*service.name,
        "Namespace": service.namespace.as_str(),
        "Labels": labels(&service.labels),
        "ExportTo": export_to(&service.export_to),
        "LabelSelectors": labels(&service.selector),
        "Aliases": null,
        "ClusterExternalAddresses": {"Addresses": null},
        "ClusterExternalPorts": null,
        "NodeLocal": service.node_local,
        "PublishNotReadyAddresses": service.publish_not_ready,
        "TrafficDistribution": match service.distribution {
            Distribution::Unset | Distribution::Any => 0,
            Distribution::SameZone => 1,
            Distribution::SameNode => 2,
        },
    });
    if let Some(host) = &service.alias_of {
        attributes["ExternalName"] = host.as_str().into();
    }
    json!({
        "Attributes": attributes,
        "ports": service.ports.iter().map(|p| json!({"name": &*p.name, "port": p.number, "protocol": p.protocol.as_str()})).collect::<Value>(),
        "serviceAccounts": service.accounts.iter().map(|a| &**a).collect::<Value>(),
        "creationTime": jiff::Timestamp::from_second(service.created).unwrap_or_default().to_string(),
        "hostname": service.host.as_str(),
        "clusterVIPs": {"Addresses": {(*snapshot.mesh.cluster).to_owned(): addresses}},
        "defaultAddress": addresses.first().map_or("0.0.0.0", String::as_str),
        "Resolution": match service.resolution {
            Resolution::ClientSide => 0,
            Resolution::Dns => 1,
            Resolution::Passthrough => 2,
            Resolution::DnsRoundRobin => 3,
            Resolution::Alias => 4,
            Resolution::DynamicDns => 5,
        },
        "MeshExternal": service.external,
        "ResourceVersion": "",
    })
}

/// The endpoints of each host, by namespace and shard.
fn endpoints(snapshot: &Snapshot) -> impl Iterator<Item = (&str, Map<String, Value>)> {
    let mut all = snapshot.all_endpoints().peekable();
    iter::from_fn(move || {
        let (ServiceKey { host, .. }, _) = all.peek()?;
        let mut namespaces = Map::new();
        while let Some((key, set)) = all.next_if(|(key, _)| key.host == *host) {
            namespaces.insert(key.namespace.as_str().to_owned(), shards(snapshot, key, set));
        }
        Some((host.as_str(), namespaces))
    })
}

fn shards(snapshot: &Snapshot, ServiceKey { host, namespace }: &ServiceKey, set: &EndpointSet) -> Value {
    let provider = snapshot.services_of(host).iter().find(|s| s.namespace == *namespace).map(|s| registry(s.registry));
    let mut shards: Map<String, Value> = Map::new();
    for endpoint in &set.endpoints {
        let shard = format!("{}/{}", provider.unwrap_or("Kubernetes"), endpoint.cluster);
        let list = shards.entry(shard).or_insert_with(|| json!([]));
        list.as_array_mut().expect("made as a list").push(endpoint_to_json(endpoint));
    }
    let accounts = set.accounts.iter().map(|a| ((**a).to_owned(), json!({}))).collect::<Map<_, _>>();
    json!({"Shards": shards, "ServiceAccounts": accounts})
}

fn endpoint_to_json(endpoint: &Endpoint) -> Value {
    let first = match &endpoint.address {
        EndpointAddress::Ip(ip) => ip.to_string(),
        EndpointAddress::Host(text) | EndpointAddress::Unix(text) => text.to_string(),
    };
    let addresses: Vec<String> =
        std::iter::once(first).chain(endpoint.more_addresses.iter().map(ToString::to_string)).collect();
    json!({
        "Labels": labels(&endpoint.labels),
        "Addresses": addresses,
        "ServicePortName": &*endpoint.port_name,
        "LegacyClusterPortKey": 0,
        "ServiceAccount": endpoint.account.as_deref().unwrap_or_default(),
        "Network": &*endpoint.network,
        "Locality": {"Label": endpoint.locality.to_string(), "ClusterID": &*endpoint.cluster},
        "EndpointPort": endpoint.port,
        "LbWeight": endpoint.weight,
        "TLSMode": if endpoint.tls { "istio" } else { "disabled" },
        "Namespace": endpoint.namespace.as_str(),
        "WorkloadName": &*endpoint.workload,
        "HostName": &*endpoint.hostname,
        "SubDomain": &*endpoint.subdomain,
        "HealthStatus": match endpoint.health {
            Health::Unknown => 0,
            Health::Healthy => 1,
            Health::Unhealthy => 2,
            Health::Draining => 3,
            Health::Terminating => 4,
        },
        "SendUnhealthyEndpoints": false,
        "NodeName": &*endpoint.node,
    })
}

/// The objects of Istio's own kinds, as they were given.
fn objects(snapshot: &Snapshot) -> impl Iterator<Item = Value> {
    snapshot.raw.values().filter_map(|raw| serde_json::from_str(raw).ok())
}

/// `/debug/resourcesz`: the kinds that `configz` shows, as far as there are objects of them.
pub(super) fn kinds(snapshot: &Snapshot) -> Value {
    let kind = |raw: &Value| {
        let (group, version) = raw["apiVersion"].as_str()?.split_once('/')?;
        Some((group.to_owned(), version.to_owned(), raw["kind"].as_str()?.to_owned()))
    };
    let kinds: BTreeSet<_> = objects(snapshot).filter_map(|raw| kind(&raw)).collect();
    kinds.into_iter().map(|(group, version, kind)| json!({"group": group, "version": version, "kind": kind})).collect()
}

/// `/debug/mesh`: the settings in force, under MeshConfig's names.
pub(super) fn mesh(snapshot: &Snapshot) -> Value {
    let mesh = &snapshot.mesh;
    json!({
        "proxyListenPort": mesh.outbound_port,
        "proxyInboundListenPort": mesh.inbound_port,
        "proxyHttpPort": mesh.http_proxy_port,
        "connectTimeout": format!("{}s", mesh.connect_timeout as f64 / 1000.0),
        "protocolDetectionTimeout": format!("{}s", mesh.detection_timeout as f64 / 1000.0),
        "dnsRefreshRate": format!("{}s", mesh.dns_refresh as f64 / 1000.0),
        "rootNamespace": mesh.root_namespace.as_str(),
        "trustDomain": &*mesh.trust_domain,
        "enableAutoMtls": mesh.auto_mtls,
        "enableTracing": mesh.tracing,
        "accessLogFile": &*mesh.access_log.file,
        "outboundTrafficPolicy": {"mode": match mesh.outbound_policy {
            OutboundPolicy::AllowAny => "ALLOW_ANY",
            OutboundPolicy::RegistryOnly => "REGISTRY_ONLY",
            OutboundPolicy::AllowAnyDynamicDns => "ALLOW_ANY_DYNAMIC_DNS",
        }},
        "pathNormalization": {"normalization": match mesh.path_normalization {
            PathNormalization::None => "NONE",
            PathNormalization::Base => "BASE",
            PathNormalization::MergeSlashes => "MERGE_SLASHES",
            PathNormalization::DecodeAndMergeSlashes => "DECODE_AND_MERGE_SLASHES",
        }},
    })
}

fn registry(registry: Registry) -> &'static str {
    match registry {
        Registry::Kubernetes => "Kubernetes",
        Registry::External => "External",
    }
}

fn vip(vip: &Vip) -> String {
    match vip {
        Vip::Ip(ip) => ip.to_string(),
        Vip::Block(block) => block.to_string(),
    }
}

fn labels(labels: &Labels) -> Value {
    match labels.is_empty() {
        true => Value::Null,
        false => labels.iter().map(|(k, v)| ((**k).to_owned(), Value::from(&**v))).collect::<Map<_, _>>().into(),
    }
}

fn export_to(export_to: &ExportTo) -> Value {
    let set =
        |names: &mut dyn Iterator<Item = &str>| names.map(|n| (n.to_owned(), json!({}))).collect::<Map<_, _>>().into();
    match export_to {
        ExportTo::Unset => Value::Null,
        ExportTo::All => set(&mut ["*"].into_iter()),
        ExportTo::Nobody => set(&mut ["~"].into_iter()),
        ExportTo::Some { own, namespaces } => {
            set(&mut own.then_some(".").into_iter().chain(namespaces.iter().map(|n| n.as_str())))
        }
    }
}
