//! What is read of the mesh's settings, and what is said of those that are wrong.

use super::*;
use crate::{
    id::Namespace,
    model::{Keepalive, Object, State},
    parse,
};
use serde_json::json;

fn config_map(name: &str, data: Value) -> parse::Parsed<Mesh> {
    let metadata = json!({"name": name, "namespace": "istio-system"});
    let raw = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data});
    super::config_map(&raw, &Context::default())
}

fn read(yaml: &str) -> (Option<Mesh>, Vec<String>) {
    let (mesh, problems) = config_map("istio", json!({"mesh": yaml}));
    (mesh, problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect())
}

#[test]
fn what_is_said_takes_the_place_of_the_default_and_the_rest_stays() {
    let (mesh, said) = read(
        "proxyListenPort: 25001\nconnectTimeout: 3s\ntrustDomain: east.example\nrootNamespace: mesh\n\
         outboundTrafficPolicy: {mode: REGISTRY_ONLY}\ntcpKeepalive: {probes: 3, time: 60s}\n\
         defaultServiceExportTo: ['.', b]\npathNormalization: {normalization: MERGE_SLASHES}\n\
         defaultHttpRetryPolicy: {attempts: 5, retryOn: '5xx'}\nh2UpgradePolicy: UPGRADE\nenableAutoMtls: false\n\
         defaultTrafficPolicy: {connectionPool: {tcp: {maxConnections: 9}}}\noutboundClusterStatName: '%SERVICE%'\n\
         tlsDefaults: {ecdhCurves: [P-256]}\n",
    );
    assert_eq!(said, Vec::<String>::new());
    let mesh = mesh.unwrap();
    assert_eq!((mesh.outbound_port, mesh.inbound_port, mesh.connect_timeout), (25001, 15006, 3000));
    assert_eq!((&*mesh.trust_domain, &*mesh.root_namespace), ("east.example", "mesh"));
    assert_eq!((mesh.outbound_policy, mesh.auto_mtls), (OutboundPolicy::RegistryOnly, false));
    assert_eq!(mesh.path_normalization, PathNormalization::MergeSlashes);
    assert_eq!(mesh.service_export_to, ExportTo::Some { own: true, namespaces: vec![Namespace::from("b")] });
    assert_eq!(mesh.default_retry.as_ref().map(|r| r.attempts), Some(5));
    let clusters = &mesh.clusters;
    assert_eq!(clusters.keepalive, Some(Keepalive { probes: Some(3), time: Some(60), interval: None }));
    assert_eq!(clusters.connection_pool.as_ref().and_then(|p| p.max_connections), Some(9));
    assert_eq!((clusters.h2_upgrade, &*clusters.stat_name, &*clusters.ecdh_curves[0]), (true, "%SERVICE%", "P-256"));
}

#[test]
fn fields_that_are_unknown_or_not_served_yet_are_told_and_harm_nothing() {
    let (mesh, said) = read("enableTracing: false\nhboneIdleTimeout: 1s\noutboundTraficPolicy: {}\n");
    assert!(!mesh.unwrap().tracing);
    assert_eq!(said[0], "data.mesh.hboneIdleTimeout is not served yet, so it has no effect");
    assert!(said[1].starts_with("data.mesh.outboundTraficPolicy is not a field"), "{said:?}");
    let (mesh, said) = read("outboundTrafficPolicy: {mode: ALLOW_ANY, tls: {mode: SIMPLE}}");
    assert_eq!(mesh.unwrap().outbound_policy, OutboundPolicy::AllowAny);
    assert!(said[0].contains("has no effect in this mode"), "{said:?}");
    let (mesh, said) = read("accessLogFormat: '%FOO%'");
    assert_eq!(mesh.unwrap().access_log.format, LogFormat::Usual);
    assert!(said[0].contains("accessLogFormat") && said[0].contains("%FOO"), "{said:?}");
}

