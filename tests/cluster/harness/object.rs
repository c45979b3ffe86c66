//! Objects in an API server: written as users write them, read back, and cleared away.

use futures_util::future::join_all;
use hyper::Request;
use kube::Client;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::LazyLock,
};

/// A kind: group, the version that is written, name, name in addresses, and whether it has namespaces.
type Kind = (&'static str, &'static str, &'static str, &'static str, bool);

/// The kinds that the tests write.
pub(crate) const KINDS: [Kind; 25] = [
    ("", "v1", "Namespace", "namespaces", false),
    ("", "v1", "Node", "nodes", false),
    ("", "v1", "ConfigMap", "configmaps", true),
    ("", "v1", "Secret", "secrets", true),
    ("", "v1", "ServiceAccount", "serviceaccounts", true),
    ("", "v1", "Service", "services", true),
    ("", "v1", "Pod", "pods", true),
    ("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", true),
    ("networking.k8s.io", "v1", "Ingress", "ingresses", true),
    ("networking.k8s.io", "v1", "IngressClass", "ingressclasses", false),
    ("networking.istio.io", "v1", "DestinationRule", "destinationrules", true),
    ("networking.istio.io", "v1alpha3", "EnvoyFilter", "envoyfilters", true),
    ("networking.istio.io", "v1", "Gateway", "gateways", true),
    ("networking.istio.io", "v1beta1", "ProxyConfig", "proxyconfigs", true),
    ("networking.istio.io", "v1", "ServiceEntry", "serviceentries", true),
    ("networking.istio.io", "v1", "Sidecar", "sidecars", true),
    ("networking.istio.io", "v1", "VirtualService", "virtualservices", true),
    ("networking.istio.io", "v1", "WorkloadEntry", "workloadentries", true),
    ("networking.istio.io", "v1", "WorkloadGroup", "workloadgroups", true),
    ("security.istio.io", "v1", "AuthorizationPolicy", "authorizationpolicies", true),
    ("security.istio.io", "v1", "PeerAuthentication", "peerauthentications", true),
    ("security.istio.io", "v1", "RequestAuthentication", "requestauthentications", true),
    ("telemetry.istio.io", "v1", "Telemetry", "telemetries", true),
    ("extensions.istio.io", "v1alpha1", "TrafficExtension", "trafficextensions", true),
    ("extensions.istio.io", "v1alpha1", "WasmPlugin", "wasmplugins", true),
];

/// Requests at once.
const AT_ONCE: usize = 40;

/// What the API server makes itself.
const OWN_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// The objects of an API server.
#[derive(Clone)]
pub(crate) struct Objects {
    client: Client,
}

impl Objects {
    pub(crate) fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends a request; what came back, or the status and what it says.
    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Value, String> {
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = Request::builder().method(method).uri(path).header("Content-Type", kind);
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = request.body(body).expect("a request");
        self.client.request::<Value>(request).await.map_err(|error| match error {
            kube::Error::Api(status) => format!("{} {}", status.code, status.message),
            other => other.to_string(),
        })
    }

    /// Writes objects, which the API server may refuse: those that it took, with what it said of the others.
    pub(crate) async fn offer(&self, objects: &[Value]) -> Vec<String> {
        let mut namespaces: BTreeSet<&str> =
            objects.iter().filter_map(|o| o["metadata"]["namespace"].as_str()).collect();
        let own = |o: &&Value| o["kind"] == "Namespace";
        for name in objects.iter().filter(own).filter_map(|o| o["metadata"]["name"].as_str()) {
            namespaces.remove(name);
        }
        namespaces.retain(|name| !OWN_NAMESPACES.contains(name));
        let missing = namespaces
            .into_iter()
            .map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
        let first: Vec<Value> = missing.chain(objects.iter().filter(own).cloned()).collect();
        join_all(first.iter().map(|o| self.create(o))).await.into_iter().for_each(drop);
        let others: Vec<&Value> = objects.iter().filter(|o| !own(o)).collect();
        let mut refused = Vec::new();
        for some in others.chunks(AT_ONCE) {
            let done = join_all(some.iter().map(|o| self.create(o))).await;
            refused.extend(done.into_iter().filter_map(Result::err));
        }
        refused
    }

