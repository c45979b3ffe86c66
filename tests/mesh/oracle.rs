//! The real Envoy as judge of the golden cases: it must accept what each of them is served.
//!
//! Once as a static configuration, which checks every resource whole; and once from a real mainsheet, which
//! checks what only comes out over the wire: the order, the references, and what it says of a NACK.

use crate::harness::{Bootstrap, ControlPlane, Envoy, Network, Ports, program, run, sidecar_node};
use serde_json::{Map, Value, json};
use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

const OTHERS: [&str; 10] = [
    "environment.yaml",
    "node.yaml",
    "cds.yaml",
    "eds.yaml",
    "lds.yaml",
    "rds.yaml",
    "sds.yaml",
    "ecds.yaml",
    "nds.yaml",
    "problems.yaml",
];

/// A golden case.
pub(crate) struct Case {
    /// The name of its directory.
    pub(crate) name: String,
    /// Its directory.
    pub(crate) dir: PathBuf,
    /// The files that describe its world.
    pub(crate) inputs: Vec<PathBuf>,
}

pub(crate) fn cases() -> Vec<Case> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/translate");
    let list = |dir: &Path| -> Vec<PathBuf> {
        let mut paths: Vec<_> = fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
        paths.sort();
        paths
    };
    let file_name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let is_input = |path: &PathBuf| !OTHERS.contains(&file_name(path).as_str());
    list(&root)
        .into_iter()
        .map(|dir| Case { name: file_name(&dir), inputs: list(&dir).into_iter().filter(is_input).collect(), dir })
        .collect()
}

/// Runs a check for each case, and fails with all that failed.
fn judge(check: impl Fn(&Case)) {
    let cases = cases();
    let failed: Vec<&str> = cases
        .iter()
        .filter(|case| {
            // The message is printed where it arises; here it is told which case it belongs to.
            let failed = catch_unwind(AssertUnwindSafe(|| check(case))).is_err();
            if failed {
                eprintln!("^^^ the case {}\n", case.name);
            }
            failed
        })
        .map(|case| case.name.as_str())
        .collect();
    assert!(failed.is_empty(), "{} of {} cases: {failed:#?}", failed.len(), cases.len());
}

#[test]
fn envoy_accepts_every_golden_case_as_static_configuration() {
    let (dir, _) = run().part();
    judge(|case| {
        let translated = translate(case);
        let config = dir.join(format!("{}.json", case.name));
        fs::write(&config, with_files(&inlined(&translated).to_string())).expect("a file");
        let output = Command::new(run().envoy())
            .args(["--mode", "validate", "--log-level", "error", "-c"])
            .arg(&config)
            .output()
            .expect("Envoy runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    });
}

#[test]
fn envoy_accepts_every_golden_case_from_a_control_plane() {
    let (dir, prefix) = run().part();
    let network = Network::new(prefix);
    network.bind_anything();
    judge(|case| {
        let config = dir.join(&case.name);
        fs::create_dir(&config).expect("a directory");
        for input in &case.inputs {
            let text = fs::read_to_string(input).expect("a file");
            fs::write(config.join(input.file_name().expect("a name")), with_files(&text)).expect("a file");
        }
        let log = dir.join(format!("{}-mainsheet.log", case.name));
        // Proxies of some cases listen on 8080 and 15080, in the same namespace.
        let ports = Ports { http: 15980, ..Ports::standard("127.0.0.1") };
        let discovery = format!("127.0.0.1:{}", ports.grpc).parse().expect("an address");
        let mut control_plane = ControlPlane::start_with(&network.node(), ports, &config, &log, environment(case));
        let admin = ([127, 0, 0, 1], 15000).into();
        let bootstrap = Bootstrap { node: node(case), discovery, admin, delta: true, compressed: false, whole: None };
        let mut envoy = Envoy::start(&network.node(), &bootstrap, &dir, &case.name);
        envoy.wait_live();
        let rejected = envoy.rejected();
        assert!(rejected.is_empty(), "{rejected:#?}");
        let refused: Vec<_> =
            control_plane.metrics("pilot_xds_").into_iter().filter(|(n, _)| n.contains("_reject")).collect();
        assert!(refused.iter().all(|(_, count)| *count == 0.0), "{refused:?}");
    });
}

/// The text of a case with files that Envoy may use where it runs: it reads the certificates below `/etc/certs`, makes the
/// sockets below `/var/run`, and writes its logs.
pub(crate) fn with_files(text: &str) -> String {
    static FILES: OnceLock<PathBuf> = OnceLock::new();
    let files = FILES.get_or_init(|| {
        // The user of Envoy may not look into each directory that a source tree is in.
        let (dir, _) = run().part();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/certs");
        for entry in fs::read_dir(source).expect("the certificates") {
            let path = entry.expect("an entry").path();
            let copy = dir.join(path.file_name().expect("a name"));
            fs::copy(&path, &copy).expect("a copy");
            fs::set_permissions(copy, fs::Permissions::from_mode(0o644)).expect("the rights of a copy");
        }
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("the rights of the directory");
        dir
    });
    let files = files.display().to_string();
    text.replace("/etc/certs", &files).replace("/var/run", &files).replace("/dev/stdout", "/dev/null")
}

/// What `mainsheet translate` prints for a case.
fn translate(case: &Case) -> Value {
    let mut command = Command::new(program());
    command.envs(environment(case)).arg("translate");
    for input in &case.inputs {
        command.arg("-f").arg(input);
    }
    let described: Value = read_yaml(&case.dir.join("node.yaml")).remove(0);
    match described["proxy"].as_str() {
        Some(proxy) => {
            let kind = described["type"].as_str().unwrap_or("sidecar");
            command.args(["--proxy", proxy, "--proxy-type", kind]);
        }
        None => {
            command.arg("--node").arg(case.dir.join("node.yaml"));
        }
    }
    let output = command.args(["-o", "json"]).output().expect("mainsheet runs");
    // 1 says that an object was refused, which is what some cases are about.
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&output.stderr)))
}

