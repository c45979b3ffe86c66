//! A pod in, the same pod with its sidecar out (reference: `pkg/kube/inject` of Istio, whose order of steps this keeps).
//!
//! Templates are merged over the pod; what the pod itself says of containers with the same names goes over that; then
//! what no template can do is done: probes, Prometheus' annotations, the order of containers.

use super::{
    alone, annotation, arrange, image,
    merge::merge,
    openshift::{self, Users},
    overlay::{self, Injected},
    owner::Owner,
    probe,
    proxies::Proxies,
    proxy_config, scrape,
    settings::Settings,
};
use crate::{
    parse::yaml,
    template::{self, Kind},
};
use serde_json::{Map, Value, json};
use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

/// The container of the proxy.
pub(super) const PROXY: &str = "istio-proxy";
/// The containers that capture traffic, and that look whether it is captured.
pub(super) const INIT: &str = "istio-init";
pub(super) const VALIDATION: &str = "istio-validation";
/// The annotation that says what was injected.
pub(super) const STATUS: &str = "sidecar.istio.io/status";
const NATIVE: &str = "sidecar.istio.io/nativeSidecar";
const NETWORK: &str = "topology.istio.io/network";

/// All that pods are injected with.
#[derive(Clone, Debug)]
pub struct Injector {
    /// The templates and values.
    pub settings: Settings,
    /// The mesh's settings, with defaults.
    pub mesh: Value,
    /// The control plane's revision; empty for the default one.
    pub revision: String,
    /// Settings of proxies that are objects by themselves.
    pub proxies: Proxies,
    /// Whom proxies run as, where each namespace has users of its own.
    pub users: Option<Arc<Users>>,
}

/// A pod to inject.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The pod.
    pub pod: &'a Value,
    /// Its namespace, which it need not name itself.
    pub namespace: &'a str,
    /// What it belongs to.
    pub owner: Owner,
    /// Variables of the proxy, from the path of the webhook.
    pub variables: BTreeMap<String, String>,
    /// Whether nodes know containers that start before the others and end after them.
    pub native: bool,
}

/// The mesh's settings with what they leave unsaid.
pub fn mesh(given: &Value) -> Value {
    let mut mesh = json!({
        "proxyListenPort": 15001,
        "proxyInboundListenPort": 15006,
        "trustDomain": "cluster.local",
        "rootNamespace": "istio-system",
        "enablePrometheusMerge": true,
    });
    let mut config = template::proxy_defaults();
    for (key, value) in given.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null()) {
        match (key.as_str(), value) {
            ("defaultConfig", Value::Object(own)) => proxy_config::overlay(&mut config, own.clone()),
            _ => mesh[key] = value.clone(),
        }
    }
    mesh["defaultConfig"] = config;
    mesh
}

/// What is found out of a pod before templates are filled in.
pub(super) struct Facts {
    /// The proxy's settings.
    pub(super) config: Value,
    pub(super) native: bool,
    /// The agent's port; 0 where it has none.
    pub(super) agent_port: u64,
    /// Variables of the proxy.
    variables: BTreeMap<String, String>,
}

impl Injector {
    /// The pod with its sidecar.
    ///
    /// # Errors
    ///
    /// When the pod, or a template, says something that cannot be done; the text says what to write instead.
    pub fn inject(&self, request: &Request<'_>) -> Result<Value, String> {
        shaped(request.pod)?;
        let mut pod = Cow::Borrowed(request.pod);
        if self.users.is_some() {
            openshift::forget_user(pod.to_mut());
        }
        let request = &Request { pod: &pod, ..request.clone() };
        let annotations = &request.pod["metadata"]["annotations"];
        let wrong = annotation::problems(annotations);
        if !wrong.is_empty() {
            return Err(wrong.join("; "));
        }
        let facts = self.facts(request)?;
        let before = overlay::stripped(request.pod, facts.agent_port)?;
        let data = self.data(request, &before, &facts);
        let (mut pod, injected) = self.templates(request, &data, &facts)?;
        overlay::reapply(&mut pod, request.pod, &injected, &facts)?;
        self.finish(&mut pod, request, &injected, &facts)?;
        Ok(pod)
    }

