//! Values that many kinds have: durations, hosts, export lists, numbers with a range.

use super::{Context, text};
use crate::{
    id::{Host, Namespace, ObjectRef},
    model::{ExportTo, Labels},
    problem::{FieldPath, Problem, Severity},
};
use std::{collections::BTreeMap, fmt::Display, sync::Arc};

/// What has been found wrong with one object so far.
pub(super) struct Findings<'a> {
    object: &'a ObjectRef,
    problems: Vec<Problem>,
}

impl<'a> Findings<'a> {
    /// Nothing wrong with the object beside these.
    pub(super) fn new(object: &'a ObjectRef, problems: Vec<Problem>) -> Self {
        Self { object, problems }
    }

    /// The object.
    pub(super) fn object(&self) -> &'a ObjectRef {
        self.object
    }

    /// Refuses the object.
    pub(super) fn error(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.problems.push(Problem::error(self.object, path.clone(), message));
    }

    /// Says that something has not the effect that it seems to have.
    pub(super) fn warn(&mut self, path: &FieldPath, message: impl Into<String>) {
        self.problems.push(Problem::warning(self.object, path.clone(), message));
    }

    /// Adds what was found elsewhere.
    pub(super) fn extend(&mut self, problems: impl IntoIterator<Item = Problem>) {
        self.problems.extend(problems);
    }

    /// All that was found, and the value although parts of the object may be refused: it stands without them.
    pub(super) fn keep<T>(self, value: T) -> (Option<T>, Vec<Problem>) {
        (Some(value), self.problems)
    }

    /// All that was found, and the value unless it is refused.
    pub(super) fn finish<T>(self, value: T) -> (Option<T>, Vec<Problem>) {
        let refused = self.problems.iter().any(|p| p.severity == Severity::Error);
        ((!refused).then_some(value), self.problems)
    }

    /// A duration in milliseconds, 0 allowed.
    pub(super) fn duration(&mut self, path: &FieldPath, text: Option<&String>) -> Option<u64> {
        match duration(text?) {
            Ok(millis) => Some(millis),
            Err(why) => {
                self.error(path, why);
                None
            }
        }
    }

    /// A duration of at least one millisecond, in milliseconds.
    pub(super) fn positive_duration(&mut self, path: &FieldPath, text: Option<&String>) -> Option<u64> {
        let millis = self.duration(path, text)?;
        if millis == 0 {
            self.error(path, "must be longer than 0; write a duration of at least 1ms, or leave the field out");
            return None;
        }
        Some(millis)
    }

    /// A count, where 0 stands for what is not set.
    pub(super) fn count(&mut self, path: &FieldPath, number: i64) -> Option<u32> {
        match u32::try_from(number) {
            Ok(0) => None,
            Ok(number) => Some(number),
            Err(_) => {
                self.error(path, format!("{number} is out of range; write a number from 0 to {}", u32::MAX));
                None
            }
        }
    }

    /// A port number.
    pub(super) fn port(&mut self, path: &FieldPath, number: impl Into<i64>) -> Option<u16> {
        let number = number.into();
        match u16::try_from(number) {
            Ok(port) if port > 0 => Some(port),
            _ => {
                self.error(path, format!("{number} is not a port; write a number from 1 to 65535"));
                None
            }
        }
    }

    /// A share in whole percent.
    pub(super) fn percent(&mut self, path: &FieldPath, number: i64) -> u32 {
        match u32::try_from(number) {
            Ok(number) if number <= 100 => number,
            _ => {
                self.error(path, format!("{number} is not a percentage; write a number from 0 to 100"));
                0
            }
        }
    }

    /// A number as millionths, between 0 and `most`.
    pub(super) fn millionths(&mut self, path: &FieldPath, number: Option<f64>, most: f64) -> Option<u64> {
        let number = number?;
        if (0.0..=most).contains(&number) {
            return Some((number * 1e6).round() as u64);
        }
        self.error(path, format!("{number} is out of range; write a number from 0 to {most}"));
        None
    }

    /// Labels that choose workloads or endpoints.
    pub(super) fn labels(&mut self, path: &FieldPath, labels: &BTreeMap<String, String>) -> Labels {
        for (key, value) in labels {
            if key.is_empty() {
                self.error(path, "has an empty key; write the key of a label");
            }
            if key.contains('*') || value.contains('*') {
                self.error(&path.key(key), "has a `*`, which matches nothing here; write the label's exact value");
            }
        }
        labels.iter().map(|(k, v)| (k.as_str().into(), v.as_str().into())).collect()
    }

    /// Labels that endpoints have: as `labels`, and such as Kubernetes lets a pod have.
    pub(super) fn endpoint_labels(&mut self, path: &FieldPath, labels: &BTreeMap<String, String>) -> Labels {
        for (key, value) in labels.iter().filter(|(k, v)| !k.is_empty() && !k.contains('*') && !v.contains('*')) {
            if let Err(why) = check_label(key, value) {
                self.error(&path.key(key), format!("{why}, so no endpoint has it"));
            }
        }
        self.labels(path, labels)
    }

    /// Who sees the object. `nobody` says whether `~` is allowed.
    pub(super) fn export_to(&mut self, path: &FieldPath, list: &[String], nobody: bool) -> ExportTo {
        if list.is_empty() {
            return ExportTo::Unset;
        }
        let (mut own, mut namespaces) = (false, Vec::new());
        for (at, entry) in list.iter().enumerate() {
            match entry.as_str() {
                "*" | "~" if list.len() > 1 => {
                    self.error(
                        &path.index(at),
                        format!("`{entry}` stands alone; leave out the other entries or this one"),
                    );
                }
                "*" => return ExportTo::All,
                "~" if nobody => return ExportTo::Nobody,
                "." => own = true,
                name if name == &*self.object.namespace => own = true,
                name if is_dns_label(name) => namespaces.push(Namespace::from(name)),
                name => self.error(
                    &path.index(at),
                    format!("`{name}` is not a namespace; write `*`, `.` or the name of a namespace"),
                ),
            }
        }
        namespaces.sort();
        namespaces.dedup();
        ExportTo::Some { own, namespaces }
    }

    /// A host as the object's author writes it, in full: a name without a dot is a service of the object's namespace.
    pub(super) fn host(&mut self, path: &FieldPath, text: &str, context: &Context) -> Host {
        if let Err(why) = check_host(text) {
            self.error(path, why);
        }
        full_host(text, &self.object.namespace, context)
    }
}

