//! Functions of numbers.

use super::{Made, Table, Value, at, int, string};

/// The longest list of numbers.
const LONGEST: usize = 100_000;

pub(super) const TABLE: Table = &[
    ("int", |a| Ok(int(a, 0)?.into())),
    ("int64", |a| Ok(int(a, 0)?.into())),
    ("atoi", |a| Ok(int(a, 0)?.into())),
    ("float64", |a| Ok(Value::Float(at(a, 0)?.number()))),
    ("add", |a| Ok(a.iter().fold(0_i64, |sum, v| sum.wrapping_add(v.int())).into())),
    ("add1", |a| Ok(int(a, 0)?.wrapping_add(1).into())),
    ("sub", |a| Ok(int(a, 0)?.wrapping_sub(int(a, 1)?).into())),
    ("mul", |a| Ok(a.iter().fold(1_i64, |product, v| product.wrapping_mul(v.int())).into())),
    ("div", |a| int(a, 0)?.checked_div(int(a, 1)?).map(Value::Int).ok_or_else(|| "division by zero".into())),
    ("mod", |a| int(a, 0)?.checked_rem(int(a, 1)?).map(Value::Int).ok_or_else(|| "division by zero".into())),
    ("max", |a| Ok(a.iter().map(Value::int).max().unwrap_or(0).into())),
    ("biggest", |a| Ok(a.iter().map(Value::int).max().unwrap_or(0).into())),
    ("min", |a| Ok(a.iter().map(Value::int).min().unwrap_or(0).into())),
    ("addf", |a| Ok(Value::Float(a.iter().map(Value::number).sum()))),
    ("mulf", |a| Ok(Value::Float(a.iter().map(Value::number).product()))),
    ("subf", |a| Ok(Value::Float(a.iter().skip(1).fold(at(a, 0)?.number(), |d, v| d - v.number())))),
    ("divf", |a| Ok(Value::Float(a.iter().skip(1).fold(at(a, 0)?.number(), |q, v| q / v.number())))),
    ("ceil", |a| Ok(Value::Float(at(a, 0)?.number().ceil()))),
    ("floor", |a| Ok(Value::Float(at(a, 0)?.number().floor()))),
    ("round", |a| {
        let by = 10_f64.powi(i32::try_from(int(a, 1)?).unwrap_or(0).clamp(-300, 300));
        Ok(Value::Float((at(a, 0)?.number() * by).round() / by))
    }),
    ("add1f", |a| Ok(Value::Float(at(a, 0)?.number() + 1.0))),
    ("maxf", |a| Ok(Value::Float(a.iter().skip(1).fold(at(a, 0)?.number(), |most, v| most.max(v.number()))))),
    ("minf", |a| Ok(Value::Float(a.iter().skip(1).fold(at(a, 0)?.number(), |least, v| least.min(v.number()))))),
    // The number that digits up to seven stand for.
    ("toDecimal", |a| Ok(i64::from_str_radix(&string(a, 0)?, 8).unwrap_or(0).into())),
    ("duration", |a| Ok(period(int(a, 0)?).into())),
    ("durationRound", |a| Ok(rounded(at(a, 0)?).into())),
    ("until", |a| steps(0, int(a, 0)?, if int(a, 0)? < 0 { -1 } else { 1 })),
    ("untilStep", |a| steps(int(a, 0)?, int(a, 1)?, int(a, 2)?)),
    ("seq", |a| {
        let (from, step, to) = match a.len() {
            1 => (1, if int(a, 0)? < 1 { -1 } else { 1 }, int(a, 0)?),
            2 => (int(a, 0)?, if int(a, 0)? > int(a, 1)? { -1 } else { 1 }, int(a, 1)?),
            3 => (int(a, 0)?, int(a, 1)?, int(a, 2)?),
            n => return Err(format!("takes one to three numbers, not {n}")),
        };
        let all = match steps(from, to.saturating_add(step.signum()), step)? {
            Value::List(all) => all,
            _ => return Ok("".into()),
        };
        let texts: Vec<String> = all.iter().map(|n| n.int().to_string()).collect();
        Ok(texts.join(" ").into())
    }),
];

/// So many seconds, as Go writes them: `1h1m1s`.
fn period(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let all = seconds.unsigned_abs();
    match (all / 3600, all / 60 % 60, all % 60) {
        (0, 0, s) => format!("{sign}{s}s"),
        (0, m, s) => format!("{sign}{m}m{s}s"),
        (h, m, s) => format!("{sign}{h}h{m}m{s}s"),
    }
}

/// A time in the largest unit of which there is more than one: nanoseconds, or a text as `2h10m`.
fn rounded(value: &Value) -> String {
    const SECOND: f64 = 1e9;
    const UNITS: [(&str, f64); 6] =
        [("y", 31_536_000.0), ("mo", 2_592_000.0), ("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0)];
    let nanoseconds = match value {
        Value::Text(text) => nanoseconds(text).unwrap_or(0.0),
        Value::Int(n) => *n as f64,
        _ => 0.0,
    }
    .abs();
    let found = UNITS.iter().find(|(_, seconds)| nanoseconds > seconds * SECOND);
    found.map_or("0s".to_owned(), |(unit, seconds)| format!("{}{unit}", (nanoseconds / (seconds * SECOND)).floor()))
}

/// The nanoseconds of a text as Go writes times: numbers, each with its unit.
fn nanoseconds(text: &str) -> Option<f64> {
    const UNITS: [(&str, f64); 8] = [
        ("ns", 1.0),
        ("us", 1e3),
        ("\u{b5}s", 1e3),
        ("\u{3bc}s", 1e3),
        ("ms", 1e6),
        ("s", 1e9),
        ("m", 6e10),
        ("h", 3.6e12),
    ];
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    let mut sum = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        sum += number.parse::<f64>().ok()? * UNITS.iter().find(|(name, _)| *name == unit)?.1;
        rest = after;
    }
    Some(sum)
}

fn steps(from: i64, to: i64, step: i64) -> Made {
    let mut all = Vec::new();
    let mut n = from;
    while step != 0 && (step > 0 && n < to || step < 0 && n > to) {
        all.push(Value::Int(n));
        if all.len() > LONGEST {
            return Err(format!("makes more than {LONGEST} numbers"));
        }
        n = n.saturating_add(step);
    }
    Ok(Value::list(all))
}
