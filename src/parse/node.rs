//! Envoy's `Node`: who connects, as a bootstrap says it. The form is protobuf's JSON, in camel or snake case.
//!
//! Istio's agent writes metadata in forms of its own: lists as texts with commas, booleans as texts, lists of
//! objects as JSON in a text. All of them are read here, beside the plain forms.

use super::proxy_config;
use crate::{
    id::Namespace,
    model::{IdentitySource, Interception, Labels, Locality, Node, NodeSettings, Role},
};
use serde_json::Value;
use std::{net::IpAddr, sync::Arc};

const DEFAULT_STATUS_PORT: u16 = 15021;
const DEFAULT_PROMETHEUS_PORT: u16 = 15090;

/// Reads a node.
///
/// # Errors
///
/// When the id is not `type~ip~name.namespace~domain`, the type is not one that is served, or there is no
/// address; the text says what to write.
pub fn node(json: &Value) -> Result<Node, String> {
    let id = json["id"].as_str().unwrap_or_default();
    let [kind, ip, name, domain] = id.split('~').collect::<Vec<_>>()[..] else {
        return Err(format!("the node id {id:?} must have four parts: TYPE~IP~POD.NAMESPACE~DOMAIN"));
    };
    let role = match kind {
        "sidecar" => Role::Sidecar,
        "router" => Role::Router,
        other => return Err(format!("the node id {id:?} is of type {other:?}; write sidecar or router")),
    };
    let metadata = Metadata(&json["metadata"]);
    let ips = addresses(&metadata, ip);
    if ips.is_empty() {
        return Err(format!(
            "the node id {id:?} has no IP address as its second part, and the metadata INSTANCE_IPS has none"
        ));
    }
    let namespace = match metadata.text("NAMESPACE") {
        "" => domain.split_once('.').map_or("", |(first, _)| first),
        namespace => namespace,
    };
    let labels = metadata.map("STATIC_LABELS").with(&metadata.map("LABELS"));
    Ok(Node {
        id: id.into(),
        role,
        name: name.into(),
        pod: pod_name(name, namespace).into(),
        namespace: Namespace::from(namespace),
        domain: domain.into(),
        ips,
        labels,
        annotations: metadata.map("ANNOTATIONS"),
        cluster: metadata.shared("CLUSTER_ID"),
        network: metadata.shared("NETWORK"),
        mesh: metadata.shared("MESH_ID"),
        locality: locality(&json["locality"]),
        cluster_node: metadata.shared("NODE_NAME"),
        account: metadata.shared("SERVICE_ACCOUNT"),
        workload: metadata.shared("WORKLOAD_NAME"),
        interception: match metadata.text("INTERCEPTION_MODE") {
            "TPROXY" => Interception::Tproxy,
            "NONE" => Interception::None,
            _ => Interception::Redirect,
        },
        identity: match (metadata.text("ISTIO_VERSION"), metadata.text("IDENTITY")) {
            (_, "ads") => IdentitySource::ControlPlane,
            (_, "agent") => IdentitySource::Agent,
            ("", _) => IdentitySource::None,
            _ => IdentitySource::Agent,
        },
        version: metadata.shared("ISTIO_VERSION"),
        ports: pod_ports(&metadata),
        proven: false,
        virtual_hosts: false,
        settings: settings(&metadata),
    })
}

/// The addresses of `INSTANCE_IPS`, or else the one in the id. What is not an address is left out.
fn addresses(metadata: &Metadata<'_>, in_id: &str) -> Vec<IpAddr> {
    let parse = |text: &str| text.trim().parse::<IpAddr>().ok();
    let given: Vec<IpAddr> = match metadata.get("INSTANCE_IPS") {
        Value::Array(list) => list.iter().filter_map(Value::as_str).filter_map(parse).collect(),
        other => other.as_str().unwrap_or_default().split(',').filter_map(parse).collect(),
    };
    match given.is_empty() {
        true => parse(in_id).into_iter().collect(),
        false => given,
    }
}

/// The pod in `pod.namespace`. Names of pods may have dots themselves.
fn pod_name<'a>(name: &'a str, namespace: &str) -> &'a str {
    let own = name.strip_suffix(namespace).and_then(|rest| rest.strip_suffix('.'));
    own.unwrap_or_else(|| name.split_once('.').map_or(name, |(pod, _)| pod))
}

fn locality(json: &Value) -> Locality {
    let text = |key: &str| json[key].as_str().map(Arc::<str>::from);
    Locality {
        region: text("region").unwrap_or_default(),
        zone: text("zone").unwrap_or_default(),
        subzone: text("subZone").or_else(|| text("sub_zone")).unwrap_or_default(),
    }
}

