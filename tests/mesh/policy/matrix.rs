//! Each field of a rule of an AuthorizationPolicy, met, missed and absent: as what is asked for and as what is not
//! wanted, in ALLOW and in DENY, for requests and connections, before a sidecar's workload and at a gateway.

use super::{
    rig::{Ask, Rig, Setup},
    token::{Token, authentication},
};
use serde_json::json;

const FRONT: &str = "cluster.local/ns/web/sa/front";
const BACK: &str = "cluster.local/ns/ops/sa/back";

/// A field with a value, what meets it, and what does not. Those that only requests have are marked.
struct Row {
    field: &'static str,
    value: &'static str,
    requests: bool,
    meets: Ask,
    misses: Ask,
}

/// A field's attribute is not there at all in a request that says nothing.
const ABSENT: [&str; 12] = [
    "source.principals",
    "source.namespaces",
    "source.serviceAccounts",
    "source.trustDomains",
    "source.requestPrincipals",
    "when.source.namespace",
    "when.source.principal",
    "when.source.serviceAccount",
    "when.source.trustDomain",
    "when.connection.sni",
    "when.request.auth.",
    "when.request.headers",
];

fn row(field: &'static str, value: &'static str, requests: bool, meets: Ask, misses: Ask) -> Row {
    Row { field, value, requests, meets, misses }
}

fn by(identity: &'static str) -> Ask {
    Ask { identity: Some(identity), ..Ask::default() }
}

fn with(name: &str, value: &str) -> Ask {
    Ask { headers: vec![(name.to_owned(), value.to_owned())], ..Ask::default() }
}

fn path(path: &str) -> Ask {
    Ask { path: Some(path.to_owned()), ..Ask::default() }
}

fn token(claims: serde_json::Value) -> Ask {
    Ask { token: Some(Token::of(claims)), ..Ask::default() }
}

fn rows() -> Vec<Row> {
    let none = Ask::default;
    let host = |host| Ask { host: Some(host), ..Ask::default() };
    let method = |method| Ask { method: Some(method), ..Ask::default() };
    let from = |from| Ask { from, ..Ask::default() };
    let sni = |sni| Ask { sni: Some(sni), ..by(FRONT) };
    vec![
        row("source.principals", FRONT, false, by(FRONT), by(BACK)),
        row("source.principals", "cluster.local/ns/web/*", false, by(FRONT), by(BACK)),
        row("source.principals", "*/sa/front", false, by(FRONT), none()),
        row("source.principals", "*", false, by(BACK), none()),
        row("source.namespaces", "web", false, by(FRONT), by(BACK)),
        row("source.namespaces", "w*", false, by(FRONT), none()),
        row("source.serviceAccounts", "web/front", false, by(FRONT), by(BACK)),
        row("source.trustDomains", "cluster.local", false, by(FRONT), none()),
        row("source.ipBlocks", "127.0.0.8/29", false, from(9), from(2)),
        row("source.ipBlocks", "127.0.0.9", false, from(9), from(2)),
        row("source.remoteIpBlocks", "203.0.113.0/24", false, with("x-forwarded-for", "203.0.113.7"), none()),
        row("source.requestPrincipals", "iss/alice", true, token(json!({})), token(json!({"sub": "bob"}))),
        row("source.requestPrincipals", "iss/*", true, token(json!({})), none()),
        row("source.requestPrincipals", "*", true, token(json!({"sub": "bob"})), none()),
        row("operation.hosts", "a.example", true, host("A.example"), host("b.example")),
        row("operation.hosts", "*.example", true, host("b.example"), host("b.example:80")),
        row("operation.hosts", "b*", true, host("b.example:80"), host("a.example")),
        row("operation.ports", "PORT", false, none(), none()),
        row("operation.methods", "POST", true, method("POST"), method("GET")),
        row("operation.methods", "P*", true, method("PUT"), method("GET")),
        row("operation.paths", "/a", true, path("/a?b=c"), path("/a/")),
        row("operation.paths", "/a/*", true, path("/a/b/c"), path("/a")),
        row("operation.paths", "*.png", true, path("/x.png"), path("/x.jpg")),
        row("operation.paths", "/a/{*}/c", true, path("/a/b/c"), path("/a/b/b/c")),
        row("operation.paths", "/a/{**}", true, path("/a/b/c"), path("/b/a")),
        row("when.request.headers[x-h]", "v1", true, with("x-h", "v1"), with("x-h", "v2")),
        row("when.request.headers[x-h]", "*", true, with("X-H", "anything"), none()),
        row("when.source.ip", "127.0.0.9", false, from(9), from(2)),
        row("when.remote.ip", "203.0.113.7", false, with("x-forwarded-for", "203.0.113.7"), none()),
        row("when.source.namespace", "web", false, by(FRONT), by(BACK)),
        row("when.source.principal", FRONT, false, by(FRONT), none()),
        row("when.source.serviceAccount", "web/front", false, by(FRONT), by(BACK)),
        row("when.source.trustDomain", "cluster.local", false, by(FRONT), none()),
        row("when.request.auth.principal", "iss/alice", true, token(json!({})), none()),
        row(
            "when.request.auth.audiences",
            "shop",
            true,
            token(json!({"aud": ["x", "shop"]})),
            token(json!({"aud": "x"})),
        ),
        row("when.request.auth.presenter", "app", true, token(json!({"azp": "app"})), token(json!({}))),
        row(
            "when.request.auth.claims[groups]",
            "g*",
            true,
            token(json!({"groups": ["a", "g1"]})),
            token(json!({"groups": "a"})),
        ),
        row("when.request.auth.claims[a][b]", "c", true, token(json!({"a": {"b": "c"}})), token(json!({"a": "c"}))),
        row(
            "when.request.auth.claims[scope]",
            "read",
            true,
            token(json!({"scope": "write read"})),
            token(json!({"scope": "reading"})),
        ),
        row("when.destination.ip", "127.0.1.0/24", false, none(), none()),
        row("when.destination.port", "PORT", false, none(), none()),
        row("when.connection.sni", "b.example", false, sni("b.example"), sni("a.example")),
    ]
}

