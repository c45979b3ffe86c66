//! A GET over HTTP or HTTPS: no redirects, no more than fits, and only to addresses that may be asked.

use super::Options;
use crate::{parse, tls};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::{Request, Uri, body::Bytes, client::conn::http1, header};
use hyper_util::rt::TokioIo;
use ipnet::IpNet;
use rustls::{
    ClientConfig, RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
};
use std::{fmt::Display, io, net::SocketAddr, path::PathBuf, sync::Arc};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
};
use tokio_rustls::TlsConnector;

/// Asks servers for texts.
pub(super) struct Client {
    tls: TlsConnector,
    blocked: Vec<IpNet>,
}

/// A connection of either kind.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

impl Client {
    pub(super) fn new(options: &Options) -> Self {
        let config = match options.trusting {
            true => {
                tracing::warn!("keys of issuers are taken from whoever answers: certificates are not looked at");
                tls::unverified()
            }
            false => ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider knows the usual versions")
                .with_root_certificates(roots(&options.roots)),
        };
        let config = config.with_no_client_auth();
        Self { tls: TlsConnector::from(Arc::new(config)), blocked: options.blocked.clone() }
    }

    /// The text at a URL.
    pub(super) async fn get(&self, url: &str) -> Result<String, String> {
        let uri: Uri = url.parse().map_err(|e| format!("`{url}` is not a URL: {e}"))?;
        let authority = uri.authority().ok_or_else(|| format!("`{url}` names no host"))?;
        let secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(format!("`{url}` does not start with http:// or https://")),
        };
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let port = authority.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let plain = self.connect(host, port).await?;
        let stream: Box<dyn Stream> = match secure {
            false => Box::new(plain),
            true => {
                let name = ServerName::try_from(host.to_owned()).map_err(said("the host's name"))?;
                Box::new(self.tls.connect(name, plain).await.map_err(said("TLS"))?)
            }
        };
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(said("HTTP"))?;
        let running = tokio::spawn(connection);
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(header::HOST, authority.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::USER_AGENT, concat!("mainsheet/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())
            .map_err(said("the request"))?;
        let answer = sender.send_request(request).await.map_err(said("HTTP"));
        let text = match answer {
            Ok(answer) if answer.status().is_success() => read(answer.into_body()).await,
            Ok(answer) => Err(format!("the answer is {}", answer.status())),
            Err(why) => Err(why),
        };
        running.abort();
        text
    }

    async fn connect(&self, host: &str, port: u16) -> Result<TcpStream, String> {
        let all: Vec<SocketAddr> = lookup_host((host, port)).await.map_err(said("the host's address"))?.collect();
        let mut last = format!("{host} has no address");
        for address in all {
            if let Some(net) = self.blocked.iter().find(|net| net.contains(&address.ip())) {
                last = format!("{} is in {net}, which may not be asked", address.ip());
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = format!("{address}: {error}"),
            }
        }
        Err(last)
    }
}

/// A body that is a text and not too long.
async fn read(body: hyper::body::Incoming) -> Result<String, String> {
    let body = Limited::new(body, parse::MAX_KEY_BYTES).collect().await.map_err(said("the answer"))?;
    String::from_utf8(body.to_bytes().into()).map_err(said("the answer"))
}

/// The certificates in files. One that cannot be used is passed over, as others may be there for the same server.
fn roots(files: &[PathBuf]) -> RootCertStore {
    let mut store = RootCertStore::empty();
    for file in files {
        match CertificateDer::pem_file_iter(file) {
            Ok(all) => drop(store.add_parsable_certificates(all.flatten())),
            Err(rustls::pki_types::pem::Error::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(file = %file.display(), "certificates cannot be read: {error}"),
        }
    }
    store
}

/// What went wrong, and with what.
fn said<E: Display>(what: &'static str) -> impl Fn(E) -> String {
    move |error| format!("{what}: {error}")
}
