//! How the keys of those who sign tokens are fetched.

use super::time;
use clap::Args;
use std::{path::PathBuf, time::Duration};

/// How the keys of those who sign tokens are fetched.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Keys of issuers")]
pub struct Keys {
    /// Fetch the keys that RequestAuthentications name again after so long.
    #[arg(long, env = "PILOT_JWT_PUB_KEY_REFRESH_INTERVAL", default_value = "20m", value_name = "DURATION",
          value_parser = time::parse)]
    pub jwks_refresh_interval: Duration,
    /// Certificates of authorities, in PEM, that servers of keys are trusted by; may be given several times.
    #[arg(long, value_name = "FILE", default_values = ["/etc/ssl/certs/ca-certificates.crt",
          "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem", "/cacerts/extra.pem"], hide_default_value = true)]
    pub jwks_ca_file: Vec<PathBuf>,
    /// Ranges of addresses that are never asked for keys.
    #[arg(long, env = "BLOCKED_CIDRS_IN_JWKS_URIS", value_name = "RANGE", value_delimiter = ',')]
    pub jwks_blocked_range: Vec<ipnet::IpNet>,
    /// Take keys from servers whose certificates nobody vouches for, so that whoever is in between can sign tokens.
    #[arg(long, env = "JWKS_RESOLVER_INSECURE_SKIP_VERIFY")]
    pub jwks_insecure_skip_verify: bool,
}
