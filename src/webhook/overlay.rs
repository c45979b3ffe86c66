//! What a pod says itself of containers that are injected, which goes before the templates, and is kept so that it does so
//! again when the pod is injected once more.

use super::{
    inject::{Facts, INIT, PROXY, STATUS, VALIDATION, container_mut, entries},
    merge::merge,
    scrape,
};
use serde_json::{Map, Value, json};

/// The annotation that keeps what the pod said itself.
const OVERRIDES: &str = "proxy.istio.io/overrides";
const LISTS: [&str; 2] = ["containers", "initContainers"];

/// What templates alone come to: the names of what is injected.
#[derive(Clone, Debug, Default)]
pub(super) struct Injected {
    init_containers: Vec<String>,
    containers: Vec<String>,
    volumes: Vec<String>,
    secrets: Vec<String>,
}

impl Injected {
    pub(super) fn of(pod: &Value) -> Self {
        let names = |list: &str| {
            entries(&pod["spec"][list]).iter().filter_map(|e| e["name"].as_str()).map(str::to_owned).collect()
        };
        Self {
            init_containers: names("initContainers"),
            containers: names("containers"),
            volumes: names("volumes"),
            secrets: names("imagePullSecrets"),
        }
    }

    /// The annotation that says what was injected.
    pub(super) fn status(&self, revision: &str) -> String {
        // Where there is nothing Go writes null, and so do others expect it.
        let list = |names: &[String]| if names.is_empty() { Value::Null } else { json!(names) };
        let revision = if revision.is_empty() { "default" } else { revision };
        json!({
            "initContainers": list(&self.init_containers),
            "containers": list(&self.containers),
            "volumes": list(&self.volumes),
            "imagePullSecrets": list(&self.secrets),
            "revision": revision,
        })
        .to_string()
    }

    fn containers(&self, list: &str) -> &[String] {
        if list == "containers" { &self.containers } else { &self.init_containers }
    }
}

fn annotation(pod: &Value, name: &str) -> Result<Value, String> {
    match pod["metadata"]["annotations"][name].as_str() {
        None => Ok(Value::Null),
        Some(text) => serde_json::from_str(text).map_err(|e| format!("the annotation {name} is not JSON: {e}")),
    }
}

fn named<'a>(list: &'a Value, name: &str) -> Option<&'a Value> {
    entries(list).iter().find(|entry| entry["name"] == name)
}

/// The pod as it was before it was injected, as far as templates look at it.
pub(super) fn stripped(pod: &Value, agent_port: u64) -> Result<Value, String> {
    let mut pod = pod.clone();
    // A status that nobody can read says nothing.
    if let Ok(status @ Value::Object(_)) = annotation(&pod, STATUS) {
        for list in LISTS {
            if let Some(all) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) {
                all.retain(|c| !entries(&status[list]).iter().any(|name| *name == c["name"]));
            }
        }
        if let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() {
            if scrape::port(annotations).is_some_and(|port| port == agent_port.to_string()) {
                scrape::clear(annotations);
            }
            annotations.remove(STATUS);
        }
    }
    let kept = annotation(&pod, OVERRIDES)?;
    for list in LISTS {
        for container in entries(&kept[list]) {
            let there = container["name"].as_str().is_some_and(|name| named(&pod["spec"][list], name).is_some());
            if !there {
                match pod["spec"].get_mut(list).and_then(Value::as_array_mut) {
                    Some(all) => all.push(container.clone()),
                    None => pod["spec"][list] = json!([container]),
                }
            }
        }
    }
    Ok(pod)
}

