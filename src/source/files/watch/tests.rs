//! Real files that change as editors, installers and Kubernetes change them.

use super::*;
use crate::{
    snapshot::Snapshot,
    store::{self, Reader},
};
use std::{
    os::unix::fs::symlink,
    sync::atomic::{AtomicU32, Ordering},
};
use tokio::{sync::oneshot, task::JoinHandle};

/// A directory that is watched.
struct Scene {
    dir: PathBuf,
    reader: Reader,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// A directory with these files, before it is watched.
fn directory(files: &[(&str, &str)]) -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("mainsheet-watch-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let dir = std::env::temp_dir().join(name);
    fs::create_dir_all(dir.join("root")).unwrap();
    files.iter().for_each(|(name, text)| fs::write(dir.join("root").join(name), text).unwrap());
    dir
}

impl Scene {
    async fn new(files: &[(&str, &str)]) -> Self {
        Self::of(directory(files), None).await
    }

    /// Watches `root` of the directory, and a file of settings beside it.
    async fn of(dir: PathBuf, poll: Option<Duration>) -> Self {
        let settings = Some(dir.join("mesh")).filter(|p| p.exists());
        let context = Context::default();
        let (writer, reader, store) = store::new(Snapshot::default(), store::Options { quiet: None, at_most: None });
        let options = Options { paths: vec![dir.join("root")], settings, poll, context };
        let (tell, synced) = oneshot::channel();
        let files = tokio::spawn(async {
            // The source ends with the store, when the scene does.
            let _ = watch(options, writer, || tell.send(()).expect("the scene waits")).await;
        });
        let tasks = [tokio::spawn(store.run()), files];
        synced.await.unwrap();
        Self { dir, reader, tasks }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join("root").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }

    fn names(&self) -> Vec<String> {
        self.reader.snapshots.borrow().namespaces.keys().map(ToString::to_string).collect()
    }

    fn said(&self) -> Vec<String> {
        let snapshot = self.reader.snapshots.borrow().clone();
        snapshot.problems.values().flat_map(|p| p.iter()).map(ToString::to_string).collect()
    }

    /// Waits until these namespaces are there and no others, through which `kept` must be there all the time.
    async fn until(&mut self, names: &[&str], kept: &str) {
        let mut snapshots = self.reader.snapshots.clone();
        let there = snapshots.wait_for(|s| {
            let now: Vec<&str> = s.namespaces.keys().map(|n| &**n).collect();
            assert!(kept.is_empty() || now.contains(&kept), "{kept} was gone: {now:?}");
            now == names
        });
        let there = time::timeout(Duration::from_secs(8), there).await.map(drop);
        assert!(there.is_ok(), "{names:?} expected, {:?} there: {:?}", self.names(), self.said());
    }
}

fn namespaces(names: &[&str]) -> String {
    let one = |n: &&str| format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {n}\n");
    names.iter().map(one).collect::<Vec<_>>().join("---\n")
}

#[tokio::test]
async fn files_that_come_change_and_go_are_followed() {
    for poll in [None, Some(Duration::from_millis(30))] {
        let mut scene = Scene::of(directory(&[("a.yaml", &namespaces(&["a"]))]), poll).await;
        assert_eq!(scene.names(), ["a"]);
        scene.write("b.json", r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "b"}}"#);
        scene.until(&["a", "b"], "a").await;
        scene.write("a.yaml", &namespaces(&["c"]));
        scene.until(&["b", "c"], "b").await;
        fs::remove_file(scene.path("b.json")).unwrap();
        scene.until(&["c"], "c").await;
        fs::create_dir_all(scene.path("deep/er")).unwrap();
        scene.write("deep/er/d.yml", &namespaces(&["d"]));
        scene.until(&["c", "d"], "c").await;
        scene.write("deep/er/d.yml", &namespaces(&["d", "e"]));
        scene.until(&["c", "d", "e"], "d").await;
        fs::remove_dir_all(scene.path("deep")).unwrap();
        scene.until(&["c"], "c").await;
    }
}

#[tokio::test]
async fn a_file_that_an_editor_replaces_is_never_gone() {
    let mut scene = Scene::new(&[("a.yaml", &namespaces(&["a"]))]).await;
    for round in 0..5 {
        // vim moves the old file away and writes a new one; others write beside it and rename that.
        fs::rename(scene.path("a.yaml"), scene.path("a.yaml~")).unwrap();
        scene.write("a.yaml", &namespaces(&["a", &format!("b{round}")]));
        fs::remove_file(scene.path("a.yaml~")).unwrap();
        scene.until(&["a", &format!("b{round}")], "a").await;
        scene.write(".a.yaml.tmp", &namespaces(&["a"]));
        fs::rename(scene.path(".a.yaml.tmp"), scene.path("a.yaml")).unwrap();
        scene.until(&["a"], "a").await;
    }
}

#[tokio::test]
async fn a_file_is_read_once_it_is_whole() {
    let mut scene = Scene::new(&[("a.yaml", &namespaces(&["a", "b"]))]).await;
    let whole = namespaces(&["a", "b", "c"]);
    for cut in [0, 20, whole.len() / 2, whole.len() - 3] {
        scene.write("a.yaml", &whole[..cut]);
        time::sleep(Duration::from_millis(120)).await;
        assert_eq!(scene.names().len(), 2, "at {cut}");
        scene.write("a.yaml", &whole);
        scene.until(&["a", "b", "c"], "b").await;
        scene.write("a.yaml", &namespaces(&["a", "b"]));
        scene.until(&["a", "b"], "b").await;
    }
}

