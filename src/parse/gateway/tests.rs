//! Gateways that are read as they are meant; broken ones are in `testdata/parse`.

use super::*;
use crate::model::{Certificates, ServerTlsMode, TlsVersion};
use serde_json::json;

fn read(server: Value) -> (Option<Server>, Vec<String>) {
    let metadata = json!({"name": "edge", "namespace": "shop"});
    let raw = json!({"kind": "Gateway", "metadata": metadata, "spec": {"servers": [server]}});
    let (gateway, problems) = gateway(&raw, &Context::default());
    (gateway.map(|g| g.servers[0].clone()), problems.iter().map(ToString::to_string).collect())
}

fn hosts(texts: &[&str]) -> Vec<String> {
    let port = json!({"number": 80, "name": "http", "protocol": "http"});
    let (server, problems) = read(json!({"port": port, "hosts": texts}));
    assert_eq!(problems, [""; 0]);
    let text = |h: &ServerHost| format!("{}/{}", h.namespace.as_deref().unwrap_or("*"), h.host);
    server.expect("a server").hosts.iter().map(text).collect()
}

#[test]
fn hosts_say_whose_virtual_services_may_serve_them() {
    assert_eq!(hosts(&["a.example", "*/b.example", "*/*"]), ["*/a.example", "*/b.example", "*/*"]);
    assert_eq!(hosts(&["./A.example", "pay/*.example"]), ["shop/a.example", "pay/*.example"]);
    assert_eq!(hosts(&["a.example", "*/a.example"]), ["*/a.example"]);
}

#[test]
fn certificates_are_secrets_or_files() {
    let port = json!({"number": 443, "name": "https", "protocol": "HTTPS"});
    let of = |tls: Value| {
        let (server, problems) = read(json!({"port": port, "hosts": ["*"], "tls": tls}));
        (server.and_then(|s| s.tls).expect("TLS"), problems)
    };
    let (tls, problems) =
        of(json!({"mode": "MUTUAL", "credentialNames": ["rsa", "ec"], "minProtocolVersion": "TLSV1_3"}));
    assert_eq!(problems, [""; 0]);
    assert_eq!(tls.certificates, Certificates::Secrets(vec!["rsa".into(), "ec".into()]));
    assert_eq!((tls.mode, tls.min_version), (ServerTlsMode::Mutual, TlsVersion::V1_3));
    let (tls, _) = of(json!({"mode": "SIMPLE", "serverCertificate": "/c", "privateKey": "/k"}));
    assert_eq!(tls.certificates, Certificates::Files(vec![("/c".into(), "/k".into())]));
    let (tls, problems) = of(json!({"credentialName": "none"}));
    assert_eq!((tls.mode, tls.certificates), (ServerTlsMode::Passthrough, Certificates::None));
    assert!(problems[0].contains("spec.servers[0].tls.credentialName"), "{problems:?}");
}

#[test]
fn a_redirect_is_all_that_plain_http_has_of_tls() {
    let port = json!({"number": 80, "name": "http", "protocol": "HTTP"});
    let (server, problems) = read(json!({"port": port, "hosts": ["*"], "tls": {"httpsRedirect": true}}));
    let server = server.expect("a server");
    assert_eq!((server.redirect, server.tls, problems.len()), (true, None, 0));
}