/// Whether a key and a value are such as Kubernetes lets a label have.
pub(super) fn check_label(key: &str, value: &str) -> Result<(), String> {
    let (prefix, name) = key.rsplit_once('/').unwrap_or(("a", key));
    let good = |t: &str| {
        let inner = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        t.len() <= 63 && t.chars().all(inner) && t.trim_matches(['-', '_', '.']).len() == t.len()
    };
    if name.is_empty() || !good(name) || text::dns_name(prefix).is_err() {
        return Err(format!("{key:?} is not the key of a label"));
    }
    if good(value) { Ok(()) } else { Err(format!("{value:?} is not the value of a label")) }
}

/// The full name of a host: a name without a dot is a service of the namespace.
pub(super) fn full_host(text: &str, namespace: &Namespace, context: &Context) -> Host {
    let text = text.to_ascii_lowercase();
    match text.contains('.') || text == "*" {
        true => text.into(),
        false => format!("{text}.{namespace}.svc.{}", context.domain).into(),
    }
}

/// A duration such as `1h`, `1.5s` or `100ms`, in milliseconds.
pub(super) fn duration(text: &str) -> Result<u64, String> {
    let wrong = |why: &str| format!("`{text}` {why}; write a duration such as 1h, 1m, 1.5s or 100ms");
    let mut rest = text;
    let mut millis = 0.0;
    if rest == "0" {
        return Ok(0);
    }
    if rest.starts_with('-') {
        return Err(wrong("is negative"));
    }
    if rest.is_empty() {
        return Err(wrong("is not a duration"));
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| wrong("has no unit"))?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong("is not a duration"))?;
        let after = &rest[digits..];
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let unit = match &after[..end] {
            "ns" => 1e-6,
            "us" | "µs" => 1e-3,
            "ms" => 1.0,
            "s" => 1e3,
            "m" => 6e4,
            "h" => 3.6e6,
            _ => return Err(wrong("has a unit that is not one of h, m, s and ms")),
        };
        millis += number * unit;
        rest = &after[end..];
    }
    match millis.round() {
        0.0 if millis > 0.0 => Err(wrong("is shorter than a millisecond")),
        m if m > 315_576_000_000_000.0 => Err(wrong("is longer than 10000 years")),
        m => Ok(m as u64),
    }
}

