//! Machines outside the cluster: each has a WorkloadEntry, made after its WorkloadGroup when it connects, which says how it
//! is, and goes some time after it.
//!
//! Every replica writes of those that are connected to it. Who has connected last wins, as the entry says by whom it is
//! held. What is left over is removed by the replica that writes ([`leavers`]).

mod count;
pub(super) mod leavers;

use crate::{
    api::kind::{self, ApiKind},
    model::Node,
    peer::Caller,
    xds::{Attendance, Stay},
};
use hyper::{Method, Request};
use k8s_openapi::jiff::Timestamp;
use kube::Client;
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};
use tokio::{sync::watch, time};
use tonic::{Code, Status, async_trait};

use count::Counted;

pub use count::Registrations;
pub use leavers::Leaving;

pub(super) const GROUP: &str = "istio.io/autoRegistrationGroup";
pub(super) const HOLDER: &str = "istio.io/workloadController";
pub(super) const CONNECTED: &str = "istio.io/connectedAt";
pub(super) const DISCONNECTED: &str = "istio.io/disconnectedAt";
const CHECKED: &str = "proxy.istio.io/health-checks-enabled";
/// The condition that says how a machine is.
pub(super) const HEALTHY: &str = "Healthy";

/// How often a write is tried where others write at the same time.
const TRIES: u32 = 8;
/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// The longest name of an object.
const LONGEST: usize = 253;

pub(super) const ENTRIES: ApiKind = kind::WORKLOAD_ENTRY;
const GROUPS: ApiKind = kind::WORKLOAD_GROUP;

/// Keeps the entries of machines that are connected to this replica.
#[derive(Clone)]
pub struct Machines(Arc<Shared>);

struct Shared {
    client: Client,
    /// What this replica is called.
    name: String,
    /// Whether a machine must have proved to be what its group says.
    proven: bool,
    counted: Arc<Registrations>,
    /// Those that are connected, by namespace and name of their entries. Several streams of one are one stay.
    staying: Mutex<BTreeMap<(String, String), Weak<Staying>>>,
}

impl std::fmt::Debug for Machines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Machines").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// A machine that is connected. When the last of its streams is gone, so is this.
#[derive(Debug)]
struct Staying {
    health: watch::Sender<Option<Result<(), String>>>,
}

#[derive(Debug)]
struct Stream(Arc<Staying>);

impl Stay for Stream {
    fn says(&self, health: Result<(), String>) {
        self.0.health.send_if_modified(|known| {
            let news = known.as_ref() != Some(&health);
            *known = Some(health);
            news
        });
    }
}

/// What a machine asks for.
struct Arrival<'a> {
    node: &'a Node,
    namespace: &'a str,
    /// The group that its entry is made after; none where it has one.
    group: Option<&'a str>,
    entry: String,
}

impl Machines {
    /// Those of this replica of a cluster's control plane.
    pub fn new(client: Client, name: String, proven: bool) -> Self {
        Self(Arc::new(Shared { client, name, proven, counted: Arc::default(), staying: Mutex::default() }))
    }

    /// How often they came and went.
    pub fn counted(&self) -> Arc<Registrations> {
        self.0.counted.clone()
    }
}

#[async_trait]
impl Attendance for Machines {
    async fn arrive(
        &self,
        node: &Node,
        metadata: &Value,
        caller: Option<&Caller>,
    ) -> Result<Option<Box<dyn Stay>>, Status> {
        let text = |name: &str| metadata[name].as_str().filter(|text| !text.is_empty());
        let (group, entry) = (text("AUTO_REGISTER_GROUP"), text("WORKLOAD_ENTRY"));
        let entry = match (group, entry) {
            (_, Some(entry)) => entry.to_owned(),
            (Some(group), None) => entry_name(group, node),
            (None, None) => return Ok(None),
        };
        let group = group.filter(|_| text("WORKLOAD_ENTRY").is_none());
        let arrival = Arrival { node, namespace: &node.namespace, group, entry };
        if self.0.proven && caller.is_none_or(|caller| caller.identity.namespace != node.namespace) {
            return Err(Status::permission_denied("a machine must prove to be of the namespace of its entry"));
        }
        let key = (arrival.namespace.to_owned(), arrival.entry.clone());
        // It is here from now on, so that one who sees the last stream go does not write that it has gone.
        let (stay, said) = self.0.stay(&key);
        let connected = self.0.connect(&arrival, caller, &Timestamp::now().to_string()).await;
        if arrival.group.is_some() {
            match &connected {
                Ok(counted) => self.0.counted.count(*counted),
                Err(status) if status.code() == Code::PermissionDenied => {}
                Err(_) => self.0.counted.count(Counted::Failed),
            }
        }
        connected?;
        if let Some(said) = said {
            tracing::info!(namespace = arrival.namespace, entry = arrival.entry, "a machine has come");
            tokio::spawn(self.0.clone().attend(key, arrival.group.is_some(), said));
        }
        Ok(Some(Box::new(Stream(stay))))
    }
}

