//! AuthorizationPolicies (Istio: `pkg/config/validation/validation.go`, ValidateAuthorizationPolicy, and
//! `pkg/config/security/security.go`).
//!
//! A policy that is wrong somewhere is still in force, and fails closed: what of ALLOW cannot be understood allows
//! nobody, and what of DENY, AUDIT and CUSTOM cannot be understood is not asked for, so that more is denied. Everything
//! else of the policy means what it says.

mod condition;
mod operation;
mod source;
#[cfg(test)]
mod tests;
mod values;

use super::{
    Context, Parsed,
    raw::{meta, typed, typed_spec},
    reach::{part, reach},
    value::Findings,
};
use crate::{
    api::authorization_policy::{self as api, Action},
    model::{AuthorizationPolicy, OperationCheck, PolicyAction, PolicyRule, SourceCheck},
    problem::{FieldPath, Severity},
};
use serde_json::Value;

/// By this annotation a policy is tried out.
const DRY_RUN: &str = "istio.io/dry-run";

/// Reads an AuthorizationPolicy.
pub(super) fn authorization_policy(raw: &Value, _: &Context) -> Parsed<AuthorizationPolicy> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed_spec::<api::AuthorizationPolicy>(&meta.object, raw);
    let mut found = Findings::new(&meta.object, problems);
    if spec.is_some() && !(raw["spec"].is_null() || raw["spec"].is_object()) {
        found.error(&path, "is not a map of fields; write action and rules");
    }
    // What is no policy at all denies what it is for.
    let spec = spec.unwrap_or_default();
    let reach = reach(&mut found, &path, spec.selector.as_ref(), [spec.target_ref.as_ref(), spec.target_refs.as_ref()]);
    let dry_run = dry_run(&mut found, meta.annotations.get(DRY_RUN).map(|v| &**v));
    let (action, rules) = says(&mut found, &path, &spec);
    found.keep(AuthorizationPolicy {
        source: meta.object.clone(),
        created: meta.created,
        reach,
        action,
        dry_run,
        rules,
    })
}

/// As Go reads a truth. A policy whose annotation is none is in force.
fn dry_run(found: &mut Findings<'_>, text: Option<&str>) -> bool {
    match text {
        None | Some("0" | "f" | "F" | "false" | "FALSE" | "False") => false,
        Some("1" | "t" | "T" | "true" | "TRUE" | "True") => true,
        Some(other) => {
            let message = format!("`{other}` is not a truth, so the policy is in force; write \"true\" or \"false\"");
            found.error(&FieldPath::new("metadata.annotations").key(DRY_RUN), message);
            false
        }
    }
}

/// What happens, and by which rules.
fn says(
    found: &mut Findings<'_>,
    path: &FieldPath,
    spec: &api::AuthorizationPolicy,
) -> (PolicyAction, Vec<PolicyRule>) {
    let Ok(action) = part::<Action>(found, &path.field("action"), spec.action.as_ref()) else {
        return (PolicyAction::Allow, Vec::new());
    };
    let action = action.unwrap_or_default();
    let provider = provider(found, &path.field("provider"), spec, action);
    let at = path.field("rules");
    let read = part::<Vec<Value>>(found, &at, spec.rules.as_ref());
    let given = read.as_ref().is_ok_and(|rules| rules.as_ref().is_some_and(|r| !r.is_empty()));
    if read.is_ok() && !given && matches!(action, Action::Deny | Action::Custom) {
        found.error(&at, "are missing, so nothing is ever taken; write `rules: [{}]` for every request");
    }
    let mut reader = Reader { found, action };
    let rules = match &read {
        // What of a DENY cannot be read may be about anything.
        Err(()) => reader.everything(0).into_iter().collect(),
        Ok(rules) => {
            let rules = rules.iter().flatten().enumerate();
            rules.filter_map(|(i, rule)| reader.rule(&at.index(i), i, rule)).collect()
        }
    };
    let action = match (action, provider) {
        (Action::Allow, _) => PolicyAction::Allow,
        (Action::Audit, _) => PolicyAction::Audit,
        (Action::Custom, Some(provider)) => PolicyAction::Custom(provider.name.as_str().into()),
        // Nobody can be asked.
        (Action::Deny | Action::Custom, _) => PolicyAction::Deny,
    };
    (action, rules)
}

/// Who is asked.
fn provider(
    found: &mut Findings<'_>,
    path: &FieldPath,
    spec: &api::AuthorizationPolicy,
    action: Action,
) -> Option<api::Provider> {
    let provider = part::<api::Provider>(found, path, spec.provider.as_ref());
    match (action, provider) {
        (Action::Custom, Ok(Some(provider))) if !provider.name.is_empty() => return Some(provider),
        (Action::Custom, Ok(_)) => found.error(
            &path.field("name"),
            "is missing, so all that the rules take is denied; write the name of one of the mesh's extensionProviders",
        ),
        (_, Ok(Some(_))) => found.error(path, "is for the action CUSTOM alone; leave it out, or write action: CUSTOM"),
        _ => {}
    }
    None
}

/// Stands for a check that nobody may pass, as it could not be understood.
struct Broken;

/// A check, if anything is asked for.
type Read<T> = Result<Option<T>, Broken>;

