//! Each field of a RequestAuthentication's rules, and tokens that are no good.

mod live;

use super::{
    authorizers::read,
    rig::{Answer, Ask, Rig, Setup},
    token::{Token, authentication, keys, rules},
};
use serde_json::{Value, json};
use std::{io::Write, net::TcpListener, thread, time::Duration};

/// Whoever has no token is denied.
const REQUIRED: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {name: required, namespace: shop}\nspec: {rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}\n";
/// Whoever has not this role is denied.
const WRITERS: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {name: writers, namespace: shop}\nspec: {rules: [{when: [{key: 'request.auth.claims[roles]', values: [write]}]}]}\n";
/// The service that has the keys.
const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: authz, namespace: shop}\n\
    spec: {clusterIP: 10.96.0.30, ports: [{name: http, port: 8000}]}\n";

/// What is looked at in an answer.
enum Wanted {
    Status(u16),
    /// The workload sees this header, or does not.
    Seen(&'static str, Option<String>),
}

use Wanted::{Seen, Status};

/// A field, a rule of tokens, what is sent, and what comes of it.
struct Cell {
    field: &'static str,
    world: String,
    ask: Ask,
    wanted: Wanted,
}

fn with(token: &Token, name: &str, prefix: &str) -> Ask {
    Ask { headers: vec![(name.to_owned(), format!("{prefix}{}", token.sign()))], ..Ask::default() }
}

fn bearer(token: Token) -> Ask {
    Ask { token: Some(token), ..Ask::default() }
}

fn claims(claims: Value) -> Ask {
    bearer(Token::of(claims))
}

/// The cells, in pairs: what a field takes or does, and what it does not.
fn cells() -> Vec<Cell> {
    let good = || Token::of(json!({}));
    let required = |more: &str| format!("{}{REQUIRED}", authentication(more));
    let bare = |more: &str| format!("{}{REQUIRED}", rules(&format!("  - issuer: iss\n    jwks: '{}'\n{more}", keys())));
    let fetched = |more: &str| format!("{SERVICE}{}{REQUIRED}", rules(&format!("  - issuer: iss\n    {more}\n")));
    let uri = |path: &str| format!("http://authz.shop.svc.cluster.local:8000{path}");
    let query = |name: &str| Ask { path: Some(format!("/?{name}={}", good().sign())), ..Ask::default() };
    let payload = good().sign().split('.').nth(1).map(str::to_owned);
    let other_key = || bearer(Token { secret: b"another".to_vec(), ..good() });
    let header = "    fromHeaders: [{name: x-token, prefix: 'Token '}]\n";
    let claim = "    outputClaimToHeaders: [{header: x-team, claim: realm.team}]\n";
    let team = |team: &str| claims(json!({ "realm": { "team": team } }));
    let late = |timeout: &str| fetched(&format!("jwksUri: '{}'\n    timeout: {timeout}", uri("/slow")));
    let roles = |more: &str| format!("{}{WRITERS}", authentication(more));
    let cell = |field, world, ask, wanted| Cell { field, world, ask, wanted };
    vec![
        cell("issuer", required(""), bearer(good()), Status(200)),
        cell("issuer", required(""), claims(json!({ "iss": "other" })), Status(401)),
        cell("jwks", required(""), bearer(good()), Status(200)),
        cell("jwks", required(""), other_key(), Status(401)),
        cell("jwksUri", fetched(&format!("jwksUri: '{}'", uri("/keys"))), bearer(good()), Status(200)),
        cell("jwksUri", fetched(&format!("jwksUri: '{}'", uri("/keys"))), other_key(), Status(401)),
        cell("jwksUri", fetched(&format!("jwksUri: '{}'", uri("/nothing"))), bearer(good()), Status(401)),
        cell("jwks_uri", fetched(&format!("jwks_uri: '{}'", uri("/keys"))), bearer(good()), Status(200)),
        cell("jwks_uri", fetched(&format!("jwks_uri: '{}'", uri("/nothing"))), bearer(good()), Status(401)),
        cell("timeout", late("10s"), bearer(good()), Status(200)),
        cell("timeout", late("0.3s"), bearer(good()), Status(401)),
        cell("audiences[]", required("    audiences: [web, shop]\n"), claims(json!({ "aud": "shop" })), Status(200)),
        cell("audiences[]", required("    audiences: [web, shop]\n"), claims(json!({ "aud": "other" })), Status(403)),
        cell("audiences[]", required("    audiences: [web, shop]\n"), bearer(good()), Status(403)),
        cell("fromHeaders[].name", required(header), with(&good(), "x-token", "Token "), Status(200)),
        cell("fromHeaders[].name", required(header), bearer(good()), Status(403)),
        cell("fromHeaders[].prefix", required(header), with(&good(), "X-Token", "Token "), Status(200)),
        cell("fromHeaders[].prefix", required(header), with(&good(), "x-token", "Other "), Status(403)),
        cell("fromParams[]", required("    fromParams: [access]\n"), query("access"), Status(200)),
        cell("fromParams[]", required("    fromParams: [access]\n"), query("other"), Status(403)),
        cell(
            "fromCookies[]",
            required("    fromCookies: [session]\n"),
            with(&good(), "cookie", "session="),
            Status(200),
        ),
        cell("fromCookies[]", required("    fromCookies: [session]\n"), with(&good(), "cookie", "other="), Status(403)),
        cell(
            "forwardOriginalToken",
            required(""),
            bearer(good()),
            Seen("authorization", Some(format!("Bearer {}", good().sign()))),
        ),
        cell("forwardOriginalToken", bare(""), bearer(good()), Seen("authorization", None)),
        cell(
            "outputPayloadToHeader",
            bare("    outputPayloadToHeader: x-payload\n"),
            bearer(good()),
            Seen("x-payload", payload),
        ),
        cell("outputPayloadToHeader", bare(""), bearer(good()), Seen("x-payload", None)),
        cell("outputClaimToHeaders[].claim", bare(claim), team("blue"), Seen("x-team", Some("blue".into()))),
        cell("outputClaimToHeaders[].claim", bare(claim), bearer(good()), Seen("x-team", None)),
        cell("outputClaimToHeaders[].header", bare(claim), team("blue"), Seen("x-team", Some("blue".into()))),
        cell("outputClaimToHeaders[].header", bare(claim), team("blue"), Seen("x-sub", None)),
        cell(
            "spaceDelimitedClaims[]",
            roles("    spaceDelimitedClaims: [roles]\n"),
            claims(json!({ "roles": "read write" })),
            Status(200),
        ),
        cell("spaceDelimitedClaims[]", roles(""), claims(json!({ "roles": "read write" })), Status(403)),
    ]
}

/// The fields of the schema that have cells.
pub(super) fn fields() -> Vec<String> {
    cells().iter().map(|cell| format!("jwtRules[].{}", cell.field)).collect()
}

/// Serves keys: `/keys` has them, `/slow` after a while. Returns the port.
fn keys_at(listener: TcpListener) -> u16 {
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || {
                while let Some(told) = read(&stream) {
                    let (status, body) = match told.line.split(' ').nth(1) {
                        Some("/keys") => ("200 OK", keys()),
                        Some("/slow") => {
                            thread::sleep(Duration::from_secs(2));
                            ("200 OK", keys())
                        }
                        _ => ("404 Not Found", String::new()),
                    };
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n", body.len());
                    if (&stream).write_all(format!("{head}{body}").as_bytes()).is_err() {
                        break;
                    }
                }
            });
        }
    });
    port
}

