//! What is asked for: `to`.

use super::{
    Broken, Reader,
    values::{Written, path as path_pattern, pattern, port},
};
use crate::{api::authorization_policy::Operation, model::OperationCheck, problem::FieldPath};

impl Reader<'_, '_> {
    /// The checks of an operation, in the order in which Envoy is told of them.
    pub(super) fn operation(&mut self, path: &FieldPath, raw: &Operation) -> Result<Vec<OperationCheck>, Broken> {
        let lists: [(&str, &[String], &[String]); 4] = [
            ("hosts", &raw.hosts, &raw.not_hosts),
            ("methods", &raw.methods, &raw.not_methods),
            ("paths", &raw.paths, &raw.not_paths),
            ("ports", &raw.ports, &raw.not_ports),
        ];
        if lists.iter().all(|(_, any, none)| any.is_empty() && none.is_empty()) {
            return self.missing(path);
        }
        let mut checks = Vec::new();
        let mut broken = false;
        for (name, any, none) in lists {
            let written = Written::fields(path, name, any, none);
            let check = match name {
                "hosts" => self.values(&written, |t| Ok(pattern(t))).map(|v| v.map(OperationCheck::Host)),
                "methods" => self.values(&written, |t| Ok(pattern(t))).map(|v| v.map(OperationCheck::Method)),
                "paths" => self.values(&written, path_pattern).map(|v| v.map(OperationCheck::Path)),
                _ => self.values(&written, port).map(|v| v.map(OperationCheck::Port)),
            };
            match check {
                Ok(check) => checks.extend(check),
                Err(Broken) => broken = true,
            }
        }
        if broken { Err(Broken) } else { Ok(checks) }
    }
}
