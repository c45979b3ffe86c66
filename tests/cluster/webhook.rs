//! Injection and validation by a real API server: it calls the webhooks of the chart, which mainsheet answers over TLS with
//! its own authority.

use crate::{
    deploy,
    harness::{Objects, Plane, Server, documents, eventually, with_own},
};
use hyper::Request;
use mainsheet::{
    parse::{self, Context},
    problem::Severity,
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    sync::Semaphore,
    time,
};
use tokio_rustls::TlsConnector;

const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
const VALIDATING: &str = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
const VALIDATOR: &str = "istio-validator-istio-system";
const SERVICES: &str = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices";
const PODS: &str = "/api/v1/namespaces/shop/pods";
/// So many pods are made at once; the last is what Kubernetes' controllers may do in a burst (`--kube-api-burst` of the
/// controller manager).
const AT_ONCE: [usize; 3] = [1, 5, 30];

async fn make(objects: &Objects, path: &str, object: &Value) {
    objects.send("POST", path, object).await.unwrap_or_else(|why| panic!("{path}: {why}"));
}

/// A control plane whose webhooks the API server finds: there is no network of a cluster, so the Service is a name for this
/// machine, and the webhooks name mainsheet's port.
async fn installed(server: &Server) -> Plane {
    let objects = server.objects();
    for (name, labels) in
        [("istio-system", json!({})), ("shop", json!({ "istio-injection": "enabled" })), ("other", json!({}))]
    {
        let namespace = json!({ "metadata": { "name": name, "labels": labels } });
        make(&objects, "/api/v1/namespaces", &namespace).await;
    }
    let plane = Plane::with_authority(server, &["--native-sidecars=true"]);
    for mut object in documents(&deploy::helm("istiod", &[])) {
        let path = match object["kind"].as_str() {
            Some("ConfigMap") => "/api/v1/namespaces/istio-system/configmaps",
            Some("MutatingWebhookConfiguration") => MUTATING,
            Some("ValidatingWebhookConfiguration") => VALIDATING,
            Some("Service") => {
                object["spec"] = json!({ "type": "ExternalName", "externalName": "localhost" });
                "/api/v1/namespaces/istio-system/services"
            }
            _ => continue,
        };
        for webhook in object.get_mut("webhooks").and_then(Value::as_array_mut).into_iter().flatten() {
            webhook["clientConfig"]["service"]["port"] = plane.webhooks().into();
        }
        make(&objects, path, &object).await;
    }
    plane.ready().await;
    let known = async || {
        let found = objects.send("GET", &format!("{VALIDATING}/{VALIDATOR}"), &Value::Null).await?;
        let mutating = objects.send("GET", &format!("{MUTATING}/istio-sidecar-injector"), &Value::Null).await?;
        let webhooks = found["webhooks"].as_array().cloned().unwrap_or_default();
        let policies: Vec<&Value> = webhooks.iter().map(|w| &w["failurePolicy"]).collect();
        let told = mutating["webhooks"][0]["clientConfig"]["caBundle"].is_string();
        match told && policies == ["Fail", "Fail", "Ignore"] {
            true => Ok(()),
            false => Err(format!("{policies:?}, {told}")),
        }
    };
    eventually("the roots are known, and validation of objects is a must", known).await;
    plane
}

fn pod(name: &str, labels: Value) -> Value {
    json!({ "metadata": { "name": name, "labels": labels }, "spec": { "serviceAccountName": "default", "containers": [{ "name": "web", "image": "w",
            "readinessProbe": { "httpGet": { "path": "/", "port": 8080 } } }] } })
}

fn virtual_service(name: &str, spec: Value) -> Value {
    json!({ "apiVersion": "networking.istio.io/v1", "kind": "VirtualService", "metadata": { "name": name }, "spec": spec })
}

fn has_sidecar(pod: &Value) -> bool {
    pod["spec"]["initContainers"].as_array().is_some_and(|all| all.iter().any(|c| c["name"] == "istio-proxy"))
}

