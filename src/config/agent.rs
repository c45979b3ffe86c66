//! Options of `mainsheet agent`, under the names that Istio's agent has in its environment where it has the thing
//! (reference: `pilot/cmd/pilot-agent/options` of Istio).

use super::{Log, time};
use clap::{ArgAction, Args, ValueEnum, builder::FalseyValueParser};
use std::{path::PathBuf, time::Duration};

/// The options of `mainsheet agent`. What the pod and its proxy are is in the environment as Istio's injection leaves it.
#[derive(Clone, Debug, Args)]
pub struct Agent {
    /// What the proxy is for.
    #[arg(value_enum, default_value = "sidecar")]
    pub role: AgentRole,
    /// The directory of the pod's `labels` and `annotations`, as the downward API writes them.
    #[arg(long, default_value = "/etc/istio/pod", value_name = "DIR")]
    pub pod_info: PathBuf,
    /// The mesh's settings, of which the proxies' defaults count.
    #[arg(long, alias = "meshConfig", default_value = "/etc/istio/config/mesh", value_name = "FILE")]
    pub mesh_config: PathBuf,
    /// The control plane, and what is known of it.
    #[command(flatten)]
    pub discovery: Discovering,
    /// The workload's certificate.
    #[command(flatten)]
    pub identity: Identity,
    /// The Envoy beside it.
    #[command(flatten)]
    pub envoy: Envoy,
    /// Names that the agent answers for.
    #[command(flatten)]
    pub dns: Dns,
    /// What is logged.
    #[command(flatten)]
    pub log: Log,
}

/// What a proxy is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum AgentRole {
    /// Beside a workload.
    Sidecar,
    /// A gateway.
    Router,
}

/// The control plane, and what is known of it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Control plane")]
pub struct Discovering {
    /// Where the control plane serves over TLS; without this what the ProxyConfig says, or istiod.istio-system.svc:15012.
    #[arg(long, value_name = "HOST:PORT")]
    pub discovery_address: Option<String>,
    /// The name in its certificate, where it is not the host.
    #[arg(long, env = "ISTIOD_SAN", value_name = "NAME")]
    pub server_name: Option<String>,
    /// The roots of its certificate, where they are not those of the mesh.
    #[arg(long, env = "XDS_ROOT_CA", value_name = "FILE")]
    pub xds_root_cert: Option<PathBuf>,
    /// The DNS domain that short names are in; without this NAMESPACE.svc.cluster.local.
    #[arg(long, value_name = "DOMAIN")]
    pub domain: Option<String>,
}

/// The workload's certificate.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Certificate")]
pub struct Identity {
    /// Where certificates are signed, where it is not the control plane.
    #[arg(long, env = "CA_ADDR", value_name = "HOST:PORT")]
    pub ca_address: Option<String>,
    /// The roots of who signs, with which the mesh is trusted until the first certificate is there.
    #[arg(long, env = "CA_ROOT_CA", default_value = "/var/run/secrets/istio/root-cert.pem", value_name = "FILE")]
    pub root_cert: PathBuf,
    /// What the authority has revoked (CRL); nothing where the file is not there.
    #[arg(long, default_value = "/var/run/secrets/istio/crl/ca-crl.pem", value_name = "FILE")]
    pub crl: PathBuf,
    /// Whether that is looked at.
    #[arg(long, env = "PILOT_ENABLE_CA_CRL", action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub enable_crl: bool,
    /// The token by which the workload proves its service account.
    #[arg(long, default_value = "/var/run/secrets/tokens/istio-token", value_name = "FILE")]
    pub token_file: PathBuf,
    /// How long a certificate is to be valid.
    #[arg(long, env = "SECRET_TTL", default_value = "24h", value_name = "DURATION", value_parser = time::parse)]
    pub secret_ttl: Duration,
    /// The part of its life that is left when it is renewed.
    #[arg(long, env = "SECRET_GRACE_PERIOD_RATIO", default_value_t = 0.5, value_name = "RATIO", 
          value_parser = ratio)]
    pub grace_ratio: f64,
    /// How far from that it may be renewed, so that not all are at once.
    #[arg(long, env = "SECRET_GRACE_PERIOD_RATIO_JITTER", default_value_t = 0.01, value_name = "RATIO", 
          value_parser = ratio)]
    pub grace_jitter: f64,
    /// The kind of its key: p256, p384, rsa2048 or rsa4096.
    #[arg(long, default_value = "p256", value_name = "KIND")]
    pub key: String,
    /// The trust domain that the workload asks to be of.
    #[arg(long, env = "TRUST_DOMAIN", default_value = "cluster.local", value_name = "DOMAIN")]
    pub trust_domain: String,
    /// The certificate comes from files that others keep, and none is asked for.
    #[arg(long, env = "FILE_MOUNTED_CERTS", value_parser = FalseyValueParser::new())]
    pub file_mounted_certs: bool,
    /// A directory that key.pem, cert-chain.pem and root-cert.pem are written to.
    #[arg(long, env = "OUTPUT_CERTS", value_name = "DIR")]
    pub output_certs: Option<PathBuf>,
    /// The socket on which Envoy gets the certificate. Where somebody serves on it already, that one is used.
    #[arg(long, default_value = "/var/run/secrets/workload-spiffe-uds/socket", value_name = "SOCKET")]
    pub sds_socket: PathBuf,
}

