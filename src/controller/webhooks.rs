//! The roots by which the API server knows the control plane's webhooks: `caBundle` of the configurations of injection and
//! validation that lead to this control plane's namespace, of whichever revision, as all have one authority.
//!
//! Validation of this revision becomes a must (`failurePolicy: Fail`) once the API server was seen to ask for it: before that
//! nobody could apply anything.

use super::duty::{Duty, Key, request};
use crate::{
    api::kind::{ApiKind, MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS},
    parse::{self, Context},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hyper::{Method, Request};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

/// What the names of the webhooks end with, of either kind of configuration.
const SUFFIXES: [&str; 2] = ["sidecar-injector.istio.io", "validation.istio.io"];

const KINDS: [ApiKind; 2] = [MUTATING_WEBHOOKS, VALIDATING_WEBHOOKS];

/// The place of configurations of validation among these.
const VALIDATING: usize = 1;
/// The webhooks that are to become a must. That of the mesh's settings is not: they must be mendable in any case.
const STRICT: [&str; 2] = ["validation.istio.io", "rev.validation.istio.io"];

/// Keeps the roots in configurations of webhooks.
#[derive(Debug)]
pub(super) struct Webhooks {
    context: Arc<Context>,
    roots: watch::Receiver<String>,
    /// Whether the API server was seen to ask validation.
    proven: Option<watch::Receiver<bool>>,
    /// The version, the revision and the webhooks of each configuration that has one of ours.
    found: BTreeMap<Key, (Value, String, Value)>,
}

impl Webhooks {
    pub(super) fn new(
        context: &Arc<Context>,
        roots: watch::Receiver<String>,
        proven: Option<watch::Receiver<bool>>,
    ) -> Self {
        Self { context: context.clone(), roots, proven, found: BTreeMap::new() }
    }

    fn is_ours(&self, kind: usize, webhook: &Value) -> bool {
        let named = webhook["name"].as_str().is_some_and(|name| name.ends_with(SUFFIXES[kind]));
        named && webhook["clientConfig"]["service"]["namespace"] == *self.context.system_namespace
    }
}

impl Duty for Webhooks {
    fn watched(&self) -> Vec<(ApiKind, Option<String>)> {
        KINDS.map(|kind| (kind, None)).to_vec()
    }

    fn seen(&mut self, key: &Key, object: &Value) -> Vec<Key> {
        let all = object["webhooks"].as_array().map(Vec::as_slice).unwrap_or_default();
        // Configurations of others may have such names too; Istio's are all marked with a revision.
        let revision = object["metadata"]["labels"]["istio.io/rev"].as_str().unwrap_or_default();
        match !revision.is_empty() && all.iter().any(|webhook| self.is_ours(key.0, webhook)) {
            true => {
                let version = object["metadata"]["resourceVersion"].clone();
                self.found.insert(key.clone(), (version, revision.to_owned(), object["webhooks"].clone()));
                vec![key.clone()]
            }
            false => self.gone(key),
        }
    }

    fn gone(&mut self, key: &Key) -> Vec<Key> {
        self.found.remove(key);
        Vec::new()
    }

    fn changed(&mut self) -> Vec<Key> {
        self.found.keys().cloned().collect()
    }

    fn request(&mut self, key: &Key) -> Option<Request<Vec<u8>>> {
        let (kind, _, name) = key;
        let (version, revision, found) = self.found.get(key)?;
        let bundle = STANDARD.encode(self.roots.borrow().as_bytes());
        let mut webhooks = found.clone();
        let ours = webhooks.as_array_mut()?.iter_mut().filter(|webhook| self.is_ours(*kind, webhook));
        let proven = self.proven.as_ref().is_some_and(|proven| *proven.borrow());
        let strict = proven && *kind == VALIDATING && parse::is_revision(revision, &self.context);
        for webhook in ours {
            webhook["clientConfig"]["caBundle"] = bundle.as_str().into();
            if strict && STRICT.iter().any(|name| webhook["name"] == *name) {
                webhook["failurePolicy"] = "Fail".into();
            }
        }
        // The list is replaced as a whole, so its version is named.
        let body = json!({ "metadata": { "resourceVersion": version }, "webhooks": webhooks });
        let path = format!("{}/{name}", KINDS[*kind].path("v1", None));
        (webhooks != *found).then(|| request(Method::PATCH, &path, &body))
    }
}
