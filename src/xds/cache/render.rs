//! Rendered resources, by the fingerprint of what they were rendered from. They are kept as long as some part
//! has them.

use super::{lock, make_room};
use crate::{
    translate::{Renderer, Resource},
    xds::Metrics,
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, Weak},
};

/// Enough that threads seldom meet.
const SHARDS: usize = 16;

/// A renderer that keeps what is in use.
#[derive(Debug, Default)]
pub(in crate::xds) struct Kept {
    shards: [Mutex<HashMap<u128, Weak<Resource>>>; SHARDS],
    metrics: Arc<Metrics>,
}

impl Kept {
    pub(super) fn new(metrics: Arc<Metrics>) -> Self {
        Self { shards: Default::default(), metrics }
    }

    fn shard(&self, fingerprint: u128) -> &Mutex<HashMap<u128, Weak<Resource>>> {
        &self.shards[(fingerprint % SHARDS as u128) as usize]
    }
}

impl Renderer for Kept {
    fn resource(&self, fingerprint: u128, render: &dyn Fn() -> Resource) -> Arc<Resource> {
        let shard = self.shard(fingerprint);
        if let Some(resource) = lock(shard).get(&fingerprint).and_then(Weak::upgrade) {
            self.metrics.cache_hits.add(1);
            return resource;
        }
        // Rendering may ask for other resources, and takes long: not with the lock.
        let resource = Arc::new(render());
        self.metrics.rendered.add(1);
        let mut shard = lock(shard);
        make_room(&mut shard);
        shard.insert(fingerprint, Arc::downgrade(&resource));
        resource
    }
}
