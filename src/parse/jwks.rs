//! Sets of public keys (RFC 7517) as Envoy takes them: one key that it can use is enough, and without any it refuses the
//! listener that has the set.

use super::yaml;
use aws_lc_rs::signature::{self, ParsedPublicKey};
use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde_json::Value;

/// How Envoy reads numbers: padded or not, but not padded too much, and with nothing in the bits that are left over.
const NUMBER: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The largest set that is served, in bytes.
pub const MAX_BYTES: usize = 256 << 10;

/// Checks a set of keys.
///
/// # Errors
///
/// When it is no set, or Envoy can use none of its keys; the text says why.
pub fn jwks(text: &str) -> Result<Value, String> {
    if text.len() > MAX_BYTES {
        return Err(format!("has {} bytes, {MAX_BYTES} are allowed", text.len()));
    }
    let set: Value = serde_json::from_str(text).map_err(|e| format!("is not JSON: {e}"))?;
    // What stands twice is read in one way here and in another there.
    yaml::value(text).map_err(|e| format!("is not JSON: {e}"))?;
    let Some(keys) = set["keys"].as_array() else { return Err("has no list `keys`".into()) };
    let reasons: Vec<String> = keys.iter().filter_map(|key| usable(key).err()).collect();
    match (reasons.len() == keys.len(), reasons.first()) {
        (true, Some(why)) => Err(format!("has no key that can be used: {why}")),
        (true, None) => Err("has no key".into()),
        (false, _) => Ok(set),
    }
}

/// Whether one of the keys is not public.
pub(super) fn has_private_key(set: &Value) -> bool {
    let keys = set["keys"].as_array().into_iter().flatten();
    keys.into_iter().any(|key| key["kty"] == "oct" || !key["d"].is_null())
}

fn usable(key: &Value) -> Result<(), String> {
    let text = |field: &str| key[field].as_str().unwrap_or_default();
    let bytes = |field: &str| match NUMBER.decode(text(field)) {
        Ok(bytes) if !bytes.is_empty() => Ok(bytes),
        _ => Err(format!("its `{field}` is missing or not base64url")),
    };
    let algorithm = |all: &[&str]| match &key["alg"] {
        Value::Null => Ok(()),
        alg if all.iter().any(|known| alg == known) => Ok(()),
        alg => Err(format!("the algorithm {alg} is not one for {}", text("kty"))),
    };
    match text("kty") {
        "RSA" => {
            algorithm(&["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"])?;
            let (n, e) = (bytes("n")?, bytes("e")?);
            let is_odd = n.last().is_some_and(|last| last % 2 == 1);
            match n.len() >= 128 && n[0] != 0 && is_odd && [&[3][..], &[1, 0, 1]].contains(&&e[..]) {
                true => Ok(()),
                false => {
                    Err("its numbers are not those of an RSA key of 1024 bits or more, whose `e` is 3 or 65537".into())
                }
            }
        }
        "EC" => {
            let (kind, size, own): (&'static signature::EcdsaVerificationAlgorithm, usize, &str) = match text("crv") {
                "P-256" => (&signature::ECDSA_P256_SHA256_FIXED, 32, "ES256"),
                "P-384" => (&signature::ECDSA_P384_SHA384_FIXED, 48, "ES384"),
                "P-521" => (&signature::ECDSA_P521_SHA512_FIXED, 66, "ES512"),
                other => return Err(format!("the curve `{other}` is not P-256, P-384 or P-521")),
            };
            algorithm(&[own])?;
            let (x, y) = (bytes("x")?, bytes("y")?);
            let point = [&[4], &x[..], &y[..]].concat();
            match x.len() == size && y.len() == size && ParsedPublicKey::new(kind, point).is_ok() {
                true => Ok(()),
                false => Err("it is no point of its curve".into()),
            }
        }
        "oct" => {
            algorithm(&["HS256", "HS384", "HS512"])?;
            bytes("k").map(drop)
        }
        "OKP" => {
            algorithm(&["EdDSA"])?;
            match (text("crv"), bytes("x")?.len()) {
                ("Ed25519", 32) => Ok(()),
                _ => Err("of this kind only Ed25519 with EdDSA is taken".into()),
            }
        }
        other => Err(format!("the kind `{other}` is not RSA, EC, OKP or oct")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn ec() -> Value {
        json!({"kty": "EC", "crv": "P-256", "x": "6QgQWifEf4NCe9BYrbbc4XgkKgH_OHNvHaVFySyyWLg",
            "y": "tlsqpH_euJr99P8HY3eFMUmFjh8L_UyAzdUGUpnFByQ"})
    }

    fn rsa() -> Value {
        json!({"kty": "RSA", "e": "AQAB", "n": "qfsu3gvuZ8ZPgXBYWTmOAkOBSBvHXbYFz2yBcBhdRKFSbkgLZRrvvkGsDaUPKFJo1wvL-JrNAN2Y1DcBFcMP8YgEQjpsQ0ZJ8vh7z6vM1Yzv2Q9JcDBk2wDd3vY0h5iMt7QOYgpAtW6u_HSl9jqg0jG3rBq-r9uwV0RvDkT9eRc"})
    }

    fn okp() -> Value {
        json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"})
    }

    fn set(keys: &[Value]) -> String {
        json!({ "keys": keys }).to_string()
    }

    fn with(mut key: Value, field: &str, value: Value) -> Value {
        key[field] = value;
        key
    }

    #[test]
    fn one_key_that_can_be_used_is_enough() {
        let strange = json!({"kty": "strange"});
        for good in [
            set(&[ec()]),
            set(&[rsa()]),
            set(&[okp()]),
            set(&[with(okp(), "alg", json!("EdDSA"))]),
            set(&[strange.clone(), ec()]),
            set(&[json!({"kty": "oct", "k": "YQ=="})]),
        ] {
            assert!(jwks(&good).is_ok(), "{good}");
        }
        for bad in [
            set(&[]),
            set(&[strange]),
            set(&[json!(5)]),
            set(&[with(ec(), "y", ec()["x"].clone())]),
            set(&[with(ec(), "alg", json!("RS256"))]),
            set(&[with(ec(), "alg", json!("ES384"))]),
            set(&[with(ec(), "crv", json!("secp256k1"))]),
            set(&[with(rsa(), "alg", json!("HS256"))]),
            set(&[with(okp(), "alg", json!("ES256"))]),
            set(&[with(okp(), "crv", json!("X25519"))]),
            set(&[with(rsa(), "n", json!("AQAB"))]),
            set(&[with(rsa(), "e", json!("AA"))]),
            set(&[json!({"kty": "oct", "k": ""})]),
            set(&[json!({"kty": "oct", "k": "YQ", "alg": "HS256none"})]),
            set(&[json!({"kty": "oct", "k": "YQ", "alg": ""})]),
            set(&[json!({"kty": "oct", "k": "YQ====", "alg": "HS256"})]),
            set(&[with(rsa(), "e", json!("AQABAQ"))]),
            set(&[with(rsa(), "e", json!("EQ"))]),
            set(&[with(okp(), "x", json!("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo"))]),
            ec().to_string(),
            "nonsense".into(),
            format!("{} x", set(&[ec()])),
            "{\"keys\": [], \"keys\": []}".into(),
        ] {
            assert!(jwks(&bad).is_err(), "{bad}");
        }
        assert!(jwks(&format!("{}{}", set(&[ec()]), " ".repeat(MAX_BYTES))).is_err());
    }
}