/// How a machine says that it is.
type Said = watch::Receiver<Option<Result<(), String>>>;

impl Shared {
    /// The stay of a machine, and where it says how it is if it has just begun.
    fn stay(&self, key: &(String, String)) -> (Arc<Staying>, Option<Said>) {
        let mut staying = self.staying.lock().unwrap_or_else(PoisonError::into_inner);
        staying.retain(|_, stay| stay.strong_count() > 0);
        if let Some(stay) = staying.get(key).and_then(Weak::upgrade) {
            return (stay, None);
        }
        let (health, said) = watch::channel(None);
        let stay = Arc::new(Staying { health });
        staying.insert(key.clone(), Arc::downgrade(&stay));
        (stay, Some(said))
    }

    /// Notes in the entry that the machine is connected here, and makes the entry where it has to.
    async fn connect(&self, arrival: &Arrival<'_>, caller: Option<&Caller>, at: &str) -> Result<Counted, Status> {
        let group = match arrival.group {
            Some(group) => Some(self.group(arrival.namespace, group).await?),
            None => None,
        };
        for _ in 0..TRIES {
            let found = self.find(&path(arrival.namespace, Some(&arrival.entry))).await?;
            let of = found.as_ref().map(|entry| &entry["spec"]).or(group.as_ref().map(|g| &g["spec"]["template"]));
            self.judge(of, caller)?;
            let request = match (&found, &group) {
                (Some(found), _) => {
                    let annotations = json!({ HOLDER: self.name, CONNECTED: at, DISCONNECTED: null });
                    let version = &found["metadata"]["resourceVersion"];
                    let body = json!({ "metadata": { "resourceVersion": version, "annotations": annotations } });
                    super::duty::request(Method::PATCH, &path(arrival.namespace, Some(&arrival.entry)), &body)
                }
                (None, Some(group)) => {
                    let entry = entry(arrival, group, (&self.name, at));
                    super::duty::request(Method::POST, &path(arrival.namespace, None), &entry)
                }
                (None, None) => {
                    let said = format!("there is no WorkloadEntry {}/{}", arrival.namespace, arrival.entry);
                    return Err(Status::failed_precondition(said));
                }
            };
            match self.send(request).await {
                Ok(_) if found.is_some() => return Ok(Counted::Updated),
                Ok(_) => return Ok(Counted::Made),
                // Somebody else was faster, or it has gone meanwhile.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
                Err(error) => return Err(unavailable(&error)),
            }
        }
        Err(Status::unavailable("the machine's entry is written by too many at once"))
    }

    /// Whether a caller may be a machine whose entry, or its template, says this.
    fn judge(&self, spec: Option<&Value>, caller: Option<&Caller>) -> Result<(), Status> {
        let account = spec.and_then(|spec| spec["serviceAccount"].as_str()).filter(|account| !account.is_empty());
        let is = |account: &str| caller.is_some_and(|caller| *caller.identity.account == *account);
        match account.is_none_or(is) || !self.proven {
            true => Ok(()),
            false => Err(Status::permission_denied("the machine's entry is for another service account")),
        }
    }

    async fn group(&self, namespace: &str, name: &str) -> Result<Value, Status> {
        let found = self.find(&format!("{}/{name}", GROUPS.path("v1", Some(namespace)))).await?;
        found.ok_or_else(|| Status::failed_precondition(format!("there is no WorkloadGroup {namespace}/{name}")))
    }

