//! Broken policies fail closed: what they protect is closed, and everything else is open as before.

use super::{
    rig::{Ask, Rig, Setup},
    token::{Token, rules},
};
use serde_json::json;

pub(super) fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n{spec}"
    )
}

pub(super) fn path(path: &str) -> Ask {
    Ask { path: Some(path.to_owned()), ..Ask::default() }
}

/// Ways to break a source.
fn sources() -> Vec<String> {
    let many: Vec<String> = (0..17).map(|n| format!("account-{n}")).collect();
    let long = "x".repeat(5_000);
    let broken = [
        "ipBlocks: [nonsense]".to_owned(),
        "notIpBlocks: [10.0.0.0/99]".to_owned(),
        "remoteIpBlocks: ['::1/129']".to_owned(),
        "principals: ['']".to_owned(),
        format!("principals: ['*/{long}']"),
        "trustDomains: ['a*b']".to_owned(),
        "serviceAccounts: ['a/b/c']".to_owned(),
        format!("serviceAccounts: [{}]", many.join(", ")),
        format!("namespaces: ['{long}*']"),
        "requestPrincipals: ['']".to_owned(),
        "unknown: [a]".to_owned(),
    ];
    broken.into()
}

/// Ways to break an operation beside the path.
fn operations() -> Vec<String> {
    let long = "a".repeat(300);
    let broken = [
        "ports: ['65536']".to_owned(),
        "ports: [http]".to_owned(),
        "notPorts: ['-1']".to_owned(),
        "methods: ['']".to_owned(),
        "hosts: ['']".to_owned(),
        format!("notPaths: ['/{{*}}/{long}']"),
        "notPaths: ['/a{*}']".to_owned(),
        "notPaths: ['/{**}/{**}']".to_owned(),
        "notPaths: ['/{a}']".to_owned(),
        "path: [/secret]".to_owned(),
    ];
    broken.into()
}

/// Ways to break a condition.
const CONDITIONS: [&str; 9] = [
    "{key: nonsense, values: [a]}",
    "{key: source.ip, values: [a]}",
    "{key: source.ip}",
    "{key: 'request.headers[]', values: [a]}",
    "{key: 'request.headers[a b]', values: [a]}",
    "{key: 'request.auth.claims[]', values: [a]}",
    "{key: destination.port, notValues: [a]}",
    "{key: 'experimental.other[a]', values: [a]}",
    "null",
];

/// Policies of an action whose one rule is broken and protects `/secret`; that of ALLOW lets `/open` through by a rule
/// of its own.
fn broken(action: &str) -> Vec<String> {
    let open = if action == "ALLOW" { "  - to: [{operation: {paths: [/open]}}]\n" } else { "" };
    let of = |rule: String| policy("broken", &format!("  action: {action}\n  rules:\n  - {rule}\n{open}"));
    let secret = "to: [{operation: {paths: [/secret]}}]";
    let by_source = sources().into_iter().map(|source| of(format!("from: [{{source: {{{source}}}}}]\n    {secret}")));
    let by_operation =
        operations().into_iter().map(|what| of(format!("to: [{{operation: {{paths: [/secret], {what}}}}}]")));
    let by_condition = CONDITIONS.iter().map(|condition| of(format!("{secret}\n    when: [{condition}]")));
    by_source.chain(by_operation).chain(by_condition).collect()
}

#[test]
fn each_way_to_break_a_policy_leaves_the_path_closed_and_the_rest_as_it_was() {
    let custom = "  action: CUSTOM\n  provider: {name: unknown}\n  rules: [{to: [{operation: {paths: [/secret]}}]}]\n";
    let lists = "  rules:\n  - from: [{source: {namespaces: nonsense}}]\n    to: [{operation: {paths: [/secret]}}]\n  \
                 - to: [{operation: {paths: [/open]}}]\n";
    let worlds = [broken("ALLOW"), broken("DENY"), vec![policy("broken", custom), policy("broken", lists)]].concat();
    assert!(worlds.len() > 60, "{}", worlds.len());
    for gateway in [false, true] {
        let rig = Rig::of(&Setup { worlds: &worlds, gateway, ..Setup::default() });
        for (world, text) in worlds.iter().enumerate() {
            assert_eq!(rig.ask(world, &path("/secret")).status, 403, "{text:.400}");
            assert_eq!(rig.ask(world, &path("/open")).status, 200, "{text:.400}");
        }
    }
}

