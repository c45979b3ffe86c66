//! What callers may and may not prove.

use super::*;
use crate::parse;
use serde_json::json;
use std::sync::Arc;

const NOW: u64 = 1_800_000_000;

fn mint() -> Mint {
    Mint::open(&Mint::generate().expect("a key")).expect("the key")
}

fn authenticator(issuers: Vec<Arc<Issuer>>) -> Authenticator {
    Authenticator::new(Box::new(|| vec!["cluster.local".into(), "old.example".into()]), issuers)
}

fn trusting(mint: &Mint) -> Authenticator {
    authenticator(vec![Arc::new(mint.issuer(&["istio-ca".into()]))])
}

fn by_token(authenticator: &Authenticator, token: &str, now: u64) -> Result<String, Refusal> {
    let evidence = Evidence { certificate: None, token: Some(token) };
    authenticator.authenticate(evidence, now).map(|caller| caller.identity.to_string())
}

#[test]
fn a_token_proves_its_service_account() {
    let mint = mint();
    let token = mint.token(("shop", "cart"), "istio-ca", NOW, 60).expect("a token");
    assert_eq!(by_token(&trusting(&mint), &token, NOW), Ok("spiffe://cluster.local/ns/shop/sa/cart".into()));
}

#[test]
fn a_token_proves_nothing_to_those_it_is_not_for_or_at_another_time() {
    let mint = mint();
    let all = trusting(&mint);
    let other = mint.token(("shop", "cart"), "vault", NOW, 60).expect("a token");
    assert_eq!(by_token(&all, &other, NOW), Err(Refusal::Audience));
    let token = mint.token(("shop", "cart"), "istio-ca", NOW, 60).expect("a token");
    assert_eq!(by_token(&all, &token, NOW + 200), Err(Refusal::Expired));
    assert_eq!(by_token(&all, &token, NOW - 200), Err(Refusal::TooEarly));
}

#[test]
fn a_token_of_another_key_proves_nothing_although_it_says_the_same() {
    let (own, foreign) = (mint(), mint());
    let token = foreign.token(("shop", "cart"), "istio-ca", NOW, 60).expect("a token");
    assert_eq!(by_token(&trusting(&own), &token, NOW), Err(Refusal::Key), "it names a key that is not known");
    assert_eq!(by_token(&authenticator(Vec::new()), &token, NOW), Err(Refusal::Issuer));
}

#[test]
fn whatever_is_changed_in_a_token_takes_its_proof() {
    let mint = mint();
    let all = trusting(&mint);
    let token = mint.token(("shop", "cart"), "istio-ca", NOW, 60).expect("a token");
    let parts: Vec<&str> = token.split('.').collect();
    let encode = |value: serde_json::Value| {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        URL_SAFE_NO_PAD.encode(value.to_string())
    };
    let claims = |sub: &str| encode(json!({"iss": "mainsheet", "sub": sub, "aud": "istio-ca", "exp": NOW + 60}));
    let admin = claims("system:serviceaccount:istio-system:istiod");
    let unsigned = encode(json!({"alg": "none"}));
    let shared = encode(json!({"alg": "HS256"}));
    let critical = encode(json!({"alg": "ES256", "crit": ["x"]}));
    for (forged, why) in [
        (format!("{}.{admin}.{}", parts[0], parts[2]), Refusal::Signature),
        (format!("{unsigned}.{admin}."), Refusal::Key),
        (format!("{unsigned}.{admin}.{}", parts[2]), Refusal::Key),
        (format!("{shared}.{admin}.{}", parts[2]), Refusal::Key),
        (format!("{critical}.{}.{}", parts[1], parts[2]), Refusal::Malformed),
        (format!("{}.{}", parts[0], parts[1]), Refusal::Malformed),
        (format!("{token}.x"), Refusal::Malformed),
        (format!("{}.{}.", parts[0], parts[1]), Refusal::Signature),
        (format!("{token}="), Refusal::Malformed),
        ("..".into(), Refusal::Malformed),
        (String::new(), Refusal::Malformed),
        ("a".repeat(20_000), Refusal::Malformed),
    ] {
        assert_eq!(by_token(&all, &forged, NOW), Err(why), "{forged}");
    }
}

#[test]
fn only_service_accounts_have_identities() {
    let mint = mint();
    let all = trusting(&mint);
    for (namespace, account) in [("", "a"), ("shop", ""), ("shop", "a:b"), ("shop", "a/b"), ("../x", "a"), ("a b", "a")]
    {
        let token = mint.token((namespace, account), "istio-ca", NOW, 60).expect("a token");
        assert_eq!(by_token(&all, &token, NOW), Err(Refusal::Subject), "{namespace} {account}");
    }
}

#[test]
fn keys_of_an_issuer_are_read_and_others_left_out() {
    let set = json!({"keys": [
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC", "crv": "P-256", "kid": "a", "x": "AQ", "y": "Ag"},
    ]});
    assert!(Keys::parse(&set.to_string()).is_ok());
    assert!(Keys::parse(r#"{"keys": [{"kty": "oct", "k": "c2VjcmV0"}]}"#).is_err());
    assert!(Keys::parse("[]").is_err());
}

#[test]
fn a_caller_is_only_the_node_that_it_proved_to_be() {
    let caller = |identity: &str| Caller {
        identity: identity.parse().expect("an identity"),
        proof: Proof::Token,
        expires: None,
        pod: None,
        subject: None,
    };
    let node = |account: &str| {
        let id = "sidecar~10.0.0.1~cart-1.shop~shop.svc.cluster.local";
        let metadata = json!({"NAMESPACE": "shop", "SERVICE_ACCOUNT": account});
        parse::node(&json!({"id": id, "metadata": metadata})).expect("a node")
    };
    assert!(caller("spiffe://td/ns/shop/sa/cart").may_be(&node("cart")));
    assert!(caller("spiffe://td/ns/shop/sa/cart").may_be(&node("")));
    assert!(!caller("spiffe://td/ns/shop/sa/other").may_be(&node("cart")));
    assert!(!caller("spiffe://td/ns/web/sa/cart").may_be(&node("cart")));
    assert!(!caller("spiffe://td/ns/web/sa/cart").may_be(&node("")));
}

#[test]
fn nothing_shown_proves_nothing_and_all_of_it_is_counted() {
    let all = authenticator(Vec::new());
    assert_eq!(all.authenticate(Evidence::default(), NOW), Err(Refusal::Nothing));
    assert_eq!(by_token(&all, "x", NOW), Err(Refusal::Malformed));
    let counted: Vec<_> = all.metrics().refusals().filter(|(_, n)| *n > 0).collect();
    assert_eq!(counted, [(Refusal::Nothing, 1), (Refusal::Malformed, 1)]);
}
