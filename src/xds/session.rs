//! The task of one stream: it moves messages between the wire and the protocol, and follows the snapshots.
//!
//! A slow client holds up only itself: what waits to be sent is at most one response of each type, and while it
//! waits newer snapshots take each other's place.

use super::{
    Lease, Stay,
    cache::Seat,
    encoded::{Encoding, Message, message},
    registry::{Client, Place},
    requests::Requests,
    server::Shared,
    stream::{Request, Response, Stream, Variant},
    wire::{Answer, Wire, node_to_json},
};
use crate::{
    id::ResourceType,
    model::IdentitySource,
    parse,
    pb::envoy::config::core::v3::{Node as NodePb, node::UserAgentVersionType},
    peer::Caller,
    snapshot::Snapshot,
    translate::{Config, Resource},
};
use bytes::Bytes;
use std::{
    collections::VecDeque,
    future::pending,
    hash::{BuildHasher as _, RandomState},
    marker::PhantomData,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{Instant, sleep_until},
};
use tonic::Status;

/// How long listeners and routes wait for a client to take the clusters that they may name.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long a new stream may keep others waiting that are new, too.
const ARRIVAL: Duration = Duration::from_secs(5);

/// How much may wait to be sent before the client's requests wait too.
pub(super) const MAX_OUTBOX: usize = 2 * ResourceType::ALL.len();

/// What agents report of their workloads' health; no subscription.
const HEALTH: &str = "type.googleapis.com/istio.v1.HealthInformation";

/// What the debug types start with.
const DEBUG: &str = "istio.io/debug";

/// One stream.
pub(super) struct Session<W: Wire> {
    shared: Arc<Shared>,
    /// The type that the service is for; `None` where it serves all.
    only: Option<ResourceType>,
    peer: Option<SocketAddr>,
    /// Who the client has proved to be.
    caller: Option<Caller>,
    /// How it takes what it is sent.
    encoding: Encoding,
    /// Its secrets, where it gets them here.
    secrets: Option<watch::Receiver<Arc<[Resource]>>>,
    /// When the client has to come back, and prove it again.
    ends: Instant,
    node: Option<NodePb>,
    /// Where the client is known to be there, and how it said that it is before it was.
    stay: Option<Box<dyn Stay>>,
    health: Option<Result<(), String>>,
    open: Option<Open>,
    /// It is new: until its client has what it came for, or for so long. Only so many streams are that at once.
    arriving: Option<Arrival>,
    outbox: VecDeque<Outgoing>,
    wire: PhantomData<fn() -> W>,
    /// Until when something waits for the client.
    deadline: Option<Instant>,
}

/// The turn of a new stream, and until when it has it.
type Arrival = (OwnedSemaphorePermit, Instant);

/// A node that subscribed to something.
struct Open {
    place: Place,
    seat: Arc<Seat>,
    /// Absent only while it is worked on.
    lease: Option<Lease>,
}

enum Outgoing {
    Resources(Response),
    Message(Message),
}

impl<W: Wire> Session<W> {
    pub(super) fn new(
        shared: Arc<Shared>,
        only: Option<ResourceType>,
        peer: Option<SocketAddr>,
        caller: Option<Caller>,
        encoding: Encoding,
    ) -> Self {
        let ends = Instant::now() + age(shared.max_age, caller.as_ref());
        Self {
            shared,
            only,
            peer,
            caller,
            encoding,
            secrets: None,
            ends,
            node: None,
            stay: None,
            health: None,
            open: None,
            arriving: None,
            outbox: VecDeque::new(),
            wire: PhantomData,
            deadline: None,
        }
    }

    /// Serves the stream until the client leaves, fails, or the server is shut down.
    pub(super) async fn run(
        mut self,
        requests: Requests<W::Request>,
        responses: mpsc::Sender<Result<Message, Status>>,
    ) {
        if let Err(status) = self.serve(requests, &responses).await {
            tracing::debug!(peer = ?self.peer, node = self.node.as_ref().map_or("", |n| &n.id), %status, "a stream ends");
            // Nobody is left to be told where the client has gone.
            let _ = responses.send(Err(status)).await;
        }
    }

