//! Installing without Helm: the charts come to what Helm makes of them, and an API server takes, shows and loses it all.

use crate::{
    deploy::{EVERYTHING, GATEWAY, NODE, REVISION, WANTED, helm, kubectl, program, release},
    harness::{Objects, Plane, Server, documents, eventually, with_own},
};
use mainsheet::install::{self, Component, Release, Values};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    process::{Command, Stdio},
};

/// Objects by their kinds and names, with what ConfigMaps have as YAML read.
fn named(objects: Vec<Value>) -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for mut object in objects {
        if object["kind"] == "ConfigMap" {
            for text in object["data"].as_object_mut().into_iter().flat_map(|data| data.values_mut()) {
                *text = mainsheet::parse::yaml::value(text.as_str().expect("a text")).expect("YAML");
            }
        }
        let metadata = &object["metadata"];
        let name = format!("{} {} {}", object["kind"], metadata["namespace"], metadata["name"]);
        assert!(all.insert(name.clone(), object).is_none(), "two of {name}");
    }
    all
}

/// Values that nothing but the language of values is about.
const LANGUAGE: &[&str] = &[
    "resources=null",
    "env.A=007,env.B=true,env.C=12",
    r"podAnnotations.a\.b/c=x\,y",
    "meshConfig.extensionProviders[0].name=log",
    "tolerations[0].key=a,tolerations[0].operator=Exists",
    "initContainers[0].name=first,initContainers[0].image=i",
    "global.imagePullSecrets={a,b}",
    "global.resourceScope=all",
];

#[test]
fn the_charts_come_to_what_helm_makes_of_them() {
    let mut cases: Vec<(Component, &[&str])> = vec![
        (Component::Base, &[]),
        (Component::Base, &["defaultRevision=canary", "base.excludedCRDs={sidecars.networking.istio.io}"]),
        (Component::Base, &["base.enableCRDTemplates=false", "defaultRevision=default"]),
    ];
    for values in [&[], EVERYTHING, WANTED, REVISION, LANGUAGE, &["global.resourceScope=cluster"]] {
        cases.push((Component::Istiod, values));
    }
    cases.extend(NODE.iter().map(|values| (Component::Cni, *values)));
    cases.extend(GATEWAY.iter().map(|values| (Component::Gateway, *values)));
    let network = ["networkGateway=n", "service.annotations.a=b", "annotations.c=d", "labels.team=a", "strategy=null"];
    cases.push((Component::Gateway, &network));
    let mut count = 0;
    for (component, set) in cases {
        let given = Values { set: set.iter().map(|s| (*s).to_owned()).collect(), ..Values::default() };
        let values = install::merge(&given).expect("values");
        let release = release(component.name()).to_owned();
        let release = Release { name: release, namespace: "istio-system".into(), service: "Helm" };
        let ours = named(install::render(component, &release, &values).unwrap_or_else(|why| panic!("{set:?}: {why}")));
        let theirs = named(documents(&helm(component.name(), set)));
        count += theirs.len();
        assert_eq!(ours.keys().collect::<Vec<_>>(), theirs.keys().collect::<Vec<_>>(), "{component} {set:?}");
        for (name, object) in &theirs {
            assert_eq!(ours[name], *object, "{component} {set:?}: {name}");
        }
    }
    assert!(count > 150, "{count} objects");
}

