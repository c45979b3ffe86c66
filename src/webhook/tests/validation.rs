//! Objects that the API server asks about: every broken object that parsing knows, and every one that is served.

use super::*;
use crate::{
    parse::{self, Context},
    problem::Severity,
    snapshot::Snapshot,
    source::files,
};
use std::{fs, path::Path};

fn ask(object: &Value) -> Value {
    let mut body = question(object, ["networking.istio.io", "v1", "x"]);
    body["request"]["namespace"] = object["metadata"]["namespace"].clone();
    let (answer, _) = server::answer_object(&Context::default(), &Snapshot::default(), body.to_string().as_bytes());
    serde_json::from_slice::<Value>(&answer).expect("an answer")["response"].take()
}

/// The objects of files below a directory.
fn objects(dir: &str) -> Vec<Value> {
    let mut dirs = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(dir)];
    let mut found = Vec::new();
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                dirs.push(path);
            } else if path.extension().is_some_and(|e| e == "yaml") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                found.extend(files::documents(&text).into_iter().filter_map(|(_, document)| document.ok()));
            }
        }
    }
    let of_mesh =
        |o: &Value| o["apiVersion"].as_str().is_some_and(|v| v.contains("istio.io/")) && o["metadata"].is_object();
    found.retain(of_mesh);
    found
}

#[test]
fn what_parsing_refuses_is_refused_with_all_of_its_reasons() {
    let all = objects("testdata/parse");
    let mut refused = 0;
    for object in &all {
        let problems = parse::object(object, &Context::default()).problems;
        let errors: Vec<_> = problems.iter().filter(|p| p.severity == Severity::Error).collect();
        let response = ask(object);
        if errors.is_empty() {
            assert_eq!(response["allowed"], true, "{object}: {response}");
            continue;
        }
        if object["metadata"]["name"].is_null() {
            continue;
        }
        refused += 1;
        let said = response["status"]["message"].as_str().unwrap_or_default();
        assert!(response["allowed"] == false && said.starts_with("configuration is invalid: "), "{object}: {response}");
        for error in errors {
            assert!(said.contains(&error.message) && said.contains(error.path.as_str()), "{said}: {error}");
        }
    }
    println!("{refused} of {} are refused", all.len());
    assert!(refused >= 100, "{refused} of {}", all.len());
}

#[test]
fn what_is_served_is_taken() {
    let all = objects("testdata/translate");
    let taken = all.iter().filter(|object| {
        let problems = parse::object(object, &Context::default()).problems;
        let served = problems.iter().all(|p| p.severity == Severity::Warning);
        assert_eq!(ask(object)["allowed"], served, "{object}");
        served
    });
    let taken = taken.count();
    assert!(taken >= 300, "{taken} of {}", all.len());
}

fn virtual_service(spec: Value) -> Value {
    json!({ "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
            "metadata": { "name": "web", "namespace": "shop" }, "spec": spec })
}

#[test]
fn remarks_are_told_and_refuse_nothing() {
    let odd = virtual_service(
        json!({ "hosts": ["web"], "htpp": [], "http": [{ "route": [{ "destination": { "host": "web" } }] }] }),
    );
    let response = ask(&odd);
    assert_eq!(response["allowed"], true);
    let warnings = response["warnings"].as_array().expect("remarks");
    assert!(warnings.iter().any(|w| w.as_str().is_some_and(|w| w.contains("spec.htpp"))), "{warnings:?}");
}

#[test]
fn only_what_is_made_or_changed_is_looked_at() {
    let bad = virtual_service(json!({ "hosts": [] }));
    for (operation, allowed) in [("CREATE", false), ("UPDATE", false), ("DELETE", true), ("CONNECT", true)] {
        let mut body = question(&bad, ["", "", ""]);
        body["request"]["operation"] = operation.into();
        let (answer, _) = server::answer_object(&Context::default(), &Snapshot::default(), body.to_string().as_bytes());
        let answer: Value = serde_json::from_slice(&answer).expect("an answer");
        assert_eq!((&answer["response"]["allowed"], &answer["response"]["uid"]), (&json!(allowed), &json!("u-1")));
    }
}

#[test]
fn objects_of_other_revisions_are_theirs_to_look_at() {
    let mut bad = virtual_service(json!({ "hosts": [] }));
    bad["metadata"]["labels"] = json!({ "istio.io/rev": "canary" });
    assert_eq!(ask(&bad)["allowed"], true);
    bad["metadata"]["labels"] = json!({ "istio.io/rev": "default" });
    assert_eq!(ask(&bad)["allowed"], false);
}

