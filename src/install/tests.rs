//! What charts and values come to.

use super::*;
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

fn release(name: &str) -> Release {
    Release { name: name.into(), namespace: "istio-system".into(), service: "mainsheet" }
}

fn objects(component: Component, set: &[&str]) -> Vec<Value> {
    let given = Values { set: set.iter().map(|s| (*s).to_owned()).collect(), ..Values::default() };
    let values = merge(&given).unwrap_or_else(|why| panic!("{set:?}: {why}"));
    render(component, &release("r"), &values).unwrap_or_else(|why| panic!("{set:?}: {why}"))
}

fn find<'a>(objects: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let is = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
    objects.iter().find(is).unwrap_or_else(|| panic!("no {kind} {name}"))
}

#[test]
fn every_file_of_every_chart_is_in_the_binary() {
    fn walk(dir: &Path, root: &Path, found: &mut BTreeSet<String>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => walk(&path, root, found),
                false => drop(found.insert(path.strip_prefix(root).expect("below").display().to_string())),
            }
        }
    }
    for component in Component::ALL {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/charts").join(component.name());
        let mut there = BTreeSet::new();
        walk(&root, &root, &mut there);
        let listed: BTreeSet<String> = component.files().iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(listed, there, "{component}");
    }
}

#[test]
fn charts_come_to_objects_whose_kinds_are_known_in_an_order_that_works() {
    for component in Component::ALL {
        let all = objects(component, &[]);
        assert!(!all.is_empty());
        for object in &all {
            assert!(cluster::kind_of(object).is_some(), "{component}: {}", object["kind"]);
        }
    }
    let kinds: Vec<Value> = objects(Component::Istiod, &[]).iter().map(|o| o["kind"].clone()).collect();
    let at = |kind: &str| kinds.iter().position(|k| k == kind).unwrap_or_else(|| panic!("no {kind}"));
    assert!(at("ServiceAccount") < at("Deployment") && at("ConfigMap") < at("Deployment"));
    assert!(at("Deployment") < at("MutatingWebhookConfiguration"));
}

#[test]
fn single_values_are_in_the_language_of_helm() {
    for (text, comes_to) in [
        ("a.b=c", json!({ "a": { "b": "c" } })),
        ("a=1,b=true,c=null,d=01,e=1.5,f=", json!({ "a": 1, "b": true, "c": null, "d": "01", "e": "1.5", "f": "" })),
        (r"a\.b/c=x\,y", json!({ "a.b/c": "x,y" })),
        ("a={x,1}", json!({ "a": ["x", 1] })),
        ("a[1].b=x,a[0]=y", json!({ "a": ["y", { "b": "x" }] })),
        ("a=b=c", json!({ "a": "b=c" })),
    ] {
        let given = Values { set: vec![text.into()], ..Values::default() };
        assert_eq!(merge(&given), Ok(comes_to), "{text}");
    }
    for (text, why) in [("a", "has no `=`"), ("=b", "names nothing"), ("a[x]=1", "is no place")] {
        let given = Values { set: vec![text.into()], ..Values::default() };
        assert!(merge(&given).expect_err(text).contains(why), "{text}");
    }
    let given = Values {
        files: vec![json!({ "a": { "b": 1, "c": 2 } }), json!({ "a": { "b": 3 } })],
        set: vec!["a.d=4".into()],
        set_string: vec!["a.c=5".into()],
    };
    assert_eq!(merge(&given), Ok(json!({ "a": { "b": 3, "c": "5", "d": 4 } })));
}

#[test]
fn values_go_over_those_of_the_chart_and_null_takes_away() {
    let all = objects(Component::Istiod, &["resources=null", "env.A=1", "global.hub=r.example", "global.tag=v2"]);
    let container = &find(&all, "Deployment", "istiod")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "r.example/mainsheet:v2");
    assert!(container["resources"].is_null());
    assert!(container["env"].as_array().expect("a list").contains(&json!({ "name": "A", "value": "1" })));
}

#[test]
fn a_chart_says_which_values_it_cannot_work_with() {
    let values = json!({ "service": { "ports": [] } });
    let why = render(Component::Gateway, &release("g"), &values).expect_err("a gateway without ports");
    assert!(
        why.contains("the chart gateway, templates/service.yaml") && why.contains("service.ports is empty"),
        "{why}"
    );
}

#[test]
fn tags_are_further_webhooks_and_a_service_of_the_revision() {
    let all = objects(Component::Istiod, &["revision=canary", "revisionTags={prod,default}"]);
    let tag = find(&all, "MutatingWebhookConfiguration", "istio-revision-tag-prod");
    assert_eq!(tag["metadata"]["labels"]["istio.io/tag"], "prod");
    assert_eq!(tag["metadata"]["labels"]["istio.io/rev"], "canary");
    let names = |object: &Value| -> Vec<String> {
        let all = object["webhooks"].as_array().expect("webhooks").iter();
        all.map(|w| w["name"].as_str().expect("a name").replace("sidecar-injector.istio.io", "")).collect()
    };
    assert_eq!(names(tag), ["rev.namespace.", "rev.object."]);
    let selector = &tag["webhooks"][0]["namespaceSelector"]["matchExpressions"][0];
    assert_eq!(*selector, json!({ "key": "istio.io/rev", "operator": "In", "values": ["prod"] }));
    assert_eq!(tag["webhooks"][0]["clientConfig"]["service"]["name"], "istiod-canary");
    let default = find(&all, "MutatingWebhookConfiguration", "istio-revision-tag-default");
    assert_eq!(names(default), ["rev.namespace.", "rev.object.", "namespace.", "object."]);
    let service = find(&all, "Service", "istiod-revision-tag-prod");
    assert_eq!(service["spec"]["selector"], json!({ "app": "istiod", "istio.io/rev": "canary" }));
}

#[test]
fn the_same_objects_are_made_every_time_and_each_says_what_has_made_it() {
    let what = Install {
        components: vec![Component::Istiod, Component::Base, Component::Istiod],
        namespace: "mesh".into(),
        name: None,
        values: json!({ "revision": "canary" }),
        take_over: false,
    };
    let all = what.objects().expect("objects");
    assert_eq!(what.objects().expect("objects"), all);
    let bases = all.iter().filter(|o| o["metadata"]["labels"]["mainsheet.io/component"] == "base").count();
    assert!(bases > 10 && all.iter().all(|o| o["metadata"]["labels"]["mainsheet.io/namespace"] == "mesh"));
    let noted = find(&all, "ConfigMap", "mainsheet-installed-istiod-canary");
    assert_eq!(noted["data"]["values"], r#"{"revision":"canary"}"#);
}