/// Where the templates have the proxy among the init containers, what the pod says of it goes there too.
pub(super) fn move_to_init(pod: &mut Map<String, Value>, alone: &Map<String, Value>) {
    let of_templates = alone.get("spec").and_then(|spec| named(&spec["initContainers"], PROXY));
    let Some(spec) = pod.get_mut("spec").filter(|_| of_templates.is_some()) else { return };
    let Some(all) = spec.get_mut("containers").and_then(Value::as_array_mut) else { return };
    let Some(at) = all.iter().position(|container| container["name"] == PROXY) else { return };
    let proxy = all.remove(at);
    match spec.get_mut("initContainers").and_then(Value::as_array_mut) {
        Some(all) => all.push(proxy),
        None => spec["initContainers"] = json!([proxy]),
    }
}

/// What the pod says itself of containers that are injected goes over what the templates say.
pub(super) fn reapply(pod: &mut Value, original: &Value, injected: &Injected, facts: &Facts) -> Result<(), String> {
    let kept = annotation(original, OVERRIDES)?;
    let status = original["metadata"]["annotations"].get(STATUS);
    let before: Value = status.and_then(Value::as_str).and_then(|s| serde_json::from_str(s).ok()).unwrap_or_default();
    let mut found = Map::new();
    for list in LISTS {
        for name in injected.containers(list) {
            // What was injected before is injected anew: only what is kept of it is the pod's own.
            let was = entries(&before[list]).iter().any(|n| n == name);
            let own = || {
                if was {
                    return None;
                }
                let here = named(&original["spec"][list], name);
                // A proxy may have become an init container since the pod was written.
                here.or_else(|| named(&original["spec"]["containers"], name).filter(|_| list == "initContainers"))
            };
            let Some(own) = named(&kept[list], name).or_else(own) else { continue };
            let mut own = own.clone();
            if own["image"] == "auto"
                && let Some(own) = own.as_object_mut()
            {
                own.remove("image");
            }
            let patch = json!({ "spec": { list: [own] } });
            if let (Some(pod), Some(patch)) = (pod.as_object_mut(), patch.as_object()) {
                merge(pod, patch)?;
            }
            if let Value::Array(all) = found.entry(list).or_insert_with(|| json!([])) {
                all.push(own);
            }
        }
    }
    if status.is_none() && !found.is_empty() {
        if !pod["metadata"]["annotations"].is_object() {
            pod["metadata"]["annotations"] = json!({});
        }
        pod["metadata"]["annotations"][OVERRIDES] = Value::Object(found).to_string().into();
    }
    align_user(pod, original, facts);
    Ok(())
}

/// Who the proxy runs as by the pod's own words is also whose traffic is not captured.
fn align_user(pod: &mut Value, original: &Value, facts: &Facts) {
    let lists = [&original["spec"]["containers"], &original["spec"]["initContainers"]];
    let Some(own) = lists.into_iter().find_map(|list| named(list, PROXY)) else { return };
    let (user, group) = (own["securityContext"]["runAsUser"].clone(), own["securityContext"]["runAsGroup"].clone());
    if user.is_null() && group.is_null() {
        return;
    }
    let mode = &pod["metadata"]["annotations"]["sidecar.istio.io/interceptionMode"];
    let transparent = facts.config["interceptionMode"] == "TPROXY" || mode == "TPROXY";
    if transparent
        && !user.is_null()
        && let Some(proxy) = container_mut(pod, PROXY)
    {
        // It has to be root there.
        proxy["securityContext"]["runAsUser"] = 0.into();
    }
    let name = if named(&pod["spec"]["initContainers"], INIT).is_some() { INIT } else { VALIDATION };
    let Some(init) = container_mut(pod, name) else { return };
    if transparent {
        return;
    }
    if name == VALIDATION {
        for (field, value) in [("runAsUser", &user), ("runAsGroup", &group)] {
            if !value.is_null() {
                init["securityContext"][field] = value.clone();
            }
        }
    }
    let Some(user) = user.as_u64().filter(|user| *user != 0) else { return };
    let Some(args) = init.get_mut("args").and_then(Value::as_array_mut) else { return };
    if let Some(at) = args.iter().position(|a| a == "-u")
        && let Some(value) = args.get_mut(at + 1)
    {
        *value = user.to_string().into();
    }
}
