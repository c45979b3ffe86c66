//! What a value must be beyond its type, as the API server holds it. Whatever it refuses is never stored, so a rule
//! stands here only if no object that means something breaks it; all else is found when objects are parsed.

use Rule::{AtMostOne, Cel, Duration, Entries, Items, Length, OneOf, Pattern, Range, Required};
use serde_json::{Value, json};

/// What a value must be.
enum Rule {
    /// These fields must be there.
    Required(&'static [&'static str]),
    /// Not more than one of these fields may be there.
    AtMostOne(&'static [&'static str]),
    /// One of these texts.
    OneOf(&'static [&'static str]),
    /// A number between these two.
    Range(i64, i64),
    /// A text with this many characters.
    Length(u32, u32),
    /// A list with this many elements.
    Items(u32, u32),
    /// A map with up to this many entries.
    Entries(u32),
    /// A text of this form.
    Pattern(&'static str),
    /// A duration of a millisecond or more.
    Duration,
    /// An expression, and what is said where it does not hold.
    Cel(&'static str, &'static str),
}

const NOT_EMPTY: Rule = Length(1, u32::MAX);
const U32: Rule = Range(0, u32::MAX as i64);
const PORT: Rule = Cel("0 < self && self <= 65535", "a port is a number from 1 to 65535");
/// The form of a duration. The API server adds up what the expressions of a kind may cost, and takes no more of them.
const DURATION: &str = r"^([0-9]+(\.[0-9]*)?(h|m|s|ms|us|µs|ns))+$";
const GROUP: &str = r"^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";
const ONE_TARGET: Rule = Cel(
    "(has(self.selector) ? 1 : 0) + (has(self.targetRef) ? 1 : 0) + (has(self.targetRefs) ? 1 : 0) <= 1",
    "write a selector or targetRefs, not both",
);
const SOCKET_WITHOUT_PORTS: Rule = Cel(
    "!has(self.address) || !self.address.startsWith('unix://') || !has(self.ports)",
    "an address that is a socket has no ports",
);
const SOMEWHERE: Rule = Cel("has(self.address) || has(self.network)", "write an address");
const SCHEME: Rule =
    Cel("url(self).getScheme() in ['http', 'https']", "write a URL that begins with https:// or http://");