    async fn serve(
        &mut self,
        mut requests: Requests<W::Request>,
        responses: &mpsc::Sender<Result<Message, Status>>,
    ) -> Result<(), Status> {
        let mut shutdown = self.shared.shutdown.clone();
        loop {
            let deadline = self.deadline;
            let overdue = async {
                match deadline {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let arrived = self.arriving.as_ref().map(|(_, until)| *until);
            let settled = async {
                match arrived {
                    Some(at) => sleep_until(at).await,
                    None => pending().await,
                }
            };
            let comes = self.only.is_none() && self.node.is_none() && self.arriving.is_none();
            let request = async {
                if comes {
                    self.arriving = Some(turn(&mut requests, &self.shared.arrivals).await?);
                }
                requests.message().await
            };
            let ends = self.ends;
            let secrets = &mut self.secrets;
            let renewed = async {
                // Without those who make them they stay as they are.
                let changed = match secrets {
                    Some(secrets) => secrets.changed().await.is_ok(),
                    None => false,
                };
                if !changed {
                    pending().await
                }
            };
            let seat = self.open.as_ref().map(|o| o.seat.clone());
            let woken = async {
                match &seat {
                    Some(seat) => seat.woken().await,
                    None => pending().await,
                }
            };
            let connection = self.open.as_ref().map(|o| o.place.connection.clone());
            let forced = async {
                match &connection {
                    Some(connection) => connection.forced().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                () = down(&mut shutdown) => return Ok(()),
                () = responses.closed() => return Ok(()),
                request = request, if self.outbox.len() < MAX_OUTBOX => match request? {
                    Some(request) => self.on_request(request).await?,
                    None => return Ok(()),
                },
                permit = responses.reserve(), if !self.outbox.is_empty() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(outgoing) = self.outbox.pop_front() {
                        permit.send(Ok(self.encode(outgoing)?));
                    }
                }
                () = woken => self.on_snapshot().await?,
                () = overdue, if self.outbox.is_empty() => self.say(|stream| stream.on_overdue()),
                () = settled => self.arriving = None,
                () = sleep_until(ends) => return Ok(()),
                () = renewed => self.on_secrets(),
                () = forced => self.say(|stream| stream.push_all()),
            }
        }
    }

    async fn on_request(&mut self, request: W::Request) -> Result<(), Status> {
        let (node, mut request) = W::request(request);
        if request.type_url == HEALTH {
            self.health = Some(request.error.map_or(Ok(()), Err));
            self.node = self.node.take().or(node);
            self.say_health();
            return Ok(());
        }
        if self.node.is_none() {
            let node = node.filter(|n| !n.id.is_empty());
            self.node = Some(node.ok_or_else(|| Status::invalid_argument("missing node information"))?);
        }
        if request.type_url.starts_with(DEBUG) && self.only.is_none() {
            self.may_debug()?;
            return self.on_debug(&request).await;
        }
        match self.only {
            None if request.type_url.is_empty() => {
                return Err(Status::invalid_argument("type_url is required on an aggregated stream"));
            }
            Some(kind) if request.type_url.is_empty() => kind.type_url().clone_into(&mut request.type_url),
            Some(kind) if request.type_url != kind.type_url() => {
                return Err(Status::invalid_argument(format!("this service is for {} alone", kind.type_url())));
            }
            _ => {}
        }
        if self.open.is_none() {
            self.open().await?;
        }
        self.say(|stream| stream.on_request(request));
        if self.arriving.is_some() && self.outbox.is_empty() {
            let served = self.open.as_ref().is_some_and(|o| o.place.connection.is_served());
            self.arriving = self.arriving.take().filter(|_| !served);
        }
        Ok(())
    }

    /// Hands on how the client is, once it is known to be there.
    fn say_health(&mut self) {
        if let Some(stay) = &self.stay
            && let Some(health) = self.health.take()
        {
            stay.says(health);
        }
    }

    /// Answers a request of a debug type, once: it is no subscription.
    async fn on_debug(&mut self, request: &Request) -> Result<(), Status> {
        // This is all that it came for.
        self.arriving = None;
        if !request.nonce.is_empty() {
            return Ok(());
        }
        let hook = self.shared.debug.clone().ok_or_else(|| Status::unimplemented("debug over xDS is not served"))?;
        let (type_url, names) = (request.type_url.clone(), request.subscribed().to_vec());
        let answer = tokio::task::spawn_blocking(move || hook(&type_url, &names)).await;
        let answer: Answer = answer.map_err(|e| Status::internal(e.to_string()))?.map_err(Status::invalid_argument)?;
        self.outbox.push_back(Outgoing::Message(message(&W::message(answer))?));
        Ok(())
    }

    async fn open(&mut self) -> Result<(), Status> {
        let pb = self.node.as_ref().ok_or_else(|| Status::invalid_argument("missing node information"))?;
        let json = node_to_json(pb);
        let mut node = parse::node(&json).map_err(Status::invalid_argument)?;
        if let Some(caller) = self.caller.as_ref().filter(|c| !c.may_be(&node)) {
            tracing::warn!(caller = %caller.identity, node = %node.id, "a caller is not the node that it says it is");
            return Err(Status::unauthenticated("request authenticate failure"));
        }
        node.proven = self.caller.is_some();
        let apart = !self.shared.snapshots.borrow().mesh.features.whole_routes;
        node.virtual_hosts = apart && W::VARIANT == Variant::Delta && self.only.is_none() && is_envoy(pb);
        let metadata = json.get("metadata").cloned().unwrap_or_default();
        if let Some(attendance) = self.shared.attendance.clone() {
            self.stay = attendance.arrive(&node, &metadata, self.caller.as_ref()).await?;
            self.say_health();
        }
        let node = Arc::new(node);
        let asks = node.identity == IdentitySource::ControlPlane;
        if let (Some(caller), Some(secrets), true) = (&self.caller, &self.shared.secrets, asks) {
            self.secrets = Some(secrets.follow(caller));
        }
        let lease = Lease::new(node.clone());
        let seat = lease.seat();
        self.shared.engine.seat(&lease);
        let (lease, _) = self.advance(lease).await?;
        let client = Client { node, metadata, peer: self.peer, variant: W::VARIANT };
        let metrics = self.shared.metrics.clone();
        let config = self.config(&lease);
        let place = self.shared.registry.enter(client, config, metrics);
        tracing::info!(connection = place.connection.id, peer = ?self.peer, "a proxy connects");
        self.open = Some(Open { place, seat, lease: Some(lease) });
        Ok(())
    }

    async fn on_snapshot(&mut self) -> Result<(), Status> {
        let Some(lease) = self.open.as_mut().and_then(|o| o.lease.take()) else { return Ok(()) };
        let (lease, changed) = self.advance(lease).await?;
        let config = self.config(&lease);
        if let Some(open) = &mut self.open {
            open.lease = Some(lease);
        }
        if changed {
            self.say(|stream| stream.on_config(config));
        }
        Ok(())
    }

    /// Secrets are new: what the node is served is the rest and these.
    fn on_secrets(&mut self) {
        let lease = self.open.as_mut().and_then(|o| o.lease.take());
        let Some(lease) = lease else { return };
        let config = self.config(&lease);
        if let Some(open) = &mut self.open {
            open.lease = Some(lease);
        }
        self.say(|stream| stream.on_config(config));
    }

    /// What the node is served: its lease, and its secrets where it gets them here.
    fn config(&mut self, lease: &Lease) -> Arc<Config> {
        let Some(secrets) = &mut self.secrets else { return lease.config().clone() };
        let secrets = secrets.borrow_and_update().clone();
        Arc::new(lease.config().beside(secrets.iter().cloned().map(Arc::new).collect()))
    }

    /// Whether the client may look at debug types: in plaintext, which is for the control plane's own neighbours, or as
    /// somebody of the control plane's namespace.
    fn may_debug(&self) -> Result<(), Status> {
        let Some(caller) = &self.caller else { return Ok(()) };
        match caller.identity.namespace == self.shared.snapshots.borrow().mesh.root_namespace {
            true => Ok(()),
            false => Err(Status::permission_denied("debug types are for the control plane's namespace alone")),
        }
    }

    /// Brings a lease to the newest snapshot that there is when its turn comes. Where there is a newer one by the time
    /// that it is there, it is woken again: who follows the snapshots may have passed it by.
    async fn advance(&mut self, lease: Lease) -> Result<(Lease, bool), Status> {
        let seat = lease.seat();
        let (lease, changed, to) = self.advance_once(lease).await?;
        if !Arc::ptr_eq(&to, &self.shared.snapshots.borrow()) {
            seat.wake();
        }
        Ok((lease, changed))
    }

    async fn advance_once(&mut self, mut lease: Lease) -> Result<(Lease, bool, Arc<Snapshot>), Status> {
        let engine = self.shared.engine.clone();
        let newest = || self.shared.snapshots.borrow().clone();
        let to = newest();
        if engine.is_done(&lease, &to) {
            let changed = engine.advance(&mut lease, &to);
            return Ok((lease, changed, to));
        }
        let ended = || Status::unavailable("the server ends");
        let _turn = self.shared.turns.acquire().await.map_err(|_| ended())?;
        let to = newest();
        let work = tokio::task::spawn_blocking(move || {
            let changed = engine.advance(&mut lease, &to);
            (lease, changed, to)
        });
        work.await.map_err(|e| Status::internal(format!("translating for this proxy failed: {e}")))
    }

    fn say(&mut self, speak: impl FnOnce(&mut Stream) -> Vec<Response>) {
        let Some(open) = &self.open else { return };
        let (responses, waits) = open.place.connection.say(speak);
        for response in &responses {
            tracing::debug!(
                connection = open.place.connection.id,
                type_url = %response.type_url,
                resources = response.resources.len(),
                removed = response.removed.len(),
                "push"
            );
        }
        self.deadline = match (waits, self.deadline) {
            (true, Some(at)) if at > Instant::now() => Some(at),
            (true, _) => Some(Instant::now() + PATIENCE),
            (false, _) => None,
        };
        self.outbox.extend(responses.into_iter().map(Outgoing::Resources));
    }

    fn encode(&self, outgoing: Outgoing) -> Result<Message, Status> {
        match outgoing {
            Outgoing::Message(message) => Ok(message),
            Outgoing::Resources(response) => {
                self.shared.metrics.responses.add(1);
                self.shared.metrics.bytes.add(response.resources.iter().map(|r| r.body.len()).sum());
                let message = self.shared.encoder.response(W::VARIANT, self.encoding, response)?;
                self.shared.metrics.message_bytes.add(message.iter().map(Bytes::len).sum());
                Ok(message)
            }
        }
    }
}

/// Waits until it is the turn of a new stream. When all come at once, each takes what it came for in its turn. The rest
/// wait with nothing under way, and what they ask for, which for those that come back is long, is not read.
async fn turn<R: prost::Message + Default>(
    requests: &mut Requests<R>,
    arrivals: &Arc<Semaphore>,
) -> Result<Arrival, Status> {
    requests.begun().await?;
    let permit = arrivals.clone().acquire_owned().await.map_err(|_| Status::unavailable("the server ends"))?;
    Ok((permit, Instant::now() + ARRIVAL))
}

/// Whether a client is an Envoy, which alone is known to take virtual hosts by themselves: it says which it is and was
/// built from, as those that only speak its protocol do not.
fn is_envoy(node: &NodePb) -> bool {
    let built = matches!(node.user_agent_version_type, Some(UserAgentVersionType::UserAgentBuildVersion(_)));
    node.user_agent_name == "envoy" && built
}

/// How long the stream of a client lasts: as long as its proof, and at most `most`; up to a tenth less, so that not all
/// come back at once.
fn age(most: Duration, caller: Option<&Caller>) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let left = caller.and_then(|c| c.expires).map_or(most, |at| Duration::from_secs(at.saturating_sub(now)));
    let part = RandomState::new().hash_one(0u8) % 1000;
    left.min(most).mul_f64(1.0 - part as f64 / 10_000.0)
}

/// Waits for the shutdown. One that can no longer be told is one.
pub(super) async fn down(shutdown: &mut watch::Receiver<bool>) {
    let _ = shutdown.wait_for(|down| *down).await;
}