/// Runs mainsheet with the rights of an administrator: whether it did what it was told, and all that it said.
fn mainsheet(server: &Server, words: &[&str], input: &str) -> (bool, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_mainsheet"))
        .args(words)
        .arg("--kubeconfig")
        .arg(server.kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mainsheet");
    child.stdin.take().expect("an input").write_all(input.as_bytes()).expect("a reader");
    let out = child.wait_with_output().expect("an end");
    let said = [out.stdout, out.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    (out.status.success(), said)
}

fn does(server: &Server, words: &[&str]) -> String {
    let (done, said) = mainsheet(server, words, "");
    assert!(done, "{words:?}: {said}");
    said
}

fn refuses(server: &Server, words: &[&str], why: &str) {
    let (done, said) = mainsheet(server, words, "");
    assert!(!done && said.contains(why), "{words:?} should say {why:?}: {said}");
}

const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/istio-system/deployments";
const MUTATING: &str = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";

/// Says of a Deployment what its controller would say once its pods run.
async fn roll_out(objects: &Objects, name: &str) {
    let path = format!("{DEPLOYMENTS}/{name}");
    let live = objects.send("GET", &path, &Value::Null).await.expect("a Deployment");
    let status = json!({
        "observedGeneration": live["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
        "availableReplicas": 1,
    });
    objects.send("PATCH", &format!("{path}/status"), &json!({ "status": status })).await.expect("a status");
}

/// The names of all that an installation has made, by the labels of it.
fn made(server: &Server) -> String {
    let kinds = "deploy,svc,sa,hpa,pdb,cm,role,rolebinding,clusterrole,clusterrolebinding,crd,\
                 mutatingwebhookconfigurations,validatingwebhookconfigurations";
    kubectl(server, &["get", kinds, "-A", "-l", "mainsheet.io/release", "-o", "name"], "")
}

#[test]
fn what_is_installed_is_verified_and_removed_again() {
    with_own(async |server: Server| {
        let objects = server.objects();
        // Definitions are there that nobody owns, and an account that Helm has made.
        kubectl(&server, &["create", "namespace", "istio-system"], "");
        let account = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": {
            "name": "istiod", "labels": { "app.kubernetes.io/managed-by": "Helm" },
            "annotations": { "meta.helm.sh/release-name": "old", "meta.helm.sh/release-namespace": "istio-system" } } });
        kubectl(&server, &["-n", "istio-system", "create", "-f", "-"], &account.to_string());
        let owned = "ServiceAccount istio-system/istiod belongs to Helm's release old in istio-system";
        refuses(&server, &["install", "--timeout", "0s"], owned);
        assert_eq!(made(&server), "", "nothing is written before all may be");
        let said = does(&server, &["install", "--timeout", "0s", "--take-over", "--set", "autoscaleMin=2"]);
        assert!(
            said.contains("taken over from Helm's release old") && said.contains("CustomResourceDefinition"),
            "{said}"
        );
        assert!(made(&server).contains("poddisruptionbudget.policy/istiod\n"), "{}", made(&server));

        // Nobody runs it yet.
        let (done, said) = mainsheet(&server, &["verify"], "");
        assert!(
            !done && said.contains("Deployment istio-system/istiod: the newest version is not rolled out"),
            "{said}"
        );
        assert!(said.contains("namespace.sidecar-injector.istio.io has no caBundle"), "{said}");
        assert!(!said.contains("should be"), "what was just applied is as it should be: {said}");
        let plane = Plane::with_authority(&server, &[]);
        plane.ready().await;
        roll_out(&objects, "istiod").await;
        eventually("all is as it should be", async || match mainsheet(&server, &["verify"], "") {
            (true, said) => Ok(said),
            (false, said) => Err(said),
        })
        .await;

        // Other values make other objects, and what they do not make goes.
        let said = does(&server, &["install", "--timeout", "30s", "--component", "istiod"]);
        assert!(said.contains("PodDisruptionBudget istio-system/istiod: removed") && said.contains("ready"), "{said}");
        assert!(!made(&server).contains("poddisruptionbudget"), "{}", made(&server));

        // What somebody has broken is told.
        kubectl(&server, &["-n", "istio-system", "delete", "service", "istiod"], "");
        let image = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "discovery", "image": "other" }] } } } });
        let patch = ["-n", "istio-system", "patch", "deployment", "istiod", "--type", "strategic", "-p"];
        kubectl(&server, &[&patch[..], &[&image.to_string()]].concat(), "");
        roll_out(&objects, "istiod").await;
        let (done, said) = mainsheet(&server, &["verify", "--revision", "default"], "");
        assert!(!done && said.contains("Service istio-system/istiod: is not there"), "{said}");
        let image = "containers[0].image is \"other\", and should be \"localhost/mainsheet:1\"";
        assert!(said.contains(image) && said.contains("2 findings"), "{said}");
        // The same is found from a manifest.
        let manifest = does(&server, &["install", "--dry-run", "--component", "istiod"]);
        let (done, said) = mainsheet(&server, &["verify", "-f", "-"], &manifest);
        assert!(!done && said.contains(image) && said.contains("2 findings"), "{said}");
        roll_out(&objects, "istiod").await;
        does(&server, &["install", "--timeout", "0s", "--component", "istiod"]);
        roll_out(&objects, "istiod").await;
        does(&server, &["verify"]);

        tags(&server, &objects).await;

        refuses(&server, &["uninstall", "--component", "gateway"], "istiod (istio-system/istiod), revision default");
        refuses(&server, &["uninstall", "--component", "base"], "--purge removes it");
        does(&server, &["uninstall"]);
        let left = made(&server);
        assert!(
            left.contains("deployment.apps/istiod-canary\n") && !left.contains("deployment.apps/istiod\n"),
            "{left}"
        );
        assert!(left.contains("customresourcedefinition"), "{left}");
        refuses(&server, &["verify", "--revision", "default", "-n", "default"], "nothing is installed in default");
        does(&server, &["uninstall", "--purge"]);
        // A definition is there until the API server has removed the objects of its kind.
        eventually("nothing is left", async || match made(&server) {
            left if left.is_empty() => Ok(()),
            left => Err(left),
        })
        .await;
        let kinds = kubectl(&server, &["get", "crd", "-o", "name"], "");
        assert!(!kinds.contains("istio.io"), "{kinds}");
    });
}

