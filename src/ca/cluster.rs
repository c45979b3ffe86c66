//! An authority in a cluster's Secrets: `cacerts`, which people plug in, goes before `istio-ca-secret`, which is made.

use super::{Files, Storage};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::{
    io,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::{runtime::Handle, task, time};

/// The Secret that people plug in.
const PLUGGED: &str = "cacerts";
/// The Secret that is made.
const MADE: &str = "istio-ca-secret";
/// Its type, by which istiod knows it.
const KIND: &str = "istio.io/ca-root";
/// How long the API server may take.
const LONGEST: Duration = Duration::from_secs(10);

/// Secrets that hold an authority. To be used from a runtime of several threads.
#[derive(Clone)]
pub struct Cluster {
    api: Api<Secret>,
    runtime: Handle,
    /// What was found when it was last looked at, which is what may be replaced.
    found: std::sync::Arc<Mutex<Option<Secret>>>,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").finish_non_exhaustive()
    }
}

impl Cluster {
    /// The Secrets of this namespace.
    pub fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), runtime: Handle::current(), found: std::sync::Arc::default() }
    }

    fn wait<T>(&self, request: impl Future<Output = Result<T, kube::Error>>) -> io::Result<T> {
        let request = async {
            match time::timeout(LONGEST, request).await {
                Ok(Ok(done)) => Ok(done),
                // Another replica was faster.
                Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(io::ErrorKind::AlreadyExists.into()),
                Ok(Err(error)) => Err(io::Error::other(error)),
                Err(_) => Err(io::ErrorKind::TimedOut.into()),
            }
        };
        task::block_in_place(|| self.runtime.block_on(request))
    }
}

impl Storage for Cluster {
    fn load(&self) -> io::Result<Files> {
        let found = match self.wait(self.api.get_opt(PLUGGED))? {
            Some(secret) => Some(secret),
            None => self.wait(self.api.get_opt(MADE))?,
        };
        let files = found.as_ref().map(files).unwrap_or_default();
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = found;
        Ok(files)
    }

    fn save(&self, files: &Files) -> io::Result<()> {
        let found = self.found.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let data = files.iter().map(|(name, text)| (name.clone(), ByteString(text.clone().into_bytes()))).collect();
        let written = match found {
            None => {
                let metadata = ObjectMeta { name: Some(MADE.to_owned()), ..ObjectMeta::default() };
                let secret = Secret { metadata, data: Some(data), type_: Some(KIND.to_owned()), ..Secret::default() };
                self.wait(self.api.create(&PostParams::default(), &secret))?
            }
            // Only what was looked at is replaced: its version is that of the Secret found.
            Some(mut secret) => {
                secret.data = Some(data);
                let name = secret.metadata.name.clone().unwrap_or_default();
                self.wait(self.api.replace(&name, &PostParams::default(), &secret))?
            }
        };
        *self.found.lock().unwrap_or_else(PoisonError::into_inner) = Some(written);
        Ok(())
    }

    fn interval(&self) -> Duration {
        Duration::from_secs(5)
    }
}

/// The files of a Secret. istiod's own has entries that are empty, and no roots beside the certificate that signs.
fn files(secret: &Secret) -> Files {
    let entries = secret.data.iter().flatten();
    let text = |bytes: &ByteString| String::from_utf8(bytes.0.clone()).ok().filter(|text| !text.is_empty());
    let mut files: Files = entries.filter_map(|(name, bytes)| Some((name.clone(), text(bytes)?))).collect();
    let made = secret.metadata.name.as_deref() == Some(MADE);
    if let Some(certificate) = files.get("ca-cert.pem").filter(|_| made).cloned() {
        files.entry("root-cert.pem".to_owned()).or_insert(certificate);
    }
    files
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, entries: &[(&str, &str)]) -> Secret {
        let data = entries.iter().map(|(name, text)| ((*name).to_owned(), ByteString(text.as_bytes().to_vec())));
        let metadata = ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() };
        Secret { metadata, data: Some(data.collect()), ..Secret::default() }
    }

    #[test]
    fn istiods_own_secret_has_its_certificate_for_a_root_and_empty_entries() {
        let all =
            [("ca-cert.pem", "C"), ("ca-key.pem", "K"), ("cert-chain.pem", ""), ("key.pem", ""), ("root-cert.pem", "")];
        let files = files(&secret(MADE, &all));
        let names: Vec<_> = files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect();
        assert_eq!(names, [("ca-cert.pem", "C"), ("ca-key.pem", "K"), ("root-cert.pem", "C")]);
    }

    #[test]
    fn a_plugged_in_secret_without_roots_is_told_of_and_not_completed() {
        let files = files(&secret(PLUGGED, &[("ca-cert.pem", "C"), ("ca-key.pem", "K")]));
        assert_eq!(files.get("root-cert.pem"), None);
    }
}
