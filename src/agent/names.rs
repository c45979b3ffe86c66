//! The names of the mesh as the control plane has them, over a stream of the agent's own: Envoy does not take them.

use super::{
    Newest,
    connect::{self, Target},
    dns::{Place, Table},
};
use crate::pb::{
    envoy::service::discovery::v3::{
        DiscoveryRequest, DiscoveryResponse, aggregated_discovery_service_client::AggregatedDiscoveryServiceClient,
    },
    google::rpc::Status as StatusPb,
    istio::networking::nds::v1::NameTable,
};
use anyhow::{Context as _, Result, anyhow};
use prost::{Message as _, Name as _};
use serde_json::Value;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, watch},
    time,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

/// How long to wait before the stream is opened again, first and at most.
const PAUSE: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

/// Follows the names.
#[derive(Debug)]
pub(super) struct Following {
    /// Where the control plane is.
    pub(super) target: Target,
    /// By what the agent proves who it is.
    pub(super) newest: Newest,
    /// Who it is.
    pub(super) node: Value,
    /// Where it is.
    pub(super) place: Place,
}

impl Following {
    /// Keeps the newest table there, as long as somebody looks.
    pub(super) async fn keep(mut self, sender: watch::Sender<Option<Arc<Table>>>) -> Result<()> {
        let [first, most] = PAUSE;
        let mut pause = first;
        loop {
            let had = sender.borrow().clone();
            tokio::select! {
                () = sender.closed() => return Ok(()),
                ended = self.stream(&sender) => match ended {
                    Ok(()) => tracing::debug!("the stream of names ends"),
                    Err(error) => tracing::warn!(error = format!("{error:#}"), "names are not followed"),
                }
            }
            let moved = !same(had.as_ref(), sender.borrow().as_ref());
            pause = if moved { first } else { (pause * 2).min(most) };
            time::sleep(pause).await;
        }
    }

    async fn stream(&mut self, sender: &watch::Sender<Option<Arc<Table>>>) -> Result<()> {
        // Nobody is told anything who cannot prove who it is.
        let certified = self.newest.wait_for(Option::is_some).await?.clone();
        let channel = self.target.channel(certified.as_deref()).await?;
        let mut client = AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(usize::MAX);
        let (requests, stream) = mpsc::channel(1);
        let type_url = NameTable::type_url();
        let node = Some(connect::node(&self.node));
        requests.send(DiscoveryRequest { node, type_url: type_url.clone(), ..Default::default() }).await?;
        let asked = client.stream_aggregated_resources(ReceiverStream::new(stream)).await;
        let mut responses = asked.map_err(|status| anyhow!("{:?}: {}", status.code(), status.message()))?.into_inner();
        while let Some(response) = responses.message().await? {
            let mut answer = DiscoveryRequest {
                type_url: type_url.clone(),
                response_nonce: response.nonce.clone(),
                version_info: response.version_info.clone(),
                ..Default::default()
            };
            match table(response) {
                Ok(table) => {
                    let table = Table::new(table, &self.place);
                    tracing::debug!(names = table.len(), "names have come");
                    sender.send_replace(Some(Arc::new(table)));
                }
                Err(error) => {
                    let (code, message) = (Code::InvalidArgument as i32, format!("{error:#}"));
                    answer.error_detail = Some(StatusPb { code, message, ..Default::default() });
                }
            }
            requests.send(answer).await?;
        }
        Ok(())
    }
}

fn same(a: Option<&Arc<Table>>, b: Option<&Arc<Table>>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        (a, b) => a.is_none() && b.is_none(),
    }
}

fn table(response: DiscoveryResponse) -> Result<NameTable> {
    let table = response.resources.into_iter().next().context("the answer holds no table")?;
    Ok(NameTable::decode(table.value)?)
}
