//! A mesh made up from a few numbers: services, the pods behind them, and rules for some. The same numbers give
//! the same objects, each on its own, as users and Kubernetes write them.

use serde_json::{Value, json};
use std::net::Ipv4Addr;

/// How large a mesh is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    /// Services.
    pub(crate) services: usize,
    /// Pods behind each.
    pub(crate) endpoints: usize,
    /// Namespaces that the services are spread over.
    pub(crate) namespaces: usize,
    /// VirtualServices: the first services have one each, with two weighted subsets.
    pub(crate) virtual_services: usize,
    /// DestinationRules: the first services have one each, with two subsets.
    pub(crate) destination_rules: usize,
    /// Nodes of the cluster, in three zones.
    pub(crate) nodes: usize,
    /// Whether Pods are among the objects; without them an endpoint is only what its slice says.
    pub(crate) pods: bool,
    /// What the made-up values follow from.
    pub(crate) seed: u64,
}

impl Shape {
    /// A mesh of so many services with ten endpoints each, a hundred services to a namespace, and rules for every
    /// tenth.
    pub(crate) fn of(services: usize) -> Self {
        Self {
            services,
            endpoints: 10,
            namespaces: services.div_ceil(100),
            virtual_services: services.div_ceil(10),
            destination_rules: services.div_ceil(10),
            nodes: 30,
            pods: true,
            seed: 1,
        }
    }

    /// Every object.
    pub(crate) fn objects(self) -> impl Iterator<Item = Value> {
        let namespaces = (0..self.namespaces).map(|i| format!("ns-{i}")).chain(["private".to_owned()]);
        let pods = (0..self.services * usize::from(self.pods))
            .flat_map(move |i| (0..self.endpoints).map(move |e| self.pod(i, e, true)));
        namespaces
            .map(|name| object("v1", "Namespace", "", &name, json!({})))
            .chain((0..self.nodes).map(node))
            .chain((0..self.services).map(move |i| self.service(i)))
            .chain(pods)
            .chain((0..self.services).map(move |i| self.slice(i, true)))
            .chain((0..self.virtual_services).map(move |i| self.virtual_service(i, 90)))
            .chain((0..self.destination_rules).map(move |i| self.destination_rule(i)))
            .chain([hidden_service(), hidden_slice(true)])
    }

    /// The namespace of a service.
    pub(crate) fn namespace(self, service: usize) -> String {
        format!("ns-{}", service % self.namespaces)
    }

    /// The host of a service.
    pub(crate) fn host(self, service: usize) -> String {
        format!("svc-{service}.{}.svc.cluster.local", self.namespace(service))
    }

    /// A Service with one HTTP port.
    pub(crate) fn service(self, i: usize) -> Value {
        let name = format!("svc-{i}");
        let spec = json!({
            "clusterIP": address(10, i).to_string(),
            "selector": {"app": name},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
        });
        object("v1", "Service", &self.namespace(i), &name, json!({"spec": spec}))
    }

    /// A pod of a service.
    pub(crate) fn pod(self, i: usize, e: usize, ready: bool) -> Value {
        let name = format!("svc-{i}");
        let labels = json!({
            "app": name,
            "version": self.version(i, e),
            "security.istio.io/tlsMode": "istio",
            "service.istio.io/canonical-name": name,
        });
        let owner =
            json!({"apiVersion": "apps/v1", "kind": "StatefulSet", "name": name, "controller": true, "uid": "1"});
        let mut pod = object(
            "v1",
            "Pod",
            &self.namespace(i),
            &self.pod_name(i, e),
            json!({
                "spec": {
                    "serviceAccountName": name,
                    "nodeName": self.node_of(i, e),
                    "containers": [{"name": "app", "image": "app", "ports": [{"name": "http", "containerPort": 8080}]}],
                },
                "status": {
                    "phase": "Running",
                    "podIP": self.ip(i, e),
                    "podIPs": [{"ip": self.ip(i, e)}],
                    "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}],
                },
            }),
        );
        pod["metadata"]["labels"] = labels;
        pod["metadata"]["ownerReferences"] = json!([owner]);
        pod
    }

    /// The slice of a service. Its first endpoint may be one that is not ready.
    pub(crate) fn slice(self, i: usize, first_ready: bool) -> Value {
        let endpoints = (0..self.endpoints).map(|e| {
            let mut endpoint = json!({
                "addresses": [self.ip(i, e)],
                "conditions": {"ready": e > 0 || first_ready, "serving": true, "terminating": false},
                "nodeName": self.node_of(i, e),
            });
            if self.pods {
                endpoint["targetRef"] =
                    json!({"kind": "Pod", "name": self.pod_name(i, e), "namespace": self.namespace(i)});
            }
            endpoint
        });
        slice(&self.namespace(i), &format!("svc-{i}"), endpoints.collect())
    }

