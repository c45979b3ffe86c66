//! The proxy's settings (ProxyConfig): the mesh's defaults, those of the pod's environment, those of its annotation, each
//! before the one that is named first.

use crate::config;
use anyhow::{Context as _, Result, bail};
use serde_json::{Map, Value};
use std::time::Duration;

/// Maps whose entries count one by one.
const MERGED: [&str; 2] = ["proxyMetadata", "runtimeValues"];

/// The proxy's settings.
#[derive(Clone, Debug, Default)]
pub(super) struct ProxyConfig(Map<String, Value>);

impl ProxyConfig {
    /// Settings as YAML or JSON go before those that are there.
    pub(super) fn overlay(&mut self, text: &str) -> Result<()> {
        let value: Value = serde_norway::from_str(text).context("it is not YAML")?;
        self.overlay_value(value)
    }

    /// Settings go before those that are there.
    pub(super) fn overlay_value(&mut self, value: Value) -> Result<()> {
        let own = match value {
            Value::Object(own) => own,
            Value::Null => return Ok(()),
            _ => bail!("it is no object; write fields such as concurrency: 2"),
        };
        for (key, value) in own {
            match (self.0.get_mut(&key).and_then(Value::as_object_mut), value) {
                (Some(held), Value::Object(more)) if MERGED.contains(&&*key) => held.extend(more),
                (_, value) => drop(self.0.insert(key, value)),
            }
        }
        Ok(())
    }

    /// All of it.
    pub(super) fn all(&self) -> &Map<String, Value> {
        &self.0
    }

    /// A text that is there and not empty.
    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.as_str().filter(|text| !text.is_empty())
    }

    /// A whole number.
    pub(super) fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key)?.as_u64()
    }

    /// A time.
    pub(super) fn duration(&self, key: &str) -> Option<Duration> {
        config::duration(self.text(key)?).ok()
    }

    /// A map.
    pub(super) fn object(&self, key: &str) -> Option<&Map<String, Value>> {
        self.0.get(key)?.as_object()
    }

    /// A variable that the pod's environment does not have.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.object("proxyMetadata")?.get(name)?.as_str()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nearer_to_the_pod_goes_before_and_maps_are_joined() {
        let mut config = ProxyConfig::default();
        config.overlay("concurrency: 2\ndrainDuration: 10s\nproxyMetadata: {A: a, B: b}").expect("YAML");
        config.overlay(r#"{"concurrency":1,"proxyMetadata":{"B":"c"}}"#).expect("JSON");
        config.overlay("").expect("nothing");
        assert_eq!(
            (config.number("concurrency"), config.duration("drainDuration")),
            (Some(1), Some(Duration::from_secs(10)))
        );
        assert_eq!((config.variable("A"), config.variable("B"), config.variable("C")), (Some("a"), Some("c"), None));
        assert!(config.overlay("- 1").expect_err("a list").to_string().contains("no object"));
    }
}
