//! When a request is tried again.

use crate::{
    model::Retry,
    pb::{
        self,
        envoy::{
            config::route::v3::{
                RetryPolicy,
                retry_policy::{RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate, retry_priority},
            },
            extensions::retry::{
                host::previous_hosts::v3::PreviousHostsPredicate,
                priority::previous_priorities::v3::PreviousPrioritiesConfig,
            },
        },
    },
};

/// What is tried again where nothing is said (Istio: `route/retry/retry.go`).
const DEFAULT_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
/// The same for requests to the own workload: what it has not seen.
const INBOUND_ON: &str = "reset-before-request";
const DEFAULT_ATTEMPTS: u32 = 2;
const BY_STATUS: &str = "retriable-status-codes";

/// The policy for retries; `None` where there are none. With `hashed`, a request goes to the same host again,
/// because its hash names it.
pub(super) fn policy(retry: Option<&Retry>, hashed: bool) -> Option<RetryPolicy> {
    let attempts = retry.map_or(DEFAULT_ATTEMPTS, |r| r.attempts);
    if attempts == 0 {
        return None;
    }
    let (retry_on, retriable_status_codes) = conditions(retry.and_then(|r| r.retry_on.as_deref()));
    let other_hosts = retry.and_then(|r| r.ignore_previous_hosts).unwrap_or(!hashed);
    let other_localities = retry.and_then(|r| r.remote_localities).unwrap_or(false);
    Some(RetryPolicy {
        retry_on,
        retriable_status_codes,
        num_retries: pb::uint32(attempts),
        per_try_timeout: retry.and_then(|r| r.per_try_timeout).map(pb::millis),
        retry_host_predicate: other_hosts.then(previous_hosts).into_iter().collect(),
        retry_priority: other_localities.then(previous_priorities),
        host_selection_retry_max_attempts: 5,
        retry_back_off: retry.and_then(|r| r.backoff).map(backoff),
        ..Default::default()
    })
}

/// The policy for requests to the proxy's own workload; `None` where there are no retries. There is one place alone to
/// send them to, so nothing is said of others.
pub(in crate::translate) fn inbound_policy(retry: Option<&Retry>) -> Option<RetryPolicy> {
    let attempts = retry.map_or(DEFAULT_ATTEMPTS, |r| r.attempts);
    let (retry_on, retriable_status_codes) = match retry.and_then(|r| r.retry_on.as_deref()) {
        None => (INBOUND_ON.to_owned(), Vec::new()),
        written => conditions(written),
    };
    (attempts > 0).then(|| RetryPolicy {
        retry_on,
        retriable_status_codes,
        num_retries: pb::uint32(attempts),
        retry_back_off: retry.and_then(|r| r.backoff).map(backoff),
        ..Default::default()
    })
}

fn backoff(base: u64) -> RetryBackOff {
    RetryBackOff { base_interval: Some(pb::millis(base)), max_interval: None }
}

/// Envoy's conditions, and the statuses among those that the user wrote.
fn conditions(written: Option<&str>) -> (String, Vec<u32>) {
    let Some(written) = written else { return (DEFAULT_ON.to_owned(), Vec::new()) };
    let (mut names, mut statuses) = (Vec::new(), Vec::new());
    for part in written.split(',').map(str::trim).filter(|p| !p.is_empty()) {
        match part.parse::<u32>() {
            Ok(status) => statuses.push(status),
            Err(_) => names.push(part),
        }
    }
    if !statuses.is_empty() && !names.contains(&BY_STATUS) {
        names.push(BY_STATUS);
    }
    (names.join(","), statuses)
}

fn previous_hosts() -> RetryHostPredicate {
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(pb::any(&PreviousHostsPredicate {}))),
    }
}

fn previous_priorities() -> RetryPriority {
    RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        config_type: Some(retry_priority::ConfigType::TypedConfig(pb::any(&PreviousPrioritiesConfig {
            update_frequency: 2,
        }))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(on: &str) -> Retry {
        Retry {
            attempts: 1,
            per_try_timeout: None,
            retry_on: Some(on.into()),
            remote_localities: None,
            ignore_previous_hosts: None,
            backoff: None,
        }
    }

    #[test]
    fn statuses_among_the_conditions_become_a_list() {
        let of = |on: &str| policy(Some(&retry(on)), false).map(|p| (p.retry_on, p.retriable_status_codes));
        assert_eq!(of("503, reset ,429"), Some(("reset,retriable-status-codes".into(), vec![503, 429])));
        assert_eq!(of("500,502"), Some(("retriable-status-codes".into(), vec![500, 502])));
        assert_eq!(of("5xx"), Some(("5xx".into(), vec![])));
    }

    #[test]
    fn no_attempts_are_no_retries() {
        assert_eq!(policy(Some(&Retry { attempts: 0, ..retry("5xx") }), false), None);
    }

    #[test]
    fn a_hash_names_the_same_host_again_unless_told_otherwise() {
        let predicates = |r: Option<&Retry>, hashed| policy(r, hashed).map(|p| p.retry_host_predicate.len());
        assert_eq!((predicates(None, false), predicates(None, true)), (Some(1), Some(0)));
        let told = Retry { ignore_previous_hosts: Some(true), ..retry("5xx") };
        assert_eq!(predicates(Some(&told), true), Some(1));
    }
}