/// Two revisions, and names for them.
async fn tags(server: &Server, objects: &Objects) {
    does(server, &["install", "--timeout", "0s", "--component", "istiod", "--revision", "canary"]);
    refuses(server, &["tag", "set", "prod", "--revision", "none"], "and there is none");
    refuses(server, &["tag", "set", "canary", "--revision", "default"], "is the name of a revision");
    does(server, &["tag", "set", "prod", "--revision", "default"]);
    refuses(server, &["tag", "set", "prod", "--revision", "canary"], "--overwrite moves it");
    refuses(server, &["uninstall"], "the tag prod leads to the revision default");
    does(server, &["tag", "set", "prod", "--revision", "canary", "--overwrite"]);
    kubectl(server, &["create", "namespace", "shop"], "");
    kubectl(server, &["label", "namespace", "shop", "istio.io/rev=prod"], "");
    let said = does(server, &["tag", "list"]);
    let words: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[1], ["prod", "canary", "shop"], "{said}");
    let tag = objects.send("GET", &format!("{MUTATING}/istio-revision-tag-prod"), &Value::Null).await.expect("a tag");
    assert_eq!(tag["webhooks"][0]["clientConfig"]["service"]["name"], "istiod-canary");
    assert_eq!(tag["webhooks"][0]["namespaceSelector"]["matchExpressions"][0]["values"], json!(["prod"]));
    let service = "/api/v1/namespaces/istio-system/services/istiod-revision-tag-prod";
    let service = objects.send("GET", service, &Value::Null).await.expect("a Service");
    assert_eq!(service["spec"]["selector"]["istio.io/rev"], "canary");
    refuses(server, &["tag", "remove", "prod"], "would get no sidecar any more: shop");
    does(server, &["tag", "remove", "prod", "--force"]);

    // The default goes to another revision, and comes back.
    let own = format!("{MUTATING}/istio-sidecar-injector");
    let before = objects.send("GET", &own, &Value::Null).await.expect("webhooks");
    does(server, &["tag", "set", "default", "--revision", "canary"]);
    let silent = objects.send("GET", &own, &Value::Null).await.expect("webhooks");
    assert_eq!(silent["webhooks"][2]["namespaceSelector"]["matchLabels"]["istio.io/deactivated"], "never-match");
    let (done, _) = mainsheet(server, &["verify", "--revision", "default"], "");
    assert!(!done, "the default revision is not what it was installed as");
    let validator = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/istiod-default-validator";
    let found = objects.send("GET", validator, &Value::Null).await.expect("a validator");
    assert_eq!(found["webhooks"][0]["clientConfig"]["service"]["name"], "istiod-canary");
    does(server, &["tag", "remove", "default"]);
    let after = objects.send("GET", &own, &Value::Null).await.expect("webhooks");
    assert_eq!(after["webhooks"], before["webhooks"]);
    objects.send("GET", validator, &Value::Null).await.expect_err("the validator goes with the tag");
}

