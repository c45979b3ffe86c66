//! Which requests a match is for.

use super::{ADDRESS, field, virtual_service};
use crate::harness::{Client, Request};
use std::collections::BTreeMap;

/// A host with a route of these matches and one for the rest, and requests of which each takes the first or does not.
struct Rule {
    name: &'static str,
    matches: &'static str,
    taken: &'static [&'static str],
    left: &'static [&'static str],
}

/// In requests: `METHOD PATH`, then headers; `@PORT` and `POD>` before them say where to and from.
const RULES: &[Rule] = &[
    Rule {
        name: "uri-exact",
        matches: "{uri: {exact: /a/b}}",
        taken: &["GET /a/b", "GET /a/b?x=y", "POST /a/b"],
        left: &["GET /a/b/", "GET /a/bc", "GET /A/b", "GET /x/a/b"],
    },
    Rule {
        name: "uri-prefix",
        matches: "{uri: {prefix: /api}}",
        taken: &["GET /api", "GET /api/x", "GET /apis", "GET /api?x=y"],
        left: &["GET /ap", "GET /API", "GET /x/api"],
    },
    Rule {
        name: "uri-prefix-slash",
        matches: "{uri: {prefix: /api/}}",
        taken: &["GET /api/", "GET /api/x"],
        left: &["GET /api", "GET /apis"],
    },
    Rule {
        name: "uri-regex",
        matches: "{uri: {regex: '/r/[a-c]+/\\d{2}'}}",
        taken: &["GET /r/abc/12", "GET /r/a/99?x=y"],
        left: &["GET /r/abd/12", "GET /r/abc/123", "GET /x/r/abc/12", "GET /r//12"],
    },
    Rule {
        name: "uri-case",
        matches: "{uri: {exact: /Exact}, ignoreUriCase: true}, {uri: {prefix: /Pre/}, ignoreUriCase: true}",
        taken: &["GET /exact", "GET /EXACT", "GET /pRE/x"],
        left: &["GET /exact/", "GET /pre", "GET /exac"],
    },
    Rule { name: "method-exact", matches: "{method: {exact: POST}}", taken: &["POST /"], left: &["GET /", "PUT /"] },
    Rule {
        name: "method-prefix",
        matches: "{method: {prefix: P}}",
        taken: &["PUT /", "PATCH /"],
        left: &["GET /", "DELETE /"],
    },
    Rule {
        name: "method-regex",
        matches: "{method: {regex: 'GET|DELETE'}}",
        taken: &["GET /", "DELETE /"],
        left: &["PUT /"],
    },
    Rule {
        name: "scheme",
        matches: "{scheme: {exact: https}}",
        taken: &["GET / x-forwarded-proto:https"],
        left: &["GET /", "GET / x-forwarded-proto:http"],
    },
    Rule {
        name: "authority-exact",
        matches: "{authority: {exact: one.authority-exact.test}}",
        taken: &["GET / host:one.authority-exact.test"],
        left: &["GET /", "GET / host:two.authority-exact.test", "GET / host:x.one.authority-exact.test"],
    },
    Rule {
        name: "authority-prefix",
        matches: "{authority: {prefix: one.}}",
        taken: &["GET / host:one.authority-prefix.test", "GET / host:one.two.authority-prefix.test"],
        left: &["GET /", "GET / host:two.one.authority-prefix.test"],
    },
    Rule {
        name: "authority-regex",
        matches: "{authority: {regex: '[a-z]+[0-9]\\..*'}}",
        taken: &["GET / host:one1.authority-regex.test"],
        left: &["GET /", "GET / host:one.authority-regex.test"],
    },
    Rule {
        name: "header-exact",
        matches: "{headers: {user: {exact: jason}}}",
        taken: &["GET / user:jason", "GET / User:jason"],
        left: &["GET /", "GET / user:Jason", "GET / user:jasons", "GET / user2:jason"],
    },
    Rule {
        name: "header-prefix",
        matches: "{headers: {user: {prefix: ja}}}",
        taken: &["GET / user:jason", "GET / user:ja"],
        left: &["GET /", "GET / user:j"],
    },
    Rule {
        name: "header-regex",
        matches: "{headers: {user: {regex: 'x[0-9]+'}}}",
        taken: &["GET / user:x1", "GET / user:x123"],
        left: &["GET /", "GET / user:x", "GET / user:ax1", "GET / user:x1a"],
    },
    Rule {
        name: "header-present",
        matches: "{headers: {user: {}}}",
        taken: &["GET / user:any", "GET / user:1"],
        left: &["GET /", "GET / users:1"],
    },
    Rule {
        name: "headers-all",
        matches: "{headers: {user: {exact: jason}, beta: {prefix: y}}}",
        taken: &["GET / user:jason beta:yes"],
        left: &["GET / user:jason", "GET / beta:yes", "GET / user:jason beta:no"],
    },
    Rule {
        name: "without-exact",
        matches: "{withoutHeaders: {user: {exact: jason}}}",
        taken: &["GET /", "GET / user:ann"],
        left: &["GET / user:jason"],
    },
    Rule {
        name: "without-prefix",
        matches: "{withoutHeaders: {user: {prefix: ja}}}",
        taken: &["GET /", "GET / user:ann"],
        left: &["GET / user:jason", "GET / user:ja"],
    },
    Rule {
        name: "without-regex",
        matches: "{withoutHeaders: {user: {regex: '[a-f]+'}}}",
        taken: &["GET /", "GET / user:abz"],
        left: &["GET / user:abc"],
    },
    Rule {
        name: "without-any",
        matches: "{withoutHeaders: {user: {}}}",
        taken: &["GET /", "GET / users:1"],
        left: &["GET / user:jason"],
    },
    Rule {
        name: "query-exact",
        matches: "{queryParams: {v: {exact: '2'}}}",
        taken: &["GET /?v=2", "GET /?w=1&v=2", "GET /x?v=2&w=1"],
        left: &["GET /", "GET /?v=22", "GET /?V=2", "GET /?w=2", "GET /v=2"],
    },
    Rule {
        name: "query-prefix",
        matches: "{queryParams: {v: {prefix: beta-}}}",
        taken: &["GET /?v=beta-1"],
        left: &["GET /?v=beta", "GET /?v=a-beta-1"],
    },
    Rule {
        name: "query-regex",
        matches: "{queryParams: {q: {regex: '[0-9]+'}}}",
        taken: &["GET /?q=17"],
        left: &["GET /?q=x", "GET /?q=17x", "GET /?q="],
    },
    Rule {
        name: "port",
        matches: "{port: 81}",
        taken: &["@81 GET / host:ported:81"],
        left: &["GET / host:ported", "GET / host:ported:80"],
    },
    Rule {
        name: "source-labels",
        matches: "{sourceLabels: {app: client}}",
        taken: &["GET /"],
        left: &["other> GET /"],
    },
    Rule { name: "source-namespace", matches: "{sourceNamespace: far}", taken: &["other> GET /"], left: &["GET /"] },
    Rule { name: "gateways", matches: "{gateways: [mesh]}", taken: &["GET /", "other> GET /x"], left: &[] },
    Rule {
        name: "all-of-a-match",
        matches: "{uri: {prefix: /x}, method: {exact: GET}, queryParams: {a: {exact: b}}, headers: {user: {}}}",
        taken: &["GET /x/y?a=b user:1"],
        left: &["POST /x/y?a=b user:1", "GET /y?a=b user:1", "GET /x/y?a=c user:1", "GET /x/y?a=b"],
    },
    Rule {
        name: "one-of-the-matches",
        matches: "{uri: {exact: /x}}, {headers: {user: {exact: jason}}}",
        taken: &["GET /x", "GET /y user:jason", "GET /x user:jason"],
        left: &["GET /y", "GET /y user:ann"],
    },
];

