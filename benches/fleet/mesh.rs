//! The mesh that a fleet is of, as a directory with a file for each object, and what is done to it.

use crate::world::{self, Shape, object};
use mainsheet::id::ResourceType;
use serde_json::{Value, json};
use std::{fs, io, path::PathBuf};

/// A mesh in a directory.
#[derive(Clone, Debug)]
pub(crate) struct Mesh {
    /// How large it is.
    pub(crate) shape: Shape,
    /// ServiceEntries with endpoints stand for services, without anything of Kubernetes.
    pub(crate) entries: bool,
    /// AuthorizationPolicies, spread over the namespaces.
    pub(crate) policies: usize,
    /// Whether each namespace has a Sidecar that lets in its own services alone.
    pub(crate) sidecars: bool,
    /// The directory.
    pub(crate) dir: PathBuf,
}

/// Something that is done to a mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Step {
    /// One endpoint becomes ready or ceases to be.
    Endpoint,
    /// One pod is replaced by another.
    Pod,
    /// One VirtualService has other weights.
    Route,
    /// One policy allows another path.
    Policy,
    /// A service appears.
    Service,
    /// An endpoint of each of a hundred services changes, one after another.
    Rollout,
    /// A namespace's services go.
    Namespace,
    /// A setting of the mesh changes.
    Settings,
    /// Something changes that no proxy of the fleet sees.
    Unseen,
    /// Nothing changes.
    Idle,
}

/// By what the proxies see that a step has come to them.
#[derive(Clone, Debug)]
pub(crate) struct Sign {
    /// The types.
    pub(crate) kinds: &'static [ResourceType],
    /// What is in the name.
    pub(crate) name: String,
}

/// How many services a rollout is of.
const ROLLOUT: usize = 100;

