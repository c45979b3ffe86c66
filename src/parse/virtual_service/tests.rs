//! Each kind of broken VirtualService, with the field and the words that its author is shown.

use super::*;
use crate::problem::Severity;

fn parse(spec: &str) -> Parsed<model::VirtualService> {
    let spec: Value = serde_norway::from_str(spec).expect("a test writes YAML");
    let raw = serde_json::json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "x", "namespace": "shop"}, "spec": spec,
    });
    virtual_service(&raw, &Context::default())
}

/// Parses one rule for HTTP, of the host `a`.
fn rule(rule: &str) -> Parsed<model::VirtualService> {
    parse(&format!("{{hosts: [a], http: [{{{rule}}}]}}"))
}

fn check(result: Parsed<model::VirtualService>, severity: Severity, path: &str, says: &str, input: &str) {
    let (value, problems) = result;
    let hit = problems.iter().any(|p| p.severity == severity && p.path.as_str() == path && p.message.contains(says));
    assert!(hit, "{input}\n  wants {severity} {path}: {says}\n  has {problems:#?}");
    assert_eq!(value.is_none(), problems.iter().any(|p| p.severity == Severity::Error), "{input}");
}

const ROUTE: &str = "route: [{destination: {host: b}}]";

#[test]
fn broken_objects_are_refused_with_the_field_and_what_to_write() {
    for (spec, path, says) in [
        ("{hosts: [a]}", "spec", "no rules"),
        ("{hosts: a}", "spec.hosts", "where a list belongs"),
        ("{hosts: [a_b], http: [{route: [{destination: {host: b}}]}]}", "spec.hosts[0]", "not a DNS name"),
        ("{hosts: ['*'], http: [{route: [{destination: {host: b}}]}]}", "spec.hosts[0]", "for sidecars"),
        ("{hosts: [a, A], http: [{route: [{destination: {host: b}}]}]}", "spec.hosts[1]", "already covered"),
        (
            "{hosts: [a], gateways: [b/c/d], http: [{route: [{destination: {host: b}}]}]}",
            "spec.gateways[0]",
            "not the name",
        ),
        (
            "{hosts: [a], gateways: [''], http: [{route: [{destination: {host: b}}]}]}",
            "spec.gateways[0]",
            "NAMESPACE/NAME",
        ),
        (
            "{hosts: [a], exportTo: [A_B], http: [{route: [{destination: {host: b}}]}]}",
            "spec.exportTo[0]",
            "not a namespace",
        ),
        (
            "{hosts: [a], exportTo: ['*', b], http: [{route: [{destination: {host: b}}]}]}",
            "spec.exportTo[0]",
            "stands alone",
        ),
        ("{gateways: [g], http: [{route: [{destination: {host: b}}]}]}", "spec.gateways", "no hosts"),
        ("{http: [{delegate: {name: b}}]}", "spec.http[0].delegate", "cannot delegate further"),
        ("{tcp: [{route: [{destination: {host: b}}]}]}", "spec.tcp", "no hosts"),
        ("{hosts: [a], tls: [{route: [{destination: {host: b}}]}]}", "spec.tls[0].match", "sniHosts"),
        (
            "{hosts: [a], tls: [{match: [{sniHosts: []}], route: [{destination: {host: b}}]}]}",
            "spec.tls[0].match[0].sniHosts",
            "missing",
        ),
        (
            "{hosts: [a.b], tls: [{match: [{sniHosts: [c.b]}], route: [{destination: {host: b}}]}]}",
            "spec.tls[0].match[0].sniHosts[0]",
            "not among the hosts",
        ),
        ("{hosts: [a.b], tls: [{match: [{sniHosts: [a.b]}]}]}", "spec.tls[0].route", "missing"),
        (
            "{hosts: [a], tcp: [{match: [{port: 70000}], route: [{destination: {host: b}}]}]}",
            "spec.tcp[0].match[0].port",
            "not a port",
        ),
        (
            "{hosts: [a], tcp: [{match: [{destinationSubnets: [x]}], route: [{destination: {host: b}}]}]}",
            "spec.tcp[0].match[0].destinationSubnets[0]",
            "10.0.0.0/8",
        ),
        ("{hosts: [a], tcp: [{}]}", "spec.tcp[0].route", "missing"),
    ] {
        check(parse(spec), Severity::Error, path, says, spec);
    }
}

