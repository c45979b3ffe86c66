//! Templates that call each other by name.

use super::{
    Dialect, Error, Value,
    parse::{self, Defined, Node},
    run,
};
use std::collections::BTreeMap;

/// Templates that see what each other define, with the functions of Helm: what the templates of a chart are.
#[derive(Debug, Default)]
pub struct Library {
    files: BTreeMap<String, Vec<Node>>,
    defined: Defined,
}

impl Library {
    /// Reads one more. What it defines counts in all, also where another has defined it before.
    ///
    /// # Errors
    ///
    /// When it is no template, or names a function that there is not.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), Error> {
        let tree = parse::parse(text, Dialect::Chart)?;
        self.defined.extend(tree.defined);
        self.files.insert(name.to_owned(), tree.nodes);
        Ok(())
    }

    /// Fills one of them in.
    ///
    /// # Errors
    ///
    /// When there is none of this name, a function is given what it cannot work with, `fail` is called, or a bound is
    /// reached.
    pub fn run(&self, name: &str, data: &Value) -> Result<String, Error> {
        let missing = || Error { line: 0, message: format!("the template \"{name}\" is not there") };
        run::run(self.files.get(name).ok_or_else(missing)?, (&self.defined, Dialect::Chart), data)
    }
}
