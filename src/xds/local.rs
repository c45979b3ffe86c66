//! Secrets for the one Envoy of a pod: the same few to whoever asks, on the protocol that proxies of the mesh are served
//! on. What is asked for by name and not there is told to whoever may have it.

use super::{
    Metrics,
    encoded::{Encoder, Encoding, Message},
    grpc::{Messages, SDS, Serve, Service},
    requests::Requests,
    session::MAX_OUTBOX,
    stream::{Response as Answer, Stream},
    wire::Wire,
};
use crate::{
    id::ResourceType,
    model::Mesh,
    parse,
    snapshot::{Snapshot, ViewKey},
    translate::{Config, Part, Resource},
};
use serde_json::json;
use std::{collections::VecDeque, fmt, sync::Arc};
use tokio::sync::{mpsc, watch};
use tonic::{Request, Status, service::Routes};

/// The largest request, in bytes: an Envoy asks for a few secrets, and says of itself what it is built from.
const MAX_REQUEST: usize = 4 << 20;

/// Is told by which names secrets are asked for.
pub type Asked = Arc<dyn Fn(&[String]) + Send + Sync>;

/// The service of a few secrets.
#[derive(Clone)]
pub struct Local {
    secrets: watch::Receiver<Arc<[Resource]>>,
    asked: Asked,
    metrics: Arc<Metrics>,
    encoder: Arc<Encoder>,
    /// Nobody's: nothing is translated here.
    key: Arc<ViewKey>,
}

impl fmt::Debug for Local {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Local")
    }
}

impl Local {
    /// The service of the newest of these secrets.
    pub fn new(secrets: watch::Receiver<Arc<[Resource]>>, asked: Asked) -> Self {
        let node =
            parse::node(&json!({"id": "sidecar~127.0.0.1~nobody.nowhere~nowhere"})).expect("an id of four parts");
        let key = Arc::new(Snapshot::new(Mesh::default()).view_key(&node));
        Self { secrets, asked, metrics: Arc::default(), encoder: Arc::default(), key }
    }

    /// It as a service of gRPC.
    pub fn routes(self) -> Routes {
        Routes::new(Service::<_, SDS>::new(self, MAX_REQUEST))
    }

    /// What it counts.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    async fn follow<W: Wire>(
        mut self,
        mut requests: Requests<W::Request>,
        responses: &mpsc::Sender<Result<Message, Status>>,
    ) -> Result<(), Status> {
        let key = self.key.clone();
        let part =
            |secrets: &[Resource]| Arc::new(Part::of(key.clone(), secrets.iter().cloned().map(Arc::new).collect()));
        let config = |secrets: &[Resource]| Arc::new(Config::new(vec![part(secrets)]));
        let mut stream = Stream::new(config(&self.secrets.borrow_and_update()), self.metrics.clone());
        let mut outbox: VecDeque<Answer> = VecDeque::new();
        loop {
            tokio::select! {
                () = responses.closed() => return Ok(()),
                permit = responses.reserve(), if !outbox.is_empty() => {
                    let Ok(permit) = permit else { return Ok(()) };
                    if let Some(answer) = outbox.pop_front() {
                        permit.send(Ok(self.encoder.response(W::VARIANT, Encoding::Identity, answer)?));
                    }
                }
                request = requests.message(), if outbox.len() < MAX_OUTBOX => {
                    let Some(request) = request? else { return Ok(()) };
                    let (_, mut request) = W::request(request);
                    ResourceType::Secret.type_url().clone_into(&mut request.type_url);
                    if let Some(error) = &request.error {
                        tracing::error!(%error, "Envoy refuses a secret");
                    }
                    (self.asked)(request.subscribed());
                    outbox.extend(stream.on_request(request));
                }
                changed = self.secrets.changed() => {
                    // Without those who make them they stay as they are; then the agent ends.
                    changed.map_err(|_| Status::unavailable("the agent ends"))?;
                    let config = config(&self.secrets.borrow_and_update());
                    outbox.extend(stream.on_config(config));
                }
            }
        }
    }
}

impl Serve for Local {
    fn serve<W: Wire>(&self, _: Option<ResourceType>, request: Request<Requests<W::Request>>) -> Messages {
        let (responses, messages) = mpsc::channel(1);
        let (local, requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            if let Err(status) = local.follow::<W>(requests, &responses).await {
                tracing::debug!(%status, "a stream of secrets ends");
            }
        });
        messages
    }
}
