//! Sidecars (Istio: `pkg/config/validation/validation.go`, ValidateSidecar).

use super::{
    Context, Parsed,
    destination_rule::pool,
    gateway::server_tls,
    kubernetes::protocol_named,
    raw::{meta, typed},
    text,
    value::{Findings, UNIX, full_host, is_dns_label, is_socket},
};
use crate::{
    api::{
        destination_rule::{self, H2UpgradePolicy},
        gateway::{Port, ServerTls},
        sidecar as api,
    },
    model::{
        ConnectionPool, Destination, EgressHost, EgressListener, EgressNamespace, HeaderChanges, IngressListener,
        ListenerPort, OutboundPolicy, Protocol, ServerTlsMode, Sidecar, WorkloadEndpoint,
    },
    problem::FieldPath,
};
use serde_json::Value;
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

/// Reads a Sidecar.
pub(super) fn sidecar(raw: &Value, context: &Context) -> Parsed<Sidecar> {
    let meta = meta(raw);
    let path = FieldPath::new("spec");
    let (spec, problems) = typed::<api::Sidecar>(&meta.object, &path, &raw["spec"]);
    let Some(spec) = spec else { return (None, problems) };
    let mut found = Findings::new(&meta.object, problems);
    let says_nothing = spec.egress.is_empty()
        && spec.ingress.is_empty()
        && spec.outbound_traffic_policy.is_none()
        && spec.inbound_connection_pool.is_none();
    if says_nothing {
        found.error(&path, "says nothing; write egress, ingress, outboundTrafficPolicy or inboundConnectionPool");
    }
    let at = path.field("workloadSelector").field("labels");
    let selector = spec.workload_selector.as_ref().map(|s| {
        if s.labels.is_empty() {
            found.warn(
                &at,
                "is empty, so it is for all workloads of the namespace; name a label or leave the selector out",
            );
        }
        found.labels(&at, &s.labels)
    });
    let mut parser = Parser { found, context, namespace: &meta.object.namespace };
    let at = path.field("inboundConnectionPool");
    let sidecar = Sidecar {
        source: meta.object.clone(),
        created: meta.created,
        selector: selector.unwrap_or_default(),
        egress: parser.egress(&path.field("egress"), &spec.egress),
        outbound: parser.outbound(&path.field("outboundTrafficPolicy"), spec.outbound_traffic_policy.as_ref()),
        ingress: parser.ingress(&path.field("ingress"), &spec.ingress),
        inbound_pool: parser.inbound_pool(&at, spec.inbound_connection_pool.as_ref()),
    };
    parser.found.finish(sidecar)
}

struct Parser<'a> {
    found: Findings<'a>,
    context: &'a Context,
    namespace: &'a crate::id::Namespace,
}

