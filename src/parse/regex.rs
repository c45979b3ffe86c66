//! Regular expressions as Envoy takes them (RE2): what RE2 does not know is refused here, because one such
//! expression makes a proxy refuse the whole resource.

use regex_syntax::ast::{self, AssertionKind, Ast, FlagsItemKind, RepetitionKind, RepetitionRange, Visitor, parse};

/// The longest expression that Istio takes.
const MAX_LENGTH: usize = 1024;
/// How often RE2 lets a part be repeated, over all nestings.
const MAX_REPEAT: u32 = 1000;

/// Checks an expression.
pub(super) fn check(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is an empty regular expression; write .* for anything".into());
    }
    if text.len() > MAX_LENGTH {
        return Err(format!("is a regular expression of {} letters; at most {MAX_LENGTH} are allowed", text.len()));
    }
    let refuse = |why: String| Err(format!("{text:?} is not a regular expression of RE2: {why}"));
    let plain = match dialect(text) {
        Ok(plain) => plain,
        Err(why) => return refuse(why.into()),
    };
    let tree = match parse::Parser::new().parse(&plain) {
        Ok(tree) => tree,
        Err(e) => return refuse(e.kind().to_string()),
    };
    if let Err(why) = ast::visit(&tree, Re2::default()) {
        return refuse(why.into());
    }
    match regex_syntax::hir::translate::Translator::new().translate(&plain, &tree) {
        Ok(_) => Ok(()),
        Err(e) => refuse(e.kind().to_string()),
    }
}

/// The expression as `regex_syntax` writes it: where RE2 takes a sign as itself (`{` that counts nothing, `[` and
/// doubled signs within a class, what stands between `\Q` and `\E`), it is escaped.
fn dialect(text: &str) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len() + 8);
    let mut rest = text;
    let mut class = None;
    while let Some(c) = rest.chars().next() {
        let at = text.len() - rest.len();
        let width = c.len_utf8();
        if let Some(quoted) = rest.strip_prefix("\\Q") {
            let (literal, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex_syntax::escape(literal));
            rest = after;
            continue;
        }
        let mut take = width;
        match (c, class) {
            ('\\', _) => {
                let escaped = rest[1..].chars().next().ok_or("it ends with a backslash")?;
                if "uU<>".contains(escaped) || (escaped == 'b' && rest[2..].starts_with('{')) {
                    return Err("it has an escape that RE2 does not know");
                }
                take += escaped.len_utf8();
                out.push_str(&rest[..take]);
            }
            ('[', None) => {
                let negated = usize::from(rest[1..].starts_with('^'));
                // A closing bracket that comes first is a sign like another.
                take += negated + usize::from(rest[1 + negated..].starts_with(']'));
                class = Some(at);
                out.push_str(&rest[..1 + negated]);
                out.push_str(if take > 1 + negated { "\\]" } else { "" });
            }
            ('[', Some(_)) if rest.starts_with("[:") && rest.contains(":]") => {
                take = rest.find(":]").map_or(take, |end| end + 2);
                out.push_str(&rest[..take]);
            }
            (']', Some(_)) => {
                class = None;
                out.push(']');
            }
            ('[' | '&' | '~', Some(_)) => {
                out.push('\\');
                out.push(c);
            }
            ('{', None) if !counts(rest) => out.push_str("\\{"),
            _ => out.push(c),
        }
        rest = &rest[take..];
    }
    match class {
        Some(_) => Err("a bracket is not closed"),
        None => Ok(out),
    }
}

/// Whether a brace opens a count: `{2}`, `{2,}`, `{2,5}`.
fn counts(text: &str) -> bool {
    let Some((inside, _)) = text[1..].split_once('}') else { return false };
    let (low, high) = inside.split_once(',').unwrap_or((inside, ""));
    let number = |t: &str| t.chars().all(|c| c.is_ascii_digit());
    !low.is_empty() && number(low) && number(high)
}

/// Finds what `regex_syntax` knows and RE2 does not.
#[derive(Default)]
struct Re2 {
    repeats: Vec<u32>,
}

impl Visitor for Re2 {
    type Output = ();
    type Err = &'static str;

    fn finish(self) -> Result<(), Self::Err> {
        Ok(())
    }

    fn visit_pre(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        match ast {
            Ast::Flags(set) => known_flags(&set.flags),
            Ast::Group(group) => group.flags().map_or(Ok(()), known_flags),
            Ast::Assertion(a) => match a.kind {
                AssertionKind::StartLine
                | AssertionKind::EndLine
                | AssertionKind::StartText
                | AssertionKind::EndText
                | AssertionKind::WordBoundary
                | AssertionKind::NotWordBoundary => Ok(()),
                _ => Err("it has an assertion that RE2 does not know"),
            },
            Ast::Repetition(repetition) => {
                if matches!(*repetition.ast, Ast::Repetition(_)) {
                    return Err("it repeats a repetition; put the inner one in brackets");
                }
                let times = match &repetition.op.kind {
                    RepetitionKind::Range(RepetitionRange::Exactly(n) | RepetitionRange::AtLeast(n)) => *n,
                    RepetitionKind::Range(RepetitionRange::Bounded(_, n)) => *n,
                    _ => 1,
                };
                self.repeats.push(times.max(1));
                match self.repeats.iter().try_fold(1u32, |a, b| a.checked_mul(*b)) {
                    Some(0..=MAX_REPEAT) => Ok(()),
                    _ => Err("it repeats something more than 1000 times"),
                }
            }
            _ => Ok(()),
        }
    }

    fn visit_post(&mut self, ast: &Ast) -> Result<(), Self::Err> {
        if matches!(ast, Ast::Repetition(_)) {
            self.repeats.pop();
        }
        Ok(())
    }
}

fn known_flags(flags: &ast::Flags) -> Result<(), &'static str> {
    let known = |kind: &FlagsItemKind| {
        matches!(
            kind,
            FlagsItemKind::Negation
                | FlagsItemKind::Flag(
                    ast::Flag::CaseInsensitive
                        | ast::Flag::MultiLine
                        | ast::Flag::DotMatchesNewLine
                        | ast::Flag::SwapGreed
                )
        )
    };
    match flags.items.iter().all(|i| known(&i.kind)) {
        true => Ok(()),
        false => Err("it has a flag other than i, m, s and U"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_re2_takes_is_taken() {
        for good in [
            ".*",
            "^(.*?;)?(user=dev)(;.*)?$",
            "/items/{id}/[0-9]{2,5}",
            "a{,5}",
            r"\Qa.b{\E.*",
            "(?i)abc|(?P<n>x)|(?<m>y)",
            "[[a-z]+",
            "[]a]+[^]]",
            "[a&&b~~]",
            "[[:alpha:]_]",
            r"\d+\.\pL\b",
            r"(?:a{10}){100}",
            "a*?b+?c??",
        ] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_re2_refuses_is_refused() {
        for bad in [
            "",
            "*",
            "a**",
            "(",
            "[a",
            "a)",
            "(?=a)",
            "(?!a)",
            "(?<=a)b",
            r"(a)\1",
            r"\<a",
            r"\u0041",
            r"a\",
            "(?x)a b",
            "a{1001}",
            "(a{100}){11}",
            "a{5,2}",
            "[z-a]",
            r"\p{Nope}",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
        assert!(check(&"a".repeat(1025)).is_err());
    }
}