/// `POD_PORTS`: the container ports that have a name.
fn pod_ports(metadata: &Metadata<'_>) -> Vec<(Arc<str>, u16)> {
    let parsed = match metadata.get("POD_PORTS") {
        Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
        other => other.clone(),
    };
    let named = |port: &Value| {
        let number = u16::try_from(port["containerPort"].as_u64()?).ok()?;
        port["name"].as_str().filter(|name| !name.is_empty()).map(|name| (name.into(), number))
    };
    parsed.as_array().into_iter().flatten().filter_map(named).collect()
}

fn settings(metadata: &Metadata<'_>) -> NodeSettings {
    NodeSettings {
        http10: metadata.is_on("HTTP10"),
        idle_timeout: go_duration(metadata.text("IDLE_TIMEOUT")),
        inbound_exact_balance: metadata.is_on("INBOUND_LISTENER_EXACT_BALANCE"),
        outbound_exact_balance: metadata.is_on("OUTBOUND_LISTENER_EXACT_BALANCE"),
        unprivileged: metadata.is_on("UNPRIVILEGED_POD"),
        http_proxy_port: metadata.port("HTTP_PROXY_PORT").unwrap_or(0),
        dns_capture: metadata.is_on("DNS_CAPTURE"),
        dns_auto_allocate: metadata.is_on("DNS_AUTO_ALLOCATE"),
        on_demand: metadata.is_on("ON_DEMAND"),
        proxy_config: Some(metadata.proxy_config()).filter(Value::is_object).map(|c| proxy_config::of_node(&c)),
        annotated: metadata.get("ANNOTATIONS")["proxy.istio.io/config"]
            .as_str()
            .map(proxy_config::of_annotation)
            .unwrap_or_default(),
        status_port: metadata.port("ENVOY_STATUS_PORT").unwrap_or(DEFAULT_STATUS_PORT),
        prometheus_port: metadata.port("ENVOY_PROMETHEUS_PORT").unwrap_or(DEFAULT_PROMETHEUS_PORT),
    }
}

/// A node's metadata, which is read leniently: an entry of the wrong form is as good as none.
struct Metadata<'a>(&'a Value);

impl<'a> Metadata<'a> {
    fn get(&self, key: &str) -> &'a Value {
        self.0.get(key).unwrap_or(&Value::Null)
    }

    /// The ProxyConfig that the proxy was started with, as an object or as JSON in a text.
    fn proxy_config(&self) -> Value {
        match self.get("PROXY_CONFIG") {
            Value::String(text) => serde_json::from_str(text).unwrap_or_default(),
            other => other.clone(),
        }
    }

    fn text(&self, key: &str) -> &'a str {
        self.get(key).as_str().unwrap_or_default()
    }

    fn shared(&self, key: &str) -> Arc<str> {
        self.text(key).into()
    }

    /// A switch: `true`, `"true"` or `"1"`.
    fn is_on(&self, key: &str) -> bool {
        match self.get(key) {
            Value::Bool(on) => *on,
            Value::Number(number) => number.as_f64() == Some(1.0),
            other => matches!(other.as_str(), Some("true" | "1")),
        }
    }

    /// A port, as a number or a text. Numbers of a protobuf `Struct` have fractions.
    fn port(&self, key: &str) -> Option<u16> {
        match self.get(key) {
            Value::String(text) => text.parse().ok(),
            other => other.as_f64().filter(|n| n.fract() == 0.0 && (1.0..=65535.0).contains(n)).map(|n| n as u16),
        }
    }

    fn map(&self, key: &str) -> Labels {
        let entries = self.get(key).as_object().into_iter().flatten();
        entries.filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into()))).collect()
    }
}

