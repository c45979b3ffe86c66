//! Probes and hooks of the application, which kubelet cannot ask once mutual TLS is a must: kubelet asks the agent, and the
//! agent the application (`ISTIO_KUBE_APP_PROBERS`).

use serde_json::{Map, Value, json};

/// The variable that tells the agent of the application's probes.
pub(super) const VARIABLE: &str = "ISTIO_KUBE_APP_PROBERS";

/// The fields of a container that are probes, and what the agent calls them.
const PROBES: [(&str, &str); 3] =
    [("readinessProbe", "readyz"), ("livenessProbe", "livez"), ("startupProbe", "startupz")];
const HOOKS: [(&str, &str); 2] = [("preStop", "prestopz"), ("postStart", "poststartz")];

/// What kubelet would ask of the application, by the paths that it will ask the agent for. Named ports become numbers.
pub(super) fn collect(containers: &[&Value], agent_port: u64) -> Map<String, Value> {
    let mut found = Map::new();
    for container in containers {
        let name = container["name"].as_str().unwrap_or_default();
        for (field, path) in PROBES {
            let probe = &container[field];
            let mut told = prober(probe, container, agent_port, &["httpGet", "tcpSocket", "grpc"]);
            if let (Some(told), Some(timeout)) = (&mut told, probe["timeoutSeconds"].as_i64().filter(|t| *t != 0)) {
                told["timeoutSeconds"] = timeout.into();
            }
            found.extend(told.map(|told| (format!("/app-health/{name}/{path}"), told)));
        }
        for (field, path) in HOOKS {
            let told = prober(&container["lifecycle"][field], container, agent_port, &["httpGet", "tcpSocket"]);
            found.extend(told.map(|told| (format!("/app-lifecycle/{name}/{path}"), told)));
        }
    }
    found
}

fn prober(probe: &Value, container: &Value, agent_port: u64, kinds: &[&str]) -> Option<Value> {
    let kind = *kinds.iter().find(|kind| probe[**kind].is_object())?;
    let mut action = probe[kind].clone();
    match &action["port"] {
        _ if kind == "grpc" => {}
        Value::String(name) => {
            let ports = container["ports"].as_array().into_iter().flatten();
            // A port that nobody knows is kubelet's to complain of.
            let port = ports.into_iter().find(|port| port["name"] == name.as_str())?["containerPort"].as_u64()?;
            action["port"] = port.into();
        }
        // It was rewritten before.
        port if port.as_u64() == Some(agent_port) => return None,
        _ => {}
    }
    Some(json!({ kind: action }))
}

/// Lets kubelet ask the agent instead of the application.
pub(super) fn rewrite(container: &mut Value, agent_port: u64) {
    let name = container["name"].as_str().unwrap_or_default().to_owned();
    for (field, path) in PROBES {
        redirect(container.get_mut(field), &format!("/app-health/{name}/{path}"), agent_port, true);
    }
    for (field, path) in HOOKS {
        let hook = container.get_mut("lifecycle").and_then(|lifecycle| lifecycle.get_mut(field));
        redirect(hook, &format!("/app-lifecycle/{name}/{path}"), agent_port, false);
    }
}

fn redirect(probe: Option<&mut Value>, path: &str, agent_port: u64, grpc: bool) {
    let Some(probe) = probe.and_then(Value::as_object_mut) else { return };
    let mut action = match probe.get("httpGet").and_then(Value::as_object).cloned() {
        Some(http) => http,
        None if probe.remove("tcpSocket").is_some() => Map::new(),
        None if grpc && probe.remove("grpc").is_some() => Map::new(),
        None => return,
    };
    action.insert("path".into(), path.into());
    action.insert("port".into(), agent_port.into());
    // The agent itself speaks TLS with the application.
    if action.get("scheme").is_some_and(|scheme| scheme == "HTTPS") {
        action.insert("scheme".into(), "HTTP".into());
    }
    probe.insert("httpGet".into(), Value::Object(action));
}
