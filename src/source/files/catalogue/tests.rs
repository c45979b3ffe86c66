//! What a catalogue tells of texts: no files, no clock.
use super::*;

/// Texts handed to a catalogue by name, in one root.
struct Files(Catalogue);

impl Files {
    fn new() -> Self {
        Self(Catalogue::new(Context::default()))
    }

    fn write(&mut self, name: &str, text: &str) -> Vec<Change> {
        self.0.read(at(name), name, &Ok(text.into()));
        self.0.changes()
    }

    fn delete(&mut self, name: &str) -> Vec<Change> {
        self.0.remove(&at(name));
        self.0.changes()
    }
}

fn at(name: &str) -> Position {
    (0, Path::new(name).into())
}

fn deployment(name: &str, replicas: &str) -> String {
    let template = "template: {metadata: {labels: {app: a}}}";
    format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec: {{replicas: {replicas}, {template}}}\n"
    )
}

fn names(changes: &[Change]) -> Vec<String> {
    let text = |c: &Change| format!("{}{}", if c.state == State::Gone { "-" } else { "+" }, c.object.name);
    changes.iter().map(text).collect()
}

/// What is said of files and of all but pods.
fn said(changes: &[Change]) -> Vec<String> {
    let all = changes.iter().filter(|c| c.object.kind.as_str() != "Pod").flat_map(|c| &c.problems);
    all.map(ToString::to_string).collect()
}

#[test]
fn a_file_tells_its_objects_and_then_only_what_changed() {
    let mut files = Files::new();
    let text = format!("{}---\n{}", deployment("a", "1"), deployment("b", "1"));
    assert_eq!(names(&files.write("f.yaml", &text)), ["+a", "+b", "+a-0", "+b-0"]);
    assert_eq!(names(&files.write("f.yaml", &text)), [""; 0]);
    assert_eq!(names(&files.write("f.yaml", &format!("# a comment\n{text}"))), [""; 0]);
    let more = format!("{}---\n{}", deployment("a", "2"), deployment("b", "1"));
    assert_eq!(names(&files.write("f.yaml", &more)), ["+a-1"]);
    assert_eq!(names(&files.write("f.yaml", &deployment("b", "1"))), ["-a", "-a-0", "-a-1"]);
    assert_eq!(names(&files.delete("f.yaml")), ["-b", "-b-0"]);
}

#[test]
fn a_broken_document_is_told_with_its_place_and_what_it_held_stays() {
    let mut files = Files::new();
    files.write("f.yaml", &format!("{}---\n{}", deployment("a", "1"), deployment("b", "1")));
    let changes = files.write("f.yaml", &format!("kind: [\n---\n{}", deployment("b", "2")));
    assert_eq!(names(&changes), ["+f.yaml", "+b-1"]);
    let problems = said(&changes);
    assert!(problems[0].starts_with("error: File f.yaml: is not YAML: "), "{problems:?}");
    assert!(problems[0].ends_with(" (f.yaml document 1)"), "{problems:?}");
    let repaired = files.write("f.yaml", &deployment("b", "2"));
    assert_eq!(names(&repaired), ["-a", "-f.yaml", "-a-0"]);
}

#[test]
fn a_file_that_is_cut_off_or_cannot_be_read_keeps_what_it_held() {
    let mut files = Files::new();
    let text = format!("{}---\n{}", deployment("a", "1"), deployment("b", "1"));
    files.write("f.yaml", &text);
    for cut in ["", &text[..30], &text[..text.len() - 10], &deployment("a", "1")[..40]] {
        let changes = files.write("f.yaml", cut);
        assert!(names(&changes).iter().all(|n| n == "+f.yaml"), "{cut:?}: {changes:?}");
    }
    files.0.read(at("f.yaml"), "f.yaml", &Err("cannot be read: no permission".into()));
    assert_eq!(said(&files.0.changes()), ["error: File f.yaml: cannot be read: no permission (f.yaml)"]);
    assert_eq!(names(&files.write("f.yaml", &text)), ["-f.yaml"]);
}

#[test]
fn the_last_of_two_files_wins_and_the_other_takes_over_when_it_goes() {
    let mut files = Files::new();
    files.write("a.yaml", &deployment("x", "2"));
    let changes = files.write("b.yaml", &deployment("x", "1"));
    assert_eq!(names(&changes), ["+x", "-x-1"]);
    let expected = "error: Deployment default/x: is also in b.yaml document 1, which comes later and is in force, as it \
                    is where both are applied; remove or rename one of the two (a.yaml document 1)";
    assert_eq!(said(&changes), [expected]);
    let same = files.write("a.yaml", &deployment("x", "1"));
    assert!(said(&same)[0].starts_with("warning: Deployment default/x: is also in b.yaml"), "{same:?}");
    assert_eq!(names(&files.delete("b.yaml")), ["+x"]);
}

#[test]
fn the_last_of_two_documents_of_a_file_wins() {
    let mut files = Files::new();
    let changes = files.write("f.yaml", &format!("{}---\n{}", deployment("x", "2"), deployment("x", "1")));
    assert_eq!(names(&changes), ["+x", "+x-0"]);
    assert!(said(&changes)[0].contains("is also in f.yaml document 2, which comes later and is in force"));
    assert!(said(&changes)[0].ends_with("(f.yaml document 1)"), "{changes:?}");
}

#[test]
fn a_rename_of_a_file_changes_nothing_but_places() {
    let mut files = Files::new();
    files.write("a.yaml", &deployment("x", "1"));
    files.0.remove(&at("a.yaml"));
    assert_eq!(names(&files.write("b.yaml", &deployment("x", "1"))), [""; 0]);
}

#[test]
fn kinds_of_different_groups_may_share_a_name() {
    let mut files = Files::new();
    let gateway = |group: &str| format!("apiVersion: {group}/v1\nkind: Gateway\nmetadata: {{name: g}}\n");
    let text = format!("{}---\n{}", gateway("networking.istio.io"), gateway("gateway.networking.k8s.io"));
    let changes = files.write("f.yaml", &text);
    assert_eq!(names(&changes), ["+g"]);
    assert!(said(&changes).iter().all(|p| !p.contains("is also in")), "{changes:?}");
}

#[test]
fn a_workload_stands_for_its_pods_once_none_of_them_is_there() {
    let mut files = Files::new();
    let owner = "{apiVersion: apps/v1, kind: Deployment, name: x, controller: true}";
    files.write("p.yaml", &format!("apiVersion: v1\nkind: Pod\nmetadata: {{name: p, ownerReferences: [{owner}]}}\n"));
    assert_eq!(names(&files.write("x.yaml", &deployment("x", "1"))), ["+x"]);
    assert_eq!(names(&files.delete("p.yaml")), ["+x-0", "-p"]);
}
