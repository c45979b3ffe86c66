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
