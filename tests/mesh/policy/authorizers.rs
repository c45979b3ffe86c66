//! External authorizers are asked where a rule says so, and decide; where they cannot be asked, nobody gets through.
//! Each field of both kinds of providers does what it says.

mod grpc;
mod http;
mod opa;

pub(super) use http::{Asked, Told, read};

use super::{
    refusals::{path, policy},
    rig::{Ask, Rig, Setup},
};
use grpc::over_grpc;

/// The service that the authorizers are.
const SERVICE: &str = "---\napiVersion: v1\nkind: Service\nmetadata: {name: authz, namespace: shop}\n\
                       spec: {clusterIP: 10.96.0.30, ports: [{name: http, port: 8000}, {name: grpc, port: 9000}]}\n";
/// The kinds of providers, and the port of each.
const KINDS: [(&str, u16); 2] = [("envoyExtAuthzHttp", 8000), ("envoyExtAuthzGrpc", 9000)];

/// A provider with these fields, as an entry of a list.
fn provider(name: &str, kind: &str, port: u16, fields: &str) -> String {
    format!("{{name: {name}, {kind}: {{service: authz.shop.svc.cluster.local, port: {port}, {fields}}}}}")
}

/// The mesh's settings with these providers, and their service.
fn providers(list: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: istio, namespace: istio-system}}\n\
         data: {{mesh: '{{extensionProviders: [{list}]}}'}}\n{SERVICE}"
    )
}

/// The mesh's settings with the provider `ask`.
pub(super) fn mesh(kind: &str, port: u16, fields: &str) -> String {
    providers(&provider("ask", kind, port, fields))
}

/// A policy that has a provider asked about these paths.
fn ask_about(name: &str, paths: &str) -> String {
    let spec = "  action: CUSTOM\n  provider: {name: NAME}\n  rules: [{to: [{operation: {paths: [PATHS]}}]}]\n";
    policy(name, &spec.replace("NAME", name).replace("PATHS", paths))
}

/// A request with a word for the authorizer, and headers that are not for everybody.
pub(super) fn word(path: &str, word: &str) -> Ask {
    let headers = [("x-word", word), ("x-hidden", "yes"), ("x-a-one", "1"), ("x-fixed", "forged")];
    Ask {
        from: 9,
        path: Some(path.to_owned()),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..Ask::default()
    }
}

/// One world for each set of fields of a kind of provider, which is asked about `/asked`.
fn rig((kind, port): (&str, u16), at: u16, fields: &[&str]) -> Rig {
    let worlds: Vec<String> =
        fields.iter().map(|fields| format!("{}{}", mesh(kind, port, fields), ask_about("ask", "/asked"))).collect();
    Rig::of(&Setup { worlds: &worlds, beside: &[(port, at)], ..Setup::default() })
}

fn header(told: &Told, name: &str) -> Option<String> {
    told.headers.get(name).cloned()
}

#[test]
fn an_authorizer_is_asked_where_a_rule_takes_the_request_and_others_deny_what_it_allows() {
    let servers = [Asked::over_http(), over_grpc()];
    let deny = policy("deny", "  action: DENY\n  rules: [{to: [{operation: {paths: [/denied]}}]}]\n");
    let allow = policy("allow", "  rules: [{to: [{operation: {notPaths: [/nobody]}}]}]\n");
    for ((kind, port), server) in KINDS.into_iter().zip(&servers) {
        let fields = if kind == "envoyExtAuthzHttp" { "includeRequestHeadersInCheck: [x-word]" } else { "" };
        let ask = ask_about("ask", "/asked, /denied, /nobody");
        let worlds = [format!("{}{ask}{deny}{allow}", mesh(kind, port, fields))];
        for gateway in [false, true] {
            let rig = Rig::of(&Setup { worlds: &worlds, gateway, beside: &[(port, server.port)], ..Setup::default() });
            server.told();
            let status = |path: &str, said: &str| rig.ask(0, &word(path, said)).status;
            assert_eq!(status("/free", "now"), 200, "{kind}: nobody is asked");
            assert!(server.told().is_empty());
            assert_eq!(status("/asked", "now"), 402, "{kind}: the authorizer says no, in its words");
            assert_eq!(status("/asked", "please"), 200, "{kind}");
            assert_eq!(server.told().len(), 2);
            assert_eq!(status("/denied", "please"), 403, "{kind}: a denial counts beside it");
            assert_eq!(status("/nobody", "please"), 403, "{kind}: what is not allowed is not, whoever says yes");
            assert_eq!(status("/denied", "now"), 402, "{kind}: it is asked before others are");
        }
    }
}

