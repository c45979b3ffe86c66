//! Functions of texts.

use super::{Table, Value, at, count, int, list, print, string};
use crate::template::Kind;

/// How long a text may become by repeating.
const LONGEST: usize = 1 << 20;

pub(super) const TABLE: Table = &[
    ("quote", |a| Ok(each(a, print::quoted).into())),
    ("squote", |a| Ok(each(a, |text| format!("'{text}'")).into())),
    ("cat", |a| Ok(each(a, str::to_owned).into())),
    ("nindent", |a| {
        let space = " ".repeat(count(a, 0)?.min(1000));
        Ok(format!("\n{space}{}", string(a, 1)?.replace('\n', &format!("\n{space}"))).into())
    }),
    ("trim", |a| Ok(string(a, 0)?.trim().into())),
    ("trimAll", |a| Ok(string(a, 1)?.trim_matches(set(a)?.as_slice()).into())),
    ("trimall", |a| Ok(string(a, 1)?.trim_matches(set(a)?.as_slice()).into())),
    ("trimPrefix", |a| {
        let (affix, text) = (string(a, 0)?, string(a, 1)?);
        Ok(text.strip_prefix(&affix).unwrap_or(&text).into())
    }),
    ("trimSuffix", |a| {
        let (affix, text) = (string(a, 0)?, string(a, 1)?);
        Ok(text.strip_suffix(&affix).unwrap_or(&text).into())
    }),
    ("upper", |a| Ok(string(a, 0)?.to_uppercase().into())),
    ("lower", |a| Ok(string(a, 0)?.to_lowercase().into())),
    ("title", |a| Ok(words(&string(a, 0)?, |c| c.to_uppercase().collect()).into())),
    ("untitle", |a| Ok(words(&string(a, 0)?, |c| c.to_lowercase().collect()).into())),
    ("swapcase", |a| {
        let swap = |c: char| -> String {
            if c.is_uppercase() { c.to_lowercase().collect() } else { c.to_uppercase().collect() }
        };
        Ok(string(a, 0)?.chars().map(swap).collect::<String>().into())
    }),
    ("snakecase", |a| Ok(cased(&string(a, 0)?, '_').into())),
    ("kebabcase", |a| Ok(cased(&string(a, 0)?, '-').into())),
    ("camelcase", |a| {
        let text = string(a, 0)?;
        let parts = text.split(|c: char| !c.is_alphanumeric());
        Ok(parts.map(|word| words(word, |c| c.to_uppercase().collect())).collect::<String>().into())
    }),
    ("initials", |a| Ok(string(a, 0)?.split_whitespace().filter_map(|w| w.chars().next()).collect::<String>().into())),
    ("nospace", |a| Ok(string(a, 0)?.chars().filter(|c| !c.is_whitespace()).collect::<String>().into())),
    ("repeat", |a| {
        let (times, text) = (count(a, 0)?, string(a, 1)?);
        match times.saturating_mul(text.len()) > LONGEST {
            true => Err("makes a text that is too long".into()),
            false => Ok(text.repeat(times).into()),
        }
    }),
    ("substr", |a| {
        let (from, to, text) = (int(a, 0)?, int(a, 1)?, string(a, 2)?);
        let from = usize::try_from(from).unwrap_or(0).min(text.len());
        let to = usize::try_from(to).unwrap_or(text.len()).min(text.len());
        Ok(text.get(from..to).unwrap_or_default().into())
    }),
    ("trunc", |a| {
        let (most, text) = (int(a, 0)?, string(a, 1)?);
        let size = usize::try_from(most.unsigned_abs()).unwrap_or(usize::MAX);
        if size >= text.len() {
            return Ok(text.into());
        }
        let part = if most < 0 { text.get(text.len() - size..) } else { text.get(..size) };
        Ok(part.unwrap_or(&text).into())
    }),
    ("abbrev", |a| {
        let (most, text) = (count(a, 0)?, string(a, 1)?);
        match text.chars().count() > most && most > 3 {
            true => Ok(format!("{}...", text.chars().take(most - 3).collect::<String>()).into()),
            false => Ok(text.into()),
        }
    }),
    ("replace", |a| {
        let (from, to, text) = (string(a, 0)?, string(a, 1)?, string(a, 2)?);
        let found = if from.is_empty() { text.len() + 1 } else { text.matches(&from).count() };
        match text.len().saturating_add(found.saturating_mul(to.len())) > LONGEST {
            true => Err("makes a text that is too long".into()),
            false => Ok(text.replace(&from, &to).into()),
        }
    }),
    ("hasPrefix", |a| Ok(string(a, 1)?.starts_with(&string(a, 0)?).into())),
    ("hasSuffix", |a| Ok(string(a, 1)?.ends_with(&string(a, 0)?).into())),
    ("contains", |a| Ok(string(a, 1)?.contains(&string(a, 0)?).into())),
    ("split", |a| {
        let (by, text) = (string(a, 0)?, string(a, 1)?);
        let parts = text.split(by.as_str()).enumerate();
        Ok(Value::map(Kind::Map, parts.map(|(i, part)| (format!("_{i}"), part.into()))))
    }),
    ("splitn", |a| {
        let (by, most, text) = (string(a, 0)?, count(a, 1)?, string(a, 2)?);
        let parts = text.splitn(most, by.as_str()).enumerate();
        Ok(Value::map(Kind::Map, parts.map(|(i, part)| (format!("_{i}"), part.into()))))
    }),
    ("splitList", |a| {
        let (by, text) = (string(a, 0)?, string(a, 1)?);
        Ok(Value::list(text.split(by.as_str()).map(Value::from).collect()))
    }),
    ("join", |a| match at(a, 1)? {
        Value::List(all) => {
            let all: Vec<String> = all.iter().filter(|v| !matches!(v, Value::Nil)).map(print::text).collect();
            Ok(all.join(&string(a, 0)?).into())
        }
        other => Ok(print::text(other).into()),
    }),
    ("sortAlpha", |a| {
        let mut all: Vec<String> = list(a, 0)?.iter().map(print::text).collect();
        all.sort();
        Ok(Value::list(all.into_iter().map(Value::from).collect()))
    }),
    ("base", |a| Ok(base(&string(a, 0)?).into())),
    ("osBase", |a| Ok(base(&string(a, 0)?).into())),
    ("dir", |a| {
        let path = string(a, 0)?;
        let dir = path.rfind('/').map_or("", |i| &path[..i.max(1)]);
        Ok(if dir.is_empty() { "." } else { dir }.into())
    }),
    ("ext", |a| {
        let path = string(a, 0)?;
        let name = base(&path);
        Ok(name.rfind('.').map_or("", |i| &name[i..]).into())
    }),
    ("isAbs", |a| Ok(string(a, 0)?.starts_with('/').into())),
    ("plural", |a| Ok(if int(a, 2)? == 1 { a[0].clone() } else { at(a, 1)?.clone() })),
];

