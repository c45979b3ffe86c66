//! The API server, as far as installing needs it: whole objects, by requests of their own.

use crate::{
    api::kind::{self, ApiKind},
    source::kubernetes::reason,
};
use hyper::Request;
use kube::Client;
use serde_json::{Value, json};
use std::fmt;

/// The kinds that are installed, in the order in which they are applied.
pub const KINDS: [ApiKind; 18] = [
    kind::NAMESPACE,
    NETWORK_POLICY,
    ApiKind::core("ResourceQuota", "resourcequotas"),
    of("policy", "PodDisruptionBudget", "poddisruptionbudgets"),
    ApiKind::core("ServiceAccount", "serviceaccounts"),
    ApiKind::core("Secret", "secrets"),
    CONFIG_MAP,
    CUSTOM_RESOURCE_DEFINITION,
    ApiKind { namespaced: false, ..of(RIGHTS, "ClusterRole", "clusterroles") },
    ApiKind { namespaced: false, ..of(RIGHTS, "ClusterRoleBinding", "clusterrolebindings") },
    of(RIGHTS, "Role", "roles"),
    of(RIGHTS, "RoleBinding", "rolebindings"),
    SERVICE,
    of("apps", "DaemonSet", "daemonsets"),
    of("apps", "Deployment", "deployments"),
    ApiKind { versions: &["v2"], ..of("autoscaling", "HorizontalPodAutoscaler", "horizontalpodautoscalers") },
    kind::MUTATING_WEBHOOKS,
    kind::VALIDATING_WEBHOOKS,
];

const RIGHTS: &str = "rbac.authorization.k8s.io";
const NETWORK_POLICY: ApiKind = of("networking.k8s.io", "NetworkPolicy", "networkpolicies");
pub(super) const CONFIG_MAP: ApiKind = ApiKind::core("ConfigMap", "configmaps");
pub(super) const SERVICE: ApiKind = ApiKind::core("Service", "services");
pub(super) const CUSTOM_RESOURCE_DEFINITION: ApiKind = ApiKind {
    namespaced: false,
    ..of("apiextensions.k8s.io", "CustomResourceDefinition", "customresourcedefinitions")
};

const fn of(group: &'static str, name: &'static str, plural: &'static str) -> ApiKind {
    ApiKind { group, ..ApiKind::core(name, plural) }
}

/// Who an installation's fields belong to.
const MANAGER: &str = "mainsheet-install";

/// A cluster's API server.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

/// The kind of an object, if it is one that is installed.
pub(super) fn kind_of(object: &Value) -> Option<ApiKind> {
    let api = object["apiVersion"].as_str()?;
    let (group, version) = api.split_once('/').unwrap_or(("", api));
    KINDS.into_iter().find(|k| k.group == group && object["kind"] == k.name && k.versions.contains(&version))
}

/// The place of an object's kind in the order of what is applied.
pub(super) fn place(object: &Value) -> Option<usize> {
    KINDS.iter().position(|kind| object["kind"] == kind.name)
}

/// What an object is called in messages: `Deployment istio-system/istiod`.
pub fn called(object: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let (kind, metadata) = (text(&object["kind"]), &object["metadata"]);
    match metadata["namespace"].as_str().filter(|n| !n.is_empty()) {
        Some(namespace) => format!("{kind} {namespace}/{}", text(&metadata["name"])),
        None => format!("{kind} {}", text(&metadata["name"])),
    }
}

impl Cluster {
    /// The cluster that a client leads to.
    pub fn new(client: Client) -> Self {
        Self { client }
    }

    /// Sends a request; nothing where what it is about is not there.
    ///
    /// # Errors
    ///
    /// When the API server refuses it, or does not answer.
    pub async fn ask(&self, method: &str, path: &str, body: &Value) -> Result<Option<Value>, String> {
        let content = match (method, path.contains("fieldManager=")) {
            ("PATCH", true) => "application/apply-patch+yaml",
            ("PATCH", false) => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("Content-Type", content).body(body);
        match self.client.request::<Value>(request.map_err(|e| e.to_string())?).await {
            Ok(answer) => Ok(Some(answer)),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
            Err(error) => Err(reason(&error)),
        }
    }

    /// Where an object is.
    fn path(object: &Value) -> Result<String, String> {
        let kind = kind_of(object).ok_or_else(|| format!("{}: not a kind that is installed", called(object)))?;
        let namespace = object["metadata"]["namespace"].as_str().filter(|_| kind.namespaced);
        let name = object["metadata"]["name"].as_str().unwrap_or_default();
        Ok(format!("{}/{name}", kind.path(kind.versions[0], namespace)))
    }

    /// An object as it is.
    ///
    /// # Errors
    ///
    /// When the API server does not say.
    pub async fn get(&self, object: &Value) -> Result<Option<Value>, String> {
        self.ask("GET", &Self::path(object)?, &Value::Null).await
    }

    /// An object by its kind and name.
    ///
    /// # Errors
    ///
    /// When the API server does not say.
    pub async fn find(&self, kind: ApiKind, namespace: &str, name: &str) -> Result<Option<Value>, String> {
        let path = kind.path(kind.versions[0], kind.namespaced.then_some(namespace));
        self.ask("GET", &format!("{path}/{name}"), &Value::Null).await
    }

    /// Those of a kind that have labels (`a=b,c`), of one namespace or of all, each with its kind in it.
    ///
    /// # Errors
    ///
    /// When the API server does not say.
    pub async fn list(&self, kind: ApiKind, namespace: Option<&str>, labels: &str) -> Result<Vec<Value>, String> {
        let path = kind.path(kind.versions[0], namespace.filter(|_| kind.namespaced));
        let path = format!("{path}?labelSelector={}", kind::escaped(labels));
        let found = self.ask("GET", &path, &Value::Null).await;
        let found = found.map_err(|why| format!("{}: {why}", kind.plural))?.unwrap_or_default();
        let api = kind.api_version(kind.versions[0]);
        let named = |item: &Value| {
            let mut item = item.clone();
            item["apiVersion"] = api.as_str().into();
            item["kind"] = kind.name.into();
            item
        };
        Ok(found["items"].as_array().into_iter().flatten().map(named).collect())
    }

    /// Makes an object what it should be, whoever else says something of the same fields; or says what it would become.
    pub(super) async fn apply(&self, object: &Value, only_say: bool) -> Result<Value, String> {
        let dry = if only_say { "&dryRun=All" } else { "" };
        let path = format!("{}?fieldManager={MANAGER}&force=true{dry}", Self::path(object)?);
        let done = self.ask("PATCH", &path, object).await.map_err(|why| format!("{}: {why}", called(object)))?;
        done.ok_or_else(|| format!("{}: its kind is not known, or its namespace is not there", called(object)))
    }

    /// Replaces an object by another.
    pub(super) async fn replace(&self, object: &Value) -> Result<(), String> {
        self.ask("PUT", &Self::path(object)?, object)
            .await
            .map(drop)
            .map_err(|why| format!("{}: {why}", called(object)))
    }

    /// Changes some fields of an object.
    pub(super) async fn patch(&self, object: &Value, patch: &Value) -> Result<(), String> {
        self.ask("PATCH", &Self::path(object)?, patch)
            .await
            .map(drop)
            .map_err(|why| format!("{}: {why}", called(object)))
    }

    /// Deletes an object, if it is there.
    pub(super) async fn delete(&self, object: &Value) -> Result<(), String> {
        let what = json!({ "propagationPolicy": "Background" });
        self.ask("DELETE", &Self::path(object)?, &what)
            .await
            .map(drop)
            .map_err(|why| format!("{}: {why}", called(object)))
    }
}
