//! Generates the protobuf code and the descriptors.
//!
//! The descriptors of Envoy's API come with the `envoy-types` package, those of our own protos from
//! here. The code is generated here rather than taken from that package because two choices matter
//! to a control plane: map fields are `BTreeMap`s, so that equal messages have equal bytes, and byte
//! fields are `Bytes`, so that a thousand proxies share one encoded resource.

use prost::Message;
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What code is generated for: these files and all that they import.
const ROOTS: &str = include_str!("roots.txt");

/// Our own files.
const OWN: &[&str] = &["grpc/health/v1/health.proto", "istio/networking/nds/v1/nds.proto", "istio/v1/auth/ca.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    for what in ["build.rs", "roots.txt", "grpc", "istio"] {
        println!("cargo:rerun-if-changed={what}");
    }
    println!("cargo:rerun-if-changed=../Cargo.lock");
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let package = package_dir("envoy-types")?;
    let bytes = fs::read(package.join("src/generated/types.bin"))?;
    let mut all = FileDescriptorSet::decode(&*bytes)?;
    let mut code = closure(&all, ROOTS.lines().filter(|l| !l.is_empty() && !l.starts_with('#')))?;
    // What our own files import is there already.
    let own = protox::compile(OWN, ["."])?;
    code.file.extend(own.file.into_iter().filter(|f| OWN.contains(&f.name())));
    // What is decoded at run time has no comments, which are four fifths of the bytes.
    for (set, name) in [(&mut code, "served.bin"), (&mut all, "all.bin")] {
        set.file.iter_mut().for_each(|file| file.source_code_info = None);
        fs::write(out.join(name), set.encode_to_vec())?;
    }
    let dir = out.join("pb");
    fs::create_dir_all(&dir)?;
    let mut prost = prost_build::Config::new();
    prost
        .btree_map(["."])
        .bytes(["."])
        .compile_well_known_types()
        .enable_type_names()
        .type_name_domain(["."], "type.googleapis.com")
        .disable_comments(["."]);
    tonic_prost_build::configure()
        .compile_well_known_types(true)
        .build_transport(false)
        .out_dir(&dir)
        .include_file("mod.rs")
        .compile_fds_with_config(code, prost)?;
    Ok(())
}

/// The directory of a package that this one depends on.
fn package_dir(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let output = Command::new(env::var("CARGO")?)
        // Packages for other platforms need not be here.
        .args(["metadata", "--format-version=1", "--offline", "--filter-platform", &env::var("TARGET")?])
        .arg("--manifest-path")
        .arg(Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("Cargo.toml"))
        .output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)
        .map_err(|e| format!("cargo metadata: {e}: {}", String::from_utf8_lossy(&output.stderr)))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;
    let package = packages.iter().find(|p| p["name"] == name).ok_or_else(|| format!("no package {name}"))?;
    let manifest = package["manifest_path"].as_str().ok_or("a package without a manifest")?;
    Ok(Path::new(manifest).parent().ok_or("a manifest without a directory")?.to_path_buf())
}

/// The files named by `roots` and everything that they import, in the order of `all`.
fn closure<'a>(
    all: &FileDescriptorSet,
    roots: impl Iterator<Item = &'a str>,
) -> Result<FileDescriptorSet, Box<dyn Error>> {
    let by_name: BTreeMap<&str, &FileDescriptorProto> = all.file.iter().map(|f| (f.name(), f)).collect();
    let mut wanted = BTreeSet::new();
    let mut open: Vec<&str> = roots.map(str::trim).collect();
    while let Some(name) = open.pop() {
        if wanted.insert(name.to_owned()) {
            let file = by_name.get(name).ok_or_else(|| format!("no descriptor for {name}"))?;
            open.extend(file.dependency.iter().map(String::as_str));
        }
    }
    Ok(FileDescriptorSet { file: all.file.iter().filter(|f| wanted.contains(f.name())).cloned().collect() })
}
