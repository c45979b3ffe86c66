//! Ingresses as Gateways and VirtualServices: one Gateway for each Ingress, and one VirtualService for each host of
//! all of them (Istio: `pilot/pkg/config/kube/ingress`).

use super::{Snapshot, add_to, delta::changed, drop_from};
use crate::{
    id::{Host, Kind, ObjectRef, Shared},
    model::{
        BackendPort, Certificates, Created, Destination, ExportTo, Gateway, HeaderChanges, HttpAction, HttpMatch,
        HttpRule, Ingress, IngressPath, IngressTls, ObjectKey, Origin, Protocol, Server, ServerHost, ServerTls,
        ServerTlsMode, StringMatch, TlsVersion, VirtualService, selects,
    },
    problem::{FieldPath, Problem},
};
use std::{cmp::Reverse, collections::BTreeSet, sync::Arc};

/// What is generated comes before all that users write themselves.
const FIRST: Created = Created::MIN;

impl Snapshot {
    /// Sets or removes an Ingress. What stands for it follows later.
    pub(super) fn set_ingress(&mut self, key: ObjectKey, ingress: Option<Ingress>) {
        if let Some(old) = self.ingresses.remove(&key) {
            for path in &old.paths {
                drop_from(&mut self.index.ingress_hosts, &path.host, &key);
                let backend = self.backend(&old, path);
                drop_from(&mut self.index.ingress_backends, &backend, &key);
            }
        }
        let Some(ingress) = ingress else { return };
        for path in &ingress.paths {
            add_to(&mut self.index.ingress_hosts, path.host.clone(), key.clone());
            let backend = self.backend(&ingress, path);
            add_to(&mut self.index.ingress_backends, backend, key.clone());
        }
        self.ingresses.insert(key, Shared::new(ingress));
    }

    fn backend(&self, ingress: &Ingress, path: &IngressPath) -> Host {
        format!("{}.{}.svc.{}", path.service, ingress.source.namespace, self.base.domain).as_str().into()
    }

    /// Makes anew what stands for the Ingresses that differ, whose classes differ, or whose services do.
    pub(super) fn derive_ingresses(&mut self, before: &Snapshot) {
        if before.ingresses.is_empty() && self.ingresses.is_empty() {
            return;
        }
        let all = before.mesh != self.mesh || before.ingress_classes != self.ingress_classes;
        let keys: BTreeSet<ObjectKey> = match all {
            true => before.ingresses.keys().chain(self.ingresses.keys()).cloned().collect(),
            false => {
                let services = changed(&before.index.services, &self.index.services).map(|(host, ..)| host);
                let by_service = services.filter_map(|host| self.index.ingress_backends.get(host)).flatten();
                changed(&before.ingresses, &self.ingresses).map(|(key, ..)| key).chain(by_service).cloned().collect()
            }
        };
        let mut hosts = BTreeSet::new();
        for key in &keys {
            let versions = before.ingresses.get(key).into_iter().chain(self.ingresses.get(key));
            hosts.extend(versions.flat_map(|i| &i.paths).map(|path| path.host.clone()));
        }
        for key in keys {
            let old = self.index.ingress_gateways.remove(&key);
            let served = self.ingresses.get(&key).filter(|i| self.serves(i)).cloned();
            self.replace_gateway(old, served.map(|ingress| self.gateway_of(&ingress)), key);
        }
        for host in hosts {
            self.derive_host(host);
        }
    }

    /// The Ingresses that are served.
    pub fn served_ingresses(&self) -> impl Iterator<Item = ObjectKey> {
        self.ingresses.iter().filter(|(_, ingress)| self.serves(ingress)).map(|(key, _)| key.clone())
    }

    /// Where the gateways that serve Ingresses are reached where no Service is before them: the addresses of their nodes
    /// outside the cluster. A pod that has an address runs, or is about to.
    pub fn ingress_addresses(&self) -> BTreeSet<Arc<str>> {
        let control = &self.mesh.ingress;
        let gateways = control.gateways();
        let from = ObjectKey { namespace: control.namespace.clone(), name: "".into() };
        let pods = self.pods.range(from..).map(|(_, pod)| pod).take_while(|pod| pod.namespace == control.namespace);
        let pods = pods.filter(|pod| !pod.ips.is_empty() && selects(&gateways, &pod.labels));
        pods.filter_map(|pod| self.nodes.get(&pod.node)).flat_map(|node| node.external.iter().cloned()).collect()
    }