/// A policy of this action whose one rule asks for a field, or for its absence.
fn policy(row: &Row, action: &str, negated: bool) -> String {
    let (section, field) = row.field.split_once('.').expect("a section");
    let name = match negated {
        true => format!("not{}{}", field[..1].to_uppercase(), &field[1..]),
        false => field.to_owned(),
    };
    let rule = match section {
        "source" => format!("from: [{{source: {{{name}: [\"{}\"]}}}}]", row.value),
        "operation" => format!("to: [{{operation: {{{name}: [\"{}\"]}}}}]", row.value),
        _ => {
            let values = if negated { "notValues" } else { "values" };
            format!("when: [{{key: \"{field}\", {values}: [\"{}\"]}}]", row.value)
        }
    };
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: cell, namespace: shop}}\n\
         spec: {{action: {action}, rules: [{{{rule}}}]}}\n"
    )
}

/// The fields of the schema that a row is about.
pub(super) fn fields() -> Vec<String> {
    let of = |row: Row| {
        let (section, field) = row.field.split_once('.').expect("a section");
        let not = format!("not{}{}", field[..1].to_uppercase(), &field[1..]);
        match section {
            "source" => [field, &not].map(|field| format!("rules[].from[].source.{field}[]")).to_vec(),
            "operation" => [field, &not].map(|field| format!("rules[].to[].operation.{field}[]")).to_vec(),
            _ => ["key", "values[]", "notValues[]"].map(|field| format!("rules[].when[].{field}")).to_vec(),
        }
    };
    rows().into_iter().flat_map(of).collect()
}

/// What is sent in a cell, and whether the field is met: once met, once missed, and once without the attribute.
fn asks(row: &Row) -> Vec<(Ask, bool)> {
    // The port and the address of the server are the same whoever asks.
    let always = row.value == "PORT" || row.field == "when.destination.ip";
    let mut asks = vec![(row.meets.clone(), true), (row.misses.clone(), always)];
    if ABSENT.iter().any(|field| row.field.starts_with(field)) {
        asks.push((Ask::default(), false));
    }
    asks
}

/// The status of an answer to a row's request or connection in a world of one policy.
fn wanted(row: &Row, (action, negated): (&str, bool), ask: &Ask, met: bool) -> u16 {
    // Connections have no headers.
    let met = met && (!ask.bytes || ask.headers.is_empty());
    let through = match (ask.bytes && row.requests, action) {
        // Nothing of it means anything: the rule of ALLOW takes nothing, that of DENY everything.
        (true, _) => false,
        (false, "ALLOW") => met != negated,
        (false, _) => met == negated,
    };
    match (through, ask.bytes) {
        (true, _) => 200,
        (false, true) => 0,
        (false, false) => 403,
    }
}

/// Sends what each cell is about, and returns how many there are.
fn judge(gateway: bool) -> usize {
    let rows = rows();
    let kinds = [("ALLOW", false), ("ALLOW", true), ("DENY", false), ("DENY", true)];
    let cells: Vec<_> = rows.iter().flat_map(|row| kinds.map(|kind| (row, kind))).collect();
    let world = |(row, (action, negated)): &(&Row, (&str, bool))| {
        format!("{}{}", authentication(""), policy(row, action, *negated))
    };
    let worlds: Vec<String> = cells.iter().map(world).collect();
    let rig = Rig::of(&Setup { worlds: &worlds, identities: &[FRONT, BACK], gateway, ..Setup::default() });
    let (mut count, mut wrong) = (0, Vec::new());
    for (world, (row, kind)) in cells.iter().enumerate() {
        for ((ask, met), bytes) in asks(row).into_iter().flat_map(|ask| [(ask.clone(), false), (ask, true)]) {
            let ask = Ask { bytes, ..ask };
            let (status, wanted) = (rig.ask(world, &ask).status, wanted(row, *kind, &ask, met));
            count += 1;
            if status != wanted {
                wrong.push(format!("{} {} {kind:?}: {status}, not {wanted}: {ask:?}", row.field, row.value));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count}:\n{}", wrong.len(), wrong.join("\n"));
    count
}

#[test]
fn each_field_lets_through_and_refuses_what_it_says_before_a_workload() {
    assert!(judge(false) > 800);
}

#[test]
fn each_field_lets_through_and_refuses_what_it_says_at_a_gateway() {
    assert!(judge(true) > 800);
}

#[test]
fn ten_thousand_principals_are_within_what_envoy_takes() {
    let mut principals: Vec<String> = (0..9_999).map(|n| format!("cluster.local/ns/ns-{n}/sa/account-{n}")).collect();
    principals.push(FRONT.to_owned());
    let rule = format!("  rules: [{{from: [{{source: {{principals: {}}}}}]}}]\n", json!(principals));
    let rig = Rig::new(&[super::refusals::policy("long", &rule)], &[FRONT, BACK], None);
    for bytes in [false, true] {
        let status = |identity| rig.ask(0, &Ask { bytes, identity, ..Ask::default() }).status;
        let refused = if bytes { 0 } else { 403 };
        assert_eq!([status(Some(FRONT)), status(Some(BACK)), status(None)], [200, refused, refused]);
    }
}
