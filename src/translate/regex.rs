//! Regular expressions, as large as the proxy takes them.
//!
//! A stock Envoy refuses an expression whose program has more than a hundred instructions, and with it the whole
//! resource, unless its bootstrap or the expression itself says otherwise. Those that may be larger say so.

use crate::pb::{
    self,
    envoy::r#type::matcher::v3::{
        RegexMatcher,
        regex_matcher::{EngineType, GoogleRe2},
    },
};

/// The largest program that Envoy takes where nobody says otherwise.
const USUAL: usize = 100;
/// The largest program that is taken here; Istio's bootstrap says the same for all.
const LARGEST: u32 = 32_768;

/// A text that an expression takes as a whole.
#[allow(deprecated, reason = "the newer way to say it is in the bootstrap, which is not ours alone")]
pub(super) fn matcher(regex: impl Into<String>) -> RegexMatcher {
    let regex = regex.into();
    let larger = at_most(&regex).is_none_or(|size| size > USUAL);
    let engine = EngineType::GoogleRe2(GoogleRe2 { max_program_size: pb::uint32(LARGEST) });
    RegexMatcher { regex, engine_type: larger.then_some(engine) }
}

/// How many instructions the program of an expression has at most; `None` where its letters do not tell.
fn at_most(regex: &str) -> Option<usize> {
    if ["{", "(?", "\\p", "\\P"].iter().any(|what| regex.contains(what)) {
        return None;
    }
    let mut size = 4 + regex.len();
    let mut letters = regex.chars().peekable();
    while let Some(letter) = letters.next() {
        size += match letter {
            '.' => 2,
            '[' => 8,
            // What is escaped stands for itself, unless it is a letter.
            '\\' if letters.next_if(|next| !next.is_ascii_alphanumeric()).is_none() => 4,
            '(' => 1,
            _ => 0,
        };
    }
    Some(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_program_is_larger_than_it_is_thought_to_be() {
        // The sizes are those that Envoy 1.40 tells of.
        let measured = [
            ("a", 5),
            (".", 6),
            (".*", 6),
            (".+", 7),
            ("a.*b.*", 10),
            ("[^/]", 6),
            ("\\D", 6),
            ("\\W", 9),
            ("(a|b)", 7),
            ("(abc|def)", 12),
            ("a?", 6),
            ("é", 6),
            ("\\[", 5),
            ("spiffe://.+/ns/foo/(.+/|)sa/bar(/.+)?", 45),
        ];
        for (regex, size) in measured {
            assert!(at_most(regex).is_some_and(|most| most >= size), "{regex}: {:?}", at_most(regex));
        }
    }

    #[test]
    fn what_a_stock_envoy_may_refuse_says_how_large_it_is() {
        let usual = |regex: &str| matcher(regex).engine_type.is_none();
        assert!(usual(".*/ns/shop/.*") && usual("spiffe://.+/ns/shop/(.+/|)sa/front(/.+)?"));
        assert!(!usual(&"a".repeat(100)) && !usual("a{50}") && !usual("\\pL"));
    }
}
