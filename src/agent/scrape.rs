//! One page of metrics for the pod: the agent's own, then Envoy's, then the application's.

use super::{
    metrics::Metrics,
    request::{Answer, Request},
};
use anyhow::{Context as _, Result, bail};
use axum::http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, USER_AGENT},
};
use futures_util::future::join_all;
use serde::Deserialize;
use std::{sync::Arc, time::Duration};

const TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");
const TEXT: &str = "text/plain; version=0.0.4";
const OPEN: &str = "application/openmetrics-text";
/// The end of a page in OpenMetrics.
const END: &str = "# EOF";
/// Ports of the agent and of Envoy, which metrics of the application are never at.
const RESERVED: [u16; 10] = [15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090, 15443];

/// What `ISTIO_PROMETHEUS_ANNOTATIONS` says.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Annotations {
    scrape: String,
    path: String,
    port: String,
    targets: Vec<Target>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Target {
    path: String,
    port: String,
}

/// Puts the page together.
#[derive(Debug)]
pub(super) struct Scraper {
    /// Envoy's port, where its metrics are on the page.
    envoy: Option<u16>,
    /// Ports and paths of the application.
    application: Vec<(u16, String)>,
    metrics: Arc<Metrics>,
}

impl Scraper {
    /// The page of an Envoy and of the application that annotations describe.
    ///
    /// # Errors
    ///
    /// When the annotations are broken, or name a port of the mesh's own.
    pub(super) fn new(
        envoy: Option<u16>,
        annotations: Option<&str>,
        own_port: u16,
        metrics: Arc<Metrics>,
    ) -> Result<Self> {
        let application = annotations.map_or(Ok(Vec::new()), |text| targets(text, own_port));
        Ok(Self { envoy, application: application.context("ISTIO_PROMETHEUS_ANNOTATIONS")?, metrics })
    }

    /// The page and its type.
    pub(super) async fn scrape(&self, query: Option<&str>, headers: &HeaderMap) -> (String, String) {
        self.metrics.scrapes.add(1);
        let envoy = async {
            let port = self.envoy?;
            let path = query.map_or("/stats/prometheus".to_owned(), |query| format!("/stats/prometheus?{query}"));
            let answer = fetch(port, path, headers, TEXT).await;
            self.told(answer, "Envoy", &self.metrics.failed_envoy)
        };
        let wished = headers.get(ACCEPT).and_then(|v| v.to_str().ok()).is_some_and(|accept| accept.contains(OPEN));
        let accept =
            if wished { "application/openmetrics-text;version=0.0.1,text/plain;version=0.0.4;q=0.5" } else { TEXT };
        let application = join_all(self.application.iter().map(|(port, path)| async {
            let answer = fetch(*port, path.clone(), headers, accept).await;
            self.told(answer, "the application", &self.metrics.failed_application)
        }));
        let (envoy, application) = tokio::join!(envoy, application);
        let mut page = self.metrics.page();
        page.extend(envoy.iter().map(|answer| String::from_utf8_lossy(&answer.body).into_owned()));
        let application: Vec<Answer> = application.into_iter().flatten().collect();
        let kind = join(&application, &mut page);
        (kind, page)
    }

    fn told(&self, answer: Result<Answer>, who: &str, failures: &super::metrics::Number) -> Option<Answer> {
        answer
            .inspect_err(|error| {
                failures.add(1);
                tracing::warn!(error = format!("{error:#}"), "{who} gives no metrics");
            })
            .ok()
    }
}

/// Adds the application's pages, and tells the type of the whole.
fn join(application: &[Answer], page: &mut String) -> String {
    let kind =
        |answer: &Answer| answer.headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok()).unwrap_or(TEXT).to_owned();
    let kinds: Vec<String> = application.iter().map(kind).collect();
    let open = !kinds.is_empty() && kinds.iter().all(|kind| kind.starts_with(OPEN));
    for answer in application {
        if !page.is_empty() && !page.ends_with('\n') {
            page.push('\n');
        }
        let text = String::from_utf8_lossy(&answer.body);
        page.push_str(text.trim_end().strip_suffix(END).unwrap_or(&text));
    }
    if open {
        page.push_str(if page.ends_with('\n') { "" } else { "\n" });
        page.push_str(END);
        page.push('\n');
    }
    match &kinds[..] {
        [one] => one.clone(),
        [first, ..] if open => first.clone(),
        _ => TEXT.to_owned(),
    }
}

