//! Faults that are injected, and shares of requests.

use crate::{
    model::{Abort, Fault, Share},
    pb::{
        self,
        envoy::{
            extensions::filters::{
                common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
                http::fault::v3::{FaultAbort, HttpFault, fault_abort::ErrorType},
            },
            r#type::v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
};

/// The settings of the fault filter for a route; `None` where nothing is injected.
pub(super) fn config(fault: &Fault) -> Option<HttpFault> {
    let delay = fault.delay.map(|(millis, share)| FaultDelay {
        percentage: Some(fraction(share)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(pb::millis(millis))),
    });
    let abort = fault.abort.map(|(abort, share)| FaultAbort {
        percentage: share.map(fraction),
        error_type: Some(match abort {
            Abort::Http(status) => ErrorType::HttpStatus(status.into()),
            Abort::Grpc(status) => ErrorType::GrpcStatus(status),
        }),
        ..Default::default()
    });
    (delay.is_some() || abort.is_some()).then(|| HttpFault { delay, abort, ..Default::default() })
}

/// A share as Envoy takes it.
pub(super) fn fraction(share: Share) -> FractionalPercent {
    match share {
        Share::Percent(numerator) => FractionalPercent { numerator, denominator: DenominatorType::Hundred.into() },
        Share::Millionths(numerator) => FractionalPercent { numerator, denominator: DenominatorType::Million.into() },
    }
}
