//! Worlds that users did not mean to write: the golden cases with values, fields and objects changed at random. None
//! may stop the translation, and Envoy must accept what comes of each, for a refused resource holds back all others.
//!
//! `FUZZ_WORLDS` (1,500 where it is not set) are translated, of which Envoy judges one in `FUZZ_JUDGED` (15);
//! `FUZZ_SEED` begins elsewhere. A world that fails is kept and named.

use crate::{
    dice::{Dice, number},
    harness::run,
    oracle::{cases, inlined, read_yaml, with_files},
};
use mainsheet::{
    id::ResourceType,
    model::Role,
    parse::Context,
    plan::{Listing, Proxy, World},
    translate::{Config, Direct},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    process::Command,
};

/// Texts that are something to some field and nonsense to others.
pub(crate) const TEXTS: &[&str] = &[
    "",
    " ",
    "*",
    "*.example.com",
    "*example",
    "a..b",
    "-a",
    "A_B",
    "é",
    "a b",
    "a\nb",
    "a\0b",
    "10.0.0.1",
    "10.0.0.0/8",
    "10.0.0.0/33",
    "::1",
    "fe80::1/129",
    "unix:///run/x.sock",
    "/",
    "//",
    "/a b",
    "(",
    "[a",
    "a{1000}{1000}",
    "(a*)*$",
    "\\",
    "^[a-z]+$",
    "0s",
    "-1s",
    "1ms",
    "1ns",
    "0.5s",
    "1h1m1s",
    "99999999h",
    "1e9s",
    ":path",
    ":authority",
    "Host",
    "X-A",
    "x y",
    "%",
    "%%",
    "%REQ(X",
    "%REQ(X)%",
    "%DOWNSTREAM_REMOTE_ADDRESS%",
    "kubernetes://x",
    "configmap://x",
    "outbound|80||x",
    "HTTP",
    "TCP",
    "TLS",
    "mesh",
    ".",
    "~",
    "shop",
    "reviews",
    "reviews.shop.svc.cluster.local",
    "UNAVAILABLE",
    "OK",
    "99",
    "5xx",
    "gateway-error,503",
    "TLSV1_0",
    "r/z/s",
    "r",
    "18446744073709551616",
];
const NUMBERS: &[f64] = &[
    -1.0,
    0.0,
    1e-9,
    0.00001,
    0.5,
    1.0,
    2.0,
    99.0,
    100.0,
    101.0,
    199.0,
    200.0,
    599.0,
    600.0,
    1000.0,
    65535.0,
    65536.0,
    5_000_011.0,
    8_388_609.0,
    2_147_483_647.0,
    2_147_483_648.0,
    4_294_967_295.0,
    4_294_967_296.0,
    9e15,
    1e300,
];

/// A golden case as objects.
struct Seed {
    name: String,
    objects: Vec<Value>,
    proxy: Proxy,
}

/// The values that cases have at each place of each kind.
type Corpus = BTreeMap<String, Vec<Value>>;

#[test]
fn worlds_changed_at_random_are_translated_and_envoy_accepts_what_comes_of_them() {
    let (worlds, judged, start) = (number("FUZZ_WORLDS", 1500), number("FUZZ_JUDGED", 15), number("FUZZ_SEED", 1));
    let seeds = seeds();
    let mut corpus = Corpus::new();
    for object in seeds.iter().flat_map(|s| &s.objects) {
        gather(object["kind"].as_str().unwrap_or_default(), &object["spec"], &mut corpus);
    }
    let (dir, _) = run().part();
    let mut failed = Vec::new();
    for n in start..start + worlds {
        let mut dice = Dice(n);
        let seed = dice.one_of(&seeds);
        let mut objects = seed.objects.clone();
        for _ in 0..=dice.below(4) {
            change(&mut objects, &corpus, &mut dice);
        }
        let file = dir.join("in.yaml");
        fs::write(&file, objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n")).expect("a file");
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            let Some(config) = translated(&file, &seed.proxy) else { return Ok(()) };
            if n % judged == 0 { accepted(&dir, &config) } else { Ok(()) }
        }));
        let why = match outcome {
            Ok(Ok(())) => continue,
            Ok(Err(refused)) => refused,
            Err(_) => "the translation panicked".to_owned(),
        };
        let kept = std::env::temp_dir().join(format!("mainsheet-fuzz-{n}.yaml"));
        fs::copy(&file, &kept).expect("a copy");
        failed.push(format!("FUZZ_SEED={n}, from {}, kept as {}: {why}", seed.name, kept.display()));
    }
    assert!(failed.is_empty(), "{} of {worlds} worlds failed:\n{}", failed.len(), failed.join("\n"));
}