#[test]
fn settings_with_something_wrong_are_refused_as_a_whole() {
    for (yaml, path) in [
        ("proxyListenPort: 70000", "proxyListenPort"),
        (
            "discoverySelectors: [{matchExpressions: [{key: a, operator: Like}]}]",
            "discoverySelectors[0].matchExpressions[0].operator",
        ),
        (
            "discoverySelectors: [{matchExpressions: [{key: a, operator: In}]}]",
            "discoverySelectors[0].matchExpressions[0].values",
        ),
        (
            "defaultConfig: {connectionSettings: {httpMaxConcurrentStreams: 0}}",
            "defaultConfig.connectionSettings.httpMaxConcurrentStreams",
        ),
        (
            "defaultConfig: {connectionSettings: {httpIdleTimeout: soon}}",
            "defaultConfig.connectionSettings.httpIdleTimeout",
        ),
        (
            "defaultConfig: {proxyHeaders: {forwardedClientCert: KEEP}}",
            "defaultConfig.proxyHeaders.forwardedClientCert",
        ),
        ("connectTimeout: 0s", "connectTimeout"),
        ("connectTimeout: 5", "connectTimeout"),
        ("trustDomain: 'a b'", "trustDomain"),
        ("rootNamespace: A", "rootNamespace"),
        ("defaultServiceExportTo: ['*', a]", "defaultServiceExportTo[0]"),
        ("outboundTrafficPolicy: {mode: SOME}", "outboundTrafficPolicy.mode"),
        ("outboundTrafficPolicy: {tls: {mode: ISTIO_MUTUAL}}", "outboundTrafficPolicy.tls.mode"),
        ("outboundTrafficPolicy: {tls: {mode: SIMPLE, credentialName: a}}", "outboundTrafficPolicy.tls.credentialName"),
        ("outboundTrafficPolicy: {tls: {mode: MUTUAL}}", "outboundTrafficPolicy.tls.clientCertificate"),
        ("defaultHttpRetryPolicy: {attempts: 1, retryOn: sometimes}", "defaultHttpRetryPolicy.retryOn"),
        ("localityLbSetting: {distribute: [{from: a, to: {b: 7}}]}", "localityLbSetting.distribute[0].to"),
        ("[]", ""),
    ] {
        let (mesh, said) = read(yaml);
        assert!(mesh.is_none(), "{yaml}");
        let path = if path.is_empty() { "data.mesh ".to_owned() } else { format!("data.mesh.{path} ") };
        assert!(said.iter().any(|s| s.starts_with(&path)), "{yaml}: {said:?}");
    }
    let (mesh, said) = read("a: b: c");
    assert!(mesh.is_none() && said[0].starts_with("data.mesh is not YAML"), "{said:?}");
}

#[test]
fn only_the_config_map_of_the_revision_in_the_system_namespace_counts() {
    assert_eq!(config_map("other", json!({"mesh": "nonsense: ["})), (None, Vec::new()));
    assert_eq!(config_map("istio", json!({})).0, Some(Mesh::default()));
    let raw = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "istio-east", "namespace": "istio-system"},
        "data": {"mesh": "trustDomain: east"}});
    let context = Context { revision: "east".into(), ..Context::default() };
    assert_eq!(super::config_map(&raw, &context).0.map(|m| m.trust_domain), Some("east".into()));
    assert_eq!(super::config_map(&raw, &Context::default()).0, None);
}

#[test]
fn switches_of_the_environment_outlive_settings() {
    let mut base = Mesh::default();
    base.features.http10 = true;
    let context = Context { mesh: base.into(), ..Context::default() };
    let change = parse::settings("mesh.yaml", &json!({"trustDomain": "east"}), &context);
    let State::Is(object) = change.state else { panic!("{change:?}") };
    let Object::Mesh(mesh) = *object else { panic!("{object:?}") };
    assert_eq!((mesh.features.http10, &*mesh.trust_domain), (true, "east"));
}

#[test]
fn networks_are_read_and_checked() {
    let said = |yaml: &str| -> Vec<String> {
        let (mesh, problems) = config_map("istio", json!({"mesh": "{}", "meshNetworks": yaml}));
        assert!(mesh.is_some());
        problems.iter().map(|p| format!("{} {}", p.path, p.message)).collect()
    };
    let good = "networks: {n1: {endpoints: [{fromCidr: 10.0.0.0/8}, {fromRegistry: c}], gateways: [{address: 1.2.3.4, port: 15443}]}}";
    assert_eq!(said(good), Vec::<String>::new());
    let mesh = config_map("istio", json!({"meshNetworks": good})).0.expect("settings");
    assert_eq!(mesh.networks[0].gateways, [([1, 2, 3, 4].into(), 15443)]);
    assert_eq!((mesh.networks[0].blocks.len(), mesh.networks[0].clusters.len()), (1, 1));
    assert_eq!(said("networks: {}"), Vec::<String>::new());
    let bad = said("networks: {n1: {endpoints: [{fromCidr: x}, {}], gateways: [{port: 0}]}}");
    assert_eq!(bad.len(), 4, "{bad:?}");
}
