//! The services of the protocol over gRPC, whose responses are written as they are: piece by piece, without a copy, so
//! that streams share what they are sent.

use super::{
    encoded::{Encoding, Message},
    requests::Requests,
    wire::{Delta, Sotw, Wire},
};
use crate::id::ResourceType;
use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::{
    convert::Infallible,
    future::{Ready, ready},
    pin::Pin,
    task::{Context, Poll, ready as readied},
    vec,
};
use tokio::sync::mpsc;
use tonic::{
    Request, Status,
    codegen::http::{HeaderMap, HeaderValue, Response, header::CONTENT_TYPE},
    server::NamedService,
};

/// The header that says how messages are compressed, and the one that says how they may be.
const ENCODING: &str = "grpc-encoding";
const ACCEPTED: &str = "grpc-accept-encoding";

/// What is sent on a stream, in order.
pub(super) type Messages = mpsc::Receiver<Result<Message, Status>>;

/// Whoever serves streams.
pub(super) trait Serve: Clone + Send + Sync + 'static {
    /// Serves a stream of one type, or of all.
    fn serve<W: Wire>(&self, only: Option<ResourceType>, request: Request<Requests<W::Request>>) -> Messages;
}

/// A service: its name, its methods for both variants, and the type that it is for.
struct Named {
    service: &'static str,
    whole: &'static str,
    delta: &'static str,
    only: Option<ResourceType>,
}

macro_rules! named {
    ($service:literal, $whole:literal, $delta:literal, $only:expr) => {
        Named {
            service: concat!("envoy.service.", $service),
            whole: concat!("/envoy.service.", $service, "/", $whole),
            delta: concat!("/envoy.service.", $service, "/", $delta),
            only: $only,
        }
    };
}

/// The service of all types.
pub(super) const ADS: usize = 0;
/// The service of clusters.
pub(super) const CDS: usize = 1;
/// The service of endpoints.
pub(super) const EDS: usize = 2;
/// The service of listeners.
pub(super) const LDS: usize = 3;
/// The service of routes.
pub(super) const RDS: usize = 4;
/// The service of secrets.
pub(super) const SDS: usize = 5;
/// The service of filters' settings.
pub(super) const ECDS: usize = 6;

#[rustfmt::skip]
const SERVICES: [Named; 7] = [
    named!("discovery.v3.AggregatedDiscoveryService", "StreamAggregatedResources", "DeltaAggregatedResources", None),
    named!("cluster.v3.ClusterDiscoveryService", "StreamClusters", "DeltaClusters", Some(ResourceType::Cluster)),
    named!("endpoint.v3.EndpointDiscoveryService", "StreamEndpoints", "DeltaEndpoints", Some(ResourceType::Endpoints)),
    named!("listener.v3.ListenerDiscoveryService", "StreamListeners", "DeltaListeners", Some(ResourceType::Listener)),
    named!("route.v3.RouteDiscoveryService", "StreamRoutes", "DeltaRoutes", Some(ResourceType::Route)),
    named!("secret.v3.SecretDiscoveryService", "StreamSecrets", "DeltaSecrets", Some(ResourceType::Secret)),
    named!("extension.v3.ExtensionConfigDiscoveryService", "StreamExtensionConfigs", "DeltaExtensionConfigs", Some(ResourceType::Extension)),
];

/// The `N`-th of the services.
#[derive(Clone, Debug)]
pub(super) struct Service<S, const N: usize> {
    server: S,
    /// The largest request, in bytes.
    max: usize,
}

impl<S, const N: usize> Service<S, N> {
    pub(super) fn new(server: S, max: usize) -> Self {
        Self { server, max }
    }
}

impl<S, const N: usize> NamedService for Service<S, N> {
    const NAME: &'static str = SERVICES[N].service;
}

type Incoming = tonic::codegen::http::Request<tonic::body::Body>;
type Outgoing = Response<tonic::body::Body>;

impl<S: Serve, const N: usize> tonic::codegen::Service<Incoming> for Service<S, N> {
    type Response = Outgoing;
    type Error = Infallible;
    type Future = Ready<Result<Outgoing, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Incoming) -> Self::Future {
        let named = &SERVICES[N];
        let response = match request.uri().path() {
            path if path == named.whole => self.stream::<Sotw>(request),
            path if path == named.delta => self.stream::<Delta>(request),
            _ => Status::unimplemented("resources are served on streams alone").into_http(),
        };
        ready(Ok(response))
    }
}

impl<S: Serve, const N: usize> Service<S, N> {
    fn stream<W: Wire>(&self, request: Incoming) -> Outgoing {
        let says = |header: &str| -> Encoding {
            let values = request.headers().get_all(header).iter().filter_map(|value| value.to_str().ok());
            match values.flat_map(|value| value.split(',')).any(|one| one.trim() == "gzip") {
                true => Encoding::Gzip,
                false => Encoding::Identity,
            }
        };
        let (theirs, ours) = (says(ENCODING), says(ACCEPTED));
        let mut requests = request.map(|body| Requests::new(body, self.max, theirs));
        requests.extensions_mut().insert(ours);
        let messages = self.server.serve::<W>(SERVICES[N].only, Request::from_http(requests));
        let body = Pieces { messages, rest: Vec::new().into_iter(), over: false };
        let mut response = Response::new(tonic::body::Body::new(body));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(ACCEPTED, HeaderValue::from_static("identity,gzip"));
        if ours == Encoding::Gzip {
            headers.insert(ENCODING, HeaderValue::from_static("gzip"));
        }
        response
    }
}

/// Messages as a body.
struct Pieces {
    messages: Messages,
    /// What is left of the message that is being sent.
    rest: vec::IntoIter<Bytes>,
    over: bool,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        loop {
            if let Some(piece) = self.rest.next() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if self.over {
                return Poll::Ready(None);
            }
            let end = match readied!(self.messages.poll_recv(context)) {
                Some(Ok(message)) => {
                    self.rest = message.into_iter();
                    continue;
                }
                Some(Err(status)) => status,
                None => Status::ok(""),
            };
            self.over = true;
            return Poll::Ready(Some(Ok(Frame::trailers(trailers(&end)))));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

/// How a stream ends.
fn trailers(status: &Status) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    if status.add_header(&mut trailers).is_err() {
        // What it says cannot be said in a header: that it failed can.
        trailers.insert("grpc-status", HeaderValue::from(status.code() as i32));
    }
    trailers
}