const OLD: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio-injection: enabled}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: lua, namespace: shop}
spec: {}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web, namespace: shop}
spec: {hosts: [web], http: [{match: [{uri: {regex: '('}}], route: [{destination: {host: web}}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec:
  containers:
  - {name: web, image: web, ports: [{containerPort: 15021}]}
  - {name: istio-proxy, image: docker.io/istio/proxyv2:1.29.0}
---
apiVersion: v1
kind: Secret
metadata: {name: istio-ca-secret, namespace: istio-system}
data: {ca-key.pem: c2VjcmV0}
";

#[test]
fn a_cluster_is_looked_at_before_anything_is_changed() {
    with_own(async |server: Server| {
        kubectl(&server, &["create", "namespace", "istio-system"], "");
        kubectl(&server, &["apply", "-f", "-"], OLD);
        let istiod = helm("istiod", &["env.PILOT_PUSH_THROTTLE=3"]);
        kubectl(&server, &["apply", "--server-side", "-f", "-"], &istiod);
        let before = made(&server);

        let (fine, said) = mainsheet(&server, &["migrate", "check"], "");
        let found: Vec<&str> = said.lines().collect();
        let wanted = [
            "error: EnvoyFilter shop/lua: kind: EnvoyFilter is not served yet, so the object has no effect",
            "error: VirtualService shop/web: spec.http[0].match[0].uri.regex: ",
            "warning: Deployment istio-system/istiod: in the environment: PILOT_PUSH_THROTTLE has no meaning here",
            "warning: namespace shop: 1 pods run Istio's proxy",
            "2 errors, 2 warnings",
        ];
        assert!(!fine && found.len() == wanted.len(), "{said}");
        for (line, wanted) in found.iter().zip(wanted) {
            assert!(line.starts_with(wanted), "{wanted}: {line}");
        }
        // Files that kubectl wrote say the same.
        let kinds = "envoyfilters,virtualservices,deployments,pods,secrets,configmaps,namespaces";
        let file = server.dir().join("cluster.yaml");
        fs::write(&file, kubectl(&server, &["get", kinds, "-A", "-o", "yaml"], "")).expect("a file");
        let (fine, again) = mainsheet(&server, &["migrate", "check", "-f", &file.display().to_string()], "");
        assert_eq!((fine, again), (false, said));

        let (fine, said) = mainsheet(&server, &["x", "precheck"], "");
        let other = "error: MutatingWebhookConfiguration istio-sidecar-injector: has istiod.istio-system inject";
        assert!(!fine && said.contains(other), "{said}");
        assert!(said.contains("error: Pod shop/web: the container web has the port 15021"), "{said}");
        assert!(said.contains("error: VirtualService shop/web: spec.http[0]"), "{said}");
        assert!(
            said.contains("warning: definitions of the mesh's kinds: 15 of them were made by somebody else"),
            "{said}"
        );
        kubectl(&server, &["-n", "shop", "delete", "pod/web", "virtualservice/web", "--grace-period=0", "--force"], "");
        let (fine, said) = mainsheet(&server, &["x", "precheck", "--revision", "canary"], "");
        assert!(fine && !said.contains("error: "), "{said}");
        assert_eq!(made(&server), before, "nothing is changed");
        let reader = server.kubeconfig_of("reader");
        let out =
            Command::new(env!("CARGO_BIN_EXE_mainsheet")).args(["x", "precheck", "--kubeconfig"]).arg(reader).output();
        let out = out.expect("mainsheet");
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && said.contains("cannot list resource"), "{said}");
    });
}

/// Helm itself, with a cluster.
fn helm_does(server: &Server, words: &[&str]) -> String {
    let mut command = Command::new(program("helm"));
    for home in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(home, server.dir().join("helm"));
    }
    let out = command.args(words).args(["-n", "istio-system"]).env("KUBECONFIG", server.kubeconfig()).output();
    let out = out.expect("helm");
    assert!(out.status.success(), "helm {words:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8_lossy(&out.stdout).into_owned()
}

#[test]
fn helm_installs_upgrades_goes_back_and_removes_what_it_brought() {
    with_own(async |server: Server| {
        let chart = |name: &str| format!("{}/deploy/charts/{name}", env!("CARGO_MANIFEST_DIR"));
        let (base, istiod) = (chart("base"), chart("istiod"));
        helm_does(&server, &["install", "istio-base", &base, "--create-namespace", "--take-ownership"]);
        helm_does(&server, &["install", "istiod", &istiod]);
        let plane = Plane::with_authority(&server, &[]);
        plane.ready().await;
        let objects = server.objects();
        let bundles = async || {
            let live = objects.send("GET", &format!("{MUTATING}/istio-sidecar-injector"), &Value::Null).await?;
            let all = live["webhooks"].as_array().cloned().unwrap_or_default();
            let told = all.iter().all(|webhook| webhook["clientConfig"]["caBundle"].is_string());
            told.then_some(()).ok_or_else(|| "a webhook has no root".to_owned())
        };
        eventually("the roots are known", bundles).await;
        // What the control plane makes of validation once it was asked, which is not what the chart says: Helm 4 wants to be
        // told that the chart goes before it, and the control plane then says it again.
        let validator = "validatingwebhookconfigurations/istio-validator-istio-system";
        let strict = r#"[{"op": "replace", "path": "/webhooks/1/failurePolicy", "value": "Fail"}]"#;
        kubectl(&server, &["patch", validator, "--type=json", "-p", strict, "--field-manager=mainsheet"], "");
        let level = || {
            let path = "jsonpath={.spec.template.spec.containers[0].args}";
            kubectl(&server, &["-n", "istio-system", "get", "deploy", "istiod", "-o", path], "")
        };
        helm_does(&server, &["upgrade", "istio-base", &base]);
        let more = ["--set", "global.logging.level=all:debug", "--force-conflicts"];
        helm_does(&server, &[&["upgrade", "istiod", &istiod], &more[..]].concat());
        assert!(level().contains("all:debug"), "{}", level());
        bundles().await.expect("the roots stay");
        helm_does(&server, &["rollback", "istiod", "1", "--force-conflicts"]);
        assert!(level().contains("default:info"), "{}", level());
        bundles().await.expect("the roots stay");
        drop(plane);
        helm_does(&server, &["uninstall", "istiod"]);
        let left = "deploy,svc,mutatingwebhookconfigurations,validatingwebhookconfigurations,clusterrole,clusterrolebinding,cm";
        let left = kubectl(&server, &["get", left, "-A", "-l", "app=istiod", "-o", "name"], "");
        assert_eq!(left, "", "something is left");
        // The definitions stay, and with them all objects.
        helm_does(&server, &["uninstall", "istio-base"]);
        kubectl(&server, &["get", "crd", "virtualservices.networking.istio.io"], "");
    });
}
