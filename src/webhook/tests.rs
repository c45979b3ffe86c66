//! Pods in, pods out; questions in, answers out.

mod fuzz;
mod golden;
mod served;
mod validation;

use super::*;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Instant;

/// The chart's own templates and values, in a mesh with the usual settings.
fn injector() -> Injector {
    Injector {
        settings: Settings::built_in(),
        mesh: mesh(&json!({})),
        revision: String::new(),
        proxies: Proxies::default(),
        users: None,
    }
}

fn pod() -> Value {
    json!({
        "metadata": { "name": "web", "labels": { "app": "web" } },
        "spec": { "containers": [{ "name": "web", "image": "w", "ports": [{ "containerPort": 8080 }],
            "readinessProbe": { "httpGet": { "path": "/", "port": 8080 } } }] },
    })
}

fn question(object: &Value, resource: [&str; 3]) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u-1", "operation": "CREATE", "namespace": "shop", "object": object,
            "resource": { "group": resource[0], "version": resource[1], "resource": resource[2] },
        },
    })
}

/// What an answer says of a pod: the pod that its operations make, or its message.
fn made(answer: &[u8], pod: &Value) -> Result<Value, Value> {
    let answer: Value = serde_json::from_slice(answer).expect("an answer");
    let response = &answer["response"];
    if response["allowed"] != true {
        return Err(response["status"]["message"].clone());
    }
    let Some(patch) = response["patch"].as_str() else { return Ok(pod.clone()) };
    assert_eq!(response["patchType"], "JSONPatch");
    let operations: Value = serde_json::from_slice(&STANDARD.decode(patch).expect("base64")).expect("operations");
    Ok(applied(pod, operations.as_array().expect("a list")))
}

/// Operations done one after the other, as the API server does them: what is not there can be neither removed nor replaced.
fn applied(value: &Value, operations: &[Value]) -> Value {
    let mut value = value.clone();
    for operation in operations {
        let path = operation["path"].as_str().expect("a path");
        let kind = operation["op"].as_str().expect("a kind");
        let Some((parent, key)) = path.rsplit_once('/') else {
            assert_eq!(kind, "replace");
            value = operation["value"].clone();
            continue;
        };
        let key = key.replace("~1", "/").replace("~0", "~");
        let new = operation["value"].clone();
        match value.pointer_mut(parent).unwrap_or_else(|| panic!("{path} is below nothing")) {
            Value::Object(all) => match kind {
                "add" => drop(all.insert(key, new)),
                "replace" => *all.get_mut(&key).expect("something to replace") = new,
                _ => drop(all.remove(&key).expect("something to remove")),
            },
            Value::Array(all) => {
                let at: usize = key.parse().expect("a place");
                match kind {
                    "add" => all.insert(at, new),
                    "replace" => all[at] = new,
                    _ => drop(all.remove(at)),
                }
            }
            other => panic!("{path} is below {other}"),
        }
    }
    value
}

#[test]
fn what_the_chart_comes_with_can_be_used() {
    let settings = Settings::built_in();
    assert!(settings.said.is_empty(), "{:#?}", settings.said);
    assert_eq!(settings.templates.keys().collect::<Vec<_>>(), ["gateway", "sidecar"]);
}

#[test]
fn what_is_wrong_with_settings_is_said_and_harms_no_other_template() {
    let settings = Settings::parse(
        "policy: on\ntemplates: {good: 'a: b', bad: '{{ nosuch }}'}\nneverInjectSelector: [{matchExpressions: [{key: a, operator: Maybe}]}]",
        "global: {}",
    )
    .expect("settings");
    assert!(settings.templates["good"].is_ok() && settings.templates["bad"].is_err());
    assert_eq!(settings.said.len(), 3, "{:#?}", settings.said);
    for (config, values, why) in [
        ("a: [", "{}", "`config` is not YAML"),
        ("{}", "a: [", "`values` is not YAML"),
        ("[]", "{}", "maps of fields"),
        ("templates: [a]", "{}", "templates is no map"),
        ("templates: {a: 1}", "{}", "templates.a is no text"),
        ("defaultTemplates: sidecar", "{}", "no list of names"),
    ] {
        let error = Settings::parse(config, values).expect_err(config);
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn a_typical_pod_takes_less_than_five_milliseconds() {
    let (injector, pod) = (injector(), pod());
    let body = question(&pod, ["", "v1", "pods"]).to_string();
    let state = State { injector: Ok(injector.into()), native: true };
    let best = (0..20).map(|_| {
        let started = Instant::now();
        assert_eq!(server::answer_pod(&state, "/inject", body.as_bytes()).1, Outcome::Injected);
        started.elapsed()
    });
    let best = best.min().expect("a time");
    println!("{best:?}");
    // Unoptimized code takes some five to ten times as long.
    let limit = if cfg!(debug_assertions) { 25 } else { 5 };
    assert!(best.as_millis() < limit, "{best:?}");
}

#[test]
fn owners_are_found_as_far_as_pods_show_them() {
    let of = |kind: &str, name: &str, labels: Value| {
        let reference = json!([{ "kind": kind, "name": name, "apiVersion": "x/v1", "controller": true }]);
        let pod = json!({ "metadata": { "generateName": "a-", "labels": labels, "ownerReferences": reference } });
        let owner = Owner::of(&pod);
        [owner.kind, owner.name, owner.api_version].join(" ")
    };
    assert_eq!(of("ReplicaSet", "web-1f", json!({ "pod-template-hash": "1f" })), "Deployment web x/v1");
    assert_eq!(of("ReplicaSet", "web-1f", json!({ "pod-template-hash": "2f" })), "ReplicaSet web-1f x/v1");
    assert_eq!(of("Job", "sweep-1234567", json!({})), "Job sweep-1234567 x/v1");
    assert_eq!(of("Job", "sweep-12345678", json!({})), "CronJob sweep batch/v1");
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        "[a/~]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map("[abc/~]{0,2}", inner, 0..5)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
        ]
    })
}

