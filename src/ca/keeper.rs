//! Keeps an authority: makes it on first start, and publishes it anew whenever its storage has changed.

use super::{Authority, Error, Files, KeyKind, Storage, rotation, self_signed};
use crate::peer::Mint;
use std::{
    io,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};
use tokio::sync::watch;

/// The file of the key that mainsheet signs tokens with.
const TOKEN_KEY: &str = "token-key";

/// How a new authority is made.
#[derive(Clone, Debug)]
pub struct Options {
    /// The organisation in the root's subject: the trust domain.
    pub trust_domain: String,
    /// The kind of its key.
    pub key: KeyKind,
    /// How long a root is valid, in seconds.
    pub root_ttl: u64,
}

/// An authority that is kept.
#[derive(Debug)]
pub struct Keeper {
    storage: Arc<dyn Storage>,
    files: Files,
    publisher: watch::Sender<Arc<Authority>>,
    mint: Arc<Mint>,
}

impl Keeper {
    /// The authority in a storage, made if there is none, as `options` then says. One that is there in part is never
    /// replaced.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn open(storage: Arc<dyn Storage>, options: impl FnOnce() -> io::Result<Options>) -> Result<Self, Error> {
        let mut files = storage.load()?;
        if !is_there(&files) {
            let options = options()?;
            let mut made = files.clone();
            made.extend(self_signed(&options.trust_domain, options.key, now(), options.root_ttl)?);
            if !made.contains_key(TOKEN_KEY) {
                made.insert(TOKEN_KEY.to_owned(), Mint::generate().map_err(|_| unusable_mint())?);
            }
            match storage.save(&made) {
                Ok(()) => tracing::info!("made a certificate authority"),
                // Another made one at the same time, and there must be one.
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                Err(e) => return Err(e.into()),
            }
            files = storage.load()?;
        }
        let authority = Authority::from_files(&files, now())?;
        // Beside an authority that others gave, which may be read-only, there is no key for tokens unless they gave it.
        let kept = match files.get(TOKEN_KEY) {
            Some(text) => text.clone(),
            None => Mint::generate().map_err(|_| unusable_mint())?,
        };
        let mint = Arc::new(Mint::open(&kept).map_err(|_| unusable_mint())?);
        Ok(Self { storage, files, publisher: watch::Sender::new(Arc::new(authority)), mint })
    }

    /// The newest authority.
    pub fn authority(&self) -> watch::Receiver<Arc<Authority>> {
        self.publisher.subscribe()
    }

    /// What signs tokens.
    pub fn mint(&self) -> &Arc<Mint> {
        &self.mint
    }

    /// Looks at the storage for ever. What is broken there leaves the authority as it was, and is said once.
    pub async fn run(mut self) {
        let mut said = String::new();
        loop {
            tokio::time::sleep(self.storage.interval()).await;
            let storage = self.storage.clone();
            let Ok(loaded) = tokio::task::spawn_blocking(move || storage.load()).await else { return };
            let result = loaded.map_err(Error::from).and_then(|files| self.take(files));
            let trouble = result.err().map(|e| e.to_string()).unwrap_or_default();
            if trouble != said && !trouble.is_empty() {
                tracing::error!(error = %trouble, "the certificate authority stays as it was");
            }
            said = trouble;
        }
    }

    fn take(&mut self, files: Files) -> Result<(), Error> {
        if files == self.files {
            return Ok(());
        }
        let authority = Authority::from_files(&files, now())?;
        tracing::info!(rotation = %rotation::Rotation::of(&files), "the certificate authority has changed");
        self.files = files;
        self.publisher.send_replace(Arc::new(authority));
        Ok(())
    }
}

impl Keeper {
    /// What signs tokens beside the authority in a storage.
    ///
    /// # Errors
    ///
    /// When there is no authority, or no key for tokens beside it.
    pub fn mint_of(storage: &dyn Storage) -> Result<Mint, Error> {
        let files = storage.load()?;
        let text = files.get(TOKEN_KEY).ok_or(Error::Missing(TOKEN_KEY))?;
        Mint::open(text).map_err(|_| unusable_mint())
    }
}

fn unusable_mint() -> Error {
    Error::Unusable(TOKEN_KEY, "is not a P-256 private key in PKCS#8, base64")
}

/// Whether there is an authority, or a part of one.
fn is_there(files: &Files) -> bool {
    files.keys().any(|name| name.ends_with(".pem") || name == "tls.crt" || name == "tls.key")
}

/// Seconds since 1970.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
