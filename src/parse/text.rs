//! Texts with a syntax of their own: DNS names, names and values of headers, shares in percent, base64.

/// A label of a DNS name: letters, digits and inner hyphens.
pub(super) fn is_dns_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    !text.is_empty() && text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// The key of a label: a name, before which a DNS name and a `/` may stand.
pub(super) fn label_key(text: &str) -> bool {
    match text.split_once('/') {
        Some((prefix, name)) => prefix.len() <= 253 && prefix.split('.').all(is_dns_label) && is_qualified(name),
        None => is_qualified(text),
    }
}

/// The value of a label: a name, or nothing.
pub(super) fn label_value(text: &str) -> bool {
    text.is_empty() || is_qualified(text)
}

/// A name of letters, digits and inner `-`, `_` and `.`.
fn is_qualified(text: &str) -> bool {
    let end = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    text.len() <= 63 && text.chars().all(inner) && end(text.chars().next()) && end(text.chars().last())
}

/// A DNS name, whose last label is not a number and may be empty (a trailing dot).
pub(super) fn dns_name(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("is empty; write a DNS name".into());
    }
    if text.len() > 255 {
        return Err(format!("{text:?} is longer than the 255 letters that a DNS name may have"));
    }
    let labels: Vec<&str> = text.split('.').collect();
    let last = labels.len() - 1;
    if labels[last].chars().all(|c| c.is_ascii_digit()) && !labels[last].is_empty() {
        return Err(format!("{text:?} is not a DNS name: its last part must not be a number"));
    }
    match labels.iter().enumerate().find(|(at, l)| !(is_dns_label(l) || *at == last && *at > 0 && l.is_empty())) {
        Some((_, label)) => {
            Err(format!("{text:?} is not a DNS name: {label:?} must be letters, digits and inner hyphens"))
        }
        None => Ok(()),
    }
}

/// A DNS name or one whose first label is a wildcard: `*`, `*.example.com`, `*-api.example.com`.
pub(super) fn wildcard_name(text: &str) -> Result<(), String> {
    match text.split_once('.') {
        _ if text == "*" => Ok(()),
        Some(("*", rest)) => dns_name(rest),
        _ => dns_name(text.strip_prefix("*-").unwrap_or(text)),
    }
}

/// The name of an HTTP header: a token of RFC 9110.
pub(super) fn header_name(text: &str) -> Result<(), String> {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    match text {
        "" => Err("is the name of no header; write one".into()),
        _ if text.chars().all(token) => Ok(()),
        _ => {
            Err(format!("{text:?} is not the name of a header: only letters, digits and !#$%&'*+-.^_`|~ may be in it"))
        }
    }
}

/// The value of a header that the proxy sets: no control characters, and `%` only around what Envoy replaces
/// (`%RESPONSE_FLAGS%`) or doubled.
pub(super) fn header_value(text: &str) -> Result<(), String> {
    line(text)?;
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let inside = &rest[at + 1..];
        rest = match inside.strip_prefix('%') {
            Some(rest) => rest,
            None => replaced(inside).ok_or_else(|| {
                format!("{text:?} has a lone %: write %% for the sign itself, or %NAME% for what Envoy puts there")
            })?,
        };
    }
    Ok(())
}

/// What follows a `%NAME%` or `%NAME(ARGUMENTS)%` whose first `%` was read; `None` where it does not end.
fn replaced(inside: &str) -> Option<&str> {
    let at = inside.find(['%', '('])?;
    if inside[at..].starts_with('%') {
        return Some(&inside[at + 1..]);
    }
    let arguments = &inside[at..];
    let end = arguments.find(')')?;
    arguments[end + 1..].trim_start_matches(' ').strip_prefix('%')
}

/// A share in percent as millionths. Istio cuts what is smaller, and so must we to mean the same share.
pub(super) fn millionths(percent: f64) -> Result<u32, String> {
    match (0.0..=100.0).contains(&percent) {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is within 0 and 1,000,000")]
        true => Ok((percent * 10_000.0) as u32),
        false => Err(format!("{percent} is not a share in percent; write a number from 0 to 100")),
    }
}

/// A text that Envoy puts into a header as it is: no control characters.
pub(super) fn line(text: &str) -> Result<(), String> {
    match text.chars().find(|c| c.is_control() && *c != '\t') {
        Some(c) => Err(format!("{text:?} must not be in a header: it has the control character {c:?}")),
        None => Ok(()),
    }
}

/// Bytes from base64, with the standard or the URL alphabet, with or without padding.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut held, mut bits) = (0u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return Err(format!("is not base64: {:?} cannot be in it", char::from(c))),
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            out.push(u8::try_from(held >> bits & 0xff).expect("eight bits"));
        }
    }
    match bits == 6 {
        true => Err("is not base64: it ends in the middle of a byte".into()),
        false => Ok(out),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_part_of_a_name_may_be_a_wildcard() {
        for good in ["a", "A.b-c.d", "*", "*.a.b", "*-x.a", "a.b."] {
            assert_eq!(wildcard_name(good), Ok(()), "{good}");
        }
        for bad in ["", "a_b", "a..b", "*.", "a.*.b", "**.a", "a.1", "-a.b", "http://a.b", "a.b/c", "."] {
            assert!(wildcard_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn header_values_may_hold_what_envoy_replaces() {
        for good in ["a", "100%%", "%RESPONSE_FLAGS%", "x %REQ(:path)% y", "%A(\"b\")%%%", "a\tb", ""] {
            assert_eq!(header_value(good), Ok(()), "{good}");
        }
        for bad in ["100%", "%REQ(x", "%REQ(x)", "%A%%", "a\nb", "\u{7f}"] {
            assert!(header_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn base64_is_decoded() {
        assert_eq!(base64("AAEC/w=="), Ok(vec![0, 1, 2, 255]));
        assert_eq!(base64("AAEC_w"), Ok(vec![0, 1, 2, 255]));
        assert_eq!(base64("aGk="), Ok(b"hi".to_vec()));
        assert!(base64("a$").is_err() && base64("aaaaa").is_err());
    }
}
