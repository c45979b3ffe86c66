//! `testdata/inject`: what is injected, case by case. `out.yaml` is what is different from the plainest pod's sidecar, which
//! stands in `a-pod-gets-a-sidecar` as a whole; `BLESS=1` rewrites it.

use super::*;
use crate::parse::yaml;
use std::{env, fs, path::Path, sync::Arc};

const PLAIN: &str = "a-pod-gets-a-sidecar";

struct Case {
    input: Value,
    path: String,
    namespace: String,
    native: bool,
    injector: Injector,
}

fn read(path: &Path) -> Value {
    let text = fs::read_to_string(path).unwrap_or_default();
    yaml::value(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The users of namespaces, by their annotations.
fn users(namespaces: &Value) -> Option<Arc<Users>> {
    let mut users = Users::default();
    for (name, annotations) in namespaces.as_object()? {
        users.insert(name, &serde_json::from_value(annotations.clone()).expect("annotations"));
    }
    Some(users.into())
}

impl Case {
    fn load(dir: &Path) -> Self {
        let told = read(&dir.join("settings.yaml"));
        let text = |name: &str, usual: &str| told[name].as_str().unwrap_or(usual).to_owned();
        let map = |name: &str| if told[name].is_null() { json!({}) } else { told[name].clone() };
        let built_in = Settings::built_in().with_values(map("values"));
        let mut config = map("config");
        if config["policy"].is_null() {
            config["policy"] = "enabled".into();
        }
        let mut settings = Settings::parse(&config.to_string(), &built_in.values.to_string()).expect("settings");
        for (name, template) in built_in.templates {
            settings.templates.entry(name).or_insert(template);
        }
        Self {
            input: read(&dir.join("in.yaml")),
            path: text("path", "/inject"),
            namespace: text("namespace", "shop"),
            native: told["native"].as_bool().unwrap_or(true),
            injector: Injector {
                settings,
                mesh: mesh(&map("mesh")),
                revision: text("revision", ""),
                proxies: Proxies::of(told["proxies"].as_array().into_iter().flatten().cloned()),
                users: users(&told["namespaces"]),
            },
        }
    }

    /// A pod goes through the webhook, and through it again.
    fn pod(&self) -> Value {
        let state = State { injector: Ok(self.injector.clone().into()), native: self.native };
        let ask = |pod: &Value| {
            let mut body = question(pod, ["", "v1", "pods"]);
            body["request"]["namespace"] = self.namespace.as_str().into();
            server::answer_pod(&state, &self.path, body.to_string().as_bytes())
        };
        let (answer, outcome) = ask(&self.input);
        match (made(&answer, &self.input), outcome) {
            (Ok(_), Outcome::Skipped(why)) => json!({ "left alone": why }),
            (Err(why), _) => json!({ "refused": why }),
            (Ok(once), _) => {
                assert_eq!(made(&ask(&once).0, &once).expect("a pod"), once, "a second injection changes something");
                once
            }
        }
    }

    /// What comes of it, with pods as what is different from the plainest.
    fn result(&self, plain: Option<&Value>) -> Value {
        let shown = |pod: &Value| match plain {
            Some(plain) if pod["spec"].is_object() => difference(plain, pod).unwrap_or(json!({})),
            _ => pod.clone(),
        };
        if self.input["kind"] == "Pod" {
            return shown(&self.pod());
        }
        match file::object(&self.injector, self.native, &self.input) {
            Err(why) => json!({ "refused": why }),
            Ok((mut object, said)) => {
                assert_eq!(file::object(&self.injector, self.native, &object).expect("an object").0, object);
                show_templates(&mut object, &shown);
                match said.is_empty() {
                    true => object,
                    false => json!({ "said": said, "object": object }),
                }
            }
        }
    }
}

/// Pods within an object, as they are shown.
fn show_templates(object: &mut Value, shown: &impl Fn(&Value) -> Value) {
    for item in object.get_mut("items").and_then(Value::as_array_mut).into_iter().flatten() {
        show_templates(item, shown);
    }
    if object["kind"] == "Pod" {
        *object = shown(object);
    }
    for path in ["/spec/template", "/spec/jobTemplate/spec/template"] {
        if let Some(template) = object.pointer_mut(path) {
            *template = shown(template);
        }
    }
}

/// What one value has that another has not; `null` for what it lacks. Lists of named entries are compared by name, and for
/// containers `$order` has the names where these are others.
fn difference(from: &Value, to: &Value) -> Option<Value> {
    difference_at("", from, to)
}

fn difference_at(name: &str, from: &Value, to: &Value) -> Option<Value> {
    match (from, to) {
        (a, b) if a == b => None,
        (Value::Object(from), Value::Object(to)) => {
            let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null));
            let new = to.iter().filter_map(|(key, value)| match from.get(key) {
                Some(held) => difference_at(key, held, value).map(|d| (key.clone(), d)),
                None => Some((key.clone(), value.clone())),
            });
            Some(Value::Object(gone.chain(new).collect()))
        }
        (Value::Array(from), Value::Array(to)) => match (named(from), named(to)) {
            (Some(from), Some(to)) if !from.is_empty() && !to.is_empty() => {
                let [a, b] = [&from, &to].map(|all| Value::Object(all.iter().cloned().collect()));
                let mut made = difference_at("", &a, &b).unwrap_or(json!({}));
                let [a, b] = [from, to].map(|all| all.into_iter().map(|(name, _)| name).collect::<Vec<_>>());
                if a != b && name.ends_with("ontainers") {
                    made["$order"] = json!(b.join(" "));
                }
                Some(made)
            }
            _ => Some(to.clone().into()),
        },
        (_, to) => Some(to.clone()),
    }
}

fn named(all: &[Value]) -> Option<Vec<(String, Value)>> {
    let one = |entry: &Value| {
        let mut rest = entry.as_object()?.clone();
        let name = rest.remove("name")?.as_str()?.to_owned();
        Some((name, Value::Object(rest)))
    };
    all.iter().map(one).collect()
}

#[test]
fn every_case_is_injected_as_it_was_written_down() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/inject");
    let plain = Case::load(&root.join(PLAIN)).pod();
    let mut dirs: Vec<_> = fs::read_dir(&root).expect("cases").map(|e| e.expect("a case").path()).collect();
    dirs.sort();
    let mut wrong = Vec::new();
    for dir in &dirs {
        let slug = dir.file_name().expect("a name").to_string_lossy();
        println!("{slug}");
        let result = Case::load(dir).result((slug != PLAIN).then_some(&plain));
        let out = dir.join("out.yaml");
        if env::var_os("BLESS").is_some() {
            fs::write(&out, serde_norway::to_string(&result).expect("YAML")).expect("a file");
        }
        if read(&out) != result {
            wrong.push(format!("{slug}:\n{}", serde_norway::to_string(&result).expect("YAML")));
        }
    }
    assert!(wrong.is_empty(), "BLESS=1 rewrites out.yaml of:\n{}", wrong.join("\n"));
    assert!(dirs.len() >= 170, "{} cases", dirs.len());
}