    fn serves(&self, ingress: &Ingress) -> bool {
        let class = ingress.class.as_ref().and_then(|name| self.ingress_classes.get(name));
        self.mesh.ingress.serves(ingress, class.map(|c| &**c))
    }

    fn replace_gateway(&mut self, old: Option<ObjectRef>, new: Option<(Gateway, Origin)>, ingress: ObjectKey) {
        if let Some(old) = old {
            self.gateways.remove(&generated_key(&old));
            self.generated.remove(&old);
        }
        let Some((gateway, origin)) = new else { return };
        self.index.ingress_gateways.insert(ingress, gateway.source.clone());
        self.generated.insert(gateway.source.clone(), Shared::new(origin));
        self.gateways.insert(generated_key(&gateway.source), Shared::new(gateway));
    }

    /// The Gateway that stands for an Ingress: port 80 for all hosts, and port 443 for those with a certificate.
    fn gateway_of(&self, ingress: &Ingress) -> (Gateway, Origin) {
        let (name, namespace) = (&ingress.source.name, &ingress.source.namespace);
        let spec = FieldPath::new("spec");
        let mut servers: Vec<Server> = ingress.tls.iter().map(|tls| secured(ingress, tls)).collect();
        let mut places: Vec<FieldPath> = ingress.tls.iter().map(|t| spec.field("tls").index(t.at)).collect();
        let port_name = format!("http-80-ingress-{name}-{namespace}");
        servers.push(server(80, port_name, Protocol::Http, vec!["*".into()], None));
        places.push(spec);
        let gateway = Gateway {
            source: generated(&self.mesh.ingress.namespace, &ingress.gateway_name()),
            created: FIRST,
            selector: self.mesh.ingress.gateways(),
            servers,
        };
        let origin = Origin {
            source: ingress.source.clone(),
            places: places.into_iter().map(|path| (ingress.source.clone(), path)).collect(),
            problems: Vec::new(),
        };
        (gateway, origin)
    }

    /// Makes anew the VirtualService of a host.
    fn derive_host(&mut self, host: Host) {
        if let Some(old) = self.index.ingress_rules.remove(&host) {
            self.set_virtual_service(generated_key(&old), None);
            self.generated.remove(&old);
        }
        let keys = self.index.ingress_hosts.get(&host).into_iter().flatten();
        let ingresses = keys.filter_map(|key| self.ingresses.get(key)).filter(|i| self.serves(i));
        let mut ingresses: Vec<Shared<Ingress>> = ingresses.cloned().collect();
        ingresses.sort_by(|a, b| a.rank().cmp(&b.rank()));
        let Some((rule, origin)) = self.rule_of(&host, &ingresses) else { return };
        self.index.ingress_rules.insert(host, rule.source.clone());
        self.generated.insert(rule.source.clone(), Shared::new(origin));
        self.set_virtual_service(generated_key(&rule.source), Some(rule));
    }

    /// The VirtualService that stands for a host of these Ingresses, the first of which gives it its name.
    fn rule_of(&self, host: &Host, ingresses: &[Shared<Ingress>]) -> Option<(VirtualService, Origin)> {
        let first = ingresses.first()?;
        let mut problems = Vec::new();
        let mut chosen: Vec<(&Ingress, &IngressPath, u16)> = Vec::new();
        for ingress in ingresses {
            for path in ingress.paths.iter().filter(|p| p.host == *host) {
                match self.port_of(ingress, path) {
                    Ok(port) => chosen.push((ingress, path, port)),
                    Err(problem) => problems.push(*problem),
                }
            }
        }
        chosen.sort_by_key(|(_, path, _)| (Reverse(path.length), !matches!(path.uri, Some(StringMatch::Exact(_)))));
        for pair in chosen.windows(2).filter(|pair| pair[0].1.uri == pair[1].1.uri) {
            let ((winner, ..), (loser, path, _)) = (pair[0], pair[1]);
            let why = match winner.source == loser.source {
                true => "is there twice for this host; the first one counts, leave out the other".to_owned(),
                false => format!(
                    "is also a path of {} for this host, which comes first; leave it out here or there",
                    winner.source
                ),
            };
            problems.push(Problem::warning(&loser.source, path.at.field("path"), why));
        }
        let mut gateways: Vec<Arc<str>> = Vec::new();
        for ingress in ingresses {
            gateways.push(format!("{}/{}", self.mesh.ingress.namespace, ingress.gateway_name()).into());
        }
        let rule = VirtualService {
            source: generated(&first.source.namespace, &first.rule_name(host)),
            created: FIRST,
            hosts: vec![host.clone()],
            gateways,
            export_to: ExportTo::All,
            http: chosen.iter().map(|(ingress, path, port)| self.http_rule(ingress, path, *port)).collect(),
            tls: Vec::new(),
            tcp: Vec::new(),
        };
        let places = chosen.iter().map(|(ingress, path, _)| (ingress.source.clone(), path.at.clone())).collect();
        Some((rule, Origin { source: first.source.clone(), places, problems }))
    }

