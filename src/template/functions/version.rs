//! Functions of versions (`1.2.3-rc.1+build`), and of what they are held to (`>=1.2.0, <2`).

use super::{Made, Table, Value, string};
use crate::template::Kind;
use std::cmp::Ordering;

pub(super) const TABLE: Table = &[
    ("semver", |a| {
        let text = string(a, 0)?;
        let version = Version::parse(&text).ok_or_else(|| format!("{text:?} is no version"))?;
        let [major, minor, patch] = version.numbers.map(|n| Value::Int(n.unwrap_or(0) as i64));
        let fields = [
            ("Major", major),
            ("Minor", minor),
            ("Patch", patch),
            ("Prerelease", version.before.clone().into()),
            ("Metadata", version.build.clone().into()),
            ("Original", text.into()),
        ];
        Ok(Value::map(Kind::Struct, fields.map(|(name, value)| (name.to_owned(), value))))
    }),
    ("semverCompare", compare),
];

/// A version; numbers may be missing at its end, or be `x` in what versions are held to.
#[derive(Clone, Debug)]
struct Version {
    numbers: [Option<u64>; 3],
    before: String,
    build: String,
}

impl Version {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().strip_prefix('v').unwrap_or(text.trim());
        let (text, build) = text.split_once('+').unwrap_or((text, ""));
        let (text, before) = text.split_once('-').unwrap_or((text, ""));
        let parts: Vec<&str> = text.split('.').collect();
        if parts.len() > 3 || text.is_empty() {
            return None;
        }
        let mut numbers = [None; 3];
        for (number, part) in numbers.iter_mut().zip(parts) {
            *number = match part {
                "x" | "X" | "*" => None,
                digits if digits.bytes().all(|b| b.is_ascii_digit()) => Some(digits.parse().ok()?),
                _ => return None,
            };
        }
        // After one that is open all are.
        let open = numbers.iter().position(Option::is_none).unwrap_or(3);
        numbers[open..].fill(None);
        Some(Self { numbers, before: before.to_owned(), build: build.to_owned() })
    }

    fn whole(&self) -> [u64; 3] {
        self.numbers.map(|n| n.unwrap_or(0))
    }

    /// How many numbers it says.
    fn said(&self) -> usize {
        self.numbers.iter().flatten().count()
    }

    /// The first version beyond those with the same numbers up to here, which is counted up.
    fn beyond(&self, place: usize) -> Self {
        let mut numbers = self.whole();
        numbers[place] = numbers[place].saturating_add(1);
        numbers[place + 1..].fill(0);
        Self { numbers: numbers.map(Some), before: String::new(), build: String::new() }
    }

    fn order(&self, other: &Self) -> Ordering {
        self.whole().cmp(&other.whole()).then_with(|| match (self.before.is_empty(), other.before.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => before(&self.before, &other.before),
        })
    }
}

/// The order of what comes before a release: number by number and word by word, numbers before words.
fn before(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match (a.parse::<u64>(), b.parse::<u64>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                (Ok(_), Err(_)) => Ordering::Less,
                (Err(_), Ok(_)) => Ordering::Greater,
                (Err(_), Err(_)) => a.cmp(b),
            },
        };
        if order.is_ne() {
            return order;
        }
    }
}

fn compare(arguments: &[Value]) -> Made {
    let (held_to, text) = (string(arguments, 0)?, string(arguments, 1)?);
    let version = Version::parse(&text).filter(|v| v.said() > 0).ok_or_else(|| format!("{text:?} is no version"))?;
    for any in held_to.split("||") {
        let all = conditions(any).ok_or_else(|| format!("{held_to:?} is nothing that versions are held to"))?;
        if all.iter().all(|(how, than)| holds(how, than, &version)) {
            return Ok(true.into());
        }
    }
    Ok(false.into())
}

/// `>=1.2 <2`, `1.2 - 1.4`, `^1.2`, with commas or spaces between.
fn conditions(text: &str) -> Option<Vec<(String, Version)>> {
    let mut all = Vec::new();
    let mut words = text.split([',', ' ']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        let end = word.find(|c: char| !"=!<>~^".contains(c)).unwrap_or(word.len());
        let (how, mut than) = word.split_at(end);
        if than.is_empty() {
            than = words.next()?;
        }
        let version = Version::parse(than)?;
        if words.peek() == Some(&"-") {
            words.next();
            all.push((">=".to_owned(), version));
            all.push(("<=".to_owned(), Version::parse(words.next()?)?));
        } else {
            all.push((how.to_owned(), version));
        }
    }
    (!all.is_empty()).then_some(all)
}

fn holds(how: &str, than: &Version, version: &Version) -> bool {
    // What comes before a release is wanted only where it is spoken of.
    if !version.before.is_empty() && than.before.is_empty() {
        return false;
    }
    let order = version.order(than);
    let within = |place: usize| order.is_ge() && (version.order(&than.beyond(place)).is_lt());
    let same = |said: usize| match said {
        0 => true,
        3 => order.is_eq(),
        said => within(said - 1),
    };
    match how {
        "" | "=" => same(than.said()),
        "!=" => !same(than.said()),
        // Beyond what is open: `>1.2` is 1.3 and more, `<=1.2` is all of 1.2.
        ">" if matches!(than.said(), 1 | 2) => version.order(&than.beyond(than.said() - 1)).is_ge(),
        "<=" | "=<" if matches!(than.said(), 1 | 2) => version.order(&than.beyond(than.said() - 1)).is_lt(),
        ">" => order.is_gt(),
        "<" => order.is_lt(),
        ">=" | "=>" => order.is_ge(),
        "<=" | "=<" => order.is_le(),
        "~" | "~>" => than.said() == 0 || within(than.said().min(2) - 1),
        // Up to the first number that is not zero, where one is said.
        "^" => {
            let numbers = than.whole();
            let first = numbers.iter().position(|n| *n > 0).unwrap_or(2);
            than.said() == 0 || within(first.min(than.said() - 1))
        }
        _ => false,
    }
}