fn seeds() -> Vec<Seed> {
    let seed = |case: crate::oracle::Case| {
        let described: Value = read_yaml(&case.dir.join("node.yaml")).remove(0);
        let role = if described["type"] == "router" { Role::Router } else { Role::Sidecar };
        let proxy = match described["proxy"].as_str() {
            Some(name) => Proxy::Pod { name: name.to_owned(), role },
            None => Proxy::Node(described),
        };
        Seed { name: case.name, objects: case.inputs.iter().flat_map(|p| read_yaml(p)).collect(), proxy }
    };
    cases().into_iter().map(seed).collect()
}

/// Notes each value below `value` under its place.
fn gather(place: &str, value: &Value, corpus: &mut Corpus) {
    let values = corpus.entry(place.to_owned()).or_default();
    if !values.contains(value) {
        values.push(value.clone());
    }
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, v)| gather(&format!("{place}.{name}"), v, corpus)),
        Value::Array(all) => all.iter().for_each(|v| gather(&format!("{place}[]"), v, corpus)),
        _ => {}
    }
}

/// Changes one thing: mostly a place of an object's spec, sometimes the objects there are.
fn change(objects: &mut Vec<Value>, corpus: &Corpus, dice: &mut Dice) {
    let at = dice.below(objects.len());
    match dice.below(12) {
        0 => {
            objects.swap_remove(at);
            if objects.is_empty() {
                objects.push(json!({}));
            }
        }
        1 => {
            let mut twin = objects[at].clone();
            twin["metadata"]["name"] = "twin".into();
            objects.push(twin);
        }
        _ => {
            let place = objects[at]["kind"].as_str().unwrap_or_default().to_owned();
            change_below(&mut objects[at]["spec"], &place, corpus, dice);
        }
    }
}

fn change_below(value: &mut Value, place: &str, corpus: &Corpus, dice: &mut Dice) {
    let deeper = dice.below(6) != 0;
    match value {
        Value::Object(fields) if deeper && !fields.is_empty() => {
            let name = fields.keys().nth(dice.below(fields.len())).expect("a field").clone();
            if dice.below(12) == 0 {
                fields.remove(&name);
                return;
            }
            change_below(&mut fields[&name], &format!("{place}.{name}"), corpus, dice);
        }
        Value::Array(all) if deeper && !all.is_empty() => {
            let at = dice.below(all.len());
            match dice.below(8) {
                0 => all.push(all[at].clone()),
                1 => all.swap(0, at),
                _ => change_below(&mut all[at], &format!("{place}[]"), corpus, dice),
            }
        }
        other => *other = another(other, place, corpus, dice),
    }
}

/// Something else for a place: what another case has there, together with what is there, or nonsense.
fn another(value: &Value, place: &str, corpus: &Corpus, dice: &mut Dice) -> Value {
    let theirs = corpus.get(place).map(|all| dice.one_of(all).clone());
    match (value, theirs) {
        (_, Some(theirs)) if dice.below(4) == 0 => theirs,
        (Value::Object(ours), Some(Value::Object(theirs))) => {
            Value::Object(ours.iter().chain(&theirs).map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        (Value::Bool(on), _) => (!on).into(),
        (Value::Number(_), _) => json!(*dice.one_of(NUMBERS)),
        (Value::String(text), _) => match dice.below(8) {
            0 => "x".repeat(300).into(),
            1 => format!("{text}{}", dice.one_of(TEXTS)).into(),
            2 => json!(*dice.one_of(NUMBERS)),
            _ => (*dice.one_of(TEXTS)).into(),
        },
        _ => match dice.below(4) {
            0 => Value::Null,
            1 => json!({}),
            2 => json!([]),
            _ => json!(*dice.one_of(TEXTS)),
        },
    }
}

/// What the proxy is served; `None` where the world no longer has it.
fn translated(file: &Path, proxy: &Proxy) -> Option<Value> {
    let world = World::load(&[PathBuf::from(file)], None, &Context::default()).expect("a file that is there");
    let node = proxy.resolve(&world.snapshot).ok()?;
    let config = Config::of(&world.snapshot, &node, &Direct);
    let problems = world.problems().chain(config.problems());
    Some(Listing::of(&config, &ResourceType::ALL).to_json(problems))
}

fn accepted(dir: &Path, translated: &Value) -> Result<(), String> {
    let config = dir.join("envoy.json");
    fs::write(&config, with_files(&inlined(translated).to_string())).expect("a file");
    let output = Command::new(run().envoy())
        .args(["--mode", "validate", "--log-level", "error", "-c"])
        .arg(&config)
        .output()
        .expect("Envoy runs");
    let said = String::from_utf8_lossy(&output.stderr);
    // Whether a file is there is for the proxy's own machine to say.
    match output.status.success() || said.contains("Invalid path: ") {
        true => Ok(()),
        false => Err(said.into_owned()),
    }
}
