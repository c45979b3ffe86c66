//! Gateway (`networking.istio.io`): its `spec` as it is written.
//!
//! Numbers are wide and enumerations are texts, so that a value out of range is reported with its path and not
//! as something that cannot be read.

use schemars::JsonSchema;
use serde::Deserialize;
use std::collections::BTreeMap;

/// `spec` of a Gateway.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Gateway {
    /// The labels of the pods that serve it; absent for all.
    pub selector: Option<BTreeMap<String, String>>,
    /// What is served.
    pub servers: Vec<Server>,
}

/// A port that is opened, and for which hosts.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Server {
    /// The port.
    pub port: Option<Port>,
    /// The address that it is opened at; every address where it is empty.
    pub bind: String,
    /// The hosts: `HOST` or `NAMESPACE/HOST`.
    pub hosts: Vec<String>,
    /// TLS.
    pub tls: Option<ServerTls>,
    /// An endpoint for what no rule takes; Istio never made it work.
    pub default_endpoint: String,
    /// A name for statistics.
    pub name: String,
}

/// A port.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Port {
    /// The number.
    pub number: i64,
    /// What is spoken on it.
    pub protocol: String,
    /// Its name.
    pub name: String,
    /// Has no effect.
    pub target_port: i64,
}

/// TLS at a server.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServerTls {
    /// Clients are sent to HTTPS.
    pub https_redirect: bool,
    /// How TLS is ended, or not.
    pub mode: String,
    /// The file of the certificate.
    pub server_certificate: String,
    /// The file of its key.
    pub private_key: String,
    /// The file of the authorities of clients.
    pub ca_certificates: String,
    /// The file of what authorities have taken back.
    pub ca_crl: String,
    /// The secret of the certificate.
    pub credential_name: String,
    /// The secrets of several certificates.
    pub credential_names: Vec<String>,
    /// The secret of the authorities of clients.
    pub ca_cert_credential_name: String,
    /// Files of several certificates.
    pub tls_certificates: Vec<Certificate>,
    /// Names that the certificate of a client must have, one of them.
    pub subject_alt_names: Vec<String>,
    /// Hashes of keys that a client may have.
    pub verify_certificate_spki: Vec<String>,
    /// Hashes of certificates that a client may have.
    pub verify_certificate_hash: Vec<String>,
    /// The oldest version.
    pub min_protocol_version: String,
    /// The newest version.
    pub max_protocol_version: String,
    /// Ciphers.
    pub cipher_suites: Vec<String>,
    /// Curves.
    pub ecdh_curves: Vec<String>,
    /// Clients whose certificate does not hold are let in too.
    pub insecure_skip_verify: Option<bool>,
}

/// Files of a certificate.
#[derive(Clone, PartialEq, Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Certificate {
    /// The certificate.
    pub server_certificate: String,
    /// Its key.
    pub private_key: String,
    /// The authorities of clients.
    pub ca_certificates: String,
}
