//! Requests that are written so that a policy takes them for others.

use super::{
    refusals::{path, policy},
    rig::{Ask, Rig, Setup},
};

/// How far paths are put in order, the least first.
const LEVELS: [&str; 4] = ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"];

/// Paths that a workload might take for `/admin`, and the first level at which a policy does. Those without one are
/// other paths, which the workload is then asked for as they are.
const PATHS: [(&str, Option<usize>); 36] = [
    ("/admin", Some(0)),
    ("/admin?x", Some(0)),
    ("/admin#x", Some(0)),
    ("/admin/", Some(0)),
    ("/admin/x", Some(0)),
    ("/./admin", Some(1)),
    ("/admin/.", Some(0)),
    ("/x/../admin", Some(1)),
    ("/../admin", Some(1)),
    ("/%2e/admin", Some(1)),
    ("/x/%2e%2e/admin", Some(1)),
    ("/x/%2E%2E/admin", Some(1)),
    ("/x/.%2e/admin", Some(1)),
    ("/x/..\\admin", Some(1)),
    ("\\admin", Some(1)),
    ("/%61dmin", Some(1)),
    ("/adm%69n/x", Some(1)),
    ("//admin", Some(2)),
    ("///admin//x", Some(2)),
    ("/x/..//admin", Some(2)),
    ("/.//admin", Some(2)),
    ("/%2fadmin", Some(3)),
    ("/%2Fadmin", Some(3)),
    ("/admin%2fx", Some(3)),
    ("/x%2f..%2fadmin", Some(3)),
    ("/x/..%2fadmin", Some(3)),
    ("/%5cadmin", Some(3)),
    ("/admin;x", None),
    ("/admin;/x", None),
    ("/;/admin", None),
    ("/ADMIN", None),
    ("/Admin/x", None),
    ("/admin%20", None),
    ("/admin%3fx", None),
    ("/%2561dmin", None),
    ("/administration", None),
];

