//! TLS of one's own, with whatever certificate: what a mesh must see through when a peer is not who it should be.

use crate::Failure;
use mainsheet::tls;
use rustls::{
    ServerConfig, SignatureScheme,
    client::ResolvesClientCert,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use serde::Deserialize;
use std::{path::Path, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// A connection of any kind.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// What a client shows in its handshake. The server may be anybody.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Shown {
    /// The file of the certificates; none are shown without it.
    #[serde(default)]
    chain: Option<String>,
    /// The file of the key, which need not be the certificate's.
    #[serde(default)]
    key: Option<String>,
    /// The protocols that are offered.
    #[serde(default)]
    alpn: Vec<String>,
}

impl Shown {
    /// Does the handshake.
    pub(crate) async fn connect(&self, stream: impl Stream + 'static) -> Result<Box<dyn Stream>, Failure> {
        let provider = aws_lc_rs::default_provider();
        let builder = tls::unverified();
        let mut config = match (&self.chain, &self.key) {
            (Some(chain), Some(key)) => builder.with_client_cert_resolver(Arc::new(certified(&provider, chain, key)?)),
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = self.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        let name = ServerName::try_from("server")?;
        Ok(Box::new(TlsConnector::from(Arc::new(config)).connect(name, stream).await?))
    }
}

/// A server that shows the certificates of `BASE.pem` and signs with the key of `BASE.key`.
pub(crate) fn acceptor(base: &str) -> Result<TlsAcceptor, Failure> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let shown = certified(&provider, format!("{base}.pem"), format!("{base}.key"))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(shown));
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// A certificate and a key that need not belong together.
#[derive(Debug)]
struct Certified(Arc<CertifiedKey>);

fn certified(provider: &CryptoProvider, chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Result<Certified, Failure> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_file_iter(chain)?.collect();
    let key = provider.key_provider.load_private_key(PrivateKeyDer::from_pem_file(key)?)?;
    Ok(Certified(Arc::new(CertifiedKey::new(chain?, key))))
}

impl ResolvesClientCert for Certified {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Certified {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}
