//! Debug pages, metrics and readiness over HTTP, in istiod's shapes. Nothing here changes anything but what
//! `adsz?push` asks for: that what streams hold is sent again.

mod answer;
mod dump;
mod guard;
mod metrics;
mod page;
mod registry;
mod stream;
#[cfg(test)]
mod tests;

use crate::{
    ca::Signer,
    id::ResourceType,
    peer::{Access, Authenticator},
    problem::Problem,
    prometheus::Measured,
    snapshot::Snapshot,
    source::kubernetes::Health,
    xds::{Connection, Metrics, Registry},
};
use axum::{
    Router,
    extract::{self, ConnectInfo, Query, State},
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
    routing::get,
};
use registry::Content;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, OnceLock},
};
use tokio::sync::watch;
use tower::ServiceExt as _;

/// What the pages show.
#[derive(Clone, Debug)]
pub struct Debug {
    /// The newest world.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The streams.
    pub registry: Arc<Registry>,
    /// What serving them took.
    pub metrics: Arc<Metrics>,
    /// What is still waited for before this process is ready, by name; empty once it is.
    pub pending: watch::Receiver<Vec<String>>,
    /// Who signs certificates and who checks callers, where there are such.
    pub identity: Option<Identity>,
    /// How it stands with the cluster that the objects are in, where they are in one.
    pub cluster: Option<Health>,
    /// What webhooks were asked, where there are such.
    pub webhooks: Option<Arc<crate::webhook::Metrics>>,
    /// How often machines came and went, where somebody looks after them.
    pub machines: Option<Arc<dyn Measured>>,
}

/// Who signs certificates, and who checks callers.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Who signs.
    pub signer: Arc<Signer>,
    /// Who checks.
    pub authenticator: Arc<Authenticator>,
    /// Whose workloads may look at all pages, beside those of the control plane's namespace.
    pub namespaces: Vec<String>,
    /// Who says which pages others may look at, where somebody does.
    pub access: Option<Arc<Access>>,
}

/// The pages below `/debug/`, each with what it shows.
const PAGES: &[(&str, &str)] = &[
    (
        "debug/adsz",
        "Connected proxies: who they are and what they subscribe to. ?push=true sends them everything again.",
    ),
    ("debug/config_dump", "What a proxy was served. ?proxyID=NAME, ?include_eds, ?types=cds,eds"),
    ("debug/configz", "The objects of Istio's own kinds, as they were given."),
    ("debug/connections", "Connected proxies, in short."),
    ("debug/edsz", "The endpoints that a proxy was served. ?proxyID=NAME"),
    ("debug/ecdsz", "The extension configurations that a proxy was served. ?proxyID=NAME"),
    ("debug/ndsz", "The names that a proxy's agent was served. ?proxyID=NAME"),
    ("debug/endpointz", "Endpoints by host, namespace and shard."),
    ("debug/endpointShardz", "The same."),
    ("debug/list", "The names of these pages."),
    ("debug/mesh", "The mesh's settings in force."),
    ("debug/problems", "What is wrong with the objects. ?namespace=NAME"),
    ("debug/registryz", "Every service."),
    ("debug/resourcesz", "The kinds of objects that are shown by configz."),
    ("debug/syncz", "What each proxy was sent and has taken. ?namespace=NAME"),
];

type Parameters = BTreeMap<String, String>;

/// The pages of port 15014: debug, metrics and version.
pub fn monitoring(debug: Debug) -> Router {
    let pages = Router::new().route("/metrics", get(scrape)).route("/version", get(|| async { version() }));
    pages.merge(pages_of(&debug)).with_state(debug)
}

/// The pages of port 8080: debug and readiness.
pub fn http(debug: Debug) -> Router {
    Router::new().route("/ready", get(ready)).merge(pages_of(&debug)).with_state(debug)
}

/// These pages, once they are there; until then all are 503 and say what is waited for.
pub fn once_open(pages: Arc<OnceLock<Router>>, pending: watch::Receiver<Vec<String>>) -> Router {
    Router::new().fallback(async move |request: extract::Request| match pages.get() {
        Some(pages) => pages.clone().oneshot(request).await.into_response(),
        None => waiting(&pending.borrow()),
    })
}

