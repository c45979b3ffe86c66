//! Policies, sets of keys and templates of paths that are drawn by chance: none may stop the translation, and Envoy must
//! take what comes of each, for a refused listener leaves a workload with the policies that it had before.
//!
//! `FUZZ_WORLDS` of each kind (300 where it is not set) are judged, many at a time; `FUZZ_SEED` begins elsewhere.

use super::{
    refusals::policy,
    rig::{Setup, translated},
    token::rules,
};
use crate::{
    dice::{Dice, number},
    fuzz::TEXTS,
    harness::run,
};
use serde_json::{Map, Value, json};
use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::Command,
};

/// How many worlds Envoy judges at a time.
const BATCH: usize = 100;

/// What a world's workload has before it: the filters for requests, and those for connections.
type Filters = (Vec<Value>, Vec<Value>);

/// Draws worlds, and has Envoy judge what comes of them.
fn judge(draw: impl Fn(&mut Dice) -> String) {
    let (count, start) = (number("FUZZ_WORLDS", 300), number("FUZZ_SEED", 1));
    let (dir, _) = run().part();
    let (file, mut failed, mut batch) = (dir.join("in.yaml"), Vec::new(), Vec::new());
    for seed in start..start + count {
        let world = draw(&mut Dice(seed));
        fs::write(&file, &world).expect("a file");
        match catch_unwind(AssertUnwindSafe(|| filters(&file))) {
            Ok(filters) => batch.push((seed, world, filters)),
            Err(_) => failed.push(format!("FUZZ_SEED={seed}: the translation panicked:\n{world:.2000}")),
        }
        if batch.len() == BATCH || seed + 1 == start + count {
            let worlds = std::mem::take(&mut batch);
            if accepted(&dir, worlds.iter().map(|(_, _, filters)| filters)).is_err() {
                failed.extend(worlds.iter().filter_map(|(seed, world, filters)| {
                    let why = accepted(&dir, [filters].into_iter()).err()?;
                    Some(format!("FUZZ_SEED={seed}: {why:.600}\n{world:.2000}"))
                }));
            }
        }
    }
    assert!(failed.is_empty(), "{} of {count}:\n{}", failed.len(), failed.join("\n"));
}

fn filters(file: &Path) -> Filters {
    const GUARDS: [&str; 3] = ["rbac", "jwt_authn", "ext_authz"];
    let text = fs::read_to_string(file).expect("a file");
    fs::write(file, format!("{}{text}", super::rig::POD)).expect("a file");
    let [http, bytes] = translated(file, &Setup::default());
    let guards = |list: &Value| -> Vec<Value> {
        let list = list.as_array().into_iter().flatten();
        let own =
            |filter: &&Value| GUARDS.iter().any(|name| filter["name"].as_str().unwrap_or_default().ends_with(name));
        list.filter(own).cloned().collect()
    };
    let manager = http["filters"].as_array().and_then(|all| all.last()).expect("a connection manager");
    (guards(&manager["typedConfig"]["httpFilters"]), guards(&bytes["filters"]))
}

