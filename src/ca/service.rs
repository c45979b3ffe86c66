//! The gRPC service of Istio's agents: a request for a certificate, and the certificate.

use super::{Csr, Names, Refused, Signer, Workloads, now};
use crate::{
    id::Spiffe,
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
    workloads: Workloads,
}

impl Service {
    /// The service of a signer, for these workloads.
    pub fn new(signer: Arc<Signer>, workloads: Workloads) -> server::IstioCertificateServiceServer<Self> {
        server::IstioCertificateServiceServer::new(Self { signer, workloads }).max_decoding_message_size(64 << 10)
    }

    /// Whom a certificate is for: the caller, or another in whose name it may ask.
    fn identity(&self, caller: &Caller, request: &IstioCertificateRequest) -> Result<Spiffe, Status> {
        let asked = request.metadata.as_ref().and_then(|metadata| metadata.fields.get(IMPERSONATED));
        let other = match asked.and_then(|value| value.kind.as_ref()) {
            None | Some(Kind::NullValue(_)) => return Ok(caller.identity.clone()),
            Some(Kind::StringValue(text)) => text.parse::<Spiffe>().ok(),
            Some(_) => None,
        };
        other.filter(|other| self.workloads.may_speak_for(caller, other)).ok_or_else(|| {
            self.signer.metrics().count_impersonation();
            tracing::warn!(caller = %caller.identity, "a caller asks in another's name, which it may not");
            Status::unauthenticated("request impersonation authentication failure")
        })
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
        let identity = self.identity(&caller, &request)?;
        let ttl = u64::try_from(request.validity_duration).unwrap_or(0);
        let (csr, workloads) = (request.csr, self.workloads.clone());
        let check = move || {
            let checked = Csr::check(&csr, &identity)?;
            let subject = workloads.subject(&identity, &caller);
            Ok((checked, Names::Workload(identity, subject)))
        };
        let issued = self.signer.sign(check, ttl, now()).await.map_err(status)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use tonic::Code;

    #[test]
    fn whoever_is_turned_away_is_told_when_to_come_again_and_others_why() {
        let busy = status(Refused::Busy);
        assert_eq!(busy.code(), Code::ResourceExhausted);
        assert_eq!(busy.metadata().get("grpc-retry-pushback-ms").and_then(|v| v.to_str().ok()), Some(PUSHBACK));
        let code = |refused| status(refused).code();
        assert_eq!(code(Refused::Ttl(60)), Code::InvalidArgument);
        assert_eq!(code(Refused::Unfit(crate::ca::Unfit::Malformed)), Code::InvalidArgument);
        assert_eq!(code(Refused::Unfit(crate::ca::Unfit::Identity)), Code::PermissionDenied);
        let failed = status(Refused::Failed("the disk is full of secrets".into()));
        assert_eq!((failed.code(), failed.message()), (Code::Internal, "signing failed"));
    }
}