/// A pod in which something is something else.
fn broken_pod() -> impl Strategy<Value = Value> {
    const PLACES: [&str; 24] = [
        "/metadata",
        "/metadata/annotations",
        "/metadata/labels",
        "/metadata/ownerReferences",
        "/metadata/generateName",
        "/spec",
        "/spec/containers",
        "/spec/initContainers",
        "/spec/volumes",
        "/spec/imagePullSecrets",
        "/spec/hostNetwork",
        "/spec/containers/0",
        "/spec/containers/0/name",
        "/spec/containers/0/env",
        "/spec/containers/0/ports",
        "/spec/containers/0/readinessProbe",
        "/spec/containers/0/readinessProbe/httpGet",
        "/spec/containers/0/lifecycle",
        "/spec/containers/0/securityContext",
        "/spec/containers/0/ports/0",
        "/metadata/annotations/proxy.istio.io~1config",
        "/metadata/annotations/sidecar.istio.io~1status",
        "/metadata/annotations/proxy.istio.io~1overrides",
        "/metadata/annotations/inject.istio.io~1templates",
    ];
    prop::collection::vec((0..PLACES.len(), json_value()), 1..4).prop_map(|changes| {
        let mut pod = pod();
        pod["metadata"]["annotations"] = json!({
            "proxy.istio.io/config": "a: b", "sidecar.istio.io/status": "{}", "proxy.istio.io/overrides": "{}",
            "inject.istio.io/templates": "sidecar",
        });
        for list in ["initContainers", "volumes", "imagePullSecrets"] {
            pod["spec"][list] = json!([]);
        }
        for (place, value) in changes {
            if let Some(held) = pod.pointer_mut(PLACES[place]) {
                // Texts within which there is JSON are the more interesting ones.
                *held = if held.is_string() && !value.is_string() { value.to_string().into() } else { value };
            }
        }
        pod
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_patch_leads_from_any_value_to_any_other(from in json_value(), to in json_value()) {
        prop_assert_eq!(applied(&from, &patch(&from, &to)), to);
    }

    #[test]
    fn whatever_is_asked_about_a_pod_is_answered(object in prop_oneof![json_value(), broken_pod()], native: bool, path in "/inject[/a:ENV=]{0,9}") {
        let state = State { injector: Ok(injector().into()), native };
        let body = question(&object, ["", "v1", "pods"]).to_string();
        let (answer, _) = server::answer_pod(&state, &path, body.as_bytes());
        // What is allowed can be applied, and injecting it again changes nothing.
        if let Ok(once) = made(&answer, &object) {
            let body = question(&once, ["", "v1", "pods"]).to_string();
            let (answer, _) = server::answer_pod(&state, &path, body.as_bytes());
            prop_assert_eq!(made(&answer, &once), Ok(once));
        }
    }

    #[test]
    fn whatever_is_sent_is_answered(body in prop_oneof![".*", json_value().prop_map(|v| v.to_string())], object in json_value()) {
        let state = State { injector: Ok(injector().into()), native: true };
        let context = crate::parse::Context::default();
        let asked = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": object }).to_string();
        for body in [body, asked] {
            for answer in [server::answer_pod(&state, "/inject", body.as_bytes()).0, server::answer_object(&context, &crate::snapshot::Snapshot::default(), body.as_bytes()).0] {
                let answer: Value = serde_json::from_slice(&answer).expect("an answer");
                prop_assert!(answer["response"]["allowed"].is_boolean());
            }
        }
    }
}