#[test]
fn names_that_are_made_later_and_namespaces_that_are_not_said_are_no_fault() {
    let mut good =
        virtual_service(json!({ "hosts": ["web"], "http": [{ "route": [{ "destination": { "host": "web" } }] }] }));
    good["metadata"] = json!({ "generateName": "web-" });
    assert_eq!(ask(&good)["allowed"], true, "{}", ask(&good));
}

#[test]
fn the_mesh_s_settings_are_looked_at() {
    let map = |name: &str, mesh: &str| json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": name, "namespace": "istio-system" }, "data": { "mesh": mesh } });
    assert_eq!(ask(&map("istio", "accessLogFile: /dev/stdout"))["allowed"], true);
    let refused = ask(&map("istio", "accessLogFile: ["));
    assert!(
        refused["allowed"] == false && refused["status"]["message"].as_str().is_some_and(|m| m.contains("data.mesh"))
    );
    assert_eq!(ask(&map("istio", "outboundTrafficPolicy: {mode: SOMETIMES}"))["allowed"], false);
    assert_eq!(ask(&map("other", "accessLogFile: ["))["allowed"], true);
}

#[test]
fn an_object_that_is_always_refused_is() {
    let mut good =
        virtual_service(json!({ "hosts": ["web"], "http": [{ "route": [{ "destination": { "host": "web" } }] }] }));
    good["metadata"]["annotations"] = json!({ "internal.istio.io/webhook-always-reject": "true" });
    assert_eq!(ask(&good)["allowed"], false);
}

#[test]
fn what_an_object_names_that_is_not_there_is_remarked_on_and_never_refused() {
    let text = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: other, port: 81}]}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, subsets: [{name: v1, labels: {version: v1}}]}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: shop}
spec: {selector: {istio: edge}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: little, namespace: shop}
spec: {egress: [{hosts: ['other/*']}]}
";
    let changes =
        files::documents(text).into_iter().map(|(_, o)| parse::object(&o.expect("an object"), &Context::default()));
    let others = Snapshot::default().apply(changes);
    let said = |object: &Value| {
        let mut body = question(object, ["networking.istio.io", "v1", "x"]);
        body["request"]["namespace"] = "shop".into();
        let (answer, _) = server::answer_object(&Context::default(), &others, body.to_string().as_bytes());
        let mut answer: Value = serde_json::from_slice(&answer).expect("an answer");
        assert_eq!(answer["response"]["allowed"], true, "{answer}");
        let warnings = answer["response"]["warnings"].take();
        let texts = warnings.as_array().into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect::<Vec<_>>()
    };
    let to = |destination: Value| json!([{ "route": [{ "destination": destination }] }]);
    let mut fine = virtual_service(
        json!({ "hosts": ["web"], "gateways": ["mesh", "edge"], "http": to(json!({ "host": "web", "subset": "v1" })) }),
    );
    fine["metadata"]["namespace"] = "shop".into();
    assert_eq!(said(&fine), [""; 0], "what a Sidecar hides is there all the same");
    for (spec, wanted) in [
        (
            json!({ "hosts": ["web"], "http": to(json!({ "host": "web", "subset": "v2" })) }),
            "spec.http[0].route[0].destination.subset: no DestinationRule for web.shop.svc.cluster.local has the subset v2",
        ),
        (
            json!({ "hosts": ["web"], "http": to(json!({ "host": "wep" })) }),
            "spec.http[0].route[0].destination.host: no service wep.shop.svc.cluster.local",
        ),
        (
            json!({ "hosts": ["web"], "http": to(json!({ "host": "web", "port": { "number": 82 } })) }),
            "spec.http[0].route[0].destination.port: web.shop.svc.cluster.local has no port 82",
        ),
        (
            json!({ "hosts": ["web"], "tcp": to(json!({ "host": "none.example" })) }),
            "spec.tcp[0].route[0].destination.host: no service none.example",
        ),
        (
            json!({ "hosts": ["web"], "gateways": ["egde"], "http": to(json!({ "host": "web" })) }),
            "spec.gateways[0]: no Gateway shop/egde is there",
        ),
    ] {
        let mut object = fine.clone();
        object["spec"] = spec;
        let said = said(&object);
        assert!(said.len() == 1 && said[0].starts_with(wanted), "{wanted}: {said:?}");
    }
    let policy = json!({
        "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy", "metadata": { "name": "a", "namespace": "shop" },
        "spec": { "selector": { "matchLabels": { "app": "wep" } }, "rules": [{}] },
    });
    assert!(said(&policy)[0].starts_with("spec.selector: chooses no workload that is there"));
    assert_eq!(others.virtual_services.len(), 0, "to ask changes nothing");
}
