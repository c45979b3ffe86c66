//! What is installed: the definitions of kinds, the charts, and the rights that come with them.

use crate::harness::{Objects, Server, documents, eventually, server, with_own};
use mainsheet::{
    parse::{self, Context},
    problem::Severity,
};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

pub(crate) const DEFINITIONS: &str = "deploy/charts/base/files/crd-all.gen.yaml";
/// Broken objects that the API server takes, since only parsing finds what is wrong with them.
const TAKEN: &str = "testdata/definitions/found-by-parsing.txt";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn program(name: &str) -> PathBuf {
    let cache = env::var_os("CACHE").map_or_else(
        || PathBuf::from(env::var_os("HOME").expect("a home")).join(".cache/mainsheet-cluster"),
        PathBuf::from,
    );
    let path = cache.join("bin").join(name);
    assert!(path.is_file(), "{} is missing: `make cluster-tools` builds it", path.display());
    path
}

/// Runs kubectl, which must do what it is told, with a text on its standard input.
pub(crate) fn kubectl(server: &Server, arguments: &[&str], input: &str) -> String {
    try_kubectl(server, arguments, input).unwrap_or_else(|why| panic!("kubectl {arguments:?}: {why}"))
}

fn try_kubectl(server: &Server, arguments: &[&str], input: &str) -> Result<String, String> {
    let mut child = Command::new(program("kubectl"))
        .args(arguments)
        .env("KUBECONFIG", server.kubeconfig())
        // What it remembers of a server goes by the address, which another server may have had.
        .env("KUBECACHEDIR", server.dir().join("cache"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl");
    child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("a reader");
    let out = child.wait_with_output().expect("an end");
    match out.status.success() {
        true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
        false => Err(String::from_utf8_lossy(&out.stderr).into_owned()),
    }
}

/// What the releases of charts are called.
pub(crate) fn release(chart: &str) -> &str {
    match chart {
        "base" => "istio-base",
        "gateway" => "istio-ingress",
        chart => chart,
    }
}

/// What a chart comes to.
pub(crate) fn helm(chart: &str, values: &[&str]) -> String {
    let name = release(chart);
    let mut command = Command::new(program("helm"));
    command.args(["template", name, "--namespace", "istio-system"]).arg(root().join("deploy/charts").join(chart));
    for value in values {
        command.args(["--set", value]);
    }
    let out = command.output().expect("helm");
    assert!(out.status.success(), "helm template {chart}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

/// Offers an object to the API server, which only says what it would do.
async fn offer(objects: &Objects, definitions: &[Value], object: &Value) -> Result<(), String> {
    let mut object = object.clone();
    object["metadata"]["namespace"] = "default".into();
    let (group, version) = object["apiVersion"].as_str().and_then(|v| v.split_once('/')).expect("a group");
    let kind = |d: &&Value| d["spec"]["names"]["kind"] == object["kind"] && d["spec"]["group"] == group;
    let plural = definitions.iter().find(kind).and_then(|d| d["spec"]["names"]["plural"].as_str()).expect("a kind");
    let path = format!("/apis/{group}/{version}/namespaces/default/{plural}?dryRun=All&fieldValidation=Ignore");
    objects.send("POST", &path, &object).await.map(drop)
}

/// The objects of the mesh's own kinds in a file, as far as they can be offered at all.
pub(crate) fn own(path: &Path, definitions: &[Value]) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a sample");
    let ours = |object: &Value| {
        let (group, version) = object["apiVersion"].as_str().and_then(|v| v.split_once('/')).unwrap_or_default();
        let served =
            |d: &Value| d["spec"]["versions"].as_array().is_some_and(|all| all.iter().any(|v| v["name"] == version));
        definitions
            .iter()
            .any(|d| d["spec"]["group"] == group && d["spec"]["names"]["kind"] == object["kind"] && served(d))
    };
    documents(&text).into_iter().filter(ours).collect()
}

fn refused(object: &Value) -> bool {
    parse::object(object, &Context::default()).problems.iter().any(|p| p.severity == Severity::Error)
}

pub(crate) fn files(dir: &str) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        fs::read_dir(root().join(dir)).expect("samples").map(|e| e.expect("a sample").path()).collect();
    all.sort();
    all
}

#[test]
fn the_api_server_takes_every_valid_sample_and_refuses_what_the_definitions_can_tell() {
    with_own(async |server: Server| {
        let definitions = documents(&fs::read_to_string(root().join(DEFINITIONS)).expect("definitions"));
        let objects = server.objects();
        let (mut valid, mut wrong) = (0, Vec::new());
        for case in files("testdata/translate") {
            for object in own(&case.join("in.yaml"), &definitions).iter().filter(|o| !refused(o)) {
                valid += 1;
                if let Err(why) = offer(&objects, &definitions, object).await {
                    wrong.push(format!("{}: {why}", case.display()));
                }
            }
        }
        assert!(wrong.is_empty(), "valid, and refused:\n{}", wrong.join("\n"));
        assert!(valid > 300, "{valid} samples");
        let (mut taken, mut told) = (BTreeSet::new(), 0);
        for case in files("testdata/parse") {
            for object in own(&case, &definitions).iter().filter(|o| refused(o) && o["metadata"]["name"].is_string()) {
                match offer(&objects, &definitions, object).await {
                    Ok(()) => drop(taken.insert(case.file_stem().expect("a name").to_string_lossy().into_owned())),
                    Err(why) => {
                        assert!(why.starts_with("422") || why.starts_with("400"), "{}: {why}", case.display());
                        told += 1;
                    }
                }
            }
        }
        let text: String = taken.iter().map(|name| format!("{name}\n")).collect();
        let path = root().join(TAKEN);
        if env::var_os("BLESS").is_some() {
            fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
            fs::write(&path, &text).expect("a list");
        }
        assert_eq!(fs::read_to_string(&path).unwrap_or_default(), text, "{TAKEN}; BLESS=1 rewrites it");
        assert!(told > 60, "{told} broken objects are refused");
    });
}

#[test]
fn every_kind_has_a_status_of_its_own_in_every_version() {
    with_own(async |server: Server| {
        let objects = server.objects();
        let path = |version: &str| format!("/apis/networking.istio.io/{version}/namespaces/default/serviceentries");
        let entry = json!({
            "apiVersion": "networking.istio.io/v1beta1", "kind": "ServiceEntry", "metadata": { "name": "a" },
            "spec": { "hosts": ["a.example"], "ports": [{ "number": 80, "name": "http" }] },
            "status": { "observedGeneration": 9 },
        });
        let made = objects.send("POST", &path("v1beta1"), &entry).await.expect("an entry");
        assert!(made["status"].is_null(), "what makes an object says nothing of it");
        let said = json!({ "status": {
            "observedGeneration": "3", "of-others": { "x": 1 }, "addresses": [{ "host": "a.example", "value": "240.240.0.1" }],
            "conditions": [{ "type": "Reconciled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" }],
        } });
        let path = format!("{}/a/status", path("v1alpha3"));
        let found = objects.send("PATCH", &path, &said).await.expect("a status");
        assert_eq!(found["status"], said["status"], "nothing is lost");
        assert_eq!(found["metadata"]["generation"], 1, "which changes no generation");
        // The API server tells of short names some time after it serves the kinds.
        let get = async || try_kubectl(&server, &["get", "se,vs,dr,gw,we,wg,ap,pa,ra", "-o", "wide"], "");
        let table = eventually("the short names are known", get).await;
        assert!(table.contains("HOSTS") && table.contains("a.example"), "{table}");
    });
}

/// Values that bring out every object of the chart.
pub(crate) const EVERYTHING: &[&str] = &[
    "autoscaleMin=2",
    "global.networkPolicy.enabled=true",
    "seccompProfile.type=RuntimeDefault",
    "sidecarInjectorWebhook.enableNamespacesByDefault=true",
    "sidecarInjectorWebhook.templates.own=metadata: {}",
    "cni.enabled=true",
    "revisionTags={prod,default}",
];
/// What is asked of the cluster only where somebody wants it.
pub(crate) const WANTED: &[&str] =
    &["env.ENABLE_CLUSTER_TRUST_BUNDLE_API=true", "env.MAINSHEET_DEBUG_ACCESS_REVIEW=true"];
pub(crate) const REVISION: &[&str] =
    &["revision=canary", "autoscaleEnabled=false", "replicaCount=2", "meshConfig.accessLogFile=/dev/stdout"];

#[test]
fn the_charts_are_taken_by_the_api_server_and_the_manifests_are_what_they_make() {
    with_own(async |server: Server| {
        kubectl(&server, &["delete", "crd", "--all"], "");
        kubectl(&server, &["create", "namespace", "istio-system"], "");
        let base = helm("base", &[]);
        let plain = helm("istiod", &[]);
        for text in [&base, &plain, &helm("istiod", EVERYTHING), &helm("istiod", WANTED), &helm("istiod", REVISION)] {
            kubectl(&server, &["apply", "--server-side", "--dry-run=server", "-f", "-"], text);
            kubectl(&server, &["apply", "--server-side", "--force-conflicts", "-f", "-"], text);
        }
        let there = kubectl(
            &server,
            &["-n", "istio-system", "get", "deploy,svc,sa,hpa,pdb,netpol,cm,role,rolebinding", "-o", "name"],
            "",
        );
        for name in [
            "deployment.apps/istiod",
            "deployment.apps/istiod-canary",
            "service/istiod",
            "service/istiod-canary",
            "service/istiod-revision-tag-prod",
            "serviceaccount/istiod",
            "horizontalpodautoscaler.autoscaling/istiod",
            "poddisruptionbudget.policy/istiod",
            "networkpolicy.networking.k8s.io/istiod",
            "configmap/istio",
            "configmap/istio-canary",
            "configmap/istio-sidecar-injector",
            "configmap/istio-sidecar-injector-canary",
            "role.rbac.authorization.k8s.io/istiod",
        ] {
            assert!(there.lines().any(|line| line == name), "no {name} in\n{there}");
        }
        let webhooks = kubectl(
            &server,
            &["get", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "-o", "name"],
            "",
        );
        for name in ["istio-sidecar-injector", "istio-sidecar-injector-canary", "istio-revision-tag-prod"] {
            assert!(
                webhooks.contains(&format!("mutatingwebhookconfiguration.admissionregistration.k8s.io/{name}\n")),
                "{webhooks}"
            );
        }
        for name in ["istio-validator-istio-system", "istio-validator-canary-istio-system"] {
            assert!(
                webhooks.contains(&format!("validatingwebhookconfiguration.admissionregistration.k8s.io/{name}\n")),
                "{webhooks}"
            );
        }
        let ports = kubectl(
            &server,
            &["-n", "istio-system", "get", "svc", "istiod", "-o", "jsonpath={.spec.ports[*].port}"],
            "",
        );
        assert_eq!(ports, "15010 15012 443 15014");
        let path = root().join("deploy/manifests/istiod.yaml");
        if env::var_os("BLESS").is_some() {
            fs::write(&path, &plain).expect("a manifest");
        }
        let written = fs::read_to_string(&path).unwrap_or_default();
        assert!(written == plain, "{} is not what the chart makes; BLESS=1 rewrites it", path.display());
    });
}

/// Values of the node's chart and of the gateway's that bring out every object, in every form.
pub(crate) const NODE: [&[&str]; 5] = [
    &[],
    &["provider=multus", "chained=false", "global.platform=openshift", "seLinuxOptions.type=spc_t"],
    &["repair.repairPods=false", "repair.deletePods=true", "global.networkPolicy.enabled=true", "chained=false"],
    &["repair.repairPods=false", "repair.labelPods=true", "useAppArmorAnnotation=false", "resourceQuotas.enabled=true"],
    &["repair.enabled=false", "global.nativeNftables=true", "cniConfFileName=10-pods.conflist", "revision=canary"],
];
pub(crate) const GATEWAY: [&[&str]; 5] = [
    &[],
    &["autoscaling.minReplicas=2", "podDisruptionBudget.minAvailable=1", "global.networkPolicy.enabled=true"],
    &["networkGateway=network1", "service.type=ClusterIP", "env.A=1", "revision=canary"],
    &["name=other", "kind=DaemonSet", "labels.istio=edge", "serviceAccount.create=false", "rbac.enabled=false"],
    &["name=third", "autoscaling.enabled=false", "replicaCount=2", "service.type=None"],
];

/// The kind by which Multus knows networks, as far as it matters here.
const MULTUS: &str = "
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: network-attachment-definitions.k8s.cni.cncf.io}
spec:
  group: k8s.cni.cncf.io
  scope: Namespaced
  names: {plural: network-attachment-definitions, singular: network-attachment-definition, kind: NetworkAttachmentDefinition}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, properties: {config: {type: string}}}}}}
