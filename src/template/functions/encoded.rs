//! Functions of what texts are written as: digests, Base32, addresses of the web and their parts.

use super::{Made, Table, Value, at, print, string};
use crate::template::Kind;
use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA512};

/// The digits of Base32.
const DIGITS: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const PARTS: [&str; 8] = ["fragment", "host", "hostname", "opaque", "path", "query", "scheme", "userinfo"];

pub(super) const TABLE: Table = &[
    ("sha1sum", |a| sum(&SHA1_FOR_LEGACY_USE_ONLY, a)),
    ("sha256sum", |a| sum(&SHA256, a)),
    ("sha512sum", |a| sum(&SHA512, a)),
    ("adler32sum", |a| {
        let (low, high) = string(a, 0)?.bytes().fold((1_u32, 0_u32), |(low, high), byte| {
            let low = (low + u32::from(byte)) % 65521;
            (low, (high + low) % 65521)
        });
        Ok((high << 16 | low).to_string().into())
    }),
    ("b32enc", |a| Ok(base32(string(a, 0)?.as_bytes()).into())),
    ("b32dec", |a| {
        let bytes = from_base32(&string(a, 0)?).ok_or("it is not Base32")?;
        Ok(String::from_utf8_lossy(&bytes).into_owned().into())
    }),
    ("urlParse", |a| parts(&string(a, 0)?)),
    ("urlJoin", |a| Ok(joined(at(a, 0)?)?.into())),
];

fn sum(algorithm: &'static digest::Algorithm, arguments: &[Value]) -> Made {
    let digest = digest::digest(algorithm, string(arguments, 0)?.as_bytes());
    Ok(digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>().into())
}

fn base32(bytes: &[u8]) -> String {
    let mut out = String::new();
    for five in bytes.chunks(5) {
        let bits = five.iter().enumerate().fold(0_u64, |bits, (i, byte)| bits | u64::from(*byte) << (32 - 8 * i));
        let said = (five.len() * 8).div_ceil(5);
        let digit = |place: usize| char::from(DIGITS[(bits >> (35 - 5 * place) & 31) as usize]);
        out.extend((0..8).map(|place| if place < said { digit(place) } else { '=' }));
    }
    out
}

fn from_base32(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let text: Vec<u8> = text.bytes().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    for (at, eight) in text.chunks(8).enumerate() {
        let said = eight.iter().position(|b| *b == b'=').unwrap_or(eight.len());
        let padded = eight.len() == 8 && eight[said..].iter().all(|b| *b == b'=');
        // Only the end is filled up, and not every number of digits makes whole bytes.
        let last = (at + 1) * 8 == text.len();
        if !padded || said < 8 && !last || matches!(said, 0 | 1 | 3 | 6) {
            return None;
        }
        let mut bits = 0_u64;
        for (place, digit) in eight[..said].iter().enumerate() {
            bits |= (DIGITS.iter().position(|d| d == digit)? as u64) << (35 - 5 * place);
        }
        out.extend((0..said * 5 / 8).map(|i| (bits >> (32 - 8 * i)) as u8));
    }
    Some(out)
}

/// What an address has of each part; what it has not is empty.
fn parts(text: &str) -> Made {
    let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
    let (scheme, rest) = match text.split_once(':') {
        Some((scheme, rest)) if is_scheme(scheme) => (scheme, rest),
        _ => ("", text),
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (mut opaque, mut authority, mut path) = ("", "", rest);
    if let Some(after) = rest.strip_prefix("//") {
        let end = after.find('/').unwrap_or(after.len());
        (authority, path) = after.split_at(end);
    } else if !scheme.is_empty() && !rest.starts_with('/') {
        (opaque, path) = (rest, "");
    }
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((name, _)) => name,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let fragment = unescaped(fragment)?;
    let values = [fragment, unescaped(host)?, unescaped(name)?, opaque.into(), unescaped(path)?, query.into()];
    let values = values.into_iter().chain([scheme.to_ascii_lowercase(), user.into()]);
    Ok(Value::map(Kind::Map, PARTS.iter().zip(values).map(|(part, text)| ((*part).to_owned(), text.into()))))
}

fn is_scheme(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'))
}

/// An address of its parts.
fn joined(parts: &Value) -> Result<String, String> {
    let part = |name: &str| parts.field(name).map(|value| print::text(&value));
    let (scheme, user, host, path) = (part("scheme")?, part("userinfo")?, part("host")?, part("path")?);
    let (opaque, query, fragment) = (part("opaque")?, part("query")?, part("fragment")?);
    let mut out = if scheme.is_empty() { String::new() } else { format!("{scheme}:") };
    if !opaque.is_empty() {
        out.push_str(&opaque);
    } else {
        if !host.is_empty() || !user.is_empty() || !scheme.is_empty() && !path.is_empty() {
            out.push_str("//");
        }
        if !user.is_empty() {
            out.push_str(&format!("{user}@"));
        }
        out.push_str(&escaped(&host, b"!$&'()*+,;=:[]<>\""));
        if !host.is_empty() && !path.is_empty() && !path.starts_with('/') {
            out.push('/');
        }
        out.push_str(&escaped(&path, b"$&+,/:;=@"));
    }
    if !query.is_empty() {
        out.push_str(&format!("?{query}"));
    }
    if !fragment.is_empty() {
        out.push_str(&format!("#{}", escaped(&fragment, b"$&+,/:;=?@!()*")));
    }
    Ok(out)
}

fn escaped(text: &str, kept: &[u8]) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b) || kept.contains(&b);
    let one = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    text.bytes().map(one).collect()
}

fn unescaped(text: &str) -> Result<String, String> {
    let mut out = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        let (high, low) = (digit(rest.next()), digit(rest.next()));
        let byte = high.zip(low).map(|(high, low)| (high << 4 | low) as u8);
        out.push(byte.ok_or_else(|| format!("{text:?} has a % without two digits"))?);
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}