async fn fetch(port: u16, path: String, headers: &HeaderMap, accept: &str) -> Result<Answer> {
    let mut request = Request::get(path);
    for name in [USER_AGENT, TIMEOUT] {
        request.headers.extend(headers.get(&name).map(|value| (name, value.clone())));
    }
    let seconds = headers.get(TIMEOUT).and_then(|v| v.to_str().ok()).and_then(|text| text.parse::<f64>().ok());
    let seconds = seconds.filter(|seconds| (0.1..600.0).contains(seconds)).unwrap_or(10.0);
    request.timeout = Duration::from_secs_f64(seconds);
    request.headers.insert(ACCEPT, HeaderValue::from_str(accept)?);
    let answer = request.send(([127, 0, 0, 1], port).into()).await?;
    match answer.status {
        StatusCode::OK => Ok(answer),
        status => bail!("port {port} answers {status}"),
    }
}

/// The ports and paths that annotations name; none where they want nothing scraped.
fn targets(text: &str, own_port: u16) -> Result<Vec<(u16, String)>> {
    let annotations: Annotations = serde_json::from_str(text)?;
    if annotations.scrape == "false" {
        return Ok(Vec::new());
    }
    let usual = |text: String, usual: &str| if text.is_empty() { usual.to_owned() } else { text };
    let targets = match annotations.targets.is_empty() {
        true => vec![Target { path: annotations.path, port: usual(annotations.port, "80") }],
        false => annotations.targets,
    };
    let checked = |target: Target| {
        let Target { path, port } = target;
        match port.parse::<u16>() {
            Ok(0) | Err(_) => bail!("{port:?} is no port"),
            Ok(number) if number == own_port || RESERVED.contains(&number) => {
                bail!("port {number} is one of the mesh's own; name the application's")
            }
            Ok(number) => Ok((number, usual(path, "/metrics"))),
        }
    };
    targets.into_iter().map(checked).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotations_name_ports_and_paths_of_the_application_alone() {
        let of = |text: &str| targets(text, 15020).map_err(|e| e.to_string());
        assert_eq!(of("{}"), Ok(vec![(80, "/metrics".into())]));
        assert_eq!(of(r#"{"scrape":"true","port":"9090","path":"/m"}"#), Ok(vec![(9090, "/m".into())]));
        assert_eq!(of(r#"{"scrape":"false","port":"x"}"#), Ok(vec![]));
        let two = r#"{"targets":[{"port":"1"},{"port":"2","path":"/m"}]}"#;
        assert_eq!(of(two), Ok(vec![(1, "/metrics".into()), (2, "/m".into())]));
        assert!(of(r#"{"port":"015020"}"#).expect_err("own").contains("mesh's own"));
        assert!(of(r#"{"port":"none"}"#).expect_err("no port").contains("no port"));
    }

    #[test]
    fn pages_of_one_kind_keep_it_and_end_once() {
        let page = |kind: &'static str, body: &'static str| Answer {
            status: StatusCode::OK,
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]),
            body: body.into(),
        };
        let joined = |pages: &[Answer]| {
            let mut text = "own 1\n".to_owned();
            let kind = join(pages, &mut text);
            (kind, text)
        };
        let open = "application/openmetrics-text; version=1.0.0";
        assert_eq!(joined(&[]), (TEXT.into(), "own 1\n".into()));
        assert_eq!(joined(&[page("text/plain", "a 1")]), ("text/plain".into(), "own 1\na 1".into()));
        let both = [page(open, "a 1\n# EOF\n"), page(open, "b 1\n# EOF")];
        assert_eq!(joined(&both), (open.into(), "own 1\na 1\nb 1\n# EOF\n".into()));
        let mixed = [page(open, "a 1\n# EOF\n"), page("text/plain", "b 1\n")];
        assert_eq!(joined(&mixed), (TEXT.into(), "own 1\na 1\nb 1\n".into()));
    }
}