#[test]
fn broken_conditions_are_refused() {
    for (condition, path, says) in [
        ("uri: {regex: '*'}", "uri.regex", "RE2"),
        ("uri: {regex: ''}", "uri.regex", "empty"),
        ("uri: {regex: '(?!x)'}", "uri.regex", "RE2"),
        ("uri: {exact: /a, prefix: /b}", "uri", "one of them"),
        ("method: {prefix: ''}", "method.prefix", "empty"),
        ("scheme: {regex: '('}", "scheme.regex", "RE2"),
        ("authority: {regex: 'a{2000}'}", "authority.regex", "1000 times"),
        ("headers: {'a b': {exact: c}}", "headers[a b]", "not the name of a header"),
        ("headers: {'': {exact: c}}", "headers[]", "no header"),
        ("headers: {':pat': {exact: c}}", "headers[:pat]", "not the name of a header"),
        ("headers: {x: null}", "headers[x]", "write {}"),
        ("headers: {x: {prefix: ''}}", "headers[x].prefix", "empty"),
        ("headers: {'@request.auth.claims.sub': {exact: c}}", "headers[@request.auth.claims.sub]", "only gateways"),
        (
            "withoutHeaders: {'@request.auth.claims[a][b]': {}}",
            "withoutHeaders[@request.auth.claims[a][b]]",
            "only gateways",
        ),
        ("withoutHeaders: {x: {regex: '['}}", "withoutHeaders[x].regex", "bracket"),
        ("queryParams: {q: {regex: '\\1'}}", "queryParams[q].regex", "RE2"),
        ("queryParams: {'': {exact: c}}", "queryParams[]", "no query parameter"),
        ("port: 70000", "port", "not a port"),
        ("port: x", "port", "where a"),
        ("sourceNamespace: A_b", "sourceNamespace", "not the name of a namespace"),
        ("sourceLabels: {'a b': c}", "sourceLabels[a b]", "key of a label"),
        ("sourceLabels: {a: 'b c'}", "sourceLabels[a]", "value of a label"),
        ("gateways: [a_b]", "gateways[0]", "not the name of a gateway"),
    ] {
        let path = format!("spec.http[0].match[0].{path}");
        check(rule(&format!("match: [{{{condition}}}], {ROUTE}")), Severity::Error, &path, says, condition);
    }
}

#[test]
fn broken_actions_are_refused() {
    for (text, path, says) in [
        ("timeout: 1s", "", "does nothing"),
        ("route: []", "", "does nothing"),
        ("route: [{destination: {host: b}}], redirect: {uri: /}", "", "route and redirect"),
        ("route: [{destination: {host: b}}], delegate: {name: b}", "", "route and delegate"),
        ("redirect: {uri: /}, fault: {delay: {fixedDelay: 1s}}", ".fault", "needs a route"),
        ("directResponse: {status: 200}, rewrite: {uri: /}", ".rewrite", "needs a route"),
        ("delegate: {namespace: b}", ".delegate.name", "missing"),
        ("route: [{weight: 1}]", ".route[0].destination", "missing"),
        ("route: [{destination: {}}]", ".route[0].destination.host", "empty"),
        ("route: [{destination: {host: '*'}}]", ".route[0].destination.host", "no place"),
        ("route: [{destination: {host: 'http://b'}}]", ".route[0].destination.host", "not a DNS name"),
        ("route: [{destination: {host: b, subset: v_1}}]", ".route[0].destination.subset", "subset"),
        ("route: [{destination: {host: b, port: {number: 0}}}]", ".route[0].destination.port.number", "not a port"),
        ("route: [{destination: {host: b, port: {}}}]", ".route[0].destination.port.number", "not a port"),
        ("route: [{destination: {host: b}, weight: -1}]", ".route[0].weight", "not a weight"),
        ("route: [{destination: {host: b}}, {destination: {host: c}}]", ".route", "weight 0"),
        ("redirect: {}", ".redirect", "where it is"),
        ("redirect: {uri: /, redirectCode: 200}", ".redirect.redirectCode", "301, 302"),
        ("redirect: {uri: /, redirectCode: 304}", ".redirect.redirectCode", "301, 302"),
        ("redirect: {scheme: ftp}", ".redirect.scheme", "http or https"),
        ("redirect: {port: 70000}", ".redirect.port", "not a port"),
        ("redirect: {port: 1, derivePort: FROM_REQUEST_PORT}", ".redirect.derivePort", "one of them"),
        ("redirect: {derivePort: NO}", ".redirect.derivePort", "FROM_REQUEST_PORT"),
        ("redirect: {uri: /, prefixRewrite: /}", ".redirect.prefixRewrite", "one of them"),
        ("match: [{uri: {exact: /a}}], redirect: {prefixRewrite: /}", ".redirect.prefixRewrite", "prefix to replace"),
        ("directResponse: {status: 99}", ".directResponse.status", "200 to 599"),
        ("directResponse: {status: 600}", ".directResponse.status", "200 to 599"),
        ("directResponse: {status: 200, body: {string: a, bytes: aGk=}}", ".directResponse.body", "one of them"),
        ("directResponse: {status: 200, body: {bytes: '*'}}", ".directResponse.body.bytes", "base64"),
        ("route: [{destination: {host: b}}], rewrite: {}", ".rewrite", "changes nothing"),
        (
            "route: [{destination: {host: b}}], rewrite: {uri: /, uriRegexRewrite: {match: a, rewrite: b}}",
            ".rewrite.uriRegexRewrite",
            "one of them",
        ),
        (
            "route: [{destination: {host: b}}], rewrite: {uriRegexRewrite: {match: '(', rewrite: b}}",
            ".rewrite.uriRegexRewrite.match",
            "RE2",
        ),
        (
            "route: [{destination: {host: b}}], rewrite: {uriRegexRewrite: {match: a}}",
            ".rewrite.uriRegexRewrite.rewrite",
            "missing",
        ),
        (
            "route: [{destination: {host: b}}], rewrite: {authority: c}, headers: {request: {set: {host: d}}}",
            "",
            "several places",
        ),
    ] {
        check(rule(text), Severity::Error, &format!("spec.http[0]{path}"), says, text);
    }
}

