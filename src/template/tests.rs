//! What templates come to, piece by piece.

use super::{Kind, Template, Value};
use proptest::prelude::*;
use serde_json::json;

fn run(text: &str) -> String {
    let data = json!({
        "ObjectMeta": { "name": "a", "annotations": { "x/y": "1", "empty": "" }, "labels": { "app": "shop" } },
        "Spec": {
            "hostIP": "10.0.0.1",
            "containers": [
                { "name": "one", "image": "r/one:1", "ports": [{ "containerPort": 80 }, { "containerPort": 53, "protocol": "UDP" }] },
                { "name": "istio-proxy", "ports": [{ "containerPort": 15090 }] },
            ],
        },
    });
    let values = json!({ "global": { "list": [1, 2.5, "c"], "map": { "b": null, "a": true } }, "n": 43200 });
    let data = Value::of(&data, Kind::Struct);
    if let Value::Map(_, all) = &data {
        all.borrow_mut().insert("Values".into(), Value::of(&values, Kind::Map));
    }
    let template = Template::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    template.run(&data).unwrap_or_else(|error| format!("error: {error}"))
}

fn fails(text: &str) -> String {
    Template::parse(text).err().map_or_else(|| format!("{text} is a template"), |error| error.to_string())
}

#[test]
fn the_language_is_go_s() {
    for (text, comes_to) in [
        ("a{{- /* nothing */ -}} b", "ab"),
        ("a {{- 1 -}}\n b", "a1b"),
        ("{{ `raw \"text\"` }}{{ \"\\tx\\u00e9\\\"\" }}{{ 'a' }}", "raw \"text\"\txé\"97"),
        ("{{ 0x10 }} {{ -1 }} {{ 1.5 }} {{ 1e3 }} {{ true }} {{ nil }}", "16 -1 1.5 1000 true "),
        ("{{ if .Values.none }}a{{ else if eq 1 1 }}b{{ else }}c{{ end }}", "b"),
        ("{{ if and 1 0 (fail `not reached`) }}a{{ else }}b{{ end }}{{ or 0 `x` (fail `no`) }}", "bx"),
        ("{{ with .ObjectMeta.Labels.app }}{{ . }}{{ $.ObjectMeta.Name }}{{ else }}none{{ end }}", "shopa"),
        ("{{ with .Values.none }}a{{ else with 3 }}{{ . }}{{ end }}", "3"),
        ("{{ range $i, $c := .Spec.Containers }}{{ $i }}={{ $c.Name }} {{ end }}", "0=one 1=istio-proxy "),
        ("{{ range $k, $v := .Values.global.map }}{{ $k }}:{{ $v }},{{ end }}", "a:true,b:,"),
        ("{{ range .Values.none }}a{{ else }}none{{ end }}", "none"),
        (
            "{{ range 5 }}{{ if eq . 1 }}{{ continue }}{{ end }}{{ if eq . 3 }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "02",
        ),
        ("{{ $x := 1 }}{{ if true }}{{ $x = 2 }}{{ $x := 3 }}{{ $x }}{{ end }}{{ $x }}", "32"),
        (
            "{{ define \"t\" }}[{{ . }}{{ $ }}]{{ end }}{{ template \"t\" 7 }}{{ block \"b\" 8 }}{{ . }}{{ end }}",
            "[77]8",
        ),
        ("{{ (index .Spec.Containers 0).Image }} {{ .Spec.HostIP }}", "r/one:1 10.0.0.1"),
        ("{{ .Values.a.b.c }}{{ .Spec.Missing.GetDeeper }}", ""),
        (
            "{{ printf \"%s-%d %q %5.2f|%-4s|%04d|%v %t\" `a` 7 `b\"` 1.234 `x` 42 (list 1 2) true }}",
            "a-7 \"b\\\"\"  1.23|x   |0042|[1 2] true",
        ),
        ("{{ printf \"%d\" `a` }}{{ printf \"%s\" }}", "%!d(string=a)%!s(MISSING)"),
        ("{{ print 1 2 `a` `b` 3 4 }}", "1 2ab3 4"),
        ("{{ len `abc` }}{{ len .Spec.Containers }}{{ slice `abcd` 1 3 }}{{ not 0 }}", "32bctrue"),
        ("{{ lt 1 2 }}{{ ge `b` `a` }}{{ ne 1 1.0 }}{{ eq 3 1 2 3 }}", "truetruefalsetrue"),
        ("{{ \"a b\" | printf \"%s!\" | quote }}", "\"a b!\""),
        ("{{ .Values.n }} {{ 1000000.0 }} {{ 1e21 }}", "43200 1000000 1e+21"),
    ] {
        assert_eq!(run(text), comes_to, "{text}");
    }
}