#[test]
fn over_http_each_field_of_a_provider_does_what_it_says() {
    let server = Asked::over_http();
    let see = "includeRequestHeadersInCheck: [x-word]";
    let fields = [
        "pathPrefix: /check, includeRequestHeadersInCheck: [x-word, \"x-a-*\", \"*-end\"]".to_owned(),
        "includeHeadersInCheck: [x-word]".to_owned(),
        format!("{see}, includeAdditionalHeadersInCheck: {{x-fixed: mine}}"),
        format!("{see}, includeRequestBodyInCheck: {{maxRequestBytes: 8, allowPartialMessage: true}}"),
        format!("{see}, includeRequestBodyInCheck: {{maxRequestBytes: 8}}"),
        format!("{see}, headersToUpstreamOnAllow: [x-user, \"x-tol*\"]"),
        format!("{see}, headersToDownstreamOnAllow: [set-cookie], headersToDownstreamOnDeny: [x-why]"),
        format!("{see}, headersToUpstreamOnAllow: [x-user], clearRouteCache: true"),
    ];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let rig = rig(KINDS[0], server.port, &fields);
    let please = word("/asked", "please");

    let told = {
        assert_eq!(rig.ask(0, &please).status, 200);
        server.once()
    };
    assert_eq!(told.line, "GET /check/asked HTTP/1.1");
    assert_eq!((header(&told, "x-a-one").as_deref(), header(&told, "x-hidden")), (Some("1"), None));
    assert_eq!(rig.ask(1, &please).status, 200);
    let told = server.once();
    assert_eq!((header(&told, "x-word").as_deref(), header(&told, "x-a-one")), (Some("please"), None), "the old name");
    assert_eq!(rig.ask(2, &please).status, 200);
    assert_eq!(header(&server.once(), "x-fixed").as_deref(), Some("mine"), "whatever the client says");

    let long = Ask { method: Some("POST"), body: Some("0123456789".into()), ..please.clone() };
    assert_eq!(rig.ask(2, &long).status, 200);
    assert_eq!(server.once().body, b"", "it sees no body where nobody says so");
    assert_eq!(rig.ask(3, &long).status, 200);
    assert_eq!(server.once().body, b"01234567", "as much as it wants");
    assert_eq!(rig.ask(4, &long).status, 413, "what it cannot see whole is refused");
    assert!(server.told().is_empty());
    assert_eq!(rig.ask(4, &Ask { body: Some("0123".into()), ..long }).status, 200);
    assert_eq!(server.once().body, b"0123");

    let forged = Ask { headers: [please.headers.clone(), vec![("x-user".into(), "root".into())]].concat(), ..please };
    let seen = |world: usize, name: &str| rig.ask(world, &forged).seen.get(name).cloned();
    assert_eq!(
        seen(5, "x-user").as_deref(),
        Some("alice"),
        "what the authorizer says goes before what the client says"
    );
    assert_eq!(seen(5, "x-told").as_deref(), Some("yes"));
    assert_eq!(seen(6, "x-told"), None, "nothing goes on that is not named");
    let allowed = rig.ask(6, &forged).headers;
    assert_eq!((allowed.get("set-cookie").map(String::as_str), allowed.get("x-private")), (Some("s=1"), None));
    let denied = rig.ask(6, &word("/asked", "now"));
    assert_eq!((denied.status, denied.headers.get("x-private")), (402, None));
    assert_eq!(denied.headers.get("x-why").map(String::as_str), Some("unpaid"));
    let routed = |world: usize| rig.ask(world, &word("/asked", "please")).headers.get("routed").cloned();
    assert_eq!(
        (routed(5), routed(7).as_deref()),
        (None, Some("alice")),
        "routes are looked for again where it says so"
    );
}

