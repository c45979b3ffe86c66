//! Chance for tests that follows from a seed: what fails can be tried again.

use serde_json::{Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Random numbers that follow from a seed (SplitMix64).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: usize) -> usize {
        usize::try_from(self.next() % n.max(1) as u64).expect("smaller than n")
    }

    pub(crate) fn one_of<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// Changes one thing in a value: a field that is not there, or is of one of these names; a text that is one of these;
    /// something of another type.
    pub(crate) fn change(&mut self, value: &mut Value, names: &[&str], texts: &[&str]) {
        match value {
            Value::Object(fields) if !fields.is_empty() && self.below(6) != 0 => {
                let name = fields.keys().nth(self.below(fields.len())).expect("a field").clone();
                match self.below(6) {
                    0 => drop(fields.remove(&name)),
                    1 => drop(fields.insert((*self.one_of(names)).to_owned(), json!("x"))),
                    _ => self.change(&mut fields[&name], names, texts),
                }
            }
            Value::Array(all) if !all.is_empty() && self.below(3) != 0 => {
                let at = self.below(all.len());
                self.change(&mut all[at], names, texts);
            }
            other => {
                *other = match self.below(9) {
                    0 => Value::Null,
                    1 => json!({}),
                    2 => json!([[]]),
                    3 => json!(-1),
                    4 => json!(1e300),
                    5 => json!(u64::MAX),
                    6 => json!(true),
                    _ => json!(*self.one_of(texts)),
                }
            }
        }
    }
}

/// A number of the environment, such as how often something is tried.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Tries as many inputs as `FUZZ_INPUTS` says (2,000 where it says nothing), or one in `of`, from the seed `FUZZ_SEED`
/// on; one that fails is named by its seed.
pub(crate) fn tries(of: u64, mut attempt: impl FnMut(&mut Dice)) {
    let (inputs, first) = (number("FUZZ_INPUTS", 2000) / of, number("FUZZ_SEED", 1));
    for seed in first..first + inputs {
        let outcome = catch_unwind(AssertUnwindSafe(|| attempt(&mut Dice(seed))));
        assert!(outcome.is_ok(), "FUZZ_SEED={seed} fails");
    }
}
