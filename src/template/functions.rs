//! The functions that templates may call: Go's own, those of Istio's injection or of Helm, and those of sprig that look at nothing
//! but their arguments (none of the time of day, chance, keys and certificates, names of hosts, and the environment).

mod chart;
mod collection;
mod data;
mod encoded;
mod injection;
mod numeric;
mod pattern;
mod text;
mod version;

use super::{Dialect, Value, print};
use std::cmp::Ordering;

pub(super) use injection::proxy_defaults;

/// What a function makes.
type Made = Result<Value, String>;
/// A function.
type Function = fn(&[Value]) -> Made;
/// Functions by their names.
type Table = &'static [(&'static str, Function)];

/// Those of sprig, which go before Go's own.
const TABLES: &[Table] = &[
    collection::TABLE,
    data::TABLE,
    encoded::TABLE,
    numeric::TABLE,
    pattern::TABLE,
    text::TABLE,
    version::TABLE,
    TABLE,
];

/// Functions of sprig that have a second name, `must…`, under which an error ends the template. Here it always does.
const MUST: [&str; 26] = [
    "append",
    "chunk",
    "compact",
    "deepCopy",
    "first",
    "fromJson",
    "has",
    "initial",
    "last",
    "merge",
    "mergeOverwrite",
    "prepend",
    "push",
    "regexFind",
    "regexFindAll",
    "regexReplaceAll",
    "regexReplaceAllLiteral",
    "regexSplit",
    "rest",
    "reverse",
    "slice",
    "toJson",
    "toPrettyJson",
    "toRawJson",
    "uniq",
    "without",
];

/// Those of injection and of Helm go before those of sprig.
fn tables(dialect: Dialect) -> impl Iterator<Item = Table> {
    let own = match dialect {
        Dialect::Injection => injection::TABLE,
        Dialect::Chart => chart::TABLE,
    };
    std::iter::once(own).chain(TABLES.iter().copied())
}

fn find(dialect: Dialect, name: &str) -> Option<Function> {
    let found = |name: &str| tables(dialect).flatten().find(|(n, _)| *n == name).map(|(_, function)| *function);
    found(name).or_else(|| {
        let plain = name.strip_prefix("must")?;
        found(MUST.iter().find(|known| known.get(1..) == plain.get(1..) && known.eq_ignore_ascii_case(plain))?)
    })
}

/// Whether there is such a function.
pub(super) fn is_known(dialect: Dialect, name: &str) -> bool {
    let runs = matches!(name, "and" | "or") || dialect == Dialect::Chart && matches!(name, "include" | "tpl");
    runs || find(dialect, name).is_some()
}

/// Calls a function.
pub(super) fn call(dialect: Dialect, name: &str, arguments: &[Value]) -> Made {
    find(dialect, name).ok_or("is not known")?(arguments)
}

const TABLE: Table = &[
    ("not", |a| Ok((!at(a, 0)?.truth()).into())),
    ("eq", |a| {
        let first = at(a, 0)?;
        at(a, 1)?;
        Ok(a[1..].iter().any(|other| first.same(other)).into())
    }),
    ("ne", |a| Ok((!at(a, 0)?.same(at(a, 1)?)).into())),
    ("lt", |a| compare(a, |o| o == Ordering::Less)),
    ("le", |a| compare(a, |o| o != Ordering::Greater)),
    ("gt", |a| compare(a, |o| o == Ordering::Greater)),
    ("ge", |a| compare(a, |o| o != Ordering::Less)),
    ("len", |a| {
        Ok(Value::Int(match at(a, 0)? {
            Value::Text(s) => s.len(),
            Value::List(all) => all.len(),
            Value::Map(_, all) => all.borrow().len(),
            Value::Nil => 0,
            other => return Err(format!("a {} has no length", other.kind())),
        } as i64))
    }),
    ("index", |a| a.iter().skip(1).try_fold(at(a, 0)?.clone(), |value, key| entry(&value, key))),
    ("slice", slice),
    ("print", |a| Ok(print::joined(a).into())),
    ("println", |a| Ok(print::line(a).into())),
    ("printf", |a| Ok(print::formatted(&string(a, 0)?, &a[1..]).into())),
    ("html", |a| Ok(escaped(&print::joined(a)).into())),
    ("js", |a| {
        let text = print::quoted(&print::joined(a));
        Ok(text[1..text.len() - 1].replace('\'', "\\'").replace('<', "\\u003C").replace('>', "\\u003E").into())
    }),
    ("urlquery", |a| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.' | b'~');
        let one = |b: u8| match b {
            b' ' => "+".to_owned(),
            b if plain(b) => char::from(b).to_string(),
            b => format!("%{b:02X}"),
        };
        Ok(print::joined(a).bytes().map(one).collect::<String>().into())
    }),
];

