//! What else must be so: `when`.

use super::{
    Broken, Read, Reader, When,
    values::{Written, block, noted, pattern, port, request_principal, trust_domain},
};
use crate::{
    api::authorization_policy::Condition,
    model::{OperationCheck, SourceCheck},
    parse::text,
    problem::FieldPath,
};
use std::sync::Arc;

/// A check of one kind or the other.
enum Either {
    Source(SourceCheck),
    Operation(OperationCheck),
}

impl Reader<'_, '_> {
    /// The checks of `when`.
    pub(super) fn when(&mut self, path: &FieldPath, raw: &[Option<Condition>]) -> Result<When, Broken> {
        let mut all = When::default();
        let mut broken = false;
        for (i, condition) in raw.iter().enumerate() {
            let at = path.index(i);
            let read = match condition {
                Some(condition) => self.condition(&at, condition),
                None => {
                    self.found.error(&at, "is null; write a key and its values");
                    self.gone()
                }
            };
            match read {
                Ok(Some(Either::Source(check))) => all.0.push(check),
                Ok(Some(Either::Operation(check))) => all.1.push(check),
                Ok(None) => {}
                Err(Broken) => broken = true,
            }
        }
        if broken { Err(Broken) } else { Ok(all) }
    }

    fn condition(&mut self, path: &FieldPath, raw: &Condition) -> Read<Either> {
        let key = raw.key.as_str();
        if raw.values.is_empty() && raw.not_values.is_empty() {
            self.found.error(path, "has neither values nor notValues; write at least one");
            return self.gone();
        }
        let refused =
            matches!(key, "source.namespace" | "source.serviceAccount" | "source.trustDomain" | "source.principal")
                || key.starts_with("request.auth.");
        if self.not_with_custom(&path.field("key"), refused, key) {
            return self.gone();
        }
        let written =
            Written { any: (path.field("values"), &raw.values), none: (path.field("notValues"), &raw.not_values) };
        match self.by_key(key, &written) {
            Some(read) => read,
            None => {
                let message = match key {
                    "" => "is missing; write what is to be looked at, as source.ip".to_owned(),
                    _ => format!("`{key}` is not known here; write one such as source.ip or request.headers[x-name]"),
                };
                self.found.error(&path.field("key"), message);
                self.gone()
            }
        }
    }

    /// The check of a key; `None` where there is no such key.
    fn by_key(&mut self, key: &str, written: &Written<'_>) -> Option<Read<Either>> {
        let plain = |t: &str| Ok(pattern(t));
        let read = match key {
            "source.ip" => self.values(written, block).map(|v| v.map(SourceCheck::Ip)),
            "remote.ip" => self.values(written, block).map(|v| v.map(SourceCheck::RemoteIp)),
            "source.namespace" => self.values(written, |t| Ok(t.into())).map(|v| v.map(SourceCheck::Namespace)),
            "source.serviceAccount" => self.accounts(written).map(|v| v.map(SourceCheck::ServiceAccount)),
            "source.trustDomain" => self.values(written, trust_domain).map(|v| v.map(SourceCheck::TrustDomain)),
            "source.principal" => self.principals(written),
            "request.auth.principal" => {
                self.values(written, |t| Ok(request_principal(t))).map(|v| v.map(SourceCheck::RequestPrincipal))
            }
            "request.auth.audiences" => self.values(written, plain).map(|v| v.map(SourceCheck::Audience)),
            "request.auth.presenter" => self.values(written, plain).map(|v| v.map(SourceCheck::Presenter)),
            _ => return self.by_name(key, written),
        };
        Some(read.map(|check| check.map(Either::Source)))
    }

    /// The check of a key with a name in brackets, or of one that is about the operation.
    fn by_name(&mut self, key: &str, written: &Written<'_>) -> Option<Read<Either>> {
        let plain = |t: &str| Ok(pattern(t));
        let operation = match key {
            "destination.ip" => self.values(written, block).map(|v| v.map(OperationCheck::Ip)),
            "destination.port" => self.values(written, port).map(|v| v.map(OperationCheck::Port)),
            "connection.sni" => self.values(written, plain).map(|v| v.map(OperationCheck::Sni)),
            _ => {
                let (name, inside) = key.strip_suffix(']')?.split_once('[').filter(|(_, inside)| !inside.is_empty())?;
                match name {
                    "request.headers" => {
                        text::header_name(inside.strip_prefix(':').unwrap_or(inside)).ok()?;
                        let values = self.values(written, plain);
                        return Some(values.map(|v| v.map(|v| Either::Source(SourceCheck::Header(inside.into(), v)))));
                    }
                    "request.auth.claims" => {
                        let claim = claim(inside)?;
                        let values = self.values(written, plain);
                        return Some(values.map(|v| v.map(|v| Either::Source(SourceCheck::Claim(claim, v)))));
                    }
                    _ => {
                        let filter = name.strip_prefix("experimental.").filter(|n| n.starts_with("envoy.filters."))?;
                        let check = |v| OperationCheck::Noted(filter.into(), inside.into(), v);
                        self.values(written, |t| Ok(noted(t))).map(|v| v.map(check))
                    }
                }
            }
        };
        Some(operation.map(|check| check.map(Either::Operation)))
    }
}

/// The names that lead to a claim: `a][b` of `[a][b]`. What is not such a list is one name.
fn claim(inside: &str) -> Option<Vec<Arc<str>>> {
    let parts: Vec<&str> = inside.split("][").collect();
    match parts.iter().all(|part| !part.contains(['[', ']'])) {
        true if parts.contains(&"") => None,
        true => Some(parts.into_iter().map(Arc::from).collect()),
        false => Some(vec![inside.into()]),
    }
}
