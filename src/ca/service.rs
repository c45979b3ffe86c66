//! The gRPC service of Istio's agents: a request for a certificate, and the certificate.

use super::{Csr, Names, Refused, Signer, now};
use crate::{
    pb::{
        google::protobuf::value::Kind,
        istio::v1::auth::{
            IstioCertificateRequest, IstioCertificateResponse, istio_certificate_service_server as server,
        },
    },
    peer::Caller,
};
use std::sync::Arc;
use tonic::{Request, Response, Status, metadata::MetadataValue};

/// What asks for a certificate in somebody else's name.
const IMPERSONATED: &str = "ImpersonatedIdentity";
/// How long whoever is turned away is to wait, in milliseconds.
const PUSHBACK: &str = "1000";

/// The service.
#[derive(Clone, Debug)]
pub struct Service {
    signer: Arc<Signer>,
}

impl Service {
    /// The service of a signer.
    pub fn new(signer: Arc<Signer>) -> server::IstioCertificateServiceServer<Self> {
        server::IstioCertificateServiceServer::new(Self { signer }).max_decoding_message_size(64 << 10)
    }
}

#[tonic::async_trait]
impl server::IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        let caller = caller.ok_or_else(|| Status::unauthenticated("request authenticate failure"))?;
        let request = request.into_inner();
        let fields = request.metadata.iter().flat_map(|m| &m.fields);
        let named = |(key, value): (&String, &crate::pb::google::protobuf::Value)| {
            key == IMPERSONATED && !matches!(&value.kind, None | Some(Kind::NullValue(_)))
        };
        if fields.into_iter().any(named) {
            // Only accounts of nodes may, and there are none where nobody says which pods run beside them.
            self.signer.metrics().count_impersonation();
            return Err(Status::unauthenticated("request impersonation authentication failure"));
        }
        let ttl = u64::try_from(request.validity_duration).unwrap_or(0);
        let (csr, identity) = (request.csr, caller.identity.clone());
        let names = Names::Workload(caller.identity, None);
        let issued = self.signer.sign(move || Csr::check(&csr, &identity), names, ttl, now()).await.map_err(status)?;
        let cert_chain = issued.chain.into_iter().chain([issued.roots]).collect();
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}

fn status(refused: Refused) -> Status {
    match refused {
        Refused::Unfit(super::Unfit::Identity) => Status::permission_denied(super::Unfit::Identity.to_string()),
        Refused::Unfit(why) => Status::invalid_argument(why.to_string()),
        Refused::Ttl(most) => Status::invalid_argument(format!("a certificate is valid for {most} seconds at most")),
        Refused::Busy => {
            let mut status = Status::resource_exhausted("too many certificates are being asked for; try again");
            status.metadata_mut().insert("grpc-retry-pushback-ms", MetadataValue::from_static(PUSHBACK));
            status
        }
        Refused::Failed(why) => {
            tracing::error!(error = %why, "signing a certificate failed");
            Status::internal("signing failed")
        }
    }
}
