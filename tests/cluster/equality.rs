//! The same objects in files and in a cluster come to the same bytes.

use crate::harness::{Watching, documents, with_shared};
use mainsheet::{model::Role, plan::Proxy};
use serde_json::Value;
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What a case holds beside its world.
const OTHERS: [&str; 9] =
    ["node.yaml", "cds.yaml", "eds.yaml", "lds.yaml", "rds.yaml", "sds.yaml", "ecds.yaml", "nds.yaml", "problems.yaml"];
/// Kinds that stand for pods in files, and make some in a cluster.
const WORKLOADS: [&str; 5] = ["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Endpoints"];

fn entries(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<PathBuf> =
        fs::read_dir(dir).expect("a directory").map(|e| e.expect("an entry").path()).collect();
    paths.sort();
    paths
}

/// The objects of a case, and its proxy.
fn case(dir: &Path) -> (Vec<Value>, Proxy) {
    let name = |p: &PathBuf| p.file_name().expect("a name").to_string_lossy().into_owned();
    let text = |p: &PathBuf| fs::read_to_string(p).expect("a file");
    let worlds = entries(dir).into_iter().filter(|p| !OTHERS.contains(&name(p).as_str()));
    let objects = worlds.flat_map(|p| documents(&text(&p)));
    let node = mainsheet::parse::yaml::value(&text(&dir.join("node.yaml"))).expect("YAML");
    let role = if node["type"] == "router" { Role::Router } else { Role::Sidecar };
    let proxy = match node["proxy"].as_str() {
        Some(name) => Proxy::Pod { name: name.to_owned(), role },
        None => Proxy::Node(node),
    };
    (objects.filter(|o| !WORKLOADS.iter().any(|kind| o["kind"] == *kind)).collect(), proxy)
}

#[test]
fn every_golden_case_comes_to_the_same_bytes_from_files_and_from_a_cluster() {
    with_shared(async |server| {
        let objects = server.objects();
        // One source sees all worlds come and go, as a control plane does that runs for long.
        let watching = Watching::start(server.client()).await;
        let (mut served, mut partly, mut empty) = (0, Vec::new(), Vec::new());
        let dirs = entries(&Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/translate"));
        for dir in &dirs {
            let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
            let (world, proxy) = case(dir);
            let refused = objects.offer(&world).await;
            match watching.agrees(&objects, &proxy).await.len() {
                0 => empty.push(name.clone()),
                _ => served += 1,
            }
            if !refused.is_empty() {
                partly.push(format!("{name}: {}", refused.join("; ")));
            }
            objects.clear().await;
        }
        println!("{served} of {} cases gave the same bytes; refused in {}: {partly:#?}", dirs.len(), partly.len());
        println!("nothing was served in {empty:?}");
        assert!(partly.len() < 10, "what is refused is compared by nobody");
        assert!(served * 20 >= dirs.len() * 19, "only {served} of {} cases could be compared", dirs.len());
    });
}
