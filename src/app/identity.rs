//! Wires who callers are and what they get signed: the authority, its service beside xDS over TLS, and the secrets of
//! proxies without an agent.

use super::{
    origin::Origin,
    token::{self, Judge},
};
use crate::{
    ca::{
        self, Cluster, Directory, Keeper, Limits, Rules, Service, Signer, Storage, WorkloadSecrets, Workloads,
        serving::{self, Clients},
    },
    config::{Authority, KeysAt, Place},
    debug,
    model::KeyLocator,
    peer::{Access, Authenticator, Caller, Evidence, Issuer, Keys, Refusal},
    source::keys,
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
    fs,
    path::{Path, PathBuf},
    sync::{Arc, RwLock},
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
    issuers: Vec<(KeysAt, Arc<Issuer>)>,
    /// Of the cluster, where its tokens are checked without it.
    keys: Option<(Client, Arc<Issuer>)>,
    workloads: Workloads,
    debug_namespaces: Vec<String>,
    /// Who says what callers may look at, where somebody does.
    access: Option<Arc<Access>>,
    names: Vec<String>,
}

/// What has to run for it to go on.
pub(super) type Background = Vec<(&'static str, std::pin::Pin<Box<dyn Future<Output = ()> + Send>>)>;

/// An authority that was opened, and who judges the tokens of the cluster, where there is one.
pub(super) struct Opened {
    keeper: Keeper,
    judge: Option<Judge>,
    access: Option<Arc<Access>>,
}

/// Opens the authority of the options, or makes it for the mesh's trust domain; none where there is neither a directory
/// nor a cluster to keep it in. Says what it waits for.
pub(super) async fn open(
    options: &Authority,
    place: &Place,
    origin: &Origin,
    waits: &(dyn Fn(String) + Sync),
) -> Result<Option<Opened>> {
    let (storage, name): (Arc<dyn Storage>, String) = match (&options.ca_dir, origin.client()) {
        (Some(dir), _) => (Arc::new(Directory::new(dir)), format!("--ca-dir {}", dir.display())),
        (None, Some(client)) if options.ca_server => {
            (Arc::new(Cluster::new(client, &place.namespace)), format!("the Secrets of {}", place.namespace))
        }
        _ => return Ok(None),
    };
    let key = options.ca_key.parse().map_err(|e| anyhow!("--ca-key: {e}"))?;
    let root_ttl = options.ca_root_ttl.as_secs();
    let mesh = origin.mesh(waits).await?;
    let made = || Ok(ca::Options { trust_domain: mesh.trust_domain.to_string(), key, root_ttl });
    let keeper = loop {
        match Keeper::open(storage.clone(), made) {
            // An API server that does not answer may do so yet.
            Err(ca::Error::Storage(error)) if options.ca_dir.is_none() => {
                let what = format!("the certificate authority cannot be read from {name}");
                tracing::warn!(%error, "{what}");
                waits(format!("the API server ({what}: {error})"));
                time::sleep(INTERVAL).await;
            }
            opened => break opened.context(name)?,
        }
    };
    let judge = match origin.client() {
        Some(client) => Some(Judge::of(client, options.verify_tokens_offline, &options.audiences(), waits).await),
        None => None,
    };
    let access = origin.client().filter(|_| options.debug_access_review).map(|client| Arc::new(Access::new(client)));
    Ok(Some(Opened { keeper, judge, access }))
}

impl Identity {
    /// Wires what is signed by the authority that was opened, and who may ask for it.
    pub(super) fn new(
        options: &Authority,
        place: &Place,
        reader: &Reader,
        Opened { keeper, judge, access }: Opened,
    ) -> Result<Self> {
        let limits = Limits {
            default_ttl: options.workload_cert_ttl.as_secs().max(1),
            max_ttl: options.max_workload_cert_ttl.as_secs(),
            workers: 0,
            queue: options.ca_queue,
        };
        let signer = Arc::new(Signer::new(keeper.authority(), limits));
        let mut issuers = Vec::new();
        for given in options.issuers() {
            let keys = match &given.keys {
                KeysAt::Here(text) => Keys::parse(text),
                KeysAt::File(file) => read(file).map_err(|why| format!("{}: {why}", file.display())),
                // Until they are fetched no token of the issuer is taken.
                KeysAt::Url(_) | KeysAt::Discovery => Ok(Keys::default()),
            };
            let keys = keys.map_err(|why| anyhow!("the keys of the issuer {}: {why}", given.name))?;
            let audiences = Some(given.audiences).filter(|a| !a.is_empty()).unwrap_or_else(|| options.audiences());
            let issuer = Issuer { name: given.name, audiences, keys: RwLock::new(keys) };
            issuers.push((given.keys, Arc::new(issuer)));
        }
        let own = Arc::new(keeper.mint().issuer(&options.audiences()));
        let (reviewer, keys) = match judge {
            Some(Judge::Cluster(reviewer)) => (Some(reviewer), None),
            Some(Judge::Keys(client, issuer)) => (None, Some((client, issuer))),
            None => (None, None),
        };
        let of_cluster = keys.as_ref().map(|(_, issuer)| issuer.clone());
        let all =
            std::iter::once(own).chain(issuers.iter().map(|(_, issuer)| issuer.clone())).chain(of_cluster).collect();
        let rules =
            Rules { node_accounts: options.trusted_node_account.clone(), subjects: options.certificate_subjects };
        let workloads = Workloads::new(reader.snapshots.clone(), rules);
        let debug_namespaces = options.debug_namespace.clone();
        let snapshots = reader.snapshots.clone();
        let domains = move || snapshots.borrow().mesh.trust_domains().cloned().collect();
        let authenticator = Arc::new(Authenticator::new(Box::new(domains), all).with_reviewer(reviewer));
        let names = serving::dns_names(&place.namespace, &place.revision, &options.custom_host);
        Ok(Self { keeper, signer, authenticator, issuers, keys, workloads, debug_namespaces, access, names })
    }

    /// The roots that workloads are to trust, as they are now and become.
    pub(super) fn roots(&self) -> watch::Receiver<String> {
        let mut authorities = self.keeper.authority();
        let (sender, receiver) = watch::channel(authorities.borrow_and_update().roots().to_owned());
        tokio::spawn(async move {
            while authorities.changed().await.is_ok() {
                let roots = authorities.borrow_and_update().roots().to_owned();
                sender.send_if_modified(|held| {
                    *held != roots && {
                        *held = roots;
                        true
                    }
                });
            }
        });
        receiver
    }

    /// TLS for the API server, which calls webhooks, and what keeps its certificate.
    pub(super) fn webhook_tls(&self) -> Result<(watch::Receiver<Arc<ServerConfig>>, impl Future<Output = ()> + use<>)> {
        Ok(serving::keep(self.keeper.authority(), self.names.clone(), Clients::ApiServer)?)
    }

    /// The secrets of proxies without an agent.
    pub(super) fn secrets(&self) -> Arc<dyn Secrets> {
        Arc::new(Served(WorkloadSecrets::new(self.signer.clone(), self.workloads.clone())))
    }

    /// What debug pages show of it.
    pub(super) fn shown(&self) -> debug::Identity {
        debug::Identity {
            signer: self.signer.clone(),
            authenticator: self.authenticator.clone(),
            namespaces: self.debug_namespaces.clone(),
            access: self.access.clone(),
        }
    }

    /// What serves over TLS, and what runs beside it. Keys of tokens are fetched as `fetching` says.
    pub(super) fn start(self, fetching: &keys::Options) -> Result<(Secure, Background)> {
        let (config, renewing) = serving::keep(self.keeper.authority(), self.names, Clients::Mesh)?;
        let mut background: Background = vec![
            ("the certificate authority", Box::pin(self.keeper.run())),
            ("the control plane's certificate", Box::pin(renewing)),
        ];
        let mut files = Vec::new();
        for (keys, issuer) in self.issuers {
            let locator = match keys {
                KeysAt::Here(_) => continue,
                KeysAt::File(file) => {
                    files.push((file, issuer));
                    continue;
                }
                KeysAt::Url(url) => KeyLocator::Keys(url.into()),
                KeysAt::Discovery => {
                    let at = issuer.name.trim_end_matches('/');
                    KeyLocator::Discovery(format!("{at}/.well-known/openid-configuration").into())
                }
            };
            let take = move |text: &str| Keys::parse(text).map(|keys| issuer.replace(keys));
            background.push(("fetching the keys of tokens", Box::pin(keys::follow(fetching.clone(), locator, take))));
        }
        if !files.is_empty() {
            background.push(("the keys of tokens", Box::pin(follow(files))));
        }
        if let Some((client, issuer)) = self.keys {
            background.push(("the keys of the cluster's tokens", Box::pin(token::follow(client, issuer))));
        }
        let Self { signer, authenticator, workloads, .. } = self;
        Ok((Secure { config, signer, authenticator, workloads }, background))
    }
}

/// What serves over TLS.
pub(super) struct Secure {
    config: watch::Receiver<Arc<ServerConfig>>,
    signer: Arc<Signer>,
    authenticator: Arc<Authenticator>,
    workloads: Workloads,
}

impl Secure {
    /// Serves xDS and certificates to whoever proves an identity, until `down` is done.
    pub(super) async fn serve(
        self,
        server: Server,
        listener: TcpListener,
        down: impl Future<Output = ()>,
    ) -> Result<()> {
        let routes = server.routes().add_service(Service::new(self.signer, self.workloads)).into_axum_router();
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
        let mut svids = self.0.follow(caller.clone());
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

fn read(file: &Path) -> Result<Keys, String> {
    Keys::parse(&fs::read_to_string(file).map_err(|e| e.to_string())?)
}

/// Reads the files of keys again and again. One that is broken leaves the keys as they were.
async fn follow(issuers: Vec<(PathBuf, Arc<Issuer>)>) {
    let mut said = String::new();
    loop {
        time::sleep(INTERVAL).await;
        for (file, issuer) in &issuers {
            let of = file.clone();
            match tokio::task::spawn_blocking(move || read(&of)).await {
                Ok(Ok(keys)) => issuer.replace(keys),
                Ok(Err(why)) if why != said => {
                    tracing::error!(issuer = issuer.name, error = %why, "the keys of an issuer stay as they were");
                    said = why;
                }
                _ => {}
            }
        }
    }
}