impl Mesh {
    /// Every object.
    fn objects(&self) -> Box<dyn Iterator<Item = Value> + '_> {
        let shape = self.shape;
        let services: Box<dyn Iterator<Item = Value>> = match self.entries {
            true => {
                let entries = (0..shape.services).map(move |i| self.entry(i, true));
                let routes = (0..shape.virtual_services).map(move |i| self.route(i, 90));
                Box::new(entries.chain(routes).chain([self.hidden(true)]))
            }
            false => Box::new(shape.objects()),
        };
        let policies = (0..self.policies).map(move |i| self.policy(i, "/"));
        let namespaces = if self.sidecars { shape.namespaces } else { 0 };
        Box::new(services.chain(policies).chain((0..namespaces).map(sidecar)))
    }

    /// Writes all of it, and returns how many objects there are.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub(crate) fn write(&self) -> io::Result<usize> {
        fs::create_dir_all(&self.dir)?;
        let mut count = 0;
        for object in self.objects() {
            self.put(&object)?;
            count += 1;
        }
        Ok(count)
    }

    /// By what a step is seen; nothing where nobody is to see it.
    pub(crate) fn sign(&self, step: Step, round: usize) -> Option<Sign> {
        use ResourceType::{Endpoints, Listener, Route, VirtualHost};
        let (kinds, name): (&[_], String) = match step {
            Step::Endpoint => (&[Endpoints], self.host(0)),
            Step::Pod => (&[Endpoints], self.host(1)),
            Step::Route => (&[Route, VirtualHost], "80".to_owned()),
            Step::Policy => (&[Listener], "virtualInbound".to_owned()),
            Step::Service => (&[Endpoints], self.host(self.shape.services + round)),
            Step::Rollout => (&[Endpoints], self.host(ROLLOUT.min(self.shape.services) - 1)),
            Step::Settings => (&[Listener], "virtualOutbound".to_owned()),
            Step::Namespace | Step::Unseen | Step::Idle => return None,
        };
        Some(Sign { kinds, name })
    }

    /// Does a step for the `round`-th time.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub(crate) fn step(&self, step: Step, round: usize) -> io::Result<()> {
        let there = round.is_multiple_of(2);
        match step {
            Step::Endpoint => self.endpoint(0, there),
            Step::Pod => self.put(&self.replaced(round)),
            Step::Route => self.put(&self.route(0, 10 + round % 80)),
            Step::Policy => self.put(&self.policy(0, &format!("/{round}"))),
            Step::Service => self.appear(self.shape.services + round),
            Step::Rollout => (0..ROLLOUT.min(self.shape.services)).try_for_each(|i| self.endpoint(i, there)),
            Step::Namespace => {
                let last = self.shape.namespaces - 1;
                let of_last = (0..self.shape.services).filter(|i| i % self.shape.namespaces == last);
                of_last.into_iter().try_for_each(|i| self.vanish(i))
            }
            Step::Settings => {
                let mesh = format!("accessLogFile: /dev/stdout\naccessLogFormat: \"{round} %PROTOCOL%\"\n");
                self.put(&object("v1", "ConfigMap", "istio-system", "istio", json!({"data": {"mesh": mesh}})))
            }
            Step::Unseen if self.entries => self.put(&self.hidden(there)),
            Step::Unseen => self.put(&world::hidden_slice(there)),
            Step::Idle => Ok(()),
        }
    }

    /// The `round`-th change of an endpoint that nobody waits for.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub(crate) fn churn(&self, round: usize) -> io::Result<()> {
        // The first two are those that steps look at.
        self.endpoint(2 + round % (self.shape.services.saturating_sub(2)).max(1), round / self.shape.services % 2 == 1)
    }

    /// Something that changes, chosen by two numbers: mostly endpoints, as in life.
    ///
    /// # Errors
    ///
    /// When the directory cannot be written.
    pub(crate) fn any(&self, what: usize, which: usize) -> io::Result<()> {
        let services = self.shape.services;
        match what % 100 {
            0..70 => self.endpoint(which % services, (which / services).is_multiple_of(2)),
            70..85 => self.put(&self.route(which % services.min(20), 10 + which % 80)),
            85..90 => self.appear(services + which % 50),
            90..95 => self.vanish(services + which % 50),
            95..99 => self.put(&self.policy(which % 10, &format!("/{which}"))),
            _ => self.step(Step::Settings, which % 4),
        }
    }

    /// The `n`-th sidecar: that of a pod, the first pods of all services first.
    pub(crate) fn sidecar(&self, n: usize) -> Value {
        let services = self.shape.services;
        self.shape.sidecar(n % services, n / services % self.shape.endpoints)
    }

    fn host(&self, i: usize) -> String {
        if self.entries { format!("svc-{i}.perf.example") } else { self.shape.host(i) }
    }

    fn endpoint(&self, i: usize, ready: bool) -> io::Result<()> {
        if self.entries {
            return self.put(&self.entry(i, ready));
        }
        if self.shape.pods {
            self.put(&self.shape.pod(i, 0, ready))?;
        }
        self.put(&self.shape.slice(i, ready))
    }

    fn appear(&self, i: usize) -> io::Result<()> {
        if self.entries {
            return self.put(&self.entry(i, true));
        }
        self.put(&self.shape.service(i))?;
        self.put(&self.shape.slice(i, true))
    }

    fn vanish(&self, i: usize) -> io::Result<()> {
        let object = if self.entries { self.entry(i, true) } else { self.shape.service(i) };
        match fs::remove_file(self.path(&object)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            done => done,
        }
    }

    /// The first pod of the second service has another address.
    fn replaced(&self, round: usize) -> Value {
        let mut object = if self.entries { self.entry(1, true) } else { self.shape.slice(1, true) };
        let address: Value = format!("10.99.{}.{}", round / 250, round % 250 + 1).into();
        match self.entries {
            true => object["spec"]["endpoints"][0]["address"] = address,
            false => object["endpoints"][0]["addresses"][0] = address,
        }
        object
    }

    /// A ServiceEntry for a service of the mesh; its first endpoint may be another one.
    fn entry(&self, i: usize, first: bool) -> Value {
        let name = format!("svc-{i}");
        let labels = json!({"app": name, "security.istio.io/tlsMode": "istio"});
        let address = |e: usize| {
            let n = i * self.shape.endpoints + e;
            let block = if e == 0 && !first { 192 } else { 128 };
            format!("10.{}.{}.{}", block + n / 65536, n / 256 % 256, n % 256)
        };
        let endpoints = (0..self.shape.endpoints).map(|e| json!({"address": address(e), "labels": labels}));
        let spec = json!({
            "hosts": [self.host(i)],
            "addresses": [format!("240.{}.{}.{}", 1 + i / 65536, i / 256 % 256, i % 256)],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "location": "MESH_INTERNAL",
            "endpoints": endpoints.collect::<Vec<_>>(),
        });
        object("networking.istio.io/v1", "ServiceEntry", "default", &name, json!({"spec": spec}))
    }

    fn hidden(&self, first: bool) -> Value {
        let mut entry = self.entry(self.shape.services + 100_000, first);
        entry["metadata"] = json!({"name": "private", "namespace": "other"});
        entry["spec"]["exportTo"] = json!(["."]);
        entry
    }

    fn route(&self, i: usize, percent: usize) -> Value {
        if !self.entries {
            return self.shape.virtual_service(i, percent);
        }
        let to = json!([{"destination": {"host": self.host(i)}}]);
        let first = json!({
            "match": [{"uri": {"prefix": "/foo"}}],
            "rewrite": {"uri": format!("/p{percent}")},
            "route": to,
        });
        let spec = json!({"hosts": [self.host(i)], "http": [first, {"route": to}]});
        object("networking.istio.io/v1", "VirtualService", "default", &format!("vs-{i}"), json!({"spec": spec}))
    }

    fn policy(&self, i: usize, path: &str) -> Value {
        let spec = json!({
            "rules": [{
                "from": [{"source": {"principals": [format!("cluster.local/ns/ns-0/sa/svc-{i}")]}}],
                "to": [{"operation": {"paths": [path]}}],
            }],
        });
        let namespace = self.shape.namespace(i);
        object("security.istio.io/v1", "AuthorizationPolicy", &namespace, &format!("allow-{i}"), json!({"spec": spec}))
    }

    fn put(&self, object: &Value) -> io::Result<()> {
        let path = self.path(object);
        // A file that is moved into place is never seen half written.
        let new = path.with_extension("new");
        fs::write(&new, object.to_string())?;
        fs::rename(new, path)
    }

    fn path(&self, object: &Value) -> PathBuf {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_lowercase();
        let metadata = &object["metadata"];
        let name = [text(&object["kind"]), text(&metadata["namespace"]), text(&metadata["name"])].join("_");
        self.dir.join(name + ".json")
    }
}

fn sidecar(namespace: usize) -> Value {
    let spec = json!({"egress": [{"hosts": ["./*"]}]});
    object("networking.istio.io/v1", "Sidecar", &format!("ns-{namespace}"), "default", json!({"spec": spec}))
}
