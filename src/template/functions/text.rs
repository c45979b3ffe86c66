//! Functions of texts.

use super::{Made, Table, Value, at, count, int, list, print, string};
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
    ("dir", |a| Ok(dir(&string(a, 0)?).into())),
    ("osDir", |a| Ok(dir(&string(a, 0)?).into())),
    ("ext", |a| Ok(ext(&string(a, 0)?).into())),
    ("osExt", |a| Ok(ext(&string(a, 0)?).into())),
    ("clean", |a| Ok(clean(&string(a, 0)?).into())),
    ("osClean", |a| Ok(clean(&string(a, 0)?).into())),
    ("isAbs", |a| Ok(string(a, 0)?.starts_with('/').into())),
    ("osIsAbs", |a| Ok(string(a, 0)?.starts_with('/').into())),
    ("abbrevboth", |a| {
        let (from, most, text) = (count(a, 0)?, count(a, 1)?, string(a, 2)?);
        Ok(if most < 4 || from > 0 && most < 7 { text } else { shortened(&text, from, most) }.into())
    }),
    ("wrap", |a| wrapped(&string(a, 1)?, count(a, 0)?, "\n", false)),
    ("wrapWith", |a| wrapped(&string(a, 2)?, count(a, 0)?, &string(a, 1)?, true)),
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

/// A text of at most so many characters, with dots where the rest was, before or after.
fn shortened(text: &str, from: usize, most: usize) -> String {
    let all: Vec<char> = text.chars().collect();
    let part = |from: usize, to: usize| all[from..to].iter().collect::<String>();
    let kept = most - 3;
    if all.len() <= most {
        return text.to_owned();
    }
    let from = from.min(all.len() - kept);
    match from {
        0..=4 => format!("{}...", part(0, kept)),
        // There is no room for dots on either side.
        _ if most < 7 => text.to_owned(),
        _ if from + kept < all.len() => format!("...{}", shortened(&part(from, all.len()), 0, kept)),
        _ => format!("...{}", part(all.len() - kept, all.len())),
    }
}

/// A text in lines of at most so many characters, broken where spaces are; longer words only where they may be.
fn wrapped(text: &str, most: usize, line: &str, words_too: bool) -> Made {
    let all: Vec<char> = text.chars().collect();
    let most = most.clamp(1, LONGEST);
    if (all.len() / most + 1).saturating_mul(line.len().max(1)) > LONGEST {
        return Err("makes a text that is too long".into());
    }
    let line = if line.is_empty() { "\n" } else { line };
    let (mut out, mut from) = (String::new(), 0);
    while all.len() - from > most {
        if all[from] == ' ' {
            from += 1;
            continue;
        }
        let space = (from..=from + most).rev().find(|i| all[*i] == ' ');
        let (end, next) = match space {
            Some(at) => (at, at + 1),
            None if words_too => (from + most, from + most),
            None => match (from + most..all.len()).find(|i| all[*i] == ' ') {
                Some(at) => (at, at + 1),
                None => break,
            },
        };
        out.extend(&all[from..end]);
        out.push_str(line);
        from = next;
    }
    out.extend(&all[from..]);
    Ok(out.into())
}

/// A path without what says nothing: `//`, `.`, and `..` after a name.
fn clean(path: &str) -> String {
    let absolute = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match (part, parts.last()) {
            ("" | ".", _) => {}
            ("..", Some(last)) if *last != ".." => drop(parts.pop()),
            ("..", None) if absolute => {}
            (part, _) => parts.push(part),
        }
    }
    match (absolute, parts.join("/")) {
        (true, rest) => format!("/{rest}"),
        (false, rest) if rest.is_empty() => ".".to_owned(),
        (false, rest) => rest,
    }
}

/// All of a path but its last part.
fn dir(path: &str) -> String {
    clean(path.rfind('/').map_or("", |i| &path[..=i]))
}

/// What the last part of a path ends with, from its last point.
fn ext(path: &str) -> &str {
    let name = path.rsplit('/').next().unwrap_or_default();
    name.rfind('.').map_or("", |i| &name[i..])
}

/// The last part of a path.
fn base(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        _ if path.is_empty() => ".",
        Some("") | None => "/",
        Some(name) => name,
    }
}
