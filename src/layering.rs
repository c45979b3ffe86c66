//! Holds the crate to its shape: who may know whom, how long a file may be, and what pure rooms may not say.

mod threats;

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// The rooms, the lowest first. A room may name only rooms of lower ranks.
const RANKS: &[&[&str]] = &[
    &["pb", "id", "prometheus", "template", "tls", "dice"],
    &["problem"],
    &["api", "model", "config", "capture"],
    &["parse", "snapshot", "peer", "bootstrap", "hostnet"],
    &["translate", "store"],
    &["source", "xds", "ca", "webhook"],
    &["controller", "debug", "agent", "plan", "cni", "install"],
    &["app", "survey"],
    &["cli"],
];
/// Rooms whose results depend on nothing but their arguments.
const PURE: &[&str] =
    &["id", "problem", "api", "model", "parse", "snapshot", "bootstrap", "template", "translate", "capture"];
const IMPURE: &[&str] = &[
    "tokio",
    "tonic",
    "kube::",
    "std::env",
    "std::fs",
    "SystemTime",
    "Instant::",
    "rand::",
    "tracing::",
    "static mut",
    "OnceLock",
    "LazyLock",
    "Mutex",
    "RwLock",
    "println!",
    "HashMap",
];
const BANNED: &[&str] =
    &["util", "utils", "helper", "helpers", "common", "misc", "types", "manager", "impl", "base", "core", "mod"];
const MAX_LINES: usize = 600;

#[test]
fn rooms_only_look_down() {
    let found = violations(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn a_breach_of_each_rule_is_found() {
    let dir = std::env::temp_dir().join(format!("mainsheet-layering-{}", std::process::id()));
    fs::create_dir_all(dir.join("snapshot")).expect("a directory");
    let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("a file");
    write("snapshot.rs", "//! s\nuse crate::{id, translate::Part};\n");
    write("snapshot/util.rs", "fn now() { std::time::SystemTime::now(); }\n");
    write("attic.rs", "//! a\n");
    write("xds.rs", &format!("//! x\n{}", "\n".repeat(MAX_LINES)));
    let found = violations(&dir);
    fs::remove_dir_all(&dir).expect("the directory");
    let has = |text: &str| assert!(found.iter().any(|f| f.contains(text)), "no {text} in {found:#?}");
    has("snapshot.rs: names translate, which is above it");
    has("snapshot/util.rs: no `//!` line");
    has("snapshot/util.rs: says SystemTime in a pure room");
    has("snapshot/util.rs: a name that says nothing");
    has("attic.rs: a room without a rank");
    has("xds.rs: 601 lines");
    assert_eq!(found.len(), 6, "{found:#?}");
}

fn violations(src: &Path) -> Vec<String> {
    let mut files = Vec::new();
    walk(src, &mut files);
    let mut found = BTreeSet::new();
    for file in files {
        let name = file.strip_prefix(src).expect("a file below src").display().to_string();
        let room = name.split('/').next().unwrap_or_default().trim_end_matches(".rs").to_owned();
        if matches!(room.as_str(), "lib" | "main" | "layering") {
            continue;
        }
        let text = fs::read_to_string(&file).expect("a readable file");
        for finding in check(&name, &room, &text) {
            found.insert(format!("{name}: {finding}"));
        }
    }
    found.into_iter().collect()
}

/// What one file does wrong.
fn check(name: &str, room: &str, text: &str) -> Vec<String> {
    let rank = |room: &str| RANKS.iter().position(|rooms| rooms.contains(&room));
    let Some(mine) = rank(room) else { return vec!["a room without a rank".into()] };
    let mut found = Vec::new();
    let tests = name.ends_with("/tests.rs") || name.contains("/tests/");
    let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
    if !text.starts_with("//!") {
        found.push("no `//!` line".into());
    }
    if !tests && code.lines().count() > MAX_LINES {
        found.push(format!("{} lines, {MAX_LINES} are allowed", code.lines().count()));
    }
    if code.contains("super::super") {
        found.push("reaches past its room with super::super".into());
    }
    if Path::new(name).components().any(|c| BANNED.contains(&c.as_os_str().to_string_lossy().trim_end_matches(".rs"))) {
        found.push("a name that says nothing".into());
    }
    if !tests && PURE.contains(&room) {
        found.extend(IMPURE.iter().filter(|w| code.contains(**w)).map(|w| format!("says {w} in a pure room")));
    }
    for other in named(code).iter().filter(|r| *r != room) {
        if !tests && rank(other).is_some_and(|r| r >= mine) {
            found.push(format!("names {other}, which is above it"));
        }
    }
    found
}

/// The rooms that a text names: what follows `crate::`, also within braces.
fn named(text: &str) -> BTreeSet<String> {
    let code: String = text.lines().map(|l| l.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n");
    let word = |s: &str| s.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let mut rooms = BTreeSet::new();
    for (at, found) in code.match_indices("crate::") {
        let rest = &code[at + found.len()..];
        let Some(list) = rest.strip_prefix('{') else {
            rooms.insert(word(rest));
            continue;
        };
        let mut depth = 0;
        let mut start = 0;
        for (i, c) in list.char_indices() {
            match c {
                '{' => depth += 1,
                '}' if depth == 0 => {
                    rooms.insert(word(&list[start..i]));
                    break;
                }
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    rooms.insert(word(&list[start..i]));
                    start = i + 1;
                }
                _ => {}
            }
        }
    }
    rooms.remove("");
    rooms
}

fn walk(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).expect("a readable directory") {
        let path = entry.expect("a directory entry").path();
        match path.is_dir() {
            true => walk(&path, files),
            false if path.extension().is_some_and(|e| e == "rs") => files.push(path),
            false => {}
        }
    }
}