";

#[test]
fn the_charts_of_nodes_and_gateways_are_taken_by_the_api_server() {
    with_own(async |server: Server| {
        kubectl(&server, &["create", "namespace", "istio-system"], "");
        kubectl(&server, &["create", "-f", "-"], MULTUS);
        kubectl(&server, &["wait", "--for=condition=Established", "crd", "--all"], "");
        let texts = NODE.iter().map(|v| helm("cni", v)).chain(GATEWAY.iter().map(|v| helm("gateway", v)));
        for text in texts {
            kubectl(&server, &["apply", "--server-side", "--dry-run=server", "-f", "-"], &text);
            kubectl(&server, &["apply", "--server-side", "--force-conflicts", "-f", "-"], &text);
        }
        let kinds = "ds,deploy,svc,sa,hpa,pdb,netpol,quota,role,rolebinding";
        let there = kubectl(&server, &["-n", "istio-system", "get", kinds, "-o", "name"], "");
        for name in [
            "daemonset.apps/mainsheet-cni-node",
            "daemonset.apps/other",
            "deployment.apps/istio-ingress",
            "deployment.apps/third",
            "service/istio-ingress",
            "service/other",
            "serviceaccount/mainsheet-cni",
            "serviceaccount/istio-ingress",
            "horizontalpodautoscaler.autoscaling/istio-ingress",
            "poddisruptionbudget.policy/istio-ingress",
            "networkpolicy.networking.k8s.io/mainsheet-cni",
            "networkpolicy.networking.k8s.io/istio-ingress",
            "resourcequota/mainsheet-cni-resource-quota",
            "role.rbac.authorization.k8s.io/mainsheet-cni",
            "role.rbac.authorization.k8s.io/istio-ingress",
        ] {
            assert!(there.lines().any(|line| line == name), "no {name} in\n{there}");
        }
        for absent in ["service/third", "serviceaccount/other", "horizontalpodautoscaler.autoscaling/third"] {
            assert!(!there.lines().any(|line| line == absent), "{absent} in\n{there}");
        }
        let network = "network-attachment-definition/mainsheet-cni";
        kubectl(&server, &["-n", "default", "get", network], "");
        let account = "--as=system:serviceaccount:istio-system:mainsheet-cni";
        // The last values that were applied repair nothing, so what is left is to look.
        for (verb, kind, may) in [("get", "pods", true), ("delete", "pods", false), ("list", "secrets", false)] {
            let said = try_kubectl(&server, &["auth", "can-i", verb, kind, "--all-namespaces", account], "");
            assert_eq!(said.is_ok(), may, "{verb} {kind}: {said:?}");
        }
    });
}

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/istio-system/leases/istio-leader";

