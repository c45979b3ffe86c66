//! Responses that proxies refuse are told beside the objects that are to blame.

use super::{
    events::{Event, Recorder},
    status::api_version,
};
use crate::{
    id::ResourceType,
    xds::{Metrics, Registry},
};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::time;

/// How often it is looked whether there are any.
const INTERVAL: Duration = Duration::from_secs(1);

/// Tells of refusals for ever.
pub(super) async fn tell(registry: Arc<Registry>, metrics: Arc<Metrics>, recorder: Recorder) {
    let count = || ResourceType::ALL.into_iter().map(|kind| metrics.nacks(kind)).sum::<u64>();
    let mut seen = 0;
    loop {
        time::sleep(INTERVAL).await;
        // Proxies are asked only where there is something to be told.
        let now = count();
        if now == seen {
            continue;
        }
        seen = now;
        let mut told = BTreeSet::new();
        for connection in registry.connections() {
            for standing in connection.standing() {
                let Some(error) = standing.error else { continue };
                for object in &error.objects {
                    let kind = object.kind.as_str();
                    let version = api_version(kind);
                    let object = [version.as_str(), kind, &object.namespace, &object.name, ""].map(str::to_owned);
                    let note =
                        format!("proxies refuse what comes of it ({}): {}", standing.kind.short(), error.message);
                    told.insert(Event { object, reason: "RefusedByProxy", warning: true, note });
                }
            }
        }
        told.into_iter().for_each(|event| recorder.record(event));
    }
}
