//! What the control plane is told on its command line and in its environment, read once into inert options.
//!
//! Flags have Istio's own spellings as aliases, and Istio's names in the environment. What has no meaning here is
//! accepted, and said to have none (`config/unused.rs`).

mod admission;
mod agent;
mod authority;
mod keys;
mod log;
mod time;
mod unused;
mod writing;

use clap::{ArgAction, Args};
use std::{ffi::OsString, fmt, path::PathBuf, str::FromStr, time::Duration};

pub use admission::{Admission, NativeSidecars};
pub use agent::{Agent, AgentRole, Discovering, Dns, Envoy, Identity};
pub use authority::{Authority, JwtRule, KeysAt, TokenIssuer};
pub use keys::Keys;
pub use log::{Level, Levels};
pub use unused::Unused;
pub use writing::Writing;

/// The options of `mainsheet discovery`.
#[derive(Clone, Debug, Args)]
pub struct Discovery {
    /// Where the objects are, and the mesh's settings.
    #[command(flatten)]
    pub input: Input,
    /// Where to listen.
    #[command(flatten)]
    pub listen: Listen,
    /// How proxies are served.
    #[command(flatten)]
    pub serving: Serving,
    /// The certificate authority, and who may call.
    #[command(flatten)]
    pub authority: Authority,
    /// How the keys of those who sign tokens are fetched.
    #[command(flatten)]
    pub keys: Keys,
    /// What is written into the cluster.
    #[command(flatten)]
    pub writing: Writing,
    /// What the API server asks about pods and objects.
    #[command(flatten)]
    pub admission: Admission,
    /// What is logged.
    #[command(flatten)]
    pub log: Log,
    /// What was given and means nothing here.
    #[command(flatten)]
    pub unused: Unused,
}

/// Where the objects are, and the mesh's settings.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Input")]
pub struct Input {
    /// A directory (or file) of YAML or JSON that holds the objects, and is watched; may be given several times. Without
    /// it they are those of a Kubernetes cluster.
    #[arg(long = "config-dir", alias = "configDir", value_name = "DIR", conflicts_with = "kubeconfig")]
    pub config_dirs: Vec<PathBuf>,
    /// The cluster that holds the objects; without it and --config-dir that of KUBECONFIG, of ~/.kube/config, or of the
    /// pod that this is.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// The mesh's settings, a MeshConfig as YAML; without it those of the ConfigMap `istio` among the objects.
    #[arg(long, alias = "meshConfig", value_name = "FILE")]
    pub mesh_config: Option<PathBuf>,
    /// Look at the files this often instead of asking the kernel for changes.
    #[arg(long, value_name = "DURATION", value_parser = time::parse)]
    pub poll_interval: Option<Duration>,
    /// The only namespace of the cluster whose objects are read, beside the mesh's settings; all without this.
    #[arg(long, env = "ISTIO_WATCH_NAMESPACE", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub watch_namespace: String,
    /// Which cluster this is.
    #[command(flatten)]
    pub place: Place,
}

/// Which cluster this is: what objects and proxies leave unsaid.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Place")]
pub struct Place {
    /// The DNS suffix of the cluster's services.
    #[arg(long, default_value = "cluster.local")]
    pub domain: String,
    /// The name of the cluster.
    #[arg(long, alias = "clusterID", env = "CLUSTER_ID", default_value = "Kubernetes", value_name = "NAME")]
    pub cluster_id: String,
    /// The namespace that the control plane belongs to.
    #[arg(long, short, env = "POD_NAMESPACE", default_value = "istio-system", value_name = "NAME")]
    pub namespace: String,
    /// The control plane's revision; none for the default one.
    #[arg(long, env = "REVISION", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub revision: String,
}

/// Where to listen. An empty address turns a port off.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Ports")]
pub struct Listen {
    /// xDS over plaintext gRPC.
    #[arg(long, alias = "grpcAddr", default_value = ":15010", value_name = "ADDRESS")]
    pub grpc_addr: Address,
    /// xDS and certificates over TLS, for callers that prove who they are; only with --ca-dir.
    #[arg(long, alias = "secureGRPCAddr", default_value = ":15012", value_name = "ADDRESS")]
    pub secure_grpc_addr: Address,
    /// Readiness and debug pages.
    #[arg(long, alias = "httpAddr", default_value = ":8080", value_name = "ADDRESS")]
    pub http_addr: Address,
    /// Webhooks over TLS, which the API server calls; only for a cluster, and where certificates are signed.
    #[arg(long, alias = "httpsAddr", default_value = ":15017", value_name = "ADDRESS")]
    pub https_addr: Address,
    /// Metrics, version and debug pages.
    #[arg(long, alias = "monitoringAddr", default_value = ":15014", value_name = "ADDRESS")]
    pub monitoring_addr: Address,
}