/// The Envoy beside it.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Envoy")]
pub struct Envoy {
    /// The program; without this what the ProxyConfig says, or `envoy`.
    #[arg(long, env = "ENVOY", value_name = "PATH")]
    pub envoy: Option<PathBuf>,
    /// Start no Envoy: one runs elsewhere in the pod, with the bootstrap that is written.
    #[arg(long, env = "DISABLE_ENVOY", value_parser = FalseyValueParser::new())]
    pub disable_envoy: bool,
    /// The directory that its bootstrap is written to; without this what the ProxyConfig says, or /etc/istio/proxy.
    #[arg(long, value_name = "DIR")]
    pub config_path: Option<PathBuf>,
    /// What Envoy logs.
    #[arg(long, alias = "proxyLogLevel", default_value = "warning", value_name = "LEVEL")]
    pub proxy_log_level: String,
    /// What parts of Envoy log: `part:level,…`.
    #[arg(long, alias = "proxyComponentLogLevel", value_name = "LEVELS")]
    pub proxy_component_log_level: Option<String>,
    /// How many threads Envoy has; without this what the ProxyConfig says, or what the CPU limit allows. 0 for all CPUs.
    #[arg(long, value_name = "COUNT")]
    pub concurrency: Option<u32>,
    /// Once told to end, wait until no connection is left.
    #[arg(long, env = "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", value_parser = FalseyValueParser::new())]
    pub exit_on_zero_active_connections: bool,
    /// How long to wait before connections are counted for that.
    #[arg(long, env = "MINIMUM_DRAIN_DURATION", default_value = "5s", value_name = "DURATION", value_parser = time::parse)]
    pub minimum_drain_duration: Duration,
}

/// Names that the agent answers for.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "DNS")]
pub struct Dns {
    /// Where names of the mesh are resolved, for pods with ISTIO_META_DNS_CAPTURE.
    #[arg(long, env = "DNS_PROXY_ADDR", default_value = "localhost:15053", value_name = "HOST:PORT")]
    pub dns_proxy_addr: String,
    /// The resolvers of all other names, and the search domains.
    #[arg(long, default_value = "/etc/resolv.conf", value_name = "FILE")]
    pub resolv_conf: PathBuf,
    /// Ask all resolvers at once, and take the first answer.
    #[arg(long, env = "DNS_FORWARD_PARALLEL", value_parser = FalseyValueParser::new())]
    pub dns_forward_parallel: bool,
    /// How long a resolver may take.
    #[arg(long, env = "DNS_FORWARD_TIMEOUT", default_value = "5s", value_name = "DURATION", value_parser = time::parse)]
    pub dns_forward_timeout: Duration,
}

impl Identity {
    /// The file of what was revoked, where that is looked at.
    pub fn revoked(&self) -> Option<PathBuf> {
        self.enable_crl.then(|| self.crl.clone())
    }
}

fn ratio(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(ratio) if (0.0..=1.0).contains(&ratio) => Ok(ratio),
        _ => Err(format!("`{text}` is not a part of a whole; write a number from 0 to 1")),
    }
}
