//! A server that does nothing but send what was recorded of another, as tonic sends what its users hand it: what sending
//! itself costs.

use anyhow::Result;
use mainsheet::{
    id::ResourceType,
    pb::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse},
};
use prost::{
    Message as _,
    bytes::{Buf as _, BufMut as _, Bytes},
};
use std::{
    convert::Infallible,
    fs,
    future::{Ready, ready},
    net::SocketAddr,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{
    Request, Response, Status, Streaming,
    codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder},
    codegen::{Service, http},
    server::{Grpc, NamedService, StreamingService},
};

/// Writes the messages that a proxy was sent, each behind its length.
///
/// # Errors
///
/// When the file cannot be written.
pub(crate) fn write(messages: &[Bytes], to: &Path) -> std::io::Result<()> {
    let mut all = Vec::new();
    for message in messages {
        all.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        all.put_slice(message);
    }
    fs::write(to, all)
}

/// A response with the first endpoints of a recording alone, and their name.
pub(crate) fn one(messages: &[Bytes]) -> Option<(Bytes, String)> {
    let mut responses = messages.iter().filter_map(|message| DeltaDiscoveryResponse::decode(message.clone()).ok());
    let whole = responses.find(|response| response.type_url == ResourceType::Endpoints.type_url())?;
    let first = whole.resources.first()?.clone();
    let name = first.name.clone();
    let one = DeltaDiscoveryResponse { resources: vec![first], removed_resources: Vec::new(), ..whole };
    Some((one.encode_to_vec().into(), name))
}

/// Serves what was recorded to whoever asks, until it is killed. When it is sent SIGUSR1 it sends all the first endpoints
/// again.
///
/// # Errors
///
/// When the recording cannot be read, or the address cannot be had.
pub(crate) fn serve(recorded: &Path, address: SocketAddr) -> Result<()> {
    let mut all: Bytes = fs::read(recorded)?.into();
    let mut messages = Vec::new();
    while all.has_remaining() {
        let length = all.get_u32() as usize;
        messages.push(all.split_to(length));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let again = one(&messages).map(|(message, _)| message).unwrap_or_default();
    runtime.block_on(async {
        let mut signals = signal(SignalKind::user_defined1())?;
        let (sender, signalled) = watch::channel(0u64);
        tokio::spawn(async move {
            while signals.recv().await.is_some() {
                sender.send_modify(|count| *count += 1);
            }
        });
        let bare = Bare { messages: messages.into(), again, signalled };
        tonic::transport::Server::builder().tcp_nodelay(true).add_service(bare).serve(address).await?;
        Ok(())
    })
}

#[derive(Clone)]
struct Bare {
    messages: Arc<[Bytes]>,
    /// What is sent again when it is asked for.
    again: Bytes,
    signalled: watch::Receiver<u64>,
}

impl NamedService for Bare {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

impl Service<http::Request<tonic::body::Body>> for Bare {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let bare = self.clone();
        Box::pin(async move { Ok(Grpc::new(Raw).streaming(bare, request).await) })
    }
}

type Sent = Pin<Box<dyn Stream<Item = Result<Bytes, Status>> + Send>>;

impl StreamingService<DeltaDiscoveryRequest> for Bare {
    type Response = Bytes;
    type ResponseStream = Sent;
    type Future = Ready<Result<Response<Sent>, Status>>;

    fn call(&mut self, request: Request<Streaming<DeltaDiscoveryRequest>>) -> Self::Future {
        let (sender, responses) = tokio::sync::mpsc::channel(1);
        let Self { messages, again, mut signalled } = self.clone();
        tokio::spawn(async move {
            let mut requests = request.into_inner();
            for message in messages.iter() {
                // A message for each request, as a control plane does it.
                if !matches!(requests.message().await, Ok(Some(_))) || sender.send(Ok(message.clone())).await.is_err() {
                    return;
                }
            }
            loop {
                tokio::select! {
                    request = requests.message() => if !matches!(request, Ok(Some(_))) {
                        return;
                    },
                    changed = signalled.changed() => {
                        if changed.is_err() || sender.send(Ok(again.clone())).await.is_err() {
                            return;
                        }
                    }
                }
            }
        });
        ready(Ok(Response::new(Box::pin(ReceiverStream::new(responses)))))
    }
}

/// Messages that are encoded already.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, message: Bytes, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        to.reserve(message.len());
        to.put(message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = DeltaDiscoveryRequest;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<DeltaDiscoveryRequest>, Status> {
        let request = prost::Message::decode(from).map_err(|e| Status::internal(e.to_string()))?;
        Ok(Some(request))
    }
}
