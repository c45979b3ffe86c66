//! Wires who callers are and what they get signed: the authority, its service beside xDS over TLS, and the secrets of
//! proxies without an agent.

use super::token::{self, Judge};
use crate::{
    ca::{self, Directory, Keeper, Limits, Service, Signer, WorkloadSecrets, serving},
    config::{Authority, Place, TokenIssuer},
    debug,
    id::Shared,
    model::Mesh,
    peer::{Authenticator, Caller, Evidence, Issuer, Keys, Refusal},
    store::Reader,
    translate::Resource,
    xds::{Secrets, Server},
};
use anyhow::{Context as _, Result, anyhow};
use axum::{
    extract::{self, State},
    middleware::{self, Next},
    response::Response,
};
use kube::Client;
use rustls::ServerConfig;
use std::{
    fs, io,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};
use tokio::{net::TcpListener, sync::watch, time};
use tonic::{Request, Status};

/// How often the files of keys are looked at.
const INTERVAL: Duration = Duration::from_secs(2);

/// Everything about identity that runs.
pub(super) struct Identity {
    keeper: Keeper,
    signer: Arc<Signer>,
    authenticator: Arc<Authenticator>,
    issuers: Vec<(TokenIssuer, Arc<Issuer>)>,
    /// Of the cluster, where its tokens are checked without it.
    keys: Option<(Client, Arc<Issuer>)>,
    names: Vec<String>,
}

/// What has to run for it to go on.
pub(super) type Background = Vec<(&'static str, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>)>;

impl Identity {
    /// Opens the authority of the options, or makes it for the trust domain that `mesh` finds; none where they name no
    /// directory.
    pub(super) fn open(
        options: &Authority,
        place: &Place,
        reader: &Reader,
        judge: Option<Judge>,
        mesh: impl FnOnce() -> io::Result<Shared<Mesh>>,
    ) -> Result<Option<Self>> {
        let Some(dir) = &options.ca_dir else { return Ok(None) };
        let key = options.ca_key.parse().map_err(|e| anyhow!("--ca-key: {e}"))?;
        let root_ttl = options.ca_root_ttl.as_secs();
        let made = || mesh().map(|m| ca::Options { trust_domain: m.trust_domain.to_string(), key, root_ttl });
        let opened = Keeper::open(Arc::new(Directory::new(dir)), made);
        let keeper = opened.with_context(|| format!("--ca-dir {}", dir.display()))?;
        let limits = Limits {
            default_ttl: options.workload_cert_ttl.as_secs().max(1),
            max_ttl: options.max_workload_cert_ttl.as_secs(),
            workers: 0,
            queue: options.ca_queue,
        };
        let signer = Arc::new(Signer::new(keeper.authority(), limits));
        let mut issuers = Vec::new();
        for given in &options.token_issuer {
            let keys = keys(given).map_err(|why| anyhow!("--token-issuer {}: {why}", given.keys.display()))?;
            let (name, audiences) = (given.name.clone(), options.token_audiences.clone());
            issuers.push((given.clone(), Arc::new(Issuer { name, audiences, keys: RwLock::new(keys) })));
        }
        let own = Arc::new(keeper.mint().issuer(&options.token_audiences));
        let (reviewer, keys) = match judge {
            Some(Judge::Cluster(reviewer)) => (Some(reviewer), None),
            Some(Judge::Keys(client, issuer)) => (None, Some((client, issuer))),
            None => (None, None),
        };
        let of_cluster = keys.as_ref().map(|(_, issuer)| issuer.clone());
        let all =
            std::iter::once(own).chain(issuers.iter().map(|(_, issuer)| issuer.clone())).chain(of_cluster).collect();
        let snapshots = reader.snapshots.clone();
        let domains = move || snapshots.borrow().mesh.trust_domains().cloned().collect();
        let authenticator = Arc::new(Authenticator::new(Box::new(domains), all).with_reviewer(reviewer));
        let names = serving::dns_names(&place.namespace, &place.revision, &options.custom_host);
        Ok(Some(Self { keeper, signer, authenticator, issuers, keys, names }))
    }

    /// The secrets of proxies without an agent.
    pub(super) fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(Served(WorkloadSecrets::new(self.signer.clone())))
    }

    /// What debug pages show of it.
    pub(super) fn shown(&self) -> debug::Identity {
        debug::Identity { signer: self.signer.clone(), authenticator: self.authenticator.clone() }
    }

    /// What serves over TLS, and what runs beside it.
    pub(super) fn start(self) -> Result<(Secure, Background)> {
        let (config, renewing) = serving::keep(self.keeper.authority(), self.names)?;
        let mut background: Background = vec![
            ("the certificate authority", Box::pin(self.keeper.run())),
            ("the control plane's certificate", Box::pin(renewing)),
        ];
        if !self.issuers.is_empty() {
            background.push(("the keys of tokens", Box::pin(follow(self.issuers))));
        }
        if let Some((client, issuer)) = self.keys {
            background.push(("the keys of the cluster's tokens", Box::pin(token::follow(client, issuer))));
        }
        Ok((Secure { config, signer: self.signer, authenticator: self.authenticator }, background))
    }
}

