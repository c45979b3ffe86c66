//! The pod that the agent is in: what its environment, the downward API and the proxy's settings say.

use super::proxy_config::ProxyConfig;
use crate::{
    bootstrap::Stats,
    config::{Agent, AgentRole},
};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    path::Path,
};

/// The annotation that holds settings of the proxy.
const SETTINGS: &str = "proxy.istio.io/config";

/// The pod.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    pub(super) role: AgentRole,
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) account: String,
    /// Its addresses, the first of which is the one that it is known by.
    pub(super) ips: Vec<IpAddr>,
    pub(super) domain: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) annotations: BTreeMap<String, String>,
    pub(super) proxy: ProxyConfig,
    /// The environment.
    pub(super) variables: BTreeMap<String, String>,
}

impl Pod {
    /// The pod of an environment.
    pub(super) fn new(options: &Agent, environment: Vec<(String, String)>) -> Result<Self> {
        let variables: BTreeMap<String, String> = environment.into_iter().collect();
        let text = |name: &str| variables.get(name).filter(|v| !v.is_empty()).cloned();
        let annotations = downward(&options.pod_info.join("annotations"));
        let mut proxy = ProxyConfig::default();
        if let Ok(mesh) = fs::read_to_string(&options.mesh_config) {
            let mesh: Value =
                serde_norway::from_str(&mesh).with_context(|| options.mesh_config.display().to_string())?;
            proxy.overlay_value(mesh["defaultConfig"].clone()).context("defaultConfig of the mesh")?;
        }
        if let Some(text) = variables.get("PROXY_CONFIG") {
            proxy.overlay(text).context("PROXY_CONFIG")?;
        }
        if let Some(text) = annotations.get(SETTINGS) {
            proxy.overlay(text).with_context(|| format!("the annotation {SETTINGS}"))?;
        }
        let (Some(name), Some(namespace)) = (text("POD_NAME"), text("POD_NAMESPACE")) else {
            bail!("POD_NAME and POD_NAMESPACE must be in the environment: they say which pod this is");
        };
        let domain = options.discovery.domain.clone();
        Ok(Self {
            role: options.role,
            account: text("SERVICE_ACCOUNT").unwrap_or_else(|| "default".to_owned()),
            ips: addresses(text("INSTANCE_IP").as_deref())?,
            domain: domain.unwrap_or_else(|| format!("{namespace}.svc.cluster.local")),
            labels: downward(&options.pod_info.join("labels")),
            name,
            namespace,
            annotations,
            proxy,
            variables,
        })
    }

    /// A variable of the environment, or else of the proxy's settings, that is not empty.
    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        let own = self.variables.get(name).map(String::as_str).or_else(|| self.proxy.variable(name));
        own.filter(|value| !value.is_empty())
    }

    /// Whether a switch is on.
    pub(super) fn is_on(&self, name: &str) -> bool {
        matches!(self.variable(name), Some("true" | "1"))
    }

    fn port(&self, name: &str, usual: u16) -> u16 {
        self.variable(name).and_then(|text| text.parse().ok()).unwrap_or(usual)
    }

    /// The cluster that it is in.
    pub(super) fn cluster(&self) -> &str {
        self.variable("ISTIO_META_CLUSTER_ID").unwrap_or("Kubernetes")
    }

    /// The port of Envoy's admin interface.
    pub(super) fn admin_port(&self) -> u16 {
        self.proxy.number("proxyAdminPort").and_then(|port| port.try_into().ok()).unwrap_or(15000)
    }

    /// The agent's own port; nothing where it has none.
    pub(super) fn agent_port(&self) -> Option<u16> {
        let port = self.proxy.number("statusPort").and_then(|port| port.try_into().ok()).unwrap_or(15020);
        (port != 0).then_some(port)
    }

    /// The port on which Envoy is asked for readiness.
    pub(super) fn status_port(&self) -> u16 {
        self.port("ENVOY_STATUS_PORT", 15021)
    }

    /// The port on which Envoy is asked for metrics.
    pub(super) fn prometheus_port(&self) -> u16 {
        self.port("ENVOY_PROMETHEUS_PORT", 15090)
    }

    /// Whether it has addresses of IPv4.
    pub(super) fn ipv4(&self) -> bool {
        self.ips.iter().any(IpAddr::is_ipv4)
    }

    /// How many threads Envoy is to have; nothing where nobody says.
    pub(super) fn concurrency(&self) -> Option<u32> {
        let limit = || self.variable("ISTIO_CPU_LIMIT")?.parse().ok();
        self.proxy.number("concurrency").or_else(limit).and_then(|n| n.try_into().ok())
    }

    /// What Envoy counts. Annotations go before the proxy's settings.
    pub(super) fn stats(&self, connections: bool) -> Stats {
        let annotation = |name: &str| self.annotations.get(name).cloned();
        let mut stats = Stats::of(self.proxy.all(), annotation, &self.ips[0].to_string());
        stats.suffixes.extend(connections.then(|| "downstream_cx_active".to_owned()));
        stats
    }
}