/// The rules: the kind (`*` for each), the end of the path of the field, and what holds there. `[]` stands for the elements
/// of a list and `*` for the values of a map; an empty path is the whole `spec`, and `^` stands before a path from there.
const RULES: &[(&str, &str, Rule)] = &[
    // What many kinds have.
    ("*", "selector.matchLabels", Entries(4096)),
    (
        "*",
        "selector.matchLabels",
        Cel("self.all(key, size(key) != 0 && !key.contains('*'))", "a label's key has a name and no *"),
    ),
    ("*", "selector.matchLabels.*", Length(0, 63)),
    (
        "*",
        "selector.matchLabels.*",
        Cel("!self.contains('*')", "a label's value is matched as it stands: leave out the *"),
    ),
    ("*", "workloadSelector.labels", Entries(256)),
    ("*", "workloadSelector.labels.*", Length(0, 63)),
    (
        "*",
        "workloadSelector.labels.*",
        Cel("!self.contains('*')", "a label's value is matched as it stands: leave out the *"),
    ),
    ("*", "tcp.connectTimeout", Duration),
    ("*", "tcp.maxConnectionDuration", Duration),
    ("*", "tcp.idleTimeout", Duration),
    ("*", "tcpKeepalive.time", Duration),
    ("*", "tcpKeepalive.interval", Duration),
    ("*", "connectionPool.http.idleTimeout", Duration),
    ("*", "http2KeepAlive.interval", Pattern(DURATION)),
    ("*", "http2KeepAlive.timeout", Pattern(DURATION)),
    // DestinationRule
    ("DestinationRule", "", Required(&["host"])),
    ("DestinationRule", "subsets[]", Required(&["name"])),
    ("DestinationRule", "loadBalancer", AtMostOne(&["simple", "consistentHash"])),
    (
        "DestinationRule",
        "consistentHash",
        AtMostOne(&["httpHeaderName", "httpCookie", "useSourceIp", "httpQueryParameterName"]),
    ),
    ("DestinationRule", "consistentHash", AtMostOne(&["ringHash", "maglev"])),
    ("DestinationRule", "httpCookie", Required(&["name"])),
    ("DestinationRule", "httpCookie.attributes[]", Required(&["name"])),
    ("DestinationRule", "warmupDurationSecs", Duration),
    ("DestinationRule", "warmup", Required(&["duration"])),
    ("DestinationRule", "warmup.duration", Duration),
    ("DestinationRule", "warmup.minimumPercent", Range(0, 100)),
    ("DestinationRule", "minClusterSize", Range(1, u32::MAX as i64)),
    ("DestinationRule", "outlierDetection.interval", Duration),
    ("DestinationRule", "outlierDetection.baseEjectionTime", Duration),
    ("DestinationRule", "outlierDetectionHttpErrorCodes[]", Range(100, 599)),
    ("DestinationRule", "portLevelSettings", Items(0, 4096)),
    ("DestinationRule", "retryBudget.percent", Range(0, 100)),
    ("DestinationRule", "tunnel", Required(&["targetHost", "targetPort"])),
    ("DestinationRule", "workloadSelector.matchLabels", Entries(4096)),
    ("DestinationRule", "workloadSelector.matchLabels.*", Length(0, 63)),
    (
        "DestinationRule",
        "workloadSelector.matchLabels.*",
        Cel("!self.contains('*')", "a label's value is matched as it stands: leave out the *"),
    ),
    // Gateway, and the servers of a Sidecar
    ("Gateway", "servers[]", Required(&["port", "hosts"])),
    ("Gateway", "port", Required(&["number", "protocol", "name"])),
    ("*", "port.number", U32),
    ("*", "port.targetPort", U32),
    ("*", "tls.credentialNames", Items(1, 2)),
    ("*", "tls.tlsCertificates", Items(1, 2)),
    (
        "Gateway",
        "tls",
        Cel(
            "!has(self.credentialNames) || !has(self.tlsCertificates)",
            "write credentialNames or tlsCertificates, not both",
        ),
    ),
    (
        "Gateway",
        "tls",
        Cel(
            "!has(self.credentialNames) || !has(self.credentialName)",
            "write credentialName or credentialNames, not both",
        ),
    ),
    ("Gateway", "tls.mode", OneOf(SERVER_MODES)),
    ("Gateway", "tls.minProtocolVersion", OneOf(TLS_VERSIONS)),
    ("Gateway", "tls.maxProtocolVersion", OneOf(TLS_VERSIONS)),
    // Sidecar
    ("Sidecar", "ingress[]", Required(&["port"])),
    ("Sidecar", "egress[]", Required(&["hosts"])),
    ("Sidecar", "captureMode", OneOf(&["DEFAULT", "IPTABLES", "NONE"])),
    ("Sidecar", "outboundTrafficPolicy.egressProxy", Required(&["host"])),
    ("Sidecar", "ingress[].tls.mode", OneOf(SERVER_MODES)),
    ("Sidecar", "ingress[].tls.minProtocolVersion", OneOf(TLS_VERSIONS)),
    ("Sidecar", "ingress[].tls.maxProtocolVersion", OneOf(TLS_VERSIONS)),
    // ServiceEntry, and what it has in common with a WorkloadEntry
    ("ServiceEntry", "", Required(&["hosts"])),
    (
        "ServiceEntry",
        "",
        Cel("!has(self.workloadSelector) || !has(self.endpoints)", "write workloadSelector or endpoints, not both"),
    ),
    (
        "ServiceEntry",
        "",
        Cel(
            "!has(self.addresses) || !has(self.resolution) || self.resolution in ['NONE', 'STATIC'] || !self.addresses.exists(a, a.contains('/'))",
            "blocks of addresses go with the resolutions NONE and STATIC",
        ),
    ),
    (
        "ServiceEntry",
        "",
        Cel(
            "!has(self.endpoints) || (has(self.resolution) && self.resolution != 'NONE')",
            "with the resolution NONE there are no endpoints",
        ),
    ),
    (
        "ServiceEntry",
        "",
        Cel(
            "!has(self.endpoints) || !has(self.resolution) || self.resolution != 'DNS_ROUND_ROBIN' || size(self.endpoints) <= 1",
            "with the resolution DNS_ROUND_ROBIN there is one endpoint at most",
        ),
    ),
    ("ServiceEntry", "^hosts", Items(1, 256)),
    ("ServiceEntry", "hosts[]", Cel("self != '*'", "a host is not *; name it, or a part of it as *.example.com")),
    ("ServiceEntry", "^addresses", Items(0, 256)),
    ("ServiceEntry", "addresses[]", Length(0, 64)),
    ("ServiceEntry", "^endpoints", Items(0, 4096)),
    ("ServiceEntry", "endpoints[]", SOMEWHERE),
    ("ServiceEntry", "endpoints[]", SOCKET_WITHOUT_PORTS),
    ("ServiceEntry", "^ports", Items(0, 256)),
    (
        "ServiceEntry",
        "^ports",
        Cel("self.all(a, self.exists_one(b, a.number == b.number))", "each port has a number of its own"),
    ),
    ("ServiceEntry", "ports[]", Required(&["number", "name"])),
    ("ServiceEntry", "ports[].name", Length(0, 256)),
    ("ServiceEntry", "ports[].protocol", Length(0, 256)),
    ("ServiceEntry", "ports[].number", PORT),
    ("ServiceEntry", "ports[].targetPort", Cel("self <= 65535", "a port is a number from 1 to 65535")),
    ("WorkloadEntry", "", SOMEWHERE),
    ("WorkloadEntry", "", SOCKET_WITHOUT_PORTS),
    ("WorkloadGroup", "", Required(&["template"])),
    ("WorkloadGroup", "template", SOCKET_WITHOUT_PORTS),
    ("*", "address", Length(0, 256)),
    (
        "*",
        "address",
        Cel(
            "!self.startsWith('unix://') || self.startsWith('unix:///') || self.startsWith('unix://@')",
            "the path of a socket begins with / or @",
        ),
    ),
    ("*", "address", Cel("!self.startsWith('unix://') || !self.endsWith('/')", "a socket is not a directory")),
    ("*", "serviceAccount", Length(0, 253)),
    ("*", "locality", Length(0, 2048)),
    ("*", "network", Length(0, 2048)),
    ("WorkloadEntry", "labels", Entries(256)),
    ("WorkloadEntry", "ports", Entries(128)),
    ("WorkloadEntry", "ports", NAMED_PORTS),
    ("WorkloadEntry", "ports.*", PORT),
    ("ServiceEntry", "endpoints[].labels", Entries(256)),
    ("ServiceEntry", "endpoints[].ports", Entries(128)),
    ("ServiceEntry", "endpoints[].ports", NAMED_PORTS),
    ("ServiceEntry", "endpoints[].ports.*", PORT),
    ("WorkloadGroup", "template.labels", Entries(256)),
    ("WorkloadGroup", "template.ports", Entries(128)),
    ("WorkloadGroup", "template.ports", NAMED_PORTS),
    ("WorkloadGroup", "template.ports.*", PORT),
    ("WorkloadGroup", "metadata.labels", Entries(256)),
    ("WorkloadGroup", "metadata.annotations", Entries(256)),
    ("WorkloadGroup", "probe", AtMostOne(&["httpGet", "tcpSocket", "exec", "grpc"])),
    ("WorkloadGroup", "probe.initialDelaySeconds", Range(0, i32::MAX as i64)),
    ("WorkloadGroup", "probe.timeoutSeconds", Range(0, i32::MAX as i64)),
    ("WorkloadGroup", "probe.periodSeconds", Range(0, i32::MAX as i64)),
    ("WorkloadGroup", "probe.successThreshold", Range(0, i32::MAX as i64)),
    ("WorkloadGroup", "probe.failureThreshold", Range(0, i32::MAX as i64)),
    ("WorkloadGroup", "httpGet", Required(&["port"])),
    ("WorkloadGroup", "tcpSocket", Required(&["port"])),
    ("WorkloadGroup", "exec", Required(&["command"])),
    ("WorkloadGroup", "httpGet.port", PORT),
    ("WorkloadGroup", "tcpSocket.port", PORT),
    ("WorkloadGroup", "grpc.port", PORT),
    ("WorkloadGroup", "httpGet.scheme", Cel("self in ['', 'HTTP', 'HTTPS']", "a scheme is HTTP or HTTPS")),
    ("WorkloadGroup", "httpHeaders[].name", Pattern("^[-_A-Za-z0-9]+$")),
    // VirtualService
    ("VirtualService", "route[]", Required(&["destination"])),
    ("VirtualService", "mirrors[]", Required(&["destination"])),
    ("VirtualService", "destination", Required(&["host"])),
    ("VirtualService", "mirror", Required(&["host"])),
    ("VirtualService", "tls[]", Required(&["match"])),
    ("VirtualService", "tls[].match[]", Required(&["sniHosts"])),
    ("VirtualService", "match[].port", U32),
    ("VirtualService", "timeout", Duration),
    ("VirtualService", "perTryTimeout", Duration),
    ("VirtualService", "backoff", Duration),
    ("VirtualService", "fixedDelay", Duration),
    ("VirtualService", "exponentialDelay", Duration),
    ("VirtualService", "maxAge", Duration),
    ("VirtualService", "directResponse", Required(&["status"])),
    ("VirtualService", "directResponse.status", U32),
    ("VirtualService", "directResponse.body", AtMostOne(&["string", "bytes"])),
    ("VirtualService", "redirect", AtMostOne(&["port", "derivePort"])),
    ("VirtualService", "redirect.port", U32),
    ("VirtualService", "redirect.redirectCode", U32),
    ("VirtualService", "redirect.derivePort", OneOf(&["FROM_PROTOCOL_DEFAULT", "FROM_REQUEST_PORT"])),
    ("VirtualService", "fault.delay", AtMostOne(&["fixedDelay", "exponentialDelay"])),
    ("VirtualService", "fault.abort", AtMostOne(&["httpStatus", "grpcStatus", "http2Error"])),
    ("VirtualService", "mirrorPercent", U32),
    ("VirtualService", "mirror_percent", U32),
    ("VirtualService", "unmatchedPreflights", OneOf(&["UNSPECIFIED", "FORWARD", "IGNORE"])),
    ("VirtualService", "match[].uri", ONE_MATCH),
    ("VirtualService", "match[].scheme", ONE_MATCH),
    ("VirtualService", "match[].method", ONE_MATCH),
    ("VirtualService", "match[].authority", ONE_MATCH),
    ("VirtualService", "match[].headers.*", ONE_MATCH),
    ("VirtualService", "withoutHeaders.*", ONE_MATCH),
    ("VirtualService", "queryParams.*", ONE_MATCH),
    ("VirtualService", "allowOrigins[]", ONE_MATCH),
    // ProxyConfig
    ("ProxyConfig", "environmentVariables.*", Length(0, 2048)),
    ("ProxyConfig", "concurrency", Range(0, i32::MAX as i64)),
    // Policies
    ("AuthorizationPolicy", "", ONE_TARGET),
    ("RequestAuthentication", "", ONE_TARGET),
    ("*", "targetRef", Required(&["kind", "name"])),
    ("*", "targetRefs", Items(0, 16)),
    ("*", "targetRefs[]", Required(&["kind", "name"])),
    ("*", "targetRef.kind", Length(1, 63)),
    ("*", "targetRef.name", Length(1, 253)),
    ("*", "targetRef.group", Pattern(GROUP)),
    ("*", "targetRef.group", Length(0, 253)),
    ("*", "targetRef.namespace", Cel("size(self) == 0", "a policy is for objects of its own namespace")),
    ("*", "targetRefs[].kind", Length(1, 63)),
    ("*", "targetRefs[].name", Length(1, 253)),
    ("*", "targetRefs[].group", Pattern(GROUP)),
    ("*", "targetRefs[].group", Length(0, 253)),
    ("*", "targetRefs[].namespace", Cel("size(self) == 0", "a policy is for objects of its own namespace")),
    ("AuthorizationPolicy", "rules", Items(0, 512)),
    ("AuthorizationPolicy", "rules[].from", Items(0, 512)),
    ("AuthorizationPolicy", "when[]", Required(&["key"])),
    ("AuthorizationPolicy", "source.serviceAccounts", Items(0, 16)),
    ("AuthorizationPolicy", "source.notServiceAccounts", Items(0, 16)),
    ("AuthorizationPolicy", "source.serviceAccounts[]", Length(0, 320)),
    ("AuthorizationPolicy", "source.notServiceAccounts[]", Length(0, 320)),
    (
        "AuthorizationPolicy",
        "source",
        Cel(
            "!(has(self.serviceAccounts) || has(self.notServiceAccounts)) || !(has(self.principals) || has(self.notPrincipals) || has(self.namespaces) || has(self.notNamespaces))",
            "serviceAccounts go with neither principals nor namespaces",
        ),
    ),
    (
        "PeerAuthentication",
        "",
        Cel(
            "!has(self.portLevelMtls) || (has(self.selector) && has(self.selector.matchLabels) && size(self.selector.matchLabels) > 0)",
            "portLevelMtls goes with a selector",
        ),
    ),
    ("PeerAuthentication", "portLevelMtls", Cel("size(self) > 0", "write a port, or leave the field out")),
    (
        "PeerAuthentication",
        "portLevelMtls",
        Cel("self.all(port, 0 < int(port) && int(port) <= 65535)", "a port is a number from 1 to 65535"),
    ),
    ("RequestAuthentication", "jwtRules", Items(0, 4096)),
    (
        "RequestAuthentication",
        "jwtRules[]",
        Cel(
            "(has(self.jwksUri) ? 1 : 0) + (has(self.jwks_uri) ? 1 : 0) + (has(self.jwks) ? 1 : 0) <= 1",
            "write jwks or jwksUri, not both",
        ),
    ),
    ("RequestAuthentication", "issuer", NOT_EMPTY),
    ("RequestAuthentication", "audiences[]", NOT_EMPTY),
    ("RequestAuthentication", "fromParams[]", NOT_EMPTY),
    ("RequestAuthentication", "fromCookies[]", NOT_EMPTY),
    ("RequestAuthentication", "fromHeaders[]", Required(&["name"])),
    ("RequestAuthentication", "fromHeaders[].name", NOT_EMPTY),
    ("RequestAuthentication", "jwksUri", Length(1, 2048)),
    ("RequestAuthentication", "jwksUri", SCHEME),
    ("RequestAuthentication", "jwks_uri", Length(1, 2048)),
    ("RequestAuthentication", "jwks_uri", SCHEME),
    ("RequestAuthentication", "outputClaimToHeaders[]", Required(&["header", "claim"])),
    ("RequestAuthentication", "outputClaimToHeaders[].claim", NOT_EMPTY),
    ("RequestAuthentication", "outputClaimToHeaders[].header", Pattern("^[-_A-Za-z0-9]+$")),
    ("RequestAuthentication", "spaceDelimitedClaims", Items(0, 64)),
    ("RequestAuthentication", "spaceDelimitedClaims[]", NOT_EMPTY),
    ("RequestAuthentication", "timeout", Duration),
];

