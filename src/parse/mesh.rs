//! The mesh's settings: MeshConfig, as a file of its own or in the ConfigMap `istio`
//! (Istio: `pkg/config/mesh/mesh.go` and `pkg/config/validation/agent/validation.go`).

use super::{
    Context, Parsed, authorizer, destination_rule as rule, export_to, log_format, proxy_config,
    raw::{meta, typed},
    text,
    value::{Findings, is_dns_label, shared},
    virtual_service, yaml,
};
use crate::{
    api::{destination_rule::ClientTls, mesh as api},
    id::{Host, ObjectRef, Shared},
    model::{
        self, ClusterDefaults, ExportTo, IngressMode, LabelExpression, LabelOperator, LabelSelector, LogFormat, Mesh,
        MeshTls, Network, OutboundPolicy, PathNormalization, TlsMode, TlsVersion,
    },
    problem::{FieldPath, Problem},
};
use serde_json::Value;
use std::net::IpAddr;

/// Reads the settings in the ConfigMap that holds them; nothing where it is another one.
pub(super) fn config_map(raw: &Value, context: &Context) -> Parsed<Mesh> {
    let object = meta(raw).object;
    if *object.name != *super::settings_name(context) || *object.namespace != *context.system_namespace {
        return (None, Vec::new());
    }
    let text = |key: &str| {
        let path = FieldPath::new("data").field(key);
        let value = match &raw["data"][key] {
            Value::Null => return None,
            Value::String(text) => yaml::value(text).map_err(|e| format!("is not YAML: {e}")),
            _ => Err(format!("is not a text; write `{key}: |` and the settings below it")),
        };
        Some((value.map_err(|why| Problem::error(&object, path.clone(), why)), path))
    };
    let (mut mesh, mut problems) = match text("mesh") {
        Some((Ok(value), path)) => mesh_config(&object, &path, &value, context),
        Some((Err(problem), _)) => (None, vec![problem]),
        None => (Some((*context.mesh).clone()), Vec::new()),
    };
    problems.extend(match text("meshNetworks") {
        Some((Ok(value), path)) => {
            let (known, problems) = networks(&object, &path, &value);
            if let (Some(mesh), Some(known)) = (&mut mesh, known) {
                mesh.networks = known;
            }
            problems
        }
        Some((Err(problem), _)) => vec![problem],
        None => Vec::new(),
    });
    (mesh, problems)
}

/// Reads a MeshConfig that is at `path` of an object: what it says takes the place of what the process was
/// started with.
pub(super) fn mesh_config(object: &ObjectRef, path: &FieldPath, value: &Value, context: &Context) -> Parsed<Mesh> {
    let mut value = value.clone();
    let mut early = Vec::new();
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|_, v| !v.is_null());
        for name in api::NOT_YET.iter().filter(|name| fields.contains_key(**name)) {
            early.push(Problem::warning(object, path.field(name), "is not served yet, so it has no effect"));
        }
        fields.retain(|name, _| !api::NOT_YET.contains(&name.as_str()));
        early.extend(unserved_providers(object, path, fields.get("extensionProviders")));
    }
    let (config, problems) = match &value {
        Value::Null => (Some(api::MeshConfig::default()), Vec::new()),
        Value::Object(_) => typed::<api::MeshConfig>(object, path, &value),
        _ => {
            (None, vec![Problem::error(object, path.clone(), "is not a map of fields, as accessLogFile: /dev/stdout")])
        }
    };
    early.extend(problems);
    let Some(config) = config else { return (None, early) };
    let mut reader = Reader { found: Findings::new(object, early), path };
    let mut mesh = (*context.mesh).clone();
    reader.ports(&config, &mut mesh);
    reader.times(&config, &mut mesh);
    reader.names(&config, &mut mesh);
    reader.traffic(&config, &mut mesh);
    reader.ingresses(&config, &mut mesh);
    reader.discovery(&config, &mut mesh);
    reader.services(&config, &mut mesh);
    mesh.clusters = Shared::new(reader.clusters(&config, &mesh.clusters));
    let at = path.field("extensionProviders");
    let (authorizers, of_authorizers) = authorizer::authorizers(object, &at, &config.extension_providers);
    mesh.authorizers = authorizers;
    let (mesh, mut problems) = reader.found.finish(mesh);
    problems.extend(of_authorizers);
    (mesh, problems)
}

