//! Why an API server cannot be read just now, and when it is asked again.

use kube::core::Status;
use serde_json::Value;
use std::{
    fmt::Display,
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

/// Pauses after failures.
const PAUSES: [Duration; 2] = [Duration::from_millis(200), Duration::from_secs(10)];

/// Why a kind cannot be read just now.
pub(super) enum Failure {
    /// The changes since the last that is known are no longer there: everything has to be read again.
    Missed,
    /// The API server does not do it this way.
    Unknown(String),
    /// Something else, and when to ask again at the earliest.
    Other(String, Option<Duration>),
}

pub(super) fn other(what: &str, why: impl Display) -> Failure {
    Failure::Other(format!("{what}: {why}"), None)
}

pub(super) fn of_error(error: &kube::Error) -> Failure {
    match error {
        kube::Error::Api(status) => judge(status),
        error => Failure::Other(reason(error), None),
    }
}

/// Why an API server does not answer, in short: the outermost error says only what was being done.
pub fn reason(error: &kube::Error) -> String {
    if let kube::Error::Api(status) = error {
        return format!("{} ({})", status.message, status.code);
    }
    let mut innermost: &dyn std::error::Error = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

pub(super) fn of_status(status: &Value) -> Failure {
    match serde_json::from_value::<Status>(status.clone()) {
        Ok(status) => judge(&status),
        Err(_) => Failure::Other(status["message"].as_str().unwrap_or("an error without a text").to_owned(), None),
    }
}

fn judge(status: &Status) -> Failure {
    let after = status.details.as_ref().map(|d| Duration::from_secs(d.retry_after_seconds.into()));
    match status.code {
        410 => Failure::Missed,
        _ if status.reason == "Expired" || status.reason == "Gone" => Failure::Missed,
        // What it says of a parameter that it does not know.
        400 | 422 => Failure::Unknown(status.message.clone()),
        code => Failure::Other(format!("{} ({code})", status.message), after.filter(|a| !a.is_zero())),
    }
}

/// Pauses that grow, each a little random so that not all come back at once.
#[derive(Debug, Default)]
pub(super) struct Pauses(u32);

impl Pauses {
    pub(super) fn reset(&mut self) {
        self.0 = 0;
    }

    /// The next pause; at least what the API server asked for.
    pub(super) fn next(&mut self, after: Option<Duration>) -> Duration {
        let [first, last] = PAUSES;
        let pause = (first * 2u32.saturating_pow(self.0)).min(last);
        self.0 = (self.0 + 1).min(16);
        let part = RandomState::new().hash_one(0u8) % 1000;
        let pause = pause.mul_f64(1.0 - part as f64 / 2000.0);
        pause.max(after.unwrap_or_default().min(Duration::from_secs(60)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_up_to_a_limit_and_are_never_shorter_than_asked_for() {
        let mut pauses = Pauses::default();
        let all: Vec<Duration> = (0..20).map(|_| pauses.next(None)).collect();
        assert!(all[0] <= PAUSES[0] && all[0] >= PAUSES[0] / 2);
        assert!(all[19] <= PAUSES[1] && all[19] >= PAUSES[1] / 2);
        pauses.reset();
        assert!(pauses.next(Some(Duration::from_secs(3))) >= Duration::from_secs(3));
    }

    #[test]
    fn failures_are_told_apart() {
        let status = |code: u16, reason: &str| {
            of_status(&serde_json::json!({
                "status": "Failure", "message": "no", "code": code, "reason": reason, "details": {"retryAfterSeconds": 2},
            }))
        };
        assert!(matches!(status(410, "Expired"), Failure::Missed));
        assert!(matches!(status(500, "Expired"), Failure::Missed));
        assert!(matches!(status(422, "Invalid"), Failure::Unknown(_)));
        let wait = |failure| match failure {
            Failure::Other(_, after) => after,
            _ => None,
        };
        assert_eq!(wait(status(429, "TooManyRequests")), Some(Duration::from_secs(2)));
    }
}