    /// Writes objects that the API server must take.
    pub(crate) async fn put(&self, objects: &[Value]) {
        let refused = self.offer(objects).await;
        assert!(refused.is_empty(), "{refused:#?}");
    }

    /// Writes the objects of a YAML text.
    pub(crate) async fn put_yaml(&self, text: &str) {
        self.put(&documents(text)).await;
    }

    /// Writes one object, and its status beside it.
    pub(crate) async fn create(&self, object: &Value) -> Result<(), String> {
        let object = complete(object);
        let said = |why: String| format!("{} {}: {why}", object["kind"], object["metadata"]["name"]);
        let (parent, path) = paths(&object).ok_or_else(|| said("not a kind that is written".into()))?;
        self.send("POST", &parent, &object).await.map_err(said)?;
        if object["status"].is_object() {
            let status = json!({"status": object["status"]});
            let done = self.send("PATCH", &format!("{path}/status"), &status).await;
            done.map_err(|why| said(format!("status: {why}")))?;
        }
        Ok(())
    }

    /// Changes an object by a merge patch.
    pub(crate) async fn patch(&self, object: &Value, patch: &Value) -> Value {
        let (_, path) = paths(object).expect("a kind that is written");
        self.send("PATCH", &path, patch).await.unwrap_or_else(|why| panic!("{path}: {why}"))
    }

    /// Deletes an object at once.
    pub(crate) async fn delete(&self, object: &Value) {
        let (_, path) = paths(object).expect("a kind that is written");
        let at_once = json!({"gracePeriodSeconds": 0, "propagationPolicy": "Background"});
        if let Err(why) = self.send("DELETE", &path, &at_once).await {
            assert!(why.starts_with("404") || why.starts_with("409"), "{path}: {why}");
        }
        if object["kind"] == "Namespace" {
            // This is the work of a controller that is not there.
            let name = &object["metadata"]["name"];
            let done = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}, "spec": {"finalizers": []}});
            let _ = self.send("PUT", &format!("{path}/finalize"), &done).await;
        }
    }

    /// Every object of a kind, with its kind in it; none where the kind is not there.
    pub(crate) async fn all_of(&self, kind: Kind) -> Vec<Value> {
        self.list(kind, "").await
    }

    async fn list(&self, (group, version, kind, plural, _): Kind, query: &str) -> Vec<Value> {
        let path = address(group, version, plural, None) + query;
        let Ok(list) = self.send("GET", &path, &Value::Null).await else {
            return Vec::new();
        };
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let api = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
        let named = |mut item: Value| {
            item["apiVersion"] = api.as_str().into();
            item["kind"] = kind.into();
            item
        };
        items.into_iter().map(named).collect()
    }

    /// Every object of the kinds that are written.
    pub(crate) async fn all(&self) -> Vec<Value> {
        join_all(KINDS.map(|kind| self.all_of(kind))).await.concat()
    }

    /// The version of every object, by its name.
    pub(crate) async fn versions(&self) -> BTreeMap<String, String> {
        versions(self.all().await)
    }

    /// The same as watches were told them. For seconds after its storage was away, the API server does not tell them
    /// of what is new, nor that it does not.
    pub(crate) async fn versions_told(&self) -> BTreeMap<String, String> {
        versions(join_all(KINDS.map(|kind| self.list(kind, "?resourceVersion=0"))).await.concat())
    }

    /// Deletes all that tests have written.
    pub(crate) async fn clear(&self) {
        let mine = |o: &Value| {
            let name = o["metadata"]["name"].as_str().unwrap_or_default();
            let namespace = o["metadata"]["namespace"].as_str().unwrap_or_default();
            match o["kind"].as_str() {
                Some("Namespace") => !OWN_NAMESPACES.contains(&name),
                Some("ConfigMap" | "ServiceAccount") => !namespace.starts_with("kube-"),
                _ => !(namespace == "default" && name == "kubernetes"),
            }
        };
        let all: Vec<Value> = self.all().await.into_iter().filter(mine).collect();
        let (namespaces, others): (Vec<_>, Vec<_>) = all.iter().partition(|o| o["kind"] == "Namespace");
        for some in others.chunks(AT_ONCE) {
            join_all(some.iter().map(|o| self.delete(o))).await;
        }
        join_all(namespaces.into_iter().map(|o| self.delete(o))).await;
        self.define_all().await;
    }

    /// Defines the mesh's kinds, as far as they are not.
    pub(crate) async fn define_all(&self) {
        join_all(KINDS.iter().filter(|k| k.0.ends_with("istio.io")).map(|kind| self.define(kind.2))).await;
    }

    /// Defines a kind, and waits until objects of it can be written.
    pub(crate) async fn define(&self, kind: &str) {
        let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
        match self.send("POST", path, definition(kind)).await {
            Err(why) if why.starts_with("409") => return,
            done => done.expect("a definition"),
        };
        let (group, version, _, plural, _) =
            *KINDS.iter().find(|k| k.2 == kind && k.0.ends_with("istio.io")).expect("a kind");
        super::eventually("a kind is there", async || {
            self.send("GET", &address(group, version, plural, None), &Value::Null).await
        })
        .await;
    }

    /// Takes the definition of a kind away, and its objects along.
    pub(crate) async fn undefine(&self, kind: &str) {
        let name = definition(kind)["metadata"]["name"].as_str().expect("a name");
        let path = format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}");
        self.send("DELETE", &path, &Value::Null).await.expect("a definition that is there");
        super::eventually("a definition is gone", async || match self.send("GET", &path, &Value::Null).await {
            Err(why) if why.starts_with("404") => Ok(()),
            other => Err(format!("{other:?}")),
        })
        .await;
    }
}

