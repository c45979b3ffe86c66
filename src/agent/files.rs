//! Certificates that others keep in files: the workload's own, where it is mounted, and those that listeners and clusters
//! name. Files are read again and again, which sees every way of replacing them.

use super::{Certified, Metrics, Pod};
use crate::{
    ca::{PrivateKey, Svid, roots},
    config::Identity,
    translate::Resource,
};
use anyhow::{Context as _, Result};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time};

/// How often files are read.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);
/// Where somebody else may have put the workload's certificate.
const CREDENTIALS: &str = "/var/run/secrets/workload-spiffe-credentials";
const USUAL: &str = "/etc/certs";
/// Where systems keep the roots of the world.
const SYSTEM: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// The workload's certificate in files.
#[derive(Clone, Debug)]
pub(super) struct Mounted {
    chain: PathBuf,
    key: PathBuf,
    roots: PathBuf,
}

impl Mounted {
    /// Where the certificate is mounted; nothing where it is to be asked for.
    pub(super) fn of(options: &Identity, pod: &Pod) -> Option<Self> {
        let at = |dir: &str| {
            let dir = Path::new(dir);
            Self { chain: dir.join("cert-chain.pem"), key: dir.join("key.pem"), roots: dir.join("root-cert.pem") }
        };
        let credentials = at(CREDENTIALS);
        if [&credentials.chain, &credentials.key, &credentials.roots].iter().all(|file| file.is_file()) {
            return Some(credentials);
        }
        let usual = at(USUAL);
        let named = |name: &str, usual: PathBuf| {
            pod.variable(&format!("ISTIO_META_TLS_CLIENT_{name}")).map_or(usual, PathBuf::from)
        };
        options.file_mounted_certs.then(|| Self {
            chain: named("CERT_CHAIN", usual.chain),
            key: named("KEY", usual.key),
            roots: named("ROOT_CERT", usual.roots),
        })
    }

    /// Keeps the newest certificate there.
    pub(super) async fn keep(self, sender: watch::Sender<Option<Arc<Certified>>>, metrics: Arc<Metrics>) -> Result<()> {
        let mut said = String::new();
        loop {
            match self.read() {
                Ok(certified) => {
                    said.clear();
                    metrics.expires.store(certified.expires);
                    sender.send_if_modified(|newest| {
                        let changed = newest.as_ref().is_none_or(|held| held.svid != certified.svid);
                        if changed {
                            tracing::info!(file = %self.chain.display(), "a certificate is there");
                            *newest = Some(Arc::new(certified));
                        }
                        changed
                    });
                }
                Err(error) if format!("{error:#}") != said => {
                    said = format!("{error:#}");
                    metrics.broken_files.add(1);
                    tracing::warn!(error = said, "the mounted certificate cannot be used");
                }
                Err(_) => {}
            }
            tokio::select! {
                () = sender.closed() => return Ok(()),
                () = time::sleep(INTERVAL) => {}
            }
        }
    }

    fn read(&self) -> Result<Certified> {
        let text = |path: &Path| fs::read_to_string(path).with_context(|| path.display().to_string());
        let svid =
            Svid { chain: text(&self.chain)?, key: text(&self.key)?, roots: text(&self.roots)?, crls: String::new() };
        let key = PrivateKey::from_pem("the key", &svid.key)?;
        let expires = key.validity("the certificate", &svid.chain)?.end;
        Ok(Certified { svid, expires })
    }
}

/// The secret of a name such as `file-cert:CERT~KEY` or `file-root:ROOTS`; nothing where it is another name, or its files
/// cannot be read.
pub(super) fn named(name: &str) -> Option<Resource> {
    let read = |path: &str| fs::read_to_string(path).ok().filter(|text| !text.is_empty());
    if let Some((chain, key)) = name.strip_prefix("file-cert:").and_then(|rest| rest.split_once('~')) {
        let svid = Svid { chain: read(chain)?, key: read(key)?, roots: String::new(), crls: String::new() };
        // Half of a pair that is being replaced would be refused.
        PrivateKey::from_pem("the key", &svid.key).ok()?.validity("the certificate", &svid.chain).ok()?;
        return Some(svid.certificate(name));
    }
    let text = match name.strip_prefix("file-root:")? {
        "system" => SYSTEM.iter().find_map(|path| read(path))?,
        path => read(path)?,
    };
    Some(roots(name, &text, ""))
}