/// An argument that must be there.
fn at(arguments: &[Value], index: usize) -> Result<&Value, String> {
    arguments.get(index).ok_or_else(|| format!("{} arguments are too few", arguments.len()))
}

/// An argument as a text. What is none is printed.
fn string(arguments: &[Value], index: usize) -> Result<String, String> {
    Ok(print::text(at(arguments, index)?))
}

/// An argument as a whole number.
fn int(arguments: &[Value], index: usize) -> Result<i64, String> {
    Ok(at(arguments, index)?.int())
}

/// An argument as a number of characters or entries.
fn count(arguments: &[Value], index: usize) -> Result<usize, String> {
    Ok(usize::try_from(int(arguments, index)?.max(0)).unwrap_or(usize::MAX))
}

/// An argument as a list; nothing is an empty one.
fn list(arguments: &[Value], index: usize) -> Result<Vec<Value>, String> {
    match at(arguments, index)? {
        Value::List(all) => Ok(all.to_vec()),
        Value::Nil => Ok(Vec::new()),
        other => Err(format!("a {} is no list", other.kind())),
    }
}

fn compare(arguments: &[Value], is: fn(Ordering) -> bool) -> Made {
    let (a, b) = (at(arguments, 0)?, at(arguments, 1)?);
    let order = a.order(b).ok_or_else(|| format!("a {} and a {} do not compare", a.kind(), b.kind()))?;
    Ok(is(order).into())
}

fn entry(value: &Value, key: &Value) -> Made {
    match (value, key) {
        (Value::Nil, _) => Ok(Value::Nil),
        (Value::Map(_, all), Value::Text(key)) => Ok(all.borrow().get(key).cloned().unwrap_or_default()),
        (Value::List(all), Value::Int(n)) => {
            let found = usize::try_from(*n).ok().and_then(|n| all.get(n));
            found.cloned().ok_or_else(|| format!("there is no entry {n} in a list of {}", all.len()))
        }
        (Value::Text(s), Value::Int(n)) => {
            let found = usize::try_from(*n).ok().and_then(|n| s.as_bytes().get(n));
            found.map(|b| i64::from(*b).into()).ok_or_else(|| format!("there is no byte {n} in a text of {}", s.len()))
        }
        _ => Err(format!("a {} has no entry {}", value.kind(), print::text(key))),
    }
}

fn slice(arguments: &[Value]) -> Made {
    let bound = |i: usize, length: usize| match arguments.get(i) {
        None => Ok(if i == 1 { 0 } else { length }),
        Some(value) => usize::try_from(value.int()).ok().filter(|n| *n <= length).ok_or("a bound is out of range"),
    };
    match at(arguments, 0)? {
        Value::Text(s) => {
            let (from, to) = (bound(1, s.len())?, bound(2, s.len())?);
            Ok(s.get(from..to).ok_or("a bound is out of range")?.into())
        }
        Value::List(all) => {
            let (from, to) = (bound(1, all.len())?, bound(2, all.len())?);
            Ok(Value::list(all.get(from..to).ok_or("a bound is out of range")?.to_vec()))
        }
        other => Err(format!("a {} has no parts", other.kind())),
    }
}

fn escaped(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            c => out.push(c),
        }
    }
    out
}

/// The names of all functions that templates of injection may call.
#[cfg(test)]
pub(super) fn names() -> Vec<&'static str> {
    tables(Dialect::Injection).flatten().map(|(name, _)| *name).collect()
}
