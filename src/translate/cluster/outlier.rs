//! When endpoints are left out.

use crate::{
    model::OutlierDetection,
    pb::{
        self,
        envoy::{config::cluster::v3::OutlierDetection as Detection, r#type::v3::Percent},
    },
};

/// Detection of endpoints that fail. Detection by success rate, which Envoy does unasked, stays off.
pub(super) fn detection(outlier: &OutlierDetection) -> Detection {
    let enforced = |count: Option<u32>| count.and_then(|n| pb::uint32(if n > 0 { 100 } else { 0 }));
    let local = outlier.consecutive_local.filter(|_| outlier.split_local);
    Detection {
        enforcing_success_rate: pb::uint32(0),
        consecutive_5xx: outlier.consecutive_5xx.and_then(pb::uint32),
        enforcing_consecutive_5xx: enforced(outlier.consecutive_5xx),
        consecutive_gateway_failure: outlier.consecutive_gateway_errors.and_then(pb::uint32),
        enforcing_consecutive_gateway_failure: enforced(outlier.consecutive_gateway_errors),
        interval: outlier.interval.map(pb::millis),
        base_ejection_time: outlier.base_ejection.map(pb::millis),
        max_ejection_percent: outlier.max_ejection_percent.and_then(pb::uint32),
        split_external_local_origin_errors: outlier.split_local,
        consecutive_local_origin_failure: local.and_then(pb::uint32),
        enforcing_consecutive_local_origin_failure: enforced(local),
        enforcing_local_origin_success_rate: outlier.split_local.then(|| pb::uint32(0)).flatten(),
        ..Default::default()
    }
}

/// The share of healthy endpoints below which health does not count. It is 0 unless asked for otherwise:
/// endpoints that are not ready are known to the proxy, and must not get requests.
pub(super) fn panic_threshold(outlier: Option<&OutlierDetection>) -> Percent {
    Percent { value: outlier.and_then(|o| o.min_health_percent).unwrap_or(0).into() }
}