#[test]
fn over_grpc_each_field_of_a_provider_does_what_it_says() {
    let server = over_grpc();
    let body = |more: &str| format!("includeRequestBodyInCheck: {{maxRequestBytes: 8, {more}}}");
    let fields = [
        String::new(),
        body("allowPartialMessage: true"),
        body("allowPartialMessage: true, packAsBytes: true"),
        body(""),
        "clearRouteCache: true".to_owned(),
    ];
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    let rig = rig(KINDS[1], server.port, &fields);
    let long = Ask { method: Some("POST"), body: Some("0123456789".into()), ..word("/asked", "please") };
    assert_eq!(rig.ask(0, &long).status, 200);
    let told = server.once();
    assert_eq!((told.line.as_str(), told.body.as_slice()), ("POST /asked", &b""[..]));
    assert_eq!(header(&told, "x-hidden").as_deref(), Some("yes"), "it sees all headers");
    for (world, wanted) in [(1, &b"01234567"[..]), (2, b"raw:01234567")] {
        assert_eq!(rig.ask(world, &long).status, 200);
        assert_eq!(server.once().body, wanted);
    }
    assert_eq!(rig.ask(3, &long).status, 413);
    assert!(server.told().is_empty());
    let answer = rig.ask(0, &word("/asked", "please"));
    assert_eq!(answer.seen.get("x-user").map(String::as_str), Some("alice"));
    assert_eq!(answer.headers.get("x-checked").map(String::as_str), Some("yes"));
    let denied = rig.ask(0, &word("/asked", "now"));
    assert_eq!((denied.status, denied.headers.get("x-why").map(String::as_str)), (402, Some("unpaid")));
    let routed = |world: usize| rig.ask(world, &word("/asked", "please")).headers.get("routed").cloned();
    assert_eq!((routed(0), routed(4).as_deref()), (None, Some("alice")));
}

#[test]
fn where_an_authorizer_cannot_be_asked_the_provider_says_what_happens() {
    let servers = [Asked::over_http(), over_grpc()];
    for ((kind, port), server) in KINDS.into_iter().zip(&servers) {
        let see = if port == 8000 { "includeRequestHeadersInCheck: [x-word], " } else { "" };
        let fields = ["", "statusOnError: \"503\"", "failOpen: true", "failOpen: true, statusOnError: \"503\""];
        let dead: Vec<String> = fields.iter().map(|fields| format!("{see}{fields}")).collect();
        let dead: Vec<&str> = dead.iter().map(String::as_str).collect();
        // Nobody listens at port 1.
        let rig_of_dead = rig((kind, port), 1, &dead);
        let statuses = |rig: &Rig, word: Ask| [0, 1, 2, 3].map(|world| rig.ask(world, &word).status);
        assert_eq!(statuses(&rig_of_dead, word("/asked", "please")), [403, 503, 200, 200], "{kind}");
        assert_eq!(statuses(&rig_of_dead, word("/free", "please")), [200; 4], "{kind}: nobody has to be asked");

        let late: Vec<String> = fields.iter().map(|fields| format!("{see}timeout: 0.3s, {fields}")).collect();
        let late: Vec<&str> = late.iter().map(String::as_str).collect();
        let rig_of_late = rig((kind, port), server.port, &late);
        assert_eq!(statuses(&rig_of_late, word("/asked", "slow")), [403, 503, 200, 200], "{kind}: too slow");
        assert_eq!(statuses(&rig_of_late, word("/asked", "please")), [200; 4], "{kind}: in time");
        let patient = rig((kind, port), server.port, &[format!("{see}timeout: 10s").as_str()]);
        assert_eq!(patient.ask(0, &word("/asked", "slow")).status, 200, "{kind}: as long as it may take");
    }
}