    /// The number of a backend's port.
    fn port_of(&self, ingress: &Ingress, path: &IngressPath) -> Result<u16, Box<Problem>> {
        let name = match &path.port {
            BackendPort::Number(number) => return Ok(*number),
            BackendPort::Name(name) => name,
        };
        let services = self.services_of(&self.backend(ingress, path)).iter();
        let mut ports = services.filter(|s| s.source.kind == Kind::SERVICE).flat_map(|s| &s.ports);
        ports.find(|p| p.name == *name).map(|p| p.number).ok_or_else(|| {
            let message = format!(
                "Service {} of {} has no port `{name}`, so the path is left out; write the name or number of one that it has",
                path.service, ingress.source.namespace
            );
            Box::new(Problem::warning(&ingress.source, path.at.field("backend.service.port.name"), message))
        })
    }

    fn http_rule(&self, ingress: &Ingress, path: &IngressPath, port: u16) -> HttpRule {
        let condition = path.uri.clone().map(|uri| HttpMatch { uri: Some(uri), ..HttpMatch::default() });
        HttpRule {
            matches: condition.into_iter().collect(),
            action: HttpAction::Route(vec![Destination {
                host: self.backend(ingress, path),
                subset: "".into(),
                port: Some(port),
                weight: 0,
                headers: HeaderChanges::default(),
            }]),
            ..HttpRule::default()
        }
    }

    /// A problem as one of an object that users know.
    pub fn written(&self, problem: Problem) -> Problem {
        match self.generated.get(&problem.object) {
            Some(origin) => origin.of(problem),
            None => problem,
        }
    }

    /// What is wrong with the objects that a generated one stands for.
    pub fn wrong_behind(&self, generated: &ObjectRef) -> impl Iterator<Item = &Problem> {
        self.generated.get(generated).into_iter().flat_map(|origin| &origin.problems)
    }
}

/// A generated object: its kind tells it from those that users may write by the same name.
fn generated(namespace: &str, name: &str) -> ObjectRef {
    ObjectRef::new(Kind::INGRESS, namespace, name)
}

/// The key of a generated object among those that users write, which cannot have it.
pub(super) fn generated_key(object: &ObjectRef) -> ObjectKey {
    ObjectKey { namespace: object.namespace.clone(), name: format!("{}~", object.name).into() }
}

fn secured(ingress: &Ingress, tls: &IngressTls) -> Server {
    let name = format!("https-443-ingress-{}-{}-{}", ingress.source.name, ingress.source.namespace, tls.at);
    let settings = ServerTls {
        mode: ServerTlsMode::Simple,
        certificates: Certificates::Secrets(vec![tls.secret.clone()]),
        authorities: "".into(),
        crl: "".into(),
        subject_alt_names: Vec::new(),
        spki: Vec::new(),
        hashes: Vec::new(),
        min_version: TlsVersion::Auto,
        max_version: TlsVersion::Auto,
        ciphers: Vec::new(),
        curves: Vec::new(),
        insecure: false,
    };
    server(443, name, Protocol::Https, tls.hosts.clone(), Some(settings))
}

fn server(port: u16, port_name: String, protocol: Protocol, hosts: Vec<Host>, tls: Option<ServerTls>) -> Server {
    Server {
        name: "".into(),
        port,
        port_name: port_name.into(),
        protocol,
        bind: None,
        hosts: hosts.into_iter().map(|host| ServerHost { namespace: None, host }).collect(),
        redirect: false,
        tls,
    }
}