#[test]
fn each_way_to_break_a_policy_leaves_connections_closed_and_others_as_they_were() {
    // What is broken is about the client at 127.0.0.2, and another is let through by a rule of its own.
    let world = |action: &str, source: &str| {
        let source =
            if source.contains("ipBlocks") { source.to_owned() } else { format!("{source}, ipBlocks: [127.0.0.2]") };
        let open = if action == "ALLOW" { "  - from: [{source: {ipBlocks: [127.0.0.9]}}]\n" } else { "" };
        policy("broken", &format!("  action: {action}\n  rules:\n  - from: [{{source: {{{source}}}}}]\n{open}"))
    };
    let allow: Vec<String> = sources().iter().map(|source| world("ALLOW", source)).collect();
    // A broken range is all that says which clients a DENY is about.
    let told: Vec<String> = sources().into_iter().filter(|source| !source.starts_with("ipBlocks")).collect();
    let deny: Vec<String> = told.iter().map(|source| world("DENY", source)).collect();
    let worlds = [allow, deny].concat();
    let bytes = |from| Ask { bytes: true, from, ..Ask::default() };
    for gateway in [false, true] {
        let rig = Rig::of(&Setup { worlds: &worlds, gateway, ..Setup::default() });
        for (world, text) in worlds.iter().enumerate() {
            assert_eq!(rig.ask(world, &bytes(2)).status, 0, "{text:.400}");
            assert_eq!(rig.ask(world, &bytes(9)).status, 200, "{text:.400}");
        }
    }
}

#[test]
fn keys_that_cannot_be_had_leave_closed_what_needs_a_token() {
    let large = format!("{{\"keys\": [], \"more\": \"{}\"}}", "x".repeat(300_000));
    let keys = [
        "jwksUri: 'http://127.0.0.1:9/dead'".to_owned(),
        "jwksUri: 'ftp://issuer.example/keys'".to_owned(),
        "jwksUri: nonsense".to_owned(),
        "jwks: nonsense".to_owned(),
        "jwks: '{\"keys\": []}'".to_owned(),
        format!("jwks: '{large}'"),
        "jwks: '{\"keys\": [{\"kty\": \"EC\", \"crv\": \"P-256\", \"x\": \"AA\", \"y\": \"AA\"}]}'".to_owned(),
        "timeout: 1s".to_owned(),
    ];
    let required = policy(
        "required",
        "  rules:\n  - to: [{operation: {paths: [/open]}}]\n  - from: [{source: {requestPrincipals: ['*']}}]\n",
    );
    let worlds: Vec<String> =
        keys.iter().map(|keys| format!("{}{required}", rules(&format!("  - issuer: iss\n    {keys}\n")))).collect();
    let token = Ask { token: Some(Token::of(json!({}))), ..path("/secret") };
    for gateway in [false, true] {
        let rig = Rig::of(&Setup { worlds: &worlds, gateway, ..Setup::default() });
        for (world, keys) in keys.iter().enumerate() {
            assert_eq!(rig.ask(world, &token).status, 401, "{keys:.100}");
            assert_eq!(rig.ask(world, &path("/secret")).status, 403, "{keys:.100}");
            assert_eq!(rig.ask(world, &path("/open")).status, 200, "{keys:.100}");
        }
    }
}

#[test]
fn a_policy_that_is_none_at_all_closes_everything() {
    let worlds = [
        "  action: allow\n  rules: [{}]\n",
        "  rules: nonsense\n",
        "  rules: [[]]\n",
        "  action: DENY\n  rules: nonsense\n",
    ];
    let worlds: Vec<String> = worlds.iter().map(|spec| policy("broken", spec)).collect();
    let rig = Rig::new(&worlds, &[], None);
    for (world, text) in worlds.iter().enumerate() {
        assert_eq!(rig.ask(world, &path("/open")).status, 403, "{text}");
        assert_eq!(rig.ask(world, &Ask { bytes: true, ..Ask::default() }).status, 0, "{text}");
    }
}