/// All that are there, one after the other.
fn each(values: &[Value], form: fn(&str) -> String) -> String {
    let there = values.iter().filter(|v| !matches!(v, Value::Nil));
    let all: Vec<String> = there.map(|v| form(&print::text(v))).collect();
    all.join(" ")
}

fn set(arguments: &[Value]) -> Result<Vec<char>, String> {
    Ok(string(arguments, 0)?.chars().collect())
}

/// A text with the first letter of each word changed.
fn words(text: &str, change: fn(char) -> String) -> String {
    let mut first = true;
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match first && !c.is_whitespace() {
            true => out.push_str(&change(c)),
            false => out.push(c),
        }
        first = c.is_whitespace();
    }
    out
}

/// Words that a capital, a space or a sign begins, joined by a sign.
fn cased(text: &str, sign: char) -> String {
    let mut out = String::new();
    let mut before = None;
    for c in text.chars() {
        if !c.is_alphanumeric() {
            before = None;
            if !out.is_empty() && !out.ends_with(sign) {
                out.push(sign);
            }
            continue;
        }
        if c.is_uppercase() && before.is_some_and(char::is_lowercase) {
            out.push(sign);
        }
        out.extend(c.to_lowercase());
        before = Some(c);
    }
    out.trim_end_matches(sign).to_owned()
}

/// The last part of a path.
fn base(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        _ if path.is_empty() => ".",
        Some("") | None => "/",
        Some(name) => name,
    }
}
