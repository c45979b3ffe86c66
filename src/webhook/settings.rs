//! What is injected and when, as the ConfigMap `istio-sidecar-injector` says it: `config` with the templates, and `values`
//! for them.

use crate::{
    parse::yaml,
    template::{self, Template},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// The chart's own templates and values.
pub(super) const SIDECAR: &str = include_str!("../../deploy/charts/istiod/files/sidecar.yaml");
const GATEWAY: &str = include_str!("../../deploy/charts/istiod/files/gateway.yaml");
const VALUES: &str = include_str!("../../deploy/charts/istiod/values.yaml");

/// Whether pods are injected that do not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Policy {
    /// They are.
    Enabled,
    /// They are not.
    Disabled,
    /// Nothing is injected, whatever pods say: the policy is a word that means nothing.
    Unknown,
}

/// What chooses pods by their labels.
#[derive(Clone, PartialEq, Debug)]
pub struct Selector(Vec<(String, Needed)>);

/// What a label must be like.
#[derive(Clone, PartialEq, Debug)]
enum Needed {
    In(Vec<String>),
    NotIn(Vec<String>),
    There,
    NotThere,
}

/// What is injected and when.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether pods are injected that do not say.
    pub policy: Policy,
    /// The templates of pods that name none.
    pub default_templates: Vec<String>,
    /// The templates by their names, or why they cannot be used.
    pub templates: BTreeMap<String, Result<Template, template::Error>>,
    /// Names for several templates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Pods that are not injected.
    pub never: Vec<Selector>,
    /// Pods that are injected.
    pub always: Vec<Selector>,
    /// Annotations for all pods that are injected.
    pub annotations: BTreeMap<String, String>,
    /// What templates are told.
    pub values: Value,
    /// What of it cannot be used, for the log.
    pub said: Vec<String>,
}

impl Settings {
    /// Reads the two texts of the ConfigMap.
    ///
    /// # Errors
    ///
    /// When one of them is not YAML, or has something else where a field belongs.
    pub fn parse(config: &str, values: &str) -> Result<Self, String> {
        let config = yaml::value(config).map_err(|e| format!("`config` is not YAML: {e}"))?;
        let values = yaml::value(values).map_err(|e| format!("`values` is not YAML: {e}"))?;
        match (config, values) {
            (Value::Object(config), values @ Value::Object(_)) => Self::of(&config, values),
            _ => Err("`config` and `values` are maps of fields; helm upgrade writes them anew".into()),
        }
    }

    /// Those that the chart comes with.
    pub fn built_in() -> Self {
        let values = yaml::value(VALUES).expect("the chart's values are YAML, as a test holds");
        let config = json!({ "policy": "enabled", "templates": { "sidecar": SIDECAR, "gateway": GATEWAY } });
        let config = config.as_object().cloned().unwrap_or_default();
        Self::of(&config, scoped(values)).expect("the chart's settings are right, as a test holds")
    }

    /// The same with other values where these say something (as `--set` of Helm does).
    #[must_use]
    pub fn with_values(mut self, values: Value) -> Self {
        overlay(&mut self.values, values);
        self
    }

    fn of(config: &Map<String, Value>, values: Value) -> Result<Self, String> {
        let mut said = Vec::new();
        let policy = match config.get("policy").and_then(Value::as_str) {
            Some("enabled") => Policy::Enabled,
            Some("disabled") => Policy::Disabled,
            other => {
                said.push(format!("policy is {other:?}: nothing is injected; write `enabled` or `disabled`"));
                Policy::Unknown
            }
        };
        let mut templates = BTreeMap::new();
        for (name, text) in map(config, "templates")? {
            let text = text.as_str().ok_or_else(|| format!("templates.{name} is no text"))?;
            let template = Template::parse(text);
            said.extend(template.as_ref().err().map(|error| format!("the template {name} cannot be used: {error}")));
            templates.insert(name.clone(), template);
        }
        let mut default_templates = texts(config.get("defaultTemplates"), "defaultTemplates")?;
        if default_templates.is_empty() {
            default_templates.push("sidecar".to_owned());
        }
        let mut aliases = BTreeMap::new();
        for (name, of) in map(config, "aliases")? {
            aliases.insert(name.clone(), texts(Some(of), "aliases")?);
        }
        let mut annotations = BTreeMap::new();
        for (name, value) in map(config, "injectedAnnotations")? {
            let value = value.as_str().ok_or_else(|| format!("injectedAnnotations[{name}] is no text"))?;
            annotations.insert(name.clone(), value.to_owned());
        }
        let mut selectors = |name: &str| -> Vec<Selector> {
            let all = config.get(name).and_then(Value::as_array).into_iter().flatten();
            let read: Vec<_> = all.map(Selector::parse).collect();
            said.extend(read.iter().filter_map(|s| s.as_ref().err()).map(|why| format!("{name}: {why}")));
            read.into_iter().filter_map(Result::ok).collect()
        };
        let (never, always) = (selectors("neverInjectSelector"), selectors("alwaysInjectSelector"));
        Ok(Self { policy, default_templates, templates, aliases, never, always, annotations, values, said })
    }