/// A file with which a program is the control plane's ServiceAccount, as a pod of the chart would be.
async fn as_control_plane(server: &Server) -> PathBuf {
    let path = "/api/v1/namespaces/istio-system/serviceaccounts/istiod/token";
    let wanted = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {} });
    let token = server.objects().send("POST", path, &wanted).await.expect("a token");
    server.kubeconfig_of(token["status"]["token"].as_str().expect("a token"))
}

/// Objects that are worked on, by their addresses.
const WORKED_ON: [(&str, &str); 5] = [
    (
        "/apis/networking.istio.io/v1/namespaces/default/virtualservices/a",
        "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: a}
spec: {hosts: [a], http: [{route: [{destination: {host: a}}]}]}",
    ),
    (
        "/apis/security.istio.io/v1/namespaces/default/peerauthentications/a",
        "apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: a}
spec: {mtls: {mode: STRICT}}",
    ),
    (
        "/api/v1/namespaces/istio-system/services/istio-ingressgateway",
        "apiVersion: v1
kind: Service
metadata: {name: istio-ingressgateway}
spec: {externalIPs: [192.0.2.7], ports: [{port: 80}]}",
    ),
    (
        "/apis/networking.k8s.io/v1/namespaces/default/ingresses/a",
        "apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: a, annotations: {kubernetes.io/ingress.class: istio}}
spec: {defaultBackend: {service: {name: a, port: {number: 80}}}}",
    ),
    (
        "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/a",
        "apiVersion: admissionregistration.k8s.io/v1
kind: MutatingWebhookConfiguration
metadata: {name: a, labels: {istio.io/rev: default}}
webhooks:
- name: namespace.sidecar-injector.istio.io
  clientConfig: {service: {name: istiod, namespace: istio-system, path: /inject}}
  sideEffects: None
  admissionReviewVersions: [v1]
  failurePolicy: Ignore
  rules: [{operations: [CREATE], apiGroups: [\"\"], apiVersions: [v1], resources: [pods]}]",
    ),
];

/// Takes back what was done to the objects that are worked on.
async fn undo(objects: &Objects) {
    for (path, _) in &WORKED_ON[..4] {
        let status = if path.contains("ingresses") { json!({ "loadBalancer": null }) } else { Value::Null };
        let _ = objects.send("PATCH", &format!("{path}/status"), &json!({ "status": status })).await;
    }
    let (path, webhooks) = WORKED_ON[4];
    let webhooks = documents(webhooks)[0]["webhooks"].clone();
    let _ = objects.send("PATCH", path, &json!({ "webhooks": webhooks })).await;
}

/// Whether all that is worked on was.
async fn is_done(objects: &Objects) -> bool {
    let get = async |at: usize| objects.send("GET", WORKED_ON[at].0, &Value::Null).await.unwrap_or_default();
    let told = async |at| get(at).await["status"]["observedGeneration"] == 1;
    told(0).await
        && told(1).await
        && get(3).await["status"]["loadBalancer"]["ingress"][0]["ip"] == "192.0.2.7"
        && get(4).await["webhooks"][0]["clientConfig"]["caBundle"].is_string()
}

/// Runs the control plane under its own rights, until it has done all that it does at the start, or for this long; and gives
/// what it said.
async fn run(server: &Server, longest: Duration) -> (bool, String) {
    let objects = server.objects();
    let roots = "/api/v1/namespaces/default/configmaps/istio-ca-root-cert";
    let _ = objects.send("DELETE", roots, &Value::Null).await;
    let _ = objects.send("PATCH", LEASE, &json!({ "spec": { "holderIdentity": "" } })).await;
    undo(&objects).await;
    let log = server.kubeconfig().with_file_name("istiod.log");
    let _ = fs::remove_file(&log);
    let mut command = Command::new(env!("CARGO_BIN_EXE_mainsheet"));
    command.args(["discovery", "--kubeconfig"]).arg(as_control_plane(server).await);
    for flag in ["--grpc-addr", "--secure-grpc-addr", "--http-addr", "--https-addr", "--monitoring-addr"] {
        command.args([flag, "127.0.0.1:0"]);
    }
    let mut child = server::spawn(command, &log);
    let started = std::time::Instant::now();
    let done = loop {
        let roots = objects.send("GET", roots, &Value::Null).await;
        let told = is_done(&objects).await;
        let text = fs::read_to_string(&log).unwrap_or_default();
        let serving = text.contains(" serving");
        if roots.is_ok() && told && serving {
            break true;
        }
        if started.elapsed() > longest || text.contains("forbidden") {
            break false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    child.kill().expect("a process");
    child.wait().expect("an end");
    (done, fs::read_to_string(&log).unwrap_or_default())
}

/// Whether a rule is for what does not happen at the start: callers and machines come, or the authority gets another root.
fn is_for_later(rule: &Value) -> bool {
    let of = |resource: &str| rule["resources"] == json!([resource]);
    of("tokenreviews") || of("workloadentries") || of("secrets") && rule["verbs"] == json!(["update"])
}

#[test]
fn the_control_plane_works_with_the_rights_of_its_chart_and_with_none_less() {
    with_own(async |server: Server| {
        kubectl(&server, &["create", "namespace", "istio-system"], "");
        kubectl(&server, &["apply", "--server-side", "-f", "-"], &helm("istiod", &[]));
        let objects = server.objects();
        for (path, object) in WORKED_ON {
            let object = &documents(object)[0];
            objects.send("POST", path.rsplit_once('/').expect("a parent").0, object).await.expect("an object");
        }
        let (done, log) = run(&server, Duration::from_secs(60)).await;
        assert!(done && !log.contains("forbidden"), "{log}");
        for path in [
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/istiod-clusterrole-istio-system",
            "/apis/rbac.authorization.k8s.io/v1/namespaces/istio-system/roles/istiod",
        ] {
            let role = objects.send("GET", path, &Value::Null).await.expect("a role");
            let rules = role["rules"].as_array().expect("rules").clone();
            for (at, rule) in rules.iter().enumerate().filter(|(_, rule)| !is_for_later(rule)) {
                let mut fewer = rules.clone();
                fewer.remove(at);
                objects.send("PATCH", path, &json!({ "rules": fewer })).await.expect("a role with less");
                let secret = "/api/v1/namespaces/istio-system/secrets/istio-ca-secret";
                let _ = objects.send("DELETE", secret, &Value::Null).await;
                if rule["resources"] == json!(["leases"]) && rule["verbs"] == json!(["create"]) {
                    objects.send("DELETE", LEASE, &Value::Null).await.expect("a lease");
                }
                let (done, log) = run(&server, Duration::from_secs(20)).await;
                assert!(!done || log.contains("forbidden"), "nothing needs {rule}");
                objects.send("PATCH", path, &json!({ "rules": rules })).await.expect("the whole role");
            }
        }
    });
}
