//! The words between a container runtime and a plugin: variables and an object in, an object out.

use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

/// The versions of the protocol that are spoken.
pub(super) const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Why something could not be done, as runtimes understand it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Failure {
    code: u16,
    text: String,
}

impl Failure {
    pub(super) const VERSION: u16 = 1;
    pub(super) const VARIABLES: u16 = 4;
    pub(super) const DECODING: u16 = 6;
    pub(super) const CONFIGURATION: u16 = 7;
    pub(super) const AGAIN: u16 = 11;
    pub(super) const UNAVAILABLE: u16 = 50;
    /// Codes of a plugin's own begin here.
    pub(super) const RULES: u16 = 100;
    pub(super) const NOT_CAPTURED: u16 = 101;

    pub(super) fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }

    /// As it is written to the standard output.
    pub(super) fn to_json(&self, version: &str) -> Value {
        json!({"cniVersion": version, "code": self.code, "msg": self.text})
    }
}

/// What the plugin is told on its standard input.
#[derive(Clone, Default, PartialEq, Debug, Deserialize)]
#[serde(default)]
pub(super) struct Configuration {
    #[serde(rename = "cniVersion")]
    pub(super) version: String,
    #[serde(rename = "prevResult")]
    pub(super) result: Option<Value>,
    pub(super) cni_agent_run_dir: PathBuf,
    pub(super) exclude_namespaces: Vec<String>,
    pub(super) pod_namespace: String,
    pub(super) native_nftables: bool,
}

impl Configuration {
    pub(super) fn read(text: &str) -> Result<Self, Failure> {
        let error = |e| Failure::new(Failure::DECODING, format!("the configuration on the standard input: {e}"));
        let configuration: Self = serde_json::from_str(text).map_err(error)?;
        if VERSIONS.contains(&configuration.version.as_str()) {
            return Ok(configuration);
        }
        let said = format!("cniVersion {:?}; these are known: {}", configuration.version, VERSIONS.join(", "));
        Err(Failure::new(Failure::VERSION, said))
    }

    /// The result of a plugin that adds nothing to what those before it did.
    pub(super) fn result(&self) -> Value {
        self.result.clone().unwrap_or_else(|| json!({"cniVersion": self.version}))
    }
}

/// The pod that a call is about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PodName {
    pub(super) namespace: String,
    pub(super) name: String,
}

impl PodName {
    /// Out of `CNI_ARGS`. None where it is not of Kubernetes.
    pub(super) fn read(arguments: &str) -> Option<Self> {
        let pairs = || arguments.split(';').filter_map(|pair| pair.split_once('='));
        let value = |key| pairs().find(|(k, _)| *k == key).map(|(_, v)| v.to_owned()).filter(|v| !v.is_empty());
        Some(Self { namespace: value("K8S_POD_NAMESPACE")?, name: value("K8S_POD_NAME")? })
    }
}
