//! What happens to requests on their way: retries, faults, copies, cross-origin policy.

use super::Parser;
use crate::{
    api::virtual_service as api,
    model::{Abort, Cors, Fault, Mirror, Retry, Share, StringMatch},
    parse::{text, value::Findings},
    problem::FieldPath,
};
use std::sync::Arc;

/// The conditions for retries that Envoy knows, beside statuses.
const RETRY_ON: &[&str] = &[
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
/// The names of gRPC's statuses, in the order of their numbers.
const GRPC: &[&str] = &[
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];
const METHODS: &[&str] = &["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];

/// Reads settings of retries.
pub(in crate::parse) fn retries(found: &mut Findings<'_>, path: &FieldPath, raw: &api::Retries) -> Retry {
    let attempts = u32::try_from(raw.attempts).unwrap_or_else(|_| {
        let message =
            format!("{} is not a number of attempts; write 0 for none, or how many there may be", raw.attempts);
        found.error(&path.field("attempts"), message);
        0
    });
    let more = raw.per_try_timeout.is_some() || !raw.retry_on.is_empty() || raw.retry_remote_localities.is_some();
    if raw.attempts == 0 && more {
        let message = "is 0, which turns retries off, beside settings for retries; write how many attempts there may \
                       be, or leave the settings out";
        found.error(&path.field("attempts"), message);
    }
    for condition in raw.retry_on.split(',').map(str::trim).filter(|_| !raw.retry_on.is_empty()) {
        let status = condition.parse::<u16>().is_ok_and(|s| (100..600).contains(&s));
        if !status && !RETRY_ON.contains(&condition) {
            let message = format!(
                "{condition:?} is not a condition for retries; write statuses as 503, or one of {}",
                RETRY_ON.join(", ")
            );
            found.error(&path.field("retryOn"), message);
        }
    }
    Retry {
        attempts,
        per_try_timeout: found.positive_duration(&path.field("perTryTimeout"), raw.per_try_timeout.as_ref()),
        retry_on: super::said(&raw.retry_on),
        remote_localities: raw.retry_remote_localities,
        ignore_previous_hosts: raw.retry_ignore_previous_hosts,
        backoff: found.positive_duration(&path.field("backoff"), raw.backoff.as_ref()),
    }
}

impl Parser<'_> {
    pub(super) fn fault(&mut self, path: &FieldPath, raw: &api::Fault) -> Fault {
        if raw.delay.is_none() && raw.abort.is_none() {
            self.found.error(path, "injects nothing; write delay or abort");
        }
        Fault {
            delay: raw.delay.as_ref().and_then(|d| self.delay(&path.field("delay"), d)),
            abort: raw.abort.as_ref().and_then(|a| self.abort(&path.field("abort"), a)),
        }
    }

    fn delay(&mut self, path: &FieldPath, raw: &api::Delay) -> Option<(u64, Share)> {
        if raw.exponential_delay.is_some() {
            self.found.error(&path.field("exponentialDelay"), "is not supported; write fixedDelay");
        }
        let share = match &raw.percentage {
            Some(percentage) => self.fault_share(&path.field("percentage"), percentage),
            None => Share::Percent(self.found.percent(&path.field("percent"), raw.percent)),
        };
        if raw.percentage.is_none() && raw.percent != 0 {
            self.found.warn(&path.field("percent"), "is the older name; write percentage.value");
        }
        if raw.percentage.is_none() && raw.percent == 0 {
            self.found.warn(path, "delays no request, because it has no percentage; write percentage.value");
        }
        if raw.fixed_delay.is_none() && raw.exponential_delay.is_none() {
            self.found.warn(path, "delays no request, because it has no fixedDelay");
        }
        Some((self.found.positive_duration(&path.field("fixedDelay"), raw.fixed_delay.as_ref())?, share))
    }

    fn abort(&mut self, path: &FieldPath, raw: &api::Abort) -> Option<(Abort, Option<Share>)> {
        let given = [raw.http_status.is_some(), raw.grpc_status.is_some(), raw.http2_error.is_some()];
        if given.iter().filter(|g| **g).count() > 1 {
            self.found.error(path, "has several statuses; write one of httpStatus and grpcStatus");
        }
        if raw.http2_error.is_some() {
            self.found.error(&path.field("http2Error"), "is not supported; write httpStatus or grpcStatus");
        }
        let share = raw.percentage.as_ref().map(|p| self.fault_share(&path.field("percentage"), p));
        if share.is_none() {
            self.found.warn(path, "refuses no request, because it has no percentage; write percentage.value");
        }
        if let Some(status) = raw.http_status {
            return Some((Abort::Http(self.status(&path.field("httpStatus"), status)), share));
        }
        let Some(name) = &raw.grpc_status else {
            self.found.warn(path, "refuses no request, because it has no status; write httpStatus or grpcStatus");
            return None;
        };
        let number = GRPC.iter().position(|n| n == name).and_then(|n| u32::try_from(n).ok());
        let number = number.ok_or_else(|| format!("{name:?} is not a status of gRPC; write a name as UNAVAILABLE"));
        Some((Abort::Grpc(self.take(&path.field("grpcStatus"), number)?), share))
    }

    /// A share in percent; one too small to be more than none is a mistake in a fault.
    fn fault_share(&mut self, path: &FieldPath, raw: &api::Percent) -> Share {
        if raw.value > 0.0 && raw.value < 0.0001 {
            let message = format!("{} is too small a share; write 0, or a number from 0.0001 to 100", raw.value);
            self.found.error(&path.field("value"), message);
        }
        self.share(path, raw)
    }

    pub(super) fn mirrors(&mut self, path: &FieldPath, raw: &api::HttpRoute) -> Vec<Mirror> {
        let mut all = Vec::new();
        if let Some(whole) = raw.mirror_percent {
            self.found.warn(&path.field("mirrorPercent"), "is the older name; write mirrorPercentage.value");
            self.found.percent(&path.field("mirrorPercent"), whole);
        }
        let share = raw.mirror_percentage.as_ref().map(|p| self.share(&path.field("mirrorPercentage"), p));
        let share = share.or(raw.mirror_percent.and_then(|p| u32::try_from(p).ok()).map(Share::Percent));
        if raw.mirror.is_some() {
            let destination = self.destination(&path.field("mirror"), raw.mirror.as_ref());
            all.extend(
                destination.map(|destination| Mirror { destination, share: share.unwrap_or(Share::Percent(100)) }),
            );
        }
        for (i, mirror) in raw.mirrors.iter().enumerate() {
            let at = path.field("mirrors").index(i);
            let share = mirror.percentage.as_ref().map(|p| self.share(&at.field("percentage"), p));
            let destination = self.destination(&at.field("destination"), mirror.destination.as_ref());
            all.extend(
                destination.map(|destination| Mirror { destination, share: share.unwrap_or(Share::Percent(100)) }),
            );
        }
        all.retain(|m| !matches!(m.share, Share::Percent(0) | Share::Millionths(0)));
        all
    }

    pub(super) fn cors(&mut self, path: &FieldPath, raw: &api::Cors) -> Cors {
        let at = path.field("allowMethods");
        for (i, method) in raw.allow_methods.iter().enumerate() {
            if !METHODS.contains(&method.as_str()) {
                let message = format!("{method:?} is not a method; write one of {}", METHODS.join(", "));
                self.found.error(&at.index(i), message);
            }
        }
        let forward_unmatched = match raw.unmatched_preflights.as_str() {
            "" | "UNSPECIFIED" => None,
            "FORWARD" => Some(true),
            "IGNORE" => Some(false),
            other => {
                let message = format!("{other:?} is not known; write FORWARD or IGNORE");
                self.found.error(&path.field("unmatchedPreflights"), message);
                None
            }
        };
        Cors {
            allow_origins: self.origins(path, raw),
            allow_methods: raw.allow_methods.iter().map(|m| m.as_str().into()).collect(),
            allow_headers: self.header_list(&path.field("allowHeaders"), &raw.allow_headers),
            expose_headers: self.header_list(&path.field("exposeHeaders"), &raw.expose_headers),
            max_age: self.max_age(&path.field("maxAge"), raw.max_age.as_ref()),
            allow_credentials: raw.allow_credentials,
            forward_unmatched,
        }
    }

    fn origins(&mut self, path: &FieldPath, raw: &api::Cors) -> Vec<StringMatch> {
        let at = path.field("allowOrigins");
        let mut all = Vec::new();
        for (i, origin) in raw.allow_origins.iter().enumerate() {
            let comparison = self.comparison(&at.index(i), Some(origin), true);
            match &comparison {
                Some(StringMatch::Exact(t) | StringMatch::Prefix(t)) if !t.is_empty() => {}
                Some(StringMatch::Regex(_)) => {}
                _ => self.found.error(&at.index(i), "is no origin; write exact, prefix or regex with a text"),
            }
            all.extend(comparison);
        }
        if all.is_empty() && !raw.allow_origin.is_empty() {
            self.found.warn(&path.field("allowOrigin"), "is the older name; write allowOrigins with exact");
            all.extend(raw.allow_origin.iter().map(|o| StringMatch::Exact(o.as_str().into())));
        }
        all
    }

    fn header_list(&mut self, path: &FieldPath, names: &[String]) -> Vec<Arc<str>> {
        for (i, name) in names.iter().enumerate().filter(|(_, n)| *n != "*") {
            self.take(&path.index(i), text::header_name(name));
        }
        names.iter().map(|n| n.as_str().into()).collect()
    }

    fn max_age(&mut self, path: &FieldPath, raw: Option<&String>) -> Option<u64> {
        let millis = self.found.positive_duration(path, raw)?;
        if millis % 1000 != 0 {
            self.found.error(path, "must be whole seconds, because that is what browsers are told");
        }
        Some(millis / 1000)
    }
}
