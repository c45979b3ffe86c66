//! For whom a policy is, and what it does: each field beside the rules, with what it reaches and what it does not.

use super::{
    authorizers::{Asked, mesh, word},
    rig::{Ask, Rig, Setup},
    token::{Token, authentication},
};
use serde_json::json;

/// Fields that say for whom a policy is, each with one that reaches the workload and one that does not. Only gateways
/// are reached by name.
const SCOPES: [(&str, &str, &str); 9] = [
    ("selector.matchLabels", "selector: {matchLabels: {app: server}}", "selector: {matchLabels: {app: other}}"),
    ("targetRef.group", "targetRef: {GATEWAY, name: server}", "targetRef: {group: other, kind: Gateway, name: server}"),
    ("targetRef.kind", "targetRef: {GATEWAY, name: server}", "targetRef: {group: '', kind: Service, name: server}"),
    ("targetRef.name", "targetRef: {GATEWAY, name: server}", "targetRef: {GATEWAY, name: other}"),
    (
        "targetRef.namespace",
        "targetRef: {GATEWAY, name: server, namespace: shop}",
        "targetRef: {GATEWAY, name: other, namespace: web}",
    ),
    (
        "targetRefs[].group",
        "targetRefs: [{GATEWAY, name: server}]",
        "targetRefs: [{group: other, kind: Gateway, name: server}]",
    ),
    (
        "targetRefs[].kind",
        "targetRefs: [{GATEWAY, name: server}]",
        "targetRefs: [{group: '', kind: Service, name: server}]",
    ),
    (
        "targetRefs[].name",
        "targetRefs: [{GATEWAY, name: a}, {GATEWAY, name: server}]",
        "targetRefs: [{GATEWAY, name: other}]",
    ),
    (
        "targetRefs[].namespace",
        "targetRefs: [{GATEWAY, name: server, namespace: shop}]",
        "targetRefs: [{GATEWAY, name: other, namespace: web}]",
    ),
];

/// The fields of both kinds that say for whom a policy is.
pub(super) fn scopes() -> Vec<String> {
    SCOPES.map(|(field, ..)| field.to_owned()).to_vec()
}

/// The fields of an AuthorizationPolicy that have cells here.
pub(super) fn fields() -> Vec<String> {
    [scopes(), vec!["action".to_owned(), "provider.name".to_owned()]].concat()
}

fn object(kind: &str, scope: &str, rest: &str) -> String {
    let scope = scope.replace("GATEWAY", "group: gateway.networking.k8s.io, kind: Gateway");
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: {kind}\nmetadata: {{name: cell, namespace: shop}}\n\
         spec:\n  {scope}\n{rest}"
    )
}

fn statuses(worlds: &[String], gateway: bool, ask: &Ask) -> Vec<u16> {
    let rig = Rig::of(&Setup { worlds, gateway, ..Setup::default() });
    (0..worlds.len()).map(|world| rig.ask(world, ask).status).collect()
}

#[test]
fn a_policy_is_for_those_that_its_fields_reach_and_for_nobody_else() {
    let deny = |scope: &str| object("AuthorizationPolicy", scope, "  action: DENY\n  rules: [{}]\n");
    let worlds: Vec<String> = SCOPES.iter().flat_map(|(_, hit, miss)| [deny(hit), deny(miss)]).collect();
    for (ask, refused) in [(Ask::default(), 403), (Ask { bytes: true, ..Ask::default() }, 0)] {
        let at_gateway: Vec<u16> = SCOPES.iter().flat_map(|_| [refused, 200]).collect();
        assert_eq!(statuses(&worlds, true, &ask), at_gateway, "{SCOPES:#?}");
        // No name of a gateway reaches a sidecar.
        let of_selector = |(field, ..): &(&str, &str, &str)| if field.starts_with("selector") { refused } else { 200 };
        let at_sidecar: Vec<u16> = SCOPES.iter().flat_map(|scope| [of_selector(scope), 200]).collect();
        assert_eq!(statuses(&worlds, false, &ask), at_sidecar, "{SCOPES:#?}");
    }
}

