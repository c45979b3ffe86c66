//! Options of the certificate authority, and of who may call.

use super::time;
use clap::{ArgAction, Args};
use serde::Deserialize;
use std::{path::PathBuf, str::FromStr, time::Duration};

/// The certificate authority, and who may call.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Identity")]
pub struct Authority {
    /// The directory of the certificate authority, which is made there if there is none. Without it workloads get no
    /// certificates, and nothing is served over TLS.
    #[arg(long, value_name = "DIR")]
    pub ca_dir: Option<PathBuf>,
    /// Whether there is an authority in a cluster: without --ca-dir it is kept in the Secret istio-ca-secret of the control
    /// plane's namespace, unless people plugged one in as cacerts.
    #[arg(long, env = "ENABLE_CA_SERVER", action = clap::ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub ca_server: bool,
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
    /// Whom they may be for beside these.
    #[arg(long, env = "AUDIENCE", hide = true)]
    pub audience: Option<String>,
    /// One who signs tokens of service accounts, and the file or URL of its public keys (JWKS); without either they are
    /// found by OpenID discovery. Files are read again as they change, URLs asked as for other keys. May be given
    /// several times.
    #[arg(long, env = "TOKEN_ISSUER", value_name = "ISSUER[=FILE|URL]")]
    pub token_issuer: Vec<TokenIssuer>,
    /// Check tokens that the cluster has signed by its public keys alone, without asking it about each: they are good for
    /// as long as they say, also when their pod is gone, and also while the API server is.
    #[arg(long)]
    pub verify_tokens_offline: bool,
    /// The same, as a JWTRule of Istio's in JSON: issuer, audiences, jwksUri or jwks.
    #[arg(long, env = "JWT_RULE", value_name = "JSON")]
    pub jwt_rule: Option<JwtRule>,
    /// Accounts of nodes, which may ask for certificates of workloads that run on the same node.
    #[arg(long, env = "CA_TRUSTED_NODE_ACCOUNTS", value_delimiter = ',', value_name = "NAMESPACE/ACCOUNT",
          value_parser = node_account)]
    pub trusted_node_account: Vec<(String, String)>,
    /// Whether certificates of workloads say, in their subject, what telemetry calls these: WORKLOAD/APP/VERSION/CLUSTER.
    #[arg(long, action = ArgAction::Set, default_value_t = true, value_name = "BOOL")]
    pub certificate_subjects: bool,
    /// Further namespaces whose workloads may look at debug pages.
    #[arg(long, env = "DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES", value_delimiter = ',', value_name = "NAME")]
    pub debug_namespace: Vec<String>,
    /// Whether others may look at those debug pages that the cluster lets them get (a SubjectAccessReview of `/debug/PAGE`).
    #[arg(long, env = "MAINSHEET_DEBUG_ACCESS_REVIEW", action = ArgAction::Set, default_value_t = false, value_name = "BOOL")]
    pub debug_access_review: bool,
    /// Further DNS names of the control plane.
    #[arg(long, env = "ISTIOD_CUSTOM_HOST", value_delimiter = ',', value_name = "NAME")]
    pub custom_host: Vec<String>,
    /// How long the stream of a proxy lasts before it has to prove again who it is.
    #[arg(long, alias = "keepaliveMaxServerConnectionAge", default_value = "30m", value_name = "DURATION",
          value_parser = time::parse)]
    pub max_stream_age: Duration,
}

impl Authority {
    /// All who sign tokens of service accounts.
    pub fn issuers(&self) -> impl Iterator<Item = TokenIssuer> {
        let rule = self.jwt_rule.iter().map(|rule| TokenIssuer {
            name: rule.issuer.clone(),
            audiences: rule.audiences.clone(),
            keys: match (&rule.jwks, &rule.jwks_uri) {
                (Some(keys), _) => KeysAt::Here(keys.clone()),
                (None, Some(url)) => KeysAt::Url(url.clone()),
                (None, None) => KeysAt::Discovery,
            },
        });
        self.token_issuer.iter().cloned().chain(rule)
    }

    /// Whom tokens must be for whose issuer has no rule of its own.
    pub fn audiences(&self) -> Vec<String> {
        self.token_audiences.iter().chain(self.audience.iter().filter(|a| !a.is_empty())).cloned().collect()
    }
}