/// What serves over TLS.
pub(super) struct Secure {
    config: watch::Receiver<Arc<ServerConfig>>,
    signer: Arc<Signer>,
    authenticator: Arc<Authenticator>,
}

impl Secure {
    /// Serves xDS and certificates to whoever proves an identity, until `down` is done.
    pub(super) async fn serve(
        self,
        server: Server,
        listener: TcpListener,
        down: impl Future<Output = ()>,
    ) -> Result<()> {
        let routes = server.routes().add_service(Service::new(self.signer)).into_axum_router();
        let routes = routes.layer(middleware::from_fn_with_state(self.authenticator, authenticate));
        let router = server.builder().add_routes(routes.into());
        let incoming = serving::accept(listener, self.config);
        router.serve_with_incoming_shutdown(incoming, down).await.map_err(Into::into)
    }
}

/// Lets requests through whose caller proves an identity, with that.
async fn authenticate(
    State(authenticator): State<Arc<Authenticator>>,
    mut request: extract::Request,
    next: Next,
) -> Response {
    let mut connection = Request::new(());
    connection.extensions_mut().clone_from(request.extensions());
    let certificates = connection.peer_certs();
    let token = request.headers().get("authorization").and_then(|v| v.to_str().ok());
    let evidence = Evidence {
        certificate: certificates.as_ref().and_then(|all| all.first()).map(|der| &**der),
        token: token.and_then(|t| t.strip_prefix("Bearer ")),
    };
    match authenticator.authenticate_by_all(evidence, ca::now()).await {
        Ok(caller) => {
            request.extensions_mut().insert::<Caller>(caller);
            next.run(request).await
        }
        // It may have the right to be served: it comes again.
        Err(Refusal::Unavailable) => Status::unavailable("the cluster does not answer").into_http(),
        Err(_) => Status::unauthenticated("request authenticate failure").into_http(),
    }
}

/// Secrets as Envoy takes them.
#[derive(Debug)]
struct Served(WorkloadSecrets);

impl Secrets for Served {
    fn follow(&self, caller: &Caller) -> watch::Receiver<Arc<[Resource]>> {
        let mut svids = self.0.follow(caller.identity.clone());
        let (sender, receiver) = watch::channel(Arc::default());
        tokio::spawn(async move {
            loop {
                if let Some(svid) = &*svids.borrow_and_update() {
                    sender.send_replace(svid.resources().into());
                }
                tokio::select! {
                    () = sender.closed() => return,
                    changed = svids.changed() => if changed.is_err() { return },
                }
            }
        });
        receiver
    }
}

fn keys(given: &TokenIssuer) -> Result<Keys, String> {
    Keys::parse(&fs::read_to_string(&given.keys).map_err(|e| e.to_string())?)
}

/// Reads the files of keys again and again. One that is broken leaves the keys as they were.
async fn follow(issuers: Vec<(TokenIssuer, Arc<Issuer>)>) {
    let mut said = String::new();
    loop {
        time::sleep(INTERVAL).await;
        for (given, issuer) in &issuers {
            let of = given.clone();
            match tokio::task::spawn_blocking(move || keys(&of)).await {
                Ok(Ok(keys)) => *issuer.keys.write().unwrap_or_else(PoisonError::into_inner) = keys,
                Ok(Err(why)) if why != said => {
                    tracing::error!(issuer = given.name, error = %why, "the keys of an issuer stay as they were");
                    said = why;
                }
                _ => {}
            }
        }
    }
}
