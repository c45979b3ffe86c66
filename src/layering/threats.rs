//! Holds `docs/security.md` to the tests: each line of its tables names what holds it, and that is there.
//!
//! A test is named by the path of its module, `ca::tests::a_certificate_says_…`, where `…` stands for the rest of a name
//! and `*` for all of a module; anything with a `/` is a file or a directory of the source tree.

use super::walk;
use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn each_threat_names_the_tests_that_hold_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/security.md")).expect("the document");
    let tests = tests(root);
    let mut wrong = Vec::new();
    let mut lines = 0;
    let rows =
        text.lines().filter(|line| line.starts_with('|') && !line.starts_with("|--") && !line.starts_with("| Threat"));
    for line in rows {
        lines += 1;
        let named = line.trim_end_matches([' ', '|']).rsplit(" | ").next().unwrap_or_default();
        let names: Vec<&str> = named.split('`').skip(1).step_by(2).collect();
        if names.is_empty() {
            wrong.push(format!("nothing holds: {line}"));
        }
        wrong.extend(
            names.iter().filter(|name| !is_there(root, &tests, name)).map(|name| format!("there is no {name}")),
        );
    }
    assert!(lines > 20 && wrong.is_empty(), "{lines} lines: {wrong:#?}");
}

fn is_there(root: &Path, tests: &BTreeSet<String>, name: &str) -> bool {
    match (name.contains('/'), name.strip_suffix('…').or_else(|| name.strip_suffix('*'))) {
        (true, None) => root.join(name).exists(),
        (true, Some(start)) => {
            let (dir, start) = start.rsplit_once('/').unwrap_or_default();
            let mut entries = fs::read_dir(root.join(dir)).into_iter().flatten().flatten();
            entries.any(|entry| entry.file_name().to_string_lossy().starts_with(start))
        }
        (false, None) => tests.contains(name),
        (false, Some(start)) => {
            start.contains("::") && tests.range(start.to_owned()..).next().is_some_and(|t| t.starts_with(start))
        }
    }
}

/// The tests of the crate and those with real Envoys, by their paths.
fn tests(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for dir in ["src", "tests/mesh"] {
        let dir = root.join(dir);
        let mut files = Vec::new();
        walk(&dir, &mut files);
        for file in files {
            let text = fs::read_to_string(&file).expect("a readable file");
            let path = file.strip_prefix(&dir).expect("a file below it").with_extension("").display().to_string();
            let module = path.replace('/', "::");
            let (code, within) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((&text, ""));
            found.extend(names(code).map(|name| format!("{module}::{name}")));
            found.extend(names(within).map(|name| format!("{module}::tests::{name}")));
        }
    }
    found
}

/// The names of the functions that follow `#[test]` or its like.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let marked = text.match_indices("test]\n").chain(text.match_indices("test(")).map(|(at, _)| &text[at..]);
    marked.filter_map(|rest| rest.split_once("fn ")?.1.split(['(', '<']).next())
}
