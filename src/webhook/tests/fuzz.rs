//! What an API server asks, and what users write as templates, changed at random: all of it is answered, and what an
//! answer does to an object can be done.
//!
//! `FUZZ_INPUTS` (2,000 where it is not set) are tried; `FUZZ_SEED` begins elsewhere.

use super::*;
use crate::{
    dice::{Dice, tries},
    parse::Context,
    snapshot::Snapshot,
};
use serde::Deserialize as _;
use std::{fs, path::Path};

const NAMES: [&str; 8] =
    ["sidecar.istio.io/inject", "name", "containers", "initContainers", "proxy.istio.io/config", "spec", "ports", "x"];
const TEXTS: [&str; 9] = ["", "true", "istio-proxy", "{{ .Values }}", "a: [", "-1", "10.0.0.0/40", "\0", "é"];

/// The objects of all cases in a directory, each a file or a directory with one.
fn objects(cases: &str) -> Vec<Value> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata").join(cases);
    let cases = fs::read_dir(dir).expect("cases").map(|case| case.expect("a case").path());
    let texts =
        cases.filter_map(|case| fs::read_to_string(if case.is_dir() { case.join("in.yaml") } else { case }).ok());
    let read = |text: String| -> Vec<Value> {
        serde_norway::Deserializer::from_str(&text).filter_map(|one| Value::deserialize(one).ok()).collect()
    };
    texts.flat_map(read).collect()
}

fn changed(value: &Value, dice: &mut Dice) -> Value {
    let mut value = value.clone();
    (0..=dice.below(3)).for_each(|_| dice.change(&mut value, &NAMES, &TEXTS));
    value
}

/// A question about a changed object, which may be changed itself, or end early.
fn asked(object: &Value, resource: [&str; 3], dice: &mut Dice) -> String {
    let question = question(object, resource);
    let question = if dice.below(4) == 0 { changed(&question, dice) } else { question };
    let mut text = question.to_string();
    if dice.below(20) == 0 {
        let end = dice.below(text.len());
        text.truncate((0..=end).rev().find(|at| text.is_char_boundary(*at)).unwrap_or_default());
    }
    text
}

#[test]
fn pods_changed_at_random_are_left_alone_refused_or_changed_in_a_way_that_can_be() {
    let pods: Vec<Value> = objects("inject").into_iter().filter(|o| o["kind"] == "Pod").collect();
    let state = State { injector: Ok(injector().into()), native: true };
    let mut injected = 0;
    tries(5, |dice| {
        let pod = changed(dice.one_of(&pods), dice);
        let body = asked(&pod, ["", "v1", "pods"], dice);
        let (answer, outcome) = server::answer_pod(&state, "/inject", body.as_bytes());
        let object = serde_json::from_str::<Value>(&body).ok().and_then(|b| b.pointer("/request/object").cloned());
        if let Ok(made) = made(&answer, &object.unwrap_or_default()) {
            injected += usize::from(outcome == Outcome::Injected);
            assert_eq!(outcome == Outcome::Injected, made["spec"].to_string().contains("ISTIO_META_"), "{made}");
        }
    });
    println!("{injected} were injected");
}

#[test]
fn objects_changed_at_random_are_taken_or_refused_for_a_reason() {
    let all: Vec<Value> = ["translate", "parse"].into_iter().flat_map(objects).collect();
    let all: Vec<Value> = all.into_iter().filter(|o| o["apiVersion"].to_string().contains("istio.io")).collect();
    let mut refused = 0;
    tries(2, |dice| {
        let object = changed(dice.one_of(&all), dice);
        let kind = object["kind"].as_str().unwrap_or_default().to_lowercase();
        let body = asked(&object, ["networking.istio.io", "v1", &kind], dice);
        let (answer, _) = server::answer_object(&Context::default(), &Snapshot::default(), body.as_bytes());
        let answer: Value = serde_json::from_slice(&answer).expect("an answer");
        match answer["response"]["allowed"].as_bool().expect("an answer") {
            true => {}
            false => {
                refused += 1;
                assert_ne!(answer["response"]["status"]["message"], "", "{body}");
            }
        }
    });
    println!("{refused} were refused");
}

/// A template with pieces of it left out, put twice, or changed with one another.
fn torn(template: &str, dice: &mut Dice) -> String {
    let mut pieces: Vec<&str> = template.split_inclusive([' ', '\n']).collect();
    for _ in 0..=dice.below(3) {
        let (at, other) = (dice.below(pieces.len()), dice.below(pieces.len()));
        match dice.below(4) {
            0 => drop(pieces.remove(at)),
            1 => pieces.insert(at, pieces[other]),
            2 => pieces.insert(at, *dice.one_of(&["{{ ", " }}", "{{ end }}", "{{ range .Values }}", "$x ", "\" "])),
            _ => pieces.swap(at, other),
        }
    }
    pieces.concat()
}

#[test]
fn templates_changed_at_random_cannot_be_read_or_fail_with_a_reason_or_make_a_pod() {
    let mut settings = Settings::built_in();
    let mut made = 0;
    tries(10, |dice| {
        let text = torn(settings::SIDECAR, dice);
        settings.templates.insert("sidecar".into(), crate::template::Template::parse(&text));
        let state = State { injector: Ok(Injector { settings: settings.clone(), ..injector() }.into()), native: true };
        let body = question(&pod(), ["", "v1", "pods"]).to_string();
        let (answer, outcome) = server::answer_pod(&state, "/inject", body.as_bytes());
        match self::made(&answer, &pod()) {
            Ok(_) => made += usize::from(outcome == Outcome::Injected),
            Err(why) => assert_ne!(why, ""),
        }
    });
    println!("{made} made a pod");
}
