//! The definitions are those that are checked in, and have the fields of Istio's kinds.

use super::{definitions, kinds::SERVED, object, rules};
use serde::Deserialize as _;
use serde_json::Value;
use std::{fmt::Write as _, fs, path::Path};

/// Where they are kept for those who install.
const FILE: &str = "deploy/charts/base/files/crd-all.gen.yaml";

#[test]
fn the_checked_in_definitions_are_those_of_the_types() {
    let mut text = String::from("# Made from src/api by `BLESS=1 cargo test --lib schema`.\n");
    for definition in definitions() {
        let _ = write!(text, "---\n{}", serde_norway::to_string(&definition).expect("YAML"));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(FILE);
    if std::env::var_os("BLESS").is_some() {
        fs::create_dir_all(path.parent().expect("a directory")).expect("a directory");
        fs::write(&path, &text).expect("the definitions");
    }
    let written = fs::read_to_string(&path).unwrap_or_default();
    assert!(written == text, "{FILE} is not what the types make; BLESS=1 rewrites it");
}

#[test]
fn every_field_of_istios_kinds_is_in_its_definition() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut missing = Vec::new();
    for kind in SERVED {
        let listed = fs::read_to_string(root.join("testdata/fields").join(kind.of.name)).expect("a list of fields");
        let paths = paths(&object(kind)["properties"]["spec"]);
        let bare = |path: &str| path.trim_end_matches("[]").to_owned();
        let there = |field: &str| paths.iter().any(|path| bare(path) == bare(field));
        missing.extend(listed.lines().filter(|f| !there(f)).map(|field| format!("{} {field}", kind.of.name)));
    }
    assert!(missing.is_empty(), "no definition has\n{}", missing.join("\n"));
}

#[test]
fn every_rule_holds_somewhere() {
    let kinds: Vec<_> = SERVED.iter().map(|kind| (kind.of.name, paths(&object(kind)["properties"]["spec"]))).collect();
    assert_eq!(rules::idle(&kinds), Vec::<String>::new());
}

#[test]
fn an_object_of_each_golden_case_has_only_fields_of_its_definition() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/translate");
    let mut strange = Vec::new();
    for case in fs::read_dir(root).expect("golden cases") {
        let path = case.expect("a case").path();
        let text = fs::read_to_string(path.join("in.yaml")).expect("in.yaml");
        for one in serde_norway::Deserializer::from_str(&text) {
            let raw = Value::deserialize(one).expect("an object");
            let Some(kind) = SERVED.iter().find(|k| {
                raw["kind"] == k.of.name && raw["apiVersion"].as_str().is_some_and(|v| v.starts_with(k.of.group))
            }) else {
                continue;
            };
            stray(&raw["spec"], &object(kind)["properties"]["spec"], kind.of.name, &mut strange);
        }
    }
    strange.sort();
    strange.dedup();
    assert_eq!(strange, Vec::<String>::new());
}

/// Fields of a value that a schema does not have.
fn stray(value: &Value, schema: &Value, path: &str, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let known = &schema["properties"][name.as_str()];
                let known = if known.is_null() { &schema["additionalProperties"] } else { known };
                match known.is_null() {
                    true => found.push(format!("{path}.{name}")),
                    false => stray(inner, known, &format!("{path}.{name}"), found),
                }
            }
        }
        Value::Array(all) => all.iter().for_each(|inner| stray(inner, &schema["items"], &format!("{path}[]"), found)),
        _ => {}
    }
}

/// The path of each field of a schema.
fn paths(schema: &Value) -> Vec<String> {
    fn walk(schema: &Value, path: &str, found: &mut Vec<String>) {
        found.push(path.to_owned());
        for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
            walk(inner, &if path.is_empty() { name.clone() } else { format!("{path}.{name}") }, found);
        }
        if schema["items"].is_object() {
            walk(&schema["items"], &format!("{path}[]"), found);
        }
        if schema["additionalProperties"].is_object() {
            walk(&schema["additionalProperties"], &format!("{path}.*"), found);
        }
    }
    let mut found = Vec::new();
    walk(schema, "", &mut found);
    found
}
