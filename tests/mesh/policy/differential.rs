//! The real Envoy and the evaluator agree on policies and requests that are drawn by chance, which `POLICY_SEED` begins
//! elsewhere.

use super::{
    evaluator::{Facts, allowed},
    rig::{Ask, NAMES, Rig},
    token::{Token, authentication},
};
use serde_json::{Map, Value, json};
use std::net::IpAddr;

const WORLDS: usize = 60;
const ASKS: usize = 60;
const IDENTITIES: [&str; 4] =
    ["cluster.local/ns/a/sa/x", "cluster.local/ns/b/sa/y", "old-td/ns/aa/sa/x", "stranger/ns/a/sa/z"];
const MESH: &str = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\n\
                    data: {mesh: 'trustDomainAliases: [old-td]'}\n";

/// Chance that is the same in each run (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn of(&mut self, below: u64) -> u64 {
        self.next() % below
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.of(from.len() as u64) as usize].clone()
    }

    fn some(&mut self, from: &[&str]) -> Value {
        (0..1 + self.of(2)).map(|_| Value::from(self.pick(from))).collect()
    }
}

const SOURCES: [(&str, &[&str]); 7] = [
    (
        "principals",
        &["cluster.local/ns/a/sa/x", "cluster.local/ns/a/*", "*/sa/x", "*", "stranger/ns/a/sa/z", "old-td/ns/aa/sa/x"],
    ),
    ("namespaces", &["a", "a*", "*b", "b", "*"]),
    ("trustDomains", &["cluster.local", "old-td", "*", "strange*", "*-td"]),
    ("ipBlocks", &["127.0.0.2", "127.0.0.8/29", "127.0.0.0/8", "10.0.0.0/8"]),
    ("remoteIpBlocks", &["203.0.113.7", "203.0.113.0/24", "127.0.0.0/8"]),
    ("requestPrincipals", &["iss/alice", "iss/*", "*", "*/bob", "other/alice"]),
    ("serviceAccounts", &["x", "a/x", "b/y"]),
];

const OPERATIONS: [(&str, &[&str]); 4] = [
    ("hosts", &["a.example", "A.Example", "*.example", "b*", "*", "b.example:80"]),
    ("methods", &["GET", "P*", "*T", "*", "DELETE"]),
    ("paths", &["/a", "/a/*", "*/b", "*", "/a/{*}", "/{**}/b", "/a/{*}/c"]),
    ("ports", &["PORT", "1"]),
];

const CONDITIONS: [(&str, &[&str]); 12] = [
    ("request.headers[x-h]", &["v1", "v*", "*2", "*"]),
    ("source.ip", &["127.0.0.2", "127.0.0.8/29"]),
    ("remote.ip", &["203.0.113.0/24"]),
    ("source.namespace", &["a", "b"]),
    ("source.principal", &["cluster.local/ns/b/sa/y", "*"]),
    ("destination.ip", &["127.0.1.0/24", "127.0.1.2", "10.0.0.0/8"]),
    ("destination.port", &["PORT", "1"]),
    ("connection.sni", &["a.example", "*.example", "*"]),
    ("request.auth.audiences", &["web", "sh*", "*"]),
    ("request.auth.presenter", &["app", "*"]),
    ("request.auth.claims[groups]", &["g1", "g*", "g3"]),
    ("request.auth.claims[realm][roles]", &["writer", "*"]),
];

fn negated(chance: &mut Chance, name: &str) -> String {
    match chance.of(3) {
        0 => format!("not{}{}", name[..1].to_uppercase(), &name[1..]),
        _ => name.to_owned(),
    }
}

fn entry(chance: &mut Chance, fields: &[(&str, &[&str])]) -> Value {
    let mut all = Map::new();
    for _ in 0..1 + chance.of(2) {
        let (name, values) = chance.pick(fields);
        let accounts = name == "serviceAccounts";
        // Accounts do not stand beside other ways to say who the peer is.
        if (accounts && !all.is_empty()) || all.keys().any(|k| k.to_lowercase().contains("serviceaccounts")) {
            continue;
        }
        all.insert(negated(chance, name), chance.some(values));
    }
    Value::Object(all)
}

fn policy(chance: &mut Chance, at: usize) -> Value {
    let action = chance.pick(&["ALLOW", "ALLOW", "DENY"]);
    let rules: Vec<Value> = (0..1 + chance.of(2))
        .map(|_| {
            let mut rule = Map::new();
            if chance.of(3) > 0 {
                let from: Value = (0..1 + chance.of(2)).map(|_| json!({ "source": entry(chance, &SOURCES) })).collect();
                rule.insert("from".into(), from);
            }
            if chance.of(3) > 0 {
                let to: Value =
                    (0..1 + chance.of(2)).map(|_| json!({ "operation": entry(chance, &OPERATIONS) })).collect();
                rule.insert("to".into(), to);
            }
            if chance.of(2) > 0 {
                let (key, values) = chance.pick(&CONDITIONS);
                let field = chance.pick(&["values", "values", "notValues"]);
                let mut condition = json!({ "key": key });
                condition[field] = chance.some(values);
                rule.insert("when".into(), json!([condition]));
            }
            Value::Object(rule)
        })
        .collect();
    json!({ "apiVersion": "security.istio.io/v1", "kind": "AuthorizationPolicy",
        "metadata": { "name": format!("p{at}"), "namespace": "shop" }, "spec": { "action": action, "rules": rules } })
}

