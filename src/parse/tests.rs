//! Broken objects, and what is said of each: `testdata/parse/SLUG.yaml` starts with the problems as comments,
//! in order, and goes on with the objects. `BLESS=1` rewrites the comments.

use super::{Context, object};
use crate::model::State;
use serde::Deserialize as _;
use std::{fs, path::Path};

#[test]
fn each_broken_object_is_told_what_is_wrong() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/parse");
    let bless = std::env::var_os("BLESS").is_some();
    let mut files: Vec<_> = fs::read_dir(&root).expect("the cases").map(|e| e.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 70, "{} cases", files.len());
    let mut wrong = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a readable case");
        let at = text.lines().take_while(|l| l.starts_with("# ")).map(|l| l.len() + 1).sum::<usize>();
        let now = said(&text[at..]);
        assert!(!now.is_empty(), "{} has nothing wrong with it", file.display());
        match (now == text[..at], bless) {
            (true, _) => {}
            (false, true) => fs::write(&file, format!("{now}{}", &text[at..])).expect("a writable case"),
            (false, false) => wrong.push(format!("{}\n--- expected\n{}--- now\n{now}", file.display(), &text[..at])),
        }
    }
    assert!(wrong.is_empty(), "{}\nBLESS=1 rewrites them", wrong.join("\n"));
}

/// The problems of each object as comments, and whether the object was refused.
fn said(text: &str) -> String {
    let mut out = String::new();
    for document in serde_norway::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document).expect("YAML");
        let change = object(&value, &Context::default());
        let refused = matches!(change.state, State::Bad);
        for problem in &change.problems {
            out.push_str(&format!("# {problem}{}\n", if refused { " [not served]" } else { "" }));
        }
    }
    out
}