#[test]
fn pods_are_injected_and_objects_that_cannot_be_served_are_refused() {
    with_own(async |server: Server| {
        let plane = installed(&server).await;
        let objects = server.objects();
        let made = objects.send("POST", PODS, &pod("web", json!({ "app": "web" }))).await.expect("a pod");
        assert!(has_sidecar(&made), "{made}");
        assert_eq!(made["spec"]["containers"][0]["readinessProbe"]["httpGet"]["path"], "/app-health/web/readyz");
        assert_eq!(made["metadata"]["labels"]["service.istio.io/canonical-name"], "web");
        for (path, labels, injected) in [
            (PODS, json!({ "sidecar.istio.io/inject": "false" }), false),
            ("/api/v1/namespaces/other/pods", json!({}), false),
            ("/api/v1/namespaces/other/pods", json!({ "sidecar.istio.io/inject": "true" }), true),
            ("/api/v1/namespaces/other/pods", json!({ "istio.io/rev": "default" }), true),
        ] {
            let name = format!("p{}", labels.to_string().len());
            let made = objects.send("POST", path, &pod(&name, labels.clone())).await.expect("a pod");
            assert_eq!(has_sidecar(&made), injected, "{path} {labels}");
        }
        let mut odd = pod("odd", json!({}));
        odd["metadata"]["annotations"] = json!({ "sidecar.istio.io/interceptionMode": "MAGIC" });
        let why = objects.send("POST", PODS, &odd).await.expect_err("an annotation that is wrong");
        assert!(why.contains("write REDIRECT, TPROXY or NONE"), "{why}");

        let bad = json!({ "hosts": ["web"], "http": [{ "route": [{ "destination": { "host": "web" }, "weight": -5 }] }, { "timeout": "soon" }] });
        let why = objects.send("POST", SERVICES, &virtual_service("bad", bad)).await.expect_err("a bad VirtualService");
        println!("{why}");
        let good = json!({ "hosts": ["web"], "http": [{ "route": [{ "destination": { "host": "web" } }] }] });
        make(&objects, SERVICES, &virtual_service("good", good)).await;
        let regex = json!({ "hosts": ["web"], "http": [{ "match": [{ "uri": { "regex": "(" } }], "route": [{ "destination": { "host": "web" } }] }] });
        let why = objects.send("POST", SERVICES, &virtual_service("regex", regex)).await.expect_err("a bad expression");
        assert!(
            why.contains("denied the request: configuration is invalid") && why.contains("spec.http[0].match[0]"),
            "{why}"
        );

        let settings = "/api/v1/namespaces/istio-system/configmaps/istio";
        let broken = json!({ "data": { "mesh": "outboundTrafficPolicy: {mode: SOMETIMES}" } });
        let why = objects.send("PATCH", settings, &broken).await.expect_err("settings that are wrong");
        assert!(why.contains("data.mesh.outboundTrafficPolicy"), "{why}");
        assert!(plane.metric("sidecar_injection_success_total") >= 3.0);
        assert!(plane.metric("sidecar_injection_failure_total") >= 1.0);
    });
}

/// The broken objects of the tests of parsing, with the addresses that they would be made at.
fn broken() -> Vec<(String, Value)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let definitions = fs::read_to_string(root.join(deploy::DEFINITIONS)).expect("definitions");
    let definitions = documents(&definitions);
    let mut found = Vec::new();
    for path in deploy::files("testdata/parse") {
        for mut object in deploy::own(&path, &definitions) {
            let problems = parse::object(&object, &Context::default()).problems;
            let refused = problems.iter().any(|p| p.severity == Severity::Error);
            if !refused || !object["metadata"]["name"].is_string() {
                continue;
            }
            object["metadata"]["namespace"] = "default".into();
            let (group, version) = object["apiVersion"].as_str().and_then(|v| v.split_once('/')).expect("a group");
            let kind = |d: &&Value| d["spec"]["names"]["kind"] == object["kind"] && d["spec"]["group"] == group;
            let plural = definitions.iter().find(kind).and_then(|d| d["spec"]["names"]["plural"].as_str());
            let at = format!("/apis/{group}/{version}/namespaces/default/{}", plural.expect("a kind"));
            found.push((at, object));
        }
    }
    found
}

#[test]
fn every_broken_object_is_refused_by_its_definition_or_by_validation() {
    with_own(async |server: Server| {
        let plane = installed(&server).await;
        let objects = server.objects();
        let all = broken();
        let (mut taken, mut by_us) = (BTreeSet::new(), 0);
        for (path, object) in &all {
            let path = format!("{path}?dryRun=All&fieldValidation=Ignore");
            match objects.send("POST", &path, object).await {
                Ok(made) => drop(taken.insert(made["metadata"]["name"].to_string())),
                Err(why) => by_us += usize::from(why.contains("configuration is invalid")),
            }
        }
        println!("of {} broken objects validation refuses {by_us}, and these are taken: {taken:?}", all.len());
        assert!(taken.is_empty(), "{taken:?}");
        assert!(all.len() >= 150 && by_us >= 60, "{} and {by_us}", all.len());
        drop(plane);
    });
}

#[test]
fn no_pod_is_refused_while_the_root_is_replaced_or_the_control_plane_starts_again() {
    with_own(async |server: Server| {
        let mut plane = installed(&server).await;
        let objects = server.objects();
        let start = Instant::now();
        let mut made = 0;
        let mut one = async |what: &str| {
            made += 1;
            let pod = objects.send("POST", PODS, &pod(&format!("{what}-{made}"), json!({}))).await;
            let pod = pod.unwrap_or_else(|why| panic!("{what}: {why}"));
            assert!(has_sidecar(&pod), "{what}");
        };
        for step in ["trusted", "signs", "alone"] {
            let ca = plane.authority();
            let done = Command::new(env!("CARGO_BIN_EXE_mainsheet"))
                .args(["ca", "rotate", "--overlap", "1s", "--ca-dir"])
                .arg(&ca)
                .output();
            let done = done.expect("mainsheet");
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            let until = Instant::now() + Duration::from_secs(8);
            while Instant::now() < until {
                one(step).await;
                time::sleep(Duration::from_millis(20)).await;
            }
        }
        plane.restart();
        plane.ready().await;
        one("again").await;
        println!("{made} pods in {:?}", start.elapsed());
    });
}