#[test]
fn broken_traffic_settings_are_refused() {
    for (text, path, says) in [
        ("timeout: 5", "timeout", "where a text belongs"),
        ("timeout: fast", "timeout", "duration"),
        ("timeout: 0s", "timeout", "1ms"),
        ("retries: {attempts: -1}", "retries.attempts", "attempts"),
        ("retries: {attempts: 0, perTryTimeout: 1s}", "retries.attempts", "turns retries off"),
        ("retries: {attempts: 1, retryOn: 'sometimes'}", "retries.retryOn", "not a condition"),
        ("retries: {attempts: 1, retryOn: '5xx,'}", "retries.retryOn", "not a condition"),
        ("retries: {attempts: 1, perTryTimeout: 0s}", "retries.perTryTimeout", "1ms"),
        ("retries: {attempts: 1, backoff: x}", "retries.backoff", "duration"),
        ("fault: {}", "fault", "injects nothing"),
        ("fault: {delay: {percentage: {value: 101}, fixedDelay: 1s}}", "fault.delay.percentage.value", "0 to 100"),
        ("fault: {delay: {percentage: {value: 0.00001}, fixedDelay: 1s}}", "fault.delay.percentage.value", "too small"),
        ("fault: {delay: {percent: 101, fixedDelay: 1s}}", "fault.delay.percent", "0 to 100"),
        ("fault: {delay: {exponentialDelay: 1s}}", "fault.delay.exponentialDelay", "fixedDelay"),
        ("fault: {abort: {httpStatus: 42, percentage: {value: 1}}}", "fault.abort.httpStatus", "200 to 599"),
        ("fault: {abort: {grpcStatus: NOPE, percentage: {value: 1}}}", "fault.abort.grpcStatus", "UNAVAILABLE"),
        ("fault: {abort: {http2Error: X, percentage: {value: 1}}}", "fault.abort.http2Error", "httpStatus"),
        ("fault: {abort: {httpStatus: 500, grpcStatus: OK}}", "fault.abort", "one of"),
        ("mirror: {host: c}, mirrors: [{destination: {host: d}}]", "mirror", "into that list"),
        ("mirror: {host: 'c d'}", "mirror.host", "not a DNS name"),
        ("mirrors: [{}]", "mirrors[0].destination", "missing"),
        ("mirrors: [{destination: {host: c}, percentage: {value: -1}}]", "mirrors[0].percentage.value", "0 to 100"),
        ("mirror: {host: c}, mirrorPercent: 101", "mirrorPercent", "0 to 100"),
        ("mirror: {host: c}, mirrorPercentage: {value: 100.5}", "mirrorPercentage.value", "0 to 100"),
        ("corsPolicy: {allowOrigins: [{}]}", "corsPolicy.allowOrigins[0]", "no origin"),
        ("corsPolicy: {allowOrigins: [{regex: '('}]}", "corsPolicy.allowOrigins[0].regex", "RE2"),
        ("corsPolicy: {allowMethods: [get]}", "corsPolicy.allowMethods[0]", "not a method"),
        ("corsPolicy: {allowHeaders: ['a b']}", "corsPolicy.allowHeaders[0]", "not the name"),
        ("corsPolicy: {exposeHeaders: ['']}", "corsPolicy.exposeHeaders[0]", "no header"),
        ("corsPolicy: {maxAge: 1500ms}", "corsPolicy.maxAge", "whole seconds"),
        ("corsPolicy: {unmatchedPreflights: NO}", "corsPolicy.unmatchedPreflights", "IGNORE"),
        ("headers: {request: {set: {':path': a}}}", "headers.request.set[:path]", "without a colon"),
        ("headers: {request: {remove: [host]}}", "headers.request.remove[0]", "only be set"),
        ("headers: {response: {set: {host: a}}}", "headers.response.set[host]", "only be set"),
        ("headers: {response: {add: {x: '100%'}}}", "headers.response.add[x]", "lone %"),
        ("headers: {request: {add: {'': a}}}", "headers.request.add[]", "no header"),
    ] {
        check(rule(&format!("{text}, {ROUTE}")), Severity::Error, &format!("spec.http[0].{path}"), says, text);
    }
}