/// The checks of `when` by what they are about.
type When = (Vec<SourceCheck>, Vec<OperationCheck>);

/// Reads the rules of one policy.
struct Reader<'a, 'b> {
    found: &'a mut Findings<'b>,
    action: Action,
}

impl Reader<'_, '_> {
    /// Whether what cannot be understood must hold nobody back from being refused: it takes nothing, rather than all.
    fn narrow(&self) -> bool {
        self.action == Action::Allow
    }

    /// The rule in place of one that cannot be understood.
    fn everything(&self, at: usize) -> Option<PolicyRule> {
        (!self.narrow()).then(|| PolicyRule { at, sources: vec![Vec::new()], operations: vec![Vec::new()] })
    }

    fn rule(&mut self, path: &FieldPath, at: usize, raw: &Value) -> Option<PolicyRule> {
        if raw.is_null() {
            self.found.error(path, "is null; write {} for a rule that takes everything");
            return self.everything(at);
        }
        let (rule, problems) = typed::<api::Rule>(self.found.object(), path, raw);
        // A field that nobody knows was meant to narrow the rule.
        let unknown = !problems.is_empty();
        self.found.extend(problems.into_iter().map(|mut problem| {
            problem.severity = Severity::Error;
            problem
        }));
        if !raw.is_object() && rule.is_some() {
            self.found.error(path, "is not a map of fields; write from, to and when");
        }
        let rule = rule.filter(|_| raw.is_object() && (!unknown || !self.narrow()));
        let Some(rule) = rule else { return self.everything(at) };
        let read = self.read(path, at, &rule);
        if let Some(read) = &read {
            self.note_bytes(path, &rule, read);
        }
        read
    }

    fn read(&mut self, path: &FieldPath, at: usize, rule: &api::Rule) -> Option<PolicyRule> {
        let when = self.when(&path.field("when"), rule.when.as_deref().unwrap_or_default()).ok();
        let sources = self.entries(&path.field("from"), rule.from.as_deref(), |reader, path, entry: &api::From| {
            let at = path.field("source");
            match &entry.source {
                Some(source) => reader.source(&at, source),
                None => reader.missing(&at),
            }
        });
        let operations = self.entries(&path.field("to"), rule.to.as_deref(), |reader, path, entry: &api::To| {
            let at = path.field("operation");
            match &entry.operation {
                Some(operation) => reader.operation(&at, operation),
                None => reader.missing(&at),
            }
        });
        let (of_source, of_operation) = when?;
        let with = |list: Vec<_>| list.into_iter().chain(of_source.iter().cloned()).collect();
        let sources: Vec<Vec<SourceCheck>> = sources?.into_iter().map(with).collect();
        let with = |list: Vec<_>| list.into_iter().chain(of_operation.iter().cloned()).collect();
        let operations: Vec<Vec<OperationCheck>> = operations?.into_iter().map(with).collect();
        Some(PolicyRule { at, sources, operations })
    }

    /// The entries of `from` or `to`; without any, one that takes everything. `None` where nothing is left that could
    /// take anything.
    fn entries<E, C>(
        &mut self,
        path: &FieldPath,
        entries: Option<&[Option<E>]>,
        read: impl Fn(&mut Self, &FieldPath, &E) -> Result<Vec<C>, Broken>,
    ) -> Option<Vec<Vec<C>>> {
        let Some(entries) = entries else { return Some(vec![Vec::new()]) };
        if entries.is_empty() {
            self.found.error(path, "is empty; leave it out where everything is meant");
            return (!self.narrow()).then(|| vec![Vec::new()]);
        }
        let mut all = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            let at = path.index(i);
            let checks = match entry {
                Some(entry) => read(self, &at, entry),
                None => self.missing(&at),
            };
            all.extend(checks.ok());
        }
        (!all.is_empty()).then_some(all)
    }

    /// What is to be said where something has to be and is not.
    fn missing<C>(&mut self, path: &FieldPath) -> Result<Vec<C>, Broken> {
        self.found.error(path, "is missing or empty; say what is to be taken, or leave the whole entry out");
        self.gone().map(|_: Option<C>| Vec::new())
    }

    /// In place of a check that cannot be understood.
    fn gone<T>(&self) -> Read<T> {
        if self.narrow() { Err(Broken) } else { Ok(None) }
    }

    /// Says where a DENY rule denies every connection, because connections have nothing of what it asks for.
    fn note_bytes(&mut self, path: &FieldPath, rule: &api::Rule, read: &PolicyRule) {
        let of_bytes = |given: bool, all: bool| given && !all;
        let from = rule.from.is_some();
        let from_bytes = read.sources.iter().flatten().any(|check| !check.needs_requests());
        let to_bytes = read.operations.iter().flatten().any(|check| matches!(check, OperationCheck::Port(_)));
        let only_requests = match rule.to {
            Some(_) => of_bytes(true, to_bytes),
            None => of_bytes(from, from_bytes),
        };
        if self.action == Action::Deny && only_requests {
            let message = "asks only for what requests have, so it denies all connections to TCP ports; name the ports \
                           that it is for in to.operation.ports";
            self.found.warn(path, message);
        }
    }
}