    /// A VirtualService that sends so many percent to v1 and the rest to v2.
    pub(crate) fn virtual_service(self, i: usize, percent: usize) -> Value {
        let host = self.host(i);
        let to = |subset: &str, weight: usize| json!({"destination": {"host": host, "subset": subset, "port": {"number": 80}}, "weight": weight});
        let spec = json!({
            "hosts": [host],
            "http": [{"route": [to("v1", percent), to("v2", 100 - percent)], "timeout": "5s"}],
        });
        let name = format!("svc-{i}");
        object("networking.istio.io/v1", "VirtualService", &self.namespace(i), &name, json!({"spec": spec}))
    }

    /// A DestinationRule with two subsets.
    pub(crate) fn destination_rule(self, i: usize) -> Value {
        let subset = |name: &str| json!({"name": name, "labels": {"version": name}});
        let spec = json!({"host": self.host(i), "subsets": [subset("v1"), subset("v2")]});
        let name = format!("svc-{i}");
        object("networking.istio.io/v1", "DestinationRule", &self.namespace(i), &name, json!({"spec": spec}))
    }

    /// The node of a pod's sidecar, as an Envoy says it.
    pub(crate) fn sidecar(self, i: usize, e: usize) -> Value {
        let (namespace, app) = (self.namespace(i), format!("svc-{i}"));
        json!({
            "id": format!("sidecar~{}~{}.{namespace}~{namespace}.svc.cluster.local", self.ip(i, e), self.pod_name(i, e)),
            "metadata": {
                "NAMESPACE": namespace,
                "CLUSTER_ID": "Kubernetes",
                "NODE_NAME": self.node_of(i, e),
                "SERVICE_ACCOUNT": app,
                "ISTIO_VERSION": "1.26.0",
                "LABELS": {"app": app, "version": self.version(i, e)},
            },
        })
    }

    fn pod_name(self, i: usize, e: usize) -> String {
        format!("svc-{i}-{e}")
    }

    fn ip(self, i: usize, e: usize) -> String {
        address(20, i * self.endpoints + e).to_string()
    }

    fn node_of(self, i: usize, e: usize) -> String {
        format!("node-{}", self.random(i, e) as usize % self.nodes)
    }

    fn version(self, i: usize, e: usize) -> &'static str {
        match self.random(i, e) >> 32 & 1 {
            0 => "v1",
            _ => "v2",
        }
    }

    /// A number for each endpoint (SplitMix64).
    pub(crate) fn random(self, i: usize, e: usize) -> u64 {
        let at = (i * self.endpoints + e + 1) as u64;
        let mut z = self.seed.wrapping_add(at.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
}

fn hidden_service() -> Value {
    let spec = json!({
        "clusterIP": "10.255.255.254",
        "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
    });
    let mut service = object("v1", "Service", "private", "hidden", json!({"spec": spec}));
    service["metadata"]["annotations"] = json!({"networking.istio.io/exportTo": "."});
    service
}

/// The slice of a service that is for its own namespace alone.
pub(crate) fn hidden_slice(ready: bool) -> Value {
    slice(
        "private",
        "hidden",
        vec![json!({"addresses": ["10.255.255.253"], "conditions": {"ready": ready, "terminating": false}})],
    )
}

fn slice(namespace: &str, service: &str, endpoints: Vec<Value>) -> Value {
    let mut slice = object(
        "discovery.k8s.io/v1",
        "EndpointSlice",
        namespace,
        &format!("{service}-1"),
        json!({
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        }),
    );
    slice["metadata"]["labels"] = json!({"kubernetes.io/service-name": service});
    slice
}

fn node(n: usize) -> Value {
    let mut node = object("v1", "Node", "", &format!("node-{n}"), json!({}));
    node["metadata"]["labels"] = json!({
        "topology.kubernetes.io/region": "region",
        "topology.kubernetes.io/zone": format!("zone-{}", n % 3),
    });
    node
}

/// An object of Kubernetes: what it is and is called, and the rest of it.
pub(crate) fn object(version: &str, kind: &str, namespace: &str, name: &str, rest: Value) -> Value {
    let mut object = json!({
        "apiVersion": version,
        "kind": kind,
        "metadata": {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"},
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = namespace.into();
    }
    if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
        object.extend(rest);
    }
    object
}

/// The `n`-th address of a block of sixteen million.
fn address(block: u8, n: usize) -> Ipv4Addr {
    Ipv4Addr::from((u32::from(block) << 24) + n as u32 + 1)
}