#[test]
fn functions_of_sprig_and_of_injection_do_what_they_do_there() {
    for (text, comes_to) in [
        (
            "{{ annotation .ObjectMeta `x/y` 3 }}{{ annotation .ObjectMeta `none` 3 }}|{{ annotation .ObjectMeta `empty` 3 }}",
            "13|",
        ),
        ("{{ isset .ObjectMeta.Annotations `empty` }} {{ isset .ObjectMeta.Annotations `none` }}", "true false"),
        ("{{ index .ObjectMeta.Labels `no` | default (index .ObjectMeta.Labels `app`) | default `x` }}", "shop"),
        (
            "{{ excludeInboundPort 15020 `80, 90` }} {{ excludeInboundPort `80` `80,90` }} {{ excludeInboundPort 0 `` }}",
            "80,90,15020 80,90 ",
        ),
        ("{{ includeInboundPorts .Spec.Containers }} {{ applicationPorts .Spec.Containers }}", "80,15090 80"),
        ("{{ toYaml (omitNil .Values.global.map) | indent 4 }}|{{ toYaml (list) }}", "a: true\n    |[]\n"),
        ("x:{{ toYaml (dict `a` 1 `b` 2) | trim | nindent 2 }}", "x:\n  a: 1\n  b: 2"),
        (
            "{{ structToJSON (index .Spec.Containers 1) }}",
            r#"{"name":"istio-proxy","ports":[{"containerPort":15090}]}"#,
        ),
        (
            "{{ appendMultusNetwork `` `n/c` }} {{ appendMultusNetwork `a` `n/c` }} {{ appendMultusNetwork `[{\"name\":\"a\"}]` `n/c` }}",
            r#"n/c a, n/c [{"name":"a"}, {"name": "c", "namespace": "n"}]"#,
        ),
        (
            "{{ toJsonMap (strdict `a` `1` `b` `2`) (strdict `b` `3`) }} {{ omit (strdict `a` `1` `b` `2`) `a` }}",
            r#"{"a":"1","b":"3"} map[b:2]"#,
        ),
        (
            "{{ $d := dict `a` 1 }}{{ $_ := set $d `b` 2 }}{{ $d }}{{ hasKey $d `b` }}{{ get $d `c` }}{{ keys $d }}",
            "map[a:1 b:2]true[a b]",
        ),
        (
            "{{ $a := dict `x` (dict `y` 1) }}{{ mergeOverwrite $a (dict `x` (dict `z` 2)) }} {{ dig `x` `q` 9 $a }}",
            "map[x:map[y:1 z:2]] 9",
        ),
        (
            "{{ list 1 2 3 | join `,` }} {{ append (list 1) 2 }} {{ concat (list 1) (list 2) }} {{ has 2 (list 1 2) }}",
            "1,2,3 [1 2] [1 2] true",
        ),
        (
            "{{ first (list 1 2) }}{{ last (list 1 2) }}{{ rest (list 1 2) }}{{ uniq (list 1 1 2) }}{{ without (list 1 2) 1 }}",
            "12[2][1 2][2]",
        ),
        (
            "{{ trunc 3 `abcdef` }} {{ trunc -2 `abc` }} {{ trimAll `-_.` `-a.` }} {{ trimSuffix `c` `abc` }} {{ substr 1 2 `abc` }}",
            "abc bc a ab b",
        ),
        (
            "{{ replace `a` `b` `aa` }} {{ contains `b` `abc` }} {{ hasPrefix `a` `abc` }} {{ splitList `,` `a,b` }} {{ (split `,` `a,b`)._1 }}",
            "bb true true [a b] b",
        ),
        (
            "{{ upper `a` }}{{ title `ab cd` }}{{ snakecase `aBc` }} {{ kebabcase `ABc` }} {{ camelcase `a_b` }}",
            "AAb Cda_bc abc AB",
        ),
        (
            "{{ add 1 2 3 }} {{ sub 3 1 }} {{ div 7 2 }} {{ mod 7 2 }} {{ max 1 3 2 }} {{ until 3 }} {{ seq 1 3 }} {{ int `7` }}",
            "6 2 3 1 3 [0 1 2] 1 2 3 7",
        ),
        (
            "{{ ternary `a` `b` true }} {{ coalesce 0 `` `c` }} {{ empty `` }} {{ default 1 0 }} {{ kindOf 1.5 }} {{ typeIs `string` `a` }}",
            "a c true 1 float64 true",
        ),
        (
            "{{ b64enc `a` }} {{ b64dec `YQ==` }} {{ toJson (list 1 `a`) }} {{ (fromJson `{\"a\":[1]}`).a }} {{ squote `a` }}",
            "YQ== a [1,\"a\"] [1] 'a'",
        ),
        (
            "{{ directory `/a/b` }} {{ base `/a/b.c` }} {{ ext `b.c` }} {{ dir `/a/b` }} {{ env `HOME` `unset` }}",
            "/a/ b.c .c /a unset",
        ),
    ] {
        assert_eq!(run(text), comes_to, "{text}");
    }
}