/// The definitions that users of the mesh install.
static DEFINITIONS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/charts/base/files/crd-all.gen.yaml");
    documents(&fs::read_to_string(path).expect("definitions"))
});

fn definition(kind: &str) -> &'static Value {
    DEFINITIONS.iter().find(|d| d["spec"]["names"]["kind"] == kind).expect("a kind of the mesh")
}

fn versions(objects: Vec<Value>) -> BTreeMap<String, String> {
    let text = |o: &Value, field: &str| o["metadata"][field].as_str().unwrap_or_default().to_owned();
    let name = |o: &Value| format!("{} {}/{}", o["kind"], text(o, "namespace"), text(o, "name"));
    objects.iter().map(|o| (name(o), text(o, "resourceVersion"))).collect()
}

fn address(group: &str, version: &str, plural: &str, namespace: Option<&str>) -> String {
    let group = if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") };
    match namespace {
        Some(namespace) => format!("{group}/namespaces/{namespace}/{plural}"),
        None => format!("{group}/{plural}"),
    }
}

/// Where an object is made, and where it is then.
fn paths(object: &Value) -> Option<(String, String)> {
    let (group, version) = object["apiVersion"].as_str()?.rsplit_once('/').unwrap_or(("", "v1"));
    let (_, _, _, plural, namespaced) = KINDS.iter().find(|k| k.0 == group && object["kind"] == k.2)?;
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or("default");
    let parent = address(group, version, plural, namespaced.then_some(namespace));
    let path = format!("{parent}/{}", object["metadata"]["name"].as_str()?);
    Some((parent, path))
}

/// What files may leave out and an API server asks for.
fn complete(object: &Value) -> Value {
    let mut object = object.clone();
    if object["kind"] != "Pod" {
        return object;
    }
    if !object["spec"]["containers"].is_array() {
        object["spec"]["containers"] = json!([{"name": "app"}]);
    }
    for list in ["containers", "initContainers"] {
        for (i, container) in object["spec"][list].as_array_mut().into_iter().flatten().enumerate() {
            let fields = container.as_object_mut().expect("a container");
            fields.entry("name").or_insert_with(|| format!("c{i}").into());
            fields.entry("image").or_insert_with(|| "app".into());
        }
    }
    if object["spec"]["initContainers"].is_null() {
        object["spec"].as_object_mut().expect("a spec").remove("initContainers");
    }
    object
}

/// The documents of a YAML text.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    let read = |text: &str| mainsheet::parse::yaml::value(text).unwrap_or_else(|e| panic!("{text}: {e}"));
    let mut texts = vec![String::new()];
    for line in text.lines() {
        match line.trim_end() == "---" {
            true => texts.push(String::new()),
            false => texts.last_mut().expect("the first").push_str(&format!("{line}\n")),
        }
    }
    texts.iter().map(|t| read(t)).filter(|v| !v.is_null()).collect()
}