const ONE_MATCH: Rule = AtMostOne(&["exact", "prefix", "regex"]);
const NAMED_PORTS: Rule = Cel(
    "self.all(name, size(name) < 63 && name.matches('^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$'))",
    "the name of a port has letters, digits and dashes",
);
const SERVER_MODES: &[&str] =
    &["PASSTHROUGH", "SIMPLE", "MUTUAL", "AUTO_PASSTHROUGH", "ISTIO_MUTUAL", "OPTIONAL_MUTUAL"];
const TLS_VERSIONS: &[&str] = &["TLS_AUTO", "TLSV1_0", "TLSV1_1", "TLSV1_2", "TLSV1_3"];

/// Where a schema has its expressions.
const VALIDATIONS: &str = "x-kubernetes-validations";

/// Second names of fields: the kind, the path of the field, and the name.
const ALIASES: &[(&str, &str, &str)] = &[
    ("VirtualService", "http[].mirrorPercent", "mirror_percent"),
    ("RequestAuthentication", "jwtRules[].jwksUri", "jwks_uri"),
];

/// Adds what holds for a kind to the schema of its `spec`.
pub(super) fn hold(kind: &str, spec: &mut Value) {
    walk(kind, "", spec);
}

/// How many places each rule holds at in a schema, which must be some.
#[cfg(test)]
pub(super) fn idle(kinds: &[(&str, Vec<String>)]) -> Vec<String> {
    let holds = |(of, end, _): &&(&str, &str, Rule)| {
        kinds.iter().any(|(kind, paths)| applies(kind, of) && paths.iter().any(|path| ends(path, end)))
    };
    RULES.iter().filter(|rule| !holds(rule)).map(|(kind, path, _)| format!("{kind} {path}")).collect()
}

