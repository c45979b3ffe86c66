//! What Envoy counts, and which parts of the names become tags: as Istio's proxies have it, so that dashboards fit.

use serde_json::{Map, Value, json};

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

/// What is counted beside what always is, and further tags.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    /// Starts of names.
    pub prefixes: Vec<String>,
    /// Ends of names.
    pub suffixes: Vec<String>,
    /// Regular expressions of names.
    pub regexes: Vec<String>,
    /// Further tags, which names carry as `TAG=.=VALUE;.;`.
    pub tags: Vec<String>,
}

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
        Self {
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
        json!({
            "use_all_default_tags": false,
            "stats_tags": tags,
            "stats_matcher": {"inclusion_list": {"patterns": patterns.chain(regexes).collect::<Vec<_>>()}},
        })
    }
}
