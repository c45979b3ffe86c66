//! What templates work with.

use std::{cell::RefCell, cmp::Ordering, collections::BTreeMap, fmt, rc::Rc};

/// A map that templates may change (`set`), as all who hold it see.
pub(super) type Entries = Rc<RefCell<BTreeMap<String, Value>>>;

/// How deep a value may nest, and how many there may be in one.
const DEEPEST: usize = 160;
const LARGEST: usize = 200_000;

/// What a map stands for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A struct of Go, whose fields have names with capitals: `.HostIP` is `hostIP`.
    Struct,
    /// A map of anything.
    Map,
}

/// What a function does with its arguments.
type Call = dyn Fn(&[Value]) -> Result<Value, String>;

/// A function that is a value: what `.Files.Get "name"` calls.
#[derive(Clone)]
pub struct Native(pub Rc<Call>);

impl fmt::Debug for Native {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Native")
    }
}

/// A value.
#[derive(Clone, Debug, Default)]
pub enum Value {
    /// Nothing.
    #[default]
    Nil,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// Any other number.
    Float(f64),
    /// A text.
    Text(String),
    /// A list.
    List(Rc<Vec<Value>>),
    /// A map or a struct.
    Map(Kind, Entries),
    /// A function.
    Native(Native),
}

impl Value {
    /// A map of these entries.
    pub fn map(kind: Kind, entries: impl IntoIterator<Item = (String, Self)>) -> Self {
        Self::Map(kind, Rc::new(RefCell::new(entries.into_iter().collect())))
    }

    /// A list.
    pub(super) fn list(entries: Vec<Self>) -> Self {
        Self::List(Rc::new(entries))
    }

    /// A value of JSON, whose objects are of this kind all the way down.
    pub fn of(json: &serde_json::Value, kind: Kind) -> Self {
        use serde_json::Value as Json;
        match json {
            Json::Null => Self::Nil,
            Json::Bool(b) => Self::Bool(*b),
            Json::Number(n) => match n.as_i64() {
                Some(n) => Self::Int(n),
                None => Self::Float(n.as_f64().unwrap_or(f64::NAN)),
            },
            Json::String(s) => Self::Text(s.clone()),
            Json::Array(all) => Self::list(all.iter().map(|v| Self::of(v, kind)).collect()),
            Json::Object(all) => Self::map(kind, all.iter().map(|(k, v)| (k.clone(), Self::of(v, kind)))),
        }
    }

    /// Whether it is small enough to be walked through: a template can make a map that holds itself, or a list that holds
    /// another twice, which holds another twice.
    pub(super) fn is_bounded(&self) -> bool {
        self.walk(DEEPEST, &mut { LARGEST })
    }

    fn walk(&self, depth: usize, left: &mut usize) -> bool {
        if depth == 0 || *left == 0 {
            return false;
        }
        *left -= 1;
        match self {
            Self::List(all) => all.iter().all(|v| v.walk(depth - 1, left)),
            Self::Map(_, all) => all.borrow().values().all(|v| v.walk(depth - 1, left)),
            _ => true,
        }
    }

    /// The same as JSON.
    pub(super) fn to_json(&self) -> serde_json::Value {
        use serde_json::Value as Json;
        match self {
            Self::Nil | Self::Native(_) => Json::Null,
            Self::Bool(b) => (*b).into(),
            Self::Int(n) => (*n).into(),
            Self::Float(n) => (*n).into(),
            Self::Text(s) => s.as_str().into(),
            Self::List(all) => all.iter().map(|v| v.to_json()).collect(),
            Self::Map(_, all) => all.borrow().iter().map(|(k, v)| (k.clone(), v.to_json())).collect(),
        }
    }

    /// Whether it counts as true: what is not nothing, zero or empty.
    pub(super) fn truth(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(n) => *n != 0.0,
            Self::Text(s) => !s.is_empty(),
            Self::List(all) => !all.is_empty(),
            // A struct is there even where none of its fields is set.
            Self::Map(Kind::Struct, _) | Self::Native(_) => true,
            Self::Map(Kind::Map, all) => !all.borrow().is_empty(),
        }
    }

    /// What Go calls such a value.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Nil => "invalid",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float64",
            Self::Text(_) => "string",
            Self::List(_) => "slice",
            Self::Map(Kind::Struct, _) => "struct",
            Self::Map(Kind::Map, _) => "map",
            Self::Native(_) => "func",
        }
    }

    /// The field or entry of this name. Getters of protobuf's messages are their fields, and what is wrapped is what it is
    /// wrapped in.
    pub(super) fn field(&self, name: &str) -> Result<Self, String> {
        match self {
            Self::Nil => Ok(Self::Nil),
            Self::Map(Kind::Map, all) => Ok(all.borrow().get(name).cloned().unwrap_or_default()),
            Self::Map(Kind::Struct, all) => {
                let all = all.borrow();
                let name = name.strip_prefix("Get").filter(|n| n.starts_with(char::is_uppercase)).unwrap_or(name);
                Ok(all.get(name).or_else(|| all.get(&json_name(name))).cloned().unwrap_or_default())
            }
            _ if matches!(name, "GetValue" | "Value" | "String" | "AsInterface") => Ok(self.clone()),
            _ => Err(format!("a {} has no field {name}", self.kind())),
        }
    }

    /// Whether two are the same, as `eq` has it.
    pub(super) fn same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Nil, Self::Text(s)) | (Self::Text(s), Self::Nil) => s.is_empty(),
            (Self::List(a), Self::List(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| a.same(b)),
            (Self::Map(..), Self::Map(..)) => self.to_json() == other.to_json(),
            _ => self.order(other) == Some(Ordering::Equal),
        }
    }

    /// How two numbers or texts compare; nothing where they do not.
    pub(super) fn order(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Text(a), Self::Text(b)) => Some(a.cmp(b)),
            (Self::Bool(a), Self::Bool(b)) if a == b => Some(Ordering::Equal),
            (Self::Int(_) | Self::Float(_), Self::Int(_) | Self::Float(_)) => {
                self.number().partial_cmp(&other.number())
            }
            _ => None,
        }
    }

    /// It as a number; what is none is zero.
    pub(super) fn number(&self) -> f64 {
        match self {
            Self::Int(n) => *n as f64,
            Self::Float(n) => *n,
            Self::Bool(true) => 1.0,
            Self::Text(s) => s.trim().parse().unwrap_or(0.0),
            _ => 0.0,
        }
    }

    /// It as a whole number; what is none is zero.
    pub(super) fn int(&self) -> i64 {
        match self {
            Self::Int(n) => *n,
            Self::Text(s) => super::number::int(s.trim()).unwrap_or_else(|| self.number() as i64),
            other => other.number() as i64,
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<bool> for Value {
    fn from(b: bool) -> Self {
        Self::Bool(b)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

/// What a field of Go is called in JSON: capitals at its beginning are small, but for the last of several, which begins a
/// word.
fn json_name(name: &str) -> String {
    let capitals = name.chars().take_while(char::is_ascii_uppercase).count();
    let small = if capitals > 1 && capitals < name.len() { capitals - 1 } else { capitals };
    name.char_indices().map(|(i, c)| if i < small { c.to_ascii_lowercase() } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_go_are_names_of_json() {
        for (go, json) in [
            ("Containers", "containers"),
            ("HostIP", "hostIP"),
            ("DNSPolicy", "dnsPolicy"),
            ("APIVersion", "apiVersion"),
            ("UID", "uid"),
            ("HTTPGet", "httpGet"),
            ("kind", "kind"),
        ] {
            assert_eq!(json_name(go), json);
        }
    }
}