fn applies(kind: &str, of: &str) -> bool {
    of == "*" || of == kind
}

/// Whether a path is this one, or one within something else.
fn ends(path: &str, end: &str) -> bool {
    match end.strip_prefix('^') {
        Some(whole) => path == whole,
        None if end.is_empty() => path.is_empty(),
        None => path.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')),
    }
}

fn walk(kind: &str, path: &str, schema: &mut Value) {
    let mut aliases = Vec::new();
    for (name, field) in schema.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        if let Some((_, _, alias)) = ALIASES.iter().find(|(k, p, _)| *k == kind && *p == inner) {
            aliases.push(((*alias).to_owned(), field.clone()));
        }
        walk(kind, &inner, field);
    }
    for (alias, mut field) in aliases {
        walk(kind, &format!("{path}.{alias}"), &mut field);
        schema["properties"][alias] = field;
    }
    for (word, end) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(inner) = schema.get_mut(word).filter(|inner| inner.is_object()) {
            walk(kind, &format!("{path}{end}"), inner);
        }
    }
    for (_, _, rule) in RULES.iter().filter(|(of, end, _)| applies(kind, of) && ends(path, end)) {
        rule.write(schema);
    }
}

impl Rule {
    fn write(&self, schema: &mut Value) {
        match self {
            Required(names) => schema["required"] = json!(names),
            AtMostOne(names) => push(schema, "allOf", at_most_one(names)),
            OneOf(texts) => schema["enum"] = json!(texts),
            Range(least, most) => {
                schema["minimum"] = json!(least);
                schema["maximum"] = json!(most);
            }
            Length(least, most) => {
                if *least > 0 {
                    schema["minLength"] = json!(least);
                }
                if *most < u32::MAX {
                    schema["maxLength"] = json!(most);
                }
            }
            Items(least, most) => {
                if *least > 0 {
                    schema["minItems"] = json!(least);
                }
                schema["maxItems"] = json!(most);
            }
            Entries(most) => schema["maxProperties"] = json!(most),
            Pattern(form) => schema["pattern"] = json!(form),
            Duration => {
                let message = "write a duration of at least 1ms, as 5s or 300ms";
                push(schema, VALIDATIONS, json!({ "rule": "duration(self) >= duration('1ms')", "message": message }));
            }
            Cel(rule, message) => push(schema, VALIDATIONS, json!({ "rule": rule, "message": message })),
        }
    }
}

fn push(schema: &mut Value, list: &str, entry: Value) {
    match schema.get_mut(list).and_then(Value::as_array_mut) {
        Some(entries) => entries.push(entry),
        None => schema[list] = json!([entry]),
    }
}

/// None of the fields, or exactly one of them.
fn at_most_one(names: &[&str]) -> Value {
    let there: Vec<Value> = names.iter().map(|name| json!({ "required": [name] })).collect();
    let none = json!({ "not": { "anyOf": there } });
    let alternatives = [vec![none], there].concat();
    json!({ "oneOf": alternatives })
}