/// What the API server counts of its calls for injection: how many there were, their seconds, and how many took at most
/// so many.
async fn calls(server: &Server) -> BTreeMap<String, f64> {
    let request = Request::get("/metrics").body(Vec::new()).expect("a request");
    let text = server.client().request_text(request).await.expect("the API server's metrics");
    let of = "apiserver_admission_webhook_admission_duration_seconds_";
    let lines = text.lines().filter_map(|line| line.strip_prefix(of)).filter(|l| l.contains("sidecar-injector"));
    let mut all = BTreeMap::new();
    for (name, count) in lines.filter_map(|line| line.rsplit_once(' ')) {
        let part = match name.split_once("le=\"") {
            Some((_, rest)) => rest.trim_end_matches("\"}"),
            None => name.split('{').next().unwrap_or_default(),
        };
        *all.entry(part.to_owned()).or_default() += count.parse::<f64>().expect("a number");
    }
    all
}

/// How long each of so many calls takes that are sent as the API server sends them, by so many connections at once.
async fn asked(port: u16, count: usize, at_once: usize) -> Vec<Duration> {
    let tls = TlsConnector::from(Arc::new(mainsheet::tls::unverified().with_no_client_auth()));
    let asking = (0..at_once).map(|worker| {
        let tls = tls.clone();
        async move {
            let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
            stream.set_nodelay(true).expect("a socket");
            let name = "istiod.istio-system.svc".try_into().expect("a name");
            let mut stream = BufReader::new(tls.connect(name, stream).await.expect("TLS"));
            let mut took = Vec::new();
            for n in (worker..count).step_by(at_once) {
                let request = json!({ "uid": n.to_string(), "operation": "CREATE", "namespace": "shop",
                    "resource": { "group": "", "version": "v1", "resource": "pods" }, "object": pod(&format!("d-{n}"), json!({})) });
                let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
                let body = review.to_string();
                let head = format!("POST /inject HTTP/1.1\r\nHost: istiod\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
                let start = Instant::now();
                stream.write_all(format!("{head}{body}").as_bytes()).await.expect("a connection");
                let (mut line, mut length) = (String::new(), 0);
                while line != "\r\n" {
                    line.clear();
                    stream.read_line(&mut line).await.expect("an answer");
                    let value = line.to_ascii_lowercase();
                    length = value.strip_prefix("content-length: ").map_or(length, |n| n.trim().parse().expect("a number"));
                }
                let mut answer = vec![0; length];
                stream.read_exact(&mut answer).await.expect("an answer");
                took.push(start.elapsed());
                let answer: Value = serde_json::from_slice(&answer).expect("JSON");
                assert!(answer["response"]["patch"].is_string(), "{answer}");
            }
            took
        }
    });
    let mut all = futures_util::future::join_all(asking).await.concat();
    all.sort();
    all
}

#[test]
#[ignore = "its figures are those of a release build; `make cluster-bench` runs it"]
fn cost_of_500_pods_that_are_made_in_one_go() {
    with_own(async |server: Server| {
        let plane = installed(&server).await;
        let objects = server.objects();
        make(&objects, PODS, &pod("first", json!({}))).await;
        // Without the API server's own work for each, on the same processors.
        for at_once in AT_ONCE {
            let used = plane.cost().1;
            let took = asked(plane.webhooks(), 500, at_once).await;
            let each = (plane.cost().1 - used) * 1000.0 / 500.0;
            let [middle, most] = [took[249], took[494]];
            println!(
                "500 questions, {at_once} at once: {each:.2} ms of a processor for each; half take {middle:.1?}, 99 of 100 {most:.1?}"
            );
        }
        for at_once in AT_ONCE {
            let (before, used) = (calls(&server).await, plane.cost().1);
            let own = plane.metric("sidecar_injection_time_seconds_sum");
            let turns = Semaphore::new(at_once);
            let all = (0..500).map(|n| {
                let (objects, turns) = (server.objects(), &turns);
                let pod = pod(&format!("p{at_once}-{n}"), json!({ "app": "web" }));
                async move {
                    let _turn = turns.acquire().await;
                    objects.send("POST", PODS, &pod).await
                }
            });
            let made = futures_util::future::join_all(all).await;
            assert!(made.iter().all(|pod| pod.as_ref().is_ok_and(has_sidecar)), "all have a sidecar");
            let each = (plane.cost().1 - used) * 1000.0 / 500.0;
            let after = calls(&server).await;
            let more = |name: &str| after.get(name).unwrap_or(&0.0) - before.get(name).unwrap_or(&0.0);
            let mean = more("sum") * 1000.0 / more("count");
            let own = (plane.metric("sidecar_injection_time_seconds_sum") - own) * 1000.0 / more("count");
            let [fast, usual, slow] = ["0.005", "0.025", "0.1"].map(more);
            println!(
                "500 pods, {at_once} at once: {each:.2} ms of a processor for each; a call takes {mean:.1} ms, {own:.1} of \
                 them here, {fast} at most 5 ms, {usual} at most 25 ms, {slow} at most 100 ms"
            );
        }
    });
}
