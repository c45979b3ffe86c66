//! The webhooks over HTTP: what is a question, and what is counted.

use super::*;
use crate::prometheus::Page;
use axum::{
    Router,
    body::{Body, to_bytes},
    http::{Request, StatusCode},
};
use std::sync::Arc;
use tokio::sync::watch;
use tower::ServiceExt as _;

fn webhooks(injector: Result<Injector, String>) -> (Router, Arc<Metrics>) {
    let metrics = Arc::<Metrics>::default();
    let (_, world) = watch::channel(State { injector: injector.map(Arc::new), native: true });
    let (_, contexts) = watch::channel(Arc::new(crate::parse::Context::default()));
    let (_, snapshots) = watch::channel(Arc::default());
    (routes(Webhooks { world, contexts, snapshots, metrics: metrics.clone() }), metrics)
}

async fn post(routes: &Router, path: &str, content: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post(path).header("content-type", content).body(body.into()).expect("a request");
    let response = routes.clone().oneshot(request).await.expect("an answer");
    let status = response.status();
    let body = to_bytes(response.into_body(), usize::MAX).await.expect("a body");
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| String::from_utf8_lossy(&body).into_owned().into()))
}

const JSON: &str = "application/json";

#[tokio::test]
async fn pods_and_objects_are_answered_for_at_their_paths() {
    let (routes, metrics) = webhooks(Ok(injector()));
    let asked = question(&pod(), ["", "v1", "pods"]).to_string();
    for path in ["/inject", "/inject/", "/inject/cluster/east/net/n1", "/inject/:ENV:A=b"] {
        let (status, answer) = post(&routes, path, JSON, asked.clone()).await;
        assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(true)), "{path}");
        assert!(answer["response"]["patch"].is_string() && answer["kind"] == "AdmissionReview");
    }
    let object =
        json!({ "apiVersion": "networking.istio.io/v1", "kind": "Gateway", "metadata": { "name": "g" }, "spec": {} });
    let asked = question(&object, ["networking.istio.io", "v1", "gateways"]).to_string();
    for path in ["/validate", "/validate/", "/validate/x"] {
        let (status, answer) = post(&routes, path, "application/json; charset=utf-8", asked.clone()).await;
        assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(false)), "{path}");
    }
    let mut page = Page::default();
    metrics.write(&mut page);
    let text = page.into_text();
    for line in [
        "sidecar_injection_requests_total 4",
        "sidecar_injection_success_total 4",
        "sidecar_injection_failure_total 0",
        "sidecar_injection_time_seconds_count 4",
        r#"galley_validation_failed{group="networking.istio.io",version="v1",resource="gateways",reason="invalid_resource"} 3"#,
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[tokio::test]
async fn what_is_no_question_is_told_so() {
    let (routes, metrics) = webhooks(Ok(injector()));
    for path in ["/inject", "/validate"] {
        assert_eq!(post(&routes, path, JSON, "").await.0, StatusCode::BAD_REQUEST);
        assert_eq!(post(&routes, path, "text/plain", "{}").await.0, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(post(&routes, path, JSON, vec![b' '; (6 << 20) + 1]).await.0, StatusCode::PAYLOAD_TOO_LARGE);
        let (status, answer) = post(&routes, path, JSON, "{}").await;
        assert_eq!((status, &answer["response"]["allowed"]), (StatusCode::OK, &json!(false)));
        assert!(answer["response"]["status"]["message"].as_str().is_some_and(|m| m.contains("AdmissionReview")));
    }
    assert_eq!(post(&routes, "/other", JSON, "{}").await.0, StatusCode::NOT_FOUND);
    let mut page = Page::default();
    metrics.write(&mut page);
    let text = page.into_text();
    assert!(
        text.contains("sidecar_injection_failure_total 4")
            && text.contains(r#"galley_validation_http_error{status="415"} 1"#),
        "{text}"
    );
}

#[tokio::test]
async fn without_templates_a_pod_is_refused_and_told_why() {
    let (routes, _) = webhooks(Err("there is no ConfigMap".into()));
    let (_, answer) = post(&routes, "/inject", JSON, question(&pod(), ["", "v1", "pods"]).to_string()).await;
    assert_eq!(answer["response"]["status"]["message"], "there is no ConfigMap");
}

#[tokio::test]
async fn questions_of_the_older_version_are_answered_in_it() {
    let (routes, _) = webhooks(Ok(injector()));
    let mut asked = question(&pod(), ["", "v1", "pods"]);
    asked["apiVersion"] = "admission.k8s.io/v1beta1".into();
    let (_, answer) = post(&routes, "/inject", JSON, asked.to_string()).await;
    assert_eq!(answer["apiVersion"], "admission.k8s.io/v1beta1");
}