fn waiting(pending: &[String]) -> Response {
    page::refuse(StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {}\n", pending.join(", ")))
}

fn pages_of(_: &Debug) -> Router<Debug> {
    Router::new().route("/debug", get(|| async { page::index(PAGES) })).route("/debug/{page}", get(show))
}

/// `/version`.
fn version() -> String {
    format!("mainsheet {}\n", env!("CARGO_PKG_VERSION"))
}

/// `/ready`: 200 once everything is there, else 503 and what is waited for. A cluster that is lost later is told: what
/// it held is served on.
async fn ready(State(debug): State<Debug>) -> Response {
    let pending = debug.pending.borrow().clone();
    if !pending.is_empty() {
        return waiting(&pending);
    }
    match debug.cluster.as_ref().and_then(Health::lost) {
        None => StatusCode::OK.into_response(),
        Some((since, kinds, why)) => {
            let (since, kinds) = (since.as_secs(), kinds.join(", "));
            format!("serving what was known {since} s ago of {kinds}, which cannot be read: {why}\n").into_response()
        }
    }
}

async fn scrape(State(debug): State<Debug>) -> Response {
    let text = metrics::text(&debug);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn show(
    State(debug): State<Debug>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    uri: Uri,
    Query(parameters): Query<Parameters>,
) -> Response {
    let page = uri.path().trim_start_matches('/');
    match debug.admit(peer, &headers, page, &parameters).await {
        Ok(()) => debug.page(page, &parameters),
        Err((status, text)) => page::refuse(status, text),
    }
}

impl Debug {
    /// The page that a relative address names (`syncz`, `config_dump?proxyID=a.b`), for callers that come over xDS.
    fn fetch(&self, address: &str) -> Result<Content, String> {
        let uri: Uri = format!("/debug/{address}").parse().map_err(|e| format!("{address}: {e}"))?;
        let Query(parameters) = Query::try_from_uri(&uri).map_err(|e| format!("{address}: {e}"))?;
        self.content(uri.path().trim_start_matches('/'), &parameters).map_err(|(_, text)| text)
    }

    fn page(&self, path: &str, parameters: &Parameters) -> Response {
        if path == "debug/adsz" && parameters.contains_key("push") {
            self.registry.push_all();
            return format!("Pushed to {} servers\n", self.registry.len()).into_response();
        }
        match self.content(path, parameters) {
            Ok(content) => page::json(content, parameters.contains_key("pretty")),
            Err((status, text)) => page::refuse(status, text),
        }
    }

    fn content(&self, path: &str, parameters: &Parameters) -> Result<Content, (StatusCode, String)> {
        let snapshot = self.snapshots.borrow().clone();
        Ok(match path {
            "debug/configz" => Content::Objects(snapshot),
            "debug/registryz" => Content::Services(snapshot),
            "debug/endpointz" | "debug/endpointShardz" => Content::Endpoints(snapshot),
            _ => Content::Tree(self.tree(path, &snapshot, parameters)?),
        })
    }

    fn tree(&self, path: &str, snapshot: &Snapshot, parameters: &Parameters) -> Result<Value, (StatusCode, String)> {
        let namespace = parameters.get("namespace").map(String::as_str);
        Ok(match path {
            "debug/adsz" => stream::adsz(&self.registry.connections()),
            "debug/connections" => stream::connections(&self.registry.connections()),
            "debug/syncz" => stream::syncz(&self.registry.connections(), namespace),
            "debug/config_dump" => self.config_dump(parameters, None)?,
            "debug/edsz" => self.config_dump(parameters, Some(ResourceType::Endpoints))?,
            "debug/ecdsz" => self.config_dump(parameters, Some(ResourceType::Extension))?,
            "debug/ndsz" => self.config_dump(parameters, Some(ResourceType::Names))?,
            "debug/resourcesz" => registry::kinds(snapshot),
            "debug/mesh" => registry::mesh(snapshot),
            "debug/problems" => problems(snapshot, &self.registry.connections(), namespace),
            "debug/list" => {
                PAGES.iter().map(|(p, _)| p.trim_start_matches("debug/")).filter(|p| *p != "list").collect()
            }
            _ => return Err((StatusCode::NOT_FOUND, "no such page; /debug lists them\n".into())),
        })
    }

    fn config_dump(&self, parameters: &Parameters, only: Option<ResourceType>) -> Result<Value, (StatusCode, String)> {
        let Some(id) = parameters.get("proxyID").filter(|id| !id.is_empty()) else {
            return Err((StatusCode::BAD_REQUEST, "You must provide a proxyID in the query string\n".into()));
        };
        let connections = self.registry.connections();
        let found = connections.iter().find(|c| c.id.contains(id.as_str()));
        let connection = found.ok_or_else(|| unknown_proxy(id))?;
        let held = |kind| connection.held(kind);
        let kinds = match (only, parameters.get("types")) {
            (Some(kind), _) => vec![kind],
            (None, None) => return Ok(dump::config_dump(&held, parameters.contains_key("include_eds"))),
            (None, Some(types)) => types.split(',').map(kind_named).collect::<Result<_, _>>()?,
        };
        Ok(dump::config_dump_of(&held, &kinds))
    }
}

fn unknown_proxy(id: &str) -> (StatusCode, String) {
    let text = format!("Proxy {id} is not connected to this mainsheet instance; another one may serve it.\n");
    (StatusCode::NOT_FOUND, text)
}

/// The type of a short name or a type URL.
fn kind_named(name: &str) -> Result<ResourceType, (StatusCode, String)> {
    let known = ResourceType::ALL.into_iter().find(|k| k.short() == name || k.type_url() == name);
    known.ok_or_else(|| {
        (StatusCode::BAD_REQUEST, format!("{name} is not a type; write cds, eds, lds, rds, sds or ecds\n"))
    })
}

/// `/debug/problems`: of the objects, of what they became for the proxies connected, and what those refused.
fn problems(snapshot: &Snapshot, connections: &[Arc<Connection>], namespace: Option<&str>) -> Value {
    let of_objects = snapshot.problems.values().flat_map(|p| p.iter().cloned()).chain(snapshot.idle_policies());
    let configs: Vec<_> = connections.iter().map(|c| c.config()).collect();
    let of_proxies = configs.iter().flat_map(|c| c.problems().cloned());
    let mut all: Vec<_> = of_objects.chain(of_proxies).collect();
    all.retain(|p| namespace.is_none_or(|n| *p.object.namespace == *n));
    all.sort();
    all.dedup();
    let refused: Value = connections.iter().flat_map(stream::rejections).collect();
    json!({"problems": all.iter().map(Problem::to_json).collect::<Value>(), "rejected": refused})
}