/// One who signs tokens, and where its public keys are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TokenIssuer {
    /// What `iss` of its tokens is.
    pub name: String,
    /// Whom its tokens must be for; where it is empty, whom those of all others must be for.
    pub audiences: Vec<String>,
    /// Its keys.
    pub keys: KeysAt,
}

/// Where the public keys of one who signs tokens are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum KeysAt {
    /// Here.
    Here(String),
    /// In a file.
    File(PathBuf),
    /// At a URL.
    Url(String),
    /// Where the issuer says (OpenID discovery).
    Discovery,
}

impl FromStr for TokenIssuer {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_url = |text: &str| text.starts_with("https://") || text.starts_with("http://");
        let of = |name: &str, keys| match name.is_empty() {
            true => Err(WRITE_ISSUER),
            false => Ok(Self { name: name.to_owned(), audiences: Vec::new(), keys }),
        };
        // The name is a URL, which may have a `=`, as the URL of the keys may; a file seldom does.
        let url = text.match_indices('=').find(|(at, _)| is_url(&text[at + 1..]));
        match (url, text.rsplit_once('=')) {
            (Some((at, _)), _) => of(&text[..at], KeysAt::Url(text[at + 1..].to_owned())),
            (None, Some((name, keys))) if !keys.is_empty() => of(name, KeysAt::File(keys.into())),
            (None, None) if is_url(text) => of(text, KeysAt::Discovery),
            _ => Err(WRITE_ISSUER),
        }
    }
}

const WRITE_ISSUER: &str = "write ISSUER=FILE or ISSUER=URL, such as https://example.com=/etc/keys.json, or the URL of an \
                            issuer that says itself where its keys are";

/// One who signs tokens, as Istio's own rule.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JwtRule {
    issuer: String,
    #[serde(default)]
    audiences: Vec<String>,
    #[serde(default, alias = "jwks_uri")]
    jwks_uri: Option<String>,
    #[serde(default)]
    jwks: Option<String>,
}

impl FromStr for JwtRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let write = r#"write a rule such as {"issuer": "https://example.com", "jwksUri": "https://example.com/keys"}"#;
        match serde_json::from_str::<Self>(text) {
            Ok(rule) if !rule.issuer.is_empty() => Ok(rule),
            Ok(_) => Err(format!("names no issuer; {write}")),
            Err(error) => Err(format!("{error}; {write}")),
        }
    }
}

fn node_account(text: &str) -> Result<(String, String), &'static str> {
    match text.trim().split_once('/') {
        Some((namespace, account)) if !namespace.is_empty() && !account.is_empty() && !account.contains('/') => {
            Ok((namespace.to_owned(), account.to_owned()))
        }
        _ => Err("write NAMESPACE/ACCOUNT, such as istio-system/ztunnel"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issuer_has_a_file_or_a_url_or_says_itself_where_its_keys_are() {
        let of = |text: &str| text.parse::<TokenIssuer>().map(|issuer| (issuer.name, issuer.keys));
        let name = || "https://a.example/?x=1".to_owned();
        assert_eq!(of("https://a.example/?x=1=/etc/keys"), Ok((name(), KeysAt::File("/etc/keys".into()))));
        let url = "https://b.example/keys?y=2".to_owned();
        assert_eq!(of(&format!("{}={url}", name())), Ok((name(), KeysAt::Url(url))));
        assert_eq!(of("https://a.example"), Ok(("https://a.example".into(), KeysAt::Discovery)));
        for wrong in ["", "=", "a", "a=", "=/etc/keys", "=https://b.example"] {
            assert_eq!(of(wrong), Err(WRITE_ISSUER), "{wrong}");
        }
    }

    #[test]
    fn a_rule_names_an_issuer() {
        let rule = r#"{"issuer": "a", "audiences": ["b"], "jwks_uri": "https://a/keys"}"#.parse::<JwtRule>();
        assert_eq!(rule.expect("a rule").jwks_uri.as_deref(), Some("https://a/keys"));
        assert!(r#"{"issuer": ""}"#.parse::<JwtRule>().is_err() && "x".parse::<JwtRule>().is_err());
        assert_eq!(node_account("a/b"), Ok(("a".into(), "b".into())));
        assert!(["a", "/b", "a/", "a/b/c"].iter().all(|text| node_account(text).is_err()));
    }
}