#[tokio::test]
async fn what_is_broken_keeps_what_was_there_and_is_told() {
    let mut scene = Scene::new(&[("a.yaml", &namespaces(&["a", "b"]))]).await;
    scene.write("a.yaml", &namespaces(&["a", "b"]).replace("metadata:\n  name: b", "metadata: {{\n  name: b"));
    scene.write("z.yaml", &namespaces(&["z"]));
    scene.until(&["a", "b", "z"], "b").await;
    let mut snapshots = scene.reader.snapshots.clone();
    let told = snapshots.wait_for(|s| !s.problems.is_empty());
    assert!(time::timeout(Duration::from_secs(5), told).await.is_ok());
    assert!(scene.said()[0].contains("a.yaml document 2"), "{:?}", scene.said());
    scene.write("a.yaml", &namespaces(&["a"]));
    scene.until(&["a", "z"], "a").await;
    assert_eq!(scene.said(), Vec::<String>::new());
}

#[tokio::test]
async fn a_mounted_config_map_is_followed_when_its_link_turns() {
    let dir = directory(&[]);
    let root = dir.join("root");
    let version = |number: u32, names: &[&str]| {
        let target = root.join(format!("..2026_{number}"));
        fs::create_dir_all(&target).unwrap();
        fs::write(target.join("a.yaml"), namespaces(names)).unwrap();
        symlink(target.file_name().unwrap(), root.join("..data_tmp")).unwrap();
        fs::rename(root.join("..data_tmp"), root.join("..data")).unwrap();
        if number > 1 {
            fs::remove_dir_all(root.join(format!("..2026_{}", number - 1))).unwrap();
        }
    };
    version(1, &["a", "b"]);
    symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
    let mut scene = Scene::of(dir.clone(), None).await;
    assert_eq!(scene.names(), ["a", "b"], "each once, though two names lead to it");
    version(2, &["a", "c"]);
    scene.until(&["a", "c"], "a").await;
    version(3, &["a"]);
    scene.until(&["a"], "a").await;
}

#[tokio::test]
async fn a_directory_that_is_gone_keeps_what_it_held_until_it_is_back() {
    let mut scene = Scene::new(&[("a.yaml", &namespaces(&["a"]))]).await;
    fs::rename(scene.dir.join("root"), scene.dir.join("away")).unwrap();
    let mut snapshots = scene.reader.snapshots.clone();
    let told = snapshots.wait_for(|s| !s.problems.is_empty());
    assert!(time::timeout(Duration::from_secs(8), told).await.is_ok());
    assert_eq!(scene.names(), ["a"]);
    fs::create_dir(scene.dir.join("root")).unwrap();
    scene.write("a.yaml", &namespaces(&["a", "b"]));
    scene.until(&["a", "b"], "a").await;
    assert_eq!(scene.said(), Vec::<String>::new());
    // The new directory is watched as the old one was.
    scene.write("c.yaml", &namespaces(&["c"]));
    scene.until(&["a", "b", "c"], "a").await;
}

#[tokio::test]
async fn settings_are_followed_in_their_file_and_in_their_config_map() {
    let dir = directory(&[]);
    fs::write(dir.join("mesh"), "trustDomain: one\n").unwrap();
    let scene = Scene::of(dir.clone(), None).await;
    let mut snapshots = scene.reader.snapshots.clone();
    let mut domain = async |name: &str| {
        let there = snapshots.wait_for(|s| *s.mesh.trust_domain == *name);
        let there = time::timeout(Duration::from_secs(8), there).await.map(drop);
        assert!(there.is_ok(), "{name}: {:?}", scene.said());
    };
    let config_map = |domain: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\ndata:\n  mesh: |\n    trustDomain: {domain}\n"
        )
    };
    domain("one").await;
    fs::write(dir.join("mesh"), "trustDomain: two\n").unwrap();
    domain("two").await;
    // The file goes before the ConfigMap; nothing of it is lost while it is broken.
    scene.write("mesh.yaml", &config_map("three"));
    fs::write(dir.join("mesh"), "trustDomain: [").unwrap();
    let mut told = scene.reader.snapshots.clone();
    assert!(time::timeout(Duration::from_secs(8), told.wait_for(|s| !s.problems.is_empty())).await.is_ok());
    domain("two").await;

    let plain = Scene::new(&[("mesh.yaml", &config_map("three"))]).await;
    let mut snapshots = plain.reader.snapshots.clone();
    for (text, name) in [(config_map("four"), "four"), (String::new(), "cluster.local")] {
        match text.is_empty() {
            true => fs::remove_file(plain.path("mesh.yaml")).unwrap(),
            false => plain.write("mesh.yaml", &text),
        }
        let there = snapshots.wait_for(|s| *s.mesh.trust_domain == *name);
        assert!(time::timeout(Duration::from_secs(8), there).await.is_ok(), "{name}: {:?}", plain.said());
    }
}
