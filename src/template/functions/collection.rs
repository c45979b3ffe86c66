//! Functions of lists and maps.

use super::{Made, Table, Value, at, data, int, list, print, string};
use crate::template::Kind;
use std::collections::BTreeMap;

/// How many entries a list may have.
const LONGEST: usize = 100_000;

pub(super) const TABLE: Table = &[
    ("list", |a| Ok(Value::list(a.to_vec()))),
    ("tuple", |a| Ok(Value::list(a.to_vec()))),
    ("first", |a| Ok(list(a, 0)?.first().cloned().unwrap_or_default())),
    ("last", |a| Ok(list(a, 0)?.last().cloned().unwrap_or_default())),
    ("rest", |a| Ok(Value::list(list(a, 0)?.into_iter().skip(1).collect()))),
    ("initial", |a| {
        let mut all = list(a, 0)?;
        all.pop();
        Ok(Value::list(all))
    }),
    ("append", |a| appended(a)),
    ("push", |a| appended(a)),
    ("prepend", |a| {
        let mut all = list(a, 0)?;
        all.insert(0, at(a, 1)?.clone());
        bounded(all)
    }),
    ("concat", |a| {
        let mut all = Vec::new();
        for i in 0..a.len() {
            all.extend(list(a, i)?);
        }
        bounded(all)
    }),
    ("reverse", |a| Ok(Value::list(list(a, 0)?.into_iter().rev().collect()))),
    ("uniq", |a| {
        let mut all: Vec<Value> = Vec::new();
        for value in list(a, 0)? {
            if !all.iter().any(|v| v.same(&value)) {
                all.push(value);
            }
        }
        Ok(Value::list(all))
    }),
    ("compact", |a| Ok(Value::list(list(a, 0)?.into_iter().filter(Value::truth).collect()))),
    ("without", |a| {
        let all = list(a, 0)?.into_iter().filter(|v| !a[1..].iter().any(|other| v.same(other)));
        Ok(Value::list(all.collect()))
    }),
    ("has", |a| {
        let one = at(a, 0)?;
        Ok(list(a, 1)?.iter().any(|v| v.same(one)).into())
    }),
    ("chunk", |a| {
        let size = usize::try_from(int(a, 0)?).unwrap_or(0).max(1);
        Ok(Value::list(list(a, 1)?.chunks(size).map(|part| Value::list(part.to_vec())).collect()))
    }),
    ("dict", |a| {
        let pairs = a.chunks(2).map(|pair| (print::text(&pair[0]), pair.get(1).cloned().unwrap_or_else(|| "".into())));
        Ok(Value::map(Kind::Map, pairs))
    }),
    ("get", |a| Ok(entries(a, 0)?.get(&string(a, 1)?).cloned().unwrap_or_else(|| "".into()))),
    ("hasKey", |a| Ok(entries(a, 0)?.contains_key(&string(a, 1)?).into())),
    ("set", |a| match at(a, 0)? {
        Value::Map(_, held) => {
            held.borrow_mut().insert(string(a, 1)?, at(a, 2)?.clone());
            Ok(a[0].clone())
        }
        other => Err(format!("a {} is no map", other.kind())),
    }),
    ("unset", |a| match at(a, 0)? {
        Value::Map(_, held) => {
            held.borrow_mut().remove(&string(a, 1)?);
            Ok(a[0].clone())
        }
        other => Err(format!("a {} is no map", other.kind())),
    }),
    ("keys", |a| {
        let mut all = Vec::new();
        for i in 0..a.len() {
            all.extend(entries(a, i)?.into_keys().map(Value::from));
        }
        Ok(Value::list(all))
    }),
    ("values", |a| Ok(Value::list(entries(a, 0)?.into_values().collect()))),
    ("pluck", |a| {
        let key = string(a, 0)?;
        let mut found = Vec::new();
        for i in 1..a.len() {
            found.extend(entries(a, i)?.get(&key).cloned());
        }
        Ok(Value::list(found))
    }),
    ("pick", |a| {
        let mut all = entries(a, 0)?;
        all.retain(|key, _| a[1..].iter().any(|k| print::text(k) == *key));
        Ok(Value::map(Kind::Map, all))
    }),
    ("omit", |a| {
        let mut all = entries(a, 0)?;
        all.retain(|key, _| !a[1..].iter().any(|k| print::text(k) == *key));
        Ok(Value::map(Kind::Map, all))
    }),
    ("merge", |a| merge(a, false)),
    ("mergeOverwrite", |a| merge(a, true)),
    ("dig", |a| {
        let (keys, [default, map]) = a.split_last_chunk().ok_or("takes keys, a default and a map")?;
        let mut value = map.clone();
        for key in keys {
            value = match &value {
                Value::Map(_, all) => match all.borrow().get(&print::text(key)) {
                    Some(next) => next.clone(),
                    None => return Ok(default.clone()),
                },
                _ => return Ok(default.clone()),
            };
        }
        Ok(value)
    }),
];

fn appended(arguments: &[Value]) -> Made {
    let mut all = list(arguments, 0)?;
    all.push(at(arguments, 1)?.clone());
    bounded(all)
}

fn bounded(all: Vec<Value>) -> Made {
    match all.len() > LONGEST {
        true => Err(format!("makes a list of more than {LONGEST} entries")),
        false => Ok(Value::list(all)),
    }
}

fn entries(arguments: &[Value], index: usize) -> Result<BTreeMap<String, Value>, String> {
    match at(arguments, index)? {
        Value::Map(_, all) => Ok(all.borrow().clone()),
        Value::Nil => Ok(BTreeMap::new()),
        other => Err(format!("a {} is no map", other.kind())),
    }
}

/// Maps into the first of them.
fn merge(arguments: &[Value], overwrite: bool) -> Made {
    for i in 1..arguments.len() {
        if let Value::Map(_, into) = &arguments[0] {
            // A map may be merged into itself.
            let from = entries(arguments, i)?;
            for (key, value) in from {
                let held = into.borrow().get(&key).cloned().unwrap_or_default();
                let made = match (&held, &value) {
                    (Value::Map(..), Value::Map(..)) => merge(&[data::copied(&held), data::copied(&value)], overwrite)?,
                    (held, value) if held.truth() && !(overwrite && value.truth()) => held.clone(),
                    (_, value) => value.clone(),
                };
                into.borrow_mut().insert(key, made);
            }
        } else {
            return Err(format!("a {} is no map", at(arguments, 0)?.kind()));
        }
    }
    Ok(at(arguments, 0)?.clone())
}
