//! What an object names that no other object is: told to who applies it, when it may still be a slip of the pen. What names
//! it may also come first, so nothing is refused for it.

use super::route::place::{Wanted, resolved, wrong};
use crate::{
    id::ObjectRef,
    model::{Destination, HttpAction, ObjectKey, VirtualService},
    parse,
    problem::{FieldPath, Problem},
    snapshot::{Snapshot, View},
};
use serde_json::json;

/// What an object of a snapshot names that is not there.
pub fn remarks(snapshot: &Snapshot, object: &ObjectRef) -> Vec<Problem> {
    let key = ObjectKey::from(object);
    match object.kind.as_str() {
        "VirtualService" => snapshot.virtual_services.get(&key).map_or_else(Vec::new, |rule| of_rule(snapshot, rule)),
        _ => snapshot.idle_policy(object).into_iter().collect(),
    }
}

fn of_rule(snapshot: &Snapshot, rule: &VirtualService) -> Vec<Problem> {
    let spec = FieldPath::new("spec");
    let mut problems = Vec::new();
    for (i, name) in rule.gateways.iter().enumerate().filter(|(_, name)| &***name != "mesh") {
        let there = name.split_once('/').is_some_and(|(namespace, name)| {
            snapshot.gateways.contains_key(&ObjectKey { namespace: namespace.into(), name: name.into() })
        });
        if !there {
            let message = format!("no Gateway {name} is there, so the rules hold at no gateway by it");
            problems.push(Problem::warning(&rule.source, spec.field("gateways").index(i), message));
        }
    }
    // Whoever is a client: a workload of its namespace whose Sidecar, if it has one, hides nothing.
    let namespace = &rule.source.namespace;
    let client =
        json!({ "id": format!("sidecar~127.0.0.1~client.{namespace}~{namespace}.svc.{}", snapshot.mesh.domain) });
    let node = parse::node(&client).expect("the id of a node has four parts, and the second is an address");
    let mut key = snapshot.view_key(&node);
    key.sidecar = None;
    let view = View::new(snapshot, &key);
    let mut look = |path: FieldPath, destination: &Destination, fate: &'static str| {
        if let Some((field, message)) = missing(&view, destination, fate) {
            problems.push(Problem::warning(&rule.source, path.field("destination").field(field), message));
        }
    };
    for (i, http) in rule.http.iter().enumerate() {
        let path = spec.field("http").index(i);
        if let HttpAction::Route(destinations) = &http.action {
            for (j, destination) in destinations.iter().enumerate() {
                look(path.field("route").index(j), destination, "requests get 503");
            }
        }
    }
    for (field, rules) in [("tls", &rule.tls), ("tcp", &rule.tcp)] {
        for (i, entry) in rules.iter().enumerate() {
            for (j, destination) in entry.destinations.iter().enumerate() {
                look(spec.field(field).index(i).field("route").index(j), destination, "connections are closed");
            }
        }
    }
    problems
}

/// What of a destination is not there. Where no port is written, it depends on the client which counts.
fn missing(view: &View<'_>, destination: &Destination, fate: &'static str) -> Option<(&'static str, String)> {
    let host = resolved(view, &destination.host);
    let any = || view.service(&host)?.ports.first().map(|port| port.number);
    let port = destination.port.or_else(any).unwrap_or_default();
    wrong(view, &Wanted { port, fate, ..Wanted::of(&host, destination) })
}
