//! The certificate authority: it signs the identities of workloads, and keeps its key and roots in a [`Storage`].
//!
//! The way through: [`Keeper`] reads the storage and publishes an [`Authority`] whenever that has changed; the
//! [`Signer`] signs with the newest on a few workers; [`Service`] takes requests of proved callers, of whose workloads
//! [`Workloads`] knows more; and [`serving`] makes the control plane's own certificate.

mod authority;
mod cluster;
mod csr;
mod directory;
mod keeper;
mod key;
mod metrics;
mod rotation;
mod secret;
mod service;
pub mod serving;
mod signer;
#[cfg(test)]
mod tests;
mod workloads;

pub use authority::{Authority, Issued, Names, lists as revocation_lists, self_signed};
pub use cluster::Cluster;
pub use csr::{Csr, Unfit};
pub use directory::Directory;
pub use keeper::{Keeper, Options, now};
pub use key::{KeyKind, PrivateKey};
pub use metrics::Metrics;
pub use rotation::{Phase, Rotation, Step};
pub use secret::{Svid, WorkloadSecrets, roots};
pub use service::Service;
pub use signer::{Limits, Refused, Signer};
pub use workloads::{Rules, Workloads};

use std::{collections::BTreeMap, io, time::Duration};

/// The files that an authority consists of, by name.
pub type Files = BTreeMap<String, String>;

/// Where an authority is kept.
pub trait Storage: Send + Sync + std::fmt::Debug {
    /// What is kept; nothing where nothing was.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn load(&self) -> io::Result<Files>;

    /// Keeps these files instead of what was kept: after a crash all of them are there, or all as they were.
    ///
    /// # Errors
    ///
    /// When it cannot be written, which leaves what was kept; [`io::ErrorKind::AlreadyExists`] where something else was
    /// kept since it was loaded.
    fn save(&self, files: &Files) -> io::Result<()>;

    /// How often it is to be looked at.
    fn interval(&self) -> Duration {
        Duration::from_secs(1)
    }
}

/// What is wrong with an authority. The texts name files and never what is in them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The storage fails.
    #[error("the storage of the certificate authority: {0}")]
    Storage(#[from] io::Error),
    /// A file that must be there is not.
    #[error(
        "{0} is missing; an authority is ca-cert.pem, ca-key.pem, root-cert.pem and cert-chain.pem, or tls.crt, tls.key and ca.crt"
    )]
    Missing(&'static str),
    /// A file is not what it should be.
    #[error("{0} {1}")]
    Unusable(&'static str, &'static str),
    /// The library fails.
    #[error("making a certificate: {0}")]
    Library(#[from] rcgen::Error),
    /// A rotation is not at the step that was asked for.
    #[error("{0}")]
    Rotation(String),
}
