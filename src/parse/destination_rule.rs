//! DestinationRules (Istio: `pkg/config/validation/validation.go`, ValidateDestinationRule).

mod balancer;
pub(super) mod pool;

pub(super) use balancer::{locality, zone_aware};
pub(super) use pool::{keepalive, outlier, pool};

use super::{
    Context, Parsed,
    raw::{meta, typed},
    value::{Findings, check_host, is_dns_label, shared},
};
use crate::{
    api::destination_rule as api,
    model::{ClientTls, DestinationRule, ExportTo, RetryBudget, Subset, TlsMode, TrafficPolicy, Tunnel},
    problem::FieldPath,
};
use serde_json::Value;
use std::collections::BTreeSet;

/// Reads a DestinationRule.
pub(super) fn destination_rule(raw: &Value, context: &Context) -> Parsed<DestinationRule> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed::<api::DestinationRule>(&meta.object, &path, &raw["spec"]);
    let Some(spec) = spec else { return (None, problems) };
    let mut found = Findings::new(&meta.object, problems);
    let selector = spec.workload_selector.as_ref().map(|s| {
        let path = path.field("workloadSelector").field("matchLabels");
        if s.match_labels.is_empty() {
            found.warn(
                &path,
                "is empty, so the rule is for every workload of the namespace; name a label or leave the selector out",
            );
        }
        found.labels(&path, &s.match_labels)
    });
    let mut export_to = found.export_to(&path.field("exportTo"), &spec.export_to, false);
    if selector.is_some() {
        let own = ExportTo::Some { own: true, namespaces: Vec::new() };
        if export_to != ExportTo::Unset && export_to != own {
            found.error(
                &path.field("exportTo"),
                "reaches other namespaces, but a rule with a workloadSelector is for its own alone; write [\".\"] or leave it out",
            );
        }
        export_to = own;
    }
    let rule = DestinationRule {
        host: found.host(&path.field("host"), &spec.host, context),
        export_to,
        selector,
        policy: traffic_policy(&mut found, &path.field("trafficPolicy"), spec.traffic_policy.as_ref())
            .unwrap_or_default(),
        subsets: subsets(&mut found, &path.field("subsets"), &spec.subsets),
        merged: Vec::new(),
        created: meta.created,
        source: meta.object.clone(),
    };
    found.finish(rule)
}

fn subsets(found: &mut Findings<'_>, path: &FieldPath, subsets: &[api::Subset]) -> Vec<Subset> {
    let mut seen = BTreeSet::new();
    let mut out = Vec::new();
    for (at, subset) in subsets.iter().enumerate() {
        let path = path.index(at);
        let name = path.field("name");
        match subset.name.as_str() {
            "" => found.error(&name, "is missing; a subset is chosen by its name"),
            n if !is_dns_label(&n.to_ascii_lowercase().replace('.', "-")) => {
                found.error(&name, format!("`{n}` is not a name; write letters, digits, `-`, `_` and `.`"));
            }
            n if !seen.insert(n) => {
                found.error(&name, format!("`{n}` is the name of an earlier subset too; give each its own name"));
            }
            _ => {}
        }
        out.push(Subset {
            name: subset.name.as_str().into(),
            labels: found.endpoint_labels(&path.field("labels"), &subset.labels),
            policy: traffic_policy(found, &path.field("trafficPolicy"), subset.traffic_policy.as_ref()),
        });
    }
    out
}

fn traffic_policy(
    found: &mut Findings<'_>,
    path: &FieldPath,
    policy: Option<&api::TrafficPolicy>,
) -> Option<TrafficPolicy> {
    let policy = policy?;
    if policy.tunnel.is_some() && policy.proxy_protocol.is_some() {
        found.error(path, "has both tunnel and proxyProtocol, of which only one can be; leave one out");
    }
    let locality = policy.load_balancer.as_ref().and_then(|l| l.locality_lb_setting.as_ref());
    if locality.is_some_and(|l| !l.failover.is_empty() || !l.failover_priority.is_empty())
        && policy.outlier_detection.is_none()
    {
        found.warn(
            &path.field("loadBalancer").field("localityLbSetting"),
            "has no effect without outlierDetection, which finds out that endpoints fail; set outlierDetection too",
        );
    }
    let ports = policy.port_level_settings.iter().enumerate();
    Some(TrafficPolicy {
        load_balancer: balancer::load_balancer(found, &path.field("loadBalancer"), policy.load_balancer.as_ref()),
        connection_pool: pool(found, &path.field("connectionPool"), policy.connection_pool.as_ref()),
        outlier_detection: outlier(found, &path.field("outlierDetection"), policy.outlier_detection.as_ref()),
        tls: client_tls(found, &path.field("tls"), policy.tls.as_ref()),
        tunnel: tunnel(found, &path.field("tunnel"), policy.tunnel.as_ref()),
        proxy_protocol: policy.proxy_protocol.as_ref().map(|p| match p.version {
            api::ProxyProtocolVersion::V1 => 1,
            api::ProxyProtocolVersion::V2 => 2,
        }),
        retry_budget: retry_budget(found, &path.field("retryBudget"), policy.retry_budget.as_ref()),
        ports: ports.filter_map(|(at, p)| port_policy(found, &path.field("portLevelSettings").index(at), p)).collect(),
    })
}

