//! What a cluster lets callers do, as its API server says.

use super::Caller;
use k8s_openapi::api::authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::{Api, Client, api::PostParams};
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{self, Instant};

/// How long an answer is kept.
const KEEP: Duration = Duration::from_secs(60);
/// How many are kept.
const KEPT: usize = 4096;
/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks a cluster what callers may do.
pub struct Access {
    reviews: Api<SubjectAccessReview>,
    known: Mutex<BTreeMap<(String, String), (bool, Instant)>>,
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}

impl Access {
    /// One that asks this cluster.
    pub fn new(client: Client) -> Self {
        Self { reviews: Api::all(client), known: Mutex::default() }
    }

    /// Whether a caller may get a page. Where the cluster does not say so, it may not.
    pub async fn may_get(&self, caller: &Caller, path: &str) -> bool {
        let (namespace, account) = (&caller.identity.namespace, &caller.identity.account);
        let user = format!("system:serviceaccount:{namespace}:{account}");
        let key = (user.clone(), path.to_owned());
        if let Some(known) = self.find(&key) {
            return known;
        }
        let groups = vec![
            "system:serviceaccounts".to_owned(),
            format!("system:serviceaccounts:{namespace}"),
            "system:authenticated".to_owned(),
        ];
        let page = NonResourceAttributes { path: Some(path.to_owned()), verb: Some("get".to_owned()) };
        let spec = SubjectAccessReviewSpec {
            user: Some(user),
            groups: Some(groups),
            non_resource_attributes: Some(page),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        match time::timeout(PATIENCE, self.reviews.create(&PostParams::default(), &review)).await {
            Ok(Ok(review)) => {
                let allowed = review.status.is_some_and(|status| status.allowed);
                self.keep(key, allowed);
                allowed
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "the API server does not say what a caller may do");
                false
            }
            Err(_) => false,
        }
    }

    fn find(&self, key: &(String, String)) -> Option<bool> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(_, at)| at.elapsed() < KEEP).map(|(allowed, _)| *allowed)
    }

    fn keep(&self, key: (String, String), allowed: bool) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KEPT {
            known.retain(|_, (_, at)| at.elapsed() < KEEP);
        }
        if known.len() < KEPT {
            known.insert(key, (allowed, Instant::now()));
        }
    }
}
