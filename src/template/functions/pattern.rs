//! Functions of regular expressions, whose language is that of Go but for what neither of the two libraries is used for.

use super::{Made, Table, Value, int, string};
use regex::{NoExpand, Regex, RegexBuilder};

/// How large an expression may become, in bytes.
const LARGEST: usize = 1 << 20;
/// How long a text may become by replacing.
const LONGEST: usize = 1 << 20;

pub(super) const TABLE: Table = &[
    // Here alone a broken expression is no error.
    ("regexMatch", |a| Ok(pattern(a).is_ok_and(|p| string(a, 1).is_ok_and(|text| p.is_match(&text))).into())),
    ("mustRegexMatch", |a| Ok(pattern(a)?.is_match(&string(a, 1)?).into())),
    ("regexFind", |a| Ok(pattern(a)?.find(&string(a, 1)?).map_or("", |found| found.as_str()).into())),
    ("regexFindAll", |a| {
        let most = usize::try_from(int(a, 2)?).unwrap_or(usize::MAX);
        Ok(Value::list(pattern(a)?.find_iter(&string(a, 1)?).take(most).map(|found| found.as_str().into()).collect()))
    }),
    ("regexReplaceAll", |a| replaced(a, false)),
    ("regexReplaceAllLiteral", |a| replaced(a, true)),
    ("regexSplit", split),
    ("regexQuoteMeta", |a| {
        let special = |c: char| "\\.+*?()|[]{}^$".contains(c);
        let escaped = |c: char| if special(c) { vec!['\\', c] } else { vec![c] };
        Ok(string(a, 0)?.chars().flat_map(escaped).collect::<String>().into())
    }),
];

fn pattern(arguments: &[Value]) -> Result<Regex, String> {
    let text = string(arguments, 0)?;
    RegexBuilder::new(&text).size_limit(LARGEST).build().map_err(|e| format!("the expression {text:?}: {e}"))
}

fn replaced(arguments: &[Value], literally: bool) -> Made {
    let (pattern, text, by) = (pattern(arguments)?, string(arguments, 1)?, string(arguments, 2)?);
    // Each of what is put in is at most the text again, for each dollar.
    let found = pattern.find_iter(&text).count();
    let dollars = if literally { 0 } else { by.matches('$').count() };
    let most = text.len().saturating_add(found.saturating_mul(by.len()));
    if most.saturating_add(text.len().saturating_mul(dollars)) > LONGEST {
        return Err("makes a text that is too long".into());
    }
    let made = if literally { pattern.replace_all(&text, NoExpand(&by)) } else { pattern.replace_all(&text, &*by) };
    Ok(made.into_owned().into())
}

/// The parts between what is found, as Go has them: nothing that is found at the beginning without a character splits.
fn split(arguments: &[Value]) -> Made {
    let (pattern, text, most) = (pattern(arguments)?, string(arguments, 1)?, int(arguments, 2)?);
    let (mut parts, mut from) = (Vec::new(), 0);
    if most == 0 {
        return Ok(Value::list(parts));
    }
    if text.is_empty() && !pattern.as_str().is_empty() {
        return Ok(Value::list(vec!["".into()]));
    }
    let mut end = 0;
    for found in pattern.find_iter(&text) {
        if most > 0 && parts.len() as i64 == most - 1 {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(text[from..end].into());
        }
        from = found.end();
    }
    if end != text.len() {
        parts.push(text[from..].into());
    }
    Ok(Value::list(parts))
}
