//! The pages of a small world, without sockets.

use super::{Debug, Identity};
use crate::{
    ca::{self, KeyKind, Limits, Signer},
    model::{Change, Mesh},
    parse::{self, Context},
    peer::{Authenticator, Mint},
    snapshot::Snapshot,
    xds::{Metrics, Registry},
};
use axum::http::{HeaderMap, HeaderValue};
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};
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
        webhooks: None,
        machines: None,
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
    let content = debug.content(path, &parameters).map_err(|(status, text)| (status.as_u16(), text))?;
    Ok(serde_json::from_slice(&content.text()).expect("JSON"))
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
fn objects_are_shown_as_they_were_given() {
    let rule = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "x", "namespace": "shop", "labels": {"a": "b"}}, "spec": {"host": "web"}});
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": 80}]}});
    let all = get(&debug(&[service, rule.clone()]), "debug/configz", &[]).expect("a page");
    assert_eq!(all, json!([rule]), "and none of Kubernetes' own");
}

#[tokio::test]
async fn the_endpoints_of_a_large_world_are_sent_in_pieces_that_come_to_the_same() {
    let service = |n: usize| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": format!("web-{n}"), "namespace": "shop"},
            "spec": {"clusterIP": "10.96.0.1", "selector": {"app": "web"}, "ports": [{"name": "http", "port": 80}]}})
    };
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "shop", "labels": {"app": "web"}},
        "spec": {"containers": []}, "status": {"podIP": "10.244.0.1"}});
    let debug = debug(&(0..500).map(service).chain([pod]).collect::<Vec<_>>());
    for (path, pretty) in [("debug/endpointz", false), ("debug/registryz", true)] {
        let parameters = if pretty { [("pretty".to_owned(), String::new())].into() } else { BTreeMap::new() };
        let mut pieces = debug.page(path, &parameters).into_body().into_data_stream();
        let (mut text, mut count) = (Vec::new(), 0);
        while let Some(piece) = pieces.next().await {
            let piece = piece.expect("a piece");
            assert!(piece.len() < 80 << 10, "{} bytes at once", piece.len());
            text.extend_from_slice(&piece);
            count += 1;
        }
        assert!(count > 3, "{path}: {count} pieces of {}", text.len());
        assert_eq!(text.ends_with(b"\n"), pretty);
        let whole: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(whole, get(&debug, path, &[]).expect("a page"), "{path}");
        let shown = whole.as_object().map(|o| o.len()).or(whole.as_array().map(Vec::len));
        assert_eq!(shown, Some(500));
    }
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

#[tokio::test]
async fn pages_are_for_the_machine_itself_and_for_whom_the_control_plane_knows() {
    let mint = Mint::open(&Mint::generate().expect("a key")).expect("the key");
    let files = ca::self_signed("mesh", KeyKind::P256, ca::now(), 3600).expect("an authority");
    let authority = ca::Authority::from_files(&files, ca::now()).expect("an authority");
    let (_, authority) = watch::channel(Arc::new(authority));
    let limits = Limits { default_ttl: 60, max_ttl: 60, workers: 1, queue: 1 };
    let issuers = vec![Arc::new(mint.issuer(&["istio-ca".into()]))];
    let identity = Identity {
        signer: Arc::new(Signer::new(authority, limits)),
        authenticator: Arc::new(Authenticator::new(Box::new(|| vec!["cluster.local".into()]), issuers)),
        namespaces: vec!["watchers".into()],
        access: None,
    };
    let open = shop();
    let guarded = Debug { identity: Some(identity), ..open.clone() };
    let ask = async |debug: &Debug, from: &str, namespace: Option<&str>, page: &str, id: &str| {
        let from: SocketAddr = from.parse().expect("an address");
        let mut headers = HeaderMap::new();
        if let Some(namespace) = namespace {
            let token = mint.token((namespace, "a"), "istio-ca", ca::now(), 60).expect("a token");
            let scheme = if namespace == "watchers" { "Istio" } else { "Bearer" };
            headers.insert("authorization", HeaderValue::try_from(format!("{scheme} {token}")).expect("a header"));
        }
        let parameters = [("proxyID".to_owned(), id.to_owned())].into();
        debug.admit(from, &headers, page, &parameters).await.err().map_or(200, |(status, _)| status.as_u16())
    };
    const FAR: &str = "10.0.0.9:80";
    for (from, namespace, page, id, status) in [
        ("127.0.0.1:80", None, "debug/configz", "", 200),
        ("[::ffff:127.0.0.1]:80", None, "debug/configz", "", 200),
        (FAR, None, "debug/configz", "", 401),
        (FAR, Some("istio-system"), "debug/configz", "", 200),
        (FAR, Some("watchers"), "debug/configz", "", 200),
        (FAR, Some("shop"), "debug/configz", "", 403),
        (FAR, Some("shop"), "debug/syncz", "", 403),
        (FAR, Some("shop"), "debug/adsz", "", 403),
        (FAR, Some("shop"), "debug/config_dump", "", 200),
        (FAR, Some("shop"), "debug/config_dump", "web-1.web", 404),
    ] {
        assert_eq!(ask(&guarded, from, namespace, page, id).await, status, "{from} {namespace:?} {page} {id}");
    }
    assert_eq!(
        ask(&open, FAR, None, "debug/configz", "").await,
        200,
        "where nobody can prove anything, nothing is asked for"
    );
}
