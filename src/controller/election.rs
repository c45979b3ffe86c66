//! Who of the replicas writes: the one that holds a Lease.

use super::{
    Options,
    claim::{Claim, Record, Step},
    fence::Fence,
};
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api,
    api::{ObjectMeta, PostParams},
};
use std::{collections::BTreeMap, time::Duration};
use tokio::{
    sync::watch,
    time::{self, Instant},
};

/// The Lease.
pub(super) const NAME: &str = "istio-leader";
/// Where it says the revision of its holder.
const REVISION: &str = "istio.io/rev";
/// How often the lease of another is looked at.
const LOOK: Duration = Duration::from_secs(2);
/// How much earlier this replica stops than others may begin, for clocks that run at different speeds.
const MARGIN: Duration = Duration::from_secs(1);

/// One replica's part in the election.
#[derive(Debug)]
pub(super) struct Election {
    api: Api<Lease>,
    name: String,
    revision: String,
    duration: Duration,
    claim: Claim,
    mover: watch::Sender<Option<Instant>>,
    fence: Fence,
    held: Option<Lease>,
    said: String,
}

impl Election {
    pub(super) fn new(options: &Options) -> Self {
        let (mover, fence) = Fence::new();
        let context = options.contexts.now();
        // That which people call the default is that, whatever its own name is.
        let revision = match context.tags.contains("default") || &*context.revision == "default" {
            true => String::new(),
            false => context.revision.to_string(),
        };
        Self {
            api: Api::namespaced(options.client.clone(), &context.system_namespace),
            name: options.name.clone(),
            claim: Claim::new(&options.name, &revision),
            revision,
            duration: options.lease,
            mover,
            fence,
            held: None,
            said: String::new(),
        }
    }

    /// What holds back writes that are too late.
    pub(super) fn fence(&self) -> Fence {
        self.fence.clone()
    }

    /// Waits until this replica holds the lease.
    pub(super) async fn win(&mut self) {
        while !self.try_once().await {
            time::sleep(LOOK.min(self.duration / 4)).await;
        }
    }

    /// Renews the lease until that fails for too long, or another has it.
    pub(super) async fn hold(&mut self) {
        loop {
            let Some(until) = *self.mover.borrow() else { return };
            let pause = time::Instant::now() + self.duration / 3;
            time::sleep_until(pause.min(until)).await;
            // A request that hangs must not outlive the time.
            let renewed = time::timeout_at(until, self.try_once()).await;
            match renewed {
                Ok(true) => {}
                Ok(false) if self.held.is_none() => break,
                Ok(false) | Err(_) if Instant::now() < until => time::sleep(Duration::from_millis(500)).await,
                Ok(false) | Err(_) => break,
            }
        }
        self.mover.send_replace(None);
    }

    /// Gives the lease back, so that another need not wait until it runs out.
    pub(super) async fn release(&mut self) {
        let open = self.mover.send_replace(None).is_some_and(|until| Instant::now() < until);
        let Some(mut lease) = self.held.take().filter(|_| open) else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = Some(String::new());
            spec.lease_duration_seconds = Some(1);
        }
        let parameters = PostParams::default();
        let replaced = self.api.replace(NAME, &parameters, &lease);
        if !matches!(time::timeout(LOOK, replaced).await, Ok(Ok(_))) {
            tracing::debug!("the lease was not given back; it runs out by itself");
        }
    }

    /// Looks at the lease and takes or renews it if it may. Says whether this replica holds it.
    async fn try_once(&mut self) -> bool {
        match self.step().await {
            Ok(held) => {
                self.said.clear();
                held
            }
            Err(error) => {
                let error = error.to_string();
                if error != self.said {
                    tracing::warn!(%error, "the lease {NAME} of those who write cannot be had");
                    self.said = error;
                }
                false
            }
        }
    }

    async fn step(&mut self) -> Result<bool, kube::Error> {
        // Counted from before the request, since others count from when they see it.
        let now = Instant::now();
        let found = self.api.get_opt(NAME).await?;
        let step = self.claim.step(found.as_ref().map(record), now);
        let written = match step {
            Step::Wait => {
                self.held = None;
                self.mover.send_replace(None);
                return Ok(false);
            }
            Step::Create => self.api.create(&PostParams::default(), &self.lease(None)).await,
            Step::Take | Step::Renew => self.api.replace(NAME, &PostParams::default(), &self.lease(found)).await,
        };
        match written {
            Ok(lease) => {
                self.claim.step(Some(record(&lease)), now);
                self.held = Some(lease);
                self.mover.send_replace(Some(now + self.duration.saturating_sub(MARGIN.min(self.duration / 4))));
                Ok(true)
            }
            // Another was faster.
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The lease as it is with this replica as its holder.
    fn lease(&self, found: Option<Lease>) -> Lease {
        let mut lease = found.unwrap_or_else(|| Lease {
            metadata: ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() },
            ..Lease::default()
        });
        let annotations = lease.metadata.annotations.get_or_insert_with(BTreeMap::new);
        annotations.insert(REVISION.to_owned(), self.revision.clone());
        let now = Some(MicroTime(Timestamp::now()));
        let before = lease.spec.take().unwrap_or_default();
        let mine = before.holder_identity.as_ref() == Some(&self.name);
        lease.spec = Some(LeaseSpec {
            holder_identity: Some(self.name.clone()),
            lease_duration_seconds: Some(i32::try_from(self.duration.as_secs()).unwrap_or(i32::MAX).max(1)),
            acquire_time: if mine { before.acquire_time } else { now.clone() },
            lease_transitions: Some(before.lease_transitions.unwrap_or_default() + i32::from(!mine)),
            renew_time: now,
            ..LeaseSpec::default()
        });
        lease
    }
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.as_ref();
    let seconds = spec.and_then(|s| s.lease_duration_seconds).unwrap_or_default();
    Record {
        holder: spec.and_then(|s| s.holder_identity.clone()).unwrap_or_default(),
        revision: lease.metadata.annotations.as_ref().and_then(|a| a.get(REVISION).cloned()).unwrap_or_default(),
        duration: Duration::from_secs(seconds.try_into().unwrap_or(1)),
        version: lease.metadata.resource_version.clone().unwrap_or_default(),
    }
}