/// The VirtualServices of all rules.
pub(super) fn objects() -> String {
    let object = |rule: &Rule| {
        let Rule { name, matches, .. } = rule;
        let said = |taken: &str| format!("headers: {{response: {{set: {{x-taken: '{taken}'}}}}}}");
        let to = "route: [{destination: {host: s, port: {number: 80}}}]";
        let http = format!("- match: [{matches}]\n  {}\n  {to}\n- {}\n  {to}\n", said("yes"), said("no"));
        let own = if *name == "port" { "ported" } else { &format!("{name}.test, '*.{name}.test'") };
        virtual_service(name, own, &http)
    };
    RULES.iter().map(object).collect()
}

/// Sends a request of a table, and tells whether its host's matches took it.
fn ask<'a>(clients: &mut BTreeMap<&'a str, Client>, rule: &str, text: &'a str) -> String {
    let (pod, text) = text.split_once("> ").unwrap_or(("client", text));
    let (address, text) = match text.strip_prefix("@81 ") {
        Some(rest) => ("10.96.5.2:81", rest),
        None => (ADDRESS, text),
    };
    let mut words = text.split(' ');
    let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
    let mut request = Request::get(&format!("http://{address}{path}")).method(method);
    for (name, value) in words.filter_map(|word| word.split_once(':')) {
        request = request.header(name, value);
    }
    if !text.contains("host:") {
        request = request.host(&format!("{rule}.test"));
    }
    let client = clients.entry(pod).or_insert_with(|| field().client(pod));
    match client.one(&request) {
        reply if reply.status == 200 => reply.header("x-taken").to_owned(),
        reply => reply.brief(),
    }
}

#[test]
fn each_kind_of_match_takes_its_requests_and_leaves_the_others() {
    let mut clients = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut count = 0;
    for Rule { name, taken, left, .. } in RULES {
        let asked = taken.iter().map(|ask| (ask, "yes")).chain(left.iter().map(|ask| (ask, "no")));
        for (text, expected) in asked {
            count += 1;
            let got = ask(&mut clients, name, text);
            if got != expected {
                wrong.push(format!("{name}: {text}: taken: {got}, not {expected}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} of {count} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(count >= 100, "{count}");
}