#[test]
fn a_rule_for_tokens_is_for_those_that_its_fields_reach_and_for_nobody_else() {
    let rules = authentication("");
    let (_, rules) = rules.split_once("spec:\n").expect("a spec");
    let tokens = |scope: &str| object("RequestAuthentication", scope, rules);
    let worlds: Vec<String> = SCOPES.iter().flat_map(|(_, hit, miss)| [tokens(hit), tokens(miss)]).collect();
    let bad = Ask { token: Some(Token::of(json!({ "exp": 1_000 }))), ..Ask::default() };
    let wanted: Vec<u16> = SCOPES.iter().flat_map(|_| [401, 200]).collect();
    assert_eq!(statuses(&worlds, true, &bad), wanted, "{SCOPES:#?}");
}

#[test]
fn each_action_does_what_it_says() {
    let server = Asked::over_http();
    let of = |action: &str| {
        let policy = object("AuthorizationPolicy", action, "  rules: [{to: [{operation: {paths: [/asked]}}]}]\n");
        format!("{}{policy}", mesh("envoyExtAuthzHttp", 8000, "includeRequestHeadersInCheck: [x-word]"))
    };
    let actions = [
        ("action: ALLOW", [200, 403]),
        ("action: DENY", [403, 200]),
        ("action: AUDIT", [200, 200]),
        ("action: CUSTOM\n  provider: {name: ask}", [402, 200]),
        ("action: CUSTOM\n  provider: {name: nobody}", [403, 200]),
    ];
    let worlds: Vec<String> = actions.iter().map(|(action, _)| of(action)).collect();
    for gateway in [false, true] {
        let beside = [(8000, server.port)];
        let rig = Rig::of(&Setup { worlds: &worlds, gateway, beside: &beside, ..Setup::default() });
        for (world, (action, wanted)) in actions.iter().enumerate() {
            let status = |path: &str| rig.ask(world, &word(path, "now")).status;
            assert_eq!([status("/asked"), status("/other")], *wanted, "{action}, at a gateway: {gateway}");
        }
        assert_eq!(rig.ask(3, &word("/asked", "please")).status, 200, "the one that is named says yes");
    }
}

#[test]
fn a_policy_that_is_tried_out_is_counted_and_closes_nothing() {
    let tried_out = |action: &str| {
        let rules = "  rules: [{to: [{operation: {paths: [/secret]}}]}]\n";
        let policy = object("AuthorizationPolicy", &format!("action: {action}"), rules);
        policy.replace("namespace: shop}", "namespace: shop, annotations: {istio.io/dry-run: 'true'}}")
    };
    let worlds = [tried_out("ALLOW"), tried_out("DENY")];
    for gateway in [false, true] {
        let rig = Rig::of(&Setup { worlds: &worlds, gateway, ..Setup::default() });
        for (world, path) in [(0, "/secret"), (0, "/open"), (0, "/open"), (1, "/secret"), (1, "/secret"), (1, "/open")]
        {
            assert_eq!(rig.ask(world, &Ask { path: Some(path.into()), ..Ask::default() }).status, 200);
        }
        let counted =
            |of: &str| ["allowed", "denied"].map(|what| rig.counted(&format!("dry_run_{of}_.*shadow_{what}$")));
        assert_eq!([counted("allow"), counted("deny")], [[1, 2], [1, 2]], "at a gateway: {gateway}");
        for world in [0, 1] {
            assert_eq!(
                rig.ask(world, &Ask { bytes: true, ..Ask::default() }).status,
                200,
                "connections get through too"
            );
        }
        let tcp = ["allow", "deny"].map(|of| rig.counted(&format!("tcp.*dry_run_{of}_.*shadow_denied$")));
        assert_eq!(tcp, [1, 1], "at a gateway: {gateway}");
    }
}

#[test]
fn selectors_do_not_reach_gateways_where_the_operator_says_so() {
    let deny = |scope: &str| object("AuthorizationPolicy", scope, "  action: DENY\n  rules: [{}]\n");
    let worlds = [deny(SCOPES[0].1), deny(SCOPES[3].1)];
    let switches = [("ENABLE_SELECTOR_BASED_K8S_GATEWAY_POLICY", "false")];
    let statuses = |gateway| {
        let rig = Rig::of(&Setup { worlds: &worlds, gateway, switches: &switches, ..Setup::default() });
        [0, 1].map(|world| rig.ask(world, &Ask::default()).status)
    };
    assert_eq!([statuses(true), statuses(false)], [[200, 403], [403, 200]]);
}