    async fn find(&self, path: &str) -> Result<Option<Value>, Status> {
        let mut request = Request::new(Vec::new());
        *request.uri_mut() = path.parse().map_err(|_| Status::invalid_argument("a name that no object has"))?;
        match self.send(request).await {
            Ok(found) => Ok(Some(found)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(unavailable(&error)),
        }
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<Value, kube::Error> {
        let late = |_| kube::Error::Service("no answer".into());
        time::timeout(PATIENCE, self.client.request(request)).await.map_err(late)?
    }

    /// Writes how a machine is, as long as it is there, and then that it has gone.
    async fn attend(self: Arc<Self>, (namespace, entry): (String, String), registered: bool, mut said: Said) {
        let path = path(&namespace, Some(&entry));
        while said.changed().await.is_ok() {
            let Some(health) = said.borrow_and_update().clone() else { continue };
            let body = |found: &Value| {
                // The entries of others are not asked how they are, and their status is not this control plane's.
                let checked = found["metadata"]["annotations"][CHECKED].is_string();
                checked.then(|| (format!("{path}/status"), healthy(found, &health)))
            };
            self.change(&path, body).await;
        }
        let body = |found: &Value| {
            let holds = found["metadata"]["annotations"][HOLDER] == self.name.as_str();
            let here = self.is_here(&namespace, &entry);
            let annotations = json!({ CONNECTED: null, DISCONNECTED: Timestamp::now().to_string() });
            (holds && !here).then(|| (path.clone(), json!({ "metadata": { "annotations": annotations } })))
        };
        match self.change(&path, body).await {
            Some(true) if registered => self.counted.count(Counted::Left),
            None if registered => self.counted.count(Counted::Failed),
            _ => {}
        }
        tracing::info!(namespace, entry, "a machine has gone");
    }

    /// Whether a machine has come back here.
    fn is_here(&self, namespace: &str, entry: &str) -> bool {
        let staying = self.staying.lock().unwrap_or_else(PoisonError::into_inner);
        staying.get(&(namespace.to_owned(), entry.to_owned())).is_some_and(|stay| stay.strong_count() > 0)
    }

    /// Changes an entry as it is found, until that is done or there is nothing to change: whether it was changed, where
    /// that is known.
    async fn change(&self, path: &str, body: impl Fn(&Value) -> Option<(String, Value)>) -> Option<bool> {
        for round in 0..TRIES {
            time::sleep(Duration::from_millis(100) * (1 << round) * u32::from(round > 0)).await;
            let Ok(found) = self.find(path).await else { continue };
            let Some((at, mut change)) = found.as_ref().and_then(&body) else { return Some(false) };
            change["metadata"]["resourceVersion"] =
                found.map_or(Value::Null, |f| f["metadata"]["resourceVersion"].clone());
            match self.send(super::duty::request(Method::PATCH, &at, &change)).await {
                Ok(_) => return Some(true),
                Err(error) => tracing::debug!(path, %error, "a machine's entry is written again"),
            }
        }
        tracing::warn!(path, "a machine's entry could not be written");
        None
    }
}

fn unavailable(error: &kube::Error) -> Status {
    tracing::warn!(%error, "a machine's entry cannot be written");
    Status::unavailable("the cluster does not take the machine's entry")
}

/// The path of the entries of a namespace, or of one of them.
fn path(namespace: &str, name: Option<&str>) -> String {
    let all = ENTRIES.path("v1", Some(namespace));
    name.map_or_else(|| all.clone(), |name| format!("{all}/{name}"))
}

/// What the entry of a machine is called.
fn entry_name(group: &str, node: &Node) -> String {
    let ip = node.ips.first().map(|ip| ip.to_string().replace(':', "-")).unwrap_or_default();
    let network = if node.network.is_empty() { String::new() } else { format!("-{}", node.network) };
    let name = format!("{group}-{ip}{network}");
    name[name.ceil_char_boundary(name.len().saturating_sub(LONGEST))..].trim_start_matches(['-', '.']).to_owned()
}

/// The entry of a machine that has come to this replica, after its group.
fn entry(arrival: &Arrival<'_>, group: &Value, (holder, at): (&str, &str)) -> Value {
    let node = arrival.node;
    let spec = &group["spec"];
    let mut labels = Map::new();
    for more in [&spec["template"]["labels"], &spec["metadata"]["labels"]] {
        labels.extend(more.as_object().cloned().unwrap_or_default());
    }
    labels.extend(node.labels.iter().map(|(name, value)| (name.to_string(), value.as_ref().into())));
    let mut annotations = spec["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
    annotations.insert(GROUP.into(), group["metadata"]["name"].clone());
    annotations.insert(HOLDER.into(), holder.into());
    annotations.insert(CONNECTED.into(), at.into());
    if !spec["probe"].is_null() {
        annotations.insert(CHECKED.into(), "true".into());
    }
    let mut entry = spec["template"].as_object().cloned().unwrap_or_default();
    entry.insert("address".into(), node.ips.first().map(ToString::to_string).unwrap_or_default().into());
    if !labels.is_empty() {
        entry.insert("labels".into(), labels.clone().into());
    }
    if !node.network.is_empty() {
        entry.insert("network".into(), node.network.as_ref().into());
    }
    let locality = node.locality.to_string();
    if !locality.is_empty() {
        entry.insert("locality".into(), locality.into());
    }
    json!({
        "apiVersion": ENTRIES_VERSION, "kind": ENTRIES.name,
        "metadata": {
            "name": arrival.entry, "namespace": arrival.namespace, "labels": labels, "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": ENTRIES_VERSION, "kind": GROUPS.name, "controller": true,
                "name": group["metadata"]["name"], "uid": group["metadata"]["uid"],
            }],
        },
        "spec": entry,
    })
}

const ENTRIES_VERSION: &str = "networking.istio.io/v1";

/// The status of an entry whose machine says that it is well, or what ails it.
fn healthy(found: &Value, health: &Result<(), String>) -> Value {
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let all = found["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let (status, message) = match health {
        Ok(()) => ("True", ""),
        Err(why) => ("False", why.as_str()),
    };
    let before = all.iter().find(|c| c["type"] == HEALTHY && c["status"] == status);
    let since = before.map_or_else(|| now.as_str().into(), |c| c["lastTransitionTime"].clone());
    let condition = json!({
        "type": HEALTHY, "status": status, "message": message,
        "lastProbeTime": now, "lastTransitionTime": since,
    });
    let others = all.into_iter().filter(|c| c["type"] != HEALTHY);
    let conditions: Vec<Value> = others.chain([condition]).collect();
    json!({ "status": { "conditions": conditions } })
}
