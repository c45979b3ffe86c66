//! The pages of a small world, without sockets.

use super::Debug;
use crate::{
    model::{Change, Mesh},
    parse::{self, Context},
    snapshot::Snapshot,
    xds::{Metrics, Registry},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};
use tokio::sync::watch;

fn debug(objects: &[Value]) -> Debug {
    let changes: Vec<Change> = objects.iter().map(|o| parse::object(o, &Context::default())).collect();
    let (_, snapshots) = watch::channel(Arc::new(Snapshot::new(Mesh::default()).apply(changes)));
    let (_, pending) = watch::channel(vec!["files".to_owned()]);
    Debug {
        snapshots,
        registry: Arc::new(Registry::default()),
        metrics: Arc::new(Metrics::default()),
        pending,
        identity: None,
        cluster: None,
    }
}

fn shop() -> Debug {
    debug(&[
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}}),
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"containers": []}, "status": {"podIP": "10.244.0.1"}}),
        json!({"apiVersion": "networking.istio.io/v1", "kind": "Nonsense", "metadata": {"name": "x", "namespace": "shop"}, "spec": {"a": 1}}),
    ])
}

fn get(debug: &Debug, path: &str, parameters: &[(&str, &str)]) -> Result<Value, (u16, String)> {
    let parameters: BTreeMap<_, _> = parameters.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    debug.content(path, &parameters).map_err(|(status, text)| (status.as_u16(), text))
}

#[test]
fn services_are_shown_as_istiod_shows_them() {
    let all = get(&shop(), "debug/registryz", &[]).expect("a page");
    let web = &all[0];
    assert_eq!(web["hostname"], "web.shop.svc.cluster.local");
    assert_eq!(web["Attributes"]["ServiceRegistry"], "Kubernetes");
    assert_eq!(web["Attributes"]["LabelSelectors"], json!({"app": "web"}));
    assert_eq!(web["ports"], json!([{"name": "http", "port": 80, "protocol": "HTTP"}]));
    assert_eq!(web["clusterVIPs"], json!({"Addresses": {"Kubernetes": ["10.96.0.1"]}}));
    assert_eq!(web["creationTime"], "2026-01-01T00:00:00Z");
}

#[test]
fn endpoints_are_shown_by_host_namespace_and_shard() {
    let all = get(&shop(), "debug/endpointz", &[]).expect("a page");
    let shard = &all["web.shop.svc.cluster.local"]["shop"]["Shards"]["Kubernetes/Kubernetes"];
    assert_eq!(shard[0]["Addresses"], json!(["10.244.0.1"]));
    assert_eq!(shard[0]["EndpointPort"], 80);
    assert_eq!(shard[0]["ServiceAccount"], "spiffe://cluster.local/ns/shop/sa/default");
}

#[test]
fn problems_are_listed_by_namespace() {
    let debug = shop();
    let all = get(&debug, "debug/problems", &[("namespace", "shop")]).expect("a page");
    assert_eq!(all["problems"][0]["kind"], "Nonsense");
    assert_eq!(all["problems"][0]["path"], "kind");
    assert_eq!(get(&debug, "debug/problems", &[("namespace", "other")]).expect("a page")["problems"], json!([]));
}

#[test]
fn a_dump_needs_a_proxy_that_is_connected() {
    let debug = shop();
    assert_eq!(get(&debug, "debug/config_dump", &[]).map_err(|e| e.0), Err(400));
    assert_eq!(get(&debug, "debug/config_dump", &[("proxyID", "a.b")]).map_err(|e| e.0), Err(404));
    assert_eq!(get(&debug, "debug/nothing", &[]).map_err(|e| e.0), Err(404));
}

#[test]
fn every_page_of_the_list_answers() {
    let debug = shop();
    for page in get(&debug, "debug/list", &[]).expect("a page").as_array().expect("a list") {
        let page = page.as_str().expect("a name");
        let needs_proxy = matches!(page, "config_dump" | "edsz" | "ecdsz" | "ndsz");
        let answer = get(&debug, &format!("debug/{page}"), &[]);
        assert_eq!(answer.is_err(), needs_proxy, "{page}: {answer:?}");
    }
}

#[test]
fn a_page_is_had_over_xds_by_its_relative_address() {
    let debug = shop();
    let answer = debug.answer("istio.io/debug", &["syncz".to_owned()]).expect("an answer");
    assert_eq!((answer.resources.len(), &*answer.resources[0].value), (1, &b"[]"[..]));
    assert_eq!(answer.resources[0].type_url, "istio.io/debug");
    assert!(debug.answer("istio.io/debug", &[]).is_err() && debug.answer("istio.io/other", &[]).is_err());
    assert!(debug.answer("istio.io/debug/syncz", &[]).expect("an answer").control_plane.is_some());
}

#[test]
fn metrics_count_the_world_under_istiods_names() {
    let text = super::metrics::text(&shop());
    assert!(text.contains("\npilot_services 1\n"), "{text}");
    assert!(text.contains("mainsheet_problems{severity=\"warning\",kind=\"Nonsense\"} 1\n"), "{text}");
    assert!(text.contains("pilot_xds_pushes{type=\"cds\"} 0\n"), "{text}");
}
