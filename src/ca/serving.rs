//! The control plane's own certificate, and TLS with it: clients may show a certificate of the mesh, which is checked.

use super::{Authority, Error, KeyKind, Names, PrivateKey, now};
use futures_util::Stream;
use rustls::{
    RootCertStore, ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use std::{io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;

/// How long a client may take for its handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Handshakes at once.
const HANDSHAKES: usize = 256;
/// How long the control plane's certificate is valid, in seconds. It is made again after half of that.
const TTL: u64 = 24 * 3600;

/// The names that clients know the control plane by.
pub fn dns_names(namespace: &str, revision: &str, further: &[String]) -> Vec<String> {
    let mut names: Vec<String> =
        ["istiod", "istiod-remote", "istio-pilot"].iter().map(|name| format!("{name}.{namespace}.svc")).collect();
    if !revision.is_empty() && revision != "default" {
        names.push(format!("istiod-{revision}.{namespace}.svc"));
    }
    names.extend(further.iter().filter(|n| !n.is_empty()).cloned());
    names.sort();
    names.dedup();
    names
}

/// Who connects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clients {
    /// Workloads and whoever else speaks gRPC; their certificates are checked where they have some.
    Mesh,
    /// The API server, which calls webhooks; who it is makes no difference.
    ApiServer,
}

/// TLS with a new certificate of an authority.
///
/// # Errors
///
/// When the library fails.
pub fn config(authority: &Authority, names: &[String], clients: Clients) -> Result<ServerConfig, Error> {
    let unusable = |_| Error::Unusable("root-cert.pem", "cannot be used for TLS");
    let key = PrivateKey::generate(KeyKind::P256)?;
    let issued = authority.issue(&key.pair, &Names::Server(names.to_vec()), now(), TTL)?;
    let mut roots = RootCertStore::empty();
    for root in authority.trusted()? {
        roots.add(root).map_err(unusable)?;
    }
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone())
        .allow_unauthenticated()
        // Of an authority that has no list nothing was revoked.
        .with_crls(authority.revoked()?)
        .allow_unknown_revocation_status()
        .build()
        .map_err(|_| Error::Unusable("root-cert.pem", "cannot be used to check clients"))?;
    let chain: Result<Vec<_>, _> =
        issued.chain.iter().flat_map(|pem| CertificateDer::pem_slice_iter(pem.as_bytes())).collect();
    let chain = chain.map_err(|_| Error::Unusable("cert-chain.pem", "is not certificates in PEM"))?;
    let key = PrivateKeyDer::from_pem_slice(key.pem().as_bytes());
    let key = key.map_err(|_| Error::Unusable("ca-key.pem", "made no key"))?;
    let versions = [&rustls::version::TLS13, &rustls::version::TLS12];
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions).map_err(unusable)?;
    let (builder, protocol) = match clients {
        Clients::Mesh => (builder.with_client_cert_verifier(verifier), &b"h2"[..]),
        Clients::ApiServer => (builder.with_no_client_auth(), &b"http/1.1"[..]),
    };
    let mut config = builder.with_single_cert(chain, key).map_err(unusable)?;
    config.alpn_protocols = vec![protocol.to_vec()];
    // A session that goes on would keep what its client proved under roots that are gone.
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// TLS with what `authority` has, made anew when that changes and when half of its time is over.
///
/// # Errors
///
/// When the first cannot be made.
pub fn keep(
    mut authority: watch::Receiver<Arc<Authority>>,
    names: Vec<String>,
    clients: Clients,
) -> Result<(watch::Receiver<Arc<ServerConfig>>, impl Future<Output = ()> + use<>), Error> {
    let first = config(&authority.borrow_and_update().clone(), &names, clients)?;
    let (sender, receiver) = watch::channel(Arc::new(first));
    let task = async move {
        loop {
            tokio::select! {
                changed = authority.changed() => if changed.is_err() { return },
                () = time::sleep(Duration::from_secs(TTL / 2)) => {}
            }
            let newest = authority.borrow_and_update().clone();
            match config(&newest, &names, clients) {
                Ok(config) => drop(sender.send_replace(Arc::new(config))),
                Err(error) => tracing::error!(%error, "the control plane keeps its certificate"),
            }
        }
    };
    Ok((receiver, task))
}

/// The connections of a socket whose handshake is done; no client can hold up another.
pub fn accept(
    listener: TcpListener,
    config: watch::Receiver<Arc<ServerConfig>>,
) -> impl Stream<Item = io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(HANDSHAKES);
    tokio::spawn(async move {
        let turns = Arc::new(Semaphore::new(HANDSHAKES));
        loop {
            let Ok(turn) = turns.clone().acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = sender.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, peer)) = accepted else {
                // Most likely there are no more file descriptors; there will be.
                time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (acceptor, sender) = (TlsAcceptor::from(config.borrow().clone()), sender.clone());
            tokio::spawn(async move {
                let _turn = turn;
                match time::timeout(HANDSHAKE, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                    Ok(Err(error)) => tracing::debug!(%peer, %error, "a handshake fails"),
                    Err(_) => tracing::debug!(%peer, "a handshake takes too long"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}
