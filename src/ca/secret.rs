//! Certificates of workloads whose key is made here, for proxies without an agent: each is made anew before it ends, and
//! whenever the authority changes.

use super::{Csr, Names, PrivateKey, Refused, Signer, Workloads, key::KeyKind, now};
use crate::{
    id::ResourceType,
    pb::envoy::{
        config::core::v3::{DataSource, data_source::Specifier},
        extensions::transport_sockets::tls::v3::{CertificateValidationContext, Secret, TlsCertificate, secret::Type},
    },
    peer::Caller,
    translate::Resource,
};
use prost::Message as _;
use std::{
    fmt,
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, time};

/// How long to wait after a failure at most.
const PATIENCE: Duration = Duration::from_secs(60);

/// A certificate, its key and the roots.
#[derive(Clone, PartialEq, Eq)]
pub struct Svid {
    /// The certificate, and those that lead to the roots, as PEM.
    pub chain: String,
    /// The private key, as PEM.
    pub key: String,
    /// The roots, as PEM.
    pub roots: String,
    /// What was revoked, as PEM; empty where nobody says.
    pub crls: String,
}

impl fmt::Debug for Svid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Svid")
    }
}

impl Svid {
    /// The certificate with its key as a secret of this name, as Envoy takes it.
    pub fn certificate(&self, name: &str) -> Resource {
        let certificate = TlsCertificate {
            certificate_chain: inline(&self.chain),
            private_key: inline(&self.key),
            ..Default::default()
        };
        resource(name, Type::TlsCertificate(certificate))
    }

    /// The workload's certificate and the mesh's roots, by the names that listeners and clusters ask for.
    pub fn resources(&self) -> [Resource; 2] {
        [self.certificate("default"), roots("ROOTCA", &self.roots, &self.crls)]
    }
}

/// Roots, and what was revoked where somebody says, as PEM; as a secret of this name, as Envoy takes it.
pub fn roots(name: &str, pem: &str, crls: &str) -> Resource {
    let crl = if crls.is_empty() { None } else { inline(crls) };
    let context = CertificateValidationContext { trusted_ca: inline(pem), crl, ..Default::default() };
    resource(name, Type::ValidationContext(context))
}

fn resource(name: &str, kind: Type) -> Resource {
    let secret = Secret { name: name.to_owned(), r#type: Some(kind) };
    Resource::new(ResourceType::Secret, name, secret.encode_to_vec(), Vec::new())
}

fn inline(text: &str) -> Option<DataSource> {
    let specifier = Some(Specifier::InlineBytes(text.as_bytes().to_vec().into()));
    Some(DataSource { specifier, ..Default::default() })
}

/// Makes certificates of workloads, with their keys.
#[derive(Clone, Debug)]
pub struct WorkloadSecrets {
    signer: Arc<Signer>,
    workloads: Workloads,
}

impl WorkloadSecrets {
    /// Those that a signer signs, of these workloads.
    pub fn new(signer: Arc<Signer>, workloads: Workloads) -> Self {
        Self { signer, workloads }
    }

    /// The newest certificate of a caller, as long as somebody looks; nothing until there is one.
    pub fn follow(&self, caller: Caller) -> watch::Receiver<Option<Arc<Svid>>> {
        let (sender, receiver) = watch::channel(None);
        let Self { signer, workloads } = self.clone();
        tokio::spawn(async move {
            let mut authority = signer.authority();
            let mut failures = 0u32;
            loop {
                authority.borrow_and_update();
                let wait = match make(&signer, &workloads, &caller).await {
                    Ok((svid, life)) => {
                        failures = 0;
                        sender.send_replace(Some(Arc::new(svid)));
                        jittered(life / 2)
                    }
                    Err(why) => {
                        tracing::warn!(identity = %caller.identity, ?why, "a workload gets no certificate yet");
                        failures = (failures + 1).min(6);
                        jittered(Duration::from_secs(1 << failures).min(PATIENCE))
                    }
                };
                tokio::select! {
                    () = sender.closed() => return,
                    () = time::sleep(wait) => {}
                    changed = authority.changed() => if changed.is_err() { return },
                }
            }
        });
        receiver
    }
}

async fn make(signer: &Signer, workloads: &Workloads, caller: &Caller) -> Result<(Svid, Duration), Refused> {
    let failed = |e: &dyn fmt::Display| Refused::Failed(e.to_string());
    let key = tokio::task::spawn_blocking(|| PrivateKey::generate(KeyKind::P256)).await;
    let key = key.map_err(|e| failed(&e))?.map_err(|e| failed(&e))?;
    let csr = Csr::of(&key).map_err(Refused::Unfit)?;
    let at = now();
    let names = Names::Workload(caller.identity.clone(), workloads.subject(&caller.identity, caller));
    let issued = signer.sign(|| Ok((csr, names)), 0, at).await?;
    let life = Duration::from_secs(issued.expires.saturating_sub(at));
    let (chain, key) = (issued.chain.concat(), key.pem().to_owned());
    Ok((Svid { chain, key, roots: issued.roots, crls: issued.crls }, life))
}

/// A time up to a tenth shorter, so that not all come at once.
fn jittered(time: Duration) -> Duration {
    let part = RandomState::new().hash_one(0u8) % 1000;
    time.mul_f64(1.0 - part as f64 / 10_000.0)
}
