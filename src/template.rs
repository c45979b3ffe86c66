//! Go's `text/template`, as far as templates of injection and of Helm's charts use it: the language itself, its own
//! functions, those of Istio's injection or of Helm, and those of sprig that look at nothing but their arguments.
//!
//! [`Template::parse`] makes a tree of the text once; [`Template::run`] fills it in. A [`Library`] is several that call
//! each other by name, as those of a chart do. A template may be anything its author
//! can think of, so both have bounds: how deep it nests, how many steps it takes, how much it writes.
//! What is not there (a field, an entry of a map) is nothing and prints as nothing, also where Go would stop or print
//! `<no value>`.

mod functions;
mod lex;
mod library;
mod number;
mod parse;
mod print;
mod run;
#[cfg(test)]
mod tests;
mod value;

pub use library::Library;
pub use value::{Kind, Native, Value};

use std::fmt;

/// Whose functions a template may call, where two know one by the same name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Dialect {
    /// Istio's injection.
    Injection,
    /// Helm.
    Chart,
}

/// A template that was read.
#[derive(Clone, Debug)]
pub struct Template {
    tree: parse::Tree,
}

/// Why a template cannot be read or filled in.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Error {
    /// The line of the template, from 1; 0 where it has none.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

impl std::error::Error for Error {}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    ///
    /// When it is no template, or names a function that there is not.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self { tree: parse::parse(text, Dialect::Injection)? })
    }

    /// Fills it in.
    ///
    /// # Errors
    ///
    /// When a function is given what it cannot work with, `fail` is called, or a bound is reached.
    pub fn run(&self, data: &Value) -> Result<String, Error> {
        run::run(&self.tree.nodes, (&self.tree.defined, Dialect::Injection), data)
    }
}

/// The settings of a proxy where nobody says anything: templates see them, and `protoToJSON` leaves them out.
pub fn proxy_defaults() -> serde_json::Value {
    functions::proxy_defaults()
}
