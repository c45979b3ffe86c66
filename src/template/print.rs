//! How Go prints values, plain and with verbs (`printf`).

use super::{Kind, Value};

/// A value as `{{ }}` prints it. Nothing prints as nothing.
pub(super) fn text(value: &Value) -> String {
    let mut out = String::new();
    plain(value, &mut out);
    out
}

/// Values as `print` joins them: with a space between two of which neither is a text.
pub(super) fn joined(values: &[Value]) -> String {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        let texts = |v: &Value| matches!(v, Value::Text(_));
        if i > 0 && !texts(value) && !texts(&values[i - 1]) {
            out.push(' ');
        }
        plain(value, &mut out);
    }
    out
}

/// Values as `println` joins them.
pub(super) fn line(values: &[Value]) -> String {
    let all: Vec<String> = values.iter().map(text).collect();
    format!("{}\n", all.join(" "))
}

fn plain(value: &Value, out: &mut String) {
    match value {
        Value::Nil | Value::Native(_) => {}
        Value::Bool(b) => out.push_str(if *b { "true" } else { "false" }),
        Value::Int(n) => out.push_str(&n.to_string()),
        Value::Float(n) => out.push_str(&float(*n)),
        Value::Text(s) => out.push_str(s),
        Value::List(all) => {
            out.push('[');
            for (i, value) in all.iter().enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                plain(value, out);
            }
            out.push(']');
        }
        Value::Map(kind, all) => {
            out.push_str(if *kind == Kind::Map { "map[" } else { "{" });
            for (i, (key, value)) in all.borrow().iter().enumerate() {
                out.push_str(if i > 0 { " " } else { "" });
                out.push_str(key);
                out.push(':');
                plain(value, out);
            }
            out.push(if *kind == Kind::Map { ']' } else { '}' });
        }
    }
}

/// A number as `%v` has it: with an exponent where it is very large or small.
fn float(n: f64) -> String {
    let size = n.abs();
    if n.is_nan() {
        "NaN".into()
    } else if n.is_infinite() {
        if n > 0.0 { "+Inf".into() } else { "-Inf".into() }
    } else if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{n:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |digits| ('-', digits));
        format!("{mantissa}e{sign}{digits:0>2}")
    } else {
        n.to_string()
    }
}

/// What one verb asks for.
#[derive(Default)]
struct Verb {
    left: bool,
    plus: bool,
    sharp: bool,
    zeros: bool,
    width: usize,
    precision: Option<usize>,
}

/// The longest that one verb may make a text.
const WIDEST: usize = 1 << 16;

/// `printf`: what is wrong is printed as Go prints it.
pub(super) fn formatted(format: &str, values: &[Value]) -> String {
    let mut out = String::new();
    let mut values = values.iter();
    let mut chars = format.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        let mut verb = Verb::default();
        while let Some(flag) = chars.next_if(|c| matches!(c, '-' | '+' | '#' | '0' | ' ')) {
            match flag {
                '-' => verb.left = true,
                '+' => verb.plus = true,
                '#' => verb.sharp = true,
                '0' => verb.zeros = true,
                _ => {}
            }
        }
        let mut number = || {
            let mut n = None;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                n = Some((n.unwrap_or(0) * 10 + (digit as usize - '0' as usize)).min(WIDEST));
            }
            n
        };
        verb.width = number().unwrap_or(0);
        if chars.next_if_eq(&'.').is_some() {
            let mut n = 0;
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                n = (n * 10 + (digit as usize - '0' as usize)).min(WIDEST);
            }
            verb.precision = Some(n);
        }
        match chars.next() {
            None => out.push_str("%!(NOVERB)"),
            Some('%') => out.push('%'),
            Some(letter) => match values.next() {
                None => out.push_str(&format!("%!{letter}(MISSING)")),
                Some(value) => pad(&mut out, &one(letter, value, &verb), &verb),
            },
        }
    }
    let rest: Vec<String> = values.map(|v| format!("{}={}", v.kind(), text(v))).collect();
    if !rest.is_empty() {
        out.push_str(&format!("%!(EXTRA {})", rest.join(", ")));
    }
    out
}

fn pad(out: &mut String, text: &str, verb: &Verb) {
    let missing = verb.width.saturating_sub(text.chars().count());
    let numeric = text.trim_start_matches(['-', '+']).starts_with(|c: char| c.is_ascii_digit());
    if verb.left {
        out.push_str(text);
        out.extend(std::iter::repeat_n(' ', missing));
    } else if verb.zeros && numeric {
        let (sign, digits) = text.split_at(text.len() - text.trim_start_matches(['-', '+']).len());
        out.push_str(sign);
        out.extend(std::iter::repeat_n('0', missing));
        out.push_str(digits);
    } else {
        out.extend(std::iter::repeat_n(' ', missing));
        out.push_str(text);
    }
}

fn one(letter: char, value: &Value, verb: &Verb) -> String {
    let wrong = || format!("%!{letter}({}={})", value.kind(), text(value));
    let signed = |s: String| if verb.plus && !s.starts_with('-') { format!("+{s}") } else { s };
    match (letter, value) {
        ('v', _) => text(value),
        ('s', Value::Text(s)) => match verb.precision {
            Some(most) => s.chars().take(most).collect(),
            None => s.clone(),
        },
        ('s', Value::List(_) | Value::Map(..)) => text(value),
        ('q', Value::Text(s)) => quoted(s),
        ('t', Value::Bool(b)) => b.to_string(),
        ('T', _) => value.kind().to_owned(),
        ('d', Value::Int(n)) => signed(n.to_string()),
        ('x', Value::Int(n)) => format!("{}{n:x}", if verb.sharp { "0x" } else { "" }),
        ('X', Value::Int(n)) => format!("{n:X}"),
        ('o', Value::Int(n)) => format!("{n:o}"),
        ('b', Value::Int(n)) => format!("{n:b}"),
        ('x', Value::Text(s)) => s.bytes().map(|b| format!("{b:02x}")).collect(),
        ('c', Value::Int(n)) => u32::try_from(*n).ok().and_then(char::from_u32).map_or_else(wrong, String::from),
        ('f' | 'F', Value::Float(n)) => signed(format!("{n:.*}", verb.precision.unwrap_or(6))),
        ('g', Value::Float(n)) => signed(float(*n)),
        ('e', Value::Float(n)) => signed(format!("{n:.*e}", verb.precision.unwrap_or(6))),
        _ => wrong(),
    }
}

/// A text in double quotes, as Go and JSON both read it.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() && u32::from(c) < 0x100 => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