fn ask(chance: &mut Chance) -> Ask {
    let headers = match chance.of(3) {
        0 => Vec::new(),
        1 => vec![("x-h".to_owned(), chance.pick(&["v1", "v2", "w"]).to_owned())],
        _ => vec![("x-forwarded-for".to_owned(), chance.pick(&["203.0.113.7", "198.51.100.1"]).to_owned())],
    };
    let identity = (chance.of(3) > 0).then(|| chance.pick(&IDENTITIES));
    let token = (chance.of(2) > 0).then(|| {
        Token::of(json!({ "sub": chance.pick(&["alice", "bob"]), "aud": chance.pick(&["web", "shop"]), "azp": "app",
            "groups": chance.pick(&[json!(["g1", "g2"]), json!("g3"), json!([])]),
            "realm": { "roles": chance.pick(&[json!(["writer"]), json!("reader")]) } }))
    });
    let bytes = chance.of(4) == 0;
    Ask {
        bytes,
        h2: !bytes && chance.of(3) == 0,
        identity,
        sni: identity.is_some().then(|| chance.pick(&NAMES)),
        from: chance.pick(&[2, 9, 77]),
        method: Some(chance.pick(&["GET", "POST", "PUT", "DELETE"])),
        path: Some(chance.pick(&["/a", "/a/b", "/a/b/c", "/b", "/x?y=/a", "/a/"]).to_owned()),
        host: Some(chance.pick(&["a.example", "A.EXAMPLE", "b.example", "b.example:80", "other"])),
        headers,
        token,
        body: None,
    }
}

fn facts(ask: &Ask, port: u16) -> Facts {
    let own = IpAddr::from([127, 0, 0, ask.from]);
    let header = |name: &str| ask.headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    Facts {
        bytes: ask.bytes,
        principal: ask.identity.map(str::to_owned),
        ip: Some(own),
        remote_ip: header("x-forwarded-for").filter(|_| !ask.bytes).and_then(|ip| ip.parse().ok()).or(Some(own)),
        destination: Some(IpAddr::from([127, 0, 1, 1 + u8::from(ask.identity.is_some()) + 2 * u8::from(ask.bytes)])),
        port,
        sni: ask.identity.and(ask.sni).map(str::to_owned),
        method: ask.method.unwrap_or_default().to_owned(),
        path: ask.path.clone().unwrap_or_default(),
        host: ask.host.unwrap_or_default().to_owned(),
        headers: ask.headers.iter().cloned().collect(),
        claims: ask.token.as_ref().map(|token| token.claims.clone()),
        trust_domains: vec!["cluster.local", "old-td"],
    }
}

#[test]
fn envoy_decides_as_the_documentation_says() {
    let seed = std::env::var("POLICY_SEED").map_or(0, |seed| seed.parse().expect("a number"));
    let mut chance = Chance(0x5eed_1234_5678_9abc ^ seed);
    let worlds: Vec<Vec<Value>> =
        (0..WORLDS).map(|_| (0..1 + chance.of(3) as usize).map(|at| policy(&mut chance, at)).collect()).collect();
    let texts: Vec<String> = worlds
        .iter()
        .map(|policies| {
            let policies: String = policies.iter().map(|p| format!("---\n{p}\n")).collect();
            format!("{MESH}{}{policies}", authentication(""))
        })
        .collect();
    let rig = Rig::new(&texts, &IDENTITIES, None);
    let (mut through, mut wrong) = (0, Vec::new());
    for (world, policies) in worlds.iter().enumerate() {
        let port = rig.port(world);
        let read = |p: &Value| serde_json::from_str(&p.to_string().replace("PORT", &port.to_string())).expect("JSON");
        let policies: Vec<Value> = policies.iter().map(read).collect();
        for _ in 0..ASKS {
            let ask = ask(&mut chance);
            let wanted = allowed(&policies, &facts(&ask, port));
            through += usize::from(wanted);
            let status = rig.ask(world, &ask).status;
            if (status == 200) != wanted {
                wrong.push(format!("{status} instead of {wanted} for {ask:?}\nby {}", Value::from(policies.clone())));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {}", wrong.len(), WORLDS * ASKS, wrong[..wrong.len().min(4)].join("\n\n"));
    let share = through * 100 / (WORLDS * ASKS);
    assert!((10..90).contains(&share), "{share}% get through, so that little is told apart");
}