/// What the case sets in the control plane's environment.
fn environment(case: &Case) -> BTreeMap<String, String> {
    let text = fs::read_to_string(case.dir.join("environment.yaml")).unwrap_or_default();
    serde_norway::from_str::<Option<_>>(&text).expect("names and texts").unwrap_or_default()
}

/// A bootstrap with all resources in it, and in each other where one names another: `--mode validate` looks at
/// nothing that comes from elsewhere.
pub(crate) fn inlined(translated: &Value) -> Value {
    let by = |list: &str, key: &str| -> BTreeMap<String, Value> {
        let all = translated[list].as_array().cloned().unwrap_or_default();
        all.into_iter().map(|r| (r[key].as_str().unwrap_or_default().to_owned(), r)).collect()
    };
    let (routes, endpoints, extensions) =
        (by("routes", "name"), by("endpoints", "clusterName"), by("extensions", "name"));
    let mut clusters = translated["clusters"].clone();
    for cluster in clusters.as_array_mut().into_iter().flatten() {
        inline_endpoints(cluster, &endpoints);
    }
    let mut listeners = translated["listeners"].clone();
    inline_routes(&mut listeners, &routes);
    let mut secrets = BTreeMap::new();
    inline_secrets(&mut listeners, &mut secrets);
    inline_secrets(&mut clusters, &mut secrets);
    let mut used = listeners.to_string();
    used.push_str(&clusters.to_string());
    let without_type =
        |list: &Value| -> Vec<Value> { list.as_array().into_iter().flatten().cloned().map(untyped).collect() };
    assert!(extensions.keys().all(|name| used.contains(name.as_str())), "an extension that nothing names");
    json!({ "static_resources": {
        "clusters": without_type(&clusters),
        "listeners": without_type(&listeners),
        "secrets": secrets.into_values().collect::<Vec<_>>(),
    } })
}