    fn facts(&self, request: &Request<'_>) -> Result<Facts, String> {
        let annotations = &request.pod["metadata"]["annotations"];
        let text = |name: &str| annotations[name].as_str();
        let mut config = self.mesh["defaultConfig"].clone();
        let root = self.mesh["rootNamespace"].as_str().unwrap_or_default();
        self.proxies.general(&mut config, root, request.namespace);
        if let Some(own) = text(proxy_config::ANNOTATION) {
            proxy_config::overlay(&mut config, proxy_config::parse(own)?);
        }
        self.proxies.of_workload(&mut config, request.namespace, &request.pod["metadata"]["labels"]);
        if let Some(port) = text("status.sidecar.istio.io/port").and_then(|p| p.trim().parse::<u16>().ok()) {
            config["statusPort"] = port.into();
        }
        if let Some(address) = text("sidecar.istio.io/discoveryAddress").filter(|a| !a.is_empty()) {
            config["discoveryAddress"] = address.into();
        }
        let native = match text(NATIVE) {
            Some("true") => true,
            Some("false") => false,
            _ => request.native,
        };
        let values = &self.settings.values["global"];
        let mut variables = request.variables.clone();
        let of_values = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        for (name, value) in [
            ("ISTIO_META_CLUSTER_ID", of_values(&values["multiCluster"]["clusterName"])),
            ("ISTIO_META_NETWORK", of_values(&values["network"])),
        ] {
            let given = variables.get(name).is_some_and(|value| !value.is_empty());
            if let (false, Some(value)) = (given, value) {
                variables.insert(name.to_owned(), value);
            }
        }
        // The pod's own label goes before all.
        if let Some(network) = request.pod["metadata"]["labels"][NETWORK].as_str() {
            variables.insert("ISTIO_META_NETWORK".to_owned(), network.to_owned());
        }
        let agent_port = config["statusPort"].as_u64().unwrap_or(15020);
        Ok(Facts { config, native, agent_port, variables })
    }

    /// What templates see.
    fn data(&self, request: &Request<'_>, pod: &Value, facts: &Facts) -> template::Value {
        use template::Value as Seen;
        let structure = |json: &Value, maps: &[&str]| {
            let seen = match json {
                Value::Object(_) => Seen::of(json, Kind::Struct),
                _ => Seen::map(Kind::Struct, []),
            };
            if let Seen::Map(_, all) = &seen {
                for name in maps {
                    let map = json[name].as_object().map_or_else(|| json!({}), |map| Value::Object(map.clone()));
                    all.borrow_mut().insert((*name).to_owned(), Seen::of(&map, Kind::Map));
                }
            }
            seen
        };
        let (values, annotations) = (&self.settings.values, &pod["metadata"]["annotations"]);
        let kind = facts.config["image"]["imageType"].as_str();
        let localhost = self.mesh["inboundTrafficPolicy"]["mode"] == "LOCALHOST";
        let owner = &request.owner;
        let (user, group) = self.users.as_ref().map_or(openshift::USUAL, |users| users.of(request.namespace));
        let mut meta = pod["metadata"].clone();
        meta["namespace"] = request.namespace.into();
        let mut mesh = self.mesh.clone();
        mesh["defaultConfig"] = facts.config.clone();
        let deployment = json!({ "name": owner.name, "namespace": request.namespace });
        let all = [
            ("TypeMeta", structure(&json!({ "kind": owner.kind, "apiVersion": owner.api_version }), &[])),
            ("DeploymentMeta", structure(&deployment, &[])),
            ("ObjectMeta", structure(&meta, &["labels", "annotations"])),
            ("Spec", structure(&pod["spec"], &["nodeSelector"])),
            ("ProxyConfig", structure(&facts.config, &["proxyMetadata", "runtimeValues"])),
            ("MeshConfig", structure(&mesh, &[])),
            ("Values", Seen::of(values, Kind::Map)),
            ("Revision", self.revision.as_str().into()),
            ("NativeSidecars", facts.native.into()),
            ("ProxyImage", image::image(values, "proxy", kind, annotations).into()),
            ("ProxyInitImage", image::image(values, "proxy_init", None, annotations).into()),
            ("ProxyUID", user.into()),
            ("ProxyGID", group.into()),
            ("InboundTrafficPolicyMode", if localhost { "localhost" } else { "passthrough" }.into()),
            ("CompliancePolicy", "".into()),
        ];
        Seen::map(Kind::Struct, all.map(|(name, value)| (name.to_owned(), value)))
    }

