//! What is read of a DestinationRule, and what is said of one that is wrong.

use super::*;
use crate::model::{HashKey, HashTable, LoadBalancerKind};
use serde_json::json;

fn read(spec: &str) -> Parsed<DestinationRule> {
    let spec: Value = serde_norway::from_str(spec).expect("YAML");
    let raw = json!({
        "apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "r", "namespace": "shop"}, "spec": spec,
    });
    destination_rule(&raw, &Context::default())
}

fn good(spec: &str) -> DestinationRule {
    let (rule, problems) = read(spec);
    assert_eq!(problems, [], "{spec}");
    rule.expect("a rule")
}

#[test]
fn a_short_host_is_a_service_of_the_own_namespace() {
    assert_eq!(&*good("{host: a}").host, "a.shop.svc.cluster.local");
    assert_eq!(&*good("{host: '*.b.com'}").host, "*.b.com");
}

#[test]
fn every_field_is_known() {
    let rule = good(
        "host: a
exportTo: ['.']
workloadSelector: {matchLabels: {app: web}}
trafficPolicy:
  loadBalancer:
    consistentHash: {httpCookie: {name: c, path: /, ttl: 0s, attributes: [{name: SameSite, value: Lax}]}, maglev: {tableSize: 65537}}
    localityLbSetting: {enabled: true, failover: [{from: r1, to: r2}], failoverPriority: [a, b=c]}
    warmup: {duration: 10s, minimumPercent: 25, aggression: 1.5}
  connectionPool:
    tcp: {maxConnections: 1, connectTimeout: 2s, maxConnectionDuration: 1h, idleTimeout: 0s, tcpKeepalive: {probes: 3, time: 60s, interval: 5s}}
    http: {http1MaxPendingRequests: 1, http2MaxRequests: 2, maxRequestsPerConnection: 3, maxRetries: 4, idleTimeout: 5s, h2UpgradePolicy: UPGRADE, useClientProtocol: false, maxConcurrentStreams: 6, http2KeepAlive: {interval: 7s, timeout: 8s}}
  outlierDetection: {splitExternalLocalOriginErrors: true, consecutiveLocalOriginFailures: 1, consecutiveGatewayErrors: 2, consecutive5xxErrors: 3, interval: 4s, baseEjectionTime: 5s, maxEjectionPercent: 6, minHealthPercent: 7, outlierDetectionHttpErrorCodes: [429]}
  tls: {mode: MUTUAL, clientCertificate: /c, privateKey: /k, caCertificates: /a, caCrl: /r, sni: s, subjectAltNames: [n]}
  portLevelSettings: [{port: {number: 80}, loadBalancer: {simple: RANDOM}, connectionPool: {tcp: {}}, outlierDetection: {}, tls: {mode: DISABLE}}]
  proxyProtocol: {version: V2}
  retryBudget: {percent: 12.5, minRetryConcurrency: 1, budgetInterval: 10s}
subsets:
- {name: v1, labels: {version: v1}, trafficPolicy: {tunnel: {protocol: POST, targetHost: x.com, targetPort: 443}}}
- {name: v2, trafficPolicy: {loadBalancer: {zoneAwareLbSetting: {enabled: false, minClusterSize: 3, failoverPriority: [a], failover: [{from: a, to: b}]}}}}
- {name: v3, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 10}}, localityLbSetting: {distribute: [{from: r/z/*, to: {r/z/*: 80, r2/*: 20}}]}}}}",
    );
    let balancer = rule.policy.load_balancer.expect("a load balancer");
    assert!(matches!(
        balancer.kind,
        LoadBalancerKind::Hash { key: HashKey::Cookie { ttl: Some(0), .. }, table: HashTable::Maglev(65537) }
    ));
    assert_eq!(rule.policy.proxy_protocol, Some(2));
    assert_eq!(rule.subsets.len(), 3);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    #[rustfmt::skip]
    let cases = [
        ("{}", "spec.host", "is missing"),
        ("{host: a..b}", "spec.host", "not a host name"),
        ("{host: 'a.*.b'}", "spec.host", "only a leading"),
        ("{host: 7}", "spec.host", "a text belongs"),
        ("{host: a, exportTo: ['*', b]}", "spec.exportTo[0]", "stands alone"),
        ("{host: a, exportTo: ['~']}", "spec.exportTo[0]", "not a namespace"),
        ("{host: a, exportTo: [b], workloadSelector: {matchLabels: {a: b}}}", "spec.exportTo", "for its own alone"),
        ("{host: a, workloadSelector: {matchLabels: {a: 'b*'}}}", "spec.workloadSelector.matchLabels[a]", "`*`"),
        ("{host: a, subsets: [{labels: {a: b}}]}", "spec.subsets[0].name", "is missing"),
        ("{host: a, subsets: [{name: v1}, {name: v1}]}", "spec.subsets[1].name", "earlier subset"),
        ("{host: a, subsets: [{name: 'v|1'}]}", "spec.subsets[0].name", "not a name"),
        ("{host: a, subsets: [{name: v1, labels: {v: '*'}}]}", "spec.subsets[0].labels[v]", "exact value"),
        ("{host: a, trafficPolicy: {loadBalancer: {simple: FASTEST}}}", "spec.trafficPolicy.loadBalancer.simple", "FASTEST"),
        ("{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM, consistentHash: {useSourceIp: true}}}}", "spec.trafficPolicy.loadBalancer", "only one"),
        ("{host: a, trafficPolicy: {loadBalancer: {consistentHash: {}}}}", "spec.trafficPolicy.loadBalancer.consistentHash", "does not say what is hashed"),
        ("{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, httpHeaderName: a}}}}", "spec.trafficPolicy.loadBalancer.consistentHash", "only one"),
        ("{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: ''}}}}", "spec.trafficPolicy.loadBalancer.consistentHash", "without a name"),
        ("{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {ttl: 1s}}}}}", "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.name", "is missing"),
        ("{host: a, trafficPolicy: {loadBalancer: {consistentHash: {httpCookie: {name: c, attributes: [{name: a}, {name: a}]}}}}}", "spec.trafficPolicy.loadBalancer.consistentHash.httpCookie.attributes[1].name", "given twice"),
        ("{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, maglev: {tableSize: 10}}}}}", "spec.trafficPolicy.loadBalancer.consistentHash.maglev.tableSize", "not a prime"),
        ("{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, ringHash: {minimumRingSize: 99999999}}}}}", "spec.trafficPolicy.loadBalancer.consistentHash.ringHash.minimumRingSize", "at most"),
        ("{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: a/*, to: {a/*: 60}}]}}}}", "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].to", "60 in all"),
        ("{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: 'a/*/c', to: {a/*: 100}}]}}}}", "spec.trafficPolicy.loadBalancer.localityLbSetting.distribute[0].from", "not a place"),
        ("{host: a, trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a, to: a}]}}}}", "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0].to", "for itself"),
        ("{host: a, trafficPolicy: {outlierDetection: {}, loadBalancer: {localityLbSetting: {failover: [{from: a/b, to: c}]}}}}", "spec.trafficPolicy.loadBalancer.localityLbSetting.failover[0].from", "not a region"),
        ("{host: a, trafficPolicy: {loadBalancer: {warmup: {}}}}", "spec.trafficPolicy.loadBalancer.warmup.duration", "is missing"),
        ("{host: a, trafficPolicy: {loadBalancer: {warmup: {duration: 1s, aggression: 0}}}}", "spec.trafficPolicy.loadBalancer.warmup.aggression", "greater than 0"),
        ("{host: a, trafficPolicy: {loadBalancer: {warmup: {duration: 1s, minimumPercent: 101}}}}", "spec.trafficPolicy.loadBalancer.warmup.minimumPercent", "out of range"),
        ("{host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 5}}}}", "spec.trafficPolicy.connectionPool.tcp.connectTimeout", "a text belongs"),
        ("{host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 5x}}}}", "spec.trafficPolicy.connectionPool.tcp.connectTimeout", "unit"),
        ("{host: a, trafficPolicy: {connectionPool: {tcp: {connectTimeout: 0s}}}}", "spec.trafficPolicy.connectionPool.tcp.connectTimeout", "longer than 0"),
        ("{host: a, trafficPolicy: {connectionPool: {tcp: {maxConnections: -1}}}}", "spec.trafficPolicy.connectionPool.tcp.maxConnections", "out of range"),
        ("{host: a, trafficPolicy: {connectionPool: {http: {h2UpgradePolicy: UPGRADE, useClientProtocol: true}}}}", "spec.trafficPolicy.connectionPool.http.h2UpgradePolicy", "leave one out"),
        ("{host: a, trafficPolicy: {connectionPool: {http: {http2KeepAlive: {interval: 1s}}}}}", "spec.trafficPolicy.connectionPool.http.http2KeepAlive.timeout", "is missing"),
        ("{host: a, trafficPolicy: {outlierDetection: {maxEjectionPercent: 101}}}", "spec.trafficPolicy.outlierDetection.maxEjectionPercent", "not a percentage"),
        ("{host: a, trafficPolicy: {outlierDetection: {consecutiveLocalOriginFailures: 1}}}", "spec.trafficPolicy.outlierDetection.consecutiveLocalOriginFailures", "splitExternalLocalOriginErrors"),
        ("{host: a, trafficPolicy: {outlierDetection: {outlierDetectionHttpErrorCodes: [42]}}}", "spec.trafficPolicy.outlierDetection.outlierDetectionHttpErrorCodes[0]", "not an HTTP status"),
        ("{host: a, trafficPolicy: {tls: {mode: TLS}}}", "spec.trafficPolicy.tls.mode", "TLS"),
        ("{host: a, trafficPolicy: {tls: {mode: MUTUAL, clientCertificate: /c}}}", "spec.trafficPolicy.tls.privateKey", "is missing"),
        ("{host: a, trafficPolicy: {tls: {mode: SIMPLE, credentialName: c, caCertificates: /a}}}", "spec.trafficPolicy.tls.credentialName", "not both"),
        ("{host: a, trafficPolicy: {portLevelSettings: [{tls: {mode: DISABLE}}]}}", "spec.trafficPolicy.portLevelSettings[0].port", "is missing"),
        ("{host: a, trafficPolicy: {portLevelSettings: [{port: {number: 70000}}]}}", "spec.trafficPolicy.portLevelSettings[0].port.number", "not a port"),
        ("{host: a, trafficPolicy: {tunnel: {protocol: GET, targetHost: a, targetPort: 1}}}", "spec.trafficPolicy.tunnel.protocol", "CONNECT or POST"),
        ("{host: a, trafficPolicy: {tunnel: {targetHost: '*.a', targetPort: 1}}}", "spec.trafficPolicy.tunnel.targetHost", "one host"),
        ("{host: a, trafficPolicy: {tunnel: {targetHost: a, targetPort: 1}, proxyProtocol: {}}}", "spec.trafficPolicy", "only one"),
        ("{host: a, trafficPolicy: {retryBudget: {percent: 200}}}", "spec.trafficPolicy.retryBudget.percent", "out of range"),
    ];
    for (spec, path, message) in cases {
        let (rule, problems) = read(spec);
        assert!(rule.is_none(), "{spec} is served");
        let found = problems.iter().any(|p| p.path.as_str() == path && p.message.contains(message));
        assert!(found, "{spec}: no {path}: {message} among {problems:#?}");
    }
}

#[test]
fn what_has_no_effect_is_said_and_the_rest_served() {
    #[rustfmt::skip]
    let cases = [
        ("{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM, sipmle: X}}}", "spec.trafficPolicy.loadBalancer.sipmle", "not a field"),
        ("{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {}, zoneAwareLbSetting: {}}}}", "spec.trafficPolicy.loadBalancer.localityLbSetting", "takes its place"),
        ("{host: a, workloadSelector: {matchLabels: {}}}", "spec.workloadSelector.matchLabels", "is empty"),
        ("{host: a, trafficPolicy: {outlierDetection: {consecutiveErrors: 3}}}", "spec.trafficPolicy.outlierDetection.consecutiveErrors", "consecutive5xxErrors"),
        ("{host: a, trafficPolicy: {connectionPool: {}}}", "spec.trafficPolicy.connectionPool", "is empty"),
        ("{host: a, trafficPolicy: {tls: {mode: SIMPLE, insecureSkipVerify: true, subjectAltNames: [x]}}}", "spec.trafficPolicy.tls.insecureSkipVerify", "unchecked"),
        ("{host: a, trafficPolicy: {tls: {mode: DISABLE, caCertificates: /x}}}", "spec.trafficPolicy.tls.caCertificates", "SIMPLE and MUTUAL"),
        ("{host: a, trafficPolicy: {loadBalancer: {warmup: {duration: 1s}, warmupDurationSecs: 1s}}}", "spec.trafficPolicy.loadBalancer.warmupDurationSecs", "takes its place"),
        ("{host: a, trafficPolicy: {loadBalancer: {consistentHash: {useSourceIp: true, minimumRingSize: 7}}}}", "spec.trafficPolicy.loadBalancer.consistentHash.minimumRingSize", "old form"),
        ("{host: a, trafficPolicy: {loadBalancer: {localityLbSetting: {failoverPriority: [a]}}}}", "spec.trafficPolicy.loadBalancer.localityLbSetting", "without outlierDetection"),
    ];
    for (spec, path, message) in cases {
        let (rule, problems) = read(spec);
        assert!(rule.is_some(), "{spec}: {problems:#?}");
        let found = problems.iter().any(|p| p.path.as_str() == path && p.message.contains(message));
        assert!(found && problems.len() == 1, "{spec}: no {path}: {message} among {problems:#?}");
    }
}

#[test]
fn a_subset_overrides_the_rule_and_a_port_replaces_it() {
    let rule = good(
        "host: a
trafficPolicy:
  loadBalancer: {simple: ROUND_ROBIN}
  connectionPool: {tcp: {maxConnections: 10}}
  portLevelSettings: [{port: {number: 81}, loadBalancer: {simple: RANDOM}}]
subsets:
- {name: v1, trafficPolicy: {connectionPool: {http: {maxRetries: 5}}}}
- {name: v2, trafficPolicy: {portLevelSettings: [{port: {number: 80}, tls: {mode: DISABLE}}]}}",
    );
    let policy = |port, subset: &str| rule.policy_for(port, rule.subset(subset));
    let kind = |p: &TrafficPolicy| p.load_balancer.as_ref().map(|l| l.kind.clone());
    assert_eq!(kind(&policy(80, "")), Some(LoadBalancerKind::RoundRobin));
    assert_eq!(kind(&policy(81, "")), Some(LoadBalancerKind::Random));
    assert_eq!(policy(81, "").connection_pool, None, "a port inherits nothing");
    let pool = policy(80, "v1").connection_pool.expect("a pool");
    assert_eq!((pool.max_connections, pool.max_retries), (None, Some(5)), "a part is replaced as a whole");
    assert_eq!(kind(&policy(80, "v1")), Some(LoadBalancerKind::RoundRobin));
    assert_eq!((kind(&policy(80, "v2")), policy(80, "v2").connection_pool), (None, None));
    assert_eq!(kind(&policy(90, "v2")), Some(LoadBalancerKind::RoundRobin));
}

#[test]
fn rules_for_one_host_are_merged_in_order() {
    let first = good("{host: a, subsets: [{name: v1, labels: {version: v1}}]}");
    let second = good("{host: a, trafficPolicy: {loadBalancer: {simple: RANDOM}}, subsets: [{name: v1}, {name: v2}]}");
    let third = good("{host: a, trafficPolicy: {loadBalancer: {simple: ROUND_ROBIN}}}");
    let (merged, twice) = first.merge(&second);
    assert_eq!(twice, ["v1".into()]);
    let (merged, _) = merged.merge(&third);
    assert_eq!(merged.subsets.iter().map(|s| &*s.name).collect::<Vec<_>>(), ["v1", "v2"]);
    assert!(merged.subsets[0].labels.contains_key("version"), "the first one counts");
    assert_eq!(merged.policy, second.policy, "the first policy counts");
    assert_eq!(merged.sources().count(), 3);
}