fn port_policy(found: &mut Findings<'_>, path: &FieldPath, policy: &api::PortPolicy) -> Option<(u16, TrafficPolicy)> {
    let Some(port) = &policy.port else {
        found.error(&path.field("port"), "is missing; name the port of the service, such as {number: 80}");
        return None;
    };
    let number = found.port(&path.field("port").field("number"), port.number)?;
    Some((
        number,
        TrafficPolicy {
            load_balancer: balancer::load_balancer(found, &path.field("loadBalancer"), policy.load_balancer.as_ref()),
            connection_pool: pool(found, &path.field("connectionPool"), policy.connection_pool.as_ref()),
            outlier_detection: outlier(found, &path.field("outlierDetection"), policy.outlier_detection.as_ref()),
            tls: client_tls(found, &path.field("tls"), policy.tls.as_ref()),
            ..TrafficPolicy::default()
        },
    ))
}

fn tunnel(found: &mut Findings<'_>, path: &FieldPath, tunnel: Option<&api::Tunnel>) -> Option<Tunnel> {
    let tunnel = tunnel?;
    let post = match tunnel.protocol.as_str() {
        "" | "CONNECT" => false,
        "POST" => true,
        other => {
            found.error(&path.field("protocol"), format!("`{other}` is not a way to tunnel; write CONNECT or POST"));
            false
        }
    };
    let host = path.field("targetHost");
    let is_address = tunnel.target_host.parse::<std::net::IpAddr>().is_ok();
    match check_host(&tunnel.target_host) {
        Err(why) if !is_address => found.error(&host, why),
        Ok(()) if tunnel.target_host.starts_with('*') => {
            found.error(&host, "is a wildcard; a tunnel leads to one host");
        }
        _ => {}
    }
    let port = found.port(&path.field("targetPort"), tunnel.target_port)?;
    Some(Tunnel { post, host: tunnel.target_host.as_str().into(), port })
}

fn retry_budget(found: &mut Findings<'_>, path: &FieldPath, budget: Option<&api::RetryBudget>) -> Option<RetryBudget> {
    let budget = budget?;
    Some(RetryBudget {
        percent: found.millionths(&path.field("percent"), budget.percent, 100.0),
        min_concurrency: budget.min_retry_concurrency,
        interval: found.positive_duration(&path.field("budgetInterval"), budget.budget_interval.as_ref()),
    })
}

/// TLS towards servers, where it is written.
pub(super) fn client_tls(
    found: &mut Findings<'_>,
    path: &FieldPath,
    tls: Option<&api::ClientTls>,
) -> Option<ClientTls> {
    let tls = tls?;
    let mode = match tls.mode {
        api::TlsMode::Disable => TlsMode::Disable,
        api::TlsMode::Simple => TlsMode::Simple,
        api::TlsMode::Mutual => TlsMode::Mutual,
        api::TlsMode::IstioMutual => TlsMode::IstioMutual,
    };
    let from_user = matches!(mode, TlsMode::Simple | TlsMode::Mutual);
    let files = [&tls.client_certificate, &tls.private_key, &tls.ca_certificates, &tls.ca_crl];
    if from_user && !tls.credential_name.is_empty() && files.iter().any(|f| !f.is_empty()) {
        found.error(
            &path.field("credentialName"),
            "names a secret beside files; name the secret or the files, not both",
        );
    } else if mode == TlsMode::Mutual && tls.credential_name.is_empty() {
        for (name, file) in [("clientCertificate", &tls.client_certificate), ("privateKey", &tls.private_key)] {
            if file.is_empty() {
                found.error(
                    &path.field(name),
                    "is missing; MUTUAL needs a certificate and its key, as files or as a credentialName",
                );
            }
        }
    }
    let insecure = tls.insecure_skip_verify.unwrap_or(false);
    if insecure && (!tls.subject_alt_names.is_empty() || !tls.ca_certificates.is_empty()) {
        found.warn(
            &path.field("insecureSkipVerify"),
            "leaves the server's certificate unchecked, so subjectAltNames and caCertificates have no effect; leave it out to check them",
        );
    }
    let only_user = [
        ("clientCertificate", &tls.client_certificate),
        ("privateKey", &tls.private_key),
        ("caCertificates", &tls.ca_certificates),
        ("credentialName", &tls.credential_name),
    ];
    for (name, value) in only_user.into_iter().filter(|(_, v)| !from_user && !v.is_empty()) {
        found.warn(&path.field(name), format!("`{value}` has no effect in this mode; it counts in SIMPLE and MUTUAL"));
    }
    Some(ClientTls {
        mode,
        sni: tls.sni.as_str().into(),
        subject_alt_names: shared(&tls.subject_alt_names),
        certificate: tls.client_certificate.as_str().into(),
        key: tls.private_key.as_str().into(),
        ca: tls.ca_certificates.as_str().into(),
        crl: tls.ca_crl.as_str().into(),
        credential: tls.credential_name.as_str().into(),
        insecure,
    })
}

#[cfg(test)]
mod tests;
