//! Functions between values and the texts that stand for them.

use super::{Made, Table, Value, at, print, string};
use crate::template::Kind;
use base64::{Engine as _, engine::general_purpose::STANDARD};

pub(super) const TABLE: Table = &[
    ("toJson", |a| Ok(at(a, 0)?.to_json().to_string().into())),
    ("toRawJson", |a| Ok(at(a, 0)?.to_json().to_string().into())),
    ("toPrettyJson", |a| Ok(format!("{:#}", at(a, 0)?.to_json()).into())),
    ("fromJson", |a| from_json(&string(a, 0)?)),
    ("fromYaml", |a| {
        let value: serde_json::Value = serde_norway::from_str(&string(a, 0)?).map_err(|e| e.to_string())?;
        Ok(Value::of(&value, Kind::Map))
    }),
    ("b64enc", |a| Ok(STANDARD.encode(string(a, 0)?).into())),
    ("b64dec", |a| {
        let bytes = STANDARD.decode(string(a, 0)?).map_err(|e| e.to_string())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned().into())
    }),
    ("toString", |a| Ok(string(a, 0)?.into())),
    ("toStrings", |a| Ok(Value::list(super::list(a, 0)?.iter().map(|v| print::text(v).into()).collect()))),
    ("kindOf", |a| Ok(at(a, 0)?.kind().into())),
    ("kindIs", |a| Ok((string(a, 0)? == at(a, 1)?.kind()).into())),
    ("typeOf", |a| Ok(type_of(at(a, 0)?).into())),
    ("typeIs", |a| Ok((string(a, 0)? == type_of(at(a, 1)?)).into())),
    ("typeIsLike", |a| {
        let (wanted, is) = (string(a, 0)?, type_of(at(a, 1)?));
        Ok((wanted.strip_prefix('*').unwrap_or(&wanted) == is).into())
    }),
    ("default", |a| Ok(if a.len() > 1 && at(a, 1)?.truth() { a[1].clone() } else { at(a, 0)?.clone() })),
    ("empty", |a| Ok((!at(a, 0)?.truth()).into())),
    ("coalesce", |a| Ok(a.iter().find(|v| v.truth()).cloned().unwrap_or_default())),
    ("all", |a| Ok(a.iter().all(Value::truth).into())),
    ("any", |a| Ok(a.iter().any(Value::truth).into())),
    ("ternary", |a| Ok(if at(a, 2)?.truth() { a[0].clone() } else { at(a, 1)?.clone() })),
    ("fail", |a| Err(string(a, 0)?)),
    ("required", |a| match at(a, 1)? {
        Value::Nil => Err(string(a, 0)?),
        Value::Text(s) if s.is_empty() => Err(string(a, 0)?),
        there => Ok(there.clone()),
    }),
    ("deepCopy", |a| Ok(copied(at(a, 0)?))),
    ("deepEqual", |a| Ok((at(a, 0)?.to_json() == at(a, 1)?.to_json()).into())),
];

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Map(Kind::Map, _) => "map[string]interface {}",
        Value::List(_) => "[]interface {}",
        Value::Nil => "<nil>",
        other => other.kind(),
    }
}

pub(super) fn from_json(text: &str) -> Made {
    let value: serde_json::Value = serde_json::from_str(text).map_err(|e| format!("it is not JSON: {e}"))?;
    Ok(Value::of(&value, Kind::Map))
}

/// A value as YAML, with the newline that Go's ends with.
pub(super) fn yaml(value: &Value) -> Made {
    let json = value.to_json();
    match &json {
        serde_json::Value::Object(all) if all.is_empty() => Ok("{}\n".into()),
        serde_json::Value::Array(all) if all.is_empty() => Ok("[]\n".into()),
        _ => Ok(serde_norway::to_string(&json).map_err(|e| e.to_string())?.into()),
    }
}

/// A value that shares nothing with the one it is a copy of.
pub(super) fn copied(value: &Value) -> Value {
    match value {
        Value::List(all) => Value::list(all.iter().map(copied).collect()),
        Value::Map(kind, all) => Value::map(*kind, all.borrow().iter().map(|(k, v)| (k.clone(), copied(v)))),
        other => other.clone(),
    }
}
