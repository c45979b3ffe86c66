//! Probes of the application that kubelet cannot ask itself, because mutual TLS is a must there: the agent asks from
//! within the pod (`ISTIO_KUBE_APP_PROBERS`).

use super::request::{Answer, Request};
use crate::{
    pb::grpc::health::v1::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient},
    tls,
};
use anyhow::{Context as _, Result, anyhow, bail};
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, HOST, LOCATION, TRANSFER_ENCODING},
};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpSocket, TcpStream},
    time,
};
use tokio_rustls::TlsConnector;
use tonic::transport::Endpoint;

/// Connections from here are not captured.
const FROM: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(127, 0, 0, 6)), IpAddr::V6(Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 6))];
/// The most that is passed on of an answer, in bytes.
const MOST: usize = 10 << 10;
/// The most redirections that are followed.
const REDIRECTIONS: usize = 10;

/// One probe, as Kubernetes has it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Prober {
    http_get: Option<HttpGet>,
    tcp_socket: Option<TcpSocketAction>,
    grpc: Option<Grpc>,
    #[serde(default)]
    timeout_seconds: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct HttpGet {
    #[serde(default)]
    path: String,
    port: Value,
    #[serde(default)]
    scheme: String,
    #[serde(default)]
    http_headers: Vec<Header>,
}

#[derive(Clone, Debug, Deserialize)]
struct Header {
    name: String,
    value: String,
}

#[derive(Clone, Debug, Deserialize)]
struct TcpSocketAction {
    port: Value,
}

#[derive(Clone, Debug, Deserialize)]
struct Grpc {
    port: Value,
    #[serde(default)]
    service: Option<String>,
}

/// The probes of a pod, by the paths that kubelet asks for.
#[derive(Debug)]
pub(super) struct Probers {
    probers: BTreeMap<String, Prober>,
    /// Where the application is.
    to: IpAddr,
    own_port: u16,
}

impl Probers {
    /// The probes that a text describes, of an application at this address.
    ///
    /// # Errors
    ///
    /// When the text is broken.
    pub(super) fn new(text: Option<&str>, to: IpAddr, own_port: u16) -> Result<Self> {
        let probers = text.map_or(Ok(BTreeMap::new()), serde_json::from_str).context("ISTIO_KUBE_APP_PROBERS")?;
        Ok(Self { probers, to, own_port })
    }