#[test]
fn what_has_no_effect_is_a_warning_and_the_rest_is_served() {
    for (spec, path, says) in [
        ("{hosts: [a], htttp: [], http: [{route: [{destination: {host: b}}]}]}", "spec.htttp", "not a field"),
        (
            "{hosts: [a], gateways: [g.n.svc], http: [{route: [{destination: {host: b}}]}]}",
            "spec.gateways[0]",
            "write n/g",
        ),
        (
            "{hosts: [a], http: [{route: [{destination: {host: b}}]}, {route: [{destination: {host: c}}]}]}",
            "spec.http[1]",
            "never reached",
        ),
        (
            "{hosts: [a], http: [{match: [{uri: {prefix: /a}}], route: [{destination: {host: b}}]}, {name: n, match: [{uri: {prefix: /ab}}], route: [{destination: {host: c}}]}]}",
            "spec.http[1].match[0]",
            "never reached",
        ),
        (
            "{hosts: [a], http: [{match: [{name: x, port: 80}, {name: y, port: 80}], route: [{destination: {host: b}}]}]}",
            "spec.http[0].match[1]",
            "never reached",
        ),
        (
            "{hosts: [a], http: [{fault: {abort: {httpStatus: 500}}, route: [{destination: {host: b}}]}]}",
            "spec.http[0].fault.abort",
            "no percentage",
        ),
        (
            "{hosts: [a], http: [{fault: {delay: {fixedDelay: 1s}}, route: [{destination: {host: b}}]}]}",
            "spec.http[0].fault.delay",
            "no percentage",
        ),
        (
            "{hosts: [a], http: [{fault: {abort: {percentage: {value: 1}}}, route: [{destination: {host: b}}]}]}",
            "spec.http[0].fault.abort",
            "no status",
        ),
        (
            "{hosts: [a], http: [{mirror: {host: c}, mirrorPercent: 5, route: [{destination: {host: b}}]}]}",
            "spec.http[0].mirrorPercent",
            "older name",
        ),
        (
            "{hosts: [a], http: [{corsPolicy: {allowOrigin: [x]}, route: [{destination: {host: b}}]}]}",
            "spec.http[0].corsPolicy.allowOrigin",
            "older name",
        ),
        (
            "{hosts: [a], tcp: [{route: [{destination: {host: b}}]}, {match: [{port: 1}], route: [{destination: {host: c}}]}]}",
            "spec.tcp[1]",
            "never reached",
        ),
        (
            "{hosts: [a.b], tls: [{match: [{sniHosts: [a.b]}], route: [{destination: {host: b}}]}, {match: [{sniHosts: [A.b]}], route: [{destination: {host: c}}]}]}",
            "spec.tls[1].match[0]",
            "never reached",
        ),
    ] {
        check(parse(spec), Severity::Warning, path, says, spec);
    }
}

#[test]
fn nulls_count_as_absent() {
    let (value, problems) = parse(
        "{hosts: [a], gateways: null, http: [{match: null, timeout: null, route: [{destination: {host: b, port: null}}]}]}",
    );
    assert_eq!(problems, []);
    let rule = value.expect("a good rule");
    assert_eq!((rule.gateways, rule.http[0].matches.len()), (vec!["mesh".into()], 0));
}

#[test]
fn names_are_made_full() {
    let (value, _) =
        parse("{hosts: [Web, '*.Example.com'], gateways: [mesh, g, ./h, n/i], http: [{delegate: {name: d}}]}");
    let rule = value.expect("a good rule");
    assert_eq!(rule.hosts, ["web.shop.svc.cluster.local".into(), Host::from("*.example.com")]);
    assert_eq!(rule.gateways, ["mesh".into(), "shop/g".into(), "shop/h".into(), Arc::<str>::from("n/i")]);
    let delegate = model::ObjectKey { namespace: "shop".into(), name: "d".into() };
    assert_eq!(rule.http[0].action, model::HttpAction::Delegate(delegate));
}