/// A duration as Go writes it (`1m30s`, `1.5h`, `300ms`), in milliseconds.
fn go_duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |at| at + digits);
        total += number
            * match &rest[digits..unit] {
                "h" => 3_600_000.0,
                "m" => 60_000.0,
                "s" => 1000.0,
                "ms" => 1.0,
                "us" | "µs" => 0.001,
                "ns" => 0.000_001,
                _ => return None,
            };
        rest = &rest[unit..];
    }
    (!text.is_empty()).then_some(total.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn with(metadata: Value) -> Node {
        node(&json!({"id": "sidecar~10.0.0.1~a.b.shop~shop.svc.cluster.local", "metadata": metadata})).expect("a node")
    }

    #[test]
    fn a_broken_id_says_what_to_write() {
        let error = |id: &str| node(&json!({"id": id})).expect_err("broken");
        assert!(error("").contains("TYPE~IP~POD.NAMESPACE~DOMAIN"));
        assert!(error("sidecar~10.0.0.1~a.shop").contains("four parts"));
        assert!(error("sidecar~10.0.0.1~a.shop~d~e").contains("four parts"));
        assert!(error("waypoint~10.0.0.1~a.shop~d").contains("write sidecar or router"));
        assert!(error("sidecar~nowhere~a.shop~d").contains("no IP address"));
        assert!(node(&json!([])).expect_err("no object").contains("four parts"));
    }

    #[test]
    fn the_id_names_the_pod_and_stands_in_for_absent_metadata() {
        let node = with(Value::Null);
        assert_eq!((&*node.pod, &*node.namespace, node.role), ("a.b", "shop", Role::Sidecar));
        assert_eq!(node.ips, ["10.0.0.1".parse::<IpAddr>().expect("an address")]);
        assert_eq!((node.identity, node.settings.status_port), (IdentitySource::None, 15021));
        assert_eq!((node.interception, node.settings.idle_timeout), (Interception::Redirect, None));
    }

    #[test]
    fn metadata_is_read_in_the_forms_that_agents_write() {
        let node = with(json!({
            "INSTANCE_IPS": "10.0.0.7,rubbish, fd00::7", "NAMESPACE": "other", "HTTP10": "1", "IDLE_TIMEOUT": "1m1.5s",
            "INBOUND_LISTENER_EXACT_BALANCE": "true", "UNPRIVILEGED_POD": true, "HTTP_PROXY_PORT": "3128",
            "ENVOY_STATUS_PORT": 15022.0, "ENVOY_PROMETHEUS_PORT": 70000, "ISTIO_VERSION": "1.30.0",
            "POD_PORTS": "[{\"name\":\"http\",\"containerPort\":8080,\"protocol\":\"TCP\"},{\"containerPort\":1}]",
            "STATIC_LABELS": {"app": "static", "kept": "yes"}, "LABELS": {"app": "pod", "broken": 7},
            "INTERCEPTION_MODE": "TPROXY", "DNS_CAPTURE": "false"
        }));
        assert_eq!(node.ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.7", "fd00::7"]);
        assert_eq!((&*node.namespace, node.identity), ("other", IdentitySource::Agent));
        assert_eq!(node.ports, [(Arc::from("http"), 8080)]);
        assert_eq!(node.labels.iter().map(|(k, v)| format!("{k}={v}")).collect::<Vec<_>>(), ["app=pod", "kept=yes"]);
        let settings = node.settings;
        assert_eq!((settings.http10, settings.idle_timeout, settings.unprivileged), (true, Some(61_500), true));
        assert_eq!((settings.http_proxy_port, settings.status_port, settings.prometheus_port), (3128, 15022, 15090));
        assert_eq!((settings.inbound_exact_balance, settings.outbound_exact_balance), (true, false));
        assert_eq!((node.interception, settings.dns_capture), (Interception::Tproxy, false));
    }

    #[test]
    fn a_proxy_may_say_its_whole_config_or_what_differs_from_the_meshs() {
        let said = json!({"gatewayTopology": {"numTrustedProxies": 2.0}, "concurrency": 2.0,
            "connectionSettings": {"httpMaxConcurrentStreams": 77.0, "httpStreamIdleTimeout": "21s"}});
        for form in [said.clone(), json!(said.to_string())] {
            let config = with(json!({"PROXY_CONFIG": form})).settings.proxy_config.expect("it says one");
            assert_eq!(config.topology.expect("a topology").trusted_proxies, 2);
            let connections = config.connections.expect("settings");
            assert_eq!((connections.max_concurrent_streams, connections.stream_idle_timeout), (Some(77), Some(21_000)));
            assert_eq!(config.headers, None);
        }
        let annotation = "proxyHeaders: {requestId: {disabled: true}}";
        let node = with(json!({"ANNOTATIONS": {"proxy.istio.io/config": annotation}}));
        assert_eq!(node.settings.proxy_config, None);
        assert!(node.settings.annotated.headers.expect("headers").without_request_id);
        assert_eq!(with(json!({"PROXY_CONFIG": "{"})).settings.proxy_config, None);
    }

    #[test]
    fn lists_that_are_broken_count_as_absent() {
        let node = with(json!({"POD_PORTS": "[{", "LABELS": "none", "INSTANCE_IPS": "-", "IDLE_TIMEOUT": "soon"}));
        assert_eq!((node.ports.len(), node.labels.len(), node.ips.len()), (0, 0, 1));
        assert_eq!(node.settings.idle_timeout, None);
    }

    #[test]
    fn a_locality_is_read_in_either_case() {
        let read = |key: &str| {
            let at = json!({"region": "r", "zone": "z", (key): "s"});
            let node = node(&json!({"id": "router~10.0.0.1~a.shop~shop.svc", "locality": at})).expect("a node");
            node.locality.to_string()
        };
        assert_eq!((read("subZone"), read("sub_zone")), ("r/z/s".into(), "r/z/s".into()));
    }
}