/// Whether a text is a host name, or a wildcard above one.
pub(super) fn check_host(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("*.").unwrap_or(if text == "*" { "a" } else { text });
    match rest {
        "" => {
            Err("is missing; write the name of the service, such as reviews or reviews.shop.svc.cluster.local".into())
        }
        _ if rest.len() > 253 => Err(format!("`{text}` has more than 253 characters, which no host name has")),
        _ if rest.contains('*') => {
            Err(format!("`{text}` has a `*` within; only a leading `*.` stands for any name below"))
        }
        _ => match rest.trim_end_matches('.').split('.').find(|label| !is_host_label(label)) {
            None => Ok(()),
            Some(label) => Err(format!(
                "`{text}` is not a host name because of `{label}`; write labels of letters, digits and `-`, with dots between"
            )),
        },
    }
}

/// Whether a text is a DNS label, in which letters may be upper case and `_` may stand.
fn is_host_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !text.is_empty() && text.len() <= 63 && text.chars().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// What an address that is a socket of the file system starts with.
pub(super) const UNIX: &str = "unix://";

/// Whether a text is the absolute path of a socket, or the name of an abstract one.
pub(super) fn is_socket(file: &str) -> bool {
    match file.strip_prefix('@') {
        Some(name) => !name.is_empty(),
        None => file.starts_with('/') && !file.ends_with('/'),
    }
}

/// Whether a text is a name as Kubernetes takes it for namespaces.
pub(super) fn is_dns_label(text: &str) -> bool {
    is_host_label(text) && !text.contains(|c: char| c.is_ascii_uppercase() || c == '_')
}

/// Texts as shared ones.
pub(super) fn shared<T: Display>(texts: &[T]) -> Vec<Arc<str>> {
    texts.iter().map(|t| t.to_string().into()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::Kind;

    #[test]
    fn durations_are_milliseconds() {
        for (text, millis) in
            [("0s", 0), ("0", 0), ("1s", 1000), ("1.5s", 1500), ("1h2m3s", 3_723_000), ("250ms", 250), ("1000us", 1)]
        {
            assert_eq!(duration(text), Ok(millis), "{text}");
        }
        for text in ["", "1", "-1s", "s", "1x", "1.2.3s", "10ns", "1 s", "９s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn short_names_are_services_of_the_own_namespace() {
        let full = |text| full_host(text, &"shop".into(), &Context::default()).to_string();
        assert_eq!(full("Reviews"), "reviews.shop.svc.cluster.local");
        assert_eq!(full("a.b"), "a.b");
        assert_eq!(full("*"), "*");
    }

    #[test]
    fn hosts_are_checked() {
        for good in ["a", "a.b", "*.a.b", "*", "a_b.c", "10.0.0.1"] {
            assert_eq!(check_host(good), Ok(()), "{good}");
        }
        for bad in ["", "a..b", "a.*.b", "-a", "a b", "*a.b", &"a".repeat(64)] {
            assert!(check_host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn export_lists_are_checked() {
        let object = ObjectRef::new(Kind::DESTINATION_RULE, "shop", "x");
        let read = |list: &[&str], nobody| {
            let mut found = Findings::new(&object, Vec::new());
            let list: Vec<String> = list.iter().map(ToString::to_string).collect();
            let to = found.export_to(&FieldPath::new("spec.exportTo"), &list, nobody);
            found.finish(to)
        };
        assert_eq!(read(&[], true).0, Some(ExportTo::Unset));
        assert_eq!(read(&["*"], false).0, Some(ExportTo::All));
        assert_eq!(read(&["~"], true).0, Some(ExportTo::Nobody));
        assert_eq!(
            read(&["b", ".", "shop", "b"], false).0,
            Some(ExportTo::Some { own: true, namespaces: vec!["b".into()] })
        );
        for bad in [&["~"][..], &["*", "a"], &["Upper"], &[""]] {
            let (value, problems) = read(bad, false);
            assert!(value.is_none() && !problems.is_empty(), "{bad:?}");
        }
    }
}
