//! What Envoy counts, and which parts of the names become tags: as Istio's proxies have it, so that dashboards fit.

use super::TYPES;
use crate::config;
use serde_json::{Map, Value, json};
use std::{collections::BTreeMap, time::Duration};

/// The tags of the names that the mesh's clusters and listeners have.
const TAGS: [(&str, &str); 12] = [
    ("cluster_name", "^cluster(\\.(.+?);)"),
    ("http_conn_manager_prefix", "^http\\.(([\\[\\]\\w.:-]+);\\.)"),
    ("tcp_prefix", "^tcp\\.((.*?)\\.)\\w+?$"),
    ("response_code", "_rq(_(\\d{3}))$"),
    ("response_code_class", "_rq(_(\\dxx))$"),
    ("listener_address", "^listener\\.(([\\[\\]\\da-fA-F_.]+)\\.)"),
    ("mongo_prefix", "^mongo\\.(.+?)\\.(collection|cmd|cx_|op_|delays_|decoding_)(.*?)$"),
    ("cache", "(cache\\.(.+?)\\.)"),
    ("component", "(component\\.(.+?)\\.)"),
    ("authz_enforce_result", "rbac(\\.(allowed|denied))"),
    ("authz_dry_run_action", "(\\.istio_dry_run_(allow|deny)_)"),
    ("authz_dry_run_result", "(\\.shadow_(allowed|denied))"),
];
/// The starts of names that are always counted.
const PREFIXES: [&str; 8] =
    ["reporter=", "component", "istio", "cluster_manager", "listener_manager", "server", "cluster.xds-grpc", "wasm"];
/// The ends of such names.
const SUFFIXES: [&str; 4] = ["rbac.allowed", "rbac.denied", "shadow_allowed", "shadow_denied"];
/// What such names match: routes that count.
const ROUTES: &str = "vhost\\..*\\.route\\..*";

/// What metrics are written as.
const COMPRESSED: [&str; 4] = [
    "text/plain",
    "application/vnd.google.protobuf",
    "application/openmetrics-text",
    "application/openmetrics-protobuf",
];

/// What is counted beside what always is, and further tags.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Stats {
    /// Starts of names.
    pub prefixes: Vec<String>,
    /// Ends of names.
    pub suffixes: Vec<String>,
    /// Regular expressions of names.
    pub regexes: Vec<String>,
    /// Further tags, which names carry as `TAG=.=VALUE;.;`.
    pub tags: Vec<String>,
    /// The bounds of histograms whose names begin so.
    pub buckets: BTreeMap<String, Vec<f64>>,
    /// How often what was counted goes to those who are told of it.
    pub flushed: Option<Duration>,
    /// How long what nobody counts any more is kept: a multiple of the time above.
    pub kept: Option<Duration>,
    /// Whether who asks for metrics may have them compressed.
    pub compressed: bool,
}

/// How often what was counted is told, where nobody says.
const FLUSHED: Duration = Duration::from_secs(5);