/// Lets secrets be static ones of the same names: a certificate of its own making for each, or that as roots. What
/// cases have as secrets are no certificates.
fn inline_secrets(value: &mut Value, secrets: &mut BTreeMap<String, Value>) {
    static MADE: OnceLock<(String, String)> = OnceLock::new();
    let (certificate, key) = MADE.get_or_init(|| {
        let made = rcgen::generate_simple_self_signed(["golden".to_owned()]).expect("a certificate");
        (made.cert.pem(), made.signing_key.serialize_pem())
    });
    let make = |config: &mut Value, secrets: &mut BTreeMap<String, Value>, mut secret: Value| {
        let Some(name) = config["name"].as_str().map(str::to_owned) else { return };
        config.as_object_mut().map(|c| c.remove("sdsConfig"));
        secret["name"] = name.as_str().into();
        secrets.insert(name, secret);
    };
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| inline_secrets(item, secrets)),
        Value::Object(fields) => {
            for (key_name, field) in fields {
                match key_name.as_str() {
                    "tlsCertificateSdsSecretConfigs" => {
                        for config in field.as_array_mut().into_iter().flatten() {
                            make(
                                config,
                                secrets,
                                json!({ "tlsCertificate": {
                                "certificateChain": { "inlineString": certificate },
                                "privateKey": { "inlineString": key },
                            } }),
                            );
                        }
                    }
                    "validationContextSdsSecretConfig" => {
                        make(
                            field,
                            secrets,
                            json!({ "validationContext": { "trustedCa": { "inlineString": certificate } } }),
                        );
                    }
                    _ => inline_secrets(field, secrets),
                }
            }
        }
        _ => {}
    }
}

fn untyped(mut resource: Value) -> Value {
    resource.as_object_mut().map(|r| r.remove("@type"));
    resource
}

fn inline_endpoints(cluster: &mut Value, endpoints: &BTreeMap<String, Value>) {
    if cluster["type"] != "EDS" {
        return;
    }
    let service = cluster["edsClusterConfig"]["serviceName"].as_str().filter(|n| !n.is_empty());
    let name = service.or(cluster["name"].as_str()).unwrap_or_default().to_owned();
    let Some(fields) = cluster.as_object_mut() else { return };
    fields.remove("edsClusterConfig");
    fields.insert("type".to_owned(), "STATIC".into());
    let found = endpoints.get(&name).unwrap_or_else(|| panic!("no endpoints are served for {name}"));
    fields.insert("loadAssignment".to_owned(), untyped(found.clone()));
}

/// Puts route configurations where they are named. Where one is not served, Envoy would wait for it for ever.
fn inline_routes(value: &mut Value, routes: &BTreeMap<String, Value>) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| inline_routes(item, routes)),
        Value::Object(fields) => {
            if let Some(rds) = fields.remove("rds") {
                let name = rds["routeConfigName"].as_str().unwrap_or_default();
                let found = routes.get(name).unwrap_or_else(|| panic!("no route configuration is served for {name}"));
                fields.insert("routeConfig".to_owned(), untyped(found.clone()));
            }
            fields.values_mut().for_each(|field| inline_routes(field, routes));
        }
        _ => {}
    }
}

pub(crate) fn read_yaml(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("a file");
    serde_norway::Deserializer::from_str(&text)
        .filter_map(|document| <Value as serde::Deserialize>::deserialize(document).ok())
        .collect()
}

/// The Node of a case: as its file has it, or as the bootstrap of the pod that it names would have it.
fn node(case: &Case) -> Value {
    let described = read_yaml(&case.dir.join("node.yaml")).remove(0);
    let Some(proxy) = described["proxy"].as_str() else { return with_cluster(described) };
    let (name, namespace) = proxy.split_once('.').unwrap_or((proxy, "default"));
    let pod = case.inputs.iter().flat_map(|input| read_yaml(input)).find(|object| {
        let metadata = &object["metadata"];
        object["kind"] == "Pod"
            && metadata["name"] == name
            && metadata["namespace"].as_str().unwrap_or("default") == namespace
    });
    let pod = pod.unwrap_or(Value::Object(Map::new()));
    let labels = serde_json::from_value(pod["metadata"]["labels"].clone()).unwrap_or_default();
    let ip = pod["status"]["podIP"].as_str().unwrap_or("10.0.0.1");
    let mut node = sidecar_node(name, namespace, ip, &labels);
    if let Some(account) = pod["spec"]["serviceAccountName"].as_str() {
        node["metadata"]["SERVICE_ACCOUNT"] = account.into();
    }
    if described["type"] == "router" {
        node["id"] = node["id"].as_str().unwrap_or_default().replacen("sidecar", "router", 1).into();
    }
    node
}

/// Envoy does not start without the name of its own cluster.
fn with_cluster(mut node: Value) -> Value {
    // Without TLS nobody gets a certificate from the control plane, nor does one who names an agent that is not there.
    for key in ["IDENTITY", "ISTIO_VERSION"] {
        node["metadata"].as_object_mut().map(|m| m.remove(key));
    }
    if node["cluster"].is_null() {
        node["cluster"] = "golden".into();
    }
    node
}
