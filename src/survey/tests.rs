//! What is found in clusters.

use super::*;
use crate::source::files;
use std::{fs, path::Path};

fn survey(text: &str) -> Survey {
    let objects = files::documents(text).into_iter().map(|(_, object)| object.expect("an object")).collect();
    Survey { objects, namespace: "istio-system".into(), revision: String::new() }
}

fn lines(found: &[Finding]) -> Vec<String> {
    found.iter().map(ToString::to_string).collect()
}

const ISTIOD: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: istiod, namespace: istio-system, labels: {app: istiod, istio.io/rev: default}}
spec:
  template:
    spec:
      containers:
      - name: discovery
        args: [discovery, --monitoringAddr=:15014, --log_output_level=default:info, --domain, cluster.local, --keepaliveMaxServerConnectionAge, 30m]
        env:
        - {name: REVISION, value: default}
        - {name: PILOT_CERT_PROVIDER, value: istiod}
        - {name: PILOT_ENABLE_ANALYSIS, value: \"false\"}
        - {name: PILOT_TRACE_SAMPLING, value: \"1\"}
---
apiVersion: v1
kind: Secret
metadata: {name: istio-ca-secret, namespace: istio-system}
";

#[test]
fn of_an_istiod_as_its_chart_installs_it_nothing_is_different() {
    assert_eq!(lines(&survey(ISTIOD).migration()), [""; 0]);
}

#[test]
fn what_would_be_different_is_told_the_worst_first() {
    let text = format!(
        "{}---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {{name: lua, namespace: shop}}
spec: {{}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: web, namespace: shop}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web, namespace: shop}}
spec: {{hosts: [web], http: [{{timeout: soon, route: [{{destination: {{host: web}}}}]}}]}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: of-another, namespace: shop, labels: {{istio.io/rev: canary}}}}
spec: {{hosts: 7}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio, namespace: istio-system}}
data: {{mesh: \"enableEnvoyAccessLogService: true\"}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: istio-sidecar-injector, namespace: istio-system}}
data: {{values: '{{}}', config: '{{policy: enabled, templates: {{sidecar: \"\", own: \"{{{{ nothing }}}}\"}}}}'}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: shop, labels: {{istio-injection: enabled}}}}
---
apiVersion: v1
kind: Namespace
metadata: {{name: mist, labels: {{istio.io/dataplane-mode: ambient}}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: web, namespace: shop, annotations: {{sidecar.istio.io/proxyCPU: much, sidecar.istio.io/enableCoreDump: 'true'}}}}
spec: {{containers: [{{name: web}}, {{name: istio-proxy, image: docker.io/istio/proxyv2:1.29.0}}]}}
",
        ISTIOD.replace("PILOT_TRACE_SAMPLING", "PILOT_PUSH_THROTTLE").replace("[discovery,", "[discovery, --ctrlz_port, '1',")
    );
    let found = lines(&survey(&text).migration());
    for wanted in [
        "error: EnvoyFilter shop/lua: kind: EnvoyFilter is not served yet",
        "error: HTTPRoute shop/web: kind: HTTPRoute is not served yet",
        "error: VirtualService shop/web: spec.http[0].timeout",
        "error: ConfigMap istio-system/istio-sidecar-injector: the template own cannot be used",
        "error: Namespace mist: is in ambient mode",
        "error: Pod shop/web: the annotation sidecar.istio.io/proxyCPU",
        "warning: ConfigMap istio-system/istio-sidecar-injector: own is a template of your own",
        "warning: Deployment istio-system/istiod: in the environment: PILOT_PUSH_THROTTLE has no meaning here",
        "warning: Deployment istio-system/istiod: the flag --ctrlz_port has no meaning here",
        "warning: Pod shop/web: sidecar.istio.io/enableCoreDump has no effect",
        "warning: namespace shop: 1 pods run Istio's proxy",
    ] {
        assert!(found.iter().any(|line| line.starts_with(wanted)), "no {wanted} in {found:#?}");
    }
    assert!(found.iter().any(|line| line.contains("enableEnvoyAccessLogService")), "{found:#?}");
    assert!(!found.iter().any(|line| line.contains("of-another")), "{found:#?}");
    let first_warning = found.iter().position(|line| line.starts_with("warning")).expect("a warning");
    assert!(found[first_warning..].iter().all(|line| line.starts_with("warning")), "{found:#?}");
}

#[test]
fn a_root_that_is_nowhere_and_other_clusters_are_told() {
    let text = ISTIOD
        .replace("istio-ca-secret", "east")
        .replace("name: east,", "name: east, labels: {istio/multiCluster: 'true'},");
    let found = lines(&survey(&text).migration());
    assert!(found[0].starts_with("error: Secret istio-system/east: is the way into another cluster"), "{found:#?}");
    assert!(found[1].starts_with("error: namespace istio-system: neither the Secret cacerts"), "{found:#?}");
    assert_eq!(found.len(), 2);
}

#[test]
fn pods_beside_which_no_sidecar_fits_are_told() {
    let text = "
apiVersion: v1
kind: Namespace
metadata: {name: shop, labels: {istio.io/rev: default}}
---
apiVersion: v1
kind: Pod
metadata: {name: node, namespace: shop}
spec: {hostNetwork: true, containers: [{name: a, ports: [{containerPort: 15090}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: metrics, namespace: shop}
spec: {containers: [{name: a, ports: [{containerPort: 80}, {containerPort: 15090}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: elsewhere, namespace: other}
spec: {containers: [{name: a, ports: [{containerPort: 15090}]}]}
";
    let found = lines(&ordered(pods::room(&survey(text))));
    assert_eq!(
        found,
        [
            "error: Pod shop/metrics: the container a has the port 15090, which its sidecar needs; use another",
            "warning: Pod shop/node: has the network of its node, so it gets no sidecar",
        ]
    );
}

#[test]
fn what_is_said_to_be_read_by_nothing_is_named_nowhere() {
    fn walk(dir: &Path, names: &mut Vec<String>) {
        for entry in fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, names);
                continue;
            }
            let text = fs::read_to_string(&path).unwrap_or_default();
            // The agent puts the first part before the names of those that it reads.
            let named = |name: &str| {
                text.contains(name) || text.contains(&format!("list(\"{}\"", name.rsplit('/').next().unwrap_or(name)))
            };
            names.extend(
                pods::NOT_READ
                    .iter()
                    .filter(|(name, _)| named(name))
                    .map(|(n, _)| format!("{n} in {}", path.display())),
            );
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut names = Vec::new();
    for dir in
        ["src/agent", "src/webhook", "src/translate", "src/parse", "deploy/charts/istiod", "deploy/charts/gateway"]
    {
        walk(&root.join(dir), &mut names);
    }
    assert_eq!(names, [""; 0], "take it out of the list of what is not read");
}