impl Parser<'_> {
    fn egress(&mut self, path: &FieldPath, all: &[api::Egress]) -> Vec<EgressListener> {
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for (i, raw) in all.iter().enumerate() {
            let at = path.index(i);
            if raw.port.is_none() && i + 1 < all.len() {
                self.found.error(
                    &at.field("port"),
                    "is missing, which only the last listener may do; name a port, or move the listener to the end",
                );
            }
            let port = raw.port.as_ref().and_then(|port| {
                let unix = port.number == 0;
                let port = self.port(&at.field("port"), port, unix)?;
                let key = (port.number, if unix { raw.bind.as_str() } else { "" });
                if !seen.insert(key) {
                    self.found.error(
                        &at.field("port"),
                        "is taken by a listener before this one; give each a port or socket of its own",
                    );
                }
                if unix && !raw.bind.starts_with(UNIX) {
                    self.found.error(&at.field("bind"), "must be unix:// and a path where the port's number is 0");
                }
                Some(port)
            });
            let unix = raw.port.as_ref().is_some_and(|p| p.number == 0);
            let captured = self.captured(&at.field("captureMode"), &raw.capture_mode);
            if unix && captured == Some(true) {
                self.found
                    .error(&at.field("captureMode"), "cannot be IPTABLES at a socket of the file system; leave it out");
            }
            let bind = self.bind(&at.field("bind"), &raw.bind, unix);
            let hosts = self.hosts(&at.field("hosts"), &raw.hosts);
            out.push(EgressListener { port, bind, captured, hosts });
        }
        out
    }

    fn ingress(&mut self, path: &FieldPath, all: &[api::Ingress]) -> Vec<IngressListener> {
        let mut seen = BTreeSet::new();
        let mut out = Vec::new();
        for (i, raw) in all.iter().enumerate() {
            let at = path.index(i);
            let Some(port) = &raw.port else {
                self.found.error(&at.field("port"), "is missing; write the port that the traffic comes to");
                continue;
            };
            let Some(mut port) = self.port(&at.field("port"), port, false) else { continue };
            if !seen.insert(port.number) {
                self.found.error(&at.field("port"), "is taken by a listener before this one; leave one of them out");
            }
            let tls = raw.tls.as_ref().and_then(|tls| self.tls(&at.field("tls"), tls, port.protocol));
            if tls.is_some() {
                port.protocol = port.protocol.within_tls();
            }
            let bind = self.bind(&at.field("bind"), &raw.bind, false);
            let captured = self.captured(&at.field("captureMode"), &raw.capture_mode);
            let endpoint = self.endpoint(&at.field("defaultEndpoint"), &raw.default_endpoint);
            let pool = self.inbound_pool(&at.field("connectionPool"), raw.connection_pool.as_ref());
            out.push(IngressListener { port, bind, captured, endpoint, tls, pool });
        }
        out
    }

    /// TLS that ends at a port (Istio: `ENABLE_TLS_ON_SIDECAR_INGRESS`).
    fn tls(&mut self, path: &FieldPath, raw: &ServerTls, protocol: Protocol) -> Option<crate::model::ServerTls> {
        let elsewhere = [
            ("subjectAltNames", !raw.subject_alt_names.is_empty()),
            ("httpsRedirect", raw.https_redirect),
            ("credentialName", !raw.credential_name.is_empty()),
            ("credentialNames", !raw.credential_names.is_empty()),
            ("tlsCertificates", !raw.tls_certificates.is_empty()),
        ];
        for (field, _) in elsewhere.into_iter().filter(|(_, set)| *set) {
            self.found.error(&path.field(field), "has no place in a Sidecar; write serverCertificate and privateKey");
        }
        if !protocol.is_tls() {
            self.found.error(path, "does not fit the port's protocol; write HTTPS or TLS, or leave tls out");
        }
        let tls = server_tls(&mut self.found, path, raw);
        if !matches!(tls.mode, ServerTlsMode::Simple | ServerTlsMode::Mutual | ServerTlsMode::OptionalMutual) {
            self.found.error(&path.field("mode"), "ends no TLS in a Sidecar; write SIMPLE, MUTUAL or OPTIONAL_MUTUAL");
        }
        if !self.context.mesh.features.sidecar_tls {
            self.found.warn(path, "has no effect unless the control plane has ENABLE_TLS_ON_SIDECAR_INGRESS=true");
            return None;
        }
        Some(tls)
    }

    /// Limits of what comes in. The protocol towards the workload is that of its port.
    fn inbound_pool(
        &mut self,
        path: &FieldPath,
        raw: Option<&destination_rule::ConnectionPool>,
    ) -> Option<ConnectionPool> {
        let upgrade = raw.and_then(|pool| pool.http.as_ref()).map(|http| &http.h2_upgrade_policy);
        if matches!(upgrade, Some(H2UpgradePolicy::Upgrade)) {
            let message = "has no effect on what comes in, in Istio as here; let the protocol of the port be HTTP2";
            self.found.warn(&path.field("http").field("h2UpgradePolicy"), message);
        }
        pool::pool(&mut self.found, path, raw)
    }

    fn port(&mut self, path: &FieldPath, raw: &Port, unix: bool) -> Option<ListenerPort> {
        if raw.target_port != 0 {
            self.found.error(&path.field("targetPort"), "has no effect in a Sidecar; leave it out");
        }
        if !raw.name.is_empty() && !is_dns_label(&raw.name) {
            self.found.error(
                &path.field("name"),
                format!("{:?} is not the name of a port; write letters, digits and inner hyphens", raw.name),
            );
        }
        let protocol = protocol_named(&raw.protocol.to_ascii_lowercase());
        if protocol == Protocol::Auto {
            let message = format!(
                "{:?} is not a protocol; write HTTP, HTTP2, GRPC, HTTPS, TLS, TCP, HTTP_PROXY, MONGO, MYSQL or REDIS",
                raw.protocol
            );
            self.found.error(&path.field("protocol"), message);
        }
        let number = if unix { 0 } else { self.found.port(&path.field("number"), raw.number)? };
        Some(ListenerPort { number, protocol, name: raw.name.as_str().into() })
    }

    fn bind(&mut self, path: &FieldPath, bind: &str, unix: bool) -> Option<Arc<str>> {
        if bind.is_empty() {
            return None;
        }
        let good = match bind.strip_prefix(UNIX) {
            Some(file) if unix => is_socket(file),
            Some(_) => false,
            None => unix || bind.parse::<IpAddr>().is_ok(),
        };
        if !good {
            self.found.error(path, format!("{bind:?} is no address to listen at; write an IP address, or unix:// and an absolute path with port number 0"));
        }
        Some(bind.into())
    }

    fn captured(&mut self, path: &FieldPath, mode: &str) -> Option<bool> {
        match mode {
            "" | "DEFAULT" => None,
            "IPTABLES" => Some(true),
            "NONE" => Some(false),
            other => {
                self.found.error(path, format!("{other:?} is not known; write DEFAULT, IPTABLES or NONE"));
                None
            }
        }
    }

    fn hosts(&mut self, path: &FieldPath, hosts: &[String]) -> Vec<EgressHost> {
        if hosts.is_empty() {
            self.found.error(path, "is missing; write at least one as NAMESPACE/HOST, such as ./* or */*");
        }
        let mut out: Vec<EgressHost> = Vec::new();
        for (i, text) in hosts.iter().enumerate() {
            let at = path.index(i);
            let Some((namespace, name)) = text.split_once('/') else {
                self.found.error(&at, format!("{text:?} is not NAMESPACE/HOST; write ./{text} or */{text}"));
                continue;
            };
            let (excluded, namespace) = match namespace.strip_prefix('~') {
                Some("") => (true, "*"),
                Some(rest) => (true, rest),
                None => (false, namespace),
            };
            let namespace = match namespace {
                "*" => EgressNamespace::Any,
                "." => EgressNamespace::Own,
                name if is_dns_label(name) => EgressNamespace::Named(name.into()),
                other => {
                    self.found
                        .error(&at, format!("{other:?} is not a namespace; write `*`, `.` or the name of a namespace"));
                    continue;
                }
            };
            if let Err(why) = text::wildcard_name(name) {
                self.found.error(&at, why);
                continue;
            }
            let host = EgressHost { namespace, host: name.to_ascii_lowercase().into(), excluded };
            if let Some(other) = out
                .iter()
                .position(|o| !o.excluded && !excluded && o.namespace == host.namespace && o.host.covers(&host.host))
            {
                self.found.warn(&at, format!("is let in by {} already; leave it out", hosts[other]));
            }
            out.push(host);
        }
        out
    }

    fn outbound(
        &mut self,
        path: &FieldPath,
        raw: Option<&api::OutboundTrafficPolicy>,
    ) -> Option<(OutboundPolicy, Option<Destination>)> {
        let raw = raw?;
        let mode = match raw.mode.as_str() {
            "ALLOW_ANY" => OutboundPolicy::AllowAny,
            "" | "REGISTRY_ONLY" => OutboundPolicy::RegistryOnly,
            other => {
                self.found.error(
                    &path.field("mode"),
                    format!("{other:?} is not known here; write ALLOW_ANY or REGISTRY_ONLY"),
                );
                return None;
            }
        };
        let at = path.field("egressProxy");
        let proxy = raw.egress_proxy.as_ref().map(|proxy| {
            if mode != OutboundPolicy::AllowAny {
                self.found.error(&at, "counts only with mode ALLOW_ANY; write that, or leave the proxy out");
            }
            if let Err(why) = text::dns_name(&proxy.host) {
                self.found.error(&at.field("host"), why);
            }
            let number = at.field("port").field("number");
            let port = self.found.port(&number, proxy.port.as_ref().map_or(0, |p| p.number));
            Destination {
                host: full_host(&proxy.host, self.namespace, self.context),
                subset: proxy.subset.as_str().into(),
                port,
                weight: 0,
                headers: HeaderChanges::default(),
            }
        });
        Some((mode, proxy))
    }

    fn endpoint(&mut self, path: &FieldPath, text: &str) -> Option<WorkloadEndpoint> {
        if text.is_empty() {
            return None;
        }
        if let Some(file) = text.strip_prefix(UNIX) {
            if !is_socket(file) {
                self.found.error(path, format!("{text:?} is no socket; write unix:// and an absolute path"));
            }
            return Some(WorkloadEndpoint::Unix(file.into()));
        }
        let number = |port: &str| port.parse::<u16>().ok().filter(|p| *p > 0);
        let endpoint = text.rsplit_once(':').and_then(|(host, port)| match host {
            "127.0.0.1" => Some(WorkloadEndpoint::Loopback(true, number(port)?)),
            "[::1]" => Some(WorkloadEndpoint::Loopback(false, number(port)?)),
            "0.0.0.0" => Some(WorkloadEndpoint::Own(true, number(port)?)),
            "[::]" => Some(WorkloadEndpoint::Own(false, number(port)?)),
            _ => None,
        });
        if endpoint.is_none() {
            self.found.error(path, format!("{text:?} is no place of the workload; write 127.0.0.1:PORT, 0.0.0.0:PORT, [::1]:PORT, [::]:PORT or unix://PATH"));
        }
        endpoint
    }
}