    /// The names of the templates that a list of names stands for.
    pub(super) fn resolve<'a>(&'a self, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let mut all = Vec::new();
        for name in names {
            match self.aliases.get(name) {
                Some(of) => all.extend(of.iter().map(String::as_str)),
                None => all.push(name),
            }
        }
        all
    }
}

/// The parts of the chart's values that templates see.
fn scoped(mut values: Value) -> Value {
    let (cni, env) = (values["cni"].take(), values["env"].take());
    json!({
        "global": values["global"].take(),
        "gateways": values["gateways"].take(),
        "pilot": { "cni": cni, "env": env },
        "revision": values["revision"].take(),
        "sidecarInjectorWebhook": values["sidecarInjectorWebhook"].take(),
    })
}

/// Values into others, map by map.
fn overlay(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                overlay(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

fn map<'a>(
    config: &'a Map<String, Value>,
    name: &str,
) -> Result<impl Iterator<Item = (&'a String, &'a Value)>, String> {
    match config.get(name) {
        None | Some(Value::Null) => Ok(None.into_iter().flatten()),
        Some(Value::Object(all)) => Ok(Some(all).into_iter().flatten()),
        Some(_) => Err(format!("{name} is no map")),
    }
}

fn texts(value: Option<&Value>, name: &str) -> Result<Vec<String>, String> {
    match value {
        None | Some(Value::Null) => Ok(Vec::new()),
        Some(Value::Array(all)) => {
            let text = |v: &Value| v.as_str().map(str::to_owned).ok_or_else(|| format!("{name} is no list of names"));
            all.iter().map(text).collect()
        }
        Some(_) => Err(format!("{name} is no list of names")),
    }
}

impl Selector {
    /// Reads a label selector.
    ///
    /// # Errors
    ///
    /// When it has an operator that there is not, or one without its values.
    pub fn parse(value: &Value) -> Result<Self, String> {
        let mut needed = Vec::new();
        for (key, value) in value["matchLabels"].as_object().into_iter().flatten() {
            needed.push((key.clone(), Needed::In(vec![value.as_str().unwrap_or_default().to_owned()])));
        }
        for expression in value["matchExpressions"].as_array().into_iter().flatten() {
            let key = expression["key"].as_str().ok_or("an expression has no key")?;
            let values = texts(expression.get("values"), "values")?;
            let one = match expression["operator"].as_str().unwrap_or_default() {
                "In" if !values.is_empty() => Needed::In(values),
                "NotIn" if !values.is_empty() => Needed::NotIn(values),
                "Exists" if values.is_empty() => Needed::There,
                "DoesNotExist" if values.is_empty() => Needed::NotThere,
                other => return Err(format!("{key}: {other} with {} values means nothing", values.len())),
            };
            needed.push((key.to_owned(), one));
        }
        Ok(Self(needed))
    }

    /// Whether it chooses labels. One that says nothing chooses none.
    pub(super) fn matches(&self, labels: &Value) -> bool {
        let holds = |(key, needed): &(String, Needed)| {
            let value = labels.get(key).and_then(Value::as_str);
            let among = |all: &[String]| value.is_some_and(|value| all.iter().any(|v| v == value));
            match needed {
                Needed::In(all) => among(all),
                Needed::NotIn(all) => !among(all),
                Needed::There => value.is_some(),
                Needed::NotThere => value.is_none(),
            }
        };
        !self.0.is_empty() && self.0.iter().all(holds)
    }
}
