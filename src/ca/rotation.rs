//! A new root in three steps, each kept as a whole before the next: it is trusted by all beside the old one, then it
//! signs, then the old one is trusted no longer. Whatever is cut short goes on from the step that was kept last.

use super::{Error, Files, KeyKind, self_signed};
use std::fmt;

const STATE: &str = "rotation";
const NEXT: [(&str, &str); 2] = [("next-ca-cert.pem", "ca-cert.pem"), ("next-ca-key.pem", "ca-key.pem")];
const OLD_ROOTS: &str = "old-root-cert.pem";

/// A step of a rotation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    /// There is no rotation.
    Settled,
    /// The new root is trusted beside the old one, which signs.
    Announced,
    /// The new root signs, and the old one is still trusted.
    Switched,
}

/// Where a rotation stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rotation {
    /// The last step.
    pub phase: Phase,
    /// When it was taken, in seconds since 1970.
    pub since: u64,
}

impl fmt::Display for Rotation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.phase {
            Phase::Settled => "none",
            Phase::Announced => "the new root is trusted, the old one signs",
            Phase::Switched => "the new root signs, the old one is still trusted",
        })
    }
}

/// What the next step of a rotation needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Step<'a> {
    /// The organisation in the new root's subject.
    pub organization: &'a str,
    /// The kind of its key.
    pub key: KeyKind,
    /// How long it is valid, in seconds.
    pub root_ttl: u64,
    /// How long a step must have been in force before the next, in seconds.
    pub overlap: u64,
    /// The time, in seconds since 1970.
    pub now: u64,
}

impl Rotation {
    /// Where the rotation of an authority stands.
    pub fn of(files: &Files) -> Self {
        let text = files.get(STATE).map(String::as_str).unwrap_or_default();
        let (phase, since) = text.trim().split_once(' ').unwrap_or_default();
        let since = since.parse().unwrap_or(0);
        let phase = match phase {
            "announced" => Phase::Announced,
            "switched" => Phase::Switched,
            _ => Phase::Settled,
        };
        Self { phase, since }
    }

    /// The authority after the next step.
    ///
    /// # Errors
    ///
    /// When the last step has not been in force for long enough, or a file is missing.
    pub fn advance(files: &Files, step: &Step<'_>) -> Result<Files, Error> {
        let at = Self::of(files);
        let ready = at.since.saturating_add(step.overlap);
        if at.phase != Phase::Settled && step.now < ready {
            let (left, why) = (ready - step.now, at.to_string());
            return Err(Error::Rotation(format!(
                "{why} for {} s; the next step is safe in {left} s, when all have learnt of it",
                step.now.saturating_sub(at.since)
            )));
        }
        let take = |name: &'static str| files.get(name).cloned().ok_or(Error::Missing(name));
        let mut next = files.clone();
        let mut put = |name: &str, text: String| drop(next.insert(name.to_owned(), text));
        match at.phase {
            Phase::Settled => {
                let new = self_signed(step.organization, step.key, step.now, step.root_ttl)?;
                let old = take("root-cert.pem")?;
                for (name, of) in NEXT {
                    put(name, new[of].clone());
                }
                put("root-cert.pem", format!("{old}{}", new["root-cert.pem"]));
                put(OLD_ROOTS, old);
                put(STATE, format!("announced {}", step.now));
            }
            Phase::Announced => {
                for (name, to) in NEXT {
                    put(to, take(name)?);
                }
                put("cert-chain.pem", String::new());
                put(STATE, format!("switched {}", step.now));
            }
            Phase::Switched => {
                put("root-cert.pem", take("ca-cert.pem")?);
                for gone in NEXT.map(|(name, _)| name).into_iter().chain([OLD_ROOTS, STATE]) {
                    next.remove(gone);
                }
            }
        }
        Ok(next)
    }
}
