//! Every field of Istio's kinds, and the case that shows what becomes of it: `docs/fields.md` is written from this.
//!
//! `testdata/fields/KIND` lists the fields of a kind's `spec` as Istio's schemas have them. A field is *served* where
//! a golden case gives another configuration, once the field is taken out of it; it is *told* where a problem names it.
//! A field that no case shows fails the test, and so does the table when it is not what the cases show (`BLESS=1`
//! rewrites it).

use super::golden::{ENVIRONMENT, NODE, PROBLEMS, outputs};
use crate::parse::Context;
use serde::Deserialize;
use serde_json::Value;
use std::{
    cell::OnceCell,
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The kind whose objects are texts in a ConfigMap.
const MESH_CONFIG: &str = "MeshConfig";

/// Fields that no proxy's configuration depends on, and what they are for.
const ELSEWHERE: [(&str, &str, &str); 4] = [
    (MESH_CONFIG, "defaultConfig.", "is for the bootstrap of proxies"),
    ("ProxyConfig", "", "served by injection, which puts the proxy into a pod"),
    ("WorkloadGroup", "probe.", "not served yet by `mainsheet agent`; what Istio's agent finds is taken"),
    ("WorkloadGroup", "", "served in a cluster: the WorkloadEntry of a machine that registers itself is made of it"),
];

/// A policy of a DestinationRule stands at four places and is the same at each; the table has the last.
const PLACES: [&str; 3] =
    ["subsets[].trafficPolicy.portLevelSettings[].", "subsets[].trafficPolicy.", "trafficPolicy.portLevelSettings[]."];
const PLACE: &str = "trafficPolicy.";

type Files = BTreeMap<&'static str, String>;

/// A golden case, with its objects as they are written.
struct Case {
    name: String,
    dir: PathBuf,
    objects: Vec<Value>,
    /// What it gives as it is, once that was asked for.
    before: OnceCell<Files>,
}

/// What becomes of a field.
enum Fate {
    Served { case: String, told: Option<String> },
    Told(String),
    Elsewhere(&'static str),
}

#[test]
fn every_field_of_istios_kinds_is_in_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cases = cases(&root.join("testdata/translate"));
    let scratch = std::env::temp_dir().join(format!("mainsheet-fields-{}", std::process::id()));
    fs::create_dir_all(&scratch).expect("a directory");
    let (mut table, mut missing) = (String::from(HEAD), Vec::new());
    for (kind, fields) in kinds(&root.join("testdata/fields")) {
        let _ = write!(table, "\n## {kind}\n\n| Field | |\n|---|---|\n");
        for field in fields {
            match fate(&cases, &scratch, &kind, &field) {
                Some(fate) => table.push_str(&row(&field, &fate)),
                None => missing.push(format!("{kind} {field}")),
            }
        }
    }
    fs::remove_dir_all(&scratch).expect("the directory");
    assert!(missing.is_empty(), "no case below testdata/translate shows what becomes of:\n{}", missing.join("\n"));
    let path = root.join("docs/fields.md");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&path, &table).expect("the table");
    }
    let written = fs::read_to_string(&path).expect("docs/fields.md");
    assert!(written == table, "docs/fields.md is not what the cases show; BLESS=1 rewrites it");
}

const HEAD: &str = "# Every field of Istio's kinds\n\n\
    Written by `BLESS=1 cargo test --lib fields` from the golden cases: a field is served where taking it out of the\n\
    case changes what the proxy gets. The fields of a DestinationRule's `trafficPolicy` mean the same for a subset, for a\n\
    port, and for a port of a subset.\n";

fn row(field: &str, fate: &Fate) -> String {
    let case = |name: &str| format!("served: [{}](../testdata/translate/{name}/in.yaml)", name.replace('-', " "));
    let text = match fate {
        Fate::Served { case: name, told: None } => case(name),
        Fate::Served { case: name, told: Some(message) } => format!("{}; {message}", case(name)),
        Fate::Told(message) => message.clone(),
        Fate::Elsewhere(why) => (*why).to_owned(),
    };
    format!("| `{field}` | {} |\n", text.replace('|', "\\|"))
}

/// The kinds, and their fields in the order of the schemas.
fn kinds(dir: &Path) -> Vec<(String, Vec<String>)> {
    let mut files: Vec<PathBuf> =
        fs::read_dir(dir).expect("lists of fields").map(|e| e.expect("a list").path()).collect();
    files.sort();
    let read = |path: PathBuf| {
        let text = fs::read_to_string(&path).expect("a list of fields");
        let mut fields: Vec<String> = Vec::new();
        for field in text.lines().map(at_the_host) {
            if !fields.contains(&field) {
                fields.push(field);
            }
        }
        (path.file_name().expect("a name").to_string_lossy().into_owned(), fields)
    };
    files.into_iter().map(read).collect()
}

/// A field of a policy where the policy is the host's.
fn at_the_host(field: &str) -> String {
    let rest = PLACES.iter().find_map(|place| field.strip_prefix(place));
    rest.map_or_else(|| field.to_owned(), |rest| format!("{PLACE}{rest}"))
}

/// The cases, the small ones first.
fn cases(dir: &Path) -> Vec<Case> {
    let mut cases: Vec<Case> =
        fs::read_dir(dir).expect("golden cases").map(|e| case(e.expect("a case").path())).collect();
    cases.sort_by_key(|c| (c.objects.len(), c.name.clone()));
    cases
}

