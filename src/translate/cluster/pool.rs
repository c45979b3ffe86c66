//! Limits of connections and requests, and keepalive.

use crate::{
    model::{ConnectionPool, Keepalive, RetryBudget},
    pb::{
        self,
        envoy::{
            config::{
                cluster::v3::{
                    CircuitBreakers, UpstreamConnectionOptions,
                    circuit_breakers::{Thresholds, thresholds},
                },
                core::v3::TcpKeepalive,
            },
            r#type::v3::Percent,
        },
    },
};

/// Istio's limits: as good as none where nothing is said, because Envoy's own (1024; 3 retries) are met when
/// pods are replaced.
pub(in crate::translate) fn breakers(pool: &ConnectionPool, budget: Option<&RetryBudget>) -> CircuitBreakers {
    let limit = |limit: Option<u32>| pb::uint32(limit.unwrap_or(u32::MAX));
    CircuitBreakers {
        thresholds: vec![Thresholds {
            max_connections: limit(pool.max_connections),
            max_pending_requests: limit(pool.max_pending_requests),
            max_requests: limit(pool.max_requests),
            max_retries: limit(pool.max_retries),
            retry_budget: budget.map(retry_budget),
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn retry_budget(budget: &RetryBudget) -> thresholds::RetryBudget {
    thresholds::RetryBudget {
        budget_percent: Some(Percent { value: budget.percent.map_or(20.0, millionths) }),
        min_retry_concurrency: pb::uint32(if budget.min_concurrency == 0 { 3 } else { budget.min_concurrency }),
        budget_interval: budget.interval.map(pb::millis),
    }
}

/// A number that is kept in millionths.
pub(super) fn millionths(number: u64) -> f64 {
    number as f64 / 1e6
}

/// Keepalive of the sockets: what a rule says, over what the mesh does.
pub(in crate::translate) fn keepalive(
    own: Option<&Keepalive>,
    mesh: Option<&Keepalive>,
) -> Option<UpstreamConnectionOptions> {
    if own.is_none() && mesh.is_none() {
        return None;
    }
    let part =
        |get: fn(&Keepalive) -> Option<u32>| own.and_then(get).or_else(|| mesh.and_then(get)).and_then(pb::uint32);
    Some(UpstreamConnectionOptions {
        tcp_keepalive: Some(TcpKeepalive {
            keepalive_probes: part(|k| k.probes),
            keepalive_time: part(|k| k.time),
            keepalive_interval: part(|k| k.interval),
        }),
        ..Default::default()
    })
}
