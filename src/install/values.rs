//! Values for charts: files, and single ones as `a.b=c`, in the language of Helm's `--set`.

use serde_json::{Map, Value, json};
use std::iter::Peekable;

/// What a user gives, in the order in which it counts.
#[derive(Clone, Default, Debug)]
pub struct Values {
    /// Whole files, the last of which counts most.
    pub files: Vec<Value>,
    /// Single ones, `a.b=c,d[0]=e`, which go before files.
    pub set: Vec<String>,
    /// The same, each of which is a text whatever it looks like.
    pub set_string: Vec<String>,
}

/// All that is given, as one.
///
/// # Errors
///
/// When a single value cannot be understood.
pub fn merge(values: &Values) -> Result<Value, String> {
    let mut all = json!({});
    for file in &values.files {
        put(&mut all, file, false);
    }
    let single = values.set.iter().map(|t| (t, false)).chain(values.set_string.iter().map(|t| (t, true)));
    for (text, is_text) in single {
        for one in split(text, ',') {
            set(&mut all, &one, is_text).map_err(|why| format!("`{text}`: {why}"))?;
        }
    }
    Ok(all)
}

/// The revision that values name; none for the default one.
pub fn revision(values: &Value) -> &str {
    values["revision"].as_str().unwrap_or_default()
}

/// Values over those of a chart: maps are joined, anything else is replaced, and null takes away.
pub(super) fn overlay(into: &mut Value, from: &Value) {
    put(into, from, true);
}

fn put(into: &mut Value, from: &Value, null_removes: bool) {
    let (Value::Object(held), Value::Object(from)) = (&mut *into, from) else {
        *into = from.clone();
        return;
    };
    for (key, value) in from {
        match held.get_mut(key) {
            _ if null_removes && value.is_null() => drop(held.remove(key)),
            Some(one) if one.is_object() && value.is_object() => put(one, value, null_removes),
            _ => drop(held.insert(key.clone(), value.clone())),
        }
    }
}

/// A text cut at a sign that no backslash is before and no braces are around.
fn split(text: &str, at: char) -> Vec<String> {
    let (mut parts, mut depth) = (vec![String::new()], 0);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let last = parts.last_mut().expect("there is always one");
        match c {
            '\\' => {
                last.push(c);
                last.extend(chars.next());
            }
            c if c == at && depth == 0 => parts.push(String::new()),
            c => {
                depth += i32::from(matches!(c, '{' | '[')) - i32::from(matches!(c, '}' | ']'));
                last.push(c);
            }
        }
    }
    parts.retain(|part| !part.is_empty());
    parts
}

/// A text without the backslashes that guard signs.
fn plain(text: &str) -> String {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.extend(if c == '\\' { chars.next() } else { Some(c) });
    }
    out
}

/// One step of a path: a key or a place in a list.
enum Step {
    Key(String),
    Place(usize),
}

/// Sets `a.b[0].c=value`.
fn set(all: &mut Value, text: &str, is_text: bool) -> Result<(), String> {
    let at =
        text.char_indices().scan(' ', |before, (i, c)| Some((i, c == '=' && std::mem::replace(before, c) != '\\')));
    let at = at.filter(|(_, is)| *is).map(|(i, _)| i).next();
    let (path, value) = at.map(|i| (&text[..i], &text[i + 1..])).ok_or("has no `=`; write name=value")?;
    let value = match value.strip_prefix('{').and_then(|v| v.strip_suffix('}')) {
        Some(list) => split(list, ',').iter().map(|one| typed(&plain(one), is_text)).collect(),
        None => typed(&plain(value), is_text),
    };
    let mut steps = Vec::new();
    for part in split(path, '.') {
        let (key, places) = part.split_once('[').map_or((&*part, None), |(key, places)| (key, Some(places)));
        if !key.is_empty() {
            steps.push(Step::Key(plain(key)));
        }
        for place in places.into_iter().flat_map(|p| p.split('[')) {
            let number = place.strip_suffix(']').and_then(|n| n.parse().ok()).filter(|n| *n < 65_536);
            steps.push(Step::Place(number.ok_or_else(|| format!("[{place} is no place in a list; write [0]"))?));
        }
    }
    if steps.is_empty() {
        return Err("names nothing before the `=`".into());
    }
    put_at(all, steps.into_iter().peekable(), value)
}

fn put_at(into: &mut Value, mut steps: Peekable<impl Iterator<Item = Step>>, value: Value) -> Result<(), String> {
    match steps.next() {
        None => *into = value,
        Some(Step::Key(key)) => {
            if !into.is_object() {
                *into = Value::Object(Map::new());
            }
            return put_at(&mut into[key.as_str()], steps, value);
        }
        Some(Step::Place(n)) => {
            if !into.is_array() {
                *into = json!([]);
            }
            let all = into.as_array_mut().ok_or("is no list")?;
            if all.len() <= n {
                all.resize(n + 1, Value::Null);
            }
            return put_at(&mut all[n], steps, value);
        }
    }
    Ok(())
}

/// What a text looks like: a truth, nothing, a whole number; else it is a text.
fn typed(text: &str, is_text: bool) -> Value {
    match text {
        _ if is_text => text.into(),
        "true" => true.into(),
        "false" => false.into(),
        "null" => Value::Null,
        "0" => 0.into(),
        // With a zero before it, it is more likely a mode or a code.
        _ if text.starts_with('0') => text.into(),
        _ => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
    }
}
