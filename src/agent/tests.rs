//! The agent as a whole.

use super::*;
use clap::Parser as _;

#[derive(clap::Parser)]
struct Line {
    #[command(flatten)]
    options: config::Agent,
}

/// An agent with these words and variables, in a pod of files that are not there.
fn agent(words: &[&str], variables: &[(&str, &str)]) -> Agent {
    let usual = ["agent", "--pod-info", "/nowhere", "--mesh-config", "/nowhere/mesh"];
    let options = Line::try_parse_from(usual.iter().chain(words)).expect("options").options;
    let pod = [("POD_NAME", "a-1"), ("POD_NAMESPACE", "shop"), ("SERVICE_ACCOUNT", "a"), ("INSTANCE_IP", "10.0.0.7")];
    let variables = pod.iter().chain(variables).map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Agent::new(options, variables).unwrap_or_else(|error| panic!("{error:#}"))
}

#[test]
fn the_node_says_what_the_pod_s_environment_says() {
    let agent = agent(
        &[],
        &[
            ("ISTIO_META_WORKLOAD_NAME", "a"),
            ("ISTIO_META_CLUSTER_ID", "east"),
            ("ISTIO_METAJSON_LABELS", r#"{"app":"a"}"#),
            ("PROXY_CONFIG", r#"{"proxyMetadata":{"ISTIO_META_DNS_CAPTURE":"true","ISTIO_META_CLUSTER_ID":"west"}}"#),
        ],
    );
    let node = node::node(&agent.pod);
    assert_eq!(node["id"], "sidecar~10.0.0.7~a-1.shop~shop.svc.cluster.local");
    assert_eq!(node["cluster"], "a.shop");
    let text = |key: &str| node["metadata"][key].as_str().unwrap_or_default().to_owned();
    assert_eq!([text("CLUSTER_ID"), text("DNS_CAPTURE"), text("SERVICE_ACCOUNT")], ["east", "true", "a"]);
    assert_eq!(node["metadata"]["STATIC_LABELS"]["app"], "a");
    let read = crate::parse::node(&node).expect("a node that the control plane takes");
    assert_eq!(read.identity, crate::model::IdentitySource::Agent);
    assert!(read.settings.dns_capture);
}

#[test]
fn the_control_plane_is_where_the_flag_the_settings_or_the_usual_say() {
    let at = |words: &[&str], settings: &str| {
        let (host, port, name) = agent(words, &[("PROXY_CONFIG", settings)]).discovery().expect("an address");
        format!("{host} {port} {name}")
    };
    assert_eq!(at(&[], ""), "istiod.istio-system.svc 15012 istiod.istio-system.svc");
    assert_eq!(at(&[], "discoveryAddress: pilot.mesh:1"), "pilot.mesh 1 pilot.mesh");
    assert_eq!(at(&["--discovery-address", "[::1]:2"], "discoveryAddress: x:1"), "::1 2 istiod.istio-system.svc");
    assert_eq!(at(&["--discovery-address", "x:2", "--server-name", "y"], ""), "x 2 y");
    assert!(agent(&["--discovery-address", "x"], &[]).discovery().is_err());
}

#[test]
fn the_bootstrap_reaches_the_control_plane_by_the_certificate_of_the_agent() {
    let settings = "runtimeValues: {a.b: 'on', re2.max_program_size.error_level: ''}\nextraStatTags: [user]";
    let bootstrap = agent(&["--sds-socket", "/s"], &[("PROXY_CONFIG", settings)]).bootstrap().expect("a bootstrap");
    let clusters = &bootstrap["static_resources"]["clusters"];
    let named =
        |name: &str| clusters.as_array().expect("a list").iter().find(|c| c["name"] == name).expect(name).clone();
    let secrets = named("sds-grpc")["load_assignment"]["endpoints"][0]["lb_endpoints"][0].clone();
    assert_eq!(secrets["endpoint"]["address"]["pipe"]["path"], "/s");
    let tls = &named("xds-grpc")["transport_socket"]["typed_config"]["common_tls_context"];
    assert_eq!(tls["tls_certificate_sds_secret_configs"][0]["name"], "default");
    assert_eq!(tls["combined_validation_context"]["validation_context_sds_secret_config"]["name"], "ROOTCA");
    let runtime = &bootstrap["layered_runtime"]["layers"][0]["static_layer"];
    assert_eq!((&runtime["a.b"], runtime.get("re2.max_program_size.error_level")), (&"on".into(), None));
    assert!(bootstrap["stats_config"]["stats_tags"].as_array().expect("tags").iter().any(|t| t["tag_name"] == "user"));
    crate::pb::from_json::<crate::pb::envoy::config::bootstrap::v3::Bootstrap>(bootstrap).expect("what Envoy reads");
}

#[test]
fn a_pod_that_nobody_named_is_refused_with_the_variables_that_name_it() {
    let options = Line::try_parse_from(["agent"]).expect("options").options;
    let error = Agent::new(options, Vec::new()).err().expect("no pod").to_string();
    assert!(error.contains("POD_NAME and POD_NAMESPACE"), "{error}");
}

/// Files of a certificate that holds for so many seconds, in a new directory that `link` leads to.
fn mount(link: &Path, seconds: u64) -> String {
    let files = crate::ca::self_signed("mesh", crate::ca::KeyKind::P256, crate::ca::now(), seconds).expect("files");
    let dir = link.with_extension(seconds.to_string());
    fs::create_dir_all(&dir).expect("a directory");
    for (name, from) in
        [("cert-chain.pem", "ca-cert.pem"), ("key.pem", "ca-key.pem"), ("root-cert.pem", "root-cert.pem")]
    {
        fs::write(dir.join(name), &files[from]).expect("a file");
    }
    let draft = link.with_extension("draft");
    std::os::unix::fs::symlink(&dir, &draft).expect("a link");
    fs::rename(draft, link).expect("a link");
    files["ca-cert.pem"].clone()
}

fn revocation_list() -> rcgen::CertificateRevocationListParams {
    let now = std::time::SystemTime::now();
    rcgen::CertificateRevocationListParams {
        this_update: now.into(),
        next_update: (now + Duration::from_secs(60)).into(),
        crl_number: 1u64.into(),
        issuing_distribution_point: None,
        revoked_certs: Vec::new(),
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    }
}

#[tokio::test]
async fn mounted_certificates_are_followed_and_written_out() {
    let dir = std::env::temp_dir().join(format!("mainsheet-mounted-{}", std::process::id()));
    fs::create_dir_all(dir.join("out")).expect("a directory");
    let link = dir.join("certs");
    let first = mount(&link, 100);
    let path = |name: &str| link.join(name).display().to_string();
    let (chain, key, roots) = (path("cert-chain.pem"), path("key.pem"), path("root-cert.pem"));
    let agent = agent(
        &["--file-mounted-certs"],
        &[
            ("ISTIO_META_TLS_CLIENT_CERT_CHAIN", &chain),
            ("ISTIO_META_TLS_CLIENT_KEY", &key),
            ("ISTIO_META_TLS_CLIENT_ROOT_CERT", &roots),
            ("OUTPUT_CERTS", "/nowhere"),
        ],
    );
    let mounted = files::Mounted::of(&agent.options.identity, &agent.pod).expect("mounted");
    let (sender, mut newest) = watch::channel(None);
    let keeping = tokio::spawn(mounted.keep(sender, agent.metrics.clone()));
    let writing = tokio::spawn(output::keep(dir.join("out"), newest.clone()));
    let chain = |held: &Option<Arc<Certified>>| held.as_ref().map(|c| c.svid.chain.clone());
    newest.wait_for(|held| chain(held).as_ref() == Some(&first)).await.expect("the first");

    let name = format!("file-cert:{}~{}", path("cert-chain.pem"), path("key.pem"));
    let (secrets, asked, serving) = secrets::secrets(newest.clone(), Some(dir.join("crl.pem")));
    let serving = tokio::spawn(serving);
    asked(&[name.clone(), format!("file-root:{roots}"), "file-root:/nowhere".to_owned(), "default".to_owned()]);
    let second = mount(&link, 200);
    newest.wait_for(|held| chain(held).as_ref() == Some(&second)).await.expect("the second");
    let mut secrets = secrets;
    let told = |all: &Arc<[crate::translate::Resource]>| {
        let new = |r: &crate::translate::Resource| r.body.windows(64).any(|w| w == &second.as_bytes()[100..164]);
        all.iter().filter(|r| new(r)).map(|r| r.name.to_string()).collect::<Vec<_>>()
    };
    let all = ["default".to_owned(), "ROOTCA".to_owned(), name, format!("file-root:{roots}")];
    secrets.wait_for(|held| all.iter().all(|name| told(held).contains(name))).await.expect("all secrets");
    let issuer = rcgen::Issuer::new(rcgen::CertificateParams::default(), rcgen::KeyPair::generate().expect("a key"));
    let list = revocation_list().signed_by(&issuer).expect("a list").pem().expect("PEM");
    for text in [&*list, "rubbish"] {
        fs::write(dir.join("crl.pem"), text).expect("a file");
        let has = |r: &crate::translate::Resource| String::from_utf8_lossy(&r.body).contains(list.trim());
        let told = |all: &Arc<[crate::translate::Resource]>| all.iter().any(|r| &*r.name == "ROOTCA" && has(r));
        secrets.wait_for(told).await.expect("what was revoked");
    }
    let written = || fs::read_to_string(dir.join("out/cert-chain.pem")).unwrap_or_default();
    while written() != second {
        time::sleep(Duration::from_millis(20)).await;
    }
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(dir.join("out/key.pem")).expect("the key"));
    assert_eq!(mode & 0o777, 0o600);
    [keeping, writing, serving].iter().for_each(tokio::task::JoinHandle::abort);
    fs::remove_dir_all(dir).expect("the directory");
}

#[tokio::test]
async fn a_socket_that_somebody_serves_on_is_left_to_them_and_a_dead_one_is_taken() {
    let path = std::env::temp_dir().join(format!("mainsheet-sds-{}", std::process::id()));
    let held = secrets::bind(&path).await.expect("a path").expect("a socket");
    assert!(secrets::bind(&path).await.expect("a path").is_none());
    drop(held);
    assert!(secrets::bind(&path).await.expect("a path").is_some());
    fs::remove_file(path).expect("the socket");
}