fn case(dir: PathBuf) -> Case {
    let text = fs::read_to_string(dir.join("in.yaml")).expect("in.yaml");
    let objects = serde_norway::Deserializer::from_str(&text);
    let objects = objects.map(|one| Value::deserialize(one).expect("an object")).collect();
    Case {
        name: dir.file_name().expect("a name").to_string_lossy().into_owned(),
        dir,
        objects,
        before: OnceCell::new(),
    }
}

fn fate(cases: &[Case], scratch: &Path, kind: &str, field: &str) -> Option<Fate> {
    let places: Vec<String> = match field.strip_prefix(PLACE) {
        Some(rest) if kind == "DestinationRule" => {
            std::iter::once(PLACE).chain(PLACES).map(|place| format!("{place}{rest}")).collect()
        }
        _ => vec![field.to_owned()],
    };
    let mut told = None;
    for (case, place) in cases.iter().flat_map(|c| places.iter().map(move |p| (c, p))) {
        let Some(without) = without(case, kind, place) else { continue };
        let before = case.before.get_or_init(|| translated(case, &case.objects, scratch));
        let after = translated(case, &without, scratch);
        let found = problem(before, kind, place);
        let refused = found.as_ref().is_some_and(|(severity, _)| severity == "error");
        let message = found.map(|(severity, message)| match &*severity {
            "error" => format!("refused: {message}"),
            _ => format!("warning: {message}"),
        });
        let differs = before.iter().any(|(name, text)| *name != PROBLEMS && after[name] != *text);
        if differs && !refused {
            return Some(Fate::Served { case: case.name.clone(), told: message });
        }
        told = told.or(message);
    }
    told.map(Fate::Told).or_else(|| {
        let matches = |k: &str, prefix: &str| k == kind && field.starts_with(prefix);
        ELSEWHERE.iter().find(|(k, prefix, _)| matches(k, prefix)).map(|(_, _, why)| Fate::Elsewhere(why))
    })
}

/// The case's objects without the field; `None` where none has it.
fn without(case: &Case, kind: &str, field: &str) -> Option<Vec<Value>> {
    let path: Vec<&str> = field.split('.').collect();
    let mut objects = case.objects.clone();
    let mut taken = false;
    for object in &mut objects {
        taken |= match kind {
            MESH_CONFIG => object.pointer_mut("/data/mesh").is_some_and(|text| take_of_mesh(text, &path)),
            _ => object["kind"] == kind && take(&mut object["spec"], &path),
        };
    }
    taken.then_some(objects)
}

/// Takes the field out of the mesh's settings, which are a text within a ConfigMap.
fn take_of_mesh(text: &mut Value, path: &[&str]) -> bool {
    let mut mesh: Value = match text.as_str().map(serde_norway::from_str) {
        Some(Ok(mesh)) => mesh,
        _ => return false,
    };
    let taken = take(&mut mesh, path);
    *text = mesh.to_string().into();
    taken
}

/// Takes the field out wherever the value has it: `a.b[].c` of each element, `a.*.c` of each entry.
fn take(value: &mut Value, path: &[&str]) -> bool {
    let Some((first, rest)) = path.split_first() else { return false };
    let (name, list) = first.strip_suffix("[]").map_or((*first, false), |name| (name, true));
    let Some(fields) = value.as_object_mut() else { return false };
    match rest.is_empty() {
        true => fields.remove(name).is_some(),
        // Every one of them is to be taken, so that nothing here may stop early.
        false if name == "*" => fields.values_mut().fold(false, |any, v| take(v, rest) | any),
        false => match (fields.get_mut(name), list) {
            (Some(Value::Array(all)), true) => all.iter_mut().fold(false, |any, v| take(v, rest) | any),
            (Some(inner), false) => take(inner, rest),
            _ => false,
        },
    }
}

fn translated(case: &Case, objects: &[Value], scratch: &Path) -> Files {
    let text: Vec<String> = objects.iter().map(Value::to_string).collect();
    fs::write(scratch.join("in.yaml"), text.join("\n---\n")).expect("a case");
    fs::copy(case.dir.join(NODE), scratch.join(NODE)).expect("a proxy");
    // Where the case says nothing of the environment, neither does what was left of another one.
    let _ = fs::remove_file(scratch.join(ENVIRONMENT));
    let _ = fs::copy(case.dir.join(ENVIRONMENT), scratch.join(ENVIRONMENT));
    outputs(scratch, &Context::default()).expect("a case that can be read")
}

/// The problem that names the field, or what it is a field of: its severity and message.
fn problem(files: &Files, kind: &str, field: &str) -> Option<(String, String)> {
    let problems: Vec<Value> = serde_norway::from_str(&files[PROBLEMS]).unwrap_or_default();
    let text = |problem: &Value, name: &str| problem[name].as_str().unwrap_or_default().to_owned();
    let field = plain(field);
    let is_above = |path: &str| field.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    let kind = if kind == MESH_CONFIG { "ConfigMap" } else { kind };
    let named = |p: &&Value| p["kind"] == kind && is_above(&plain(&text(p, "path")));
    problems.iter().find(named).map(|p| (text(p, "severity"), text(p, "message")))
}

/// A path without `spec.`, indices and the marks of lists.
fn plain(path: &str) -> String {
    let path = ["spec.", "data.mesh."].iter().find_map(|above| path.strip_prefix(above)).unwrap_or(path);
    let mut plain = String::new();
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    plain
}
