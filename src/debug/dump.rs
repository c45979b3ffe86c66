//! What a proxy was served, in the shape of Envoy's own configuration dump, so that the same tools read both
//! (Istio: `pilot/pkg/xds/debug.go`, configDump).

use crate::{id::ResourceType, pb, translate::Resource};
use serde_json::{Map, Value, json};
use std::sync::Arc;

/// The resources that a proxy was served of a type.
pub(super) type Held<'a> = &'a dyn Fn(ResourceType) -> Vec<Arc<Resource>>;

const DUMP: &str = "type.googleapis.com/envoy.admin.v3.";

/// The whole dump; endpoints only when they are asked for.
pub(super) fn config_dump(held: Held<'_>, endpoints: bool) -> Value {
    let mut configs = vec![json!({"@type": format!("{DUMP}BootstrapConfigDump")})];
    configs.push(section("ClustersConfigDump", "dynamicActiveClusters", held(ResourceType::Cluster), |r| {
        entry("cluster", r)
    }));
    if endpoints {
        configs.push(section("EndpointsConfigDump", "dynamicEndpointConfigs", held(ResourceType::Endpoints), |r| {
            entry("endpointConfig", r)
        }));
    }
    configs.push(section(
        "ListenersConfigDump",
        "dynamicListeners",
        held(ResourceType::Listener),
        |r| json!({"name": &*r.name, "activeState": entry("listener", r)}),
    ));
    configs.push(json!({"@type": format!("{DUMP}ScopedRoutesConfigDump")}));
    let hosts = held(ResourceType::VirtualHost);
    configs.push(section("RoutesConfigDump", "dynamicRouteConfigs", held(ResourceType::Route), |r| {
        with_hosts(entry("routeConfig", r), r, &hosts)
    }));
    configs.push(section(
        "SecretsConfigDump",
        "dynamicActiveSecrets",
        held(ResourceType::Secret),
        |r| json!({"name": &*r.name, "versionInfo": r.version_text(), "secret": {"name": &*r.name}}),
    ));
    configs.push(section("EcdsConfigDump", "ecdsFilters", held(ResourceType::Extension), |r| entry("ecdsFilter", r)));
    json!({"configs": configs})
}

/// The resources of these types alone, one after the other.
pub(super) fn config_dump_of(held: Held<'_>, kinds: &[ResourceType]) -> Value {
    let resources = kinds.iter().flat_map(|k| held(*k));
    json!({"configs": resources.map(|r| body(&r)).collect::<Vec<_>>()})
}

fn section(name: &str, field: &str, resources: Vec<Arc<Resource>>, entry: impl Fn(&Resource) -> Value) -> Value {
    let mut section = Map::from_iter([("@type".to_owned(), format!("{DUMP}{name}").into())]);
    if !resources.is_empty() {
        section.insert(field.to_owned(), resources.iter().map(|r| entry(r)).collect());
    }
    Value::Object(section)
}

/// Routes with the virtual hosts that came by themselves among them, as Envoy's own dump has them.
fn with_hosts(mut entry: Value, routes: &Resource, hosts: &[Arc<Resource>]) -> Value {
    let of_these = |host: &&Arc<Resource>| host.name.split_once('/').is_some_and(|(root, _)| *root == *routes.name);
    let hosts = hosts.iter().filter(of_these).map(|host| pb::to_json(host.kind.type_url(), &host.body));
    let hosts: Vec<Value> = hosts.filter_map(Result::ok).collect();
    if let (Some(routes), false) = (entry["routeConfig"].as_object_mut(), hosts.is_empty()) {
        match routes.entry("virtualHosts").or_insert_with(|| Value::Array(Vec::new())) {
            Value::Array(all) => all.extend(hosts),
            other => *other = hosts.into(),
        }
    }
    entry
}

fn entry(field: &str, resource: &Resource) -> Value {
    json!({"versionInfo": resource.version_text(), field: body(resource)})
}

/// A resource as JSON. Secrets show their name alone.
fn body(resource: &Resource) -> Value {
    let url = resource.kind.type_url();
    if resource.kind == ResourceType::Secret {
        return json!({"@type": url, "name": &*resource.name});
    }
    let mut json = pb::to_json(url, &resource.body).unwrap_or_else(|error| json!({"error": error}));
    json["@type"] = url.into();
    json
}
