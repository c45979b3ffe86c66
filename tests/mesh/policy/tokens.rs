//! Each field of a RequestAuthentication, and tokens that are no good.

use super::{
    rig::{Ask, Rig},
    token::{Token, authentication},
};
use serde_json::json;

/// Whoever has no token is denied.
const REQUIRED: &str = "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\n\
    metadata: {name: required, namespace: shop}\nspec: {rules: [{from: [{source: {requestPrincipals: ['*']}}]}]}\n";

fn with(token: &Token, name: &str, prefix: &str) -> Ask {
    Ask { headers: vec![(name.to_owned(), format!("{prefix}{}", token.sign()))], ..Ask::default() }
}

fn bearer(token: Token) -> Ask {
    Ask { token: Some(token), ..Ask::default() }
}

#[test]
fn tokens_are_taken_from_where_the_rule_says_and_told_of_as_it_says() {
    let rules = [
        "",
        "    fromHeaders: [{name: x-token, prefix: 'Token '}]\n",
        "    fromParams: [access]\n",
        "    fromCookies: [session]\n",
        "    audiences: [shop]\n",
        "    outputPayloadToHeader: x-payload\n    outputClaimToHeaders: [{header: x-sub, claim: sub}]\n",
    ];
    let worlds: Vec<String> = rules.iter().map(|rule| format!("{}{REQUIRED}", authentication(rule))).collect();
    let rig = Rig::new(&worlds, &[], None);
    let good = Token::of(json!({}));
    let status = |world, ask: &Ask| rig.ask(world, ask).status;
    assert_eq!(status(0, &bearer(good.clone())), 200);
    assert_eq!(status(0, &Ask::default()), 403, "no token is no mistake, but not enough");
    assert_eq!(status(1, &with(&good, "x-token", "Token ")), 200);
    assert_eq!(status(1, &bearer(good.clone())), 403, "nothing is looked for elsewhere");
    let query = |name: &str| Ask { path: Some(format!("/?{name}={}", good.sign())), ..Ask::default() };
    assert_eq!((status(2, &query("access")), status(2, &query("other"))), (200, 403));
    assert_eq!(
        (status(3, &with(&good, "cookie", "session=")), status(3, &with(&good, "cookie", "other="))),
        (200, 403)
    );
    let audience = |aud| bearer(Token::of(json!({ "aud": aud })));
    assert_eq!((status(4, &audience("shop")), status(4, &audience("web"))), (200, 403));
    let told = rig.ask(5, &bearer(good.clone()));
    assert_eq!(told.seen.get("x-sub").map(String::as_str), Some("alice"));
    assert!(told.seen.contains_key("x-payload") && told.seen.contains_key("authorization"), "{told:?}");
}

#[test]
fn tokens_that_are_no_good_are_refused() {
    let dead = "  - issuer: dead\n    jwksUri: 'http://127.0.0.1:9/keys'\n  - issuer: broken\n    jwks: nonsense\n";
    let rig = Rig::new(&[authentication(dead)], &[], None);
    let good = || Token::of(json!({}));
    let claims = |claims| Token::of(claims);
    assert_eq!(rig.ask(0, &bearer(good())).status, 200, "dead issuers harm nobody else");
    assert_eq!(rig.ask(0, &Ask::default()).status, 200, "no token is no mistake");
    let bad = [
        ("another key", Token { secret: b"another".to_vec(), ..good() }),
        ("no algorithm", Token { header: json!({"alg": "none"}), secret: Vec::new(), ..good() }),
        ("another algorithm", Token { header: json!({"alg": "HS384", "kid": "k"}), ..good() }),
        ("an algorithm of public keys", Token { header: json!({"alg": "RS256", "kid": "k"}), ..good() }),
        ("a key that is not there", Token { header: json!({"alg": "HS256", "kid": "other"}), ..good() }),
        ("expired", claims(json!({"exp": 1_000}))),
        ("not yet", claims(json!({"nbf": 3_900_000_000_u64}))),
        ("an unknown issuer", claims(json!({"iss": "unknown"}))),
        ("an issuer whose keys cannot be fetched", claims(json!({"iss": "dead"}))),
        ("an issuer whose keys are broken", claims(json!({"iss": "broken"}))),
    ];
    for (what, token) in bad {
        assert_eq!(rig.ask(0, &bearer(token)).status, 401, "{what}");
    }
    let garbage = Ask { headers: vec![("authorization".into(), "Bearer a.b.c".into())], ..Ask::default() };
    assert_eq!(rig.ask(0, &garbage).status, 401);
    let huge = bearer(claims(json!({"more": "x".repeat(200_000)})));
    assert!(matches!(rig.ask(0, &huge).status, 0 | 400..=499), "what is too large is not looked at");
}