fn accepted<'a>(dir: &Path, worlds: impl Iterator<Item = &'a Filters>) -> Result<(), String> {
    let (mut http, mut network) = (Vec::new(), Vec::new());
    for (requests, connections) in worlds {
        http.extend(requests.clone());
        network.extend(connections.clone());
    }
    http.push(json!({ "name": "envoy.filters.http.router", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }));
    network.push(json!({ "name": "envoy.filters.network.http_connection_manager", "typedConfig": {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "statPrefix": "fuzz", "routeConfig": {}, "httpFilters": http } }));
    let config = json!({ "staticResources": { "listeners": [{ "name": "fuzz",
        "address": { "socketAddress": { "address": "127.0.0.1", "portValue": 9 } },
        "filterChains": [{ "filters": network }] }] } });
    let path = dir.join("envoy.json");
    fs::write(&path, config.to_string()).expect("a file");
    let output = Command::new(run().envoy())
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(&path)
        .output()
        .expect("Envoy runs");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// Texts that are something to some field of a policy.
const OWN_TEXTS: &[&str] = &[
    "cluster.local/ns/a/sa/x",
    "*/sa/x",
    "a/x",
    "spiffe://a/ns/b/sa/c",
    "10.0.0.1",
    "::/0",
    "iss/sub",
    "https://a/b/*",
    "a.example:*",
    "GET",
    "/a/{*}",
    "/{**}/b",
    "80",
    "65535",
    "[a, b]",
    "*a*",
    "**",
    ".*",
    "a[b]c",
    "a\\b",
    "\u{7f}",
    "\t",
];
const SOURCES: [&str; 9] = [
    "principals",
    "requestPrincipals",
    "namespaces",
    "serviceAccounts",
    "trustDomains",
    "ipBlocks",
    "remoteIpBlocks",
    "unknown",
    "",
];
const OPERATIONS: [&str; 5] = ["hosts", "ports", "methods", "paths", "other"];
const KEYS: [&str; 20] = [
    "request.headers[x-a]",
    "request.headers[:path]",
    "request.headers[a b]",
    "request.headers[]",
    "source.ip",
    "remote.ip",
    "source.namespace",
    "source.principal",
    "source.serviceAccount",
    "source.trustDomain",
    "request.auth.principal",
    "request.auth.audiences",
    "request.auth.presenter",
    "request.auth.claims[a][b]",
    "request.auth.claims[a[b]",
    "destination.ip",
    "destination.port",
    "connection.sni",
    "experimental.envoy.filters.a.b[c]",
    "nonsense",
];

fn text(dice: &mut Dice) -> Value {
    match dice.below(20) {
        0 => "x".repeat(dice.below(6_000)).into(),
        1 => format!("{}{}", dice.one_of(OWN_TEXTS), dice.one_of(TEXTS)).into(),
        2 => Value::Null,
        3 => json!(dice.below(100_000)),
        4..8 => (*dice.one_of(TEXTS)).into(),
        _ => (*dice.one_of(OWN_TEXTS)).into(),
    }
}

fn list(dice: &mut Dice) -> Value {
    match dice.below(30) {
        0 => Value::Null,
        1 => json!([]),
        2 => text(dice),
        3 => (0..dice.below(40)).map(|_| text(dice)).collect(),
        _ => (0..=dice.below(3)).map(|_| text(dice)).collect(),
    }
}

/// An entry of `from` or `to`.
fn entry(dice: &mut Dice, inner: &str, fields: &[&str]) -> Value {
    let mut all = Map::new();
    for _ in 0..dice.below(4) {
        let field = *dice.one_of(fields);
        let negated = dice.below(3) == 0 && !field.is_empty();
        let name = if negated { format!("not{}{}", field[..1].to_uppercase(), &field[1..]) } else { field.to_owned() };
        all.insert(name, list(dice));
    }
    if dice.below(40) == 0 { Value::Null } else { json!({ inner: all }) }
}

fn rule(dice: &mut Dice) -> Value {
    let mut rule = Map::new();
    for (name, inner, fields) in [("from", "source", &SOURCES[..]), ("to", "operation", &OPERATIONS)] {
        if dice.below(2) == 0 {
            rule.insert(name.into(), (0..dice.below(3)).map(|_| entry(dice, inner, fields)).collect());
        }
    }
    if dice.below(2) == 0 {
        let mut condition = || {
            let mut condition = json!({ "key": *dice.one_of(&KEYS) });
            condition[*dice.one_of(&["values", "notValues"])] = list(dice);
            condition
        };
        rule.insert("when".into(), json!([condition(), condition()]));
    }
    if dice.below(40) == 0 { Value::Null } else { rule.into() }
}

#[test]
fn policies_drawn_by_chance_are_taken() {
    judge(|dice| {
        let action = *dice.one_of(&["ALLOW", "DENY", "AUDIT", "CUSTOM", "allow"]);
        let rules: Value = (0..=dice.below(3)).map(|_| rule(dice)).collect();
        let spec = json!({ "action": action, "provider": { "name": dice.one_of(TEXTS) }, "rules": rules });
        let spec: String = spec.as_object().into_iter().flatten().map(|(k, v)| format!("  {k}: {v}\n")).collect();
        policy("drawn", &spec)
    });
}

#[test]
fn templates_of_paths_drawn_by_chance_are_taken() {
    const PARTS: &[&str] = &[
        "/", "/", "/", "a", "b.c", "{*}", "{**}", "*", "**", "{", "}", "{a}", "%20", "%", "é", "~", "-", "?", "#", ":",
        ";", "(", "[", "\\", "=", "@",
    ];
    judge(|dice| {
        let template = |dice: &mut Dice| -> Value {
            let start = if dice.below(8) == 0 { "" } else { "/" };
            let many = if dice.below(20) == 0 { 300 } else { 8 };
            let rest: String = (0..=dice.below(many)).map(|_| *dice.one_of(PARTS)).collect();
            format!("{start}{rest}").into()
        };
        let action = *dice.one_of(&["ALLOW", "DENY"]);
        let paths: Value = (0..6).map(|_| template(dice)).collect();
        policy("drawn", &format!("  action: {action}\n  rules: [{{to: [{{operation: {{paths: {paths}}}}}]}}]\n"))
    });
}

/// Sets of keys of each kind that is taken.
fn key_sets() -> Vec<Value> {
    let n = "qfsu3gvuZ8ZPgXBYWTmOAkOBSBvHXbYFz2yBcBhdRKFSbkgLZRrvvkGsDaUPKFJo1wvL-JrNAN2Y1DcBFcMP8YgEQjpsQ0ZJ8vh7z6vM1Yzv2Q9\
             JcDBk2wDd3vY0h5iMt7QOYgpAtW6u_HSl9jqg0jG3rBq-r9uwV0RvDkT9eRc";
    vec![
        json!({ "kty": "EC", "crv": "P-256", "kid": "a", "x": "6QgQWifEf4NCe9BYrbbc4XgkKgH_OHNvHaVFySyyWLg",
            "y": "tlsqpH_euJr99P8HY3eFMUmFjh8L_UyAzdUGUpnFByQ" }),
        json!({ "kty": "RSA", "alg": "RS256", "e": "AQAB", "n": n, "use": "sig" }),
        json!({ "kty": "oct", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0" }),
        json!({ "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }),
    ]
}

#[test]
fn sets_of_keys_drawn_by_chance_are_taken() {
    const FIELDS: &[&str] = &["kty", "crv", "alg", "kid", "x", "y", "n", "e", "k", "d", "use", "x5c"];
    const VALUES: &[&str] = &[
        "RSA",
        "EC",
        "oct",
        "OKP",
        "P-256",
        "P-384",
        "P-521",
        "secp256k1",
        "Ed25519",
        "X25519",
        "ES256",
        "ES512",
        "RS512",
        "PS256",
        "HS384",
        "EdDSA",
        "none",
        "",
        "AQAB",
        "AA",
        "AQ",
        "A",
        "====",
        "AAAA",
        "sig",
        "!",
    ];
    let base = key_sets();
    judge(|dice| {
        let key = |dice: &mut Dice| {
            let mut key = dice.one_of(&base).clone();
            for _ in 0..dice.below(3) {
                let field = *dice.one_of(FIELDS);
                let old = key[field].as_str().unwrap_or_default().to_owned();
                key[field] = match dice.below(8) {
                    0 => Value::Null,
                    1 => json!(dice.below(9)),
                    2 => json!([old]),
                    3 => old.chars().rev().collect::<String>().into(),
                    4 => old.chars().take(dice.below(old.len() + 1)).collect::<String>().into(),
                    5 => format!("{old}{}", dice.one_of(VALUES)).into(),
                    _ => (*dice.one_of(VALUES)).into(),
                };
            }
            key
        };
        let set: Vec<Value> = (0..dice.below(4)).map(|_| key(dice)).collect();
        let mut set = json!({ "keys": set }).to_string();
        match dice.below(12) {
            0 => set.truncate(dice.below(set.len() + 1)),
            1 => {
                let other = *dice.one_of(&["\"Keys\"", "\"keys\": [], \"keys\""]);
                set = set.replacen("\"keys\"", other, 1);
            }
            2 => set = format!("{set}{}", dice.one_of(TEXTS)),
            _ => {}
        }
        rules(&format!("  - issuer: iss\n    jwks: {}\n", Value::from(set)))
    });
}