#[test]
fn paths_are_looked_at_in_the_order_that_the_mesh_says_and_the_workload_gets_what_was_looked_at() {
    let deny = policy("admin", "  action: DENY\n  rules: [{to: [{operation: {paths: [/admin, /admin/*]}}]}]\n");
    let mesh = |how: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
             data: {{mesh: 'pathNormalization: {{normalization: {how}}}'}}\n{deny}"
        )
    };
    let worlds = LEVELS.map(mesh);
    let mut wrong = Vec::new();
    for (gateway, h2) in [(false, false), (false, true), (true, false), (true, true)] {
        let rig = Rig::of(&Setup { worlds: &worlds, gateway, ..Setup::default() });
        for (level, name) in LEVELS.iter().enumerate() {
            // Over HTTP/2 the client of the tests sends no such letters.
            for (disguised, refused) in PATHS.iter().filter(|(path, _)| !h2 || !path.contains(['\\', '#'])) {
                let answer = rig.ask(level, &Ask { h2, ..path(disguised) });
                let seen = answer.seen.get("path").cloned().unwrap_or_default();
                let seen = seen.split(['?', '#']).next().unwrap_or_default();
                let good = match refused.is_some_and(|first| level >= first) {
                    true => matches!(answer.status, 400 | 403),
                    false => answer.status == 200 && seen != "/admin" && !seen.starts_with("/admin/"),
                };
                // What is not understood at all may be refused anywhere.
                if !good && answer.status != 400 {
                    wrong.push(format!("{disguised} with {name}, h2: {h2}, gateway: {gateway}: {answer:?}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn an_address_in_full_is_looked_at_like_any_other() {
    let host = "  action: DENY\n  rules: [{to: [{operation: {hosts: [a.example, 'a.example:*'], paths: [/admin]}}]}]\n";
    let rig = Rig::new(&[policy("admin", host)], &[], None);
    let full = |address: &str, host| Ask { host: Some(host), ..path(address) };
    for address in
        ["http://a.example/admin", "http://A.example/admin", "http://a.example:80/admin?x", "http://a.example/./admin"]
    {
        assert_eq!(rig.ask(0, &full(address, "other")).status, 403, "{address}");
    }
    // The address goes before the header, and the workload sees what was looked at.
    assert_eq!(rig.ask(0, &full("http://other/admin", "a.example")).status, 200);
}

#[test]
fn hosts_cannot_be_disguised() {
    let deny = policy("host", "  action: DENY\n  rules: [{to: [{operation: {hosts: [a.example, 'a.example:*']}}]}]\n");
    let allow = policy("host", "  rules: [{to: [{operation: {hosts: [b.example]}}]}]\n");
    let worlds = [deny, allow];
    for (gateway, h2) in [(false, false), (false, true), (true, false), (true, true)] {
        let rig = Rig::of(&Setup { worlds: &worlds, gateway, ..Setup::default() });
        let status = |world, host| rig.ask(world, &Ask { host: Some(host), h2, ..Ask::default() }).status;
        for host in ["a.example", "A.EXAMPLE", "a.example:80", "a.Example:8080"] {
            assert_eq!(status(0, host), 403, "{host}, h2: {h2}, gateway: {gateway}");
        }
        for host in ["a.example", "b.example:80", "b.example.", "xb.example", "b.example.org"] {
            assert_eq!(status(1, host), 403, "{host}, h2: {h2}, gateway: {gateway}");
        }
        assert_eq!([status(0, "b.example"), status(1, "B.example")], [200, 200]);
    }
    let rig = Rig::new(&worlds, &[], None);
    let twice = Ask { host: Some("b.example"), headers: vec![("host".into(), "a.example".into())], ..Ask::default() };
    // Two hosts are one with a comma, which the workload sees as it was looked at: neither of the two.
    let answer = rig.ask(0, &twice);
    let seen = answer.seen.get("authority").map(String::as_str);
    assert!(answer.status == 400 || seen == Some("b.example,a.example"), "{answer:?}");
    assert!(matches!(rig.ask(1, &twice).status, 400 | 403), "no host that is allowed");
}

#[test]
fn headers_cannot_be_disguised() {
    let rule = |action: &str| {
        let when = "{key: 'request.headers[X-Role]', values: [admin]}";
        policy("role", &format!("  action: {action}\n  rules: [{{when: [{when}]}}]\n"))
    };
    let absent = "  action: DENY\n  rules: [{when: [{key: 'request.headers[x-role]', values: ['*']}]}]\n";
    let worlds = [rule("ALLOW"), rule("DENY"), policy("absent", absent)];
    let rig = Rig::new(&worlds, &[], None);
    let send = |headers: &[(&str, &str)]| Ask {
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        ..Ask::default()
    };
    let statuses = |headers: &[(&str, &str)]| [0, 1, 2].map(|world| rig.ask(world, &send(headers)).status);
    for name in ["x-role", "X-Role", "X-ROLE"] {
        assert_eq!(statuses(&[(name, "admin")]), [200, 403, 403], "{name}");
    }
    assert_eq!(statuses(&[("x-role", "  admin  ")]), [200, 403, 403], "what is around a value is not part of it");
    assert_eq!(statuses(&[("x-role", "Admin")]), [403, 200, 403], "values are compared as they are");
    // A header that stands twice has each of its values.
    for twice in [["admin", "admin"], ["admin", "guest"], ["guest", "admin"]] {
        assert_eq!(statuses(&twice.map(|value| ("x-role", value))), [200, 403, 403], "{twice:?}");
    }
    assert_eq!(statuses(&[("x-role", "guest,admin")]), [403, 200, 403], "a comma is part of a value");
    assert_eq!(statuses(&[("x-role", "")]), [403, 200, 403], "a header that says nothing is there");
    assert_eq!(statuses(&[]), [403, 200, 200]);
}

#[test]
fn frames_of_http2_that_say_two_things_are_not_answered() {
    let deny = policy("admin", "  action: DENY\n  rules: [{to: [{operation: {paths: [/admin]}}]}]\n");
    let rig = Rig::new(&[deny], &[], None);
    let good = [(":method", "GET"), (":scheme", "http"), (":authority", "a.example"), (":path", "/open")];
    assert!(rig.frames(0, &good), "it is answered with 200");
    let bad: [&[(&str, &str)]; 7] = [
        &[good[0], good[1], good[2], (":path", "/admin")],
        &[good[0], good[1], good[2], good[3], (":path", "/admin")],
        &[good[0], good[1], good[2], (":path", "/admin"), good[3]],
        &[good[0], good[1], good[2], good[3], ("x-a", "1"), (":path", "/admin")],
        &[good[0], good[1], good[2], good[3], (":authority", "b.example")],
        &[good[0], good[1], good[2], good[3], ("X-Upper", "1")],
        &[good[0], good[1], good[2], good[3], ("connection", "close")],
    ];
    for headers in bad {
        assert!(!rig.frames(0, headers), "{headers:?}");
    }
}