#[test]
fn digests_expressions_versions_addresses_and_paths_are_those_of_sprig() {
    for (text, comes_to) in [
        ("{{ sha1sum `a` }}", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
        ("{{ sha256sum `a` }}", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"),
        ("{{ sha512sum `a` | trunc 32 }}", "1f40fc92da241694750979ee6cf582f2"),
        ("{{ adler32sum `Wikipedia` }}", "300286872"),
        ("{{ b32enc `foobar` }} {{ b32dec `MZXW6YTBOI======` }} {{ b32enc `` }}|", "MZXW6YTBOI====== foobar |"),
        ("{{ b32dec `MZXW` }}", "error: line 1: b32dec: it is not Base32"),
        ("{{ regexMatch `^a+$` `aaa` }} {{ regexMatch `^a+$` `ab` }} {{ regexMatch `(` `a` }}", "true false false"),
        ("{{ regexFind `[a-c]+` `xxabcx` }}|{{ regexFind `d` `abc` }}|", "abc||"),
        (
            "{{ regexFindAll `[2468]` `123456789` -1 }} {{ regexFindAll `.` `abc` 2 }} {{ regexFindAll `.` `abc` 0 }}",
            "[2 4 6 8] [a b] []",
        ),
        (
            "{{ regexReplaceAll `a(x*)b` `-ab-axxb-` `${1}W` }} {{ regexReplaceAllLiteral `a(x*)b` `-ab-axxb-` `${1}` }}",
            "-W-xxW- -${1}-${1}-",
        ),
        (
            "{{ regexSplit `z+` `pizza` -1 }} {{ regexSplit `,` `a,b,c` 2 }} {{ regexSplit `` `abc` -1 }} {{ len (regexSplit `a` `` -1) }}",
            "[pi a] [a b,c] [a b c] 1",
        ),
        ("{{ mustRegexFind `b` `abc` }} {{ regexQuoteMeta `1.2(3)` }}", "b 1\\.2\\(3\\)"),
        (
            "{{ $v := semver `v1.2.3-rc.1+b` }}{{ $v.Major }}.{{ $v.Minor }}.{{ $v.Patch }} {{ $v.Prerelease }} {{ $v.Metadata }}",
            "1.2.3 rc.1 b",
        ),
        (
            "{{ with urlParse `https://u:p@h.example:8080/a%20b?c=d#e` }}{{ .scheme }} {{ .userinfo }} {{ .host }} {{ .hostname }} {{ .path }} {{ .query }} {{ .fragment }}{{ end }}",
            "https u:p h.example:8080 h.example /a b c=d e",
        ),
        (
            "{{ (urlParse `mailto:a@b`).opaque }} {{ (urlParse `http://[::1]:80/`).hostname }} {{ (urlParse `/a?b`).query }}",
            "a@b ::1 b",
        ),
        (
            "{{ urlJoin (dict `scheme` `http` `host` `h:80` `path` `/a b` `query` `c=d` `fragment` `e`) }} {{ urlJoin (urlParse `mailto:a@b`) }}",
            "http://h:80/a%20b?c=d#e mailto:a@b",
        ),
        (
            "{{ clean `/a//b/../c/.` }} {{ clean `../a/..` }} {{ clean `` }} {{ dir `a//b/` }} {{ dir `a` }} {{ osDir `/a` }}",
            "/a/c .. . a/b . /",
        ),
        (
            "{{ abbrevboth 5 10 `1234 5678 9123` }} {{ abbrevboth 0 5 `abcdefgh` }} {{ abbrevboth 9 7 `abcdefghij` }}",
            "...5678... ab... ...ghij",
        ),
        (
            "{{ wrap 5 `aaa bbb ccc` | quote }} {{ wrap 2 `aaaa b` | quote }} {{ wrapWith 3 `|` `abcdefgh` }}",
            r#""aaa\nbbb\nccc" "aaaa\nb" abc|def|gh"#,
        ),
        (
            "{{ duration 95 }} {{ duration `3600` }} {{ durationRound `2h10m5s` }} {{ durationRound `2400h10m5s` }} {{ durationRound `` }}",
            "1m35s 1h0m0s 2h 3mo 0s",
        ),
        (
            "{{ maxf 1 2.5 2 }} {{ minf 1.5 3 }} {{ add1f 1.5 }} {{ toDecimal `777` }} {{ toDecimal `9` }}",
            "2.5 1.5 2.5 511 0",
        ),
        (
            "{{ typeIsLike `*string` `a` }} {{ mustToJson (mustAppend (list 1) 2) }} {{ mustSlice (list 1 2 3) 1 2 }}",
            "true [1,2] [2]",
        ),
    ] {
        assert_eq!(run(text), comes_to, "{text}");
    }
    for unknown in ["mustQuote 1", "now", "genPrivateKey `rsa`", "mustAPPEND 1", "getHostByName `a`"] {
        assert!(fails(&format!("{{{{ {unknown} }}}}")).contains("is not known"), "{unknown}");
    }
}

#[test]
fn versions_are_held_to_what_is_written_as_in_charts() {
    for (held_to, version, holds) in [
        ("1.2.3", "v1.2.3", true),
        ("=1.2.3", "1.2.4", false),
        ("!=1.2.3", "1.2.4", true),
        ("1.2", "1.2.9", true),
        ("1.2.x", "1.3.0", false),
        ("!=1.2.x", "1.2.5", false),
        ("*", "7.0.1", true),
        (">=1.21-0", "v1.34.2-gke.100", true),
        (">=1.21", "v1.34.2-gke.100", false),
        (">1.2", "1.2.9", false),
        (">1.2", "1.3.0", true),
        ("<=1.2", "1.2.9", true),
        ("<1.2", "1.1.9", true),
        (">= 1.2, < 2", "1.9.9", true),
        (">=1.2 <2", "2.0.0", false),
        ("1.2 - 1.4", "1.4.7", true),
        ("1.2 - 1.4.5", "1.4.6", false),
        ("~1.2.3", "1.2.9", true),
        ("~1.2.3", "1.3.0", false),
        ("~1", "1.9.0", true),
        ("^1.2.3", "1.9.0", true),
        ("^1.2.3", "2.0.0", false),
        ("^0.2.3", "0.2.9", true),
        ("^0.2.3", "0.3.0", false),
        ("^0.0.3", "0.0.4", false),
        ("^0.0", "0.0.9", true),
        ("^0", "0.9.0", true),
        ("<1.0 || >=2.0", "2.1.0", true),
        ("<1.0 || >=2.0", "1.5.0", false),
        (">1.0.0-rc.2", "1.0.0-rc.10", true),
        (">1.0.0-rc.1", "1.0.0", true),
        ("<1.0.0-rc", "1.0.0-1", true),
    ] {
        let text = format!("{{{{ semverCompare `{held_to}` `{version}` }}}}");
        assert_eq!(run(&text), holds.to_string(), "{text}");
    }
    for text in ["{{ semverCompare `>=a` `1.2` }}", "{{ semverCompare `>=1` `new` }}", "{{ semver `1.2.3.4` }}"] {
        assert!(run(text).starts_with("error: "), "{text}");
    }
}

#[test]
fn what_a_provider_of_opentelemetry_is_told_follows_from_the_workload() {
    let text = "{{ otelResourceAttributes .MeshConfig .A .L `shop` .Containers }}";
    let data = json!({
        "MeshConfig": { "extensionProviders": [{ "opentelemetry": { "serviceAttributeEnrichment": "OTEL_SEMANTIC_CONVENTIONS" } }] },
        "A": {}, "L": {}, "Containers": [{ "name": "c", "image": "registry:5000/nginx:1.21@sha256:ab" }],
    });
    let made = Template::parse(text).expect("a template").run(&Value::of(&data, Kind::Struct)).expect("a text");
    assert_eq!(made, "service.namespace=shop,service.version=1.21@sha256:ab,service.instance.id=shop.$(POD_NAME).c");
}

#[test]
fn what_is_wrong_is_told_with_its_line() {
    for (text, why) in [
        ("a\n{{ if true }}", "line 2: `if` has no end"),
        ("{{ end }}", "line 1: there is nothing to end here"),
        ("{{ nosuch 1 }}", "line 1: the function nosuch is not known"),
        ("\n\n{{ \"a }}", "line 3: a text in \" has no end"),
        ("{{ .a", "line 1: an action has no end; close it with }}"),
        ("{{ (1 }}", "line 1: a parenthesis is not closed"),
        ("{{ break }}", "line 1: `break` is not in a range"),
        ("{{ if 1 }}{{ else }}{{ else }}{{ end }}", "line 1: this is the second `else`"),
        ("{{ }}", "line 1: a value is missing"),
        ("{{ /* a }}", "line 1: a comment has no end"),
        ("{{ 1x }}", "line 1: 1x is no number"),
        ("{{ \"a\"\"b\" }}", "line 1: a space is missing between two values"),
    ] {
        assert_eq!(fails(text), why, "{text}");
    }
    for (text, why) in [
        ("{{ fail `stop` }}", "error: line 1: fail: stop"),
        ("\n{{ index (list 1) 3 }}", "error: line 2: index: there is no entry 3 in a list of 1"),
        ("{{ $nosuch }}", "error: line 1: the variable $nosuch is not declared"),
        ("{{ template \"no\" }}", "error: line 1: the template \"no\" is not defined"),
        ("{{ div 1 0 }}", "error: line 1: div: division by zero"),
        ("{{ lt 1 `a` }}", "error: line 1: lt: a int and a string do not compare"),
        ("{{ quote }}{{ trim }}", "error: line 1: trim: 0 arguments are too few"),
    ] {
        assert!(run(text).ends_with(why), "{text}: {}", run(text));
    }
}

#[test]
fn no_template_runs_nests_or_grows_for_ever() {
    for text in [
        "{{ define \"t\" }}{{ template \"t\" }}{{ end }}{{ template \"t\" }}",
        "{{ range 1000000 }}{{ range 1000000 }}{{ end }}{{ end }}",
        "{{ $x := `aaaaaaaaaaaaaaaa` }}{{ range 100 }}{{ $x = printf `%s%s` $x $x }}{{ end }}",
        "{{ $x := list }}{{ range 1000000 }}{{ $x = list $x }}{{ end }}",
        "{{ $x := list 1 }}{{ range 100 }}{{ $x = list $x $x }}{{ end }}",
        "{{ $d := dict }}{{ $_ := set $d `a` $d }}{{ $d }}",
        "{{ repeat 100000000 `aaaaaaaaaaaaaa` }}",
        "{{ until 1000000000 }}",
        "{{ range 100000 }}{{ repeat 1000 `aaaaaaaaaaaaaaa` }}{{ end }}",
        "{{ regexReplaceAll `` (repeat 100000 `a`) (repeat 100000 `b`) }}",
        "{{ regexMatch `a` (regexReplaceAll `.*` (repeat 1000 `a`) (repeat 2000 `$0`)) }}",
        "{{ mustRegexMatch `(((a{500}){500}){500})` `a` }}",
        "{{ wrapWith 1 (repeat 1000 `b`) (repeat 100000 `a`) }}",
    ] {
        assert!(run(text).starts_with("error: "), "{text}");
    }
    let deep = format!("{}1{}", "{{ ".to_owned() + &"(".repeat(5000), ")".repeat(5000) + " }}");
    assert!(fails(&deep).contains("too deep"));
    assert!(fails(&("{{ if 1 }}".repeat(5000) + &"{{ end }}".repeat(5000))).contains("too deep"));
}

proptest! {
    #[test]
    fn no_text_is_too_strange_to_be_read_or_refused(text in "(\\{\\{[- ]?|[ -]?\\}\\}|if |else |end|range |with |define |\"a\"|\\$x|:=|\\.a|\\(|\\)|\\||[a-z0-9 \\n`'])*") {
        if let Ok(template) = Template::parse(&text) {
            let _ = template.run(&Value::Nil);
        }
    }

    #[test]
    fn no_function_fails_but_with_a_reason(name in 0_usize..400, arguments in prop::collection::vec(0_usize..9, 0..4)) {
        const SOME: [&str; 9] = ["nil", "-1", "9223372036854775807", "1.5", "`aé,b`", "(list 1 `a`)", "(dict `a` 1)", "true", "``"];
        let names = super::functions::names();
        let given: Vec<&str> = arguments.iter().map(|i| SOME[*i]).collect();
        let text = format!("{{{{ {} {} }}}}", names[name % names.len()], given.join(" "));
        let _ = Template::parse(&text).expect("a template").run(&Value::Nil);
    }
}

#[test]
fn templates_of_a_chart_call_each_other_and_functions_that_are_values() {
    let mut library = super::Library::default();
    let called = "{{ define \"name\" }}{{ .Values.a }}-{{ $ | kindOf }}{{ end }}unseen";
    library.add("called", called).expect("a template");
    let get = super::Native(std::rc::Rc::new(|a: &[Value]| Ok(format!("<{}>", a.len()).into())));
    let data = Value::map(
        Kind::Map,
        [
            ("Values".to_owned(), Value::of(&json!({ "a": "b", "m": { "k": [1] } }), Kind::Map)),
            ("Files".to_owned(), Value::map(Kind::Map, [("Get".to_owned(), Value::Native(get))])),
        ],
    );
    for (text, comes_to) in [
        ("{{ include \"name\" . | upper }}", "B-MAP"),
        ("x{{ include \"name\" . | nindent 2 }}", "x\n  b-map"),
        ("{{ tpl \"{{ .Values.a }}{{ include `name` . }}\" . }}", "bb-map"),
        ("{{ tpl \"{{ define `own` }}o{{ end }}{{ include `own` . }}\" . }}", "o"),
        ("{{ .Files.Get `a` }}{{ $.Files.Get (printf `%s` `b`) }}{{ `c` | .Files.Get }}", "<1><1><1>"),
        ("{{ toYaml .Values.m }}|", "k:\n- 1|"),
        ("{{ indent 2 `a` }}", "  a"),
    ] {
        library.add("text", text).unwrap_or_else(|why| panic!("{text}: {why}"));
        assert_eq!(library.run("text", &data).unwrap_or_else(|why| why.to_string()), comes_to, "{text}");
    }
    for (text, why) in [
        ("{{ include \"none\" . }}", "line 1: the template \"none\" is not defined"),
        ("{{ include \"name\" }}", "line 1: include and tpl take a template, and what it is given"),
        (
            "{{ define \"loop\" }}{{ include \"loop\" . }}{{ end }}{{ include \"loop\" . }}",
            "line 1: templates call each",
        ),
        ("{{ .Values.a 1 }}", "line 1: something is given arguments that is no function"),
    ] {
        library.add("text", text).expect("a template");
        let error = library.run("text", &data).expect_err(text).to_string();
        assert!(error.starts_with(why), "{text}: {error}");
    }
    assert!(fails("{{ include \"name\" . }}").contains("the function include is not known"));
}
