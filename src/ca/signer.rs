//! Signing on a few workers: what does not fit into the queue is turned away at once, so that nothing else stalls.

use super::{Authority, Csr, Issued, Metrics, Names, Unfit};
use std::{sync::Arc, thread::available_parallelism};
use tokio::sync::{Semaphore, watch};

/// Bounds of certificates and of the work on them.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a certificate is valid whose request does not say, in seconds.
    pub default_ttl: u64,
    /// How long one may be asked for, in seconds.
    pub max_ttl: u64,
    /// Certificates that are made at once; 0 for as many as the machine can.
    pub workers: usize,
    /// Requests that may wait.
    pub queue: usize,
}

/// Why a certificate was not made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Refused {
    /// The request is not fit.
    Unfit(Unfit),
    /// More time was asked for than there is, in seconds.
    Ttl(u64),
    /// Too many wait.
    Busy,
    /// Signing failed.
    Failed(String),
}

/// Signs with the newest authority.
#[derive(Debug)]
pub struct Signer {
    authority: watch::Receiver<Arc<Authority>>,
    limits: Limits,
    queue: Semaphore,
    workers: Semaphore,
    metrics: Metrics,
}

impl Signer {
    /// One that signs with what `authority` has.
    pub fn new(authority: watch::Receiver<Arc<Authority>>, limits: Limits) -> Self {
        let workers = match limits.workers {
            0 => available_parallelism().map_or(1, usize::from),
            workers => workers,
        };
        let (queue, workers) = (Semaphore::new(limits.queue), Semaphore::new(workers));
        Self { authority, limits, queue, workers, metrics: Metrics::default() }
    }

    /// What it counts.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The newest authority, and when there is another.
    pub fn authority(&self) -> watch::Receiver<Arc<Authority>> {
        self.authority.clone()
    }

    /// A certificate for a request, which `check` finds fit, for `ttl` seconds or, where that is 0, for as long as usual.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn sign(
        &self,
        check: impl FnOnce() -> Result<(Csr, Names), Unfit> + Send + 'static,
        ttl: u64,
        now: u64,
    ) -> Result<Issued, Refused> {
        self.metrics.count_request();
        if ttl > self.limits.max_ttl {
            return Err(Refused::Ttl(self.limits.max_ttl));
        }
        let ttl = if ttl == 0 { self.limits.default_ttl } else { ttl };
        let Ok(_place) = self.queue.try_acquire() else {
            self.metrics.count_overload();
            return Err(Refused::Busy);
        };
        let _turn = self.workers.acquire().await.map_err(|_| Refused::Failed("the server ends".into()))?;
        let authority = self.authority.borrow().clone();
        let work = tokio::task::spawn_blocking(move || {
            let (csr, names) = check().map_err(Refused::Unfit)?;
            authority.issue(&csr, &names, now, ttl).map_err(|e| Refused::Failed(e.to_string()))
        });
        let result = work.await.unwrap_or_else(|e| Err(Refused::Failed(e.to_string())));
        match &result {
            Ok(_) => self.metrics.count_issued(),
            Err(Refused::Unfit(why)) => self.metrics.count_unfit(*why),
            Err(_) => self.metrics.count_failure(),
        }
        result
    }
}