/// How proxies are served.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Serving")]
pub struct Serving {
    /// Wait with a change until nothing has changed for so long; without this it is served at once.
    #[arg(long, env = "PILOT_DEBOUNCE_AFTER", value_name = "DURATION", value_parser = time::parse)]
    pub debounce_after: Option<Duration>,
    /// But no longer than this.
    #[arg(long, env = "PILOT_DEBOUNCE_MAX", value_name = "DURATION", value_parser = time::parse)]
    pub debounce_max: Option<Duration>,
    /// How many translations are computed at once; 0 for as many as the machine can.
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub workers: usize,
    /// Streams at once on one connection.
    #[arg(long, env = "ISTIO_GPRC_MAXSTREAMS", default_value_t = 100_000, value_name = "COUNT")]
    pub max_streams: u32,
    /// The largest request that is read, in bytes.
    #[arg(long, env = "ISTIO_GPRC_MAXRECVMSGSIZE", default_value_t = 4 << 20, value_name = "BYTES")]
    pub max_request_bytes: usize,
    /// How often a silent connection is asked whether it lives.
    #[arg(long, alias = "keepaliveInterval", env = "GRPC_KEEPALIVE_INTERVAL", default_value = "30s",
          value_name = "DURATION", value_parser = time::parse)]
    pub keepalive_interval: Duration,
    /// How long it may take to answer that.
    #[arg(long, alias = "keepaliveTimeout", env = "GRPC_KEEPALIVE_TIMEOUT", default_value = "10s",
          value_name = "DURATION", value_parser = time::parse)]
    pub keepalive_timeout: Duration,
    /// How long streams and requests may take to end when the process is asked to.
    #[arg(long, alias = "shutdownDuration", default_value = "10s", value_name = "DURATION", value_parser = time::parse)]
    pub shutdown_duration: Duration,
}

/// What is logged.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct Log {
    /// What is logged: none, error, warn, info or debug, for all or for a part as in `default:info,xds:debug`.
    #[arg(long, alias = "log_output_level", default_value = "default:info", value_name = "LEVELS")]
    pub log_output_level: Levels,
    /// Write the log as JSON, an object a line.
    #[arg(long, alias = "log_as_json", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
          default_value_t = false, default_missing_value = "true", hide_possible_values = true, value_name = "BOOL")]
    pub log_as_json: bool,
}

/// Where to listen: `HOST:PORT`, or `:PORT` for every address of the machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Address {
    host: String,
    port: Option<u16>,
}

impl Address {
    /// The hosts to try, the best first, with the port; none where nothing is to listen.
    pub fn candidates(&self) -> Vec<(&str, u16)> {
        let Some(port) = self.port else { return Vec::new() };
        match self.host.as_str() {
            // IPv6 takes both families, where the machine has it.
            "" => vec![("::", port), ("0.0.0.0", port)],
            host => vec![(host, port)],
        }
    }
}

impl FromStr for Address {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WRONG: &str = "write an address such as :15010, 127.0.0.1:15010 or [::1]:15010, or nothing for no port";
        if text.is_empty() {
            return Ok(Self { host: String::new(), port: None });
        }
        let (host, port) = text.rsplit_once(':').ok_or(WRONG)?;
        let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        if inner.is_none() && host.contains(':') {
            return Err(WRONG);
        }
        let port = port.parse().map_err(|_| WRONG)?;
        Ok(Self { host: inner.unwrap_or(host).to_owned(), port: Some(port) })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            None => Ok(()),
            Some(port) if self.host.contains(':') => write!(f, "[{}]:{port}", self.host),
            Some(port) => write!(f, "{}:{port}", self.host),
        }
    }
}

/// A duration as flags have it.
///
/// # Errors
///
/// What to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    time::parse(text)
}

/// The environment as texts: for switches whose names and meanings others know.
pub fn environment() -> Vec<(String, String)> {
    let text = |s: OsString| s.into_string().ok();
    std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?))).collect()
}

#[cfg(test)]
mod tests;