    /// What the probe of a path finds, as kubelet is answered.
    pub(super) async fn probe(&self, path: &str, headers: &HeaderMap) -> (StatusCode, Vec<u8>) {
        let Some(prober) = self.probers.get(path) else {
            return (StatusCode::BAD_REQUEST, format!("{path} is no probe of this pod\n").into_bytes());
        };
        // Kubernetes' own default.
        let timeout = Duration::from_secs(prober.timeout_seconds.max(1));
        let asked = async {
            match prober {
                Prober { http_get: Some(http), .. } => self.http(http, headers, timeout).await,
                Prober { tcp_socket: Some(tcp), .. } => {
                    self.connect(port(&tcp.port)?).await.map(|_| (StatusCode::OK, Vec::new()))
                }
                Prober { grpc: Some(grpc), .. } => self.grpc(grpc).await,
                _ => bail!("the probe asks nothing"),
            }
        };
        let found = time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(anyhow!("there is no answer in time")));
        found.unwrap_or_else(|error| {
            tracing::info!(path, error = format!("{error:#}"), "a probe fails");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n").into_bytes())
        })
    }

    async fn http(&self, http: &HttpGet, headers: &HeaderMap, timeout: Duration) -> Result<(StatusCode, Vec<u8>)> {
        let port = port(&http.port)?;
        let headers = self.headers(http, headers, port)?;
        let mut path = if http.path.starts_with('/') { http.path.clone() } else { format!("/{}", http.path) };
        for _ in 0..=REDIRECTIONS {
            let request = Request { headers: headers.clone(), timeout, ..Request::get(path.as_str()) };
            let answer = self.ask(request, port, http.scheme.eq_ignore_ascii_case("https")).await?;
            match redirection(&answer, &self.to.to_string()) {
                Redirection::None => {
                    return Ok((answer.status, answer.body[..answer.body.len().min(MOST)].to_vec()));
                }
                // Another host is not the probed application's business.
                Redirection::Elsewhere => return Ok((StatusCode::OK, Vec::new())),
                Redirection::To(next) => path = next,
            }
        }
        bail!("{REDIRECTIONS} redirections lead nowhere")
    }

    async fn ask(&self, request: Request, port: u16, tls: bool) -> Result<Answer> {
        let stream = self.connect(port).await?;
        let host = SocketAddr::new(self.to, port).to_string();
        if !tls {
            return request.over(stream, &host).await;
        }
        // As kubelet does: a probe asks whether somebody is there, not who.
        let tls = Arc::new(tls::unverified().with_no_client_auth());
        let stream = TlsConnector::from(tls).connect(ServerName::from(self.to), stream).await?;
        request.over(stream, &host).await
    }

    /// The headers of kubelet's request, and those of the probe.
    fn headers(&self, http: &HttpGet, asked: &HeaderMap, port: u16) -> Result<HeaderMap> {
        let mut headers = asked.clone();
        for own in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(own);
        }
        // Kubelet's request names the agent's port, where the application has its own.
        let host = asked.get(HOST).and_then(|v| v.to_str().ok()).map(str::to_owned);
        if let Some(host) = host.and_then(|host| Some(host.strip_suffix(&format!(":{}", self.own_port))?.to_owned())) {
            headers.insert(HOST, HeaderValue::try_from(format!("{host}:{port}"))?);
        }
        for header in &http.http_headers {
            headers.insert(HeaderName::try_from(&header.name)?, HeaderValue::try_from(&header.value)?);
        }
        Ok(headers)
    }

    async fn connect(&self, port: u16) -> Result<TcpStream> {
        let (socket, from) = match self.to {
            IpAddr::V4(_) => (TcpSocket::new_v4()?, FROM[0]),
            IpAddr::V6(_) => (TcpSocket::new_v6()?, FROM[1]),
        };
        // Not every machine has the address of IPv6; without it the connection may be captured.
        let _ = socket.bind((from, 0).into());
        let to = SocketAddr::new(self.to, port);
        socket.connect(to).await.with_context(|| format!("connecting to {to}"))
    }

    async fn grpc(&self, grpc: &Grpc) -> Result<(StatusCode, Vec<u8>)> {
        let to = SocketAddr::new(self.to, port(&grpc.port)?);
        let endpoint = Endpoint::from_shared(format!("http://{to}"))?;
        let from = if self.to.is_ipv4() { Some(FROM[0]) } else { None };
        let channel = endpoint.local_address(from).connect().await.with_context(|| format!("connecting to {to}"))?;
        let request = HealthCheckRequest { service: grpc.service.clone().unwrap_or_default() };
        let answer = HealthClient::new(channel).check(request).await.map_err(|status| anyhow!("{status}"))?;
        match answer.into_inner().status() {
            ServingStatus::Serving => Ok((StatusCode::OK, Vec::new())),
            other => bail!("the service is {}", other.as_str_name()),
        }
    }
}

/// A port, which injection has made a number of.
fn port(value: &Value) -> Result<u16> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok()).and_then(|number| number.try_into().ok());
    number.with_context(|| format!("{value} is no port"))
}

enum Redirection {
    None,
    Elsewhere,
    To(String),
}

fn redirection(answer: &Answer, own: &str) -> Redirection {
    if !answer.status.is_redirection() {
        return Redirection::None;
    }
    let Some(to) = answer.headers.get(LOCATION).and_then(|v| v.to_str().ok()) else { return Redirection::None };
    let Ok(uri) = to.parse::<axum::http::Uri>() else { return Redirection::None };
    match uri.host() {
        Some(host) if host.trim_matches(['[', ']']) != own => Redirection::Elsewhere,
        _ => Redirection::To(uri.path_and_query().map_or("/".to_owned(), |path| path.as_str().to_owned())),
    }
}

#[cfg(test)]
mod tests;