/// The addresses of the pod: the one given, then those that this machine sends from.
fn addresses(given: Option<&str>) -> Result<Vec<IpAddr>> {
    let mut all = Vec::new();
    for text in given.into_iter().flat_map(|list| list.split(',')) {
        all.push(text.trim().parse().with_context(|| format!("INSTANCE_IP {text}: write an address"))?);
    }
    let unspecified: [IpAddr; 2] = [Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()];
    for (here, far) in unspecified.into_iter().zip(["192.0.2.1:9", "[2001:db8::1]:9"]) {
        // Nothing is sent by this: it only finds the way.
        let own = UdpSocket::bind((here, 0)).and_then(|socket| {
            socket.connect(far)?;
            socket.local_addr()
        });
        all.extend(own.ok().map(|at| at.ip()).filter(|ip| !ip.is_loopback() && !ip.is_unspecified()));
    }
    if all.is_empty() {
        all.push(Ipv4Addr::LOCALHOST.into());
    }
    let mut seen = Vec::new();
    all.retain(|ip| {
        !seen.contains(ip) && {
            seen.push(*ip);
            true
        }
    });
    Ok(all)
}

/// A file of the downward API: `key="value"`, a line each. One that is not there says nothing.
fn downward(path: &Path) -> BTreeMap<String, String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    let entry = |line: &str| {
        let (key, value) = line.split_once('=')?;
        let plain = || value.trim_matches('"').to_owned();
        Some((key.to_owned(), serde_json::from_str(value).unwrap_or_else(|_| plain())))
    };
    text.lines().filter_map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pod_s_own_address_comes_first_and_each_is_there_once() {
        let all = addresses(Some("10.0.0.7,fd00::7,10.0.0.7")).expect("addresses");
        assert_eq!(all[..2], ["10.0.0.7".parse::<IpAddr>().expect("ip"), "fd00::7".parse().expect("ip")]);
        assert_eq!(all.iter().filter(|ip| ip.to_string() == "10.0.0.7").count(), 1);
        assert!(!addresses(None).expect("addresses").is_empty());
        assert!(addresses(Some("here")).expect_err("no address").to_string().contains("INSTANCE_IP"));
    }

    #[test]
    fn files_of_the_downward_api_are_read_with_their_quotes() {
        let path = std::env::temp_dir().join(format!("mainsheet-downward-{}", std::process::id()));
        fs::write(&path, "app=\"shop\"\nnote=\"two\\nlines = \\\"quoted\\\"\"\nbare=x\nrubbish\n").expect("a file");
        let read = downward(&path);
        fs::remove_file(&path).expect("the file");
        let pairs: Vec<_> = read.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(pairs, [("app", "shop"), ("bare", "x"), ("note", "two\nlines = \"quoted\"")]);
        assert!(downward(&path).is_empty());
    }
}
