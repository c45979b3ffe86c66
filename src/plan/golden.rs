//! Golden files: directories that hold a world, a proxy, and what the proxy is to be served.
//!
//! A case is a directory with `in.yaml` (or several `.yaml` files) and a `node.yaml`, which holds an Envoy
//! `Node`, or `proxy: POD.NAMESPACE`. Beside them stand `cds.yaml`, `eds.yaml`, … and `problems.yaml`; a file
//! stands for an empty list when it is not there. `environment.yaml` may name switches of the control plane's environment
//! and what they are set to, which the case then has beside those of the process.

use super::{Listing, Proxy, World};
use crate::{
    id::ResourceType,
    model::Role,
    parse::{self, Context},
    translate::{Config, Direct},
};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use similar::TextDiff;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const OUTPUTS: [(&str, ResourceType); 7] = [
    ("cds.yaml", ResourceType::Cluster),
    ("eds.yaml", ResourceType::Endpoints),
    ("lds.yaml", ResourceType::Listener),
    ("rds.yaml", ResourceType::Route),
    ("sds.yaml", ResourceType::Secret),
    ("ecds.yaml", ResourceType::Extension),
    ("nds.yaml", ResourceType::Names),
];
pub(super) const PROBLEMS: &str = "problems.yaml";
pub(super) const NODE: &str = "node.yaml";
/// The control plane's environment in a case, where it says something: the switches as names and texts.
pub(super) const ENVIRONMENT: &str = "environment.yaml";

/// What came of one case.
#[derive(Debug)]
pub struct Outcome {
    /// The case's directory.
    pub dir: PathBuf,
    /// A unified diff for each file that differs; empty where all are as they should be.
    pub diffs: Vec<String>,
}

/// Runs every case in and below `dirs`, in order. With `bless` the files are rewritten, and those that no longer
/// have anything in them are deleted.
///
/// # Errors
///
/// When there is no case, or one cannot be read or has no usable proxy.
pub fn golden(dirs: &[PathBuf], context: &Context, bless: bool) -> Result<Vec<Outcome>> {
    let mut cases = Vec::new();
    for dir in dirs {
        let before = cases.len();
        find_cases(dir, &mut cases).with_context(|| format!("reading {}", dir.display()))?;
        if cases.len() == before {
            bail!("no case is in {}: a case is a directory with in.yaml and node.yaml", dir.display());
        }
    }
    cases.into_iter().map(|dir| run(dir, context, bless)).collect()
}

fn find_cases(dir: &Path, cases: &mut Vec<PathBuf>) -> std::io::Result<()> {
    if dir.join(NODE).is_file() {
        cases.push(dir.to_path_buf());
        return Ok(());
    }
    let mut below: Vec<PathBuf> = fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    below.sort();
    below.iter().filter(|p| p.is_dir()).try_for_each(|p| find_cases(p, cases))
}

fn run(dir: PathBuf, context: &Context, bless: bool) -> Result<Outcome> {
    let now = outputs(&dir, context).with_context(|| format!("the case {}", dir.display()))?;
    let mut diffs = Vec::new();
    for (name, text) in now {
        let path = dir.join(name);
        let before = fs::read_to_string(&path).unwrap_or_default();
        if before == text {
            continue;
        }
        match (bless, text.is_empty()) {
            (true, true) => fs::remove_file(&path)?,
            (true, false) => fs::write(&path, &text)?,
            (false, _) => diffs.push(diff(&path, &before, &text)),
        }
    }
    Ok(Outcome { dir, diffs })
}

fn diff(path: &Path, before: &str, now: &str) -> String {
    let name = path.display().to_string();
    TextDiff::from_lines(before, now).unified_diff().header(&name, &format!("{name} (now)")).to_string()
}

/// What each output file of a case should hold; empty for one that should not be there.
pub(super) fn outputs(dir: &Path, context: &Context) -> Result<BTreeMap<&'static str, String>> {
    let context = &within(&dir.join(ENVIRONMENT), context)?;
    let world = World::load(&inputs(dir)?, None, context)?;
    let node = proxy(&dir.join(NODE))?.resolve(&world.snapshot)?;
    let config = Config::of(&world.snapshot, &node, &Direct);
    let listing = Listing::of(&config, &OUTPUTS.map(|(_, kind)| kind));
    let mut files = BTreeMap::new();
    for (name, kind) in OUTPUTS {
        files.insert(name, yaml(listing.resources(kind))?);
    }
    let mut problems: Vec<_> = world.problems().chain(config.problems()).collect();
    problems.sort();
    problems.dedup();
    let problems: Vec<Value> = problems.into_iter().map(|p| without_directory(p.to_json())).collect();
    files.insert(PROBLEMS, yaml(&problems)?);
    Ok(files)
}

/// The context with the switches that a file sets, where it is there.
fn within(environment: &Path, context: &Context) -> Result<Context> {
    let mut context = context.clone();
    if environment.is_file() {
        let text = fs::read_to_string(environment)?;
        let switches: BTreeMap<String, String> =
            serde_norway::from_str(&text).with_context(|| format!("reading {}", environment.display()))?;
        let mut mesh = (*context.mesh).clone();
        let switches = switches.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let said = parse::environment(&mut mesh, switches);
        if !said.is_empty() {
            bail!("{}: {}", environment.display(), said.join("; "));
        }
        context.mesh = mesh.into();
    }
    Ok(context)
}

