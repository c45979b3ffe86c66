//! Tokens that a cluster has signed, shown to its API server: who bears them, as long as that is sure to hold.

use super::{Refusal, jwt};
use aws_lc_rs::digest;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::{Api, Client, api::PostParams};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{sync::Semaphore, time};

/// How long a good answer is kept at most, in seconds: a token ends early when its pod or account is deleted.
const KEEP: u64 = 300;
/// How many good answers are kept.
const KEPT: usize = 20_000;
/// Questions at once.
const AT_ONCE: usize = 32;
/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a cluster about tokens.
pub struct Reviewer {
    reviews: Api<TokenReview>,
    audiences: Vec<String>,
    /// What good tokens say, by the digest of the token.
    known: Mutex<BTreeMap<[u8; 32], Known>>,
    questions: Semaphore,
    asked: AtomicU64,
    kept: AtomicU64,
}

#[derive(Clone, Debug)]
struct Known {
    claims: jwt::Claims,
    until: u64,
}

impl fmt::Debug for Reviewer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reviewer").field("audiences", &self.audiences).finish_non_exhaustive()
    }
}

impl Reviewer {
    /// One that asks this cluster for tokens with one of these audiences.
    pub fn new(client: Client, audiences: Vec<String>) -> Self {
        Self {
            reviews: Api::all(client),
            audiences,
            known: Mutex::default(),
            questions: Semaphore::new(AT_ONCE),
            asked: AtomicU64::new(0),
            kept: AtomicU64::new(0),
        }
    }

    /// How often the cluster was asked.
    pub fn asked(&self) -> u64 {
        self.asked.load(Relaxed)
    }

    /// How often an answer was known.
    pub fn known(&self) -> u64 {
        self.kept.load(Relaxed)
    }

    /// What a token says, where the cluster says that it is good. That it is not good is never kept: it may be soon.
    pub(super) async fn review(&self, token: &str, now: u64) -> Result<jwt::Claims, Refusal> {
        let key = digest_of(token);
        if let Some(known) = self.find(&key, now) {
            self.kept.fetch_add(1, Relaxed);
            return Ok(known);
        }
        // What is no token of the form that clusters sign is not worth a question.
        let expires = jwt::expires_unchecked(token)?;
        if expires <= now {
            return Err(Refusal::Expired);
        }
        let status = time::timeout(PATIENCE, self.ask(token)).await.map_err(|_| Refusal::Unavailable)??;
        let claims = judge(&status, &self.audiences, expires)?;
        self.keep(key, &claims, now);
        Ok(claims)
    }

    async fn ask(&self, token: &str) -> Result<TokenReviewStatus, Refusal> {
        let _turn = self.questions.acquire().await.map_err(|_| Refusal::Unavailable)?;
        self.asked.fetch_add(1, Relaxed);
        let spec = TokenReviewSpec { audiences: Some(self.audiences.clone()), token: Some(token.to_owned()) };
        let review = TokenReview { spec, ..TokenReview::default() };
        match self.reviews.create(&PostParams::default(), &review).await {
            Ok(review) => review.status.ok_or(Refusal::Unavailable),
            Err(error) => {
                tracing::warn!("the API server does not judge a token: {error}");
                Err(Refusal::Unavailable)
            }
        }
    }

    fn find(&self, key: &[u8; 32], now: u64) -> Option<jwt::Claims> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|known| known.until > now).map(|known| known.claims.clone())
    }

    fn keep(&self, key: [u8; 32], claims: &jwt::Claims, now: u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.retain(|_, known| known.until > now);
        }
        if known.len() < KEPT {
            known.insert(key, Known { claims: claims.clone(), until: claims.expires.min(now + KEEP) });
        }
    }
}

fn digest_of(token: &str) -> [u8; 32] {
    let digest = digest::digest(&digest::SHA256, token.as_bytes());
    digest.as_ref().try_into().expect("SHA-256 has 32 bytes")
}

/// What an answer comes to.
fn judge(status: &TokenReviewStatus, audiences: &[String], expires: u64) -> Result<jwt::Claims, Refusal> {
    if status.authenticated != Some(true) {
        return Err(Refusal::Signature);
    }
    let of = status.audiences.as_deref().unwrap_or_default();
    // An API server that does not know of audiences names none: then the token was not made for us.
    if !audiences.iter().any(|ours| of.contains(ours)) {
        return Err(Refusal::Audience);
    }
    let user = status.user.as_ref().ok_or(Refusal::Subject)?;
    let subject = user.username.clone().ok_or(Refusal::Subject)?;
    let pod = user.extra.as_ref().and_then(|e| e.get("authentication.kubernetes.io/pod-name")?.first().cloned());
    let claims = jwt::Claims::reviewed(subject, expires);
    let namespace = claims.account().ok_or(Refusal::Subject)?.0.to_owned();
    Ok(match pod {
        Some(pod) => claims.of_pod(namespace, pod),
        None => claims,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn status(value: serde_json::Value) -> TokenReviewStatus {
        serde_json::from_value(value).expect("a status")
    }

    #[test]
    fn only_a_good_token_of_an_account_for_us_is_taken() {
        let judge = |value| judge(&status(value), &["istio-ca".to_owned()], 7);
        let user = json!({"username": "system:serviceaccount:shop:seller",
                          "extra": {"authentication.kubernetes.io/pod-name": ["web-0"]}});
        let good = judge(json!({"authenticated": true, "audiences": ["istio-ca"], "user": user})).expect("good");
        assert_eq!((good.account(), good.expires), (Some(("shop", "seller")), 7));
        assert_eq!(good.pod(&"shop".into()).as_deref(), Some("web-0"));
        assert_eq!(judge(json!({"error": "no"})), Err(Refusal::Signature));
        assert_eq!(judge(json!({"authenticated": true, "user": user})), Err(Refusal::Audience));
        let other = json!({"authenticated": true, "audiences": ["api"], "user": user});
        assert_eq!(judge(other), Err(Refusal::Audience));
        let person = json!({"authenticated": true, "audiences": ["istio-ca"], "user": {"username": "admin"}});
        assert_eq!(judge(person), Err(Refusal::Subject));
    }
}
