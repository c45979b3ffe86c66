//! Broken policies fail closed, paths cannot be disguised.

use super::rig::{Ask, Rig};

pub(super) fn policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {{name: {name}, namespace: shop}}\nspec:\n{spec}"
    )
}

pub(super) fn path(path: &str) -> Ask {
    Ask { path: Some(path.to_owned()), ..Ask::default() }
}

#[test]
fn each_way_to_break_a_policy_leaves_the_path_closed_and_the_rest_as_it_was() {
    // Each breaks what protects /secret; /open is let through by a rule of its own.
    let open = "  - to: [{operation: {paths: [/open]}}]\n";
    let broken_sources = [
        "ipBlocks: [nonsense]",
        "notIpBlocks: [10.0.0.0/99]",
        "principals: ['']",
        "trustDomains: ['a*b']",
        "serviceAccounts: ['a/b/c']",
        "unknown: [a]",
        "namespaces: nonsense",
    ];
    let mut worlds: Vec<String> = broken_sources
        .iter()
        .map(|source| {
            let rule = format!(
                "  rules:\n  - from: [{{source: {{{source}}}}}]\n    to: [{{operation: {{paths: [/secret]}}}}]\n"
            );
            policy("broken", &format!("{rule}{open}"))
        })
        .collect();
    for when in ["{key: nonsense, values: [a]}", "{key: source.ip, values: [a]}", "{key: source.ip}", "null"] {
        let rule = format!("  rules:\n  - to: [{{operation: {{paths: [/secret]}}}}]\n    when: [{when}]\n");
        worlds.push(policy("broken", &format!("{rule}{open}")));
    }
    for source in broken_sources {
        let rule = format!(
            "  action: DENY\n  rules:\n  - from: [{{source: {{{source}}}}}]\n    to: [{{operation: {{paths: [/secret]}}}}]\n"
        );
        // What is no list at all takes the whole rule's conditions with it.
        if !source.starts_with("namespaces") {
            worlds.push(policy("broken", &rule));
        }
    }
    let custom = "  action: CUSTOM\n  provider: {name: unknown}\n  rules: [{to: [{operation: {paths: [/secret]}}]}]\n";
    worlds.push(policy("broken", custom));
    let rig = Rig::new(&worlds, &[], None);
    for (world, text) in worlds.iter().enumerate() {
        assert_eq!(rig.ask(world, &path("/secret")).status, 403, "{text}");
        assert_eq!(rig.ask(world, &path("/open")).status, 200, "{text}");
    }
}

#[test]
fn a_policy_that_is_none_at_all_closes_everything() {
    let worlds = [
        "  action: allow\n  rules: [{}]\n",
        "  rules: nonsense\n",
        "  rules: [[]]\n",
        "  action: DENY\n  rules: nonsense\n",
    ];
    let worlds: Vec<String> = worlds.iter().map(|spec| policy("broken", spec)).collect();
    let rig = Rig::new(&worlds, &[], None);
    for (world, text) in worlds.iter().enumerate() {
        assert_eq!(rig.ask(world, &path("/open")).status, 403, "{text}");
        assert_eq!(rig.ask(world, &Ask { bytes: true, ..Ask::default() }).status, 0, "{text}");
    }
}

#[test]
fn paths_cannot_be_disguised() {
    let deny = policy("admin", "  action: DENY\n  rules: [{to: [{operation: {paths: [/admin, /admin/*]}}]}]\n");
    let mesh = |how: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data: {{mesh: 'pathNormalization: {{normalization: {how}}}'}}\n{deny}"
        )
    };
    let rig = Rig::new(&["BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"].map(mesh), &[], None);
    let base = ["/admin/x", "/x/../admin", "/./admin", "/x/%2e%2e/admin", "/admin?x", "/admin#x", "/x/..\\admin"];
    let merged = ["//admin", "/x/..//admin", "///admin//x"];
    let decoded = ["/admin%2fx", "/%2fadmin", "/x%2f..%2fadmin"];
    let sets = [base.to_vec(), merged.to_vec(), decoded.to_vec()];
    for world in 0..3 {
        for disguised in sets[..=world].iter().flatten() {
            let status = rig.ask(world, &path(disguised)).status;
            assert!(matches!(status, 400 | 403), "{disguised} with normalization {world}: {status}");
        }
        assert_eq!(rig.ask(world, &path("/administration")).status, 200);
    }
    // A `..` takes what is between two slashes with it, even nothing; the workload is asked for what was looked at.
    let answer = rig.ask(1, &path("/x//..//../admin"));
    assert_eq!((answer.status, answer.seen.get("path").map(String::as_str)), (200, Some("/x/admin")));
    let full = Ask { host: Some("other"), ..path("http://a.example/admin") };
    assert_eq!(rig.ask(0, &full).status, 403, "an address in full");
}

#[test]
fn hosts_cannot_be_disguised() {
    let deny = policy("host", "  action: DENY\n  rules: [{to: [{operation: {hosts: [a.example, 'a.example:*']}}]}]\n");
    let rig = Rig::new(&[deny], &[], None);
    for host in ["a.example", "A.EXAMPLE", "a.example:80", "a.Example:8080"] {
        assert_eq!(rig.ask(0, &Ask { host: Some(host), ..Ask::default() }).status, 403, "{host}");
    }
    assert_eq!(rig.ask(0, &Ask { host: Some("b.example"), ..Ask::default() }).status, 200);
}