/// The files of a case that describe its world.
fn inputs(dir: &Path) -> Result<Vec<PathBuf>> {
    let is_other =
        |name: &str| [NODE, PROBLEMS, ENVIRONMENT].contains(&name) || OUTPUTS.iter().any(|(n, _)| *n == name);
    let mut inputs = Vec::new();
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let read = path.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json");
        if read && !path.file_name().is_some_and(|n| is_other(&n.to_string_lossy())) {
            inputs.push(path);
        }
    }
    inputs.sort();
    Ok(inputs)
}

/// A problem whose location is without its directory, which depends on where the cases stand.
fn without_directory(mut problem: Value) -> Value {
    if let Some(location) = problem["location"].as_str() {
        problem["location"] = location.rsplit('/').next().unwrap_or(location).into();
    }
    problem
}

fn yaml(list: &[Value]) -> Result<String> {
    match list.is_empty() {
        true => Ok(String::new()),
        false => Ok(serde_norway::to_string(list)?),
    }
}

/// The proxy that a `node.yaml` names.
fn proxy(path: &Path) -> Result<Proxy> {
    let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
    let node: Value = serde_norway::from_str(&text).with_context(|| format!("reading {}", path.display()))?;
    let role = match node["type"].as_str() {
        Some("router") => Role::Router,
        _ => Role::Sidecar,
    };
    match node["proxy"].as_str() {
        Some(name) => Ok(Proxy::Pod { name: name.to_owned(), role }),
        None => Ok(Proxy::Node(node)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        snapshot::Snapshot,
        source::files,
        xds::{Engine, Lease},
    };
    use std::sync::Arc;

    /// Every directory below `testdata/translate` is a case, and each case holds. `BLESS=1` rewrites them.
    #[test]
    fn every_golden_case_holds() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/translate");
        let bless = std::env::var_os("BLESS").is_some();
        let outcomes = golden(std::slice::from_ref(&root), &Context::default(), bless).expect("cases that can be read");
        let diffs: Vec<String> = outcomes.iter().flat_map(|o| o.diffs.clone()).collect();
        assert!(diffs.is_empty(), "{}\nBLESS=1 rewrites them", diffs.join("\n"));
        let dirs = fs::read_dir(&root).expect("the directory of cases").count();
        assert_eq!(dirs, outcomes.len(), "something below {} is not a case", root.display());
        for outcome in &outcomes {
            let known = |name: &str| {
                ["in.yaml", NODE, PROBLEMS, ENVIRONMENT].contains(&name) || OUTPUTS.iter().any(|(n, _)| *n == name)
            };
            for entry in fs::read_dir(&outcome.dir).expect("a case") {
                let name = entry.expect("an entry").file_name().to_string_lossy().into_owned();
                assert!(known(&name), "{}/{name} belongs to no case", outcome.dir.display());
            }
        }
    }

    /// As in a mesh that runs: what is served in the end does not depend on what came when, settings of the mesh among it.
    #[test]
    fn every_case_is_served_the_same_when_its_objects_come_one_by_one() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/translate");
        let mut cases = Vec::new();
        find_cases(&root, &mut cases).expect("the cases");
        for dir in cases {
            let context = within(&dir.join(ENVIRONMENT), &Context::default()).expect("an environment");
            let files = inputs(&dir).expect("files");
            let world = World::load(&files, None, &context).expect("a world");
            let node = proxy(&dir.join(NODE)).expect("a proxy").resolve(&world.snapshot).expect("its node");
            let whole = Config::of(&world.snapshot, &node, &Direct);
            let mut changes = files::load(&files, None, &context).expect("objects");
            for order in ["as written", "backwards"] {
                let engine = Engine::new(Arc::default());
                let mut lease = Lease::new(Arc::new(node.clone()));
                let mut snapshot = Arc::new(Snapshot::new((*context.mesh).clone()));
                engine.advance(&mut lease, &snapshot);
                for change in &changes {
                    snapshot = Arc::new(snapshot.apply([change.clone()]));
                    engine.advance(&mut lease, &snapshot);
                }
                assert_eq!(served(lease.config()), served(&whole), "{} {order}", dir.display());
                changes.reverse();
            }
        }
    }

    fn served(config: &Config) -> Vec<String> {
        let all = ResourceType::ALL.into_iter().flat_map(|kind| config.all(kind));
        let resources = all.map(|r| format!("{:?} {} {} {:?}", r.kind, r.name, r.version_text(), r.origins()));
        let mut served: Vec<String> = resources.chain(config.problems().map(ToString::to_string)).collect();
        served.sort();
        served
    }

    #[test]
    fn a_difference_is_shown_and_blessing_mends_it() {
        let dir = std::env::temp_dir().join(format!("mainsheet-golden-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        let write = |name: &str, text: &str| fs::write(dir.join(name), text).expect("a file");
        write(
            "in.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: n}\nstatus: {podIP: 10.0.0.1}\n---\napiVersion: v9\nkind: Nonsense\nmetadata: {name: x}\n",
        );
        write(NODE, "proxy: a.n\n");
        write("sds.yaml", "left over\n");
        let run =
            |bless| golden(std::slice::from_ref(&dir), &Context::default(), bless).expect("a case").remove(0).diffs;
        let diffs = run(false);
        assert!(diffs.iter().any(|d| d.contains("problems.yaml") && d.contains("kind: Nonsense")), "{diffs:#?}");
        assert!(diffs.iter().any(|d| d.contains("-left over")), "{diffs:#?}");
        assert_eq!(run(true), Vec::<String>::new());
        assert_eq!(run(false), Vec::<String>::new());
        assert!(!dir.join("sds.yaml").exists());
        fs::remove_dir_all(&dir).expect("the directory");
    }
}