    /// The pod with the templates merged over it, and what they alone come to.
    fn templates(
        &self,
        request: &Request<'_>,
        data: &template::Value,
        facts: &Facts,
    ) -> Result<(Value, Injected), String> {
        let settings = &self.settings;
        let named = request.pod["metadata"]["annotations"]["inject.istio.io/templates"].as_str();
        let names: Vec<&str> = match named {
            Some(list) => list.split(',').map(str::trim).collect(),
            None => settings.default_templates.iter().map(String::as_str).collect(),
        };
        let mut pod = request.pod.as_object().cloned().unwrap_or_default();
        let mut alone = Map::new();
        for name in settings.resolve(names) {
            let known = || {
                let all: Vec<&str> = settings.templates.keys().map(String::as_str).collect();
                format!("there is no template {name:?}; there are {}", all.join(", "))
            };
            let template = settings.templates.get(name).ok_or_else(known)?.as_ref();
            let template = template.map_err(|error| format!("the template {name} cannot be used: {error}"))?;
            let text = template.run(data).map_err(|error| format!("the template {name} fails: {error}"))?;
            let made = yaml::value(&text).map_err(|e| format!("the template {name} does not make YAML: {e}"))?;
            let made = match made {
                Value::Object(made) => made,
                Value::Null => continue,
                _ => return Err(format!("the template {name} makes no part of a pod")),
            };
            let failed = |why| format!("the template {name} cannot be merged: {why}");
            merge(&mut alone, &made).map_err(failed)?;
            if facts.native {
                overlay::move_to_init(&mut pod, &alone);
            }
            merge(&mut pod, &made).map_err(failed)?;
        }
        let pod = Value::Object(pod);
        shaped(&pod).map_err(|why| format!("the templates make no pod: {why}"))?;
        Ok((pod, Injected::of(&Value::Object(alone))))
    }

    /// What no template can do.
    fn finish(&self, pod: &mut Value, request: &Request<'_>, injected: &Injected, facts: &Facts) -> Result<(), String> {
        let again = request.pod["metadata"]["annotations"].get(STATUS).is_some();
        for map in ["labels", "annotations"] {
            if !pod["metadata"][map].is_object() {
                pod["metadata"][map] = json!({});
            }
        }
        if let Some(proxy) = container_mut(pod, PROXY) {
            facts.variables.iter().for_each(|(name, value)| set_variable(proxy, name, value));
        }
        let alone = alone::is_alone(pod);
        if facts.agent_port != 0 {
            // An Envoy alone shows its own metrics, and nobody else's.
            if !alone {
                self.metrics(pod, facts)?;
            }
            self.probes(pod, facts, again);
        }
        let network = facts.variables.get("ISTIO_META_NETWORK");
        let meta = &mut pod["metadata"];
        if let Some(network) = network {
            meta["labels"][NETWORK] = network.as_str().into();
        }
        meta["annotations"][STATUS] = injected.status(&self.revision).into();
        for (name, value) in &self.settings.annotations {
            meta["annotations"][name] = value.as_str().into();
        }
        let values = &self.settings.values["global"]["proxy"];
        if alone {
            alone::complete(pod, facts, values["clusterDomain"].as_str().unwrap_or("cluster.local"))?;
        }
        let hold = &values["holdApplicationUntilProxyStarts"];
        arrange::containers(pod, *hold == true || facts.config["holdApplicationUntilProxyStarts"] == true);
        texts(pod)
    }

    fn metrics(&self, pod: &mut Value, facts: &Facts) -> Result<(), String> {
        let Some(annotations) = pod["metadata"]["annotations"].as_object_mut() else { return Ok(()) };
        let told = scrape::merge(annotations, &self.mesh, facts.agent_port)?;
        let secure = annotations.keys().any(|key| key == "prometheus.istio.io/secure-port");
        let Some(proxy) = container_mut(pod, PROXY) else { return Ok(()) };
        if let Some(told) = told {
            set_variable(proxy, scrape::VARIABLE, &told);
        }
        let port = entries(&proxy["env"]).iter().find(|e| e["name"] == "ENVOY_SECURE_MERGED_METRICS_PORT");
        let port = port.and_then(|e| e["value"].as_str()).filter(|port| !matches!(*port, "" | "0"));
        if let (false, Some(port)) = (secure, port.map(str::to_owned)) {
            pod["metadata"]["annotations"]["prometheus.istio.io/secure-port"] = port.into();
        }
        Ok(())
    }

