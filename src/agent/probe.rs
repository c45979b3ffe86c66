//! Probes of the application: those that kubelet cannot ask itself, because mutual TLS is a must there, so that the agent
//! asks from within the pod (`ISTIO_KUBE_APP_PROBERS`); and how any probe is asked.

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
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Prober {
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
    #[serde(default)]
    host: String,
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
    #[serde(default)]
    host: String,
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
    application: Application,
}

/// Who is asked.
#[derive(Clone, Debug)]
pub(super) struct Application {
    /// Where it is.
    pub(super) to: IpAddr,
    /// Its host, where that is not this machine.
    pub(super) name: Option<String>,
    /// The agent's port, which requests may name that are passed on.
    pub(super) own_port: Option<u16>,
}

impl Probers {
    /// The probes that a text describes, of an application at this address.
    ///
    /// # Errors
    ///
    /// When the text is broken.
    pub(super) fn new(text: Option<&str>, to: IpAddr, own_port: u16) -> Result<Self> {
        let probers = text.map_or(Ok(BTreeMap::new()), serde_json::from_str).context("ISTIO_KUBE_APP_PROBERS")?;
        Ok(Self { probers, application: Application { to, name: None, own_port: Some(own_port) } })
    }

    /// What the probe of a path finds, as kubelet is answered.
    pub(super) async fn probe(&self, path: &str, headers: &HeaderMap) -> (StatusCode, Vec<u8>) {
        let Some(prober) = self.probers.get(path) else {
            return (StatusCode::BAD_REQUEST, format!("{path} is no probe of this pod\n").into_bytes());
        };
        prober.find(&self.application, headers).await.unwrap_or_else(|error| {
            tracing::info!(path, error = format!("{error:#}"), "a probe fails");
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n").into_bytes())
        })
    }
}

impl Prober {
    /// Whether it asks anything.
    pub(super) fn asks(&self) -> bool {
        self.http_get.is_some() || self.tcp_socket.is_some() || self.grpc.is_some()
    }

    /// How long an answer may take, by default as long as Kubernetes waits.
    pub(super) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_seconds.max(1))
    }

    /// The host and port that it names itself, where it does.
    pub(super) fn host(&self) -> Option<(&str, u16)> {
        let http = self.http_get.as_ref().map(|http| (http.host.as_str(), &http.port));
        let (host, at) = http.or_else(|| self.tcp_socket.as_ref().map(|tcp| (tcp.host.as_str(), &tcp.port)))?;
        Some((host, port(at).ok()?)).filter(|(host, _)| !host.is_empty())
    }

    /// The answer of an application; these headers go along with requests over HTTP.
    ///
    /// # Errors
    ///
    /// When it does not answer, or says that it is not well.
    pub(super) async fn find(&self, application: &Application, headers: &HeaderMap) -> Result<(StatusCode, Vec<u8>)> {
        let timeout = self.timeout();
        let asked = async {
            match self {
                Self { http_get: Some(http), .. } => application.http(http, headers, timeout).await,
                Self { tcp_socket: Some(tcp), .. } => {
                    application.connect(port(&tcp.port)?).await.map(|_| (StatusCode::OK, Vec::new()))
                }
                Self { grpc: Some(grpc), .. } => application.grpc(grpc).await,
                _ => bail!("the probe asks nothing"),
            }
        };
        time::timeout(timeout, asked).await.unwrap_or_else(|_| Err(anyhow!("there is no answer in time")))
    }
}

impl Application {
    async fn http(&self, http: &HttpGet, headers: &HeaderMap, timeout: Duration) -> Result<(StatusCode, Vec<u8>)> {
        let port = port(&http.port)?;
        let headers = self.headers(http, headers, port)?;
        let mut path = if http.path.starts_with('/') { http.path.clone() } else { format!("/{}", http.path) };
        for _ in 0..=REDIRECTIONS {
            let request = Request { headers: headers.clone(), timeout, ..Request::get(path.as_str()) };
            let answer = self.ask(request, port, http.scheme.eq_ignore_ascii_case("https")).await?;
            match redirection(&answer, &self.host()) {
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
        let host = match &self.name {
            Some(name) if !name.contains(':') => format!("{name}:{port}"),
            _ => SocketAddr::new(self.to, port).to_string(),
        };
        if !tls {
            return request.over(stream, &host).await;
        }
        // As kubelet does: a probe asks whether somebody is there, not who.
        let tls = Arc::new(tls::unverified().with_no_client_auth());
        let name = self.name.clone().and_then(|name| ServerName::try_from(name).ok());
        let stream = TlsConnector::from(tls).connect(name.unwrap_or(self.to.into()), stream).await?;
        request.over(stream, &host).await
    }

    fn host(&self) -> String {
        self.name.clone().unwrap_or_else(|| self.to.to_string())
    }

    /// The headers of kubelet's request, and those of the probe.
    fn headers(&self, http: &HttpGet, asked: &HeaderMap, port: u16) -> Result<HeaderMap> {
        let mut headers = asked.clone();
        for own in [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING] {
            headers.remove(own);
        }
        // Kubelet's request names the agent's port, where the application has its own.
        let host = asked.get(HOST).and_then(|v| v.to_str().ok()).map(str::to_owned);
        let host =
            host.zip(self.own_port).and_then(|(host, own)| Some(host.strip_suffix(&format!(":{own}"))?.to_owned()));
        if let Some(host) = host {
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
        if self.name.is_none() {
            // Not every machine has the address of IPv6; without it the connection may be captured.
            let _ = socket.bind((from, 0).into());
        }
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
