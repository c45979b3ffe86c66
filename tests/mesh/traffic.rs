//! Requests through real Envoys, and whether they took the way that the objects say.
//!
//! Most tests share one world. Each has a service of its own in it, so that none sees what another applies.

mod actions;
mod agent;
mod changes;
mod field;
mod gateways;
mod identity;
mod matches;
mod on_demand;
mod outage;
mod protocols;
mod services;

use crate::harness::{Client, Network, Pod, Process, Reply, Request, World};
use std::{
    collections::BTreeMap,
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

/// The world that tests share: `client`, two versions of `a`, `b`, a server outside of the mesh, and two more clients:
/// `sotw`, that is sent all resources each time, and `uncaptured`, whose sidecar gets only what is sent to its listeners.
fn shared() -> &'static World {
    static WORLD: OnceLock<(World, Process)> = OnceLock::new();
    let (world, _) = WORLD.get_or_init(|| {
        let world = World::new(vec![
            Pod::new("client", "shop", "client", "v1"),
            Pod::new("sotw", "shop", "sotw", "v1").sotw(),
            Pod::new("uncaptured", "shop", "uncaptured", "v1").uncaptured().idle(),
            Pod::new("a-v1", "shop", "a", "v1"),
            Pod::new("a-v2", "shop", "a", "v2"),
            Pod::new("b-v1", "shop", "b", "v1"),
        ]);
        let outside = Network::OUTSIDE;
        let (http, tcp) = (format!("--http={outside}:7000"), format!("--tcp={outside}:7001"));
        let server = world.run_echo(&world.node(), "outside", &["serve", "--name", "outside", &http, &tcp]);
        (world, server)
    });
    world
}

/// One test's service and what it applies. `NAME` in its objects stands for the service's name.
struct Scene<'a> {
    world: &'a World,
    name: &'static str,
    address: String,
    client: Client,
    revision: u32,
}

impl Scene<'static> {
    /// A scene in the shared world.
    fn new(name: &'static str) -> Self {
        Self::of(shared(), name)
    }
}

impl<'a> Scene<'a> {
    /// A scene in a world of its own, whose pod `client` sends.
    fn of(world: &'a World, name: &'static str) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let address = format!("10.96.0.{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Self { world, name, address, client: world.client("client"), revision: 0 }
    }

    /// Applies the service of the scene, on port 80 for 8080 of the pods of `app`, and routes for it where there
    /// are some: the `http` list of its VirtualService. Waits until the client's sidecar has them.
    fn route(&mut self, app: &str, http: &str) {
        let service = self.service(app, "- {name: http, port: 80, targetPort: 8080}");
        let objects = format!("{service}{SUBSETS}{}", self.virtual_service(http));
        self.apply(&objects);
        self.world.wait_config("client", &self.marker());
    }

    /// The service of the scene.
    fn service(&self, app: &str, ports: &str) -> String {
        format!(
            "---\napiVersion: v1\nkind: Service\nmetadata: {{name: NAME, namespace: shop}}\nspec:\n  \
             clusterIP: {}\n  selector: {{app: {app}}}\n  ports:\n  {ports}\n",
            self.address
        )
    }

    /// The VirtualService of the scene. Its first route says which revision it is, and is for nothing else.
    fn virtual_service(&mut self, http: &str) -> String {
        self.revision += 1;
        let marker = self.marker();
        format!(
            "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: NAME, namespace: shop}}\n\
             spec:\n  hosts: [NAME]\n  http:\n  - name: {marker}\n    match: [{{uri: {{exact: /{marker}}}}}]\n    \
             route: [{{destination: {{host: NAME}}}}]\n{}",
            indented(http)
        )
    }

    fn marker(&self) -> String {
        format!("{}-revision-{}", self.name, self.revision)
    }

    /// Applies objects as the file of this scene.
    fn apply(&self, objects: &str) {
        self.world.apply(&format!("{}.yaml", self.name), &objects.replace("NAME", self.name));
    }

    /// Waits until the client's sidecar has a text in its configuration.
    fn wait(&self, text: &str) {
        self.world.wait_config("client", &text.replace("NAME", self.name));
    }

    /// A GET of a path of the service, as a workload sends it.
    fn get(&self, path: &str) -> Request {
        Request::get(&format!("http://{}{path}", self.address)).host(self.name)
    }

    /// Sends a request.
    fn send(&mut self, request: Request) -> Reply {
        self.client.one(&request)
    }

    /// Which workload answers a path.
    fn served_by(&mut self, path: &str) -> String {
        let reply = self.send(self.get(path));
        assert_eq!(reply.status, 200, "{path}: {} {}", reply.brief(), reply.body);
        reply.served_by().to_owned()
    }
}

impl Drop for Scene<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut control_plane = self.world.control_plane();
            eprintln!("{}: problems: {}", self.name, control_plane.http("/debug/problems").body);
            eprintln!("{}", control_plane.last_output());
        }
    }
}

/// A Service of the pods of `app`, which has no address.
fn service(name: &str, app: &str, port: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n  selector: {{app: \
         {app}}}\n  ports: [{{name: http, port: {port}, targetPort: 8080}}]\n"
    )
}

/// Both versions of the pods, as subsets.
const SUBSETS: &str = "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: NAME, namespace: shop}
spec:
  host: NAME
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
";

/// A list of YAML, two spaces further in.
fn indented(text: &str) -> String {
    text.lines().map(|line| format!("  {line}\n")).collect()
}

/// Who answered how often.
fn counts(replies: &[Reply]) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for reply in replies {
        assert_eq!(reply.status, 200, "{}", reply.brief());
        *counts.entry(reply.served_by().to_owned()).or_default() += 1;
    }
    counts
}

/// Fails unless a workload answered `share` of the requests, give or take five standard deviations.
fn assert_share(replies: &[Reply], workload: &str, share: f64) {
    let got = counts(replies).get(workload).copied().unwrap_or(0) as f64;
    let all = replies.len() as f64;
    let deviation = (all * share * (1.0 - share)).sqrt();
    assert!((got - all * share).abs() <= 5.0 * deviation, "{workload} got {got} of {all}, not {share}");
}

/// Fails where a request failed.
fn assert_none_failed(replies: &[Reply]) {
    let failed: Vec<String> = replies.iter().filter(|r| r.status != 200).map(Reply::brief).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), replies.len(), &failed[..failed.len().min(5)]);
    assert!(!replies.is_empty(), "nothing was sent");
}
