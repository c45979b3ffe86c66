//! From the text of a template to its pieces: plain text, and the tokens of each action.

use super::{Error, number};

/// One piece of an action.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Token {
    /// A name: of a function, a keyword, true, false, nil.
    Word(String),
    /// `.Name`, which follows what is before it where nothing is between.
    Field(String),
    /// `$name`, and `$` alone.
    Variable(String),
    Text(String),
    Int(i64),
    Float(f64),
    Dot,
    Pipe,
    Comma,
    Open,
    Close,
    Declare,
    Assign,
    /// Something between two operands.
    Space,
}

/// A part of a template.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Piece {
    Text(String),
    /// What is between braces, and the line that it begins in.
    Action(Vec<Token>, usize),
}

/// Takes a template apart.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, Error> {
    let mut pieces = Vec::new();
    let mut rest = text;
    let mut trim = false;
    loop {
        let line = 1 + text[..text.len() - rest.len()].matches('\n').count();
        let Some(at) = rest.find("{{") else {
            push(&mut pieces, if trim { rest.trim_start_matches(is_space) } else { rest });
            return Ok(pieces);
        };
        let mut before = if trim { rest[..at].trim_start_matches(is_space) } else { &rest[..at] };
        let line = line + rest[..at].matches('\n').count();
        let mut inner = &rest[at + 2..];
        if let Some(after) = inner.strip_prefix('-').filter(|after| after.starts_with(is_space)) {
            before = before.trim_end_matches(is_space);
            inner = after;
        }
        push(&mut pieces, before);
        let (tokens, after, trimmed) = action(inner, line)?;
        trim = trimmed;
        rest = after;
        // A comment is nothing.
        pieces.extend(tokens.map(|tokens| Piece::Action(tokens, line)));
    }
}

fn push(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

fn is_space(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// The tokens of an action (none for a comment), what comes after it, and whether space is trimmed there.
fn action(text: &str, line: usize) -> Result<(Option<Vec<Token>>, &str, bool), Error> {
    let fail = |message: &str| Error { line, message: message.to_owned() };
    let start = text.trim_start_matches(is_space);
    if let Some(comment) = start.strip_prefix("/*") {
        let end = comment.find("*/").ok_or_else(|| fail("a comment has no end"))?;
        let (after, trim) = close(&comment[end + 2..]).ok_or_else(|| fail("a comment must end its action"))?;
        return Ok((None, after, trim));
    }
    let mut tokens = Vec::new();
    let mut rest = text;
    loop {
        if let Some((after, trim)) = close(rest) {
            return Ok((Some(tokens), after, trim));
        }
        let spaceless = rest.trim_start_matches(is_space);
        if spaceless.len() < rest.len() {
            tokens.push(Token::Space);
            rest = spaceless;
            continue;
        }
        let (token, after) = token(rest).map_err(|message| Error { line, message })?;
        tokens.push(token);
        rest = after;
    }
}

/// What comes after the end of an action, if it ends here, and whether space is trimmed there.
fn close(text: &str) -> Option<(&str, bool)> {
    if let Some(after) = text.strip_prefix("}}") {
        return Some((after, false));
    }
    let spaceless = text.trim_start_matches(is_space);
    let after = spaceless.strip_prefix("-}}").filter(|_| spaceless.len() < text.len())?;
    Some((after, true))
}

fn is_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn token(text: &str) -> Result<(Token, &str), String> {
    let name = |from: usize| {
        let end = text[from..].find(|c| !is_name(c)).map_or(text.len(), |n| from + n);
        (&text[from..end], &text[end..])
    };
    let first = text.chars().next().ok_or("an action has no end; close it with }}")?;
    let simple = |token| Ok((token, &text[first.len_utf8()..]));
    match first {
        '|' => simple(Token::Pipe),
        ',' => simple(Token::Comma),
        '(' => simple(Token::Open),
        ')' => simple(Token::Close),
        ':' if text.starts_with(":=") => Ok((Token::Declare, &text[2..])),
        '=' => simple(Token::Assign),
        '"' => quoted(text),
        '\'' => character(text),
        '`' => {
            let end = text[1..].find('`').ok_or("a text in ` has no end")?;
            Ok((Token::Text(text[1..=end].to_owned()), &text[end + 2..]))
        }
        '$' => {
            let (name, after) = name(1);
            Ok((Token::Variable(name.to_owned()), after))
        }
        '.' if !text[1..].starts_with(|c: char| c.is_ascii_digit()) => {
            let (name, after) = name(1);
            let token = if name.is_empty() { Token::Dot } else { Token::Field(name.to_owned()) };
            Ok((token, after))
        }
        '.' | '+' | '-' | '0'..='9' => {
            let exponent = |i: usize| text[..i].ends_with(['e', 'E']) && !text.starts_with("0x");
            let within =
                |(i, c): (usize, char)| i == 0 || c == '.' || is_name(c) || matches!(c, '+' | '-') && exponent(i);
            let end = text.char_indices().find(|at| !within(*at)).map_or(text.len(), |(i, _)| i);
            let number = number::int(&text[..end]).map(Token::Int);
            let number = number.or_else(|| number::float(&text[..end]).map(Token::Float));
            Ok((number.ok_or_else(|| format!("{} is no number", &text[..end]))?, &text[end..]))
        }
        c if is_name(c) => {
            let (name, after) = name(0);
            Ok((Token::Word(name.to_owned()), after))
        }
        c => Err(format!("`{c}` means nothing here")),
    }
}

fn quoted(text: &str) -> Result<(Token, &str), String> {
    let mut found = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((Token::Text(found), &text[i + 1..])),
            '\n' => break,
            '\\' => found.push(escaped(&mut chars).ok_or("an escape in a text is wrong")?),
            c => found.push(c),
        }
    }
    Err("a text in \" has no end".into())
}

fn character(text: &str) -> Result<(Token, &str), String> {
    let mut chars = text.char_indices().skip(1);
    let c = match chars.next() {
        Some((_, '\\')) => escaped(&mut chars),
        other => other.map(|(_, c)| c),
    };
    match (c, chars.next()) {
        (Some(c), Some((i, '\''))) => Ok((Token::Int(i64::from(u32::from(c))), &text[i + 1..])),
        _ => Err("a character is written as 'c'".into()),
    }
}

/// What stands for a character after a backslash.
fn escaped(chars: &mut impl Iterator<Item = (usize, char)>) -> Option<char> {
    let (_, c) = chars.next()?;
    let digits = match c {
        'a' => return Some('\x07'),
        'b' => return Some('\x08'),
        'f' => return Some('\x0c'),
        'n' => return Some('\n'),
        'r' => return Some('\r'),
        't' => return Some('\t'),
        'v' => return Some('\x0b'),
        '\\' | '"' | '\'' => return Some(c),
        'x' => 2,
        'u' => 4,
        'U' => 8,
        _ => return None,
    };
    let code: String = chars.take(digits).map(|(_, c)| c).collect();
    u32::from_str_radix(&code, 16).ok().filter(|_| code.len() == digits).and_then(char::from_u32)
}