/// What is to be said of providers that are no authorizers.
fn unserved_providers(object: &ObjectRef, path: &FieldPath, providers: Option<&Value>) -> Vec<Problem> {
    let at = path.field("extensionProviders");
    let others = providers.and_then(Value::as_array).into_iter().flatten().enumerate();
    let others = others.filter(|(_, provider)| !authorizer::is_authorizer(provider));
    others
        .map(|(i, _)| Problem::warning(object, at.index(i), "is of a kind that is not served yet, so it has no effect"))
        .collect()
}

struct Reader<'a> {
    found: Findings<'a>,
    path: &'a FieldPath,
}

impl Reader<'_> {
    fn ports(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        for (name, given, port) in [
            ("proxyListenPort", config.proxy_listen_port, &mut mesh.outbound_port),
            ("proxyInboundListenPort", config.proxy_inbound_listen_port, &mut mesh.inbound_port),
            // 0 is for none.
            ("proxyHttpPort", config.proxy_http_port.filter(|p| *p != 0), &mut mesh.http_proxy_port),
        ] {
            let read = given.and_then(|number| self.found.port(&self.path.field(name), number));
            *port = read.unwrap_or(*port);
        }
    }

    fn times(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        let at = |name| self.path.field(name);
        let connect = self.found.positive_duration(&at("connectTimeout"), config.connect_timeout.as_ref());
        let detection =
            self.found.duration(&at("protocolDetectionTimeout"), config.protocol_detection_timeout.as_ref());
        let refresh = self.found.positive_duration(&at("dnsRefreshRate"), config.dns_refresh_rate.as_ref());
        mesh.connect_timeout = connect.unwrap_or(mesh.connect_timeout);
        mesh.detection_timeout = detection.unwrap_or(mesh.detection_timeout);
        mesh.dns_refresh = refresh.unwrap_or(mesh.dns_refresh);
    }

    fn names(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        if let Some(domain) = config.trust_domain.as_deref().filter(|d| !d.is_empty()) {
            match domain.len() <= 255 && domain.split('.').all(|l| is_dns_label(&l.to_ascii_lowercase())) {
                true => mesh.trust_domain = domain.into(),
                false => self.found.error(
                    &self.path.field("trustDomain"),
                    format!("`{domain}` is not a domain; write labels of letters, digits and `-`, with dots between"),
                ),
            }
        }
        if let Some(name) = config.root_namespace.as_deref().filter(|n| !n.is_empty()) {
            match is_dns_label(name) {
                true => mesh.root_namespace = name.into(),
                false => self.found.error(
                    &self.path.field("rootNamespace"),
                    format!("`{name}` is not a namespace; write the name of one"),
                ),
            }
        }
        for (name, list, to) in [
            ("defaultServiceExportTo", &config.default_service_export_to, &mut mesh.service_export_to),
            (
                "defaultVirtualServiceExportTo",
                &config.default_virtual_service_export_to,
                &mut mesh.virtual_service_export_to,
            ),
            (
                "defaultDestinationRuleExportTo",
                &config.default_destination_rule_export_to,
                &mut mesh.destination_rule_export_to,
            ),
        ] {
            if !list.is_empty() {
                *to = self.export_to(&self.path.field(name), list);
            }
        }
    }

    fn export_to(&mut self, path: &FieldPath, list: &[String]) -> ExportTo {
        for (at, entry) in list.iter().enumerate() {
            match entry.as_str() {
                "*" | "~" if list.len() > 1 => self
                    .found
                    .error(&path.index(at), format!("`{entry}` stands alone; leave out the other entries or this one")),
                "*" | "." | "~" => {}
                name if is_dns_label(name) => {}
                name => self.found.error(
                    &path.index(at),
                    format!("`{name}` is not a namespace; write `*`, `.`, `~` or the name of a namespace"),
                ),
            }
        }
        export_to(list.iter().map(String::as_str))
    }

    fn mutual_tls(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        for (i, domain) in config.trust_domain_aliases.iter().enumerate() {
            let good = domain.len() <= 255 && domain.split('.').all(|l| is_dns_label(&l.to_ascii_lowercase()));
            if !good {
                let message =
                    format!("`{domain}` is not a domain; write labels of letters, digits and `-`, with dots between");
                self.found.error(&self.path.field("trustDomainAliases").index(i), message);
            }
        }
        mesh.trust_domain_aliases = shared(&config.trust_domain_aliases);
        let Some(tls) = &config.mesh_mtls else { return };
        let only_13 = match tls.min_protocol_version.as_deref() {
            None | Some("" | "TLS_AUTO" | "TLSV1_2") => false,
            Some("TLSV1_3") => true,
            Some(other) => {
                let message = format!("`{other}` is not a version; write TLSV1_2 or TLSV1_3");
                self.found.error(&self.path.field("meshMTLS").field("minProtocolVersion"), message);
                false
            }
        };
        let (cipher_suites, ecdh_curves) = (shared(&tls.cipher_suites), shared(&tls.ecdh_curves));
        mesh.mtls = MeshTls { only_13, cipher_suites, ecdh_curves };
    }

    /// TLS towards hosts that no service is known for. What is the mesh's own, or in a secret, no sidecar has for them.
    fn unknown_tls(&mut self, path: &FieldPath, tls: Option<&ClientTls>) -> Option<model::ClientTls> {
        let tls = rule::client_tls(&mut self.found, path, tls)?;
        if tls.mode == TlsMode::IstioMutual {
            self.found.error(&path.field("mode"), "is for workloads of the mesh; write SIMPLE, or MUTUAL with files");
        }
        if !tls.credential.is_empty() {
            self.found.error(&path.field("credentialName"), "names a Secret, which sidecars cannot have; name files");
        }
        (tls.mode != TlsMode::Disable).then_some(tls)
    }

    fn access_log(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        if let Some(file) = &config.access_log_file {
            mesh.access_log.file = file.as_str().into();
        }
        mesh.access_log.not_of_listeners = config.disable_envoy_listener_log.unwrap_or_default();
        let (path, text) = (self.path.field("accessLogFormat"), config.access_log_format.as_deref());
        let read = match (config.access_log_encoding, text.filter(|t| !t.is_empty())) {
            (api::Encoding::Text, None) => Ok(LogFormat::Usual),
            (api::Encoding::Json, None) => Ok(LogFormat::UsualJson),
            (api::Encoding::Text, Some(text)) => log_format::text(text),
            (api::Encoding::Json, Some(text)) => log_format::json(text),
        };
        match read {
            Ok(format) => mesh.access_log.format = format,
            Err(why) => self.found.warn(&path, format!("{why}; until then lines are as usual")),
        }
    }

    fn services(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        let path = self.path.field("serviceSettings");
        let mut all: Vec<(Host, bool)> = Vec::new();
        for (i, settings) in config.service_settings.iter().enumerate() {
            let at = path.index(i).field("hosts");
            for (j, host) in settings.hosts.iter().enumerate() {
                match text::wildcard_name(host) {
                    Ok(()) => all.push((host.as_str().into(), settings.settings.cluster_local)),
                    Err(why) => self.found.error(&at.index(j), why),
                }
            }
        }
        mesh.cluster_local = all;
    }

    fn discovery(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        let path = self.path.field("discoverySelectors");
        let mut selectors = Vec::new();
        for (i, selector) in config.discovery_selectors.iter().enumerate() {
            let at = path.index(i);
            let labels = self.found.labels(&at.field("matchLabels"), &selector.match_labels);
            let mut expressions = Vec::new();
            for (j, raw) in selector.match_expressions.iter().enumerate() {
                expressions.extend(self.expression(&at.field("matchExpressions").index(j), raw));
            }
            selectors.push(LabelSelector { labels, expressions });
        }
        mesh.discovery_selectors = selectors;
    }

    fn expression(&mut self, path: &FieldPath, raw: &api::LabelExpression) -> Option<LabelExpression> {
        let operator = match raw.operator.as_str() {
            "In" => LabelOperator::In,
            "NotIn" => LabelOperator::NotIn,
            "Exists" => LabelOperator::Exists,
            "DoesNotExist" => LabelOperator::DoesNotExist,
            other => {
                let message = format!("{other:?} is not known; write In, NotIn, Exists or DoesNotExist");
                self.found.error(&path.field("operator"), message);
                return None;
            }
        };
        if raw.key.is_empty() {
            self.found.error(&path.field("key"), "is missing; write the name of a label");
        }
        let listed = matches!(operator, LabelOperator::In | LabelOperator::NotIn);
        if listed == raw.values.is_empty() {
            let message = match listed {
                true => "is missing; write the values of the label",
                false => "has no meaning with this operator; leave it out",
            };
            self.found.error(&path.field("values"), message);
        }
        Some(LabelExpression { key: raw.key.as_str().into(), operator, values: shared(&raw.values) })
    }

    fn traffic(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        mesh.tracing = config.enable_tracing.unwrap_or(mesh.tracing);
        self.mutual_tls(config, mesh);
        mesh.auto_mtls = config.enable_auto_mtls.unwrap_or(mesh.auto_mtls);
        self.access_log(config, mesh);
        if let Some(policy) = &config.inbound_traffic_policy {
            mesh.inbound_to_loopback = policy.mode == api::InboundMode::Localhost;
        }
        if let Some(retries) = &config.default_inbound_http_retry_policy {
            let path = self.path.field("defaultInboundHttpRetryPolicy");
            mesh.inbound_retry = Some(virtual_service::retries(&mut self.found, &path, retries));
        }
        if let Some(proxies) = &config.default_config {
            let path = self.path.field("defaultConfig");
            mesh.proxy_config = proxy_config::proxy_config(&mut self.found, &path, proxies);
        }
        if let Some(policy) = &config.outbound_traffic_policy {
            let path = self.path.field("outboundTrafficPolicy");
            mesh.outbound_policy = match policy.mode {
                api::OutboundMode::RegistryOnly => OutboundPolicy::RegistryOnly,
                api::OutboundMode::AllowAny => OutboundPolicy::AllowAny,
                api::OutboundMode::AllowAnyDynamicDns => OutboundPolicy::AllowAnyDynamicDns,
            };
            mesh.unknown_tls = self.unknown_tls(&path.field("tls"), policy.tls.as_ref());
            if mesh.unknown_tls.is_some() && mesh.outbound_policy != OutboundPolicy::AllowAnyDynamicDns {
                self.found.warn(&path.field("tls"), "has no effect in this mode; it counts in ALLOW_ANY_DYNAMIC_DNS");
            }
        }
        if let Some(path) = &config.path_normalization {
            mesh.path_normalization = match path.normalization {
                api::Normalization::None => PathNormalization::None,
                api::Normalization::Default | api::Normalization::Base => PathNormalization::Base,
                api::Normalization::MergeSlashes => PathNormalization::MergeSlashes,
                api::Normalization::DecodeAndMergeSlashes => PathNormalization::DecodeAndMergeSlashes,
            };
        }
        if let Some(retries) = &config.default_http_retry_policy {
            let path = self.path.field("defaultHttpRetryPolicy");
            mesh.default_retry = Some(virtual_service::retries(&mut self.found, &path, retries));
        }
    }

    fn ingresses(&mut self, config: &api::MeshConfig, mesh: &mut Mesh) {
        match config.ingress_controller_mode.as_deref() {
            None => {}
            Some("OFF") => mesh.ingress.mode = IngressMode::Off,
            Some("DEFAULT") => mesh.ingress.mode = IngressMode::Default,
            Some("STRICT" | "UNSPECIFIED") => mesh.ingress.mode = IngressMode::Strict,
            Some(other) => {
                let message = format!("`{other}` is not a mode; write OFF, DEFAULT or STRICT");
                self.found.error(&self.path.field("ingressControllerMode"), message);
            }
        }
        for (given, to) in [
            (&config.ingress_class, &mut mesh.ingress.class),
            (&config.ingress_service, &mut mesh.ingress.service),
            (&config.ingress_selector, &mut mesh.ingress.selector),
        ] {
            if let Some(text) = given {
                *to = text.as_str().into();
            }
        }
    }

    fn clusters(&mut self, config: &api::MeshConfig, before: &ClusterDefaults) -> ClusterDefaults {
        let mut clusters = before.clone();
        let (found, at) = (&mut self.found, |name| self.path.field(name));
        if let Some(keepalive) = &config.tcp_keepalive {
            clusters.keepalive = Some(rule::keepalive(found, &at("tcpKeepalive"), keepalive));
        }
        if let Some(setting) = &config.locality_lb_setting {
            clusters.locality = Some(rule::locality(found, &at("localityLbSetting"), setting));
        }
        if let Some(setting) = &config.zone_aware_lb_setting {
            clusters.zone_aware = Some(rule::zone_aware(found, &at("zoneAwareLbSetting"), setting));
        }
        if let Some(policy) = config.h2_upgrade_policy {
            clusters.h2_upgrade = policy == api::H2Upgrade::Upgrade;
        }
        if let Some(pattern) = &config.outbound_cluster_stat_name {
            clusters.stat_name = pattern.as_str().into();
        }
        if let Some(pattern) = &config.inbound_cluster_stat_name {
            clusters.inbound_stat_name = pattern.as_str().into();
        }
        if let Some(tls) = &config.tls_defaults {
            clusters.min_tls_version = match tls.min_protocol_version.as_deref() {
                None | Some("TLS_AUTO") => TlsVersion::Auto,
                Some("TLSV1_2") => TlsVersion::V1_2,
                Some("TLSV1_3") => TlsVersion::V1_3,
                Some(other) => {
                    let path = at("tlsDefaults").field("minProtocolVersion");
                    found.error(&path, format!("`{other}` is not a version; write TLSV1_2, TLSV1_3 or TLS_AUTO"));
                    TlsVersion::Auto
                }
            };
            (clusters.ecdh_curves, clusters.cipher_suites) = (shared(&tls.ecdh_curves), shared(&tls.cipher_suites));
        }
        if let Some(policy) = &config.default_traffic_policy {
            let at = at("defaultTrafficPolicy");
            clusters.connection_pool = rule::pool(found, &at.field("connectionPool"), policy.connection_pool.as_ref());
            clusters.outlier_detection =
                rule::outlier(found, &at.field("outlierDetection"), policy.outlier_detection.as_ref());
        }
        clusters
    }
}