#[test]
fn each_field_of_a_rule_for_tokens_does_what_it_says() {
    let (cells, beside) = (cells(), [(8000, keys_at(TcpListener::bind("127.0.0.1:0").expect("a port")))]);
    let worlds: Vec<String> = cells.iter().map(|cell| cell.world.clone()).collect();
    // So that keys that are fetched can be had without a control plane.
    let switches = [("PILOT_JWT_ENABLE_REMOTE_JWKS", "envoy")];
    for gateway in [false, true] {
        let rig =
            Rig::of(&Setup { worlds: &worlds, beside: &beside, switches: &switches, gateway, ..Setup::default() });
        let mut wrong = Vec::new();
        for (world, cell) in cells.iter().enumerate() {
            let Answer { status, seen, .. } = rig.ask(world, &cell.ask);
            let good = match &cell.wanted {
                Status(wanted) => status == *wanted,
                Seen(name, wanted) => status == 200 && seen.get(*name) == wanted.as_ref(),
            };
            if !good {
                wrong.push(format!("{} ({world}): {status}, {seen:?}", cell.field));
            }
        }
        assert!(wrong.is_empty(), "at a gateway: {gateway}\n{}", wrong.join("\n"));
    }
}

#[test]
fn tokens_that_are_no_good_are_refused() {
    let dead = "  - issuer: dead\n    jwksUri: 'http://127.0.0.1:9/keys'\n  - issuer: broken\n    jwks: nonsense\n";
    let audience = "    audiences: [shop]\n";
    let worlds = [authentication(dead), authentication(audience)];
    let rig = Rig::new(&worlds, &[], None);
    let good = || Token::of(json!({}));
    assert_eq!(rig.ask(0, &bearer(good())).status, 200, "dead issuers harm nobody else");
    assert_eq!(rig.ask(0, &Ask::default()).status, 200, "no token is no mistake");
    let signed_by_the_public_key = Token { secret: keys().into_bytes(), ..good() };
    let bad = [
        ("another key", Token { secret: b"another".to_vec(), ..good() }),
        ("the set of keys as the secret", signed_by_the_public_key),
        ("no algorithm", Token { header: json!({"alg": "none"}), secret: Vec::new(), ..good() }),
        ("no algorithm in other letters", Token { header: json!({"alg": "nOnE"}), secret: Vec::new(), ..good() }),
        ("no algorithm and a signature", Token { header: json!({"alg": "none"}), ..good() }),
        ("no signature", Token { secret: Vec::new(), ..good() }),
        ("another algorithm", Token { header: json!({"alg": "HS384", "kid": "k"}), ..good() }),
        ("an algorithm of public keys", Token { header: json!({"alg": "RS256", "kid": "k"}), ..good() }),
        ("a key that is not there", Token { header: json!({"alg": "HS256", "kid": "other"}), ..good() }),
        ("a key of its own", Token { header: json!({"alg": "HS256", "kid": "x", "jwk": {"kty": "oct"}}), ..good() }),
        ("expired", Token::of(json!({"exp": 1_000}))),
        ("not yet", Token::of(json!({"nbf": 3_900_000_000_u64}))),
        ("an unknown issuer", Token::of(json!({"iss": "unknown"}))),
        ("an issuer in other letters", Token::of(json!({"iss": "ISS"}))),
        ("no issuer", Token::of(json!({"iss": ""}))),
        ("an issuer whose keys cannot be fetched", Token::of(json!({"iss": "dead"}))),
        ("an issuer whose keys are broken", Token::of(json!({"iss": "broken"}))),
    ];
    for (what, token) in bad {
        assert_eq!(rig.ask(0, &bearer(token)).status, 401, "{what}");
    }
    for garbage in ["a.b.c", "..", "a", "e30.e30.", "é.é.é"] {
        let ask = Ask { headers: vec![("authorization".into(), format!("Bearer {garbage}"))], ..Ask::default() };
        let status = rig.ask(0, &ask).status;
        assert!(matches!(status, 400 | 401), "{garbage}: {status}");
    }
    let huge = claims(json!({"more": "x".repeat(200_000)}));
    assert!(matches!(rig.ask(0, &huge).status, 0 | 400..=499), "what is too large is not looked at");
    for aud in [json!("other"), json!("shop2"), json!("SHOP"), json!(["web", "other"]), json!([])] {
        assert_eq!(rig.ask(1, &claims(json!({ "aud": aud }))).status, 403, "for {aud}");
    }
    assert_eq!(rig.ask(1, &claims(json!({"aud": ["web", "shop"]}))).status, 200);
}

#[test]
fn a_bad_token_is_not_helped_by_a_good_one() {
    let both = authentication("    fromHeaders: [{name: x-one}, {name: x-two}]\n    fromParams: [access]\n");
    let rig = Rig::new(&[format!("{both}{REQUIRED}")], &[], None);
    let (good, bad) = (Token::of(json!({})).sign(), Token::of(json!({"exp": 1_000})).sign());
    let ask = |one: &str, two: &str, query: &str| Ask {
        headers: [("x-one", one), ("x-two", two)]
            .into_iter()
            .filter(|(_, token)| !token.is_empty())
            .map(|(name, token)| (name.to_owned(), token.to_owned()))
            .collect(),
        path: (!query.is_empty()).then(|| format!("/?access={query}")),
        ..Ask::default()
    };
    assert_eq!(rig.ask(0, &ask(&good, "", "")).status, 200);
    assert_eq!(rig.ask(0, &ask(&good, &good, &good)).status, 200);
    for asked in [ask(&bad, "", ""), ask(&bad, &good, ""), ask(&good, &bad, ""), ask(&good, "", &bad)] {
        assert_eq!(rig.ask(0, &asked).status, 401, "{asked:?}");
    }
}