#[test]
fn connections_are_asked_about_by_grpc_alone() {
    const FRONT: &str = "cluster.local/ns/web/sa/front";
    const BACK: &str = "cluster.local/ns/ops/sa/back";
    let server = over_grpc();
    let ask = policy(
        "ask",
        "  action: CUSTOM\n  provider: {name: ask}\n  rules:\n  - to: [{operation: {notPaths: [/free]}}]\n    \
         from: [{source: {ipBlocks: [127.0.0.9]}}]\n",
    );
    let world = |(kind, port): (&str, u16), more: &str| format!("{}{ask}", mesh(kind, port, more));
    let worlds = [world(KINDS[1], ""), world(KINDS[0], "")];
    let beside = [(8000, 1), (9000, server.port)];
    let bytes = |identity, from| Ask { bytes: true, identity, from, ..Ask::default() };
    for gateway in [false, true] {
        let identities = &[FRONT, BACK];
        let rig = Rig::of(&Setup { worlds: &worlds, identities, beside: &beside, gateway, ..Setup::default() });
        let status = |identity, from| rig.ask(0, &bytes(identity, from)).status;
        assert_eq!([status(Some(FRONT), 9), status(Some(BACK), 9), status(None, 9)], [200, 0, 0]);
        assert_eq!(status(Some(BACK), 2), 200, "nobody is asked about this client");
        assert_eq!(rig.ask(0, &Ask { from: 9, ..path("/free") }).status, 200, "nobody is asked about this path");
        assert_eq!(rig.ask(1, &bytes(None, 9)).status, 200, "who is asked over HTTP is not asked about bytes");
    }
    let dead = Rig::new(&[world(KINDS[1], ""), world(KINDS[1], "failOpen: true")], &[], Some(1));
    assert_eq!([0, 1].map(|world| dead.ask(world, &bytes(None, 9)).status), [0, 200]);
}

#[test]
fn each_of_several_authorizers_is_asked_for_its_own_rules_where_the_operator_allows_several() {
    let (http, grpc) = (Asked::over_http(), over_grpc());
    let list = [
        provider("ask", KINDS[0].0, KINDS[0].1, "includeRequestHeadersInCheck: [x-word]"),
        provider("ask-too", KINDS[1].0, KINDS[1].1, ""),
    ]
    .join(", ");
    let worlds =
        [format!("{}{}{}", providers(&list), ask_about("ask", "/one, /both"), ask_about("ask-too", "/two, /both"))];
    let beside = [(8000, http.port), (9000, grpc.port)];
    let switches = [("PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS", "true")];
    let several = Rig::of(&Setup { worlds: &worlds, beside: &beside, switches: &switches, ..Setup::default() });
    for (path, asked) in [("/free", [0, 0]), ("/one", [1, 0]), ("/two", [0, 1]), ("/both", [1, 1])] {
        assert_eq!(several.ask(0, &word(path, "please")).status, 200, "{path}");
        assert_eq!([http.told().len(), grpc.told().len()], asked, "{path}");
        let refused = if path == "/free" { 200 } else { 402 };
        assert_eq!(several.ask(0, &word(path, "now")).status, refused, "{path}");
        let _ = (http.told(), grpc.told());
    }
    let one = Rig::of(&Setup { worlds: &worlds, beside: &beside, ..Setup::default() });
    let statuses = ["/free", "/one", "/two", "/both"].map(|path| one.ask(0, &word(path, "please")).status);
    assert_eq!(statuses, [200, 403, 403, 403], "nobody could say which of them is asked first");
    assert_eq!([http.told().len(), grpc.told().len()], [0, 0]);
}