impl Stats {
    /// What a proxy's settings say, and annotations of its pod before those. `address` is the pod's.
    pub fn of(settings: &Map<String, Value>, annotation: impl Fn(&str) -> Option<String>, address: &str) -> Self {
        let list = |own: &str, path: &[&str]| -> Vec<String> {
            let texts = |list: &Value| -> Vec<String> {
                list.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
            };
            let all = match (annotation(&format!("sidecar.istio.io/{own}")), path) {
                (Some(own), _) => own.split(',').map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned).collect(),
                (None, [first, rest @ ..]) => {
                    let found = settings.get(*first).and_then(|at| rest.iter().try_fold(at, |at, key| at.get(*key)));
                    found.map(texts).unwrap_or_default()
                }
                (None, []) => Vec::new(),
            };
            all.into_iter().map(|text| text.replace("{pod_ip}", address)).collect()
        };
        let own = |name: &str| annotation(&format!("sidecar.istio.io/{name}"));
        let time = |name: &str| own(name).and_then(|text| config::duration(&text).ok());
        let flushed = time("statsFlushInterval").filter(|time| !time.is_zero());
        let whole = |time: &Duration| time.as_nanos().is_multiple_of(flushed.unwrap_or(FLUSHED).as_nanos());
        let compressed = own("statsCompression").map(|text| text != "false");
        Self {
            buckets: own("statsHistogramBuckets").and_then(|t| serde_json::from_str(&t).ok()).unwrap_or_default(),
            flushed,
            kept: time("statsEvictionInterval").filter(whole),
            compressed: compressed.or(settings.get("statsCompression").and_then(Value::as_bool)).unwrap_or(true),
            prefixes: list("statsInclusionPrefixes", &["proxyStatsMatcher", "inclusionPrefixes"]),
            suffixes: list("statsInclusionSuffixes", &["proxyStatsMatcher", "inclusionSuffixes"]),
            regexes: list("statsInclusionRegexps", &["proxyStatsMatcher", "inclusionRegexps"]),
            tags: list("extraStatTags", &["extraStatTags"]),
        }
    }

    pub(super) fn render(&self) -> Value {
        let more = self.tags.iter().map(|tag| (tag.as_str(), format!("({tag}=\\.=(.*?);\\.;)")));
        let tags = TAGS.iter().map(|(tag, regex)| (*tag, (*regex).to_owned())).chain(more);
        let tags: Vec<Value> = tags.map(|(tag, regex)| json!({"tag_name": tag, "regex": regex})).collect();
        let all = |usual: &[&str], own: &[String]| -> Vec<String> {
            usual.iter().map(|s| (*s).to_owned()).chain(own.iter().cloned()).collect()
        };
        let patterns = [("prefix", all(&PREFIXES, &self.prefixes)), ("suffix", all(&SUFFIXES, &self.suffixes))];
        let patterns = patterns.into_iter().flat_map(|(how, all)| all.into_iter().map(move |text| json!({how: text})));
        let regexes = all(&[ROUTES], &self.regexes).into_iter().map(|regex| json!({"safe_regex": {"regex": regex}}));
        let buckets = self.buckets.iter().map(|(prefix, all)| json!({"match": {"prefix": prefix}, "buckets": all}));
        let buckets: Vec<Value> = buckets.collect();
        let mut rendered = json!({
            "use_all_default_tags": false,
            "stats_tags": tags,
            "stats_matcher": {"inclusion_list": {"patterns": patterns.chain(regexes).collect::<Vec<_>>()}},
        });
        if !buckets.is_empty() {
            rendered["histogram_bucket_settings"] = buckets.into();
        }
        rendered
    }

    /// The times, as fields of a bootstrap.
    pub(super) fn times(&self) -> impl Iterator<Item = (&'static str, String)> {
        let all = [("stats_flush_interval", self.flushed), ("stats_eviction_interval", self.kept)];
        all.into_iter().filter_map(|(field, time)| Some((field, format!("{}s", time?.as_secs_f64()))))
    }

    /// The filters of the listener on which metrics are read.
    pub(super) fn filters(&self) -> Vec<Value> {
        let library = |name: &str, kind: &str| {
            json!({"name": format!("stats_{name}"), "typed_config": {
                "@type": format!("{TYPES}.compression.{name}.compressor.v3.{kind}"),
            }})
        };
        let filter = |(name, kind): &(&str, &str)| {
            json!({"name": format!("envoy.filters.http.compressor.{name}"), "typed_config": {
                "@type": format!("{TYPES}.filters.http.compressor.v3.Compressor"),
                "compressor_library": library(name, kind),
                "response_direction_config": {"common_config": {"content_type": COMPRESSED}},
            }})
        };
        let all = [("brotli", "Brotli"), ("zstd", "Zstd"), ("gzip", "Gzip")];
        all.iter().filter(|_| self.compressed).map(filter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_say_how_metrics_are_told_as_they_do_to_istio_s_proxies() {
        let of = |annotations: &[(&str, &str)]| {
            let find =
                |name: &str| annotations.iter().find(|(key, _)| name.ends_with(key)).map(|(_, v)| (*v).to_owned());
            let settings = json!({"statsCompression": false, "extraStatTags": ["user"]});
            let mut bootstrap = json!({"layered_runtime": {}});
            let stats = Stats::of(settings.as_object().expect("a map"), find, "10.0.0.1");
            super::super::settle(&mut bootstrap, &stats, &Map::new());
            (bootstrap, stats.filters().len())
        };
        let (plain, filters) = of(&[]);
        assert!(plain["stats_flush_interval"].is_null() && plain["stats_eviction_interval"].is_null());
        assert!(plain["stats_config"]["histogram_bucket_settings"].is_null());
        assert_eq!(filters, 0, "the settings want none");
        let (told, filters) = of(&[
            ("statsFlushInterval", "500ms"),
            ("statsEvictionInterval", "10s"),
            ("statsHistogramBuckets", r#"{"istio":[1,5,10],"cluster.xds-grpc":[0.5]}"#),
            ("statsCompression", "true"),
        ]);
        assert_eq!((&told["stats_flush_interval"], &told["stats_eviction_interval"]), (&"0.5s".into(), &"10s".into()));
        let buckets = json!([
            {"match": {"prefix": "cluster.xds-grpc"}, "buckets": [0.5]},
            {"match": {"prefix": "istio"}, "buckets": [1.0, 5.0, 10.0]},
        ]);
        assert_eq!(told["stats_config"]["histogram_bucket_settings"], buckets);
        assert_eq!(filters, 3);
        crate::pb::from_json::<crate::pb::envoy::config::bootstrap::v3::Bootstrap>(told).expect("what Envoy reads");
        // What is kept must last for whole times of telling: 7 s are none of 5.
        let (odd, _) =
            of(&[("statsEvictionInterval", "7s"), ("statsHistogramBuckets", "[]"), ("statsFlushInterval", "")]);
        assert!(odd["stats_eviction_interval"].is_null() && odd["stats_flush_interval"].is_null());
        assert!(odd["stats_config"]["histogram_bucket_settings"].is_null());
    }
}
