//! The roots that workloads trust, as the ClusterTrustBundle that pods can mount, where the cluster has such.

use super::duty::{Duty, Key, request};
use crate::api::kind::ApiKind;
use hyper::{Method, Request};
use serde_json::{Value, json};
use tokio::sync::watch;

/// Its name, which begins with that of the signer.
const NAME: &str = "istio.io:istiod-ca:root-cert";
const SIGNER: &str = "istio.io/istiod-ca";

const BUNDLES: ApiKind = ApiKind {
    group: "certificates.k8s.io",
    versions: &["v1", "v1beta1", "v1alpha1"],
    namespaced: false,
    ..ApiKind::core("ClusterTrustBundle", "clustertrustbundles")
};

/// Keeps the bundle.
#[derive(Debug)]
pub(super) struct Bundle {
    roots: watch::Receiver<String>,
    /// The version that the cluster has the kind in.
    version: Option<&'static str>,
    /// What was found: the version of the object, and its roots.
    found: Option<(Value, String)>,
}

impl Bundle {
    pub(super) fn new(roots: watch::Receiver<String>) -> Self {
        Self { roots, version: None, found: None }
    }

    fn key() -> Key {
        (0, String::new(), NAME.to_owned())
    }
}

impl Duty for Bundle {
    fn watched(&self) -> Vec<(ApiKind, Option<String>)> {
        vec![(BUNDLES, Some(format!("metadata.name={NAME}")))]
    }

    fn seen(&mut self, _: &Key, object: &Value) -> Vec<Key> {
        let roots = object["spec"]["trustBundle"].as_str().unwrap_or_default().to_owned();
        self.found = Some((object["metadata"]["resourceVersion"].clone(), roots));
        vec![Self::key()]
    }

    fn gone(&mut self, _: &Key) -> Vec<Key> {
        self.found = None;
        vec![Self::key()]
    }

    fn changed(&mut self) -> Vec<Key> {
        vec![Self::key()]
    }

    fn whole(&mut self, _: usize, version: Option<&'static str>) -> Vec<Key> {
        self.version = version;
        vec![Self::key()]
    }

    fn request(&mut self, _: &Key) -> Option<Request<Vec<u8>>> {
        let version = self.version?;
        let roots = self.roots.borrow().clone();
        let path = BUNDLES.path(version, None);
        match &self.found {
            Some((_, found)) if *found == roots => None,
            Some((at, _)) => {
                let body = json!({ "metadata": { "resourceVersion": at }, "spec": { "trustBundle": roots } });
                Some(request(Method::PATCH, &format!("{path}/{NAME}"), &body))
            }
            None => {
                let body = json!({
                    "apiVersion": format!("{}/{version}", BUNDLES.group),
                    "kind": BUNDLES.name,
                    "metadata": { "name": NAME, "labels": { "istio.io/config": "true" } },
                    "spec": { "signerName": SIGNER, "trustBundle": roots },
                });
                Some(request(Method::POST, &path, &body))
            }
        }
    }
}
