//! Prometheus' annotations of a pod: they come to name the agent, which has the application's metrics on its page, and the
//! agent is told where those are.

use super::annotation::boolean;
use serde_json::{Map, Value, json};

/// The variable that tells the agent of the application's metrics.
pub(super) const VARIABLE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
const OURS: [&str; 3] = ["prometheus_io_port", "prometheus_io_path", "prometheus_io_scrape"];
const TARGETS: &str = "prometheus_istio_io_scrape_targets";
const MERGE: &str = "prometheus.istio.io/merge-metrics";
/// Ports of the mesh's own, where no application is.
const RESERVED: [u16; 9] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090];

/// What Prometheus makes of a name: all signs are the same to it.
fn sanitized(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}

fn find<'a>(annotations: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    annotations.iter().find(|(key, _)| sanitized(key) == name).and_then(|(_, value)| value.as_str())
}

/// The port that annotations name.
pub(super) fn port(annotations: &Map<String, Value>) -> Option<&str> {
    find(annotations, OURS[0])
}

/// Takes all annotations of Prometheus away.
pub(super) fn clear(annotations: &mut Map<String, Value>) {
    annotations.retain(|key, _| {
        let key = sanitized(key);
        key != TARGETS && !OURS.contains(&&*key)
    });
}

/// Has the agent's page scraped instead of the application's, and gives what the agent is told of the latter.
///
/// # Errors
///
/// When a port cannot be that of an application.
pub(super) fn merge(
    annotations: &mut Map<String, Value>,
    mesh: &Value,
    agent_port: u64,
) -> Result<Option<String>, String> {
    let wanted = annotations.get(MERGE).and_then(Value::as_str).and_then(boolean);
    let by_mesh = mesh["enablePrometheusMerge"].as_bool().unwrap_or(true);
    let scraped = find(annotations, OURS[2]).and_then(boolean).unwrap_or(true);
    let own = agent_port.to_string();
    if !scraped || !wanted.unwrap_or(by_mesh) || port(annotations) == Some(&own) {
        return Ok(None);
    }
    let text = |name: &str| find(annotations, name).unwrap_or_default().to_owned();
    let (mut port, mut path, scrape) = (text(OURS[0]), text(OURS[1]), text(OURS[2]));
    let targets = targets(&text(TARGETS));
    match targets.first() {
        Some((first_port, first_path)) => {
            for (port, _) in &targets {
                check(port, agent_port).map_err(|why| format!("{}: {why}", "prometheus.istio.io/scrape-targets"))?;
            }
            (port, path) = (first_port.clone(), first_path.clone());
        }
        None if !port.is_empty() => check(&port, agent_port).map_err(|why| format!("prometheus.io/port: {why}"))?,
        None => {}
    }
    let told = !(port.is_empty() && path.is_empty() && scrape.is_empty());
    let mut settings = json!({ "scrape": scrape, "path": path, "port": port });
    if !targets.is_empty() {
        settings["targets"] = targets.iter().map(|(port, path)| json!({ "port": port, "path": path })).collect();
    }
    clear(annotations);
    for (name, value) in [("port", own.as_str()), ("path", "/stats/prometheus"), ("scrape", "true")] {
        annotations.insert(format!("prometheus.io/{name}"), value.into());
    }
    Ok(told.then(|| settings.to_string()))
}

/// `PORT[:PATH]` with commas between. One without a port spoils all, as it does in Istio.
fn targets(text: &str) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for entry in text.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let (port, path) = entry.split_once(':').unwrap_or((entry, ""));
        if port.trim().is_empty() {
            return Vec::new();
        }
        let path = if path.trim().is_empty() { "/metrics" } else { path.trim() };
        all.push((port.trim().to_owned(), path.to_owned()));
    }
    all
}

fn check(port: &str, agent_port: u64) -> Result<(), String> {
    let number = port.parse::<u16>().ok().filter(|n| *n > 0);
    let number = number.ok_or_else(|| format!("{port:?} is no port; write a number from 1 to 65535"))?;
    match u64::from(number) == agent_port || RESERVED.contains(&number) {
        true => Err(format!("the port {number} is the sidecar's own; name the application's")),
        false => Ok(()),
    }
}
