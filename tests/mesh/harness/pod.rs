//! The pods of a world, as they are run and as Kubernetes would describe them.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A pod with the echo program in it.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    /// Its name.
    pub(crate) name: String,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Its labels; `app` and `version` are what it answers as.
    pub(crate) labels: BTreeMap<String, String>,
    /// Its service account.
    pub(crate) account: String,
    /// Its address, which the world gives it where it is empty.
    pub(crate) ip: String,
    /// Whether it has a sidecar.
    pub(crate) sidecar: bool,
    /// Whether its traffic is brought to its sidecar, where it has one.
    pub(crate) captured: bool,
    /// Whether its sidecar asks for changes alone (delta xDS).
    pub(crate) delta: bool,
    /// Whether its sidecar takes what it is sent compressed.
    pub(crate) compressed: bool,
    /// Whether its sidecar holds only what it has used.
    pub(crate) on_demand: bool,
    /// Whether it is a gateway: a proxy without a workload.
    pub(crate) router: bool,
    /// Whether its sidecar has a certificate of the mesh, which it gets for a token.
    pub(crate) identity: bool,
    /// Whether that is the business of an agent beside it.
    pub(crate) agent: bool,
    /// Whether the agent leaves it to others to start its sidecar.
    pub(crate) apart: bool,
    /// What is in the agent's environment beside the usual.
    pub(crate) variables: Vec<(String, String)>,
    /// What is on its command line beside the usual.
    pub(crate) words: Vec<String>,
    /// The ports that it answers HTTP on.
    pub(crate) http: Vec<u16>,
    /// The ports that it answers lines of text on.
    pub(crate) tcp: Vec<u16>,
    /// What it asks for its own answers: `name=ADDRESS/path`.
    pub(crate) calls: Vec<String>,
}

impl Pod {
    /// A pod with a sidecar that answers HTTP on 8080 to 8083, and lines of text on 9000.
    pub(crate) fn new(name: &str, namespace: &str, app: &str, version: &str) -> Self {
        let labels = [("app", app), ("version", version)].map(|(k, v)| (k.to_owned(), v.to_owned()));
        Self {
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            labels: labels.into(),
            account: name.to_owned(),
            ip: String::new(),
            sidecar: true,
            captured: true,
            delta: true,
            compressed: false,
            on_demand: false,
            router: false,
            identity: false,
            agent: false,
            apart: false,
            variables: Vec::new(),
            words: Vec::new(),
            http: vec![8080, 8081, 8082, 8083],
            tcp: vec![9000],
            calls: Vec::new(),
        }
    }

    /// A gateway, which nothing is captured for.
    pub(crate) fn router(mut self) -> Self {
        (self.router, self.captured) = (true, false);
        self
    }

    /// With another label.
    pub(crate) fn label(mut self, key: &str, value: &str) -> Self {
        self.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Without a sidecar.
    pub(crate) fn bare(mut self) -> Self {
        self.sidecar = false;
        self
    }

    /// With a sidecar that has a certificate of the mesh.
    pub(crate) fn with_identity(mut self) -> Self {
        self.identity = true;
        self.labels.insert("security.istio.io/tlsMode".into(), "istio".into());
        self
    }

    /// With an agent that starts the sidecar and gets it a certificate of the mesh.
    pub(crate) fn with_agent(mut self) -> Self {
        self.agent = true;
        self.with_identity()
    }

    /// With an agent that gets the sidecar a certificate of the mesh, and leaves it to others to start that.
    pub(crate) fn with_agent_apart(mut self) -> Self {
        self.apart = true;
        self.with_agent().variable("DISABLE_ENVOY", "true")
    }

    /// With this in the agent's environment.
    pub(crate) fn variable(mut self, name: &str, value: &str) -> Self {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With a sidecar that gets what the workload sends to it, and nothing else.
    pub(crate) fn uncaptured(mut self) -> Self {
        self.captured = false;
        self
    }

    /// With a workload that answers nothing.
    pub(crate) fn idle(mut self) -> Self {
        (self.http, self.tcp) = (Vec::new(), Vec::new());
        self
    }

    /// With a sidecar that is sent all resources of a type each time.
    pub(crate) fn sotw(mut self) -> Self {
        self.delta = false;
        self
    }

    /// With a sidecar that takes what it is sent compressed.
    pub(crate) fn compressed(mut self) -> Self {
        self.compressed = true;
        self
    }

    /// With a sidecar that holds only what it has used.
    pub(crate) fn on_demand(mut self) -> Self {
        self.on_demand = true;
        self.variable("ISTIO_META_ON_DEMAND", "true")
    }

    /// The objects that Kubernetes has of it.
    pub(crate) fn objects(&self) -> [Value; 3] {
        let Self { name, namespace, labels, account, ip, .. } = self;
        let ports = self.http.iter().chain(&self.tcp);
        let ports: Vec<Value> = ports.map(|p| json!({ "containerPort": p })).collect();
        [
            json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": namespace } }),
            json!({ "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": { "name": account, "namespace": namespace } }),
            json!({ "apiVersion": "v1", "kind": "Pod",
                "metadata": { "name": name, "namespace": namespace, "labels": labels },
                "spec": { "serviceAccountName": account, "nodeName": "node-1",
                    "containers": [{ "name": "echo", "image": "echo", "ports": ports }] },
                "status": { "phase": "Running", "podIP": ip, "podIPs": [{ "ip": ip }],
                    "conditions": [{ "type": "Ready", "status": "True" }] } }),
        ]
    }
}
