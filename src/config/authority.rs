//! Options of the certificate authority, and of who may call.

use super::time;
use clap::Args;
use std::{path::PathBuf, str::FromStr, time::Duration};

/// The certificate authority, and who may call.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Identity")]
pub struct Authority {
    /// The directory of the certificate authority, which is made there if there is none. Without it workloads get no
    /// certificates, and nothing is served over TLS.
    #[arg(long, value_name = "DIR")]
    pub ca_dir: Option<PathBuf>,
    /// The kind of key that a new authority has: p256, p384, rsa2048 or rsa4096.
    #[arg(long, default_value = "p256", value_name = "KIND")]
    pub ca_key: String,
    /// How long the root of a new authority is valid.
    #[arg(long, env = "CITADEL_SELF_SIGNED_CA_CERT_TTL", default_value = "87600h", value_name = "DURATION",
          value_parser = time::parse)]
    pub ca_root_ttl: Duration,
    /// How long certificates of workloads are valid that do not ask for another time.
    #[arg(long, env = "DEFAULT_WORKLOAD_CERT_TTL", default_value = "24h", value_name = "DURATION",
          value_parser = time::parse)]
    pub workload_cert_ttl: Duration,
    /// How long they may ask for.
    #[arg(long, env = "MAX_WORKLOAD_CERT_TTL", default_value = "2160h", value_name = "DURATION",
          value_parser = time::parse)]
    pub max_workload_cert_ttl: Duration,
    /// Requests for certificates that may wait; what comes beside is turned away.
    #[arg(long, default_value_t = 512, value_name = "COUNT")]
    pub ca_queue: usize,
    /// Whom tokens must be for.
    #[arg(long, env = "TOKEN_AUDIENCES", default_value = "istio-ca", value_delimiter = ',', value_name = "NAME")]
    pub token_audiences: Vec<String>,
    /// One who signs tokens of service accounts, and the file of its public keys (JWKS), which is read again as it
    /// changes; may be given several times.
    #[arg(long, value_name = "ISSUER=FILE")]
    pub token_issuer: Vec<TokenIssuer>,
    /// Check tokens that the cluster has signed by its public keys alone, without asking it about each: they are good for
    /// as long as they say, also when their pod is gone, and also while the API server is.
    #[arg(long)]
    pub verify_tokens_offline: bool,
    /// Further DNS names of the control plane.
    #[arg(long, env = "ISTIOD_CUSTOM_HOST", value_delimiter = ',', value_name = "NAME")]
    pub custom_host: Vec<String>,
    /// How long the stream of a proxy lasts before it has to prove again who it is.
    #[arg(long, alias = "keepaliveMaxServerConnectionAge", default_value = "30m", value_name = "DURATION",
          value_parser = time::parse)]
    pub max_stream_age: Duration,
}

/// One who signs tokens, and the file of its public keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenIssuer {
    /// What `iss` of its tokens is.
    pub name: String,
    /// The file of its keys.
    pub keys: PathBuf,
}

impl FromStr for TokenIssuer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The name is a URL, which may have a `=`; a file seldom does.
        match text.rsplit_once('=') {
            Some((name, keys)) if !name.is_empty() && !keys.is_empty() => {
                Ok(Self { name: name.to_owned(), keys: keys.into() })
            }
            _ => Err("write ISSUER=FILE, such as https://example.com=/etc/keys.json"),
        }
    }
}
