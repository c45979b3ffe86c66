//! Functions of numbers.

use super::{Made, Table, Value, at, int};

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