    fn probes(&self, pod: &mut Value, facts: &Facts, again: bool) {
        let own = pod["metadata"]["annotations"]["sidecar.istio.io/rewriteAppHTTPProbers"].as_str();
        let by_values = self.settings.values["sidecarInjectorWebhook"]["rewriteAppHTTPProbe"] == true;
        if !own.and_then(annotation::boolean).unwrap_or(by_values) || container_mut(pod, PROXY).is_none() {
            return;
        }
        let lists = [&pod["spec"]["initContainers"], &pod["spec"]["containers"]];
        let all: Vec<&Value> = lists.into_iter().flat_map(entries).filter(|c| c["name"] != PROXY).collect();
        let mut found = probe::collect(&all, facts.agent_port);
        for list in ["initContainers", "containers"] {
            let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for container in containers.filter(|c| c["name"] != PROXY) {
                probe::rewrite(container, facts.agent_port);
            }
        }
        let Some(proxy) = container_mut(pod, PROXY) else { return };
        if again {
            // What was rewritten before is only known from there.
            let held = entries(&proxy["env"]).iter().find(|e| e["name"] == probe::VARIABLE);
            let held = held.and_then(|e| serde_json::from_str::<Map<String, Value>>(e["value"].as_str()?).ok());
            found.extend(held.into_iter().flatten());
        }
        if !found.is_empty() {
            set_variable(proxy, probe::VARIABLE, &Value::Object(found).to_string());
        }
    }
}

/// The entries of a list; none where it is none.
pub(super) fn entries(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The container of this name, among all.
pub(super) fn container_mut<'a>(pod: &'a mut Value, name: &str) -> Option<&'a mut Value> {
    let spec = pod.get_mut("spec")?.as_object_mut()?;
    let lists = spec.iter_mut().filter(|(key, _)| matches!(key.as_str(), "containers" | "initContainers"));
    lists.filter_map(|(_, list)| list.as_array_mut()).flatten().find(|container| container["name"] == name)
}

/// Sets a variable of a container, where it was or at the end.
fn set_variable(container: &mut Value, name: &str, value: &str) {
    let entry = json!({ "name": name, "value": value });
    match container.get_mut("env").and_then(Value::as_array_mut) {
        Some(all) => match all.iter_mut().find(|e| e["name"] == name) {
            Some(held) => *held = entry,
            None => all.push(entry),
        },
        None => container["env"] = json!([entry]),
    }
}

/// Refuses what only looks like a pod: all that is worked on here must have the shape that it has in Kubernetes.
fn shaped(pod: &Value) -> Result<(), String> {
    let is = |value: &Value, right: fn(&Value) -> bool, what: &str| {
        if value.is_null() || right(value) { Ok(()) } else { Err(format!("{what} is {value}")) }
    };
    if !pod.is_object() {
        return Err("it is no object".into());
    }
    is(&pod["metadata"], Value::is_object, "metadata")?;
    is(&pod["spec"], Value::is_object, "spec")?;
    for map in ["labels", "annotations"] {
        is(&pod["metadata"][map], Value::is_object, map)?;
    }
    for list in ["containers", "initContainers", "volumes", "imagePullSecrets"] {
        is(&pod["spec"][list], Value::is_array, list)?;
        for entry in entries(&pod["spec"][list]) {
            is(entry, Value::is_object, list)?;
            if !entry["name"].is_string() {
                return Err(format!("an entry of {list} has no name"));
            }
            is(&entry["env"], Value::is_array, "env")?;
            is(&entry["ports"], Value::is_array, "ports")?;
            is(&entry["args"], Value::is_array, "args")?;
            is(&entry["lifecycle"], Value::is_object, "lifecycle")?;
            is(&entry["securityContext"], Value::is_object, "securityContext")?;
        }
    }
    Ok(())
}

/// Refuses labels, annotations and variables that are no texts, as a template without quotes makes them.
fn texts(pod: &Value) -> Result<(), String> {
    for map in ["labels", "annotations"] {
        for (key, value) in pod["metadata"][map].as_object().into_iter().flatten() {
            if !value.is_string() {
                return Err(format!("{map}[{key}] is {value}, which is no text; put it in quotes (`| quote`)"));
            }
        }
    }
    for list in ["containers", "initContainers"] {
        for container in entries(&pod["spec"][list]) {
            let value = |e: &Value| e.get("value").filter(|v| !v.is_string() && !v.is_null()).cloned();
            let wrong = entries(&container["env"]).iter().find_map(|e| Some((e["name"].clone(), value(e)?)));
            if let Some((name, value)) = wrong {
                let container = &container["name"];
                return Err(format!(
                    "the variable {name} of {container} is {value}, which is no text; put it in quotes"
                ));
            }
        }
    }
    Ok(())
}