/// Reads the mesh's networks.
fn networks(object: &ObjectRef, path: &FieldPath, value: &Value) -> Parsed<Vec<Network>> {
    if value.is_null() {
        return (None, Vec::new());
    }
    let (config, problems) = typed::<api::MeshNetworks>(object, path, value);
    let Some(config) = config else { return (None, problems) };
    let mut found = Findings::new(object, problems);
    let mut out = Vec::new();
    for (name, network) in &config.networks {
        let path = path.field("networks").key(name);
        let mut read =
            Network { name: name.as_str().into(), blocks: Vec::new(), clusters: Vec::new(), gateways: Vec::new() };
        for (at, endpoints) in network.endpoints.iter().enumerate() {
            network_endpoints(&mut found, &path.field("endpoints").index(at), endpoints, &mut read);
        }
        for (at, gateway) in network.gateways.iter().enumerate() {
            read.gateways.extend(network_gateway(&mut found, &path.field("gateways").index(at), gateway));
        }
        out.push(read);
    }
    found.finish(out)
}

fn network_gateway(found: &mut Findings<'_>, path: &FieldPath, gateway: &api::NetworkGateway) -> Option<(IpAddr, u16)> {
    let port = found.port(&path.field("port"), gateway.port);
    match (&gateway.address, &gateway.registry_service_name) {
        (Some(address), None) => match address.parse() {
            Ok(ip) => return Some((ip, port?)),
            Err(_) => {
                let why = format!("`{address}` is a name, which is not resolved yet, so the gateway is not used");
                found.warn(&path.field("address"), format!("{why}; write an IP address"));
            }
        },
        (None, Some(_)) => found.warn(
            &path.field("registryServiceName"),
            "is not served yet, so the gateway is not used; write its address",
        ),
        _ => found.error(path, "needs one of address and registryServiceName, and not both"),
    }
    None
}

fn network_endpoints(
    found: &mut Findings<'_>,
    path: &FieldPath,
    endpoints: &api::NetworkEndpoints,
    network: &mut Network,
) {
    match (&endpoints.from_cidr, &endpoints.from_registry) {
        (Some(block), None) => match block.parse::<ipnet::IpNet>().or_else(|_| block.parse::<IpAddr>().map(Into::into))
        {
            Ok(block) => network.blocks.push(block),
            Err(_) => found.error(
                &path.field("fromCidr"),
                format!("`{block}` is not a range of addresses; write one such as 10.0.0.0/8"),
            ),
        },
        (None, Some(cluster)) => network.clusters.push(cluster.as_str().into()),
        _ => found.error(path, "needs one of fromCidr and fromRegistry, and not both"),
    }
}

#[cfg(test)]
mod tests;
