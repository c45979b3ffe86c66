//! AuthorizationPolicy (`security.istio.io`). Its parts are read one by one, so that a broken one spoils no other.

use super::destination_rule::LabelSelector;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

/// `spec` of an AuthorizationPolicy.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct AuthorizationPolicy {
    /// The workloads it is for.
    #[schemars(with = "LabelSelector")]
    pub selector: Option<Value>,
    /// The one object it is for instead.
    #[schemars(with = "TargetRef")]
    pub target_ref: Option<Value>,
    /// The objects it is for instead.
    #[schemars(with = "Vec<TargetRef>")]
    pub target_refs: Option<Value>,
    /// What happens to requests that a rule takes.
    #[schemars(with = "Action")]
    pub action: Option<Value>,
    /// Who is asked.
    #[schemars(with = "Provider")]
    pub provider: Option<Value>,
    /// The rules.
    #[schemars(with = "Vec<Rule>")]
    pub rules: Option<Value>,
}

/// What happens to requests that a rule takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// They are allowed, and others are not.
    #[default]
    Allow,
    /// They are denied.
    Deny,
    /// They are noted.
    Audit,
    /// Somebody else is asked.
    Custom,
}

/// Who is asked.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Provider {
    /// The name among the mesh's `extensionProviders`.
    pub name: String,
}

/// An object that a policy is for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct TargetRef {
    /// The group of its kind.
    pub group: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its namespace, which must be the policy's.
    pub namespace: String,
}

/// A rule.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Rule {
    /// Of whom requests come.
    pub from: Option<Vec<Option<From>>>,
    /// What is asked for.
    pub to: Option<Vec<Option<To>>>,
    /// What else must be so.
    pub when: Option<Vec<Option<Condition>>>,
}

/// Of whom requests come.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct From {
    /// Of these.
    pub source: Option<Source>,
}

/// What is asked for.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(default)]
pub struct To {
    /// This.
    pub operation: Option<Operation>,
}

/// Of whom requests come: each list that is not empty must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the fields are Istio's and say what they are")]
pub struct Source {
    pub principals: Vec<String>,
    pub not_principals: Vec<String>,
    pub request_principals: Vec<String>,
    pub not_request_principals: Vec<String>,
    pub namespaces: Vec<String>,
    pub not_namespaces: Vec<String>,
    pub service_accounts: Vec<String>,
    pub not_service_accounts: Vec<String>,
    pub trust_domains: Vec<String>,
    pub not_trust_domains: Vec<String>,
    pub ip_blocks: Vec<String>,
    pub not_ip_blocks: Vec<String>,
    pub remote_ip_blocks: Vec<String>,
    pub not_remote_ip_blocks: Vec<String>,
}

/// What is asked for: each list that is not empty must hold.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs, reason = "the fields are Istio's and say what they are")]
pub struct Operation {
    pub hosts: Vec<String>,
    pub not_hosts: Vec<String>,
    pub ports: Vec<String>,
    pub not_ports: Vec<String>,
    pub methods: Vec<String>,
    pub not_methods: Vec<String>,
    pub paths: Vec<String>,
    pub not_paths: Vec<String>,
}

/// What else must be so.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Condition {
    /// What is looked at.
    pub key: String,
    /// The values of which one must hold.
    pub values: Vec<String>,
    /// The values of which none may.
    pub not_values: Vec<String>,
}
